//! Pairs, messages, buffers and files: the steps that most tests take.
#![allow(dead_code)] // each test program uses a part

use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use messageport::{
    ChannelOptions, CloseReason, Message, MessageChannel, MessagePort, PostError, PostErrorKind, RecvError,
    RecvTimeoutError, TransferBuffer, TryRecvError,
};
use nix::poll::{PollFd, PollFlags, poll};

/// Twenty seconds: a call that takes longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A new pair with these options.
pub(crate) fn pair_with(options: ChannelOptions) -> (MessagePort, MessagePort) {
    let MessageChannel { port1, port2 } = options.create().expect("a channel");
    (port1, port2)
}

/// A new pair whose queues do not grow.
pub(crate) fn pair() -> (MessagePort, MessagePort) {
    pair_with(ChannelOptions::new().max_capacity(64 << 10))
}

/// A new pair whose queues hold `capacity` bytes and do not grow. Data that does not fit a queue is an error.
pub(crate) fn pair_of(capacity: usize) -> (MessagePort, MessagePort) {
    let fits = capacity / 16 * 7 - 8;
    pair_with(ChannelOptions::new().capacity(capacity).max_capacity(capacity).max_message_len(fits))
}

/// A new pair whose queues start with `capacity` bytes and grow to `max_capacity`.
pub(crate) fn growing_pair(capacity: usize, max_capacity: usize) -> (MessagePort, MessagePort) {
    pair_with(ChannelOptions::new().capacity(capacity).max_capacity(max_capacity))
}

/// A new pair that recycles no buffers: a buffer that is dropped frees its memory and its descriptor.
pub(crate) fn forgetful_pair() -> (MessagePort, MessagePort) {
    pair_with(ChannelOptions::new().cached_buffers(0))
}

/// The next message.
#[track_caller]
pub(crate) fn recv(port: &MessagePort) -> Message {
    port.recv_timeout(PATIENCE).expect("a message")
}

/// The data of the next message, as text.
#[track_caller]
pub(crate) fn text(port: &MessagePort) -> String {
    String::from_utf8(recv(port).data).expect("text")
}

/// The port of the next message, which carries no other port and no buffer.
#[track_caller]
pub(crate) fn recv_port(port: &MessagePort) -> MessagePort {
    let Message { mut ports, buffers, .. } = recv(port);
    assert_eq!((ports.len(), buffers.len()), (1, 0), "things in the message");
    ports.remove(0)
}

/// The buffer of the next message, which carries no other buffer and no port.
#[track_caller]
pub(crate) fn recv_buffer(port: &MessagePort) -> TransferBuffer {
    let Message { ports, mut buffers, .. } = recv(port);
    assert_eq!((ports.len(), buffers.len()), (0, 1), "things in the message");
    buffers.remove(0)
}

/// Asserts that the queue is empty and the port has not ended.
#[track_caller]
pub(crate) fn assert_empty(port: &MessagePort) {
    let result = port.try_recv();
    assert!(matches!(result, Err(TryRecvError::Empty)), "expected no message: {result:?}");
}

/// Asserts that the port has ended for this reason, with no message before the end.
#[track_caller]
pub(crate) fn assert_ended(port: &MessagePort, reason: CloseReason) {
    for _ in 0..3 {
        match port.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Failed(RecvError::Ended(seen))) => assert_eq!(seen, reason),
            other => panic!("expected the end: {other:?}"),
        }
    }
    let error = port.post_message(b"to nobody", []).expect_err("the peer is gone").kind;
    assert!(matches!(error, PostErrorKind::PeerGone(seen) if seen == reason), "{error:?}");
}

/// Waits in poll(2) for a message or the end.
#[track_caller]
pub(crate) fn await_readable(port: &MessagePort) {
    let mut descriptors = [PollFd::new(port.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut descriptors, PATIENCE.as_millis() as u16).expect("poll");
    assert_eq!(ready, 1, "no message and no end within {PATIENCE:?}");
}

/// Posts a message for each number.
#[track_caller]
pub(crate) fn post_numbers(port: &MessagePort, numbers: Range<u32>) {
    for number in numbers {
        port.post_message(&number.to_ne_bytes(), []).expect("room for a number");
    }
}

/// Receives these numbers, in order.
#[track_caller]
pub(crate) fn expect_numbers(port: &MessagePort, numbers: Range<u32>) {
    for number in numbers {
        assert_eq!(recv(port).data, number.to_ne_bytes(), "number {number}");
    }
}

/// Calls `post` with long data and then with empty data, each until the queue is full. Returns the number of messages.
#[track_caller]
pub(crate) fn fill_by(mut post: impl FnMut(&[u8]) -> Result<(), PostError>) -> usize {
    let mut count = 0;
    for len in [500, 0] {
        loop {
            match post(&vec![count as u8; len]) {
                Ok(()) => count += 1,
                Err(error) => {
                    assert!(matches!(error.kind, PostErrorKind::Full(_)), "{error}");
                    break;
                }
            }
        }
    }
    count
}

/// Transfers a port over another pair. Returns the port that arrives.
#[track_caller]
pub(crate) fn hop(port: MessagePort) -> MessagePort {
    let (carrier1, carrier2) = pair();
    carrier1.post_message(b"", [port.into()]).expect("a port can be posted");
    recv_port(&carrier2)
}

/// Asserts that the two ports are the ends of one pair, and that both directions work.
#[track_caller]
pub(crate) fn assert_entangled(port1: &MessagePort, port2: &MessagePort) {
    for (from, to) in [(port1, port2), (port2, port1)] {
        from.post_message(b"are you there?", []).expect("a peer");
        assert_eq!(text(to), "are you there?");
    }
}

/// A buffer with these bytes.
#[track_caller]
pub(crate) fn buffer_of(bytes: &[u8]) -> TransferBuffer {
    let buffer = TransferBuffer::new(bytes.len()).expect("memory");
    buffer.write_at(0, bytes).expect("inside the buffer");
    buffer
}

/// An unlinked file in the temporary directory, with these bytes.
#[track_caller]
pub(crate) fn file_of(bytes: &[u8]) -> OwnedFd {
    let path = std::env::temp_dir().join(format!("messageport-{}-{:p}", std::process::id(), bytes));
    let mut file = File::options().read(true).write(true).create_new(true).open(&path).expect("a new file");
    std::fs::remove_file(&path).expect("this process made the file");
    file.write_all(bytes).expect("room on the disk");
    file.into()
}

/// All bytes of the file behind a descriptor.
#[track_caller]
pub(crate) fn contents(descriptor: &impl AsFd) -> Vec<u8> {
    let file = File::from(descriptor.as_fd().try_clone_to_owned().expect("a descriptor"));
    let mut bytes = vec![0; file.metadata().expect("a file").len() as usize];
    file.read_exact_at(&mut bytes, 0).expect("a readable file");
    bytes
}

/// All bytes of a buffer.
#[track_caller]
pub(crate) fn bytes_of(buffer: &TransferBuffer) -> Vec<u8> {
    buffer.to_vec().expect("a buffer of this process")
}
