//! A model in the Hugging Face cache, where its file is a link to bytes that are named by their hash.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::server::Server;

#[test]
fn a_model_of_the_cache_has_the_name_of_its_repository() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot = cache.path().join("models--some-one--tales-GGUF/snapshots/0123456789abcdef0123456789abcdef01234567");
    let (blob, file) = (cache.path().join("e3d56132d499b210"), snapshot.join("tales.gguf"));
    std::fs::create_dir_all(&snapshot).unwrap();
    symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tales-4m-i2_s.gguf"), &blob).unwrap();
    symlink(&blob, &file).unwrap();
    for path in [&file, &snapshot] {
        let server = Server::start(&["--model", path.to_str().unwrap()]);
        assert_eq!(server.get("/v1/models").ok()["data"][0]["id"], "some-one/tales-GGUF");
        assert_eq!(server.get("/v1/models/some-one/tales-GGUF").ok()["id"], "some-one/tales-GGUF");
        let asked = r#"{"model":"some-one/tales-GGUF","prompt":"Once","max_tokens":1}"#;
        assert_eq!(server.post("/v1/completions", asked).ok()["model"], "some-one/tales-GGUF");
    }
}
