#!/usr/bin/env bash
# Builds policy.wasm, with a Rust that knows wasm32-unknown-unknown (`rustup target add`) or else with Debian's.
set -euo pipefail
cd "$(dirname "$0")"

target=wasm32-unknown-unknown
if [ -d "$(rustc --print target-libdir --target "$target" 2>/dev/null)" ]; then
    cargo build --quiet --release --locked --target "$target" --target-dir target
else
    rust=$(./toolchains debian:rustc-web)
    "$rust/bin/cargo-wasm" build --quiet --release --locked --target-dir target
fi
cp "target/$target/release/policy.wasm" policy.wasm
