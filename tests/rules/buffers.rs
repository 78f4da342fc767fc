//! S37 to S39: a buffer on a transfer list.

use std::os::unix::fs::FileExt;

use messageport::{BufferError, TransferBuffer, TransferRef};

use crate::harness::*;

rules! {
    s37_a_transferred_buffer_is_the_same_memory,
    s38_a_buffer_moves_whole_and_any_number_of_times,
    s39_a_buffer_that_nobody_receives_is_freed,
}

/// Where a buffer's bytes begin in its memory file.
const DATA: u64 = 4096;

fn s37_a_transferred_buffer_is_the_same_memory(peer: &mut Peer) {
    let carrier = peer.channel();
    let mut lens = vec![0, 1, 5 << 20];
    if available_memory() >= 3 << 30 {
        lens.push(1 << 30);
    } else {
        println!("skipped: a buffer of 1 GiB, since less than 3 GiB of memory are available");
    }
    for len in lens {
        // The file is kept open against the rules, to see what the receiver does to the pages.
        let (buffer, memory) = newest_memory(|| TransferBuffer::new(len).unwrap());
        places(len).for_each(|at| buffer.write_at(at, b"h").unwrap());
        carrier.post_message_detaching(b"", &[TransferRef::Buffer(&buffer)]).unwrap();
        assert_eq!(buffer.len(), 0);
        assert!(matches!(buffer.read_at(0, &mut []), Err(BufferError::Detached)));
        peer.run(|there| {
            let buffer = recv_buffer(there.port());
            for at in places(buffer.len()) {
                assert_eq!(byte_at(&buffer, at), *b"h", "at {at}");
                buffer.write_at(at, b"t").unwrap();
            }
            there.buffers.push(buffer);
        });
        for at in places(len) {
            let mut byte = [0];
            memory.read_exact_at(&mut byte, DATA + at as u64).unwrap();
            assert_eq!(byte, *b"t", "what was written there, at {at} of {len}");
            memory.write_all_at(b"k", DATA + at as u64).unwrap();
        }
        // The other way round too.
        peer.run(|there| {
            let buffer = there.buffers.pop().unwrap();
            places(buffer.len()).for_each(|at| assert_eq!(byte_at(&buffer, at), *b"k", "at {at}"));
        });
    }
}

/// The first, the middle and the last byte of `len`: as far as there are so many.
fn places(len: usize) -> impl Iterator<Item = usize> {
    let places = [0, len / 2, len.saturating_sub(1)];
    (0..3.min(len)).map(move |number| places[number])
}

fn byte_at(buffer: &TransferBuffer, at: usize) -> [u8; 1] {
    let mut byte = [0];
    buffer.read_at(at, &mut byte).unwrap();
    byte
}

fn s38_a_buffer_moves_whole_and_any_number_of_times(peer: &mut Peer) {
    const LEN: usize = 100_003;
    let mut expected: Vec<u8> = (0..LEN).map(|number| number as u8).collect();
    let mut buffer = buffer_of(&expected);
    for round in 0..20 {
        // A new port each time; everybody on the way leaves a mark.
        let carrier = peer.channel();
        carrier.post_message(b"", [buffer.into()]).unwrap();
        let mut returned = peer.run(|there| {
            let buffer = recv_buffer(&there.ports.pop().unwrap());
            assert_eq!(buffer.len(), LEN);
            buffer.write_at(5 * there.seen as usize, b"there").unwrap();
            there.seen += 1;
            there.give_back(buffer);
        });
        expected[5 * round..5 * (round + 1)].copy_from_slice(b"there");
        buffer = returned.buffers.pop().unwrap();
        assert!(bytes_of(&buffer) == expected, "after round {round}");
    }
}

fn s39_a_buffer_that_nobody_receives_is_freed(peer: &mut Peer) {
    let posted = |peer: &mut Peer| {
        let carrier = peer.channel();
        let (buffer, memory) = newest_memory(|| TransferBuffer::new(1 << 20).unwrap());
        let watch = Watch::new(&memory);
        carrier.post_message(b"", [buffer.into()]).unwrap();
        drop(memory);
        assert!(!watch.is_freed(), "while it is in the queue");
        (watch, carrier)
    };
    let (freed_by_close, _carrier) = posted(peer);
    peer.run(|there| there.ports.pop().unwrap().close());
    freed_by_close.assert_freed();

    let (freed_by_drop, _carrier) = posted(peer);
    peer.run(|there| there.ports.clear());
    freed_by_drop.assert_freed();

    // Received, and not used.
    let (freed_in_message, _carrier) = posted(peer);
    peer.run(|there| drop(recv(there.port())));
    freed_in_message.assert_freed();

    // Held by nobody but the queue of a port in a queue.
    let (witness, port) = pair();
    let (buffer, memory) = newest_memory(|| TransferBuffer::new(1 << 20).unwrap());
    let freed_in_transit = Watch::new(&memory);
    drop(memory);
    witness.post_message(b"", [buffer.into()]).unwrap();
    peer.give(port);
    assert!(!freed_in_transit.is_freed());

    let (freed_by_death, _carrier) = posted(peer);
    peer.kill();
    freed_by_death.assert_freed();
    freed_in_transit.assert_freed();
}

/// Bytes that the system could give now.
fn available_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = info.lines().find(|line| line.starts_with("MemAvailable:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
