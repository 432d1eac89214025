// Evens memory: from the fullest node to the emptiest, the largest slot that does not turn the two around.
import * as ballast from './ballast';

// For build.sh, which gives these and the functions below the contract's names.
export { cabiRealloc, endOfCall as afterDescribe, endOfCall as afterConfigure, endOfCall as afterPlan } from './ballast';

let threshold: f64 = 110;
let movesMax: i32 = 100;

const SCHEMA = `{"type":"object","additionalProperties":false,"properties":{
"threshold-percent":{"type":"integer","minimum":100,"maximum":1000,"default":110},
"max-moves":{"type":"integer","minimum":1,"maximum":1000,"default":100}}}`;

export function describe(): usize {
  const summary = 'moves slots from the fullest node to the emptiest until memory is even';
  return ballast.description('even-memory', '0.1.0', summary, ['slot/bytes'], SCHEMA);
}

export function configure(at: usize, length: usize): usize {
  const known = [new ballast.Parameter('threshold-percent', 100, 1000, 110), new ballast.Parameter('max-moves', 1, 1000, 100)];
  const error = ballast.readParameters(ballast.textAt(at, length), known);
  if (!error.length) {
    threshold = <f64>known[0].value;
    movesMax = <i32>known[1].value;
  }
  return ballast.configured(error);
}

export function plan(): usize {
  const bytes = ballast.slotMetric('bytes');
  if (!bytes) return ballast.failure(ballast.NOT_READY, 'slot/bytes is not there yet');
  return ballast.proposal(new EvenMemory(ballast.nodes(), ballast.owners(), bytes).plan(ballast.inFlight()));
}

class EvenMemory {
  load: Float64Array;
  gets: bool[] = [];
  drains: bool[] = [];
  // Nodes that give no more.
  spent: bool[] = [];
  // No slot moves twice.
  moved: StaticArray<bool>;
  moves: ballast.Move[] = [];

  constructor(nodes: ballast.Node[], public owners: Uint32Array, public bytes: Float64Array) {
    this.load = new Float64Array(nodes.length);
    this.moved = new StaticArray<bool>(owners.length);
    for (let i = 0; i < nodes.length; i++) {
      const it = nodes[i], drains = it.has('draining');
      this.drains.push(drains);
      this.spent.push(drains);
      this.gets.push(!drains && !it.has('cordoned') && !it.has('loading') && !it.has('suspect'));
    }
  }

  plan(inFlight: ballast.Move[]): ballast.Proposal {
    // As good as there.
    for (let i = 0; i < inFlight.length; i++) {
      this.owners[inFlight[i].slot] = inFlight[i].target;
      this.moved[inFlight[i].slot] = true;
    }
    const load = this.load, owners = this.owners, bytes = this.bytes;
    for (let slot = 0; slot < owners.length; slot++) {
      if (owners[slot] < <u32>load.length) load[owners[slot]] += bytes[slot];
    }
    if (this.emptiest() < 0) return new ballast.Proposal('no node can take slots');
    let total: f64 = 0, most: f64 = 0, kept: f64 = 0;
    for (let node = 0; node < load.length; node++) {
      total += load[node];
      if (this.drains[node]) continue;
      kept += 1;
      most = max(most, load[node]);
    }
    const fair = total / kept;
    const imbalance = fair > 0 ? most / fair : 1;

    // Draining nodes are emptied first, lowest slots first.
    for (let slot = 0; slot < owners.length && this.moves.length < movesMax; slot++) {
      const giver = owners[slot];
      if (this.moved[slot] || giver >= <u32>load.length || !this.drains[giver]) continue;
      this.carry(slot, giver, this.emptiest(), 'drain');
    }
    while (this.moves.length < movesMax) {
      const giver = this.fullest(), taker = this.emptiest();
      if (giver < 0 || 100 * load[giver] <= threshold * fair) break;
      const best = this.largest(giver, (load[giver] - load[taker]) / 2);
      if (best < 0) this.spent[giver] = true;
      else this.carry(best, giver, taker, 'memory');
    }
    const percent = <u32>(imbalance * 100);
    const summary = `moves: ${this.moves.length}; the fullest node holds ${percent}% of its fair share`;
    return new ballast.Proposal(summary, this.moves, [new ballast.Gauge('imbalance', imbalance)]);
  }

  carry(slot: i32, giver: u32, taker: u32, reason: string): void {
    this.load[giver] -= this.bytes[slot];
    this.load[taker] += this.bytes[slot];
    this.owners[slot] = taker;
    this.moved[slot] = true;
    this.moves.push(new ballast.Move(<u16>slot, taker, reason));
  }

  // The giver's largest slot of at most `limit` bytes; -1 if there is none. Of equals, the first.
  largest(giver: u32, limit: f64): i32 {
    let best = -1, size: f64 = 0;
    for (let slot = 0; slot < this.owners.length; slot++) {
      if (this.owners[slot] != giver || this.moved[slot]) continue;
      const bytes = this.bytes[slot];
      if (bytes <= size || bytes > limit) continue;
      best = slot;
      size = bytes;
    }
    return best;
  }

  // Of the nodes that may get slots, the one with the least; -1 if there is none. Of equals, the first.
  emptiest(): i32 {
    let least = -1;
    for (let node = 0; node < this.load.length; node++) {
      if (this.gets[node] && (least < 0 || this.load[node] < this.load[least])) least = node;
    }
    return least;
  }

  // Of the nodes that are not spent, the one with the most; -1 if there is none. Of equals, the first.
  fullest(): i32 {
    let most = -1;
    for (let node = 0; node < this.load.length; node++) {
      if (!this.spent[node] && (most < 0 || this.load[node] > this.load[most])) most = node;
    }
    return most;
  }
}
