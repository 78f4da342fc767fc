//! Buffers of all kinds: filling, reading and freezing them, and their cost in memory.

mod tools;

use std::fs::{self, File};
use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use messageport::{
    BufferCursor, BufferError, FreezeErrorKind, FrozenBuffer, FullCause, MessagePort, PostErrorKind, SharedBuffer,
    TransferBuffer, TransferRef, Transferable, parent_port,
};

use tools::attacker::Pages;
use tools::child::{Process, Role, play};
use tools::ledger::Ledger;
use tools::memory::newest_memory;
use tools::random::Random;
use tools::{buffer_of, pair, pair_of, text};

const ROLES: &[Role] = &[("not to be frozen", not_to_be_frozen), ("reader", reader)];

// Filling and reading.

/// Tests of the calls that `TransferBuffer` and `SharedBuffer` have in common.
macro_rules! both_kinds {
    ($($body:ident),* $(,)?) => {
        mod transfer {
            use super::*;
            $(#[test]
            fn $body() {
                super::$body!(TransferBuffer);
            })*
        }
        mod shared {
            use super::*;
            $(#[test]
            fn $body() {
                super::$body!(SharedBuffer);
            })*
        }
    };
}

macro_rules! copies_at_every_offset {
    ($Buffer:ty) => {
        for len in 0..40 {
            let buffer = <$Buffer>::new(len).expect("memory");
            let mut model = vec![0; len];
            for (start, end) in (0..=len).flat_map(|end| (0..=end).map(move |start| (start, end))) {
                let written: Vec<u8> = (start..end).map(|at| (at * 7 + end) as u8).collect();
                buffer.write_at(start, &written).expect("inside");
                model[start..end].copy_from_slice(&written);
                let mut read = vec![0; end - start];
                buffer.read_at(start, &mut read).expect("inside");
                assert_eq!(read, written, "{start}..{end} of {len}");
                assert_eq!(buffer.to_vec().expect("the whole buffer"), model, "after {start}..{end} of {len}");
            }
            for (start, size) in [(len, 1), (len + 1, 0), (0, len + 1), (usize::MAX, 1), (usize::MAX, 0), (1, len)] {
                let mut into = vec![9; size];
                let inside = start.saturating_add(size) <= len;
                let out_of_range = |result| match result {
                    Err(BufferError::OutOfRange { offset, len: size_told, buffer_len }) => {
                        assert_eq!((offset, size_told, buffer_len), (start, size, len));
                    }
                    other => assert!(inside && other.is_ok(), "{start} + {size} of {len}: {other:?}"),
                };
                out_of_range(buffer.read_at(start, &mut into));
                out_of_range(buffer.write_at(start, &into));
            }
        }
    };
}
use copies_at_every_offset;

macro_rules! whole_copies {
    ($Buffer:ty) => {
        let buffer = <$Buffer>::new(1000).expect("memory");
        let bytes: Vec<u8> = (0..1000).map(|number| (number % 251) as u8).collect();
        buffer.copy_from_slice(&bytes).expect("equal lengths");
        let mut copy = vec![0; 1000];
        buffer.copy_to_slice(&mut copy).expect("equal lengths");
        assert!(copy == bytes && buffer.to_vec().expect("the whole buffer") == bytes);
        for len in [0, 999, 1001] {
            let (mut into, from) = (vec![9; len], vec![9; len]);
            let wrong =
                |result| matches!(result, Err(BufferError::OutOfRange { offset: 0, len: told, buffer_len: 1000 }) if told == len);
            assert!(wrong(buffer.copy_to_slice(&mut into)) && wrong(buffer.copy_from_slice(&from)));
        }
        assert!(buffer.to_vec().expect("the whole buffer") == bytes, "a copy that failed has copied");
    };
}
use whole_copies;

