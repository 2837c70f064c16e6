#!/usr/bin/env bash
# Two servers behind a router that no one here wrote: vllm-router, which sends a conversation to where its beginning is cached, and
# haproxy, which sends a request to where the fewest run. Each is asked what a user would ask of it: see routers.py.
#
#     tests/clients/routers.sh                # both
#     tests/clients/routers.sh haproxy        # one
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=target/clients/routers
pins="vllm-router==0.1.17"
export STERNA_SERVE=${STERNA_SERVE:-target/release/examples/serve}
[ -x "$STERNA_SERVE" ] || { echo "no $STERNA_SERVE: cargo build --release --features serve --example serve"; exit 1; }
command -v haproxy >/dev/null || { echo "no haproxy: apt-get install haproxy"; exit 1; }
if [ "$(cat "$folder/pins" 2>/dev/null)" != "$pins" ]; then
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$pins"
    echo "$pins" >"$folder/pins"
fi
for router in "${@:-vllm-router haproxy}"; do
    # The default above is two words.
    for name in $router; do "$folder/bin/python" tests/clients/routers.py "$name"; done
done
