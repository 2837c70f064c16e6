//! Models by their names on Hugging Face: found in a cache, or told how they get there. Without a network.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::outputs::make_pipe;
use crate::{EMBEDDING, SHIPPED, program, run};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffff";

/// A cache as `hf` leaves it: bytes under the names of their hashes, links to them from snapshots, and names of commits.
struct Cache(TempDir);

impl Cache {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn home(&self, repository: &str) -> PathBuf {
        self.path().join(format!("models--{}", repository.replace('/', "--")))
    }

    /// Puts a file of this project into a commit.
    fn put(&self, repository: &str, commit: &str, name: &str, file: &str) {
        let (home, file) = (self.home(repository), Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
        let place = home.join("snapshots").join(commit).join(name);
        let blob = home.join("blobs").join(format!("{commit}-{}", name.replace('/', "-")));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::create_dir_all(blob.parent().unwrap()).unwrap();
        fs::copy(file, &blob).unwrap();
        let up = "../".repeat(2 + name.split('/').count() - 1);
        symlink(format!("{up}blobs/{}", blob.file_name().unwrap().to_str().unwrap()), place).unwrap();
    }

    /// Has a name stand for a commit.
    fn name(&self, repository: &str, revision: &str, commit: &str) {
        let refs = self.home(repository).join("refs");
        fs::create_dir_all(&refs).unwrap();
        fs::write(refs.join(revision), commit).unwrap();
    }

    /// A repository of one GGUF file.
    fn with_model() -> Self {
        let cache = Self::new();
        cache.put("someone/tales", COMMIT, "tales.gguf", SHIPPED);
        cache.put("someone/tales", COMMIT, "README.md", "models/README.md");
        cache.name("someone/tales", "main", COMMIT);
        cache
    }
}

/// A program that finds this cache and no other.
fn with(program: Command, cache: &Path) -> Command {
    let mut program = program;
    for variable in ["HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"] {
        program.env_remove(variable);
    }
    program.env("HOME", "/nonexistent").env("HF_HUB_CACHE", cache);
    program
}

/// What `inspect` says of a model: status, stdout, stderr.
fn inspect(cache: &Cache, model: &str) -> (Option<i32>, String, String) {
    run(with(program("inspect"), cache.path()).args(["--model", model]))
}

/// The file that is opened, from the first line of `inspect`, which must succeed.
fn opened(cache: &Cache, model: &str) -> PathBuf {
    let (status, out, told) = inspect(cache, model);
    assert_eq!(status, Some(0), "{model}: {told}");
    PathBuf::from(out.split_once(": ").unwrap().0).strip_prefix(cache.path()).unwrap().to_owned()
}

/// What is said of a model that is not found.
fn complaint(cache: &Cache, model: &str) -> String {
    let (status, out, told) = inspect(cache, model);
    assert!(status == Some(2) && out.is_empty() && told.starts_with("error: "), "{model}: {out}{told}");
    told
}

fn snapshot(repository: &str, commit: &str, name: &str) -> PathBuf {
    PathBuf::from(format!("models--{}/snapshots/{commit}", repository.replace('/', "--"))).join(name)
}

#[test]
fn every_program_finds_a_model_of_the_cache() {
    let cache = Cache::with_model();
    cache.put("someone/vectors", COMMIT, "i2_s.gguf", EMBEDDING);
    cache.name("someone/vectors", "main", COMMIT);
    let (prompt, to) = (cache.path().join("prompt.txt"), cache.path().join("out.gguf"));
    fs::write(&prompt, "Who are you?").unwrap();
    for (name, arguments) in [
        ("generate", &["--device", "cpu", "-n", "2", "--greedy", "--model", "hf:someone/tales"][..]),
        ("chat", &["--device", "cpu", "-n", "2", "-m", "hf:someone/tales"]),
        ("inspect", &["--model", "hf:someone/tales/tales.gguf"]),
        ("embed", &["--device", "cpu", "--model", "hf:someone/vectors", "a tern"]),
        ("convert", &["hf:someone/tales", to.to_str().unwrap(), "--to", "tq1_0"]),
        ("validate", &["--quick", "--only", "cache", "--runs", "1", "--model", "hf:someone/tales"]),
    ] {
        let told = |arguments: &[String]| {
            let mut program = with(program(name), cache.path());
            run(program.args(arguments).stdin(fs::File::open(&prompt).unwrap()))
        };
        let (status, out, complaint) = told(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>());
        // What was measured may be too slow.
        let works =
            status == Some(0) || name == "validate" && status == Some(1) && out.contains("models--someone--tales");
        assert!(works, "{name}: {status:?} {complaint}");
        let missing: Vec<_> = arguments.iter().map(|word| word.replace("hf:someone", "hf:nobody")).collect();
        let (status, _, complaint) = told(&missing);
        assert!(status == Some(2) && complaint.contains("hf download nobody/"), "{name}: {complaint}");
    }
}

#[test]
fn a_name_means_the_commit_that_its_revision_names() {
    let cache = Cache::with_model();
    let tales = |commit, name| snapshot("someone/tales", commit, name);
    assert_eq!(opened(&cache, "hf:someone/tales"), tales(COMMIT, "tales.gguf"));
    assert_eq!(opened(&cache, "hf:someone/tales/tales.gguf"), tales(COMMIT, "tales.gguf"));
    cache.put("someone/tales", OTHER, "tales.gguf", SHIPPED);
    assert_eq!(opened(&cache, "hf:someone/tales"), tales(COMMIT, "tales.gguf"));
    cache.name("someone/tales", "v1.0", &format!("{OTHER}\n"));
    for name in ["hf:someone/tales@v1.0", &format!("hf:someone/tales@{OTHER}/tales.gguf")] {
        assert_eq!(opened(&cache, name), tales(OTHER, "tales.gguf"));
    }
    cache.name("someone/tales", "main", OTHER);
    assert_eq!(opened(&cache, "hf:someone/tales"), tales(OTHER, "tales.gguf"));
    let told = complaint(&cache, "hf:someone/tales@v2.0");
    assert!(told.contains(&format!("without revision v2.0; there is main, v1.0, {COMMIT}, {OTHER}.")), "{told}");
    assert!(told.contains("\n    hf download someone/tales --revision v2.0\n"), "{told}");
}

#[test]
fn a_repository_without_a_file_named_means_its_one_model() {
    let cache = Cache::with_model();
    cache.put("someone/tales", COMMIT, "mmproj-tales.gguf", SHIPPED);
    assert_eq!(opened(&cache, "hf:someone/tales"), snapshot("someone/tales", COMMIT, "tales.gguf"));
    cache.put("someone/tales", COMMIT, "other.gguf", SHIPPED);
    let told = complaint(&cache, "hf:someone/tales");
    assert!(told.contains("other.gguf, tales.gguf (in the form hf:someone/tales/FILE)"), "{told}");
    assert_eq!(opened(&cache, "hf:someone/tales/other.gguf"), snapshot("someone/tales", COMMIT, "other.gguf"));

    cache.put("someone/parts", COMMIT, "sub/tales.gguf", SHIPPED);
    cache.name("someone/parts", "main", COMMIT);
    let place = snapshot("someone/parts", COMMIT, "sub/tales.gguf");
    assert_eq!(opened(&cache, "hf:someone/parts/sub/tales.gguf"), place);
    assert_eq!(opened(&cache, "hf:someone/parts/sub"), place);

    let golden = |name: &str| format!("tests/data/golden/{name}");
    cache.put("someone/folder", COMMIT, "model.safetensors", &golden("bitnet-256/model.safetensors"));
    cache.name("someone/folder", "main", COMMIT);
    let told = complaint(&cache, "hf:someone/folder");
    assert!(told.contains("nor config.json") && told.contains("\n    hf download someone/folder\n"), "{told}");
    cache.put("someone/folder", COMMIT, "config.json", &golden("bitnet-256/config.json"));
    cache.put("someone/folder", COMMIT, "tokenizer.json", &golden("tokenizer.json"));
    assert_eq!(opened(&cache, "hf:someone/folder"), snapshot("someone/folder", COMMIT, ""));
}

/// Word for word, to be copied.
#[test]
fn what_is_not_there_is_told_with_the_command_that_fetches_it() {
    let cache = Cache::with_model();
    let url = "https://huggingface.co/someone/birds/resolve/main";
    let told = complaint(&cache, "hf:someone/birds/terns-i2_s.gguf");
    assert!(told.contains(&format!("someone/birds is not in the Hugging Face cache {}", cache.path().display())));
    for line in [
        "Nothing is downloaded by itself; this fetches it:\n\n    hf download someone/birds terns-i2_s.gguf\n",
        &format!("\n    curl -fL -o terns-i2_s.gguf {url}/terns-i2_s.gguf\n"),
    ] {
        assert!(told.contains(line), "{told}");
    }
    let told = complaint(&cache, "hf:someone/birds");
    for line in [
        "\n    hf download someone/birds\n",
        "\n    hf download someone/birds FILE\n",
        &format!("\n    curl -fL -o FILE {url}/FILE\n"),
        "https://huggingface.co/someone/birds/tree/main",
    ] {
        assert!(told.contains(line), "{told}");
    }
    let told = complaint(&cache, "hf:someone/birds@v1/all of/it's $HOME.gguf");
    assert!(told.contains(r"hf download someone/birds 'all of/it'\''s $HOME.gguf' --revision v1"), "{told}");
    let line = r"curl -fL -o 'it'\''s $HOME.gguf' https://huggingface.co/someone/birds/resolve/v1/all%20of/it%27s%20%24HOME.gguf";
    assert!(told.contains(line), "{told}");

    let told = complaint(&cache, "hf:someone/tales/terns.gguf");
    assert!(told.contains("without terns.gguf; there is tales.gguf. Nothing"), "{told}");
    assert!(told.contains("hf download someone/tales terns.gguf"), "{told}");
    let told = complaint(&cache, "hf:Someone/Tales");
    assert!(told.contains("; someone/tales is there. Nothing"), "{told}");

    let home = cache.home("someone/tales");
    fs::remove_dir_all(home.join("blobs")).unwrap();
    let told = complaint(&cache, "hf:someone/tales/tales.gguf");
    assert!(told.contains("its bytes are gone") && told.contains("hf download someone/tales tales.gguf"), "{told}");
    assert!(complaint(&cache, "hf:someone/tales").contains("has no GGUF file"));
    fs::remove_dir_all(home.join("snapshots")).unwrap();
    assert!(complaint(&cache, "hf:someone/tales").contains("without files of revision main"));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let cache = Cache::with_model();
    let outside = cache.path().join("outside.gguf");
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(SHIPPED), &outside).unwrap();
    let whole = format!("hf:someone/tales/{}", outside.display());
    let names = [
        "hf:",
        "hf:a",
        "hf:/a",
        "hf:a/",
        "hf:../models--someone--tales",
        "hf:someone/..",
        "hf:someone/.tales",
        "hf:some--one/tales",
        "hf:some\\one/tales",
        "hf:someone/tales:q4",
        "hf:someone/tales@",
        "hf:someone/tales@../main",
        "hf:someone/tales@..",
        "hf:someone/tales/../../../../outside.gguf",
        "hf:someone/tales/x/../tales.gguf",
        "hf:someone/tales/./tales.gguf",
        "hf:someone/tales//tales.gguf",
        "hf:someone/tales/..\\tales.gguf",
        "hf:someone/tales/C:tales.gguf",
        "hf:someone/tales/tales.gguf\n",
        "hf:someone/tales/-rf",
        "hf://someone/tales",
        &whole,
    ];
    for name in names {
        let told = complaint(&cache, name);
        assert!(told.contains("is no name of") && told.contains("write hf:OWNER/REPO, "), "{name}: {told}");
    }
    let long = format!("hf:{}/tales", "a".repeat(97));
    assert!(complaint(&cache, &long).contains("is no name of an owner"));
    // A path is one, whatever its name.
    fs::copy(&outside, cache.path().join("hf:a.gguf")).unwrap();
    assert_eq!(run(program("inspect").current_dir(cache.path()).args(["--model", "./hf:a.gguf"])).0, Some(0));
}

