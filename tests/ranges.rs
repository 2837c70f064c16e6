//! Models of which pieces are read when they are needed, as a browser's page reads them: the same as from memory, and errors where
//! the source fails or lies.

use std::io::{Error as IoError, ErrorKind};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sterna::format::Ranges;
use sterna::format::gguf::Gguf;
use sterna::model::OpenOptions;
use sterna::{Device, Error, GenerateOptions, Model, Session, SessionOptions};

/// A file in memory, with what was read of it.
struct Pieces {
    bytes: Vec<u8>,
    claimed: u64,
    fails_from: u64,           // offsets that cannot be read
    fails_once: Option<usize>, // the place, among all reads, of one that fails
    read: Mutex<Vec<Range<u64>>>,
    largest: AtomicU64,
}

impl Pieces {
    fn new(bytes: Vec<u8>) -> Self {
        let claimed = bytes.len() as u64;
        Self {
            bytes,
            claimed,
            fails_from: u64::MAX,
            fails_once: None,
            read: Mutex::default(),
            largest: AtomicU64::new(0),
        }
    }
}

impl Ranges for Pieces {
    fn size(&self) -> u64 {
        self.claimed
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), IoError> {
        let end = offset + bytes.len() as u64;
        assert!(end <= self.claimed, "nothing beyond the end is asked for");
        let mut read = self.read.lock().unwrap();
        read.push(offset..end);
        self.largest.fetch_max(bytes.len() as u64, Ordering::Relaxed);
        if end > self.fails_from || self.fails_once == Some(read.len() - 1) {
            return Err(IoError::other("the storage was cleared"));
        }
        let found = self.bytes.get(offset as usize..end as usize);
        bytes.copy_from_slice(found.ok_or_else(|| IoError::from(ErrorKind::UnexpectedEof))?);
        Ok(())
    }
}

