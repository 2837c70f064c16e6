//! Models in several files: any part opens all of them, and a part that is missing, or is not what its name says, is an error
//! that names it.

use std::path::{Path, PathBuf};

use sterna::format::gguf::Gguf;
use sterna::model::{Model, OpenOptions};

use crate::edit::parts;
use crate::gguf_writer::{GgufWriter, string};
use crate::{FILES, session};

/// The parts of a model in a directory of their own, which is removed with them.
struct Split {
    directory: PathBuf,
    files: Vec<GgufWriter>,
}

impl Split {
    /// A golden file in three parts, as `llama-gguf-split` makes them: the first has the keys and some tensors.
    fn of(name: &str, test: &str) -> Self {
        let mut whole = parts(name);
        let all = whole.tensors.len();
        let mut files: Vec<GgufWriter> = (0..3).map(|_| GgufWriter::new()).collect();
        files[0].pairs = std::mem::take(&mut whole.pairs);
        for (place, tensor) in whole.tensors.into_iter().enumerate() {
            files[3 * place / all].tensors.push(tensor);
        }
        for (number, file) in files.iter_mut().enumerate() {
            file.set("split.no", 2, (number as u16).to_le_bytes());
            file.set("split.count", 2, 3_u16.to_le_bytes());
            file.set("split.tensors.count", 5, (all as i32).to_le_bytes());
        }
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("split-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        Self { directory, files }
    }

    fn path(&self, number: usize) -> PathBuf {
        self.directory.join(format!("part-{:05}-of-00003.gguf", number + 1))
    }

    fn written(self) -> Self {
        for (number, file) in self.files.iter().enumerate() {
            std::fs::write(self.path(number), file.bytes()).unwrap();
        }
        self
    }

    /// Opening any of the `given` parts must fail with a text that names the file of one of them and says all of this.
    #[track_caller]
    fn refused(&self, given: &[usize], part: usize, says: &[&str]) {
        for &given in given {
            let Err(error) = Model::open(self.path(given)) else { panic!("it opened") };
            let text = error.to_string();
            let name = self.path(part).display().to_string();
            assert!(
                text.contains(&name) && says.iter().all(|part| text.contains(part)),
                "{text} lacks {name} {says:?}"
            );
            assert!(text.len() < 1500 && !text.contains(char::is_control), "{text:?}");
        }
    }
}

impl Drop for Split {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).ok(); // a build directory: what stays does no harm
    }
}

/// The bits of the logits after a token.
fn logits(model: &Model) -> Vec<u32> {
    session(model).unwrap().logits(&[1]).unwrap().iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn any_part_of_a_split_model_opens_all_of_it() {
    for name in FILES {
        let split = Split::of(name, "whole").written();
        let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(name);
        let wanted = Model::open(&whole).unwrap();
        for (given, map) in [(0, true), (1, false), (2, true)] {
            let model = Model::open_with(split.path(given), &OpenOptions { map, ..OpenOptions::default() }).unwrap();
            assert_eq!(model.config(), wanted.config());
            for role in wanted.roles() {
                let text = |model: &Model| format!("{:?}", model.weights(role).unwrap());
                assert_eq!(text(&model), text(&wanted), "{role:?}");
            }
            assert_eq!(logits(&model), logits(&wanted));
            let decision = model.decisions().iter().find(|decision| decision.subject == "files").unwrap();
            assert!(decision.choice.contains("3 parts"), "{decision}");
        }
        let (split, whole) = (Gguf::open(&split.path(1)).unwrap(), Gguf::open(&whole).unwrap());
        let names = |gguf: &Gguf| gguf.tensors().iter().map(|info| info.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&split), names(&whole));
        assert!(split.file_bytes() > whole.file_bytes() && split.tensors().iter().any(|info| info.part == 2));
    }
}

#[test]
fn a_first_part_may_have_keys_alone() {
    let mut split = Split::of(FILES[0], "keys");
    let moved = std::mem::take(&mut split.files[0].tensors);
    split.files[1].tensors.extend(moved);
    Model::open(split.written().path(2)).unwrap();
}

