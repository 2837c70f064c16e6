//! Where programs write: looked at before the work, nothing replaced but files, and none that is read.

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;

use crate::{EMBEDDING, SHIPPED, generate, names, program, run};

/// Each program that writes a report, with the option for it last.
fn reporters() -> Vec<Command> {
    let mut embed = program("embed");
    embed.args(["--device", "cpu", "--model", EMBEDDING, "a", "--json"]);
    let validate = |option: &str| {
        let mut validate = program("validate");
        validate.args(["--quick", "--only", "cpu", "--runs", "1", "--model", SHIPPED, option]);
        validate
    };
    vec![generate(&["-n", "3", "--greedy", "--json"]), embed, validate("--json"), validate("--plot")]
}

fn convert(from: &Path, to: &Path) -> (Option<i32>, String, String) {
    run(program("convert").arg(from).arg(to).args(["--to", "tq1_0", "--force"]))
}

fn shipped() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(SHIPPED)
}

pub fn make_pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn what_cannot_be_written_is_found_out_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, socket) = (folder.path().join("pipe"), folder.path().join("socket"));
    make_pipe(&pipe);
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for place in [Path::new("/nonexistent/report"), folder.path(), &pipe, &socket] {
        for mut reporter in reporters() {
            let (status, out, told) = run(reporter.arg(place));
            assert!(status.is_some_and(|status| status > 0), "{reporter:?}");
            assert!(told.contains("cannot write") && told.contains(place.to_str().unwrap()), "{reporter:?}: {told}");
            let worked = ["decode", "features", "took"].iter().any(|word| told.contains(word));
            assert!(out.is_empty() && !worked, "{reporter:?}: {told}");
        }
    }
    assert_eq!(names(folder.path()), ["pipe", "socket"]);
}

#[test]
fn the_model_is_not_replaced_by_a_report_by_whatever_name() {
    let folder = tempfile::tempdir().unwrap();
    let (model, link) = (folder.path().join("model.gguf"), folder.path().join("link"));
    fs::copy(shipped(), &model).unwrap();
    symlink(&model, &link).unwrap();
    let hard = folder.path().join("hard");
    fs::hard_link(&model, &hard).unwrap();
    let before = fs::read(&model).unwrap();
    for place in [&model, &link, &hard] {
        let (status, _, told) = run(generate(&["-n", "1", "--model"]).arg(&model).arg("--json").arg(place));
        assert!(status == Some(1) && told.contains("it is the file that is read"), "{told}");
        let (status, _, told) = convert(&model, place);
        assert!(status == Some(1) && told.contains("which is read"), "{told}");
    }
    assert!(fs::read(&model).unwrap() == before);
    assert_eq!(names(folder.path()), ["hard", "link", "model.gguf"]);
}

#[test]
fn a_report_on_stdout_is_alone_there() {
    for reporter in reporters().iter_mut().take(3) {
        let (status, out, told) = run(reporter.arg("-"));
        assert!(status.is_some_and(|status| status < 2), "{told}"); // 1 where a target is missed
        serde_json::from_str::<Json>(&out).unwrap_or_else(|error| panic!("{reporter:?}: {error} in {out}"));
    }
    let (_, out, told) = run(&mut generate(&["-n", "8", "--greedy", "--json", "-"]));
    let text = serde_json::from_str::<Json>(&out).unwrap()["text"].as_str().unwrap().to_owned();
    assert!(told.contains(&format!("Once upon a time{text}")), "{told}");
    assert!(!Path::new(env!("CARGO_MANIFEST_DIR")).join("-").exists());
    let (status, _, told) = run(program("convert").args([SHIPPED, "-", "--to", "i2_s"]));
    assert!(status == Some(1) && told.contains("name a file"), "{told}");
}

#[test]
fn reports_go_into_pipes_and_devices_and_through_links() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    make_pipe(&pipe);
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || {
            // The first to open it may be the program, which finds nobody there and says so; so this one stays.
            let mut text = String::new();
            std::io::Read::read_to_string(&mut fs::File::open(pipe).unwrap(), &mut text).unwrap();
            text
        }
    });
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    symlink(folder.path().join("target"), &first).unwrap();
    symlink("first", &second).unwrap();
    let report = |place: &Path| run(generate(&["-n", "2", "--greedy", "--json"]).arg(place));
    while report(&pipe).0 != Some(0) {}
    serde_json::from_str::<Json>(&reader.join().unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(report(&second).0, Some(0), "a link to a link to nothing, and then to a file");
    }
    assert!(fs::symlink_metadata(&second).unwrap().is_symlink() && fs::symlink_metadata(&first).unwrap().is_symlink());
    serde_json::from_str::<Json>(&fs::read_to_string(folder.path().join("target")).unwrap()).unwrap();
    assert_eq!(report(Path::new("/dev/null")).0, Some(0));
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert_eq!(names(folder.path()), ["first", "pipe", "second", "target"]);
}

#[test]
fn a_conversion_replaces_files_alone_and_goes_through_links() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, socket, link) = (folder.path().join("pipe"), folder.path().join("socket"), folder.path().join("link"));
    make_pipe(&pipe);
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (place, what) in [
        (&*pipe, "a pipe"),
        (&*socket, "a socket"),
        (folder.path(), "a folder"),
        (Path::new("/dev/null"), "a character device"),
    ] {
        let (status, _, told) = convert(&shipped(), place);
        assert!(status == Some(1) && told.contains(what), "{told}");
    }
    assert!(
        fs::metadata(&pipe).unwrap().file_type().is_fifo() && fs::metadata(&socket).unwrap().file_type().is_socket()
    );
    fs::create_dir(folder.path().join("elsewhere")).unwrap();
    fs::write(folder.path().join("elsewhere/target"), "old").unwrap();
    symlink("elsewhere/target", &link).unwrap();
    let (status, _, told) = convert(&shipped(), &link);
    assert_eq!(status, Some(0), "{told}");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::metadata(folder.path().join("elsewhere/target")).unwrap().len() > 1000);
    assert_eq!(names(&folder.path().join("elsewhere")), ["target"]);
}
