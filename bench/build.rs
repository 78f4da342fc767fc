//! Records the commit of the sources, which a report names.

use std::path::Path;
use std::process::Command;

/// The sources that a measurement depends on, from the folder of this package.
const SOURCES: [&str; 5] = ["src", "../src", "../cli/src", "../Cargo.toml", "../Cargo.lock"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let commit = packaged().or_else(checked_out).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=MESSAGEPORT_COMMIT={commit}");
}

/// Returns the commit that `cargo package` recorded in the package.
fn packaged() -> Option<String> {
    let text = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, after) = text.split_once("\"sha1\": \"")?;
    let (commit, _) = after.split_once('"')?;
    Some(commit.chars().take(12).collect())
}

/// Returns the commit of the repository that contains this file, and whether the sources differ from it.
fn checked_out() -> Option<String> {
    // A repository around an unpacked package does not contain this file.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    for path in SOURCES.map(str::to_owned).into_iter().chain(git(&["rev-parse", "--git-path", "logs/HEAD"])) {
        // A path that does not exist would run this script in every build.
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let changes = git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    Some(if changes.is_empty() { commit } else { format!("{commit} with changes") })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
