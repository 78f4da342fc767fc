//! Compiles and runs C and C++ with the system's compilers and the library that cargo builds beside the tests.
#![allow(dead_code)] // each test program uses a part of it

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The warnings that all C and C++ must compile without.
pub(crate) const STRICT: &[&str] = &["-Wall", "-Wextra", "-Wshadow", "-pedantic", "-Werror"];
pub(crate) const C: &[&str] = &["-std=c99"];
pub(crate) const CPP: &[&str] = &["-std=c++17"];
pub(crate) const CPP_VERSIONS: &[&str] = &["-std=c++17", "-std=c++20", "-std=c++23"];

/// The directory of the artifacts of this profile.
pub(crate) fn built() -> PathBuf {
    let test = std::env::current_exe().expect("this program has a path"); // target/PROFILE/deps/this-test
    test.parent().expect("deps").to_owned()
}

/// `PATH` below the package.
pub(crate) fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A directory with the library under the names that it is installed by.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let directory = scratch("library");
        let links = [("libmessageport_ffi.so", "libmessageport.so"), ("libmessageport_ffi.so", "libmessageport.so.0")];
        for (from, to) in links.into_iter().chain([("libmessageport_ffi.a", "libmessageport-static.a")]) {
            let from = built().join(from);
            assert!(from.exists(), "cargo has not built {}", from.display());
            let _ = symlink(from, directory.join(to)); // another test program may have made it
        }
        directory
    })
}

/// A directory for files that the tests of this profile make.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let directory = built().parent().expect("target/PROFILE").join("ffi-tests").join(name);
    fs::create_dir_all(&directory).expect("a directory below target");
    directory
}

/// The compiler in an environment variable, or else the default.
fn compiler(variable: &str, default: &str) -> Command {
    let named = std::env::var(variable).unwrap_or_default();
    let mut words = named.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or(default));
    command.args(words);
    command
}

/// True for a C++ source.
fn is_cpp(source: &Path) -> bool {
    source.extension().is_some_and(|extension| extension == "cpp")
}

/// A command that compiles these sources with the headers.
pub(crate) fn compile(sources: &[PathBuf], flags: &[&str]) -> Command {
    let mut command =
        if sources.iter().any(|source| is_cpp(source)) { compiler("CXX", "c++") } else { compiler("CC", "cc") };
    // Linkers want libraries behind the sources that need them.
    let (libraries, flags): (Vec<&str>, Vec<&str>) = flags.iter().partition(|flag| flag.starts_with("-l"));
    command.arg("-I").arg(source("include")).args(flags).args(sources).args(libraries);
    command
}

/// Compiles a program and links it with the shared library.
#[track_caller]
pub(crate) fn program(name: &str, sources: &[&str], flags: &[&str]) -> PathBuf {
    let sources: Vec<PathBuf> = sources.iter().map(|path| source(path)).collect();
    let output = scratch("programs").join(format!("{name}-{}", std::process::id()));
    let standard = if sources.iter().any(|source| is_cpp(source)) { CPP } else { C };
    let standard = if flags.iter().any(|flag| flag.starts_with("-std=")) { &[] } else { standard };
    let all: Vec<&str> = [standard, STRICT, &["-g"], flags].concat();
    let mut command = compile(&sources, &all);
    command.arg("-o").arg(&output).arg("-L").arg(library()).args(["-lmessageport", "-lpthread"]);
    command.arg(format!("-Wl,-rpath,{}", library().display()));
    succeed(&mut command);
    output
}

/// Runs a command that must succeed, and returns its output.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{}", describe(command, &output));
    String::from_utf8(output.stdout).expect("text")
}

/// Runs a command.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Output {
    match command.output() {
        Ok(output) => output,
        Err(error) => panic!("{command:?}: {error}; a C and a C++ compiler (cc, c++) are needed for these tests"),
    }
}

pub(crate) fn describe(command: &Command, output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{command:?}: {}\n{out}{err}", output.status)
}

/// Runs every case of a program, each in a process of its own.
#[track_caller]
pub(crate) fn run_cases(program: &Path) {
    let list = succeed(Command::new(program).arg("--list"));
    assert!(list.lines().count() > 0);
    let mut failed = String::new();
    for case in list.lines() {
        let mut command = Command::new(program);
        let output = run(command.arg(case));
        if output.status.success() && output.stdout == format!("{case} ok\n").as_bytes() {
            println!("{case} ok");
        } else {
            writeln!(failed, "{}", describe(&command, &output)).expect("a string takes all");
        }
    }
    assert!(failed.is_empty(), "{failed}");
}

/// True if a tool is installed. If it is not, prints that the test is skipped.
#[track_caller]
pub(crate) fn have(tool: &str, test: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    there || skip(test, &format!("there is no {tool} here"))
}

/// Prints that a test is skipped, and returns false. Fails if the environment variable `MESSAGEPORT_SKIP_NOTHING` is
/// set.
#[track_caller]
pub(crate) fn skip(test: &str, why: &str) -> bool {
    assert!(std::env::var_os("MESSAGEPORT_SKIP_NOTHING").is_none(), "{test}: {why}");
    println!("SKIPPED: {test}: {why}");
    eprintln!("SKIPPED: {test}: {why}");
    false
}

/// The functions that the header declares, and those that it defines inline.
pub(crate) fn declared() -> (Vec<String>, Vec<String>) {
    let header = fs::read_to_string(source("include/messageport.h")).expect("the header");
    let code = without_comments(&header);
    let (mut functions, mut inline) = (Vec::new(), Vec::new());
    for (at, _) in code.match_indices("msgport_") {
        let name: String = code[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let starts = !code[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if starts && code[at + name.len()..].starts_with('(') {
            let line = code[..at].rsplit('\n').next().unwrap_or_default();
            if line.starts_with(' ') {
                continue; // a call, inside a function that the header defines
            }
            let list = if line.contains("static inline") { &mut inline } else { &mut functions };
            list.push(name);
        }
    }
    functions.sort();
    inline.sort();
    (functions, inline)
}

pub(crate) fn without_comments(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("/*") {
        code.push_str(before);
        rest = after.split_once("*/").map_or("", |(_, after)| after);
    }
    code + rest
}
