// Evens memory: from the fullest node to the emptiest, the largest slot that does not turn the two around.
import cluster from 'ballast:policy/cluster@0.1.0';
import type { Move, Node, Policy, Proposal } from 'ballast:policy/types@0.1.0';
import { failingPolitely, readParameters } from './ballast.js';

const KNOWN = {
  'threshold-percent': { least: 100, most: 1000, otherwise: 110 },
  'max-moves': { least: 1, most: 1000, otherwise: 100 },
};
const SCHEMA = {
  type: 'object',
  additionalProperties: false,
  properties: Object.fromEntries(
    Object.entries(KNOWN).map(([key, { least, most, otherwise }]) => [
      key,
      { type: 'integer', minimum: least, maximum: most, default: otherwise },
    ]),
  ),
};

let parameters = readParameters('{}', KNOWN);

// The contract's interface `policy`.
export const policy: Policy = failingPolitely({
  describe: () => ({
    name: 'even-memory',
    version: '0.1.0',
    summary: 'moves slots from the fullest node to the emptiest until memory is even',
    needs: ['slot/bytes'],
    parametersSchema: JSON.stringify(SCHEMA),
  }),
  configure(text) {
    parameters = readParameters(text, KNOWN);
  },
  plan() {
    const bytes = cluster.slotMetric('bytes');
    if (!bytes) throw { tag: 'not-ready', val: 'slot/bytes is not there yet' };
    return evenMemory(cluster.nodes(), cluster.owners(), bytes, cluster.inFlight(), parameters);
  },
});

function evenMemory(
  nodes: Node[],
  owners: number[],
  bytes: number[],
  inFlight: Move[],
  { 'threshold-percent': threshold, 'max-moves': movesMax }: Record<keyof typeof KNOWN, number>,
): Proposal {
  const drains = nodes.map(({ tags }) => tags.includes('draining'));
  const gets = nodes.map(({ tags }) => !['cordoned', 'draining', 'loading', 'suspect'].some((tag) => tags.includes(tag)));
  // No slot moves twice, and those in flight are as good as there.
  const moved = new Uint8Array(owners.length);
  for (const { slot, target } of inFlight) {
    owners[slot] = target;
    moved[slot] = 1;
  }
  const load = new Float64Array(nodes.length);
  const slotsOf: number[][] = nodes.map(() => []);
  for (let slot = 0; slot < owners.length; slot++) {
    // Nobody is 4294967295 in the contract, and comes as -1 from this engine.
    const owner = owners[slot] >>> 0;
    if (owner >= nodes.length) continue;
    load[owner] += bytes[slot];
    slotsOf[owner].push(slot);
  }
  if (!gets.includes(true)) return { moves: [], summary: 'no node can take slots', gauges: [] };

  let total = 0;
  let fullest = 0;
  let kept = 0;
  for (let node = 0; node < nodes.length; node++) {
    total += load[node];
    if (drains[node]) continue;
    kept += 1;
    if (load[node] > fullest) fullest = load[node];
  }
  const fair = total / kept;
  const imbalance = fair > 0 ? fullest / fair : 1;

  const moves: Move[] = [];
  const carry = (slot: number, giver: number, taker: number, reason: string) => {
    load[giver] -= bytes[slot];
    load[taker] += bytes[slot];
    owners[slot] = taker;
    moved[slot] = 1;
    moves.push({ slot, target: taker, reason });
  };
  // Of the nodes that may get slots, the one with the least. Of equals, the first.
  const emptiest = () => {
    let least = -1;
    for (let node = 0; node < load.length; node++) if (gets[node] && (least < 0 || load[node] < load[least])) least = node;
    return least;
  };

  // Draining nodes are emptied first, lowest slots first.
  for (let slot = 0; slot < owners.length && moves.length < movesMax; slot++) {
    const giver = owners[slot];
    if (!moved[slot] && drains[giver]) carry(slot, giver, emptiest(), 'drain');
  }
  const spent = [...drains];
  while (moves.length < movesMax) {
    let giver = -1;
    for (let node = 0; node < load.length; node++) if (!spent[node] && (giver < 0 || load[node] > load[giver])) giver = node;
    if (giver < 0 || 100 * load[giver] <= threshold * fair) break;
    const taker = emptiest();
    const half = (load[giver] - load[taker]) / 2;
    let largest = -1;
    let size = 0;
    for (const slot of slotsOf[giver]) {
      if (moved[slot] || bytes[slot] <= size || bytes[slot] > half) continue;
      largest = slot;
      size = bytes[slot];
    }
    if (largest < 0) spent[giver] = true;
    else carry(largest, giver, taker, 'memory');
  }
  const percent = Math.trunc(imbalance * 100);
  const summary = `moves: ${moves.length}; the fullest node holds ${percent}% of its fair share`;
  return { moves, summary, gauges: [['imbalance', imbalance]] };
}
