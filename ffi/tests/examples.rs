//! Runs the examples in C and C++, and compares them with the page that shows them.

mod native;

use std::fs;
use std::process::Command;

use native::*;

fn page() -> String {
    fs::read_to_string(source("../docs/FROM_C.md")).unwrap()
}

#[test]
fn echo_in_c() {
    let code = fs::read_to_string(source("../examples/c/echo.c")).unwrap();
    assert!(page().contains(&code), "docs/FROM_C.md and examples/c/echo.c differ");
    assert!(code.lines().count() < 40);
    let program = program("echo", &["../examples/c/echo.c"], &[]);
    assert_eq!(succeed(&mut Command::new(program)), "hello\n");
}

#[test]
fn echo_in_cpp() {
    let code = fs::read_to_string(source("../examples/c/echo.cpp")).unwrap();
    assert!(page().contains(&code), "docs/FROM_C.md and examples/c/echo.cpp differ");
    assert!(code.lines().count() < 25);
    for version in CPP_VERSIONS {
        let program = program("echo-cpp", &["../examples/c/echo.cpp"], &[version]);
        assert_eq!(succeed(&mut Command::new(program)), "hello\n");
    }
}

#[test]
fn a_port_in_an_epoll_loop() {
    let program = program("epoll", &["../examples/c/epoll.c"], &["-D_GNU_SOURCE"]);
    assert_eq!(succeed(&mut Command::new(program)), "1000 messages, and the timer ran\n");
}

#[test]
fn a_port_in_a_libuv_loop() {
    if !have("pkg-config", "a port in a libuv loop") {
        return;
    }
    let found = Command::new("pkg-config").args(["--cflags", "--libs", "libuv"]).output().unwrap();
    if !found.status.success() {
        skip("a port in a libuv loop", "there is no libuv here");
        return;
    }
    let flags = String::from_utf8(found.stdout).unwrap();
    let flags: Vec<&str> =
        [&["-D_GNU_SOURCE", "-Wno-pedantic"][..], &flags.split_whitespace().collect::<Vec<_>>()].concat();
    let program = program("uv", &["../examples/c/uv.c"], &flags);
    assert_eq!(succeed(&mut Command::new(program)), "1000 messages, and the timer ran\n");
}
