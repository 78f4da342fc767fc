//! Runs the C and C++ programs under AddressSanitizer, UndefinedBehaviorSanitizer and valgrind.

mod native;

use std::process::Command;

use native::*;

const SANITIZE: &[&str] = &["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"];
const PROGRAMS: &[&str] = &[
    "tests/c/rules.c",
    "tests/c/calls.c",
    "tests/c/things.c",
    "tests/c/events.c",
    "tests/c/processes.c",
    "tests/c/misuse.c",
    "tests/c/destructors.c",
    "tests/c/threads.c",
    "tests/cpp/rules.cpp",
];

/// True if the runtimes of the sanitizers are installed.
fn can_sanitize() -> bool {
    let trial = scratch("programs").join("sanitized-nothing");
    let mut command = compile(&[source("tests/c/sanitized.c")], &[C, SANITIZE].concat());
    let there = command.arg("-o").arg(&trial).output().is_ok_and(|output| output.status.success());
    there || skip("sanitizers", "the compiler has none here")
}

#[test]
fn sanitizers_find_nothing() {
    if !can_sanitize() {
        return;
    }
    for (index, path) in PROGRAMS.iter().enumerate() {
        print!("{}", succeed(&mut Command::new(program(&format!("sanitized-{index}"), &[path], SANITIZE))));
    }
}

#[test]
fn sanitizers_find_what_is_planted() {
    if !can_sanitize() {
        return;
    }
    let planted = program("planted-sanitized", &["tests/c/planted.c"], SANITIZE);
    for (fault, found) in [
        ("use after free", "heap-use-after-free"),
        ("read past the end", "heap-buffer-overflow"),
        ("leak", "detected memory leaks"),
        ("overflow", "signed integer overflow"),
    ] {
        let output = run(Command::new(&planted).arg(fault));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(found), "{fault}: {said}");
    }
}

const VALGRIND: &[&str] = &["valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full", "--trace-children=yes"];

#[test]
fn valgrind_finds_nothing() {
    if !have("valgrind", "memcheck of the C and C++ programs") {
        return;
    }
    for (index, path) in PROGRAMS.iter().enumerate() {
        // All cases in one process: starting valgrind takes longer than most cases.
        let program = program(&format!("memcheck-{index}"), &[path], &[]);
        print!("{}", succeed(Command::new(VALGRIND[0]).args(&VALGRIND[1..]).arg(program)));
    }
}

#[test]
fn valgrind_finds_what_is_planted() {
    if !have("valgrind", "memcheck of planted faults") {
        return;
    }
    let planted = program("planted-memcheck", &["tests/c/planted.c"], &[]);
    for (fault, found) in [
        ("use after free", "Invalid read"),
        ("read past the end", "Invalid read"),
        ("leak", "definitely lost"),
        ("undefined", "uninitialised"),
    ] {
        let output = run(Command::new(VALGRIND[0]).args(&VALGRIND[1..]).arg(&planted).arg(fault));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(99) && said.contains(found), "{fault}: {said}");
    }
}
