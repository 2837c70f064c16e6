#!/usr/bin/env bash
# Runs the thread pool, and sessions on it, under ThreadSanitizer, which watches the accesses of the real threads for two
# that no lock and no atomic orders. Linux on x86-64 or ARM; it turns on unstable flags of the toolchain in use, and installs nothing.
#   tests/tsan.sh pool        the pool's own tests, built alone (tests/loom): minutes
#   tests/tsan.sh sessions    tests of whole models on several threads, after all dependencies are built anew: long
# Both, if nothing is named.
#
# The standard library must be built for it too, as its locks and counters look like races otherwise: from rustup's component rust-src,
# or by Debian's compiler from Debian's source (`apt-get install rustc-web rust-web-src`), with the sanitizer's runtime of rustup.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(rustc -vV | sed -n 's/^host: //p') sysroot=$(rustc --print sysroot)
export RUSTFLAGS="-Zsanitizer=thread"
if [ ! -d "$sysroot/lib/rustlib/src/rust/library" ]; then
    runtime=$(compgen -G "$sysroot/lib/rustlib/$target/lib/librustc*_rt.tsan.a") || true
    if [ ! -d /usr/lib/rustlib/src/rust/library ] || [ ! -x /usr/bin/rustc ] || [ -z "$runtime" ]; then
        echo "there is no source of the standard library: rustup component add rust-src, or see the head of $0" >&2
        exit 1
    fi
    export RUSTC=/usr/bin/rustc
    RUSTFLAGS+=" -Zexternal-clangrt"
    linker=(-B"$sysroot/lib/rustlib/$target/bin/gcc-ld" -fuse-ld=lld) # GNU's does not find old versions of symbols
    for argument in "${linker[@]}" -Wl,--whole-archive "$runtime" -Wl,--no-whole-archive -ldl -lm -lpthread -lresolv -lc; do
        RUSTFLAGS+=" -Clink-arg=$argument"
    done
fi
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$PWD/target/tsan"
# A child of a process with several threads is a test of the pool. The sanitizer cannot follow it and would end it.
export TSAN_OPTIONS="halt_on_error=0 exitcode=66 die_after_fork=0"

# Output that the harness would catch goes through a buffer that all threads share, behind a lock inside the library.
shown=--nocapture
# Batches and prompts in chunks on two threads, stories on one to several; those on a GPU would check its driver.
names=(each_sequence_of_a_batch a_prompt_in_chunks ids_do_not_depend_on_the_number_of_threads)

tests() { cargo test --target "$target" -Zbuild-std "$@"; }
pool() { tests --quiet --manifest-path tests/loom/Cargo.toml --lib -- --test-threads=1 "$shown"; }
sessions() { tests --test generation -- --test-threads=1 "$shown" --skip gpu "${names[@]}"; }

case "${1:-both}" in
    pool) pool ;;
    sessions) sessions ;;
    both) pool && sessions ;;
    *) echo "usage: $0 [pool | sessions]" >&2; exit 1 ;;
esac
