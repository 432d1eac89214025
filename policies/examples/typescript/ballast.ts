// What helps a policy in TypeScript: parameters that are whole numbers, and mistakes that are answers instead of traps.
import log from 'ballast:policy/log@0.1.0';
import type { Failure, Proposal } from 'ballast:policy/types@0.1.0';

// The engine would end the instance, mute, when it is asked for the time or for chance.
const noClock = (): never => {
  throw new Error('a policy has no clock: cluster.takenAtMs() is the time of the view');
};
const engine = globalThis as any;
engine.Date = class extends Date {
  static now = noClock;
  constructor(...given: any[]) {
    if (given.length === 0) noClock();
    super(...(given as [number]));
  }
};
engine.performance = { now: noClock };
Math.random = () => {
  throw new Error('a policy has no chance: take cluster.generation() for a seed, or `seed` of search.solve');
};

export interface Range { least: number; most: number; otherwise: number }

/** The parameters in a JSON object; `known` tells the least, the most and the default of each. Throws text for people. */
export function readParameters<Key extends string>(text: string, known: Record<Key, Range>): Record<Key, number> {
  let written: unknown = null;
  try {
    written = JSON.parse(text);
  } catch {
    // As for everything that is no object.
  }
  if (typeof written !== 'object' || written === null || Array.isArray(written)) throw 'parameters: give one JSON object';
  const keys = Object.keys(known) as Key[];
  const parameters = Object.fromEntries(keys.map((key) => [key, known[key].otherwise])) as Record<Key, number>;
  for (const [name, value] of Object.entries(written)) {
    const key = keys.find((key) => key === name);
    if (key === undefined) throw `unknown parameter '${name}': there are ${keys.join(' and ')}`;
    const { least, most } = known[key];
    if (!Number.isInteger(value) || value < least || value > most) throw `${key}: give a whole number from ${least} to ${most}`;
    parameters[key] = value;
  }
  return parameters;
}

/**
 * The functions of `policy`, `state` or `scaling`, such that they say what went wrong. Whatever else they threw, and whatever they
 * answered that does not fit the contract, would end the instance, mute.
 */
export function failingPolitely<Functions extends object>(functions: Functions): Functions {
  const polite = (name: string) => (...given: unknown[]) => {
    try {
      const answer = (functions as any)[name](...given);
      if (name === 'plan') checkProposal(answer);
      return answer;
    } catch (problem) {
      throw failureOf(name, problem);
    }
  };
  return Object.fromEntries(Object.keys(functions).map((name) => [name, polite(name)])) as Functions;
}

/** As the contract has it: `plan` and `advise` fail with a kind, `configure` and `restore` with text. */
function failureOf(name: string, problem: any): unknown {
  const isFailure = ['bad-parameters', 'not-ready', 'internal'].includes(problem?.tag) && isText(problem.val);
  const words = isFailure ? problem.val : wordsOf(problem);
  if (name === 'plan' || name === 'advise') return isFailure ? problem : ({ tag: 'internal', val: words } satisfies Failure);
  if (name === 'configure' || name === 'restore') return words;
  // The others cannot fail: the instance ends, and the daemon quotes what it logged last.
  log.log('error', words);
  return problem;
}

/** What was thrown. Of an Error also where: the innermost function first, without those of this file. */
function wordsOf(problem: unknown): string {
  if (isText(problem)) return problem;
  try {
    if (!(problem instanceof Error)) return `threw ${problem}`;
    const places = (problem.stack ?? '').split('\n').map((line) => line.trim());
    return `${problem}; ${places.filter((place) => place && !place.includes('/ballast.js:')).join(', ')}`;
  } catch {
    return 'threw something that has no words';
  }
}

/** Names the first field that does not fit the contract. The engine itself would make slot 4464 of 70000, without a word. */
function checkProposal(proposal: Proposal) {
  must('the answer', proposal, isObject, 'object of moves, summary and gauges');
  must('moves', proposal.moves, Array.isArray, 'list');
  must('summary', proposal.summary, isText, 'text');
  must('gauges', proposal.gauges, Array.isArray, 'list');
  for (const [place, move] of proposal.moves.entries()) {
    must(`moves[${place}]`, move, isObject, 'move');
    must(`moves[${place}].slot`, move.slot, isWholeUpTo(16383), 'slot');
    must(`moves[${place}].target`, move.target, isWholeUpTo(0xffffffff), 'index of a node');
    must(`moves[${place}].reason`, move.reason, isText, 'text');
  }
  for (const [place, gauge] of proposal.gauges.entries()) {
    must(`gauges[${place}]`, gauge, (pair) => Array.isArray(pair) && pair.length === 2, 'pair of a name and a number');
    must(`gauges[${place}][0]`, gauge[0], isText, 'name');
    must(`gauges[${place}][1]`, gauge[1], (value) => typeof value === 'number', 'number');
  }
}

function must(field: string, value: unknown, fits: (value: unknown) => boolean, kind: string) {
  if (fits(value)) return;
  const found = isText(value) ? `'${value}'` : String(value);
  const val = value === undefined ? `${field}: missing` : `${field}: ${found} is no ${kind}`;
  throw { tag: 'internal', val } satisfies Failure;
}

const isText = (value: unknown) => typeof value === 'string';
const isObject = (value: unknown) => typeof value === 'object' && value !== null;
const isWholeUpTo = (most: number) => (value: unknown) => Number.isInteger(value) && Number(value) >= 0 && Number(value) <= most;
