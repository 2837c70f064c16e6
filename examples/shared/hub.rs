//! Models by their names on Hugging Face: `hf:OWNER/REPO`, with `@REVISION` and `/FILE` if wanted, means what the cache of this machine
//! holds of them, where `hf download` and other programs leave what they fetch. Nothing is fetched here: what is not there is an
//! error with the command that fetches it.
//!
//! A repository is the folder `models--OWNER--REPO` of the cache. In it `refs/main` says a commit, and `snapshots/COMMIT` has the files:
//! links to where their bytes are. (A file of one's own whose name begins with `hf:` is `./hf:…`.)

use std::env;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};
use sterna::format::locate;
use sterna::format::safetensors::{INDEX_FILE, WEIGHTS_FILE};

/// What a name on Hugging Face begins with.
const PREFIX: &str = "hf:";
/// The revision that is meant if none is named.
const MAIN: &str = "main";
const HOST: &str = "https://huggingface.co";
/// Letters of the longest name that Hugging Face gives.
const LONGEST_NAME: usize = 96;
/// Bytes of the longest name of a commit, with line ends around it.
const LONGEST_REF: u64 = 256;
/// The most names that an error lists.
const MOST_NAMED: usize = 8;

/// Reads an argument that is a path, or a name on Hugging Face, of which it gives the path.
pub fn parser() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.to_str().and_then(|text| text.strip_prefix(PREFIX)) {
        Some(name) => Wanted::read(name)?.find(&cache()?),
        None => Ok(path),
    })
}

/// The folder of the cache, as `hf` chooses it.
fn cache() -> Result<PathBuf, String> {
    let home = || env::home_dir().filter(|home| !home.as_os_str().is_empty());
    let set = |name| {
        let path = PathBuf::from(env::var_os(name).filter(|value| !value.is_empty())?);
        // Where no shell has put a folder in the place of ~, such as in a list of variables for a service.
        Some(path.strip_prefix("~").ok().and_then(|rest| Some(home()?.join(rest))).unwrap_or(path))
    };
    set("HF_HUB_CACHE")
        .or_else(|| set("HUGGINGFACE_HUB_CACHE")) // its older name, which `hf` takes too
        .or_else(|| Some(set("HF_HOME")?.join("hub")))
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(home()?.join(".cache/huggingface/hub")))
        .ok_or_else(|| "no home directory, so no Hugging Face cache: set HF_HUB_CACHE to its folder".into())
}

