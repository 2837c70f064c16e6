//! Loops that are written for any CPU and compiled again for one with more instructions.

/// Methods of a set that are loops of `floats.rs` or `bounds.rs`, for the instructions that are named first. Whoever has the set has those.
macro_rules! compile_again {
    ($features:literal, $module:ident: $(fn $name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {$(
        fn $name(&self, $($argument: $type),*) $(-> $result)? {
            #[target_feature(enable = $features)]
            fn again($($argument: $type),*) $(-> $result)? {
                $module::$name($($argument),*)
            }
            // SAFETY: `self` exists, so the CPU has these instructions.
            unsafe { again($($argument),*) }
        }
    )*};
}
