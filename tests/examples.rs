//! The examples do what they say.

use std::path::PathBuf;
use std::process::Command;

/// An example's program, which cargo builds together with the tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap(); // target/PROFILE/deps/this-test
    test.parent().unwrap().parent().unwrap().join("examples").join(name)
}

#[test]
fn the_readme_shows_the_hello_example() {
    let readme = include_str!("../README.md");
    let (_, example) = include_str!("../examples/hello.rs").split_once("\n\n").unwrap();
    assert!(readme.contains(example), "README.md and examples/hello.rs differ");
}

#[test]
fn hello() {
    let output = Command::new(example("hello")).output().expect("run `cargo test`, which builds the examples too");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said, "child: 16777216 bytes in a buffer\nparent: hello from the child\n");
}
