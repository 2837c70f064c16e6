//! Whether this process can use AMX: the CPU must have it, the operating system must keep its registers, and Linux must be
//! asked for it once (they are 8 KiB a thread).

use std::sync::LazyLock;

use super::Amx;
use crate::cpu::kernels::vnni::Avx512Vnni;

impl Amx {
    /// The kernels, if this process can run them.
    pub(crate) fn detect() -> Option<&'static Self> {
        static TOKEN: LazyLock<Option<Amx>> = LazyLock::new(|| {
            let avx512 = Avx512Vnni::detect()?;
            (cpu_has_int8_tiles() && is_permitted()).then_some(Amx { avx512 })
        });
        TOKEN.as_ref()
    }
}

/// CPUID leaf 7: tiles and their int8 products; and XCR0: the system saves the tiles' configuration and data.
fn cpu_has_int8_tiles() -> bool {
    use std::arch::x86_64::{__cpuid_count, _xgetbv, CpuidResult};
    const TILE_AND_INT8: u32 = 1 << 24 | 1 << 25;
    const OSXSAVE: u32 = 1 << 27;
    const TILE_STATE: u64 = 1 << 17 | 1 << 18;
    #[target_feature(enable = "xsave")]
    fn saved_state() -> u64 {
        // SAFETY: register 0 is always there.
        unsafe { _xgetbv(0) }
    }
    // Unsafe in Rust 1.89, the oldest that is promised, and safe in later versions.
    let ask: unsafe fn(u32, u32) -> CpuidResult = __cpuid_count;
    // SAFETY: every 64-bit x86 has the instruction.
    let [most, features, extended] = unsafe { [ask(0, 0).eax, ask(1, 0).ecx, ask(7, 0).edx] };
    if most < 7 || features & OSXSAVE == 0 {
        return false;
    }
    // SAFETY: OSXSAVE says that the instruction may be used.
    let saved = unsafe { saved_state() };
    extended & TILE_AND_INT8 == TILE_AND_INT8 && saved & TILE_STATE == TILE_STATE
}

/// Asks Linux for the tiles, for all threads of this process (arch_prctl(2), `ARCH_REQ_XCOMP_PERM`).
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const SYS_ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILE_DATA: u64 = 18;
    let result: i64;
    // SAFETY: the call reads two numbers and no memory; older kernels answer that they do not know it. A system call changes
    // rcx and r11.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") SYS_ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILE_DATA,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result == 0
}

/// Other systems have other ways, which nobody has tried here.
#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}