#[test]
fn a_file_of_the_cache_that_names_no_commit_leads_nowhere() {
    let cache = Cache::with_model();
    let path = cache.home("someone/tales").join("refs/main");
    fs::create_dir(cache.home("someone/tales").join("snapshots/short")).unwrap();
    let long = "a".repeat(1 << 20);
    let texts = [
        "",
        "\n",
        "short",
        "../../../",
        "/etc",
        "main",
        &COMMIT[1..],
        &format!("{COMMIT}/.."),
        &format!("{COMMIT}\0"),
        &long,
    ];
    for text in texts {
        fs::write(&path, text).unwrap();
        let told = complaint(&cache, "hf:someone/tales");
        assert!(told.contains("refs/main is damaged") && told.contains("hf download someone/tales"), "{text}: {told}");
    }
    fs::write(&path, [0xff; 40]).unwrap();
    assert!(complaint(&cache, "hf:someone/tales").contains("is damaged"));
    fs::remove_file(&path).unwrap();
    make_pipe(&path); // nobody writes to it
    assert!(complaint(&cache, "hf:someone/tales").contains("is damaged: not a regular file"));
    fs::remove_file(&path).unwrap();
    let told = complaint(&cache, "hf:someone/tales");
    assert!(told.contains(&format!("without revision main; there is {COMMIT}, short.")), "{told}");
}

