//! What newcomers type, and what comes back.

use std::fs;
use std::path::Path;

use serde_json::Value as Json;

use crate::{EMBEDDING, SHIPPED, generate, program, run};

/// What a generation reports, which must succeed.
fn report(arguments: &[&str]) -> (Json, String) {
    let (status, out, told) = run(generate(&["--greedy", "-n", "2", "--json", "-"]).args(arguments));
    assert_eq!(status, Some(0), "{arguments:?}: {told}");
    (serde_json::from_str(&out).unwrap(), told)
}

/// What a generation that fails says.
fn complaint(arguments: &[&str]) -> String {
    let (status, _, told) = run(&mut generate(arguments));
    assert!(status.is_some_and(|status| status > 0), "{arguments:?} is taken");
    told
}

#[test]
fn habits_from_llama_cpp_are_taken_where_they_mean_the_same() {
    let long = ["--prompt", "a", "--seed", "3", "--temperature", "0.9", "--context", "64", "--threads", "1"];
    let short = ["-p", "a", "-s", "3", "--temp", "0.9", "-c", "64", "-t", "1", "-m", SHIPPED];
    assert_eq!(report(&long).0["ids"], report(&short).0["ids"]);
    let more =
        ["--repeat-penalty", "1.2", "--repeat-last-n", "-1", "--top-k", "-1", "--no-mmap", "--no-display-prompt"];
    report(&more);
    assert_eq!(report(&["--ctx-size", "0"]).0["ids"], report(&[]).0["ids"]);
}

#[test]
fn other_options_of_llama_cpp_are_answered_with_a_hint() {
    for (arguments, hint) in [
        (&["-ngl", "99"][..], "--device gpu"),
        (&["--n-gpu-layers=99"], "--device gpu"),
        (&["-fa"], "leave the option away"),
        (&["-no-cnv"], "continued as it is"),
        (&["-hf", "someone/something"], "nothing is downloaded: --model hf:OWNER/REPO/FILE"),
        (&["-r", "User:"], "--stop"),
    ] {
        let told = complaint(arguments);
        assert!(told.contains("hint: ") && told.contains(hint), "{arguments:?}: {told}");
    }
    let told = complaint(&["--no-such-option"]);
    assert!(!told.contains("hint: "), "{told}");
}

#[test]
fn negative_numbers_mean_something_or_are_refused_in_words() {
    let seeds = [report(&["--seed", "-1"]).0, report(&["--seed", "-1"]).0].map(|report| report["seed"].clone());
    assert_ne!(seeds[0], seeds[1], "-1 is a new seed each time");
    let all = ["--greedy", "-n", "-1", "--context", "20", "--ignore-end", "--json", "-"];
    let json: Json = serde_json::from_str(&run(&mut generate(&all)).1).unwrap();
    assert_eq!(json["finish"], "ContextFull", "-1 is as many as fit");
    for (arguments, words) in [
        (["-n", "-5"], "0 or more, or -1"),
        (["--seed", "-2"], "0 or more; -1 is"),
        (["--threads", "-1"], "1 or more"),
        (["--threads", "0"], "1 or more"),
        (["--context", "-1"], "1 or more, or 0"),
        (["--top-k", "-7"], "or -1 for all"),
        (["--top-p", "0"], "above 0 and at most 1"),
        (["--temperature", "-1"], "0 to 100"),
        (["--min-p", "2"], "0 to 1"),
        (["--repetition-penalty", "0"], "0.01 to 100"),
    ] {
        let told = complaint(&arguments);
        assert!(told.contains(words), "{arguments:?}: {told}");
    }
    let (status, _, told) = run(program("validate").args(["--runs", "-1"]));
    assert!(status == Some(2) && told.contains("1 or more"), "{told}");
    let (status, _, told) = run(program("embed").args(["--batch", "-1", "a"]));
    assert!(status == Some(2) && told.contains("1 or more"), "{told}");
}

#[test]
fn texts_may_begin_with_a_dash_and_have_escapes() {
    let (_, told) = report(&["--prompt", "- milk"]);
    assert!(told.contains("- milk"), "{told}");
    report(&["--stop", "--", "--prompt", "-x"]);
    let (plain, escaped) = (report(&["-p", "a\nb\t\\"]).0, report(&["-e", "-p", r"a\nb\t\\"]).0);
    assert_eq!(plain["prompt_ids"], escaped["prompt_ids"]);
    assert_ne!(report(&["-p", r"a\nb"]).0["prompt_ids"], report(&["-e", "-p", r"a\nb"]).0["prompt_ids"]);
    assert_eq!(report(&["-p", "é\\q"]).0["prompt_ids"], report(&["-e", "-p", r"\xc3\xa9\q"]).0["prompt_ids"]);
    let (status, out, _) = run(&mut generate(&["--greedy", "-n", "2", "--no-echo"]));
    assert!(status == Some(0) && !out.contains("Once") && !out.trim().is_empty(), "{out}");
}

