// What helps a policy in TypeScript: parameters that are whole numbers, and exceptions that are answers instead of traps.
import type { Failure, Proposal } from 'ballast:policy/types@0.1.0';

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

/** An exception that is no failure of the contract would end the instance, mute: this makes it one, with its stack. */
export function failingPolitely(plan: () => Proposal): () => Proposal {
  return () => {
    try {
      return plan();
    } catch (problem) {
      if (problem instanceof Error) throw { tag: 'internal', val: `${problem}\n${problem.stack}` } satisfies Failure;
      throw problem;
    }
  };
}
