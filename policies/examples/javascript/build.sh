#!/usr/bin/env bash
# Builds policy.wasm: the engine QuickJS and this directory's modules in one component.
set -euo pipefail
cd "$(dirname "$0")"

modules=$(./toolchains npm:.)/node_modules
# Stubbed, since a policy gets no WASI: no files, no clock, no network.
"$modules/.bin/componentize-qjs" --wit wit --world slot-policy --js policy.js --stub-wasi --sync --output policy.wasm
