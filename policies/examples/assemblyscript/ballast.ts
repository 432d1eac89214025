// What a policy in AssemblyScript needs of the contract (wit/policy.wit, world slot-policy), by hand: there is no generator.
//
// The entry file exports what this file's `describe`, `configure` and `plan` make of a policy's answers, and re-exports the
// rest; build.sh gives the exports the contract's names, which AssemblyScript cannot say.

export class Node {
  id: string = '';
  address: string = '';
  zone: string = '';
  tags: string[] = [];

  has(tag: string): bool {
    return this.tags.includes(tag);
  }
}

export class Move {
  constructor(public slot: u16, public target: u32, public reason: string) {}
}

export class Gauge {
  constructor(public name: string, public value: f64) {}
}

export class Proposal {
  constructor(public summary: string, public moves: Move[] = [], public gauges: Gauge[] = []) {}
}

// Level of a line of the log.
export const DEBUG = 0, INFO = 1, WARN = 2, ERROR = 3;

// Kinds of failure.
export const BAD_PARAMETERS: u8 = 0, NOT_READY: u8 = 1, INTERNAL: u8 = 2;

// @ts-ignore: a decorator of AssemblyScript
@external('ballast:policy/cluster@0.1.0', 'taken-at-ms') export declare function takenAtMs(): u64;
// @ts-ignore
@external('ballast:policy/cluster@0.1.0', 'window-s') export declare function windowS(): u32;
// @ts-ignore
@external('ballast:policy/cluster@0.1.0', 'generation') export declare function generation(): u64;
// @ts-ignore
@external('ballast:policy/cluster@0.1.0', 'nodes') declare function askNodes(answer: usize): void;
// @ts-ignore
@external('ballast:policy/cluster@0.1.0', 'owners') declare function askOwners(answer: usize): void;
// @ts-ignore
@external('ballast:policy/cluster@0.1.0', 'slot-metric') declare function askSlotMetric(at: usize, length: usize, answer: usize): void;
// @ts-ignore
@external('ballast:policy/cluster@0.1.0', 'node-metric') declare function askNodeMetric(at: usize, length: usize, answer: usize): void;
// @ts-ignore
@external('ballast:policy/cluster@0.1.0', 'in-flight') declare function askInFlight(answer: usize): void;
// @ts-ignore
@external('ballast:policy/search@0.1.0', 'solve') declare function askSolve(at: usize, length: usize, answer: usize): void;
// @ts-ignore
@external('ballast:policy/log@0.1.0', 'log') declare function writeLog(level: u32, at: usize, length: usize): void;

// Blocks that cross the border: outside of the collector's sight, and freed when the call has ended.
let blocks: usize[] = [];

export function cabiRealloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  const block = heap.alloc(max<usize>(size, 1));
  memory.fill(block, 0, size);
  if (old) memory.copy(block, old, min(oldSize, size));
  blocks.push(block);
  return block;
}

// For cabi_post_*: the daemon has read the answer.
export function endOfCall(_answer: usize): void {
  for (let i = 0; i < blocks.length; i++) heap.free(blocks[i]);
  blocks = [];
  __collect();
}

function room(size: usize): usize {
  return cabiRealloc(0, 0, 8, size);
}

// A text or list is a pointer and a length.
function lower(at: usize, text: string): void {
  const size = <usize>String.UTF8.byteLength(text);
  const bytes = room(size);
  String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, bytes);
  lowerList(at, bytes, <u32>size);
}

function lowerList(at: usize, list: usize, length: u32): void {
  store<usize>(at, list);
  store<u32>(at, length, 4);
}

function lift(at: usize): string {
  return String.UTF8.decodeUnsafe(load<usize>(at), load<usize>(at, 4));
}

export function nodes(): Node[] {
  const answer = room(8);
  askNodes(answer);
  const all: Node[] = [];
  for (let i: u32 = 0; i < load<u32>(answer, 4); i++) {
    const at = load<usize>(answer) + 32 * i;
    const node = new Node();
    node.id = lift(at);
    node.address = lift(at + 8);
    node.zone = lift(at + 16);
    for (let tag: u32 = 0; tag < load<u32>(at, 28); tag++) node.tags.push(lift(load<usize>(at, 24) + 8 * tag));
    all.push(node);
  }
  return all;
}

export function owners(): Uint32Array {
  const answer = room(8);
  askOwners(answer);
  const all = new Uint32Array(load<u32>(answer, 4));
  memory.copy(all.dataStart, load<usize>(answer), 4 * all.length);
  return all;
}

function column(answer: usize): Float64Array | null {
  if (!load<u8>(answer)) return null;
  const all = new Float64Array(load<u32>(answer, 8));
  memory.copy(all.dataStart, load<usize>(answer, 4), 8 * all.length);
  return all;
}

// Null if the daemon has no column of this name.
export function slotMetric(name: string): Float64Array | null {
  const answer = room(12), text = room(8);
  lower(text, name);
  askSlotMetric(load<usize>(text), load<usize>(text, 4), answer);
  return column(answer);
}

export function nodeMetric(name: string): Float64Array | null {
  const answer = room(12), text = room(8);
  lower(text, name);
  askNodeMetric(load<usize>(text), load<usize>(text, 4), answer);
  return column(answer);
}

function liftMoves(list: usize): Move[] {
  const all: Move[] = [];
  for (let i: u32 = 0; i < load<u32>(list, 4); i++) {
    const at = load<usize>(list) + 16 * i;
    all.push(new Move(load<u16>(at), load<u32>(at, 4), lift(at + 8)));
  }
  return all;
}

