//! For ThreadSanitizer, run by `tests/thread-sanitizer`: a message orders the accesses of one thread before the post
//! and the accesses of another thread after the receive, and nothing else does.
//!
//! Without ThreadSanitizer these tests prove nothing.

use std::cell::UnsafeCell;
use std::sync::Arc;
use std::thread;

use messageport::{ChannelOptions, MessageChannel, MessagePort};

/// Memory that two threads access without any ordering of its own.
struct Shared(UnsafeCell<u64>);

// SAFETY: the tests order the accesses by messages. The control does not, for ThreadSanitizer to find.
#[allow(unsafe_code)]
unsafe impl Sync for Shared {}

impl Shared {
    #[allow(unsafe_code)]
    fn write(&self, value: u64) {
        // SAFETY: valid memory. ThreadSanitizer checks that no other thread accesses it now.
        unsafe { self.0.get().write_volatile(value) };
    }

    #[allow(unsafe_code)]
    fn read(&self) -> u64 {
        // SAFETY: valid memory. ThreadSanitizer checks that no other thread writes it now.
        unsafe { self.0.get().read_volatile() }
    }
}

/// Runs the two closures on two threads, each with the memory and one end of a pair.
fn two_threads(
    one: impl FnOnce(&Shared, MessagePort) + Send + 'static,
    other: impl FnOnce(&Shared, MessagePort) + Send + 'static,
) {
    let options = ChannelOptions::new().capacity(4096).max_capacity(4096);
    let MessageChannel { port1, port2 } = options.create().expect("a channel");
    let memory = Arc::new(Shared(UnsafeCell::new(0)));
    let there = Arc::clone(&memory);
    let thread = thread::spawn(move || one(&there, port1));
    other(&memory, port2);
    thread.join().expect("the other thread");
}

#[test]
fn a_message_orders_the_accesses_before_it() {
    let write_and_post = |memory: &Shared, port: MessagePort| {
        for number in 1..1000 {
            memory.write(number);
            port.post_message(&number.to_ne_bytes(), []).expect("room");
            port.recv().expect("an answer");
        }
    };
    two_threads(write_and_post, |memory, port| {
        for number in 1..1000_u64 {
            assert_eq!(port.recv().expect("a message").data, number.to_ne_bytes());
            assert_eq!(memory.read(), number);
            port.post_message(b"", []).expect("room");
        }
    });
}

#[test]
fn released_space_orders_the_accesses_before_it() {
    let write = |memory: &Shared, port: MessagePort| {
        // A full queue, whose reader writes the memory before it makes room.
        while port.post_message(&[0; 1000], []).is_ok() {}
        port.post_message_wait(&[1; 1000], []).expect("room in the end");
        assert_eq!(memory.read(), 7);
        port.recv().expect("an answer");
    };
    two_threads(write, |memory, port| {
        memory.write(7);
        while port.recv().expect("a message").data[0] == 0 {}
        port.post_message(b"", []).expect("room");
    });
}

/// The control: a thread writes after the post.
#[test]
#[ignore = "a race, which ThreadSanitizer must report"]
fn a_race() {
    let post_and_write = |memory: &Shared, port: MessagePort| {
        port.post_message(b"", []).expect("room");
        memory.write(1);
        port.recv().expect("an answer");
    };
    two_threads(post_and_write, |memory, port| {
        port.recv().expect("a message");
        memory.read();
        port.post_message(b"", []).expect("room");
    });
}
