//! Values that are nested deeply, on threads with small and with usual stacks. A stack overflow would kill the process,
//! so each test runs in one of its own.

#[allow(dead_code)] // a part is used
#[path = "../tools/child.rs"]
pub(crate) mod child;

use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use std::thread;

use messageport::{
    BadTransfer, BadValue, MessagePort, RecvError, TypedClient, TypedPort, TypedPostErrorKind, TypedServer,
};
use nix::sys::resource::{Resource, setrlimit};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::harness::*;

rules! { mod alone, Setting::OneThread:
    an_endlessly_nested_value_overflows_no_stack,
    what_was_decoded_can_be_posted_and_dropped,
    a_hundred_levels_are_usual,
    a_value_that_is_too_deep_is_not_posted,
    answers_and_requests_overflow_no_stack
}

/// KiB of the stacks: of a small thread of C, of musl, of a larger thread of C, and of Rust and tokio. They grow,
/// because the system may give a thread a larger stack that an ended thread has left.
const STACKS: [usize; 4] = [64, 128, 512, 2048];

#[derive(Serialize, Deserialize)]
struct List {
    next: Option<Box<List>>,
}

#[derive(Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Box<Tree>),
}

#[derive(Serialize, Deserialize)]
struct Folder {
    name: String,
    inside: Vec<Folder>,
}

#[derive(Serialize, Deserialize)]
enum Document {
    Null,
    Text(String),
    Array(Vec<Document>),
    Object(BTreeMap<String, Document>),
    Table(HashMap<String, Document>),
}

/// A level that takes much stack.
#[derive(Serialize, Deserialize)]
struct Wide {
    numbers: ([u64; 16], [u64; 16]),
    next: Option<Box<Wide>>,
}

/// The encoding of a recursive type: that of one level, and that of the end.
type Encoding = (&'static [u8], &'static [u8]);

/// Calls `$check` with the size of a stack, and with each recursive type and its encoding.
macro_rules! each_type {
    ($check:ident, $kib:expr) => {
        $check::<List>($kib, (&[1], &[0]));
        $check::<Tree>($kib, (&[1], &[0]));
        $check::<Folder>($kib, (&[1, b'x', 1], &[1, b'x', 0]));
        $check::<Document>($kib, (&[2, 1], &[0]));
        $check::<Document>($kib, (&[3, 1, 1, b'k'], &[0]));
        $check::<Document>($kib, (&[4, 1, 1, b'k'], &[0]));
        $check::<Wide>($kib, (&[[0; 32], [1; 32]].as_flattened()[..33], &[0; 33]));
    };
}

/// Runs `body` on a thread with a stack of `kib` KiB.
fn on_stack<R: Send + 'static>(kib: usize, body: impl FnOnce() -> R + Send + 'static) -> R {
    thread::Builder::new().stack_size(kib << 10).spawn(body).unwrap().join().unwrap()
}

fn nested((level, end): Encoding, depth: usize) -> Vec<u8> {
    let mut data = level.repeat(depth);
    data.extend(end);
    data
}

