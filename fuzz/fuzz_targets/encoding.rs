//! Each encoding: any bytes of any shape decode or give an error, and what decodes and can be written again reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sterna::format::Weights;
use sterna::format::encodings::{Encoding, I2sLayout, TlScale, absmean, hidden};
use sterna_fuzz::Input;
use sterna_fuzz::input::LIES;

const ALL: [Encoding; 32] = [
    Encoding::F32,
    Encoding::F16,
    Encoding::Bf16,
    Encoding::Q4_0,
    Encoding::Q4_1,
    Encoding::Q5_0,
    Encoding::Q5_1,
    Encoding::Q8_0,
    Encoding::Q2K,
    Encoding::Q3K,
    Encoding::Q4K,
    Encoding::Q5K,
    Encoding::Q6K,
    Encoding::I2S,
    Encoding::Tq1_0,
    Encoding::Tq2_0,
    Encoding::Q2_0,
    Encoding::Pq2_0,
    Encoding::Ptq1_0,
    Encoding::Iq1Bn,
    Encoding::Iq2Bn,
    Encoding::Iq2BnR4,
    Encoding::Stq1_0,
    Encoding::Tl1(TlScale::Inside),
    Encoding::Tl1(TlScale::Beside),
    Encoding::Tl2(TlScale::Inside),
    Encoding::Tl2(TlScale::Beside),
    Encoding::I2V,
    Encoding::I2V4,
    Encoding::I2V8,
    Encoding::I1V,
    Encoding::I1V2,
];

/// The dense encodings that write again what they read.
const EXACT: [Encoding; 4] = [Encoding::F32, Encoding::F16, Encoding::Bf16, Encoding::Q8_0];

/// The smallest matrix whose tiles of TL1 and TL2 are known. It is large for a fuzzer, so it comes seldom.
const TILED: (usize, usize) = (1536, 1536);

/// More bytes than this are not made: decoding them shows nothing that fewer do not.
const LARGEST: usize = 1 << 15;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let encoding = input.one_of(&ALL);
    let (rows, cols) = shape(&mut input, encoding);
    let layout = if input.chance(4) { I2sLayout::Block64 } else { I2sLayout::default() };
    let is_short = input.chance(32);
    let decode = |bytes: Vec<u8>| encoding.decode(&bytes.into(), rows, cols, layout);

    let size = match encoding.size(rows, cols) {
        Ok(size) if size <= LARGEST || (rows, cols) == TILED => size,
        other => {
            let outcome = decode(input.0.to_vec());
            assert!(outcome.is_err(), "{encoding} [{rows}, {cols}] of {} bytes, {other:?}", input.0.len());
            return;
        }
    };
    let mut bytes = input.0.to_vec();
    if !is_short {
        // Nothing is learnt from a tensor whose bytes are all the same, so what was given is repeated.
        bytes = bytes.iter().chain([0].iter().filter(|_| bytes.is_empty())).copied().cycle().take(size).collect();
    }
    let Ok(weights) = decode(bytes) else { return };
    assert_eq!((weights.rows(), weights.cols()), (rows, cols));
    match &weights {
        Weights::Ternary(ternary) => {
            for row in 0..rows {
                // I2_S that is not copied may hold code 3 beyond the sample.
                assert!(ternary.row_trits(row).all(|trit| (-1..=1).contains(&trit) || encoding == Encoding::I2S));
                assert!(ternary.scale(row, cols - 1).is_finite());
            }
        }
        Weights::Dense(dense) => {
            assert_eq!(dense.to_f32().len(), rows * cols);
            if let Ok(Some(found)) = hidden::hidden_ternary(dense) {
                assert_eq!((found.ternary.rows(), found.ternary.cols()), (rows, cols));
            }
            if let Ok(found) = absmean::absmean(dense) {
                assert_eq!((found.rows(), found.cols()), (rows, cols));
            }
        }
    }
    for again in ALL {
        if (rows, cols) != TILED || again == encoding {
            write_and_read(&weights, encoding, again);
        }
    }
});

/// Mostly small shapes of whole blocks, some of none, some of any size.
fn shape(input: &mut Input, encoding: Encoding) -> (usize, usize) {
    if matches!(encoding, Encoding::Tl1(_) | Encoding::Tl2(_)) && input.chance(16) {
        return TILED;
    }
    let rows = match input.byte() {
        choice @ 0..=223 => 1 + usize::from(choice) % 17,
        choice => LIES[usize::from(choice) % LIES.len()] as usize,
    };
    let choice = usize::from(input.byte());
    let cols = match choice % 4 {
        0 => 256 * (1 + choice / 64),
        1 => 128 * (1 + choice / 32),
        2 => 4 * (1 + choice / 4),
        _ => LIES[choice / 4 % LIES.len()] as usize,
    };
    (rows, cols)
}

fn write_and_read(weights: &Weights, from: Encoding, to: Encoding) {
    let (rows, cols) = (weights.rows(), weights.cols());
    if let Weights::Ternary(ternary) = weights
        && from == Encoding::I2S
        && (0..rows).any(|row| ternary.row_trits(row).any(|trit| trit > 1))
    {
        return;
    }
    let Ok(bytes) = to.encode(weights) else { return };
    assert_eq!(Ok(bytes.len()), to.size(rows, cols).map_err(|_| ()), "{from} as {to}");
    let again = to.decode(&bytes.into(), rows, cols, I2sLayout::default());
    let again = again.unwrap_or_else(|error| panic!("{from} as {to} [{rows}, {cols}] is not read: {error}"));
    match (weights, &again) {
        (Weights::Ternary(before), Weights::Ternary(after)) => {
            for row in 0..rows {
                assert!(before.row_trits(row).eq(after.row_trits(row)), "{from} as {to}: row {row}");
            }
        }
        // These become what they were; all others are rounded.
        (Weights::Dense(before), Weights::Dense(after)) if from == to && EXACT.contains(&to) => {
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            assert_eq!(bits(before.to_f32()), bits(after.to_f32()), "{from}");
        }
        _ => {}
    }
}
