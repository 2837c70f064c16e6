//! Directories in Hugging Face form to tokens: a small sound one with changes is refused, or runs.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sterna::Model;
use sterna_fuzz::directory::Directory;
use sterna_fuzz::run::{Way, check_from};
use sterna_fuzz::{Input, scratch};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let way = Way::choose(&mut input);
    let directory = Directory::cook(&mut input);
    let folder = scratch::path("directory");
    directory.write(&folder);
    let bytes = directory.files.iter().map(|(_, bytes)| bytes.len()).sum();
    check_from(bytes, way, || Model::open(&folder));
});
