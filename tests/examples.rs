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

/// What an example says.
#[track_caller]
fn output_of(name: &str) -> String {
    let output = Command::new(example(name)).output().expect("run `cargo test`, which builds the examples too");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn hello() {
    assert_eq!(output_of("hello"), "child: 16777216 bytes in a buffer\nparent: hello from the child\n");
}

#[test]
fn worker_pool() {
    let line = |color| format!("worker Some({}) has painted 1048576 bytes with [{color}]\n", (color - 1) % 3);
    assert_eq!(output_of("worker_pool"), (1..=6).map(line).collect::<String>());
}

#[test]
fn call() {
    let said = "pi was Some(3.0)\ne is None\npi is Some(3.125)\nno answer: the process that held the peer ended\n";
    assert_eq!(output_of("call"), said);
}
