//! How many messages with transfer lists can be unread on one port, for an ordinary user.

mod tools;

use messageport::{FullCause, MessageChannel, PostErrorKind, TransferBuffer};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
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
fn the_limit_of_unread_buffers_is_named() {
    play("large");
}

fn large() {
    become_an_ordinary_user(65533);
    let MessageChannel { port1, port2 } = MessageChannel::new().expect("a channel");
    for _ in 0..2 {
        let mut count = 0;
        let error = loop {
            let buffer = TransferBuffer::new(8192).expect("memory");
            match port1.post_message(b"", [buffer.into()]) {
                Ok(()) => count += 1,
                Err(error) => break error,
            }
            assert!(count <= 2 * DESCRIPTORS, "a limit");
        };
        assert_eq!(error.transfer.len(), 1);
        let text = error.to_string();
        match error.kind {
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
            assert_eq!(port2.try_recv().expect("every message").buffers[0].len(), 8192);
        }
        port1.post_message(b"again", error.transfer).expect("room again");
        assert_eq!(port2.recv().expect("a message").data, b"again");
    }
}
