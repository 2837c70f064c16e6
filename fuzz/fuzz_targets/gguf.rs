//! GGUF to tokens: a small sound file with changes is refused, or runs to the same tokens however its rows are computed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sterna::Model;
use sterna_fuzz::gguf::cook;
use sterna_fuzz::run::{Way, check_from};
use sterna_fuzz::{Input, scratch};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    // Few inputs are files as they are, for the reader of headers.
    let is_raw = input.chance(16);
    let way = Way::choose(&mut input);
    let bytes = if is_raw { input.0.to_vec() } else { cook(&mut input) };
    scratch::keep(&bytes);
    check_from(bytes.len(), way, || Model::from_bytes(bytes));
});