macro_rules! plain_data {
    ($Buffer:ty) => {
        let buffer = <$Buffer>::new(100).expect("memory");
        for offset in 0..20 {
            buffer.write_value(offset, &[1.5_f64, f64::from(offset as u32)]).expect("inside");
            assert_eq!(buffer.read_value::<[f64; 2]>(offset).expect("inside"), [1.5, f64::from(offset as u32)]);
            let values: Vec<u32> = (0..20).map(|number| number << 20 | offset as u32).collect();
            buffer.write_values(offset, &values).expect("inside");
            let mut read = vec![0_u32; 20];
            buffer.read_values(offset, &mut read).expect("inside");
            assert_eq!(read, values);
        }
        assert!(matches!(
            buffer.read_value::<u64>(93),
            Err(BufferError::OutOfRange { offset: 93, len: 8, buffer_len: 100 })
        ));
        assert!(buffer.write_value(93, &0_u64).is_err());
        assert!(buffer.read_values(0, &mut [0_u64; 13]).is_err() && buffer.write_values(0, &[0_u64; 13]).is_err());
        assert_eq!(buffer.read_value::<[u8; 0]>(100).expect("nothing"), []);
    };
}
use plain_data;

macro_rules! a_cursor_is_like_the_standard_librarys {
    ($Buffer:ty) => {
        let buffer = <$Buffer>::new(200).expect("memory");
        like_a_cursor(buffer.cursor(), &Random::new(stringify!($Buffer)));
        assert_eq!(buffer.cursor().position(), 0);
    };
}
use a_cursor_is_like_the_standard_librarys;

both_kinds!(copies_at_every_offset, whole_copies, plain_data, a_cursor_is_like_the_standard_librarys);

