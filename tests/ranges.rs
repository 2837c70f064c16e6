//! Models of which pieces are read when they are needed, as a browser's page reads them: the same as from memory, and errors where
//! the source fails or lies.

use std::io::{Error as IoError, ErrorKind};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sterna::format::Ranges;
use sterna::model::OpenOptions;
use sterna::{Device, Error, GenerateOptions, Model, Session, SessionOptions};

/// A file in memory, with what was read of it.
struct Pieces {
    bytes: Vec<u8>,
    claimed: u64,
    fails_from: u64, // offsets that cannot be read
    read: Mutex<Vec<Range<u64>>>,
    largest: AtomicU64,
}

impl Pieces {
    fn new(bytes: Vec<u8>) -> Self {
        let claimed = bytes.len() as u64;
        Self { bytes, claimed, fails_from: u64::MAX, read: Mutex::default(), largest: AtomicU64::new(0) }
    }
}

impl Ranges for Pieces {
    fn size(&self) -> u64 {
        self.claimed
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), IoError> {
        let end = offset + bytes.len() as u64;
        assert!(end <= self.claimed, "nothing beyond the end is asked for");
        self.read.lock().unwrap().push(offset..end);
        self.largest.fetch_max(bytes.len() as u64, Ordering::Relaxed);
        if end > self.fails_from {
            return Err(IoError::other("the storage was cleared"));
        }
        let found = self.bytes.get(offset as usize..end as usize);
        bytes.copy_from_slice(found.ok_or_else(|| IoError::from(ErrorKind::UnexpectedEof))?);
        Ok(())
    }
}

fn shipped() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/models/tales-4m-i2_s.gguf")).unwrap()
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
    let gguf = sterna::format::gguf::Gguf::parse(shipped().into()).unwrap();
    let most = gguf.tensors().iter().map(|info| info.span as u64).max().unwrap().max(1 << 20);
    assert!(pieces.largest.load(Ordering::Relaxed) <= most && most < pieces.claimed);
}

#[test]
fn a_beginning_that_is_longer_than_the_first_piece_is_read_on() {
    // A key of two million bytes stands before all others.
    let (file, text) = (shipped(), vec![b'x'; 2 << 20]);
    let mut longer = file[..16].to_vec();
    longer.extend((u64::from_le_bytes(file[16..24].try_into().unwrap()) + 1).to_le_bytes());
    let key = b"general.description.of.all";
    longer.extend((key.len() as u64).to_le_bytes());
    longer.extend(key);
    longer.extend(8u32.to_le_bytes()); // a string
    // As long as keeps the alignment of what follows.
    let padding = (longer.len() + 8 + text.len() - 24).next_multiple_of(32) - (longer.len() + 8 + text.len() - 24);
    longer.extend(((text.len() + padding) as u64).to_le_bytes());
    longer.extend(text);
    longer.extend(vec![b'x'; padding]);
    longer.extend(&file[24..]);
    let whole = Model::from_bytes(longer.clone()).unwrap();
    let pieces = Arc::new(Pieces::new(longer));
    let model = Model::from_ranges(pieces.clone(), &OpenOptions::default()).unwrap();
    assert_eq!(model.config(), whole.config());
    let read = pieces.read.lock().unwrap();
    assert_eq!(read[..2], [0..1 << 20, 0..(4 << 20).min(pieces.claimed)]);
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
