//! S37 to S41: buffers of all kinds and descriptors on a transfer list.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::Instant;

use messageport::{BufferError, FrozenBuffer, SharedBuffer, TransferBuffer, TransferRef, Transferable};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};

use crate::harness::*;

rules! {
    s37_a_transferred_buffer_is_the_same_memory,
    s38_a_buffer_moves_whole_and_any_number_of_times,
    s39_a_buffer_that_is_never_received_is_freed,
    s39_no_kind_of_thing_outlives_its_last_holder,
    s40_a_shared_buffer_is_the_same_memory_for_every_holder,
    s41_every_holder_reads_a_frozen_buffer_and_none_can_write_it,
    a_descriptor_moves,
}

/// Offset of a buffer's bytes in its memory file.
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
        // The file is kept open against the rules, to see the receiver's writes to the pages.
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
            assert_eq!(byte, *b"t", "a byte that the peer wrote, at {at} of {len}");
            memory.write_all_at(b"k", DATA + at as u64).unwrap();
        }
        // The other direction.
        peer.run(|there| {
            let buffer = there.buffers.pop().unwrap();
            places(buffer.len()).for_each(|at| assert_eq!(byte_at(&buffer, at), *b"k", "at {at}"));
        });
    }
}

/// The offsets of the first, the middle and the last of `len` bytes, as far as they exist.
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
        // Over a new port each time. Each holder on the way adds a mark.
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