#[test]
fn marks_of_byte_order_are_no_part_of_a_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = report(&["--prompt", "the king"]).0;
    let utf_16 = |unit: fn(u16) -> [u8; 2]| "\u{feff}the king".encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let forms =
        [b"the king".to_vec(), b"\xef\xbb\xbfthe king".to_vec(), utf_16(u16::to_le_bytes), utf_16(u16::to_be_bytes)];
    let path = folder.path().join("prompt.txt");
    for bytes in &forms {
        fs::write(&path, bytes).unwrap();
        assert_eq!(report(&["-f", path.to_str().unwrap()]).0["prompt_ids"], wanted["prompt_ids"], "{bytes:?}");
    }
    fs::write(&path, [0xff, 0xfe, b'a']).unwrap();
    assert!(complaint(&["-f", path.to_str().unwrap()]).contains("UTF-16"));
    fs::write(&path, [b'a', 0xff]).unwrap();
    assert!(complaint(&["-f", path.to_str().unwrap()]).contains("not UTF-8"));
}

/// Advice that can be followed.
#[test]
fn a_prompt_that_is_too_long_is_told_what_would_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prompt.txt");
    let path = path.to_str().unwrap();
    fs::write(path, "word ".repeat(700)).unwrap();
    let told = complaint(&["-f", path]);
    assert!(told.contains("takes at most 512: shorten the prompt") && !told.contains("--context"), "{told}");
    let told = complaint(&["-f", path, "--context", "64"]);
    assert!(told.contains("takes at most 512") && told.contains("--context 64"), "{told}");
    fs::write(path, "word ".repeat(100)).unwrap();
    let told = complaint(&["-f", path, "--context", "64"]);
    assert!(told.contains("--context 64 is less") && told.contains("up to 512"), "{told}");
}

#[test]
fn a_folder_means_the_one_model_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().to_str().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join(SHIPPED);
    std::os::unix::fs::symlink(&model, folder.path().join("first.gguf")).unwrap();
    assert_eq!(report(&["--model", name]).0["ids"], report(&[]).0["ids"]);
    assert_eq!(run(program("inspect").args(["--model", name])).0, Some(0));
    let out = folder.path().join("out.bin");
    assert_eq!(run(program("convert").args([name, out.to_str().unwrap(), "--to", "i2_s"])).0, Some(0));
    std::os::unix::fs::symlink(&model, folder.path().join("second.gguf")).unwrap();
    let told = complaint(&["--model", name]);
    assert!(told.contains("first.gguf, second.gguf"), "{told}");
    for program in [program("inspect").args(["--model", name]), program("validate").args(["--model", name])] {
        let (status, _, told) = run(program);
        assert!(status.is_some_and(|status| status > 0) && told.contains("first.gguf, second.gguf"), "{told}");
    }
}

#[test]
fn a_text_that_is_too_long_to_embed_is_named_and_can_be_cut() {
    let long = "tern ".repeat(60);
    let embed = |more: &[&str]| {
        run(program("embed")
            .args(["--device", "cpu", "--model", EMBEDDING, "a tern", &long, "--context", "16"])
            .args(more))
    };
    let (status, _, told) = embed(&[]);
    assert!(status == Some(1) && told.contains("text 2 (\"tern tern") && told.contains("at most 16"), "{told}");
    assert!(told.contains("--truncate"), "{told}");
    let (status, out, told) = embed(&["--truncate", "--json", "-"]);
    assert!(status == Some(0) && told.contains("text 2") && told.contains("were cut off"), "{told}");
    let json: Json = serde_json::from_str(&out).unwrap();
    assert_eq!((&json[0]["truncated_to_tokens"], &json[1]["truncated_to_tokens"]), (&Json::Null, &16.into()));
}

#[test]
fn variables_that_are_empty_are_not_set() {
    let run_with = |threads: &str| run(generate(&["-n", "1", "--greedy"]).env("STERNA_THREADS", threads));
    assert_eq!(run_with("").0, Some(0));
    let (status, _, told) = run_with("many");
    assert!(status == Some(1) && told.contains("STERNA_THREADS is \"many\""), "{told}");
}

/// Mesa says that it is an error to have no display.
#[cfg(target_os = "linux")]
#[test]
fn no_line_is_marked_as_an_error_where_there_is_none() {
    let (status, out, told) = run(program("generate").arg("--devices").env_remove("XDG_RUNTIME_DIR"));
    assert_eq!((status, told.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("cpu"));
}

#[test]
fn how_the_model_asks_to_be_sampled_is_obeyed_until_options_say_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().to_str().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    for file in ["bitnet-256/config.json", "bitnet-256/model.safetensors", "tokenizer.json"] {
        fs::copy(golden.join(file), folder.path().join(Path::new(file).file_name().unwrap())).unwrap();
    }
    fs::write(folder.path().join("generation_config.json"), r#"{"do_sample": true, "top_k": 1}"#).unwrap();
    let text = |more: &[&str]| {
        let (status, out, told) = run(generate(&["--model", name, "-p", "the tern", "-n", "24"]).args(more));
        assert_eq!(status, Some(0), "{told}");
        out
    };
    assert_eq!(text(&["--seed", "1"]), text(&["--greedy"]));
    assert_ne!(text(&["--seed", "1", "--top-k", "0", "--temp", "5"]), text(&["--greedy"]));
    let (_, out, _) = run(program("inspect").args(["--model", name]));
    assert!(out.contains("sampling: top-k 1"), "{out}");
}
