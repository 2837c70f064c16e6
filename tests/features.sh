#!/usr/bin/env bash
# Runs the tests of each smaller set of features: all that they have, but for whole models on GPUs and long texts. Ten minutes on two
# cores, most of it building; `.ci/run` checks and lints all of them, and tests none and all.
set -euo pipefail
cd "$(dirname "$0")/.."

export STERNA_REQUIRE_GPU=1
run() { cargo test --no-default-features --features "$@"; }
run "" --lib --test without_text --test gguf --test encodings --test hostile_model --test allocations
run text --test models --test convert -- --skip perplexity
run gpu --test sharing
run constrain,text --test constrain
