//! How many messages with transfer lists can be unread on one port, for an ordinary user.

mod tools;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use messageport::{FullCause, MessageChannel, PostErrorKind, TransferBuffer, TransferRef, Transferable};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};
use tools::child::{Role, play};

const ROLES: &[Role] = &[("small", small), ("large", large)];

/// The usual soft limit of open descriptors.
const DESCRIPTORS: u64 = 1024;

/// Gives up the privileges that lift limits, for a user that has nothing in flight, and takes the usual soft limit.
fn become_an_ordinary_user(id: u32) {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    let descriptors = DESCRIPTORS.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, descriptors, descriptors).expect("a lower limit");
    if geteuid().is_root() {
        setgroups(&[]).expect("root may");
        setgid(Gid::from_raw(id)).expect("root may");
        setuid(Uid::from_raw(id)).expect("root may");
    }
}

#[test]
fn small_buffers_can_be_unread_beyond_every_limit_of_descriptors() {
    play("small");
}

fn small() {
    const COUNT: u32 = 12_000; // more than twelve times the limit of descriptors
    become_an_ordinary_user(65534);
    let MessageChannel { port1, port2 } = MessageChannel::new().expect("a channel");
    for number in 0..COUNT {
        let buffer = TransferBuffer::new(1 + number as usize % 100).expect("memory");
        buffer.write_at(0, &[number as u8]).expect("inside");
        port1.post_message(&number.to_ne_bytes(), [buffer.into()]).expect("room for every message");
    }
    for number in 0..COUNT {
        let message = port2.try_recv().expect("every message");
        let [buffer] = &message.buffers[..] else { panic!("one buffer") };
        assert_eq!(message.data, number.to_ne_bytes());
        assert_eq!(buffer.len(), 1 + number as usize % 100);
        assert_eq!(buffer.read_value::<u8>(0).expect("inside"), number as u8);
        assert!(buffer.to_vec().expect("here")[1..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_full_lane_stops_neither_data_nor_buffers_that_fit_the_ring() {
    let MessageChannel { port1, port2 } = MessageChannel::new().expect("a channel");
    let file = File::open("/dev/null").expect("a file");
    setsockopt(&port1.as_fd(), sockopt::SndBuf, &20_000).expect("a socket");
    let mut files = 0;
    while port1.post_message_detaching(b"file", &[TransferRef::Descriptor(file.as_fd())]).is_ok() {
        files += 1;
        assert!(files < 1000, "the lane is never full");
    }
    // Far more than the ring holds before it grows.
    let long = [7; 10_000];
    for number in 0..500_u32 {
        let (new, of_port) = (TransferBuffer::new(10_000), port1.buffer(9_999));
        let list = [new, of_port].map(|buffer| buffer.expect("memory"));
        list[0].write_value(9_996, &number).expect("inside");
        port1.post_message(&number.to_ne_bytes(), list.map(Transferable::from)).expect("room in the ring");
        port1.post_message(&long, []).expect("room in the ring");
    }
    let full = port1.post_message(b"", [OwnedFd::from(file).into()]);
    assert!(matches!(full.expect_err("a full lane").kind, PostErrorKind::Full(FullCause::Lane)));
    for _ in 0..files {
        assert_eq!(port2.try_recv().expect("every message").descriptors.len(), 1);
    }
    for number in 0..500_u32 {
        let message = port2.try_recv().expect("every message");
        assert_eq!((&message.data[..], message.buffers.len()), (&number.to_ne_bytes()[..], 2));
        assert_eq!(message.buffers.iter().map(TransferBuffer::len).collect::<Vec<_>>(), [10_000, 9_999]);
        assert_eq!(message.buffers[0].read_value::<u32>(9_996).expect("inside"), number);
        assert_eq!(port2.try_recv().expect("every message").data, long);
    }
}

#[test]
fn the_limit_of_unread_buffers_is_named() {
    play("large");
}

fn large() {
    /// Longer than what fits the ring.
    const LEN: usize = 40_000;
    become_an_ordinary_user(65533);
    let MessageChannel { port1, port2 } = MessageChannel::new().expect("a channel");
    for _ in 0..2 {
        let mut count = 0;
        let error = loop {
            let buffer = TransferBuffer::new(LEN).expect("memory");
            match port1.post_message(b"", [buffer.into()]) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
            assert!(count <= 2 * DESCRIPTORS, "a limit");
        };
        let text = error.to_string();
        let (kind, list) = error.into_parts();
        assert_eq!(list.len(), 1);
        match kind {
            PostErrorKind::ResourceExhausted(_) => {
                assert!(count >= 900, "{count}");
                assert!(text.contains("RLIMIT_NOFILE") && text.contains(&DESCRIPTORS.to_string()), "{text}");
            }
            PostErrorKind::Full(FullCause::Lane) => {
                assert!(count >= 500, "{count}");
                assert!(text.contains("net.core.wmem_max"), "{text}");
                let stated = text.split(' ').find_map(|word| word.parse::<u64>().ok()).expect("a number");
                assert!(stated.abs_diff(count) < 50, "{count} were unread: {text}");
            }
            kind => panic!("{kind:?}"),
        }
        for _ in 0..count {
            assert_eq!(port2.try_recv().expect("every message").buffers[0].len(), LEN);
        }
        port1.post_message(b"again", list).expect("room again");
        assert_eq!(port2.recv().expect("a message").data, b"again");
    }
}