#[test]
fn the_cache_is_where_hf_has_it() {
    let cache = Cache::with_model();
    let folder = tempfile::tempdir().unwrap();
    let here = |name: &str| folder.path().join(name);
    for place in ["home/hub", "xdg/huggingface/hub", ".cache/huggingface/hub", "plain"] {
        fs::create_dir_all(here(place).parent().unwrap()).unwrap();
        symlink(cache.path(), here(place)).unwrap();
    }
    let found = |variables: &[(&str, &str)]| {
        let mut program = program("inspect");
        for variable in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"] {
            program.env_remove(variable);
        }
        program.env("HOME", folder.path()).envs(variables.iter().copied());
        let (status, out, told) = run(program.args(["--model", "hf:someone/tales"]));
        assert!(status == Some(0) || told.contains("is not in the Hugging Face cache"), "{told}");
        (status == Some(0)).then(|| out.split("models--").next().unwrap().to_owned())
    };
    let at = |name: &str| Some(format!("{}/", here(name).display()));
    let (home, xdg, hub) = (here("home"), here("xdg"), here("plain"));
    let [home, xdg, hub] = [&home, &xdg, &hub].map(|path| path.to_str().unwrap());
    assert_eq!(found(&[]), at(".cache/huggingface/hub"));
    assert_eq!(found(&[("HF_HOME", ""), ("HF_HUB_CACHE", "")]), at(".cache/huggingface/hub"));
    assert_eq!(found(&[("XDG_CACHE_HOME", xdg)]), at("xdg/huggingface/hub"));
    assert_eq!(found(&[("XDG_CACHE_HOME", xdg), ("HF_HOME", home)]), at("home/hub"));
    assert_eq!(found(&[("HF_HOME", "~/home")]), at("home/hub"));
    assert_eq!(found(&[("HUGGINGFACE_HUB_CACHE", hub), ("HF_HOME", home)]), at("plain"));
    assert_eq!(found(&[("HF_HUB_CACHE", hub), ("HUGGINGFACE_HUB_CACHE", xdg), ("HF_HOME", home)]), at("plain"));
    assert_eq!(found(&[("HF_HOME", "/nonexistent")]), None);
}
