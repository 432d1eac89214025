// What helps a policy in JavaScript: parameters that are whole numbers, and exceptions that are answers instead of traps.

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

/** An exception that is no failure of the contract would end the instance, mute: this makes it one, with its stack. */
export function failingPolitely(plan) {
  return () => {
    try {
      return plan();
    } catch (problem) {
      if (problem instanceof Error) throw { tag: 'internal', val: `${problem}\n${problem.stack}` };
      throw problem;
    }
  };
}