fn s39_a_buffer_that_is_never_received_is_freed(peer: &mut Peer) {
    let posted = |peer: &mut Peer| {
        let carrier = peer.forgetful_channel();
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

    // Received and never used.
    let (freed_in_message, _carrier) = posted(peer);
    peer.run(|there| drop(recv(there.port())));
    freed_in_message.assert_freed();

    // Held only by the queue of a port that is itself in a queue.
    let (witness, port) = forgetful_pair();
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

fn s39_no_kind_of_thing_outlives_its_last_holder(peer: &mut Peer) {
    let posted = |peer: &mut Peer, thing: Transferable, memory: File| {
        let carrier = peer.forgetful_channel();
        let watch = Watch::new(&memory);
        drop(memory);
        carrier.post_message(b"", [thing]).unwrap();
        assert!(!watch.is_freed(), "while it is in the queue");
        (watch, carrier)
    };
    let shared = || newest_memory(|| SharedBuffer::new(1 << 20).unwrap());
    let frozen = || newest_memory(|| FrozenBuffer::from_bytes(&[1; 1 << 20]).unwrap());
    // A pipe is freed when its reader receives the end of the file.
    let pipe = |peer: &mut Peer| {
        let (reader, writer) = std::io::pipe().unwrap();
        let carrier = peer.channel();
        carrier.post_message(b"", [OwnedFd::from(writer).into()]).unwrap();
        (reader, carrier)
    };
    type Drop = fn(&mut Peer);
    let ways: [Drop; 4] = [
        |peer| drop(peer.run(|there| there.ports.drain(..).for_each(|port| port.close()))),
        |peer| drop(peer.run(|there| there.ports.clear())),
        |peer| drop(peer.run(|there| there.ports.drain(..).for_each(|port| drop(recv(&port))))),
        |peer| peer.kill(),
    ];
    for drop_all in ways {
        let (shared, frozen) = (shared(), frozen());
        let shared = posted(peer, shared.0.into(), shared.1);
        let frozen = posted(peer, frozen.0.into(), frozen.1);
        let mut pipe = pipe(peer);
        drop_all(peer);
        shared.0.assert_freed();
        frozen.0.assert_freed();
        assert_eq!(pipe.0.read(&mut [0]).unwrap(), 0, "the descriptor is still open");
    }
}

fn s40_a_shared_buffer_is_the_same_memory_for_every_holder(peer: &mut Peer) {
    const ROUNDS: u64 = 2000;
    let carrier = peer.channel();
    let (buffer, memory) = newest_memory(|| SharedBuffer::new(100_003).unwrap());
    buffer.write_at(50_000, b"before").unwrap();
    // A clone is posted by value, the buffer itself by reference: in both cases it stays usable here.
    carrier.post_message(b"", [buffer.clone().into()]).unwrap();
    carrier.post_message_detaching(b"", &[TransferRef::Shared(&buffer)]).unwrap();
    peer.run(|there| {
        for _ in 0..2 {
            let shared = recv(there.port()).shared.pop().unwrap();
            there.shared.push(shared);
        }
        let [one, two] = &there.shared[..] else { panic!("two handles") };
        assert_eq!((one.len(), two.len()), (100_003, 100_003));
        let mut bytes = [0; 6];
        one.read_at(50_000, &mut bytes).unwrap();
        assert_eq!(&bytes, b"before");
        two.write_at(99_997, b"behind").unwrap();
        one.atomic_u32(4).unwrap().store(7, Ordering::Release);
    });
    let mut bytes = [0; 6];
    buffer.read_at(99_997, &mut bytes).unwrap();
    assert_eq!(&bytes, b"behind");
    assert_eq!(buffer.atomic_u32(4).unwrap().load(Ordering::Acquire), 7);
    buffer.atomic_u64(8).unwrap().store(u64::MAX - 5, Ordering::Relaxed);
    // Both sides count at the same time, and take turns.
    let count: Step = |there| {
        let word = there.shared[0].atomic_u64(8).unwrap();
        (0..ROUNDS).for_each(|_| _ = word.fetch_add(1, Ordering::Relaxed));
    };
    peer.begin(count);
    let word = buffer.atomic_u64(8).unwrap();
    (0..ROUNDS).for_each(|_| _ = word.fetch_add(1, Ordering::Relaxed));
    peer.finish();
    assert_eq!(word.load(Ordering::Relaxed), (u64::MAX - 5).wrapping_add(2 * ROUNDS));
    if peer.is_concurrent() {
        peer.begin(|there| take_turns(&there.shared[1], 1));
        take_turns(&buffer, 0);
        peer.finish();
    }
    // On to a third holder and back: it is the same memory everywhere.
    let mut returned = peer.run(|there| {
        let shared = there.shared.pop().unwrap();
        there.give_back(shared);
    });
    let again = returned.shared.pop().unwrap();
    again.write_at(0, b"again").unwrap();
    assert_eq!(&buffer.to_vec().unwrap()[..5], b"again");
    let freed = Watch::new(&memory);
    drop((memory, buffer, again));
    assert!(!freed.is_freed(), "the peer has it");
    peer.run(|there| assert_eq!(&there.shared.pop().unwrap().to_vec().unwrap()[..5], b"again"));
    freed.assert_freed();
}

/// In each turn: reads the block of the other side, writes a block, and passes the turn.
fn take_turns(buffer: &SharedBuffer, me: u32) {
    let turn = buffer.atomic_u32(16).unwrap();
    let start = Instant::now();
    for round in 0..500_u32 {
        while turn.load(Ordering::Acquire) % 2 != me {
            assert!(start.elapsed() < PATIENCE, "the other side does not answer");
            std::thread::yield_now();
        }
        let mut seen = [0_u8; 1000];
        buffer.read_at(1003, &mut seen).unwrap();
        assert!(seen.iter().all(|byte| *byte == seen[0]), "torn within a turn");
        buffer.write_at(1003, &[(round * 2 + me) as u8; 1000]).unwrap();
        turn.fetch_add(1, Ordering::Release);
    }
}

fn s41_every_holder_reads_a_frozen_buffer_and_none_can_write_it(peer: &mut Peer) {
    let carriers = [peer.channel(), peer.channel(), peer.channel()];
    let (buffer, memory) = newest_memory(|| TransferBuffer::new(3 << 20).unwrap());
    buffer.write_at(1 << 20, b"weights").unwrap();
    let frozen = buffer.freeze().unwrap();
    assert_eq!((frozen.len(), &frozen[1 << 20..][..7]), (3 << 20, &b"weights"[..]));
    let view = &frozen[..]; // a plain slice, borrowed throughout
    for carrier in &carriers {
        carrier.post_message(b"", [frozen.clone().into()]).unwrap();
    }
    carriers[0].post_message_detaching(b"", &[TransferRef::Frozen(&frozen)]).unwrap();
    peer.run(|there| {
        for number in [0, 1, 2, 0] {
            let frozen = recv(&there.ports[number]).frozen.pop().unwrap();
            assert_eq!((frozen.len(), &frozen[1 << 20..][..7]), (3 << 20, &b"weights"[..]));
            there.frozen.push(frozen);
        }
    });
    // A holder of the descriptor cannot write through it, nor get a writable mapping.
    assert_eq!(memory.write_at(b"x", DATA).unwrap_err().raw_os_error(), Some(Errno::EPERM as i32));
    assert!(memory.set_len(1).is_err() && memory.set_len(1 << 30).is_err());
    assert!(memmap2::MmapOptions::new().len(4096).map_raw(&memory).is_err(), "mapped for writing");
    assert_eq!(fcntl(&memory, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)), Err(Errno::EPERM));
    use nix::fcntl::{FallocateFlags, fallocate};
    let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    assert_eq!(fallocate(&memory, hole, 0, 1 << 20), Err(Errno::EPERM));
    assert_eq!(&view[1 << 20..][..7], b"weights");
    // Any holder can post it on, over any port.
    let mut returned = peer.run(|there| {
        let frozen = there.frozen.pop().unwrap();
        there.give_back(frozen);
    });
    assert!(returned.frozen.pop().unwrap()[..] == frozen[..], "the same bytes");
    let freed = Watch::new(&memory);
    drop((memory, frozen));
    assert!(!freed.is_freed(), "the peer has it");
    peer.run(|there| {
        let last = there.frozen.pop().unwrap();
        there.frozen.clear();
        assert_eq!(&last[1 << 20..][..7], b"weights");
    });
    freed.assert_freed();
}

fn a_descriptor_moves(peer: &mut Peer) {
    let carrier = peer.channel();
    let (reader, writer) = std::io::pipe().unwrap();
    let (mut kept_reader, kept_writer) = std::io::pipe().unwrap();
    let list = [OwnedFd::from(writer).into(), file_of(b"a file").into()];
    carrier.post_message(b"", list).unwrap();
    // By reference the sender keeps its descriptor.
    carrier.post_message_detaching(b"", &[TransferRef::Descriptor(kept_writer.as_fd())]).unwrap();
    peer.run(|there| {
        let mut descriptors = recv(there.port()).descriptors;
        assert_eq!(contents(&descriptors.pop().unwrap()), b"a file");
        let flags = fcntl(&descriptors[0], FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & nix::libc::FD_CLOEXEC, nix::libc::FD_CLOEXEC, "not closed on exec");
        File::from(descriptors.pop().unwrap()).write_all(b"from there").unwrap();
        let duplicate = recv(there.port()).descriptors.pop().unwrap();
        File::from(duplicate).write_all(b"and ").unwrap();
    });
    // All writers are closed: the one that arrived here and the one that arrived there.
    let read = |mut reader: std::io::PipeReader| {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all
    };
    assert_eq!(read(reader), b"from there");
    (&kept_writer).write_all(b"from here").unwrap();
    let mut start = [0; 13];
    kept_reader.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"and from here");
    drop(kept_writer);
    assert_eq!(read(kept_reader), b"");
}

/// Bytes of memory that are available.
fn available_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = info.lines().find(|line| line.starts_with("MemAvailable:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
