//! Runs the C and C++ programs: the rules of a port, every way to call it, and every misuse.

mod native;

use native::*;

#[test]
fn rules_from_c() {
    run_cases(&program("rules", &["tests/c/rules.c"], &[]));
}

#[test]
fn calls_from_c() {
    run_cases(&program("calls", &["tests/c/calls.c"], &[]));
}

#[test]
fn things_from_c() {
    run_cases(&program("things", &["tests/c/things.c"], &[]));
}

#[test]
fn events_from_c() {
    run_cases(&program("events", &["tests/c/events.c"], &[]));
}

#[test]
fn processes_from_c() {
    run_cases(&program("processes", &["tests/c/processes.c"], &[]));
}

#[test]
fn misuse_from_c() {
    run_cases(&program("misuse", &["tests/c/misuse.c"], &[]));
}

#[test]
fn destructors_from_c() {
    run_cases(&program("destructors", &["tests/c/destructors.c"], &[]));
}

#[test]
fn threads_from_c() {
    run_cases(&program("threads", &["tests/c/threads.c"], &[]));
}

#[test]
fn waits_from_c() {
    run_cases(&program("waits", &["tests/c/waits.c"], &[]));
}

#[test]
fn rules_from_cpp17() {
    run_cases(&program("rules-cpp17", &["tests/cpp/rules.cpp"], &["-std=c++17"]));
}

#[test]
fn rules_from_cpp20() {
    run_cases(&program("rules-cpp20", &["tests/cpp/rules.cpp"], &["-std=c++20"]));
}

#[test]
fn rules_from_cpp23() {
    run_cases(&program("rules-cpp23", &["tests/cpp/rules.cpp"], &["-std=c++23"]));
}
