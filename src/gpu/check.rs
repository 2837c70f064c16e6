//! What every result rests on, computed once when a GPU is opened: halves and their packing, integer products, rounding. A device
//! that computes one of these otherwise, by a fault of its driver or because it drops small numbers, is refused.

use half::f16;

use crate::backend::Reads;
use crate::error::{Error, Result};
use crate::gpu::GpuDevice;
use crate::gpu::buffers::Buffer;
use crate::gpu::recorder::{Dispatch, Recorder};
use crate::gpu::shader::Shader;

/// Words of a result: one for each line of [`expected`].
const RESULTS: usize = 9;

/// Words at which something can go wrong, by what they are taken for.
#[derive(Clone, Copy)]
enum Case {
    /// Two halves in each.
    Halves([u32; 2]),
    /// A float in each.
    Floats([f32; 2]),
    /// Integers, or four int8 in each.
    Integers([u32; 2]),
}

const CASES: [Case; 16] = [
    Case::Halves([0x8001_0001, 0]),           // the smallest that are not 0
    Case::Halves([0x83ff_03ff, 0]),           // the largest below full precision
    Case::Halves([0x8400_0400, 0]),           // the smallest of full precision
    Case::Halves([0xfbff_7bff, 0]),           // the largest
    Case::Halves([0xb555_3c00, 0]),           // one, and a third
    Case::Floats([5.9e-8, 1e-6]),             // become the smallest halves
    Case::Floats([1.000_488_3, 1.001_464_8]), // halfway between two halves: become the even one
    Case::Floats([65504.0, -65519.0]),        // become the largest
    Case::Floats([0.5, -1.5]),                // halfway between two integers: become the even one
    Case::Floats([-0.5, 2.5]),
    Case::Floats([3.5, 126.5]),
    Case::Integers([0x8080_8080, 0x0303_0303]), // int8 -128, and the largest codes
    Case::Integers([0x8080_7f7f, 0x3030_3030]), // as they lie in a word
    Case::Integers([0xff7f_8001, 0x0201_0c03]),
    Case::Integers([0x00ff_ffff, 0x00ff_fffd]), // a product of more than 32 bits
    Case::Integers([0x8000_7fff, 0x1234_8765]),
];

const PACKED: &str = "two floats as halves";

/// Whether both halves are neighbours of the right ones, or zeros where those have less than full precision: WGSL promises no more of how
/// floats become halves, and Direct3D rounds them towards zero. (A cache in f16 is then a little less exact.)
fn are_near(found: u32, right: u32) -> bool {
    [0, 16].into_iter().all(|shift| {
        let [found, right] = [found, right].map(|word| (word >> shift) as u16);
        found.abs_diff(right) <= 1 || right & 0x7fff < 0x0400 && found & 0x7fff == 0
    })
}

impl Case {
    fn words(self) -> [u32; 2] {
        match self {
            Self::Halves(words) | Self::Integers(words) => words,
            Self::Floats(floats) => floats.map(f32::to_bits),
        }
    }

