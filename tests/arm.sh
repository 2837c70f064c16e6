#!/usr/bin/env bash
# Runs the whole suite as a 64-bit ARM program under emulation: the only check that the NEON kernels get without the
# hardware. Installs nothing. It needs
#   - the Rust target:        rustup target add aarch64-unknown-linux-gnu
#   - a linker and a C library: gcc-aarch64-linux-gnu and libc6-dev-arm64-cross, as Debian calls them
#   - the emulator:           qemu-user, 7.0 or later
# Arguments go to `cargo test`: `tests/arm.sh --test backends integer` is a short check. All of it takes long, because
# emulated floats are slow; it is built for release, because debug assertions around each load would make that far worse.
# STERNA_ARM_CPU=cortex-a72 emulates a CPU without dot products.
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
prefix=aarch64-linux-gnu
cpu=${STERNA_ARM_CPU:-max}

for program in "$prefix-gcc" qemu-aarch64; do
    command -v "$program" >/dev/null || { echo "$program is missing: see the head of $0" >&2; exit 1; }
done
[ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || { echo "rustup target add $target" >&2; exit 1; }

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$prefix-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $cpu -L /usr/$prefix"
# Speeds of an emulator say nothing.
export STERNA_EMULATED=1
exec cargo test --release --target "$target" "$@"
