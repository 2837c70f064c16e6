//! The built examples, for whoever runs them as programs.

use std::path::PathBuf;
use std::process::Command;

/// The features that this was built with; so are the examples, or all would be built again.
const FEATURES: [(&str, bool); 8] = [
    ("default", cfg!(feature = "default")),
    ("gpu", cfg!(feature = "gpu")),
    ("text", cfg!(feature = "text")),
    ("chat", cfg!(feature = "chat")),
    ("constrain", cfg!(feature = "constrain")),
    ("serve", cfg!(feature = "serve")),
    ("relaxed-simd", cfg!(feature = "relaxed-simd")),
    ("shader-tests", cfg!(feature = "shader-tests")),
];

/// The folder of the built examples, of the same profile. Cargo builds them with all tests, but not with one alone; so it is asked
/// here, with these arguments, which takes it no time where there is nothing to do.
pub fn built(arguments: &[&str]) -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let built = this.ancestors().nth(2).unwrap(); // target/PROFILE/deps/THIS
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .args(arguments);
    let manifest = include_str!("../../Cargo.toml").split_once("[features]").unwrap().1;
    let declared = manifest.lines().take_while(|line| !line.starts_with('[')).filter(|line| line.contains(" = ["));
    assert_eq!(
        FEATURES.len(),
        declared.count(),
        "a feature that is not named here would have everything built once more"
    );
    let features: Vec<&str> = FEATURES.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| *name).collect();
    cargo.args(["--no-default-features", "--features", &features.join(",")]);
    match built.file_name().and_then(|name| name.to_str()).unwrap() {
        "debug" => {}
        profile => drop(cargo.args(["--profile", profile])),
    }
    assert!(cargo.status().unwrap().success(), "the examples are built");
    built.join("examples")
}
