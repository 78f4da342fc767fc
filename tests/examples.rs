//! The examples print what their pages promise.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The program of an example, which cargo builds together with the tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap(); // target/PROFILE/deps/this-test
    test.parent().unwrap().parent().unwrap().join("examples").join(name)
}

#[test]
fn the_readme_shows_two_programs_that_meet() {
    let readme = include_str!("../README.md");
    for (name, source) in
        [("greeter", include_str!("../examples/greeter.rs")), ("visitor", include_str!("../examples/visitor.rs"))]
    {
        let (_, example) = source.split_once("\n\n").unwrap();
        assert!(readme.contains(example), "README.md and examples/{name}.rs differ");
    }
}

#[test]
fn two_programs_meet() {
    let name = std::env::temp_dir().join(format!("messageport-greeter-{}", std::process::id()));
    let mut greeter = Command::new(example("greeter")).arg(&name).spawn().unwrap();
    // The greeter has bound the name when it has made the socket and listens.
    let visit = || Command::new(example("visitor")).arg(&name).output().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let output =
        std::iter::repeat_with(visit).find(|output| output.status.success() || Instant::now() > deadline).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "hello, visitor\n");
    let output = visit();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "hello, visitor\n");
    greeter.kill().unwrap();
    greeter.wait().unwrap();
    for left in [name.clone(), name.with_extension("lock")] {
        let _ = std::fs::remove_file(left);
    }
}

#[test]
fn every_example_has_a_command_in_the_list() {
    let list = include_str!("../examples/README.md");
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples");
    for entry in [folder.clone(), folder.join("c")].into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()) {
        let path = entry.unwrap().path();
        let below = path.strip_prefix(&folder).unwrap().to_str().unwrap();
        let command = match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => format!("--example {}", path.file_stem().unwrap().to_str().unwrap()),
            Some("c" | "cpp") => format!("examples/{below}"),
            _ => continue,
        };
        let line = list.lines().find(|line| line.contains(&format!("({below})")));
        assert!(line.is_some_and(|line| line.contains(&command)), "examples/README.md has no command for {below}");
    }
}

#[test]
fn hello() {
    assert_eq!(said_by("hello"), "child: 16777216 bytes in a buffer\nparent: hello from the child\n");
}

/// The output of an example.
#[track_caller]
fn said_by(name: &str) -> String {
    let output = Command::new(example(name)).output().expect("run `cargo test`, which builds the examples too");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn page_and_iframe() {
    let said = said_by("page_and_iframe");
    // Two processes write to one pipe, each in its own order.
    let of = |who: &str| said.lines().filter(|line| line.starts_with(who)).collect::<Vec<_>>();
    assert_eq!(of("page"), ["page: ready", "page: received, thanks", "page: the iframe ended with exit status: 0"]);
    assert_eq!(of("iframe"), ["iframe: a message from the page", "iframe: the peer was closed"]);
    assert_eq!(said.lines().count(), 5);
}

#[test]
fn embedded() {
    assert_eq!(said_by("embedded"), "from the worker: A LINE FOR THE WORKER\na timer\n");
}

#[test]
fn broadcast() {
    const LEN: usize = 8 << 20;
    let model = std::env::temp_dir().join(format!("messageport-model-{}", std::process::id()));
    let bytes: Vec<u8> = (0..LEN).map(|number| (number / 3) as u8).collect();
    std::fs::write(&model, &bytes).unwrap();
    let output = Command::new(example("broadcast")).arg(&model).arg("5").output().unwrap();
    std::fs::remove_file(&model).unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let checksum = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let of_worker = format!(": {LEN} bytes, checksum {checksum:016x}");
    assert_eq!(said.lines().filter(|line| line.ends_with(&of_worker)).count(), 5, "{said}");
    // Six processes map the buffer, which is in memory once.
    let (_, memory) = said.rsplit_once("process: ").unwrap();
    let kibibytes: usize = memory.split(' ').next().unwrap().parse().unwrap();
    assert!((LEN / 1024 - 64..LEN / 1024 + 512).contains(&kibibytes), "{said}");
}

#[test]
fn worker_pool() {
    let line = |color| format!("worker Some({}) has painted 1048576 bytes with [{color}]\n", (color - 1) % 3);
    assert_eq!(said_by("worker_pool"), (1..=6).map(line).collect::<String>());
}

#[test]
fn call() {
    let said = "pi was Some(3.0)\ne is None\npi is Some(3.125)\nno answer: the process that held the peer ended\n";
    assert_eq!(said_by("call"), said);
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

#[test]
fn frames() {
    let output = Command::new(example("frames")).arg("7").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("7 frames of 8100 KiB: ") && lines[0].ends_with(" a second"), "{said}");
    for (line, who) in lines[1..].iter().zip(["drawing: ", "playing: "]) {
        assert!(line.starts_with(who) && line.ends_with(" us a frame"), "{said}");
    }
    assert_eq!(lines.len(), 3, "{said}");
}
