// What helps a policy in JavaScript: parameters that are whole numbers, and mistakes that are answers instead of traps.
import log from 'ballast:policy/log@0.1.0';

// The engine would end the instance, mute, when it is asked for the time or for chance.
const noClock = () => {
  throw new Error('a policy has no clock: cluster.takenAtMs() is the time of the view');
};
Date = class extends Date {
  static now = noClock;
  constructor(...given) {
    if (given.length === 0) noClock();
    super(...given);
  }
};
performance = { now: noClock };
Math.random = () => {
  throw new Error('a policy has no chance: take cluster.generation() for a seed, or `seed` of search.solve');
};

/** The parameters in a JSON object; `known` tells the least, the most and the default of each. Throws text for people. */
export function readParameters(text, known) {
  let written = null;
  try {
    written = JSON.parse(text);
  } catch {
    // As for everything that is no object.
  }
  if (typeof written !== 'object' || written === null || Array.isArray(written)) throw 'parameters: give one JSON object';
  const parameters = Object.fromEntries(Object.entries(known).map(([key, { otherwise }]) => [key, otherwise]));
  for (const [key, value] of Object.entries(written)) {
    if (!Object.hasOwn(known, key)) throw `unknown parameter '${key}': there are ${Object.keys(known).join(' and ')}`;
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
export function failingPolitely(functions) {
  const polite = (name) => (...given) => {
    try {
      const answer = functions[name](...given);
      if (name === 'plan') checkProposal(answer);
      return answer;
    } catch (problem) {
      throw failureOf(name, problem);
    }
  };
  return Object.fromEntries(Object.keys(functions).map((name) => [name, polite(name)]));
}

/** As the contract has it: `plan` and `advise` fail with a kind, `configure` and `restore` with text. */
function failureOf(name, problem) {
  const isFailure = ['bad-parameters', 'not-ready', 'internal'].includes(problem?.tag) && isText(problem.val);
  const words = isFailure ? problem.val : wordsOf(problem);
  if (name === 'plan' || name === 'advise') return isFailure ? problem : { tag: 'internal', val: words };
  if (name === 'configure' || name === 'restore') return words;
  // The others cannot fail: the instance ends, and the daemon quotes what it logged last.
  log.log('error', words);
  return problem;
}

/** What was thrown. Of an Error also where: the innermost function first, without those of this file. */
function wordsOf(problem) {
  if (isText(problem)) return problem;
  try {
    if (!(problem instanceof Error)) return `threw ${problem}`;
    const places = problem.stack.split('\n').map((line) => line.trim());
    return `${problem}; ${places.filter((place) => place && !place.includes('/ballast.js:')).join(', ')}`;
  } catch {
    return 'threw something that has no words';
  }
}

/** Names the first field that does not fit the contract. The engine itself would make slot 4464 of 70000, without a word. */
function checkProposal(proposal) {
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

function must(field, value, fits, kind) {
  if (fits(value)) return;
  const found = isText(value) ? `'${value}'` : String(value);
  throw { tag: 'internal', val: value === undefined ? `${field}: missing` : `${field}: ${found} is no ${kind}` };
}

const isText = (value) => typeof value === 'string';
const isObject = (value) => typeof value === 'object' && value !== null;
const isWholeUpTo = (most) => (value) => Number.isInteger(value) && value >= 0 && value <= most;
