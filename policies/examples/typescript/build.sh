#!/usr/bin/env bash
# Builds policy.wasm: checks the types, makes JavaScript, and puts it into one component with the engine QuickJS.
set -euo pipefail
cd "$(dirname "$0")"

programs=$(./toolchains npm:.)/node_modules/.bin
"$programs/tsc" --project .
# What is not exported would only be missed when the policy is asked.
cat >build/entry.js <<'END'
import * as written from './policy.js';

for (const name of ['describe', 'configure', 'plan']) {
  if (typeof written.policy?.[name] === 'function') continue;
  throw new Error(`policy.ts exports no policy.${name}; it exports ${Object.keys(written).join(', ') || 'nothing'}`);
}
export * from './policy.js';
END
# Stubbed, since a policy gets no WASI: no files, no clock, no network.
"$programs/componentize-qjs" --wit wit --world slot-policy --js build/entry.js --stub-wasi --sync --output policy.wasm
