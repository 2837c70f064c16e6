//! The bytes of a fuzzer's input, read as choices. An input that is used up goes on with zeros.

/// Lengths, counts and sizes that parsers get wrong: around powers of two, and the ends of each integer.
pub const LIES: [u64; 40] = [
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    15,
    16,
    31,
    32,
    33,
    63,
    64,
    65,
    127,
    128,
    129,
    255,
    256,
    512,
    1023,
    1024,
    4096,
    65_535,
    65_536,
    1 << 20,
    1 << 24,
    (1 << 24) - 1,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    1 << 40,
    1 << 62,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 7,
    u64::MAX,
];

/// Floats at the ends of their range, and those that are no numbers.
pub const FLOATS: [f32; 18] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    1e-45,
    1e-38,
    1e-10,
    1e-6,
    0.5,
    1.000_000_1,
    10_000.0,
    1e6,
    1e30,
    3.4e38,
    -3.4e38,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
];

/// What is left of an input.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn word(&mut self) -> u32 {
        u32::from(self.short()) | u32::from(self.short()) << 16
    }

    pub fn long(&mut self) -> u64 {
        u64::from(self.word()) | u64::from(self.word()) << 32
    }

    /// Up to so many bytes, as they are.
    pub fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A number below `count`, which is not 0. Small counts cost one byte.
    pub fn below(&mut self, count: usize) -> usize {
        match count {
            0..=256 => usize::from(self.byte()) % count,
            257..=65_536 => usize::from(self.short()) % count,
            _ => self.word() as usize % count,
        }
    }

    pub fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// One chance in so many.
    pub fn chance(&mut self, of: u8) -> bool {
        self.byte() % of == of - 1
    }

    /// A size: mostly one that parsers get wrong, otherwise any.
    pub fn lie(&mut self) -> u64 {
        let choice = usize::from(self.byte());
        match (LIES.get(choice / 4), choice % 2) {
            (Some(&lie), _) => lie,
            (None, 0) => u64::from(self.short()),
            (None, _) => self.long(),
        }
    }

    /// A float: an extreme one, an ordinary one, or any bits.
    pub fn float(&mut self) -> f32 {
        match self.byte() {
            choice @ 0..=127 => FLOATS[usize::from(choice) % FLOATS.len()],
            choice @ 128..=223 => (f32::from(choice) - 176.0) / 16.0,
            _ => f32::from_bits(self.word()),
        }
    }
}
