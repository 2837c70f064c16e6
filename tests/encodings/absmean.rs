//! Latent weights become trits by the mean of their magnitudes.

use sterna::format::encodings::absmean::absmean;
use sterna::format::encodings::float::{encode_bf16, encode_f32};
use sterna::format::{Dense, Scales, Values};

#[test]
fn a_weight_beyond_half_the_mean_is_a_trit_and_ties_go_to_even() {
    // Mean magnitude 2: the scaled values are 0.25, −0.5, 0.5000001, −2, 1.75, 1.
    let values = [0.5_f32, -1.0, 1.000_000_2, -4.0, 3.499_999_8, 2.0];
    let dense = Dense::new(2, 3, Values::F32(encode_f32(&values).into())).unwrap();
    let ternary = absmean(&dense).unwrap();
    let trits: Vec<i8> = (0..2).flat_map(|row| ternary.row_trits(row)).collect();
    assert_eq!(trits, [0, 0, 1, -1, 1, 1]);
    assert_eq!(*ternary.scales(), Scales::Tensor(2.0));
}

#[test]
fn zeros_stay_zeros_and_what_is_not_finite_is_refused() {
    let zeros = Dense::new(1, 130, Values::Bf16(encode_bf16(&[0.0; 130]).into())).unwrap();
    assert!(absmean(&zeros).unwrap().row_trits(0).all(|trit| trit == 0));
    let broken = Dense::new(1, 2, Values::F32(encode_f32(&[1.0, f32::NAN]).into())).unwrap();
    assert!(absmean(&broken).is_err());
}
