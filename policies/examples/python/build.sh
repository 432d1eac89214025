#!/usr/bin/env bash
# Builds policy.wasm: CPython and this directory's modules in one component.
set -euo pipefail
cd "$(dirname "$0")"

componentize=$(./toolchains pypi:componentize-py==0.25.1)
# Its own panics say nothing of a mistake in the policy.
export RUST_BACKTRACE=0
# Stubbed, since a policy gets no WASI: no files, no clock, no network.
PYTHONPATH=$componentize python3 "$componentize/bin/componentize-py" --wit-path wit --world slot-policy \
    componentize --stub-wasi policy --output policy.wasm