/// A repository, and what of it. No part of a name leads out of the folder that it is looked for in.
struct Wanted<'a> {
    owner: &'a str,
    repo: &'a str,
    revision: &'a str,
    file: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    /// Reads what follows "hf:".
    fn read(name: &'a str) -> Result<Self, String> {
        let form = "write hf:OWNER/REPO, hf:OWNER/REPO/FILE or hf:OWNER/REPO@REVISION/FILE";
        let mut parts = name.splitn(3, '/');
        let (owner, repo) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (repo, revision) = repo.split_once('@').unwrap_or((repo, MAIN));
        for (what, name) in [("an owner", owner), ("a repository", repo), ("a revision", revision)] {
            if !is_name(name) {
                return Err(format!("{name:?} is no name of {what} on Hugging Face: {form}"));
            }
        }
        let file = parts.next().filter(|file| !file.is_empty());
        if let Some(file) = file.filter(|file| !file.split('/').all(is_file_name)) {
            return Err(format!("{file:?} is no name of a file on Hugging Face: {form}"));
        }
        Ok(Self { owner, repo, revision, file })
    }

    fn id(&self) -> String {
        format!("{}/{}", self.owner, self.repo)
    }

    /// The file or folder in the cache.
    fn find(&self, cache: &Path) -> Result<PathBuf, String> {
        let name = format!("models--{}--{}", self.owner, self.repo);
        let home = cache.join(&name);
        if !home.is_dir() {
            let other = entries(cache).into_iter().find(|other| other.eq_ignore_ascii_case(&name));
            let other = other.map(|other| format!("; {} is there", other["models--".len()..].replacen("--", "/", 1)));
            let (id, cache, other) = (self.id(), cache.display(), other.unwrap_or_default());
            return Err(self.absent(&format!("{id} is not in the Hugging Face cache {cache}{other}")));
        }
        let snapshots = home.join("snapshots");
        let snapshot = snapshots.join(self.commit(&home, &snapshots)?);
        if !snapshot.is_dir() {
            let (id, revision) = (self.id(), self.revision);
            return Err(self.absent(&format!("{id} is in the Hugging Face cache without files of revision {revision}")));
        }
        let Some(file) = self.file else { return self.whole(snapshot) };
        let path = snapshot.join(file);
        match path.metadata() {
            Ok(there) if there.is_dir() => self.whole(path),
            Ok(_) => Ok(path),
            Err(_) if path.is_symlink() => {
                Err(self.absent(&format!("{} is a link to nothing: its bytes are gone", path.display())))
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                let models = entries(&snapshot).into_iter().filter(|name| is_gguf(name)).collect();
                let others = listed("; there is ", models);
                Err(self.absent(&format!("{} is in the Hugging Face cache without {file}{others}", self.id())))
            }
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        }
    }

    /// The commit of the revision.
    fn commit(&self, home: &Path, snapshots: &Path) -> Result<String, String> {
        if is_commit(self.revision) {
            return Ok(self.revision.into());
        }
        let path = home.join("refs").join(self.revision);
        match read_ref(&path) {
            Ok(commit) if is_commit(commit.trim()) => Ok(commit.trim().into()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let revisions = entries(&home.join("refs")).into_iter().chain(entries(snapshots)).collect();
                let (id, revision, others) = (self.id(), self.revision, listed("; there is ", revisions));
                Err(self.absent(&format!("{id} is in the Hugging Face cache without revision {revision}{others}")))
            }
            Ok(_) => Err(self.absent(&format!("{} is damaged: it names no commit", path.display()))),
            Err(error) => Err(self.absent(&format!("{} is damaged: {error}", path.display()))),
        }
    }

    /// The model that a folder holds: its one GGUF file, or itself.
    fn whole(&self, folder: PathBuf) -> Result<PathBuf, String> {
        let found = locate(&folder).map_err(|error| format!("{error} (in the form hf:{}/FILE)", self.id()))?;
        let is_model = |folder: &Path| {
            folder.join("config.json").exists()
                && [WEIGHTS_FILE, INDEX_FILE].iter().any(|name| folder.join(name).exists())
        };
        if found == folder && !is_model(&folder) {
            let what =
                format!("{} has no GGUF file, nor config.json with {WEIGHTS_FILE} or its shards", folder.display());
            return Err(self.absent(&what));
        }
        Ok(found)
    }

    /// What is not there, and how it gets there.
    fn absent(&self, what: &str) -> String {
        let (id, revision) = (self.id(), self.revision);
        let option = if revision == MAIN { String::new() } else { format!(" --revision {revision}") };
        let from = format!("{HOST}/{id}/resolve/{revision}");
        match self.file {
            Some(file) => {
                let name = quoted(file.rsplit('/').next().unwrap_or(file));
                format!(
                    "{what}. Nothing is downloaded by itself; this fetches it:\n\n    \
                     hf download {id} {}{option}\n\n\
                     hf comes with `pip install huggingface_hub`. Without it, for the model {name}:\n\n    \
                     curl -fL -o {name} {from}/{}",
                    quoted(file),
                    escaped(file)
                )
            }
            None => format!(
                "{what}. Nothing is downloaded by itself; this fetches all of its files:\n\n    \
                 hf download {id}{option}\n\n\
                 hf comes with `pip install huggingface_hub`. One FILE of those at {HOST}/{id}/tree/{revision}, with it and \
                 without:\n\n    \
                 hf download {id} FILE{option}\n    \
                 curl -fL -o FILE {from}/FILE"
            ),
        }
    }
}

/// Whether Hugging Face gives such names to owners and repositories. Two dashes would mean the end of one in the cache.
fn is_name(name: &str) -> bool {
    let is_end = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    name.len() <= LONGEST_NAME
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
        && is_end(name.chars().next())
        && is_end(name.chars().next_back())
        && !name.contains("--")
        && !name.contains("..")
}

/// Whether a part of a path names something within a folder, on any system, and is no option of a command.
fn is_file_name(part: &str) -> bool {
    !matches!(part, "" | "." | "..")
        && !part.starts_with('-')
        && !part.contains(|letter: char| letter.is_control() || "\\:".contains(letter))
}

/// Whether a text is the name of a commit: SHA-1, or SHA-256.
fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_gguf(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"))
}

/// The text of a file that holds a name. A pipe in its place would keep the program waiting.
fn read_ref(path: &Path) -> std::io::Result<String> {
    if !path.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(LONGEST_REF).read_to_string(&mut text)?;
    Ok(text)
}

/// The names in a folder, in order; none where it cannot be read, for they are only told.
fn entries(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Names as the end of a sentence, which is left away if there are none. They were given by strangers: nothing in them moves the cursor.
fn listed(before: &str, mut names: Vec<String>) -> String {
    if names.is_empty() {
        return String::new();
    }
    if names.len() > MOST_NAMED {
        names.truncate(MOST_NAMED);
        names.push("…".into());
    }
    format!("{before}{}", names.join(", ")).replace(char::is_control, "\u{fffd}")
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    match word.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_./".contains(letter)) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A path within an address.
fn escaped(path: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() || b"-_./~".contains(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    path.bytes().map(byte).collect()
}
