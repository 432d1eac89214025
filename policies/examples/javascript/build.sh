#!/usr/bin/env bash
# Builds policy.wasm: the engine QuickJS and this directory's modules in one component.
set -euo pipefail
cd "$(dirname "$0")"

modules=$(./toolchains npm:.)/node_modules
# What is not exported would only be missed when the policy is asked.
mkdir -p build
cat >build/entry.js <<'END'
import * as written from '../policy.js';

for (const name of ['describe', 'configure', 'plan']) {
  if (typeof written.policy?.[name] === 'function') continue;
  throw new Error(`policy.js exports no policy.${name}; it exports ${Object.keys(written).join(', ') || 'nothing'}`);
}
export * from '../policy.js';
END
# Stubbed, since a policy gets no WASI: no files, no clock, no network.
"$modules/.bin/componentize-qjs" --wit wit --world slot-policy --js build/entry.js --stub-wasi --sync --output policy.wasm