/// Makes the same random calls on the cursor of a new buffer and on a cursor of a slice.
fn like_a_cursor(mut cursor: BufferCursor<'_>, random: &Random) {
    let mut model_bytes = vec![0; 200];
    let mut model = Cursor::new(&mut model_bytes[..]);
    for _ in 0..3000 {
        match random.below(4) {
            0 => {
                let mut read = [vec![7; random.below(80)], vec![]];
                read[1] = read[0].clone();
                let counts = (cursor.read(&mut read[0]).expect("a read"), model.read(&mut read[1]).expect("a read"));
                assert_eq!((counts.0, &read[0]), (counts.1, &read[1]));
            }
            1 => {
                let from: Vec<u8> = (0..random.below(80)).map(|_| random.word() as u8).collect();
                assert_eq!(cursor.write(&from).expect("a write"), model.write(&from).expect("a write"));
            }
            2 => {
                let delta = random.below(300) as i64 - 150;
                let to = random.pick(&[SeekFrom::Start(delta.unsigned_abs()), SeekFrom::End(delta)]);
                let to = if random.one_in(2) { SeekFrom::Current(delta) } else { to };
                match (cursor.seek(to), model.seek(to)) {
                    (Ok(place), Ok(expected)) => assert_eq!(place, expected),
                    (Err(error), Err(_)) => assert_eq!(error.kind(), ErrorKind::InvalidInput),
                    other => panic!("{to:?}: {other:?}"),
                }
            }
            _ => assert_eq!(cursor.position(), model.position()),
        }
    }
    cursor.rewind().expect("a seek");
    let mut all = Vec::new();
    cursor.read_to_end(&mut all).expect("a read");
    assert_eq!(all, model_bytes);
    assert_eq!(cursor.write_all(b"more").expect_err("the end").kind(), ErrorKind::WriteZero);
    for far in [u64::MAX, u64::MAX - 1] {
        cursor.seek(SeekFrom::Start(far)).expect("a seek");
        assert_eq!(cursor.read(&mut [0]).expect("nothing"), 0);
        assert_eq!(cursor.seek(SeekFrom::Current(2)).expect_err("too far").kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_cursor_of_a_detached_buffer_is_an_error() {
    let (a, _b) = pair();
    let buffer = buffer_of(b"pixels");
    let mut cursor = buffer.cursor();
    a.post_message_detaching(b"", &[TransferRef::Buffer(&buffer)]).expect("room");
    let error = cursor.read(&mut [0]).expect_err("a detached buffer");
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<BufferError>());
    assert!(matches!(cause, Some(BufferError::Detached)), "{error:?}");
    assert!(cursor.write(b"x").is_err());
    assert!(matches!(buffer.to_vec(), Err(BufferError::Detached)));
    assert!(matches!(buffer.read_value::<u8>(0), Err(BufferError::Detached)));
}

#[test]
fn words_in_place_are_aligned_and_inside() {
    let buffer = SharedBuffer::new(20).expect("memory");
    for offset in 0..40 {
        let word = buffer.atomic_u32(offset);
        match offset {
            0 | 4 | 8 | 12 | 16 => word.expect("a word").store(offset as u32, Ordering::Relaxed),
            _ if offset % 4 != 0 => assert!(matches!(word, Err(BufferError::Misaligned { align: 4, .. }))),
            _ => assert!(matches!(word, Err(BufferError::OutOfRange { len: 4, buffer_len: 20, .. }))),
        }
        let word = buffer.atomic_u64(offset);
        match offset {
            0 | 8 => drop(word.expect("a word")),
            _ if offset % 8 != 0 => assert!(matches!(word, Err(BufferError::Misaligned { align: 8, .. }))),
            _ => assert!(matches!(word, Err(BufferError::OutOfRange { len: 8, buffer_len: 20, .. }))),
        }
    }
    assert!(matches!(buffer.atomic_u32(usize::MAX - 3), Err(BufferError::OutOfRange { .. })));
    let mut words = [0_u32; 5];
    buffer.read_values(0, &mut words).expect("inside");
    assert_eq!(words, [0, 4, 8, 12, 16]);
}

// Freezing.

#[test]
fn a_frozen_buffer_is_a_plain_slice() {
    let bytes: Vec<u8> = (0..100_003_u32).map(|number| (number * 31 / 8) as u8).collect();
    let frozen = FrozenBuffer::from_bytes(&bytes).expect("memory");
    assert!(frozen[..] == bytes);
    assert!(buffer_of(&bytes).freeze().expect("a new buffer")[..] == bytes);
    let values: Vec<f64> = (0..1000).map(|number| f64::from(number) / 3.0).collect();
    let buffer = TransferBuffer::new(8000).expect("memory");
    buffer.write_values(0, &values).expect("inside");
    let frozen = buffer.freeze().expect("a new buffer");
    assert_eq!(bytemuck::cast_slice::<u8, f64>(&frozen), values); // the bytes are aligned
    assert_eq!(FrozenBuffer::from_bytes(b"").expect("memory").len(), 0);
    // Read by several threads at a time.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(frozen[7992..], 333.0_f64.to_ne_bytes()));
        }
    });
}

#[test]
fn a_file_is_frozen_from_its_beginning_to_its_end() {
    let path = std::env::temp_dir().join(format!("messageport-frozen-{}", std::process::id()));
    for len in [0, 1, 256 << 10, (256 << 10) + 1, 1 << 20] {
        let bytes: Vec<u8> = (0..len).map(|number| (number / 3) as u8).collect();
        fs::write(&path, &bytes).expect("room on the disk");
        let mut file = File::open(&path).expect("a file");
        file.seek(SeekFrom::End(0)).expect("a seek");
        assert!(FrozenBuffer::from_file(&file).expect("a file")[..] == bytes, "{len} bytes");
        assert_eq!(file.stream_position().expect("a position"), len);
    }
    fs::remove_file(&path).expect("a file");
    let unreadable = |file: OwnedFd| match FrozenBuffer::from_file(&file.into()) {
        Err(BufferError::Unreadable(error)) => error.kind(),
        other => panic!("{other:?}"),
    };
    assert_eq!(unreadable(File::open("/").expect("a file").into()), ErrorKind::InvalidInput);
    assert_eq!(unreadable(std::io::pipe().expect("a pipe").0.into()), ErrorKind::InvalidInput);
    assert_eq!(unreadable(File::open("/dev/zero").expect("a file").into()), ErrorKind::InvalidInput);
    let write_only = File::create(&path).expect("a file");
    write_only.set_len(10).expect("a size");
    fs::remove_file(&path).expect("a file");
    unreadable(write_only.into());
}

