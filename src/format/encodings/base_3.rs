//! Five trits in a byte, as TQ1_0 and PTQ1_0 have them: a number in base 3, stored as a fraction of 243.
//!
//! ```text
//! Five digits (code = trit + 1), the first the most significant, make N = Σ digit(n) · 3^(4−n) < 243:
//!
//!   byte = ⌈256 N / 243⌉        digit(n) = ((byte · 3ⁿ mod 256) · 3) >> 8
//! ```
//!
//! Every byte decodes to five trits, so nothing in the codes can be malformed.

/// A part of a block whose bytes hold a column each, and so many columns further the next, for `digits` digits.
pub(super) struct Part {
    /// The first byte, counted from the block's first.
    pub(super) byte: usize,
    /// Bytes, at most 32.
    pub(super) bytes: usize,
    /// Digit n of byte m is column `column + n * bytes + m` of the block.
    pub(super) column: usize,
    /// Digits in a byte; those from here to the fifth are 0.
    pub(super) digits: usize,
}

/// Writes the codes of a block, one a byte.
pub(super) fn decode(parts: &[Part], block: &[u8], codes: &mut [u8]) {
    for &Part { byte, bytes, column, digits } in parts {
        let mut fractions = [0; 32];
        let fractions = &mut fractions[..bytes];
        fractions.copy_from_slice(&block[byte..byte + bytes]);
        // The next digit is the integer part of the fraction times 3; what is left holds the digits after it.
        for codes in codes[column..column + digits * bytes].chunks_exact_mut(bytes) {
            for (code, fraction) in codes.iter_mut().zip(&mut *fractions) {
                *code = ((u16::from(*fraction) * 3) >> 8) as u8;
                *fraction = fraction.wrapping_mul(3);
            }
        }
    }
}

/// The inverse of [`decode`].
pub(super) fn encode(parts: &[Part], codes: &[u8], block: &mut [u8]) {
    for &Part { byte, bytes, column, digits } in parts {
        for m in 0..bytes {
            let digit = |n: usize| if n < digits { u32::from(codes[column + n * bytes + m]) } else { 0 };
            block[byte + m] = fraction((0..5).fold(0, |number, n| number * 3 + digit(n)));
        }
    }
}

/// The byte of a number below 243.
pub(super) fn fraction(number: u32) -> u8 {
    (number * 256).div_ceil(243) as u8
}