/// Posts a value of this depth. `None`: it was received as an error, and lost nothing but itself.
#[track_caller]
fn receive<T: DeserializeOwned>(
    port: &MessagePort,
    receiver: &TypedPort<T, T>,
    encoding: Encoding,
    depth: usize,
) -> Option<T> {
    let data = nested(encoding, depth);
    port.post_message(&data, []).unwrap();
    match receiver.recv() {
        Ok(value) => Some(value),
        Err(RecvError::MessageError { reason, data: seen }) => {
            assert_eq!(reason, BadTransfer::Value(BadValue::TooDeep));
            assert!(reason.to_string().contains("512 KiB"), "{reason}");
            assert_eq!(seen, data);
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

fn an_endlessly_nested_value_overflows_no_stack(_: &mut Peer) {
    fn check<T: DeserializeOwned + Serialize>(kib: usize, encoding: Encoding) {
        on_stack(kib, move || {
            let (port, peer) = pair_of(4 << 20);
            let receiver: TypedPort<T, T> = peer.into();
            assert!(receive(&port, &receiver, encoding, 40_000).is_none());
            // The next value is not affected.
            assert!(receive(&port, &receiver, encoding, 1).is_some());
        });
    }
    for kib in STACKS {
        each_type!(check, kib);
    }
}

fn what_was_decoded_can_be_posted_and_dropped(_: &mut Peer) {
    fn check<T: DeserializeOwned + Serialize>(kib: usize, encoding: Encoding) {
        on_stack(kib, move || {
            let (port, peer) = pair_of(4 << 20);
            let receiver: TypedPort<T, T> = peer.into();
            let (mut accepted, mut refused) = (0_usize, 40_000);
            while accepted + 1 < refused {
                let depth = accepted.midpoint(refused);
                match receive(&port, &receiver, encoding, depth) {
                    Some(value) => {
                        accepted = depth;
                        receiver.post(value).unwrap();
                        assert_eq!(recv(&port).data.len(), nested(encoding, depth).len());
                    }
                    None => refused = depth,
                }
            }
            assert!(accepted > 1, "{kib} KiB: {accepted} levels");
        });
    }
    for kib in STACKS {
        each_type!(check, kib);
    }
}

fn a_hundred_levels_are_usual(_: &mut Peer) {
    fn check<T: DeserializeOwned + Serialize>(kib: usize, encoding: Encoding) {
        let body = move || {
            let (port, peer) = pair();
            let receiver: TypedPort<T, T> = peer.into();
            let value = receive(&port, &receiver, encoding, 130).expect("a value that is not too deep");
            receiver.post(value).unwrap();
        };
        on_stack(kib, body);
    }
    each_type!(check, 2048);
}

/// A tree with a port at its end.
#[derive(Serialize, Deserialize)]
enum Branch {
    End(MessagePort),
    Node(Box<Branch>),
}

fn a_value_that_is_too_deep_is_not_posted(_: &mut Peer) {
    for kib in STACKS {
        on_stack(kib, || {
            let (port, peer) = pair_of(4 << 20);
            let sender: TypedPort<Branch, u8> = port.into();
            let (here, there) = pair();
            let mut value = Branch::End(there);
            for _ in 0..40_000 {
                value = Branch::Node(Box::new(value));
            }
            let error = sender.post(value).unwrap_err();
            assert!(matches!(error.kind, TypedPostErrorKind::TooDeep), "{error:?}");
            // The value is back, with its port. Taking it apart takes no stack.
            let mut value = error.into_inner();
            let there = loop {
                match value {
                    Branch::End(port) => break port,
                    Branch::Node(next) => value = *next,
                }
            };
            assert_entangled(&here, &there);
            // Nothing was posted.
            sender.post(Branch::Node(Box::new(Branch::End(there)))).unwrap();
            let received = recv(&peer);
            assert_eq!((&received.data[..], received.ports.len()), (&[1, 0, 0][..], 1));
        });
    }
}

fn answers_and_requests_overflow_no_stack(_: &mut Peer) {
    let (here, there) = pair_of(4 << 20);
    let untyped = messageport::Client::new(here);
    let call = untyped.start(&nested((&[1], &[0]), 40_000), []).unwrap();
    on_stack(64, || {
        let server = TypedServer::<Tree, Tree>::new(there);
        let too_deep = BadTransfer::Value(BadValue::TooDeep);
        assert!(matches!(server.recv(), Err(RecvError::MessageError { reason, .. }) if reason == too_deep));
    });
    drop(call);
    let (here, there) = pair_of(4 << 20);
    on_stack(64, || {
        let client = TypedClient::<u8, Tree>::new(here);
        let call = client.start(1).unwrap();
        let server = messageport::Server::new(there);
        server.recv().unwrap().1.answer(&nested((&[1], &[0]), 40_000), []).unwrap();
        assert!(call.wait().is_err());
    });
}

/// A role: decodes on the main thread.
pub(crate) fn main_thread() {
    let (port, peer) = pair_of(4 << 20);
    let receiver: TypedPort<Tree, Tree> = peer.into();
    assert!(receive(&port, &receiver, (&[1], &[0]), 40_000).is_none());
    drop(receive(&port, &receiver, (&[1], &[0]), 130).expect("a value that is not too deep"));
}

#[test]
fn the_main_thread_decodes_with_any_limit_of_its_stack() {
    for kib in ["512", "8192", "unlimited"] {
        let role = child::command("main thread");
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -s $1 || exit 77; exec $0"]).arg(std::env::current_exe().unwrap()).arg(kib);
        shell.envs(role.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = shell.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(77) => println!("SKIPPED: this user may not set the limit of the stack to {kib}"),
            code => assert_eq!(code, Some(0), "{kib} KiB: {}\n{text}", output.status),
        }
    }
}

/// A role: decodes with 64 MiB of address space. Each level claims as many elements as bytes follow.
pub(crate) fn little_memory() {
    let (port, peer) = pair_of(4 << 20);
    let receiver: TypedPort<Folder, Folder> = peer.into();
    let mut data = [1, b'x', 0xa0, 0x9c, 0x01].repeat(10_000); // 20_000 elements
    data.extend([0; 20_000]);
    port.post_message(&data, []).unwrap();
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').next().unwrap().parse().unwrap();
    let limit = pages * 4096 + (64 << 20);
    setrlimit(Resource::RLIMIT_AS, limit, limit).unwrap();
    let error = receiver.recv().err().expect("a value that is too deep");
    assert!(
        matches!(error, RecvError::MessageError { reason: BadTransfer::Value(BadValue::TooDeep), .. }),
        "{error:?}"
    );
}

#[test]
fn lengths_inside_lengths_take_no_memory() {
    child::play("little memory");
}
