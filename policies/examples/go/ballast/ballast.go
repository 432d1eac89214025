// Package ballast is what a policy in Go needs of the contract (wit/policy.wit, world slot-policy), by hand: a policy calls
// Register in init and has an empty main.
package ballast

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strings"
	"unsafe"
)

// Policy is what a policy offers; the contract says what each answer means.
type Policy interface {
	Describe() Description
	Configure(parameters string) error
	Plan() (Proposal, error)
}

type Description struct {
	Name, Version, Summary string
	Needs                  []string
	ParametersSchema       string
}

type Node struct {
	ID, Address, Zone string
	Tags              []string
}

// HasTag tells whether the node has one of these tags.
func (node Node) HasTag(tags ...string) bool {
	for _, has := range node.Tags {
		for _, tag := range tags {
			if has == tag {
				return true
			}
		}
	}
	return false
}

type Move struct {
	Slot   uint16
	Target uint32
	Reason string
}

type Gauge struct {
	Name  string
	Value float64
}

type Proposal struct {
	Moves   []Move
	Summary string
	Gauges  []Gauge
}

// NotReady and BadParameters are errors of Plan that are no bugs; every other error is the contract's `internal`.
type NotReady string

func (why NotReady) Error() string { return string(why) }

type BadParameters string

func (why BadParameters) Error() string { return string(why) }

var policy Policy

// Register names the policy; call it in init.
func Register(it Policy) { policy = it }

// Parameter is one that is a whole number.
type Parameter struct {
	Key                    string
	Least, Most, Otherwise int
}

// ReadParameters reads one JSON object; keys that are absent have their default.
func ReadParameters(text string, known ...Parameter) (map[string]int, error) {
	var written map[string]json.RawMessage
	// "null" is an empty map to the decoder.
	if err := json.Unmarshal([]byte(text), &written); err != nil || written == nil {
		return nil, fmt.Errorf("parameters: give one JSON object")
	}
	values, keys := map[string]int{}, []string{}
	for _, parameter := range known {
		keys = append(keys, parameter.Key)
		values[parameter.Key] = parameter.Otherwise
		value, given := written[parameter.Key]
		if !given {
			continue
		}
		delete(written, parameter.Key)
		var number int
		err := json.Unmarshal(value, &number)
		if err != nil || bytes.Equal(value, []byte("null")) || number < parameter.Least || number > parameter.Most {
			return nil, fmt.Errorf("%s: give a whole number from %d to %d", parameter.Key, parameter.Least, parameter.Most)
		}
		values[parameter.Key] = number
	}
	for key := range written {
		return nil, fmt.Errorf("unknown parameter '%s': there are %s", key, strings.Join(keys, " and "))
	}
	return values, nil
}

// From here on: the canonical ABI, as far as this contract needs it. A list or text is a pointer and a length; what is more
// than one number is written where the last argument points; what the daemon gives is allocated with cabi_realloc.

//go:wasmimport ballast:policy/cluster@0.1.0 taken-at-ms
func TakenAtMs() uint64

//go:wasmimport ballast:policy/cluster@0.1.0 window-s
func WindowS() uint32

//go:wasmimport ballast:policy/cluster@0.1.0 generation
func Generation() uint64

//go:wasmimport ballast:policy/cluster@0.1.0 nodes
func importNodes(answer unsafe.Pointer)

//go:wasmimport ballast:policy/cluster@0.1.0 owners
func importOwners(answer unsafe.Pointer)

//go:wasmimport ballast:policy/cluster@0.1.0 slot-metric
func importSlotMetric(at unsafe.Pointer, length uint32, answer unsafe.Pointer)

//go:wasmimport ballast:policy/cluster@0.1.0 node-metric
func importNodeMetric(at unsafe.Pointer, length uint32, answer unsafe.Pointer)

//go:wasmimport ballast:policy/cluster@0.1.0 in-flight
func importInFlight(answer unsafe.Pointer)

//go:wasmimport ballast:policy/search@0.1.0 solve
func importSolve(at unsafe.Pointer, length uint32, answer unsafe.Pointer)

//go:wasmimport ballast:policy/log@0.1.0 log
func importLog(level uint32, at unsafe.Pointer, length uint32)

// 32 bits wide, as pointers are outside Go: to the collector a number. `kept` holds what it stands for.
type span struct{ at, length uint32 }

// What crosses the border in this call, so that the collector neither frees nor forgets it.
var kept [][]byte

//go:wasmexport cabi_realloc
func cabiRealloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	// Go aligns blocks of 8 bytes and more to 8, the most that the contract asks for.
	block := make([]byte, size+8)
	kept = append(kept, block)
	if old != nil {
		copy(block, unsafe.Slice((*byte)(old), min(oldSize, size)))
	}
	return unsafe.Pointer(&block[0])
}

func alloc(size int) unsafe.Pointer { return cabiRealloc(nil, 0, 8, uint32(size)) }

// room is where the daemon may write a T: not on the stack, which may move while the daemon asks for memory.
func room[T any]() *T { return (*T)(alloc(int(unsafe.Sizeof(*new(T))))) }

func lift[T any](list span) []T {
	if list.length == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(uintptr(list.at))), list.length)
}

func (text span) String() string { return string(lift[byte](text)) }

// lower copies a list out of the collector's sight.
func lower[T any](list []T) span {
	if len(list) == 0 {
		// Nobody follows it, but it has to be aligned.
		return span{8, 0}
	}
	at := alloc(len(list) * int(unsafe.Sizeof(list[0])))
	copy(unsafe.Slice((*T)(at), len(list)), list)
	return span{uint32(uintptr(at)), uint32(len(list))}
}