fn file(path: &str) -> Vec<u8> {
    std::fs::read(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn shipped() -> Vec<u8> {
    file("models/tales-4m-i2_s.gguf")
}

fn begin_of_tensors(file: &[u8]) -> usize {
    let gguf = Gguf::parse(file.to_vec().into()).unwrap();
    gguf.tensors().iter().map(|info| info.offset).min().unwrap()
}

/// The file with a key before all others, which makes it that many bytes longer, or some more that keep its alignment.
fn with_long_key(file: &[u8], more: usize) -> Vec<u8> {
    let mut longer = file[..16].to_vec();
    longer.extend((u64::from_le_bytes(file[16..24].try_into().unwrap()) + 1).to_le_bytes());
    let key = b"general.description.of.all";
    longer.extend((key.len() as u64).to_le_bytes());
    longer.extend(key);
    longer.extend(8u32.to_le_bytes()); // a string
    let head = longer.len() + 8 - 24;
    let text = more.next_multiple_of(32).max(head) - head;
    longer.extend((text as u64).to_le_bytes());
    longer.extend(vec![b'x'; text]);
    longer.extend(&file[24..]);
    longer
}

/// Files of several encodings whose tensors lie behind the first piece that is read, with what each is there for.
fn behind_the_first_piece() -> Vec<(&'static str, Vec<u8>)> {
    let mut zeros = file("tests/data/golden/bitnet-256/tq1_0.gguf");
    let gguf = Gguf::parse(zeros.clone().into()).unwrap();
    let info = gguf.tensor("blk.0.ffn_up.weight").unwrap();
    zeros[info.offset..info.offset + info.span].fill(0);
    let files = [
        ("no blocks", shipped()),
        ("blocks of which some are zero", zeros),
        ("a number of several meanings", file("tests/data/golden/qwen3-256/q2_0_g128.gguf")),
        ("ternary weights hidden in floats", file("tests/data/golden/bitnet-128-online/f16.gguf")),
    ];
    files
        .map(|(what, file)| {
            let more = (1 << 20) - 64 - begin_of_tensors(&file);
            let longer = with_long_key(&file, more);
            assert!((begin_of_tensors(&longer) + 64).abs_diff(1 << 20) <= 64, "{what}");
            (what, longer)
        })
        .into()
}

fn open(pieces: Pieces) -> Result<Model, Error> {
    Model::from_ranges(Arc::new(pieces), &OpenOptions::default())
}

fn greedy(model: &Model) -> Vec<u32> {
    let mut session = Session::new(model, &Device::cpu(), &SessionOptions::default()).unwrap();
    let options = GenerateOptions { max_tokens: 24, ..GenerateOptions::greedy() };
    session.generate_ids(&[1, 2, 3], &options).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn pieces_make_the_model_of_the_whole_file() {
    let whole = Model::from_bytes(shipped()).unwrap();
    let pieces = open(Pieces::new(shipped())).unwrap();
    assert_eq!(pieces.config(), whole.config());
    assert_eq!(greedy(&pieces), greedy(&whole));
}

#[test]
fn no_piece_is_larger_than_the_beginning_or_a_tensor() {
    let pieces = Arc::new(Pieces::new(shipped()));
    let model = Model::from_ranges(pieces.clone(), &OpenOptions::default()).unwrap();
    greedy(&model);
    let gguf = Gguf::parse(shipped().into()).unwrap();
    let most = gguf.tensors().iter().map(|info| info.span as u64).max().unwrap().max(1 << 20);
    assert!(pieces.largest.load(Ordering::Relaxed) <= most && most < pieces.claimed);
}

#[test]
fn a_beginning_that_is_longer_than_the_first_piece_is_read_on() {
    let longer = with_long_key(&shipped(), 2 << 20);
    let whole = Model::from_bytes(longer.clone()).unwrap();
    let pieces = Arc::new(Pieces::new(longer));
    let model = Model::from_ranges(pieces.clone(), &OpenOptions::default()).unwrap();
    assert_eq!(model.config(), whole.config());
    let read = pieces.read.lock().unwrap();
    assert_eq!(read[..2], [0..1 << 20, 1 << 20..(4 << 20).min(pieces.claimed)]);
}

#[test]
fn what_opening_decides_is_the_same_as_from_memory() {
    for (what, file) in behind_the_first_piece() {
        let (whole, pieces) = (Model::from_bytes(file.clone()).unwrap(), open(Pieces::new(file)).unwrap());
        let told = |model: &Model| model.decisions().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(told(&pieces), told(&whole), "{what}");
    }
}

#[test]
fn opening_reads_a_few_places_and_loading_the_rest_once() {
    for (what, file) in behind_the_first_piece() {
        let length = file.len() as u64;
        let pieces = Arc::new(Pieces::new(file));
        let read = || pieces.read.lock().unwrap().iter().map(|range| range.end - range.start).sum::<u64>();
        let model = Model::from_ranges(pieces.clone(), &OpenOptions::default()).unwrap();
        let opening = read() - (1 << 20);
        let tensors = length - (1 << 20);
        // What looks empty or may hide trits is read as a whole, one tensor each here.
        let most = if what == "no blocks" { tensors / 10 } else { tensors / 3 };
        assert!(opening < most, "{what}: {opening} of {tensors} bytes");
        Session::new(&model, &Device::cpu(), &SessionOptions::default()).unwrap();
        assert!(read() <= length + opening, "{what}: {} of {length} bytes, {opening} of them before", read());
    }
}

#[test]
fn whichever_read_fails_the_error_says_why_it_could_not_be_read() {
    let attempt = |pieces: &Arc<Pieces>| {
        let model = Model::from_ranges(pieces.clone(), &OpenOptions::default())?;
        Session::new(&model, &Device::cpu(), &SessionOptions::default()).map(|_| ())
    };
    for (what, file) in behind_the_first_piece() {
        let sound = Arc::new(Pieces::new(file.clone()));
        attempt(&sound).unwrap();
        let count = sound.read.lock().unwrap().len();
        for place in (0..count).step_by(count.div_ceil(60)).chain([count - 1]) {
            let pieces = Arc::new(Pieces { fails_once: Some(place), ..Pieces::new(file.clone()) });
            match attempt(&pieces) {
                Err(error @ Error::Io { .. }) => {
                    assert!(error.to_string().contains("the storage was cleared"), "{error}")
                }
                other => panic!("{what}, read {place} of {count}: {other:?}"),
            }
        }
    }
}

#[test]
fn another_format_is_named_however_long_its_header_is() {
    let header = 2u64 << 20;
    let mut safetensors = header.to_le_bytes().to_vec();
    safetensors.push(b'{');
    safetensors.resize(8 + header as usize + 1000, b' ');
    let error = open(Pieces::new(safetensors)).unwrap_err().to_string();
    assert!(error.contains("this is a safetensors file"), "{error}");
}

#[test]
fn a_source_that_fails_is_an_error_that_says_so() {
    let file = shipped();
    let length = file.len() as u64;
    for fails_from in [0, 100, length / 2, length - 1] {
        let pieces = Pieces { fails_from, ..Pieces::new(file.clone()) };
        let outcome = open(pieces).and_then(|model| Session::new(&model, &Device::cpu(), &SessionOptions::default()));
        match outcome.map(|_| ()) {
            Err(error @ Error::Io { .. }) => assert!(error.to_string().contains("the storage was cleared"), "{error}"),
            other => panic!("{fails_from}: {other:?}"),
        }
    }
}

#[test]
fn a_file_that_is_cut_off_is_an_error_as_from_memory() {
    let file = shipped();
    for length in [0, 3, 20, 1000, file.len() / 2, file.len() - 5000] {
        let cut = file[..length].to_vec();
        let [ours, theirs] =
            [open(Pieces::new(cut.clone())), Model::from_bytes(cut)].map(|model| model.unwrap_err().to_string());
        assert_eq!(ours, theirs, "{length} bytes");
    }
}

#[test]
fn a_length_that_is_not_there_is_an_error() {
    for claimed in [u64::MAX, 1 << 60, shipped().len() as u64 + 4096] {
        let pieces = Pieces { claimed, ..Pieces::new(shipped()) };
        let outcome = open(pieces).and_then(|model| Session::new(&model, &Device::cpu(), &SessionOptions::default()));
        assert!(outcome.is_err(), "{claimed}");
    }
}

#[test]
fn counts_that_lie_take_no_memory() {
    // Keys, tensors and the length of a string beyond the file.
    for (place, count) in [(8, 1u64 << 40), (16, 1 << 40), (24, 1 << 40), (24, u64::MAX)] {
        let mut file = shipped();
        file[place..place + 8].copy_from_slice(&count.to_le_bytes());
        let pieces = Arc::new(Pieces::new(file));
        let outcome = Model::from_ranges(pieces.clone(), &OpenOptions::default());
        assert!(matches!(outcome.map(|_| ()), Err(Error::Malformed(_))), "{place}");
        assert!(pieces.largest.load(Ordering::Relaxed) <= pieces.claimed);
    }
}
