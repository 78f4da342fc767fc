//! The examples do what they say.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

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

#[test]
fn tokio_echo() {
    let name = std::env::temp_dir().join(format!("messageport-echo-{}", std::process::id()));
    let name = name.to_str().unwrap();
    let mut server = Command::new(example("tokio_echo")).args(["serve", name]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), format!("listening at {name}"));
    for _ in 0..2 {
        let output = Command::new(example("tokio_echo")).args(["say", name, "one", "two", "three"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "one\ntwo\nthree\n");
        let said = lines.next().unwrap();
        assert!(said.ends_with(" says hello"), "{said}");
        let done = lines.next().unwrap();
        assert!(done.ends_with(" is done"), "{done}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
    for left in [name.to_owned(), format!("{name}.lock")] {
        std::fs::remove_file(left).unwrap();
    }
}
