//! Files that were cut, and files in which one number of the container is a lie.

use std::collections::BTreeSet;

use sterna::Error;
use sterna::model::Model;

use crate::counting_allocator::peak_bytes;
use crate::edit::{TemporaryFile, golden};
use crate::gguf_fields::{Kind, fields};
use crate::{FILES, Fate, memory};

#[test]
fn a_file_cut_anywhere_is_malformed_when_it_is_opened() {
    for name in FILES {
        let whole = golden(name);
        let mut file = TemporaryFile::new(&whole);
        Fate::of(&file.path).ran();
        // From the end, so that one file can be cut again and again. The golden files end with their last tensor's last
        // byte, so that no cut is harmless.
        for cut in (0..whole.len()).rev().step_by(97).chain([3, 0]) {
            file.cut(cut);
            match Fate::of(&file.path) {
                Fate::Refused(Error::Malformed(_)) => {}
                other => panic!("{name} cut at {cut}: {other:?}"),
            }
        }
    }
}

#[test]
fn bytes_behind_the_last_tensor_may_be_cut_off_and_no_more() {
    for name in FILES {
        let whole = golden(name);
        let mut file = TemporaryFile::new(&[&whole[..], &[0; 64]].concat());
        for length in (whole.len()..=whole.len() + 64).rev() {
            file.cut(length);
            Model::open(&file.path).unwrap();
        }
        Fate::of(&file.path).ran();
        file.cut(whole.len() - 1);
        assert!(matches!(Fate::of(&file.path), Fate::Refused(Error::Malformed(_))), "{name}");
    }
}

#[test]
fn every_count_length_axis_and_offset_that_lies_is_refused_without_much_memory() {
    for name in FILES {
        let original = golden(name);
        let length = original.len() as u64;
        let mut file = TemporaryFile::new(&original);
        let mut believed = BTreeSet::new();
        for field in fields(&original) {
            let mut truth = [0; 8];
            truth[..field.width].copy_from_slice(&original[field.at..field.end()]);
            let truth = u64::from_le_bytes(truth);
            let off_by_one = [truth.wrapping_sub(1), truth + 1, truth.wrapping_sub(32), truth + 32, 2 * truth];
            let anything = [0, 1, length, 8 * length, 1 << 31, u64::from(u32::MAX), i64::MAX as u64, 1 << 63, u64::MAX];
            for lie in off_by_one.into_iter().chain(anything) {
                let lie = if field.width == 4 { u64::from(lie as u32) } else { lie };
                if lie == truth {
                    continue;
                }
                file.overwrite(field.at, &lie.to_le_bytes()[..field.width]);
                let (result, peak) = peak_bytes(|| Model::open(&file.path).map(|_| ()));
                assert!(peak < memory::SMALL_MODEL_BYTES, "{name}: {field:?} = {lie}: {peak} bytes to {result:?}");
                match Fate::of(&file.path) {
                    Fate::Refused(Error::Malformed(_) | Error::Unsupported(_) | Error::Model(_)) => {}
                    Fate::Refused(error) => panic!("{name}: {field:?} = {lie}: {error}"),
                    Fate::Ran | Fate::Failed(_) => {
                        // Keys that nobody asks for may hold anything, and behind the last tensor, where a shorter type
                        // leaves a gap, too.
                        let is_legal = match field.kind {
                            Kind::Version | Kind::ValueType | Kind::TensorType => true,
                            // Without its last tensor, the llama's head is tied to its embedding.
                            Kind::Measure => field.name == "number of tensors" && name == FILES[1] && lie == truth - 1,
                            Kind::Axes => false,
                        };
                        assert!(is_legal, "{name}: {field:?} = {lie} was believed");
                        believed.insert(field.name);
                    }
                }
            }
            file.overwrite(field.at, &original[field.at..field.end()]);
        }
        believed.remove("number of tensors");
        believed.remove("tensor type");
        assert_eq!(believed, BTreeSet::from(["element type", "value type", "version"]), "{name}");
        Fate::of(&file.path).ran();
    }
}

#[test]
fn a_file_without_alignment_runs_like_the_aligned_one() {
    for name in FILES {
        let mut odd = crate::edit::parts(name);
        odd.alignment = 1;
        odd.set_u32("general.alignment", 1).set_text("general.name", "odd").fate().ran();
        odd.set_text("general.name", "even").fate().ran(); // all data one byte further
    }
}
