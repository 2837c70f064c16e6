//! A directory whose weights are read into memory instead of mapped.

use sterna::model::{Model, OpenOptions};

use crate::counting_allocator::peak_bytes;
use crate::directory::Directory;
use crate::golden::{check, open};
use crate::shards::cut;

fn read(directory: &Directory) -> Model {
    Model::open_with(&directory.path, &OpenOptions { map: false, ..OpenOptions::default() }).unwrap()
}

#[test]
fn a_directory_that_was_read_gives_the_logits_of_the_reference_after_it_was_deleted() {
    let directory = Directory::golden("bitnet-256");
    let mapped = open(&directory.path);
    let model = read(&directory);
    assert_eq!((model.config(), model.roles()), (mapped.config(), mapped.roles()));
    assert!(model.decisions().iter().any(|decision| decision.choice == "read into memory"));
    drop(mapped);
    for file in ["model.safetensors", "config.json", "tokenizer.json"] {
        // Truncated before, as a deleted file keeps its bytes while it is mapped.
        directory.write(file, b"");
    }
    drop(directory);
    check(&model, "bitnet-256");
    assert_eq!(model.tokenizer().unwrap().vocabulary_size(), 512);
}

#[test]
fn shards_are_read_each_into_memory_of_its_length() {
    let directory = Directory::golden("bitnet-256");
    cut(&directory);
    let shard = |number| format!("model-0000{number}-of-00002.safetensors");
    let weights: usize = [1, 2].map(|number| directory.bytes(&shard(number)).len()).iter().sum();
    let (model, peak) = peak_bytes(|| read(&directory));
    let (mapped, mapped_peak) = peak_bytes(|| Model::open(&directory.path).unwrap());
    drop(mapped);
    assert!(
        peak >= weights && peak < weights + mapped_peak + (64 << 10),
        "{peak} bytes for {weights}, not {mapped_peak}"
    );
    for number in [1, 2] {
        directory.write(&shard(number), b"");
    }
    check(&model, "bitnet-256");
}
