#!/usr/bin/env bash
# Runs the thread pool through every order of its steps and every value that the memory model allows, with loom
# (src/cpu/pool/models.rs), in about three minutes. The pool is built alone, from the same files, in a package of its own
# (tests/loom), because `--cfg loom` would reach every dependency of the crate. Installs nothing but loom, by cargo.
# Arguments go to `cargo test`.
#
# `tests/loom.sh mutants` tells whether the models can fail: it weakens a copy of the pool, in one place at a time, and
# demands that each of these mutants is caught; some minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg loom" RUST_BACKTRACE=0 CARGO_TARGET_DIR="$PWD/target/loom"
# Loom's threads are coroutines: the models share one thread of the machine, so that their times can be read.
check() { cargo test --quiet --release --manifest-path "$1/tests/loom/Cargo.toml" "${@:2}" -- --nocapture --test-threads=1; }

[ "${1:-}" = mutants ] || { check "$PWD" "$@"; exit; }

copy=$(mktemp -d)
trap 'rm -r "$copy"' EXIT
mkdir "$copy/tests"
# mutant NAME OLD NEW [FILE]: OLD and NEW are texts of one line of pool.rs, or of FILE, within src/cpu.
mutant() {
    rm -rf "$copy/src" "$copy/tests/loom"
    cp -r src "$copy/src"
    cp -r tests/loom "$copy/tests/loom"
    MUTANT_OLD=$2 MUTANT_NEW=$3 perl -0pi -e 's/\Q$ENV{MUTANT_OLD}\E/$ENV{MUTANT_NEW}/ or die "nothing to mutate\n"' \
        "$copy/src/cpu/${4:-pool.rs}"
    check "$copy" >"$copy/log" 2>&1 || true
    # What does not compile is not caught.
    if evidence=$(grep -m1 -oE 'Causality violation.*|deadlock|assertion.*' "$copy/log"); then
        echo "$1: caught: $evidence"
    else
        echo "$1: NOT caught"
        caught=no
    fi
}
caught=yes
mutant "open without Release" "| OPEN, Ordering::Release)" "| OPEN, Ordering::Relaxed)"
mutant "enter without Acquire" "gate + 1, Ordering::Acquire" "gate + 1, Ordering::Relaxed"
mutant "leave without Release" "fetch_sub(1, Ordering::Release)" "fetch_sub(1, Ordering::Relaxed)"
mutant "find it empty without Acquire" "gate.load(Ordering::Acquire)" "gate.load(Ordering::Relaxed)"
mutant "look for sleepers without a fence" "fence(Ordering::SeqCst);" ""
mutant "fall asleep without a fence" "fence(Ordering::SeqCst); // See" "// See"
mutant "wake sleepers without the lock" "let _bed = lock(&shared.bed);" ""
mutant "wake the caller without the lock" "let _bed = lock(&self.bed);" ""
mutant "stop without the lock" "let _bed = lock(&self.shared.bed);" ""
mutant "do not wait for those inside" "shared.close();" ""
exchange() { echo "if $1.compare_exchange(before, share($2), Ordering::Relaxed, Ordering::Relaxed).is_ok() {"; }
store() { echo "{ $1.store(share($2), Ordering::Relaxed);"; }
mutant "take a task without an exchange" "$(exchange own 'first + 1, end')" "$(store own 'first + 1, end')" pool/shares.rs
mutant "take tasks over without an exchange" "$(exchange other 'first, middle')" "$(store other 'first, middle')" pool/shares.rs
[ "$caught" = yes ]
