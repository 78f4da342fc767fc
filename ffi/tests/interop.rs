//! Processes in C, C++ and Rust hold the two ends of one channel, post ports and buffers to each other, and survive the
//! SIGKILL of the other one: each language as the parent and as the child of each.

mod native;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use messageport::{
    CloseReason, Message, MessageChannel, MessagePort, RecvError, RecvTimeoutError, TransferBuffer, parent_port,
    spawn_with_port,
};
use native::*;
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::{Pid, alarm};

const PATIENCE: Duration = Duration::from_secs(20);
/// The last action of the parent: it makes the child die, or waits to be killed.
const ENDS: [&str; 2] = ["end", "sleep"];

/// A program and its arguments.
type Role = Vec<String>;

fn native_role(name: &str, path: &str) -> Role {
    vec![program(name, &[path], &[]).display().to_string()]
}

/// This program, which runs one of its ignored tests.
fn rust_role(test: &str) -> Role {
    let this = std::env::current_exe().unwrap().display().to_string();
    [&*this, "--exact", test, "--ignored", "--nocapture"].map(str::to_owned).to_vec()
}

#[test]
fn every_parent_with_every_child() {
    let parents = [
        native_role("parent-c", "tests/c/parent.c"),
        native_role("parent-cpp", "tests/cpp/parent.cpp"),
        rust_role("rust_parent"),
    ];
    let children = [
        native_role("peer-c", "tests/c/peer.c"),
        native_role("peer-cpp", "tests/cpp/peer.cpp"),
        rust_role("rust_peer"),
    ];
    for parent in &parents {
        for child in &children {
            for end in ENDS {
                meet(parent, child, end);
            }
        }
    }
}

fn meet(parent: &Role, child: &Role, end: &str) {
    let pair = format!("{} with {}, {end}", name(&parent[0]), name(&child[0]));
    let mut command = Command::new(&parent[0]);
    command
        .args(&parent[1..])
        .stdout(Stdio::piped())
        .env("INTEROP", [&[end.to_owned()], &child[..]].concat().join("\n"));
    if parent.len() == 1 {
        command.arg(end).args(child);
    }
    let mut process = command.spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut expect = |what: &str| {
        // The harness of a Rust test prints lines of its own.
        assert!(lines.any(|line| line.ends_with(what)), "{pair}: no \"{what}\"");
    };
    if end == "sleep" {
        expect("asleep");
        kill(Pid::from_raw(process.id() as i32), Signal::SIGKILL).unwrap();
        // The orphaned child prints to the same pipe.
        expect("ended by MSGPORT_PEER_DIED");
        process.wait().unwrap();
    } else {
        expect("survived");
        assert!(process.wait().unwrap().success(), "{pair}");
    }
    lines.for_each(drop); // a harness fails if it cannot print
}

fn name(path: &str) -> &str {
    Path::new(path).file_name().unwrap().to_str().unwrap()
}

fn recv(port: &MessagePort) -> Message {
    port.recv_timeout(PATIENCE).expect("a message")
}

fn end_of(port: &MessagePort) -> CloseReason {
    match port.recv_timeout(PATIENCE) {
        Err(RecvTimeoutError::Failed(RecvError::Ended(reason))) => reason,
        other => panic!("instead of the end: {other:?}"),
    }
}

#[test]
#[ignore = "the parent of another test"]
fn rust_parent() {
    let Ok(told) = std::env::var("INTEROP") else { return };
    alarm::set(100);
    let mut told = told.lines();
    let end = told.next().unwrap();
    let MessageChannel { port1: port, port2: theirs } = MessageChannel::new().unwrap();
    let mut child = spawn_with_port(Command::new(told.next().unwrap()).args(told), theirs).unwrap();

    let MessageChannel { port1: near, port2: far } = MessageChannel::new().unwrap();
    let buffer = TransferBuffer::new(1 << 20).unwrap();
    buffer.write_at((1 << 20) - 6, b"inside").unwrap();
    port.post_message(b"echo", [far.into(), buffer.into()]).unwrap();
    let mut echo = recv(&port);
    let (arrived, buffer) = (echo.ports.remove(0), echo.buffers.remove(0));
    arrived.post_message(b"entangled", []).unwrap();
    assert_eq!((&*echo.data, &*recv(&near).data), (&b"echo"[..], &b"entangled"[..]));
    let mut text = [0; 6];
    buffer.read_at((1 << 20) - 6, &mut text).unwrap();
    assert_eq!(&text, b"inside");

    port.post_message(b"use", [arrived.into(), buffer.into()]).unwrap();
    let used = recv(&near);
    used.buffers[0].read_at(0, &mut text[..4]).unwrap();
    assert_eq!((&*used.data, &text[..4]), (&b"from the peer"[..], &b"seen"[..]));
    assert_eq!(end_of(&near), CloseReason::Closed);

    for number in 0..1000_u32 {
        port.post_message(&number.wrapping_add(1_000_000_000).to_ne_bytes(), []).unwrap();
    }
    for number in 0..1000_u32 {
        assert_eq!(recv(&port).data, number.wrapping_add(1_000_000_000).to_ne_bytes());
    }

    let MessageChannel { port1: near, port2: far } = MessageChannel::new().unwrap();
    port.post_message(b"hold", [far.into()]).unwrap();
    assert_eq!(recv(&port).data, b"held");
    if end == "sleep" {
        println!("asleep");
        nix::unistd::pause();
    }
    port.post_message(b"die", []).unwrap();
    assert_eq!((end_of(&port), end_of(&near)), (CloseReason::PeerDied, CloseReason::PeerDied));
    child.wait().unwrap();
    println!("survived");
}

#[test]
#[ignore = "the child of another test"]
fn rust_peer() {
    let Ok(parent) = parent_port() else { return };
    alarm::set(100);
    let mut held = Vec::new();
    let reason = loop {
        let mut message = match parent.recv_timeout(PATIENCE) {
            Ok(message) => message,
            Err(RecvTimeoutError::Failed(RecvError::Ended(reason))) => break reason,
            Err(error) => panic!("{error}"),
        };
        match &*message.data {
            b"die" => raise(Signal::SIGKILL).unwrap(),
            b"use" => {
                let buffer = message.buffers.remove(0);
                buffer.write_at(0, b"seen").unwrap();
                message.ports[0].post_message(b"from the peer", [buffer.into()]).unwrap();
            }
            b"hold" => {
                held.append(&mut message.ports);
                parent.post_message(b"held", []).unwrap();
            }
            data => {
                let ports = message.ports.into_iter().map(Into::into);
                let things = ports.chain(message.buffers.into_iter().map(Into::into));
                parent.post_message_timeout(data, things, PATIENCE).unwrap();
            }
        }
    };
    assert_eq!(reason, CloseReason::PeerDied);
    println!("ended by MSGPORT_PEER_DIED");
}
