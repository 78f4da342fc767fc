//! SECURITY.md names a test for each attack, and the tests are there.

use std::fs;
use std::path::{Path, PathBuf};

/// The sources in which the tests of `file` can be: its own, those of its folder, and the modules that tests share.
fn sources(file: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = match file {
        "ffi" => vec![root.join("ffi/tests")],
        file => vec![root.join("tests").join(file), root.join("tests/tools")],
    };
    let listed = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let mut sources: Vec<_> = listed.map(|entry| entry.expect("a folder can be listed").path()).collect();
    sources.push(root.join("tests").join(format!("{file}.rs")));
    sources.retain(|source| source.extension().is_some_and(|extension| extension == "rs") && source.exists());
    sources
}

#[test]
fn every_attack_names_a_test_that_exists() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("SECURITY.md")).expect("SECURITY.md");
    // | attack | what happens | test |
    let rows = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").nth(2));
    let rows: Vec<_> = rows.filter(|row| *row != "test").collect();
    assert!(rows.len() > 20, "{} attacks", rows.len());
    for row in rows {
        let tests: Vec<_> = row.split('`').filter_map(|part| part.split_once("::")).collect();
        assert!(!tests.is_empty(), "{row:?} names no test");
        for (file, name) in tests {
            let definition = format!("fn {name}(");
            let is_there = |source: &PathBuf| fs::read_to_string(source).is_ok_and(|text| text.contains(&definition));
            assert!(sources(file).iter().any(is_there), "there is no test {file}::{name}");
        }
    }
}
