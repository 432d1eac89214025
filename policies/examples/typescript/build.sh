#!/usr/bin/env bash
# Builds policy.wasm: checks the types, makes JavaScript, and puts it into one component with the engine QuickJS.
set -euo pipefail
cd "$(dirname "$0")"

programs=$(./toolchains npm:.)/node_modules/.bin
"$programs/tsc" --project .
# Stubbed, since a policy gets no WASI: no files, no clock, no network.
"$programs/componentize-qjs" --wit wit --world slot-policy --js build/policy.js --stub-wasi --sync --output policy.wasm
