// Evens memory: from the fullest node to the emptiest, the largest slot that does not turn the two around.
package main

import (
	"fmt"

	"policy/ballast"
)

var known = []ballast.Parameter{
	{Key: "threshold-percent", Least: 100, Most: 1000, Otherwise: 110},
	{Key: "max-moves", Least: 1, Most: 1000, Otherwise: 100},
}

const schema = `{"type":"object","additionalProperties":false,"properties":{
"threshold-percent":{"type":"integer","minimum":100,"maximum":1000,"default":110},
"max-moves":{"type":"integer","minimum":1,"maximum":1000,"default":100}}}`

type evenMemory struct {
	threshold float64
	movesMax  int
}

func init() { ballast.Register(&evenMemory{110, 100}) }

func main() {}

func (*evenMemory) Describe() ballast.Description {
	return ballast.Description{
		Name:             "even-memory",
		Version:          "0.1.0",
		Summary:          "moves slots from the fullest node to the emptiest until memory is even",
		Needs:            []string{"slot/bytes"},
		ParametersSchema: schema,
	}
}

func (policy *evenMemory) Configure(parameters string) error {
	values, err := ballast.ReadParameters(parameters, known...)
	if err != nil {
		return err
	}
	policy.threshold, policy.movesMax = float64(values["threshold-percent"]), values["max-moves"]
	return nil
}

type node struct {
	load                float64
	gets, drains, spent bool
}

func (policy *evenMemory) Plan() (ballast.Proposal, error) {
	bytes := ballast.SlotMetric("bytes")
	if bytes == nil {
		return ballast.Proposal{}, ballast.NotReady("slot/bytes is not there yet")
	}
	var nodes []node
	for _, it := range ballast.Nodes() {
		drains := it.HasTag("draining")
		nodes = append(nodes, node{gets: !it.HasTag("cordoned", "draining", "loading", "suspect"), drains: drains, spent: drains})
	}
	owners := ballast.Owners()
	// No slot moves twice, and those in flight are as good as there.
	moved := make([]bool, len(owners))
	for _, begun := range ballast.InFlight() {
		owners[begun.Slot] = begun.Target
		moved[begun.Slot] = true
	}
	for slot, owner := range owners {
		if int(owner) < len(nodes) {
			nodes[owner].load += bytes[slot]
		}
	}
	if emptiest(nodes) < 0 {
		return ballast.Proposal{Summary: "no node can take slots"}, nil
	}
	total, most, kept := 0.0, 0.0, 0.0
	for _, node := range nodes {
		total += node.load
		if !node.drains {
			kept++
			most = max(most, node.load)
		}
	}
	fair, imbalance := total/kept, 1.0
	if fair > 0 {
		imbalance = most / fair
	}

	var moves []ballast.Move
	carry := func(slot, giver, taker int, reason string) {
		nodes[giver].load -= bytes[slot]
		nodes[taker].load += bytes[slot]
		owners[slot] = uint32(taker)
		moved[slot] = true
		moves = append(moves, ballast.Move{Slot: uint16(slot), Target: uint32(taker), Reason: reason})
	}
	// Draining nodes are emptied first, lowest slots first.
	for slot := 0; slot < len(owners) && len(moves) < policy.movesMax; slot++ {
		giver := int(owners[slot])
		if !moved[slot] && giver < len(nodes) && nodes[giver].drains {
			carry(slot, giver, emptiest(nodes), "drain")
		}
	}
	for len(moves) < policy.movesMax {
		giver, taker := fullest(nodes), emptiest(nodes)
		if giver < 0 || 100*nodes[giver].load <= policy.threshold*fair {
			break
		}
		half, best, bestBytes := (nodes[giver].load-nodes[taker].load)/2, -1, 0.0
		for slot, owner := range owners {
			if int(owner) == giver && !moved[slot] && bytes[slot] > bestBytes && bytes[slot] <= half {
				best, bestBytes = slot, bytes[slot]
			}
		}
		if best < 0 {
			nodes[giver].spent = true
			continue
		}
		carry(best, giver, taker, "memory")
	}
	return ballast.Proposal{
		Moves:   moves,
		Summary: fmt.Sprintf("moves: %d; the fullest node holds %d%% of its fair share", len(moves), int(imbalance*100)),
		Gauges:  []ballast.Gauge{{Name: "imbalance", Value: imbalance}},
	}, nil
}

// Of the nodes that may get slots, the one with the least; -1 if there is none. Of equals, the first.
func emptiest(nodes []node) int {
	least := -1
	for i, node := range nodes {
		if node.gets && (least < 0 || node.load < nodes[least].load) {
			least = i
		}
	}
	return least
}

// Of the nodes that are not spent, the one with the most; -1 if there is none. Of equals, the first.
func fullest(nodes []node) int {
	most := -1
	for i, node := range nodes {
		if !node.spent && (most < 0 || node.load > nodes[most].load) {
			most = i
		}
	}
	return most
}