export function inFlight(): Move[] {
  const answer = room(8);
  askInFlight(answer);
  return liftMoves(answer);
}

export class Outcome {
  constructor(public moves: Move[], public report: string, public refused: bool) {}
}

// The daemon's planning library; refused goals have the reason as their report.
export function solve(goals: string): Outcome {
  const answer = room(20), text = room(8);
  lower(text, goals);
  askSolve(load<usize>(text), load<usize>(text, 4), answer);
  return load<u8>(answer) ? new Outcome([], lift(answer + 4), true) : new Outcome(liftMoves(answer + 4), lift(answer + 12), false);
}

export function log(level: u32, message: string): void {
  const text = room(8);
  lower(text, message);
  writeLog(level, load<usize>(text), load<usize>(text, 4));
}

// In place of AssemblyScript's own, which no daemon offers: build.sh names it.
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  log(ERROR, (message ? message : 'aborted') + ' at ' + (file ? file : '?') + ':' + line.toString());
  unreachable();
}

// The answers, as the contract lays them out.

export function description(name: string, version: string, summary: string, needs: string[], schema: string): usize {
  const answer = room(40), list = room(8 * needs.length);
  lower(answer, name);
  lower(answer + 8, version);
  lower(answer + 16, summary);
  for (let i = 0; i < needs.length; i++) lower(list + 8 * i, needs[i]);
  lowerList(answer + 24, list, needs.length);
  lower(answer + 32, schema);
  return answer;
}

// What `configure` was given.
export function textAt(at: usize, length: usize): string {
  return String.UTF8.decodeUnsafe(at, length);
}

// The answer of `configure`: fine if there is no error.
export function configured(error: string): usize {
  const answer = room(12);
  if (error.length) {
    store<u8>(answer, 1);
    lower(answer + 4, error);
  }
  return answer;
}

export function failure(kind: u8, why: string): usize {
  const answer = room(28);
  store<u8>(answer, 1);
  store<u8>(answer, kind, 4);
  lower(answer + 8, why);
  return answer;
}

export function proposal(it: Proposal): usize {
  const answer = room(28), moves = room(16 * it.moves.length), gauges = room(16 * it.gauges.length);
  for (let i = 0; i < it.moves.length; i++) {
    const at = moves + 16 * i;
    store<u16>(at, it.moves[i].slot);
    store<u32>(at, it.moves[i].target, 4);
    lower(at + 8, it.moves[i].reason);
  }
  for (let i = 0; i < it.gauges.length; i++) {
    lower(gauges + 16 * i, it.gauges[i].name);
    store<f64>(gauges + 16 * i, it.gauges[i].value, 8);
  }
  lowerList(answer + 4, moves, it.moves.length);
  lower(answer + 12, it.summary);
  lowerList(answer + 20, gauges, it.gauges.length);
  return answer;
}

export class Parameter {
  value: u32;

  constructor(public key: string, public least: u32, public most: u32, otherwise: u32) {
    this.value = otherwise;
  }
}

// Reads one JSON object whose values are whole numbers into `known`; what is wrong with it, or an empty text.
export function readParameters(text: string, known: Parameter[]): string {
  const reader = new Reader(text);
  const malformed = 'parameters: give one JSON object';
  if (!reader.skip('{')) return malformed;
  if (!reader.skip('}')) {
    do {
      if (!reader.skip('"')) return malformed;
      const key = reader.rest('"');
      if (!reader.skip('"') || !reader.skip(':')) return malformed;
      let parameter: Parameter | null = null;
      for (let i = 0; i < known.length; i++) if (known[i].key == key) parameter = known[i];
      if (!parameter) {
        const keys = known.map<string>((it: Parameter): string => it.key).join(' and ');
        return `unknown parameter '${key}': there are ${keys}`;
      }
      const number = reader.whole();
      if (number < <i64>parameter.least || number > <i64>parameter.most)
        return `${key}: give a whole number from ${parameter.least} to ${parameter.most}`;
      parameter.value = <u32>number;
    } while (reader.skip(','));
    if (!reader.skip('}')) return malformed;
  }
  return reader.ended() ? '' : malformed;
}

class Reader {
  private at: i32 = 0;

  constructor(private text: string) {}

  private space(): void {
    while (this.at < this.text.length && ' \t\r\n'.includes(this.text.charAt(this.at))) this.at++;
  }

  ended(): bool {
    this.space();
    return this.at == this.text.length;
  }

  // Goes past `letter`, if that comes next, after space or not.
  skip(letter: string): bool {
    this.space();
    if (this.at == this.text.length || this.text.charAt(this.at) != letter) return false;
    this.at++;
    return true;
  }

  rest(end: string): string {
    const start = this.at;
    while (this.at < this.text.length && this.text.charAt(this.at) != end && this.text.charCodeAt(this.at) >= 32) this.at++;
    return this.text.substring(start, this.at);
  }

  // A whole number of at most nine digits; -1 for everything else, fractions included.
  whole(): i64 {
    this.space();
    const start = this.at;
    let number: i64 = 0;
    while (this.at < this.text.length && this.text.charCodeAt(this.at) - 48 <= 9 && this.text.charCodeAt(this.at) >= 48)
      number = number * 10 + (this.text.charCodeAt(this.at++) - 48);
    const digits = this.at - start;
    const padded = digits > 1 && this.text.charAt(start) == '0';
    const more = this.at < this.text.length && !' \t\r\n,}'.includes(this.text.charAt(this.at));
    return digits == 0 || digits > 9 || padded || more ? -1 : number;
  }
}
