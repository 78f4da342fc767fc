//! Corner cases of recycling, of growth and of long messages, in reach of an honest program.
#![allow(missing_docs)]

mod tools;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

use messageport::{
    BufferError, ChannelOptions, CloseReason, FullCause, Message, MessagePort, PostDataError, PostErrorKind, RecvError,
    RecvTimeoutError, SharedBuffer, TransferBuffer, TryRecvError,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use tools::attacker::Pages;
use tools::child::Role;
use tools::ledger::{Ledger, alone, assert_descriptors, descriptors};
use tools::memory::newest_memory;
use tools::{PATIENCE, cost_of, pair, pair_with, within};

const ROLES: &[Role] = &[];

#[test]
fn long_data_and_a_new_buffer_in_one_message_do_not_share_a_slot() {
    let _alone = alone();
    let (port, peer) = pair_with(ChannelOptions::new().cached_buffers(1));
    for round in 0..3_u8 {
        // The channel keeps a single buffer: the data goes in the recycled one, and the new buffer takes its slot.
        port.post_message(&[round; 100_000], []).expect("posted");
        assert_eq!(peer.recv().expect("a message").data, [round; 100_000]);
        let buffer = TransferBuffer::new(5000).expect("a buffer");
        buffer.write_value(0, &round).expect("written");
        port.post_message(&[round; 90_000], [buffer.into()]).expect("posted");
        let message = peer.recv().expect("a message");
        assert_eq!(message.data, [round; 90_000]);
        assert_eq!(message.buffers[0].read_value::<u8>(0).expect("a byte"), round);
    }
}

#[test]
fn no_message_is_longer_than_the_channel_allows() {
    let _alone = alone();
    let (port, peer) = pair_with(ChannelOptions::new().max_message_len(100));
    let assert_too_large = |error: PostErrorKind| {
        assert!(matches!(error, PostErrorKind::TooLarge { len: 101, max: 100 }), "{error:?}");
    };
    assert_eq!(port.max_message_len(), 100);
    assert_too_large(port.post_message(&[0; 101], []).expect_err("too large").kind);
    assert_too_large(port.post_message_timeout(&[0; 101], [], PATIENCE).expect_err("too large").kind);
    assert_too_large(port.post_message_detaching(&[0; 101], &[]).expect_err("too large"));
    assert_too_large(port.reserve(101).expect_err("too large").into());
    port.post_message(&[0; 100], []).expect("posted");
    assert_eq!(peer.recv().expect("a message").data.len(), 100);
}

#[test]
fn a_buffer_of_any_length_is_an_error_at_worst() {
    let _alone = alone();
    let (port, peer) = pair();
    for len in [usize::MAX, usize::MAX - 4095, usize::MAX / 2, 1 << 62] {
        assert!(matches!(port.buffer(len), Err(BufferError::ResourceExhausted(_))), "{len}");
    }
    port.post_message(b"it works", []).expect("posted");
    assert_eq!(tools::text(&peer), "it works");
}

#[test]
fn a_buffer_of_a_port_is_frozen_with_its_own_length() {
    let _alone = alone();
    let (port, peer) = pair();
    for len in [0, 1, 100, 4096, 5000] {
        let buffer = port.buffer(len).expect("a buffer");
        buffer.copy_from_slice(&vec![7; len]).expect("written");
        let frozen = buffer.freeze().expect("a buffer with a single holder");
        assert_eq!(&frozen[..], vec![7; len]);
        port.post_message(b"", [frozen.clone().into()]).expect("posted");
        assert_eq!(&peer.recv().expect("a message").frozen[0][..], vec![7; len]);
    }
}

#[test]
fn a_wait_to_post_a_port_with_recycled_buffers_sleeps() {
    let _alone = alone();
    within(3 * PATIENCE, || {
        let (port, peer) = pair_with(ChannelOptions::new().capacity(4096).max_capacity(4096));
        port.set_spin(Duration::ZERO);
        // A port whose capsule is 80 bytes, and 16 bytes for each of 40 buffers.
        let (passenger, other) = pair_with(ChannelOptions::new().cached_buffers(40));
        for _ in 0..40 {
            let buffer = TransferBuffer::new(10).expect("a buffer");
            passenger.post_message(b"", [buffer.into()]).expect("posted");
        }
        for _ in 0..40 {
            other.recv().expect("a message");
        }
        // Room for the port without its buffers.
        while port.post_message(&[0; 92], []).is_ok() {}
        for _ in 0..4 {
            peer.recv().expect("a message");
        }
        assert!(matches!(peer.try_recv_ref().map(drop), Ok(())));
        let wait = Duration::from_millis(300);
        let (result, cost) = cost_of(|| port.post_message_timeout(b"", [passenger.into()], wait));
        assert!(matches!(result.expect_err("no room").kind, PostErrorKind::TimedOut));
        assert!(cost.cpu < wait / 3, "used the CPU for {:?}", cost.cpu);
    });
}

#[test]
fn a_buffer_beside_a_damaged_port_comes_back() {
    let _alone = alone();
    let (port, peer) = pair();
    let ((passenger, _other), file) = newest_memory(pair);
    let pages = Pages::of(&file);
    port.post_message(b"", [TransferBuffer::new(10_000).expect("a buffer").into(), passenger.into()]).expect("posted");
    // The maker of the passenger's segment damages it in transit.
    pages.word(0).store(1, std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(peer.recv(), Err(messageport::RecvError::MessageError { .. })));
    assert_eq!(port.release_buffers().expect("a peer"), 1);
}

#[test]
fn a_closed_port_keeps_no_buffers_of_its_queue() {
    let _alone = alone();
    let (port, peer) = pair();
    let before = descriptors();
    for _ in 0..3 {
        port.post_message(b"", [TransferBuffer::new(10_000).expect("a buffer").into()]).expect("posted");
    }
    peer.close();
    assert_eq!(descriptors(), before + 3, "descriptors of the sender's buffers");
    assert!(port.recv().is_err());
    assert_descriptors(before, "after the close");
}

#[test]
fn a_message_written_in_place_finds_room_at_commit() {
    let _alone = alone();
    let (port, peer) = pair_with(ChannelOptions::new().capacity(4096).max_capacity(4096));
    while port.post_message(&[0; 24], []).is_ok() {}
    assert!(matches!(port.reserve(10_000), Err(PostDataError::Full(FullCause::Ring))));
    while peer.try_recv().is_ok() {}
    let mut reservation = port.reserve(10_000).expect("room");
    reservation.write_at(0, b"in place").expect("written");
    reservation.commit().expect("posted");
    assert_eq!(peer.recv().expect("a message").data[..8], *b"in place");
}

#[test]
fn a_receive_that_fails_for_a_shortage_leaves_an_empty_message() {
    let _alone = alone();
    let before = Ledger::now();
    {
        let (port, peer) = pair_with(ChannelOptions::new());
        port.post_message(&[1; 100_000], []).expect("posted");
        let mut message = Message::from(b"old".to_vec());
        let (limit, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        setrlimit(Resource::RLIMIT_NOFILE, 3, hard).expect("lower");
        let failed = peer.try_recv_into(&mut message);
        setrlimit(Resource::RLIMIT_NOFILE, limit, hard).expect("as before");
        assert!(matches!(failed, Err(TryRecvError::Failed(_))), "{failed:?}");
        assert!(message.data.is_empty());
        peer.try_recv_into(&mut message).expect("the message is still queued");
        assert_eq!(message.data, [1; 100_000]);
    }
    before.assert_restored("after a shortage");
}

#[test]
fn an_unused_pair_costs_no_more_than_a_page() {
    let _alone = alone();
    let ((port, peer), file) = newest_memory(|| pair_with(ChannelOptions::new()));
    drop(port);
    drop(peer);
    let stat = file.metadata().expect("an open file");
    if stat.blksize() == 4096 {
        assert_eq!(stat.blocks() * 512, 4096);
    }
}

#[test]
fn ports_in_the_queue_of_a_dropped_port_are_closed() {
    let _alone = alone();
    for first in [false, true] {
        let (port, peer) = pair();
        let (mut kept, mut sent): (Vec<_>, Vec<_>) = (0..3).map(|_| pair()).unzip();
        if first {
            port.post_message(b"read", [sent.remove(0).into()]).expect("posted");
            drop(peer.recv().expect("a message"));
            kept.remove(0);
        }
        for sent in sent {
            port.post_message(b"not read", [sent.into()]).expect("posted");
        }
        drop(peer);
        for kept in kept {
            let end = kept.recv_timeout(PATIENCE);
            assert!(matches!(end, Err(RecvTimeoutError::Failed(RecvError::Ended(CloseReason::Closed)))), "{end:?}");
        }
    }
}

#[test]
fn a_batch_leaves_messages_that_it_does_not_fill_unchanged() {
    let _alone = alone();
    let (port, peer) = pair();
    let mut messages: Vec<Message> = (0..3).map(|byte| Message::from(vec![byte])).collect();
    let (kept, sent) = pair();
    messages[1].ports.push(sent);
    for wait in [false, true] {
        port.post_message(b"one", []).expect("posted");
        let taken = match wait {
            true => peer.recv_messages(&mut messages).expect("a message"),
            false => peer.try_recv_messages(&mut messages).expect("a message"),
        };
        assert_eq!((taken, &messages[0].data[..]), (1, &b"one"[..]));
        assert_eq!((&messages[1].data, messages[1].ports.len(), &messages[2].data), (&vec![1], 1, &vec![2]));
    }
    assert!(matches!(kept.try_recv(), Err(TryRecvError::Empty)));
    // The next message in its place drops it.
    port.post_messages(&[b"two", b"three"]).expect("posted");
    assert_eq!(peer.recv_messages(&mut messages).expect("a message"), 2);
    assert_eq!((&messages[1].data[..], messages[1].ports.len()), (&b"three"[..], 0));
    assert!(matches!(
        kept.recv_timeout(PATIENCE),
        Err(RecvTimeoutError::Failed(RecvError::Ended(CloseReason::Closed)))
    ));
}

#[test]
fn a_batch_waits_for_its_first_message_only_and_no_longer_than_its_timeout() {
    let _alone = alone();
    let (port, peer) = pair();
    let mut messages = [b"kept", b"kept", b"kept"].map(|data| Message::from(data.to_vec()));
    let wait = Duration::from_millis(30);
    let (result, cost) = cost_of(|| peer.recv_messages_timeout(&mut messages, wait));
    assert!(matches!(result, Err(RecvTimeoutError::TimedOut)), "{result:?}");
    assert!(cost.time >= wait, "{:?} instead of {wait:?}", cost.time);
    assert_eq!(peer.recv_messages_timeout(&mut [], PATIENCE).expect("room for no message"), 0);
    let poster = thread::spawn(move || {
        thread::sleep(wait / 2);
        port.post_messages(&[b"one", b"two"]).expect("posted");
        port
    });
    // The second message may come a little later than the first.
    let mut received = 0;
    while received < 2 {
        received += peer.recv_messages_timeout(&mut messages[received..], PATIENCE).expect("a message");
    }
    assert_eq!(messages.each_ref().map(|message| &*message.data), [&b"one"[..], b"two", b"kept"]);
    drop(poster.join().expect("no panic"));
    let result = peer.recv_messages_timeout(&mut messages, PATIENCE);
    assert!(matches!(result, Err(RecvTimeoutError::Failed(RecvError::Ended(CloseReason::Closed)))), "{result:?}");
}

#[test]
fn a_grown_queue_shrinks_under_posts_of_recycled_buffers_alone() {
    let _alone = alone();
    let (port, peer) = pair_with(ChannelOptions::new().capacity(1 << 14).max_capacity(1 << 18));
    port.post_message(b"", [port.buffer(100).expect("a buffer").into()]).expect("posted");
    drop(peer.recv().expect("a message"));
    let before = descriptors();
    for _ in 0..5 {
        port.post_message(&[1; 6000], []).expect("posted");
    }
    assert!(descriptors() > before, "the queue has grown");
    for _ in 0..5 {
        assert_eq!(peer.recv().expect("a message").data, [1; 6000]);
    }
    assert!(matches!(peer.try_recv(), Err(TryRecvError::Empty)));
    for _ in 0..2 {
        port.post_message(b"", [port.buffer(100).expect("a buffer").into()]).expect("posted");
        assert_eq!(peer.recv().expect("a message").buffers[0].len(), 100);
    }
    assert_descriptors(before, "without the larger rings");
}

/// The names of the memory files that this process has open.
fn memory_files() -> Vec<String> {
    let links =
        fs::read_dir("/proc/self/fd").expect("proc").flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter_map(|link| link.to_string_lossy().strip_prefix("/memfd:").map(str::to_owned)).collect()
}

#[test]
fn the_name_of_a_channel_is_seen_wherever_its_ports_are() {
    let _alone = alone();
    let (port, peer) = pair_with(ChannelOptions::new().capacity(4096).name("camera \n1"));
    let named = |port: &MessagePort| format!("{port:?}").contains(r#"name: "camera \n1""#);
    assert!(named(&port) && named(&peer), "{port:?}");
    let is_open = |kind: &str| memory_files().contains(&format!("{kind}:camera \n1 (deleted)"));
    assert!(is_open("messageport") && !is_open("messageport-ring"), "{:?}", memory_files());
    // Its queue grows.
    for _ in 0..10 {
        port.post_data([0; 1000]).expect("room");
    }
    assert!(is_open("messageport-ring"), "{:?}", memory_files());
    // It is transferred, and renewed.
    let (here, there) = pair();
    assert!(!format!("{here:?}").contains("name"), "{here:?}");
    here.post_message("a port", [peer.into()]).expect("room");
    let peer = there.recv().expect("a message").ports.remove(0);
    assert!(named(&peer), "{peer:?}");
    let port = port.renew().expect("resources");
    assert!(named(&port), "{port:?}");
    // No name, and the longest.
    let (unnamed, _peer) = pair_with(ChannelOptions::new().name(""));
    assert!(!format!("{unnamed:?}").contains("name"), "{unnamed:?}");
    let name = "n".repeat(32);
    let (longest, _peer) = pair_with(ChannelOptions::new().name(&name));
    assert!(format!("{longest:?}").contains(&name), "{longest:?}");
}

#[test]
fn what_has_been_read_leaves_room_for_a_message_that_needs_a_larger_ring() {
    let _alone = alone();
    let (a, b) = pair_with(ChannelOptions::new().capacity(4096).max_capacity(16384));
    let thing = || [SharedBuffer::new(1).expect("memory").into()];
    for len in [5000, 12_000, 1770, 1780, 3000, 5000] {
        a.post_message(&vec![1; len], thing()).unwrap_or_else(|error| panic!("{len} bytes: {error}"));
        assert_eq!(b.recv().expect("a message").data.len(), len);
    }
}

#[test]
fn a_port_that_moved_forgets_what_its_former_holder_posted_once_it_has_been_read() {
    let _alone = alone();
    let (a, b) = pair_with(ChannelOptions::new().capacity(4096).max_capacity(4096));
    let (carrier, there) = pair();
    a.post_message(&[1; 12_000], []).expect("room");
    a.post_message(b"short", []).expect("room");
    carrier.post_message(b"", [a.into()]).expect("room");
    let a = there.recv().expect("a message").ports.remove(0);
    assert_eq!(b.recv().expect("a message").data.len(), 12_000);
    assert_eq!(b.recv().expect("a message").data, b"short");
    a.post_message(&[2; 12_000], []).expect("room");
    assert_eq!(b.recv().expect("a message").data.len(), 12_000);
}