    /// What is computed of it, and what that is called; none where it is not taken for such.
    fn expected(self) -> [(&'static str, Option<u32>); RESULTS] {
        let [a, b] = self.words();
        let (is_halves, is_floats) = (matches!(self, Self::Halves(_)), matches!(self, Self::Floats(_)));
        let halves = [a as u16, (a >> 16) as u16].map(|bits| f16::from_bits(bits).to_f32().to_bits());
        let packed = [a, b].map(|bits| u32::from(f16::from_f32(f32::from_bits(bits)).to_bits()));
        let rounded = [a, b].map(|bits| f32::from_bits(bits).round_ties_even() as i32 as u32);
        let bytes = |word: u32| word.to_le_bytes().map(|byte| i32::from(byte as i8));
        let dot: i32 = bytes(a).iter().zip(bytes(b)).map(|(a, b)| a * b).sum();
        let of = |is: bool, right: u32| is.then_some(right);
        let integers = |right: u32| of(!is_halves && !is_floats, right);
        [
            ("a half as a float", of(is_halves, halves[0])),
            ("the upper half of a word as a float", of(is_halves, halves[1])),
            (PACKED, of(is_floats, packed[0] | packed[1] << 16)),
            ("a product of four int8", integers(dot as u32)),
            ("the low bits of a product", integers(a.wrapping_mul(b))),
            ("four int8 unpacked and packed", integers(a)),
            ("a float rounded to an integer", of(is_floats, rounded[0])),
            ("the second float rounded to an integer", of(is_floats, rounded[1])),
            ("the upper half of a word with its sign", integers((a as i32 >> 16) as u32)),
        ]
    }
}

impl GpuDevice {
    /// Computes the cases.
    ///
    /// # Errors
    /// [`Error::Device`] if the device computes one otherwise than this host does; it says which.
    pub(super) async fn check_arithmetic(&self) -> Result<()> {
        let mut recorder = Recorder::new(self);
        let buffer = |label, words: usize| {
            use wgpu::BufferUsages as Usage;
            let usage = Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST;
            Ok(Buffer::new(self.0.buffer(label, 4 * words as u64, usage)?))
        };
        let cases: Buffer = buffer("cases", 2 * CASES.len())?;
        let results = buffer("results", RESULTS * CASES.len())?;
        recorder.write(&cases, bytemuck::cast_slice(&CASES.map(Case::words)));
        let buffers = [&cases, &results];
        let (params, groups) = ([CASES.len() as u32], [1, 1, 1]);
        recorder.dispatch(&Dispatch {
            shader: Shader::Arithmetic,
            params: &params,
            buffers: &buffers,
            groups,
            bytes: 0,
            reads: Reads::Nothing,
        });
        let mut computed = [[0u32; RESULTS]; CASES.len()];
        #[cfg(target_arch = "wasm32")]
        std::future::poll_fn(|context| recorder.poll_read(&results, 0, size_of_val(&computed) as u64, context)).await;
        recorder.read(&results, 0, bytemuck::cast_slice_mut(&mut computed))?;
        compare(&self.adapter().name(), &self.adapter().driver(), &computed)
    }
}

/// Holds what a device computed to what is right.
fn compare(name: &str, driver: &str, computed: &[[u32; RESULTS]; CASES.len()]) -> Result<()> {
    for (case, computed) in CASES.iter().zip(computed) {
        for ((what, right), &found) in case.expected().into_iter().zip(computed) {
            let is_right = |right| found == right || what == PACKED && are_near(found, right);
            if right.is_some_and(|right| !is_right(right)) {
                let ([a, b], right) = (case.words(), right.unwrap_or_default());
                return Err(Error::refused(format!(
                    "{name} (driver: {driver}) computes wrongly: {what}, of {a:#010x} and {b:#010x}, is {right:#010x}, but it \
                     finds {found:#010x}; update its driver, or use another device or the CPU"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right() -> [[u32; RESULTS]; CASES.len()] {
        CASES.map(|case| case.expected().map(|(_, word)| word.unwrap_or(0x0bad)))
    }

    #[test]
    fn a_device_that_computes_wrongly_is_refused_with_the_case() {
        compare("a device", "1.2", &right()).unwrap();
        for (place, case) in CASES.iter().enumerate() {
            for (result, (what, expected)) in case.expected().into_iter().enumerate() {
                let mut wrong = right();
                wrong[place][result] ^= 4;
                match (expected, compare("a device", "1.2", &wrong)) {
                    (None, Ok(())) => (),
                    (Some(_), Err(Error::Device(fault))) => {
                        assert!(
                            fault.message.starts_with("a device (driver: 1.2) computes wrongly"),
                            "{}",
                            fault.message
                        );
                        assert!(fault.message.contains(what), "{}", fault.message);
                    }
                    (expected, outcome) => panic!("{what} of case {place}, which is {expected:?}: {outcome:?}"),
                }
            }
        }
    }

    #[test]
    fn a_device_that_rounds_halves_towards_zero_is_taken() {
        let mut towards_zero = right();
        for (case, computed) in CASES.iter().zip(&mut towards_zero) {
            if let Case::Floats(floats) = case {
                let half = |v: f32| {
                    let nearest = f16::from_f32(v);
                    u32::from(nearest.to_bits()) - u32::from(nearest.to_f32().abs() > v.abs())
                };
                computed[2] = half(floats[0]) | half(floats[1]) << 16;
            }
        }
        assert_ne!(towards_zero, right());
        compare("a device", "", &towards_zero).unwrap();
    }

    #[test]
    fn a_device_that_drops_small_halves_is_refused() {
        let mut dropped = right();
        dropped[0][0] = 0;
        assert!(compare("a device", "", &dropped).is_err());
    }
}