#[test]
fn a_buffer_that_cannot_be_frozen_comes_back_unchanged() {
    play("not to be frozen");
}

fn not_to_be_frozen() {
    let before = Ledger::now();
    let (a, b) = pair();
    // It was received: the peer may have a mapping.
    a.post_message(b"", [buffer_of(b"pixels").into()]).expect("room");
    let received = b.recv().expect("a message").buffers.remove(0);
    let error = received.freeze().expect_err("a received buffer");
    assert!(matches!(error.kind, FreezeErrorKind::Received), "{error:?}");
    let received = error.into_inner();
    received.write_at(0, b"P").expect("an unchanged buffer");
    a.post_message(b"", [received.into()]).expect("room");
    assert_eq!(b.recv().expect("a message").buffers[0].to_vec().expect("a buffer of this process"), b"Pixels");
    // It was posted.
    let buffer = buffer_of(b"pixels");
    a.post_message_detaching(b"", &[TransferRef::Buffer(&buffer)]).expect("room");
    let mut error = buffer.freeze().expect_err("a detached buffer");
    assert!(matches!(error.kind, FreezeErrorKind::Detached) && error.get_mut().is_empty(), "{error:?}");
    // A second mapping of its memory exists.
    let (buffer, memory) = newest_memory(|| buffer_of(b"pixels"));
    let pages = Pages::of(&memory);
    let error = buffer.freeze().expect_err("a writable mapping");
    assert!(matches!(error.kind, FreezeErrorKind::InUse), "{error:?}");
    let buffer = error.into_inner();
    buffer.write_at(0, b"P").expect("an unchanged buffer");
    assert_eq!(buffer.to_vec().expect("an unchanged buffer"), b"Pixels");
    drop(b.recv());
    a.post_message_detaching(b"", &[TransferRef::Buffer(&buffer)]).expect("an unchanged buffer");
    assert_eq!(b.recv().expect("a message").buffers[0].to_vec().expect("a buffer of this process"), b"Pixels");
    drop((pages, memory));
    // Once that mapping is gone, the buffer can be frozen.
    let (buffer, memory) = newest_memory(|| buffer_of(b"pixels"));
    let pages = Pages::of(&memory);
    let buffer = buffer.freeze().expect_err("a writable mapping").into_inner();
    drop(pages);
    assert_eq!(buffer.freeze().expect("no writable mapping")[..], *b"pixels");
    drop((a, b, memory));
    before.assert_restored("after freezing");
}

#[test]
fn a_buffer_is_as_good_as_new_after_a_post_that_failed() {
    let (a, b) = pair_of(1 << 20);
    let mut unread = 0;
    // Unread lists fill the lane.
    while a.post_message_detaching(b"", &[TransferRef::Descriptor(a.as_fd())]).is_ok() {
        unread += 1;
        assert!(unread < 100_000, "the lane is never full");
    }
    let bytes: Vec<u8> = (0..600_000_u32).map(|number| (number / 7) as u8).collect();
    let refused = |buffer: TransferBuffer| {
        let error = a.post_message(b"", [buffer.into()]).expect_err("no room");
        assert!(matches!(error.kind, PostErrorKind::Full(FullCause::Lane)), "{error:?}");
        match error.into_inner().into_iter().next() {
            Some(Transferable::Buffer(buffer)) => buffer,
            other => panic!("instead of the buffer: {other:?}"),
        }
    };
    // It can be frozen, whether its memory was made for it or to be recycled, and twice as well.
    for new in [TransferBuffer::new(bytes.len()), a.buffer(bytes.len())] {
        let buffer = refused(refused(new.expect("memory")));
        buffer.write_at(0, &bytes).expect("a new buffer");
        let frozen = buffer.freeze().expect("as good as new");
        assert!(frozen[..] == bytes);
        let (c, d) = pair();
        c.post_message(b"", [frozen.into()]).expect("room");
        assert!(d.recv().expect("a message").frozen[0][..] == bytes);
    }
    // It can be posted, on another port and on the same.
    let (c, d) = pair();
    c.post_message(b"", [refused(buffer_of(&bytes)).into()]).expect("room");
    assert!(d.recv().expect("a message").buffers[0].to_vec().expect("a buffer") == bytes);
    let buffer = refused(buffer_of(&bytes));
    for _ in 0..unread {
        b.recv().expect("a message");
    }
    a.post_message(b"", [buffer.into()]).expect("room");
    assert!(b.recv().expect("a message").buffers[0].to_vec().expect("a buffer") == bytes);
}