#[test]
fn a_missing_or_damaged_part_is_named() {
    let split = Split::of(FILES[0], "missing").written();
    std::fs::remove_file(split.path(1)).unwrap();
    for given in [0, 2] {
        let error = Model::open(split.path(given)).unwrap_err().to_string();
        assert!(["part-00002-of-00003.gguf", "file 2 of the 3"].iter().all(|part| error.contains(part)), "{error}");
    }
    std::fs::write(split.path(1), b"GGUF").unwrap();
    split.refused(&[0, 1, 2], 1, &["ends"]);
    std::fs::remove_file(split.path(1)).unwrap();
    std::fs::create_dir(split.path(1)).unwrap();
    split.refused(&[0, 2], 1, &["directory"]);
}

#[test]
fn a_part_that_contradicts_its_name_or_the_others_is_named() {
    let changed = |test: &str, change: &dyn Fn(&mut [GgufWriter])| {
        let mut split = Split::of(FILES[0], test);
        change(&mut split.files);
        split.written()
    };
    let all = [0, 1, 2];
    let set = |file: &mut GgufWriter, key: &str, value: u16| {
        file.set(key, 2, value.to_le_bytes());
    };
    changed("number", &|files| set(&mut files[1], "split.no", 2)).refused(&all, 1, &["split.no"]);
    changed("swapped", &|files| files.swap(1, 2)).refused(&[0, 1], 1, &["split.no"]);
    changed("count", &|files| set(&mut files[1], "split.count", 4)).refused(&all, 1, &["split.count"]);
    let unset = |files: &mut [GgufWriter]| {
        files[1].unset("split.count");
    };
    changed("no-count", &unset).refused(&all, 1, &["split.count"]);
    // Of two numbers that contradict each other, the one of the part that was asked for counts.
    let few = changed("few", &|files| set(&mut files[2], "split.tensors.count", 7));
    few.refused(&[0, 1], 2, &["split.tensors.count"]);
    few.refused(&[2], 0, &["split.tensors.count", "7"]);
    let less = changed("less", &|files| {
        files[2].tensors.pop();
    });
    less.refused(&[1], 1, &["tensors together", "split.tensors.count"]);
    let described = |files: &mut [GgufWriter]| {
        files[2].set("general.architecture", 8, string("llama"));
    };
    changed("keys", &described).refused(&all, 2, &["general.architecture", "not the first"]);
    let twice = |files: &mut [GgufWriter]| {
        let again = &files[1].tensors[0];
        let (name, shape, data) =
            (String::from_utf8(again.name.clone()).unwrap(), again.shape.clone(), again.data.clone());
        let type_id = again.type_id;
        files[2].add(&name, &shape, type_id, data);
        let all: usize = files.iter().map(|file| file.tensors.len()).sum();
        files.iter_mut().for_each(|file| {
            file.set("split.tensors.count", 5, (all as i32).to_le_bytes());
        });
    };
    changed("twice", &twice).refused(&all, 2, &["is in", "part-00002-of-00003.gguf"]);
}

#[test]
fn counts_that_lie_cost_nothing_and_a_part_by_another_name_says_so() {
    let opened = |count: u16, name: &str| {
        let mut split = Split::of(FILES[0], "lies");
        split.files.truncate(1);
        split.files[0].set("split.count", 2, count.to_le_bytes());
        std::fs::write(split.directory.join(name), split.files[0].bytes()).unwrap();
        Model::open(split.directory.join(name)).unwrap_err().to_string()
    };
    let error = opened(65_535, "part-00001-of-65535.gguf");
    assert!(["part-00002-of-65535.gguf", "not there"].iter().all(|part| error.contains(part)), "{error}");
    // The others are looked for beside it, by its own name: nothing in the file says where.
    for name in ["model.gguf", "part-00001-of-00003.gguf", "part-00002-of-00004.gguf"] {
        let error = opened(4, name);
        assert!([name, "file 1 of 4", "-of-00004.gguf", "merge"].iter().all(|part| error.contains(part)), "{error}");
    }
    // Without a split, any name will do.
    assert!(opened(1, "part-00007-of-00009.gguf").contains("is missing"), "a third of the tensors");
}