func lowerText(text string) span { return lower([]byte(text)) }

type rawNode struct{ id, address, zone, tags span }

type rawMove struct {
	slot   uint16
	target uint32
	reason span
}

type rawGauge struct {
	name  span
	value float64
}

type rawProposal struct{ moves, summary, gauges span }

type rawDescription struct{ name, version, summary, needs, schema span }

// Nodes are the primaries, ordered by id.
func Nodes() []Node {
	list := room[span]()
	importNodes(unsafe.Pointer(list))
	var nodes []Node
	for _, raw := range lift[rawNode](*list) {
		node := Node{ID: raw.id.String(), Address: raw.address.String(), Zone: raw.zone.String()}
		for _, tag := range lift[span](raw.tags) {
			node.Tags = append(node.Tags, tag.String())
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// Owners are node indexes by slot.
func Owners() []uint32 {
	list := room[span]()
	importOwners(unsafe.Pointer(list))
	return append([]uint32(nil), lift[uint32](*list)...)
}

// SlotMetric is a column by slot, nil if the daemon has none of this name.
func SlotMetric(name string) []float64 { return column(importSlotMetric, name) }

// NodeMetric is a column by node, nil if the daemon has none of this name.
func NodeMetric(name string) []float64 { return column(importNodeMetric, name) }

func column(ask func(unsafe.Pointer, uint32, unsafe.Pointer), name string) []float64 {
	answer := room[struct {
		isSome uint32
		list   span
	}]()
	text := lowerText(name)
	ask(unsafe.Pointer(uintptr(text.at)), text.length, unsafe.Pointer(answer))
	if answer.isSome&0xff == 0 {
		return nil
	}
	return append([]float64{}, lift[float64](answer.list)...)
}

// InFlight are moves that have begun.
func InFlight() []Move {
	list := room[span]()
	importInFlight(unsafe.Pointer(list))
	return liftMoves(*list)
}

func liftMoves(list span) []Move {
	var moves []Move
	for _, raw := range lift[rawMove](list) {
		moves = append(moves, Move{raw.slot, raw.target, raw.reason.String()})
	}
	return moves
}

// Solve asks the daemon's planning library.
func Solve(goals string) (moves []Move, report string, err error) {
	answer := room[struct {
		isError       uint32
		first, second span
	}]()
	text := lowerText(goals)
	importSolve(unsafe.Pointer(uintptr(text.at)), text.length, unsafe.Pointer(answer))
	if answer.isError&0xff != 0 {
		return nil, "", fmt.Errorf("%s", answer.first)
	}
	return liftMoves(answer.first), answer.second.String(), nil
}

// Level says how much a line of the log matters.
type Level uint32

const (
	Debug Level = iota
	Info
	Warn
	Error
)

// Log writes to the daemon's log.
func Log(level Level, message string) {
	text := lowerText(message)
	importLog(uint32(level), unsafe.Pointer(uintptr(text.at)), text.length)
}

//go:wasmexport ballast:policy/policy@0.1.0#describe
func exportDescribe() unsafe.Pointer {
	it := policy.Describe()
	var needs []span
	for _, need := range it.Needs {
		needs = append(needs, lowerText(need))
	}
	name, version, summary := lowerText(it.Name), lowerText(it.Version), lowerText(it.Summary)
	return answer(rawDescription{name, version, summary, lower(needs), lowerText(it.ParametersSchema)})
}

//go:wasmexport ballast:policy/policy@0.1.0#configure
func exportConfigure(at unsafe.Pointer, length uint32) unsafe.Pointer {
	var result struct {
		isError uint32
		why     span
	}
	if err := policy.Configure(string(unsafe.Slice((*byte)(at), length))); err != nil {
		result.isError, result.why = 1, lowerText(err.Error())
	}
	return answer(result)
}

//go:wasmexport ballast:policy/policy@0.1.0#plan
func exportPlan() unsafe.Pointer {
	proposal, err := plan()
	if err != nil {
		var result struct {
			isError, kind uint32
			why           span
			padding       [3]uint32
		}
		result.isError, result.kind, result.why = 1, 2, lowerText(err.Error())
		switch err.(type) {
		case BadParameters:
			result.kind = 0
		case NotReady:
			result.kind = 1
		}
		return answer(result)
	}
	var moves []rawMove
	for _, move := range proposal.Moves {
		moves = append(moves, rawMove{move.Slot, move.Target, lowerText(move.Reason)})
	}
	var gauges []rawGauge
	for _, gauge := range proposal.Gauges {
		gauges = append(gauges, rawGauge{lowerText(gauge.Name), gauge.Value})
	}
	var result struct {
		isError  uint32
		proposal rawProposal
	}
	result.proposal = rawProposal{lower(moves), lowerText(proposal.Summary), lower(gauges)}
	return answer(result)
}

// A panic would end the instance: this makes it a failure with its stack.
func plan() (proposal Proposal, err error) {
	defer func() {
		if panicked := recover(); panicked != nil {
			err = fmt.Errorf("%v\n%s", panicked, debug.Stack())
		}
	}()
	return policy.Plan()
}

func answer[T any](value T) unsafe.Pointer {
	at := room[T]()
	*at = value
	return unsafe.Pointer(at)
}

// The daemon has read the answer.

//go:wasmexport cabi_post_ballast:policy/policy@0.1.0#describe
func postDescribe(unsafe.Pointer) { kept = nil }

//go:wasmexport cabi_post_ballast:policy/policy@0.1.0#configure
func postConfigure(unsafe.Pointer) { kept = nil }

//go:wasmexport cabi_post_ballast:policy/policy@0.1.0#plan
func postPlan(unsafe.Pointer) { kept = nil }