// One copy for all.

const MODEL: usize = 256 << 20;
const WORKERS: usize = 8;

/// Bytes of a process's mappings of buffers: those that are resident, and the process's share of them.
fn resident(process: u32) -> (usize, usize) {
    let smaps = fs::read_to_string(format!("/proc/{process}/smaps")).expect("a process of ours");
    let (mut ours, mut rss, mut pss) = (false, 0, 0);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let kilobytes = |words: &mut dyn Iterator<Item = &str>| {
            words.next().expect("a size").parse::<usize>().expect("a number") << 10
        };
        match words.next() {
            Some("Rss:") if ours => rss += kilobytes(&mut words),
            Some("Pss:") if ours => pss += kilobytes(&mut words),
            Some(word) if !word.ends_with(':') => ours = line.contains("/memfd:messageport-buffer"),
            _ => {}
        }
    }
    (rss, pss)
}

#[test]
fn a_frozen_buffer_is_in_memory_once_for_all_its_holders() {
    let info = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let available = info.lines().find_map(|line| line.strip_prefix("MemAvailable:")).expect("a line");
    let available: usize = available.trim().trim_end_matches(" kB").parse().expect("a number");
    if available < 3 << 20 {
        return println!("skipped: less than 3 GiB of memory are available");
    }
    let buffer = TransferBuffer::new(MODEL).expect("memory");
    let page: Vec<u64> = (0..512).collect();
    for start in (0..MODEL).step_by(4096) {
        buffer.write_values(start, &page).expect("inside");
    }
    let model = buffer.freeze().expect("a new buffer");
    let mut workers: Vec<(Process, MessagePort)> = (0..WORKERS).map(|_| Process::start("reader")).collect();
    for (_, port) in &workers {
        port.post_message(b"", [model.clone().into()]).expect("room");
    }
    assert_eq!(sum_of(&model), sum_of(&model));
    for (_, port) in &workers {
        assert_eq!(text(port), sum_of(&model).to_string());
    }
    // Every process has read the whole buffer.
    let processes = workers.iter().map(|(process, _)| process.id()).chain([std::process::id()]);
    let residents: Vec<_> = processes.map(resident).collect();
    let copies: usize = residents.iter().map(|(_, pss)| pss).sum();
    println!("{MODEL} bytes, {} processes, {copies} bytes of memory", residents.len());
    assert!(residents.iter().all(|(rss, _)| *rss >= MODEL), "a process has not read the buffer: {residents:?}");
    assert!(copies < MODEL + (8 << 20), "{copies} bytes of memory for {MODEL}");
    assert!(copies > MODEL / 100 * 99, "{copies} bytes of memory are too few");
    workers.iter().for_each(|(_, port)| port.post_message(b"enough", []).expect("a peer"));
    workers.iter_mut().for_each(|(process, _)| process.succeeded());
}

fn sum_of(model: &[u8]) -> u64 {
    bytemuck::cast_slice::<u8, u64>(model).iter().sum()
}

/// A role: reads a whole buffer, and keeps it until the next message.
fn reader() {
    let port = parent_port().expect("a port");
    let model = port.recv().expect("a message").frozen.remove(0);
    port.post_message(sum_of(&model).to_string().as_bytes(), []).expect("a peer");
    port.recv().expect("a message");
}
