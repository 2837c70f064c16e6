#!/usr/bin/env bash
# Runs the thread pool, and sessions on it, under ThreadSanitizer, which watches the accesses of the real threads for two
# that no lock and no atomic orders. Linux on x86-64 or ARM; it needs no other toolchain than the one in use, whose
# unstable flags it turns on, and installs nothing.
#   tests/tsan.sh pool        the pool's own tests, built alone (tests/loom): a minute
#   tests/tsan.sh sessions    tests of whole models on several threads, after all dependencies are built anew: long
# Both, if nothing is named.
#
# The standard library is the prebuilt one, so that what it does inside is not seen, and may look like a race. What did is
# named in tests/tsan.suppressions.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$PWD/target/tsan"
# The standard library was built without the sanitizer: that is meant.
export RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer"
# A child of a process with several threads is a test of the pool. The sanitizer cannot follow it and would end it.
export TSAN_OPTIONS="halt_on_error=0 exitcode=66 die_after_fork=0 suppressions=$PWD/tests/tsan.suppressions"

# Output that the harness would catch goes through a buffer that all threads share, behind a lock inside the library.
shown=--nocapture
# Batches and prompts in chunks on two threads, stories on one to several; those on a GPU would check its driver.
names=(each_sequence_of_a_batch a_prompt_in_chunks ids_do_not_depend_on_the_number_of_threads)

pool() { cargo test --quiet --target "$target" --manifest-path tests/loom/Cargo.toml --lib -- --test-threads=1 "$shown"; }
sessions() { cargo test --target "$target" --test generation -- --test-threads=1 "$shown" --skip gpu "${names[@]}"; }

case "${1:-both}" in
    pool) pool ;;
    sessions) sessions ;;
    both) pool && sessions ;;
    *) echo "usage: $0 [pool | sessions]" >&2; exit 1 ;;
esac
