#!/usr/bin/env bash
# Runs the thread pool, the parsers, the encodings and the portable kernels in Miri, an interpreter that reports what the
# rules of unsafe code forbid even where it happens to work: an alias, a misaligned or a dead pointer, a value never
# written, a data race. It needs a nightly toolchain with
#     rustup toolchain install nightly --component miri,rust-src
# Miri has no maps of files, no fork and no GPU, says that its CPU has no vector instructions, and takes a thousand times
# as long. So it runs what reads bytes from memory, and the portable kernels; what is left out is named below, with the
# reason. Arguments go to the tests of each step.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo +nightly miri --version >/dev/null || { echo "Miri is missing: see the head of $0" >&2; exit 1; }
export CARGO_TARGET_DIR="$PWD/target/miri"
# Tests read files of tests/data, and the pool asks the clock.
export MIRIFLAGS="-Zmiri-disable-isolation ${MIRIFLAGS:-}"

step() { printf '\n== %s\n' "$1"; }
tests() { cargo +nightly miri test "$@"; }

step "the pool"
too_many=(--skip every_task_runs_once_in_every_run --skip more_threads_than_cores) # thousands of runs
no_fork=(--skip forked --skip at_the_fork)
tests --manifest-path tests/loom/Cargo.toml --lib -- "${too_many[@]}" "${no_fork[@]}" "$@"

step "GGUF files"
maps=(--skip spans_of_real_files --skip paths_without_a_model --skip what_is_not_a_model_file)
tests --test gguf -- "${maps[@]}" "$@"
# Each cuts or changes a file in thousands of places, or is larger than Miri's patience.
too_large=(--skip cut_anywhere --skip replaced_by_lies --skip largest_accepted --skip never_panic)
tests --test hostile_gguf -- "${too_large[@]}" "$@"

step "safetensors files"
tests --test huggingface -- bytes:: "$@"

step "encodings"
many_cases=(--skip q8_0_ --skip q6_k_ --skip floats_keep --skip forks_keep --skip any_bytes)
too_large=(--skip large --skip mapped --skip in_samples --skip golden_bonsai --skip every_preset)
tests --test encodings -- "${many_cases[@]}" "${too_large[@]}" "$@"

step "portable kernels" # the only set that Miri's CPU has
for claim in integer_sums_are_exact:: products_apply stacked_parts matmul_add_adds norm_quantize_is a_prefix_is_copied; do
    tests --test backends -- "$claim" --skip gpu --skip three_threads "$@"
done
