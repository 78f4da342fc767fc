//! Buffers of all kinds: filling, reading and freezing them, what they cost in memory, and what happens where the
//! system has nothing to give.

mod tools;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Cursor, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use messageport::{
    BufferCursor, BufferError, ChannelOptions, FreezeErrorKind, FrozenBuffer, FullCause, Message, MessageChannel,
    MessagePort, PostErrorKind, RecvError, SharedBuffer, TransferBuffer, TransferRef, Transferable, TryRecvError,
    parent_port,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Uid, geteuid, seteuid};

use tools::attacker::{Pages, newest_memory};
use tools::child::{Process, Role};
use tools::ledger::Ledger;
use tools::random::Random;
use tools::{PATIENCE, assert_entangled, pair, pair_of, text};

const ROLES: &[Role] = &[
    ("not to be frozen", not_to_be_frozen),
    ("reader", reader),
    ("few descriptors", few_descriptors),
    ("few in flight", few_in_flight),
    ("no address space", no_address_space),
    ("small files", small_files),
];

#[track_caller]
fn play(role: &str) {
    let (mut process, _port) = Process::start(role);
    process.succeeded();
}

fn buffer_of(bytes: &[u8]) -> TransferBuffer {
    let buffer = TransferBuffer::new(bytes.len()).expect("memory");
    buffer.copy_from_slice(bytes).expect("as long as the buffer");
    buffer
}

fn shared_of(bytes: &[u8]) -> SharedBuffer {
    let buffer = SharedBuffer::new(bytes.len()).expect("memory");
    buffer.copy_from_slice(bytes).expect("as long as the buffer");
    buffer
}

// Filling and reading.

/// The same calls on a buffer that moves and on one that is shared.
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
                assert_eq!(buffer.to_vec().expect("all"), model, "after {start}..{end} of {len}");
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
        buffer.copy_from_slice(&bytes).expect("as long");
        let mut copy = vec![0; 1000];
        buffer.copy_to_slice(&mut copy).expect("as long");
        assert!(copy == bytes && buffer.to_vec().expect("all") == bytes);
        for len in [0, 999, 1001] {
            let (mut into, from) = (vec![9; len], vec![9; len]);
            let wrong =
                |result| matches!(result, Err(BufferError::OutOfRange { offset: 0, len: told, buffer_len: 1000 }) if told == len);
            assert!(wrong(buffer.copy_to_slice(&mut into)) && wrong(buffer.copy_from_slice(&from)));
        }
        assert!(buffer.to_vec().expect("all") == bytes, "a copy that failed has copied");
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

/// Does the same to a new buffer and to a slice.
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
fn a_cursor_of_a_buffer_that_has_left_says_so() {
    let (a, _b) = pair();
    let buffer = buffer_of(b"pixels");
    let mut cursor = buffer.cursor();
    a.post_message_detaching(b"", &[TransferRef::Buffer(&buffer)]).expect("room");
    let error = cursor.read(&mut [0]).expect_err("it has left");
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
    // By several threads at a time.
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
        let mut file = File::open(&path).expect("it is there");
        file.seek(SeekFrom::End(0)).expect("a seek");
        assert!(FrozenBuffer::from_file(&file).expect("a file")[..] == bytes, "{len} bytes");
        assert_eq!(file.stream_position().expect("a place"), len);
    }
    fs::remove_file(&path).expect("it is there");
    let unreadable = |file: OwnedFd| match FrozenBuffer::from_file(&file.into()) {
        Err(BufferError::Unreadable(error)) => error.kind(),
        other => panic!("{other:?}"),
    };
    assert_eq!(unreadable(File::open("/").expect("it is there").into()), ErrorKind::InvalidInput);
    assert_eq!(unreadable(std::io::pipe().expect("a pipe").0.into()), ErrorKind::InvalidInput);
    assert_eq!(unreadable(File::open("/dev/zero").expect("it is there").into()), ErrorKind::InvalidInput);
    let write_only = File::create(&path).expect("a file");
    write_only.set_len(10).expect("a size");
    fs::remove_file(&path).expect("it is there");
    unreadable(write_only.into());
}

#[test]
fn what_cannot_be_frozen_comes_back_as_it_was() {
    play("not to be frozen");
}

fn not_to_be_frozen() {
    let before = Ledger::now();
    let (a, b) = pair();
    // It was somebody else's.
    a.post_message(b"", [buffer_of(b"pixels").into()]).expect("room");
    let received = b.recv().expect("a message").buffers.remove(0);
    let error = received.freeze().expect_err("it was received");
    assert!(matches!(error.kind, FreezeErrorKind::Received), "{error:?}");
    error.buffer.write_at(0, b"P").expect("as it was");
    a.post_message(b"", [error.buffer.into()]).expect("room");
    assert_eq!(b.recv().expect("a message").buffers[0].to_vec().expect("ours"), b"Pixels");
    // It has left.
    let buffer = buffer_of(b"pixels");
    a.post_message_detaching(b"", &[TransferRef::Buffer(&buffer)]).expect("room");
    let error = buffer.freeze().expect_err("it has left");
    assert!(matches!(error.kind, FreezeErrorKind::Detached) && error.buffer.is_empty(), "{error:?}");
    // Somebody has a second way to its memory.
    let (buffer, memory) = newest_memory(|| buffer_of(b"pixels"));
    let pages = Pages::of(&memory);
    let error = buffer.freeze().expect_err("somebody can write");
    assert!(matches!(error.kind, FreezeErrorKind::InUse), "{error:?}");
    let buffer = error.buffer;
    buffer.write_at(0, b"P").expect("as it was");
    assert_eq!(buffer.to_vec().expect("as it was"), b"Pixels");
    drop(b.recv());
    a.post_message_detaching(b"", &[TransferRef::Buffer(&buffer)]).expect("as it was");
    assert_eq!(b.recv().expect("a message").buffers[0].to_vec().expect("ours"), b"Pixels");
    drop((pages, memory));
    // And once he has given it up, it can be frozen.
    let (buffer, memory) = newest_memory(|| buffer_of(b"pixels"));
    let pages = Pages::of(&memory);
    let buffer = buffer.freeze().expect_err("somebody can write").buffer;
    drop(pages);
    assert_eq!(buffer.freeze().expect("nobody can write")[..], *b"pixels");
    drop((a, b, memory));
    before.assert_restored("after freezing");
}

#[test]
fn a_post_that_failed_leaves_a_buffer_to_be_frozen() {
    let (a, b) = pair_of(4 << 20);
    let buffer = buffer_of(b"pixels");
    let mut unread = 0;
    // Until the lane is full of unread lists.
    let error = loop {
        match a.post_message_detaching(b"", &[TransferRef::Descriptor(a.as_fd())]) {
            Ok(()) => unread += 1,
            Err(_) => break a.post_message(b"", [buffer.into()]).expect_err("no room"),
        }
        assert!(unread < 100_000, "a lane without an end");
    };
    assert!(matches!(error.kind, PostErrorKind::Full(FullCause::Lane)), "{error:?}");
    let Some(Transferable::Buffer(buffer)) = error.transfer.into_iter().next() else { panic!("the list comes back") };
    assert_eq!(buffer.freeze().expect("as good as new")[..], *b"pixels");
    drop(b);
}

// One copy for all.

const MODEL: usize = 256 << 20;
const WORKERS: usize = 8;

/// Bytes of a process's mappings of buffers: all that it sees, and its share of them.
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
fn a_frozen_buffer_is_in_memory_once_however_many_have_it() {
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
    // All have read all of it.
    let processes = workers.iter().map(|(process, _)| process.id()).chain([std::process::id()]);
    let residents: Vec<_> = processes.map(resident).collect();
    let copies: usize = residents.iter().map(|(_, pss)| pss).sum();
    println!("{MODEL} bytes, {} processes, {copies} bytes of memory", residents.len());
    assert!(residents.iter().all(|(rss, _)| *rss >= MODEL), "not all have read it: {residents:?}");
    assert!(copies < MODEL + (8 << 20), "{copies} bytes of memory for {MODEL}");
    assert!(copies > MODEL / 100 * 99, "{copies} bytes of memory are too few to be true");
    workers.iter().for_each(|(_, port)| port.post_message(b"enough", []).expect("a peer"));
    workers.iter_mut().for_each(|(process, _)| process.succeeded());
}

fn sum_of(model: &[u8]) -> u64 {
    bytemuck::cast_slice::<u8, u64>(model).iter().sum()
}

/// Reads all of a buffer, and keeps it until told otherwise.
fn reader() {
    let port = parent_port().expect("a port");
    let model = port.recv().expect("a message").frozen.remove(0);
    port.post_message(sum_of(&model).to_string().as_bytes(), []).expect("a peer");
    port.recv().expect("a message");
}

// Shortages.

#[test]
fn too_few_descriptors_leave_everything_where_it_is() {
    play("few descriptors");
}

#[test]
fn too_many_descriptors_in_flight_give_everything_back() {
    play("few in flight");
}

#[test]
fn too_little_address_space_leaves_everything_where_it_is() {
    play("no address space");
}

#[test]
fn a_file_size_limit_is_an_error_and_no_signal() {
    play("small files");
}

/// All sets of kinds, without the empty one.
fn sets() -> impl Iterator<Item = usize> {
    1..1 << 5
}

/// One thing of each kind of a set, and the peer of the port.
fn things(set: usize) -> (Vec<Transferable>, MessagePort) {
    let (witness, port) = pair();
    witness.post_message(b"queued", []).expect("room");
    let file =
        File::from(nix::sys::memfd::memfd_create(c"a file", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).expect("a file"));
    file.write_all_at(b"a file", 0).expect("room");
    let all: [Transferable; 5] = [
        port.into(),
        buffer_of(b"pixels").into(),
        FrozenBuffer::from_bytes(b"weights").expect("memory").into(),
        shared_of(b"counters").into(),
        OwnedFd::from(file).into(),
    ];
    let chosen = all.into_iter().enumerate().filter(|(kind, _)| set >> kind & 1 == 1).map(|(_, thing)| thing);
    (chosen.collect(), witness)
}

/// Each thing of a set is there, and works.
#[track_caller]
fn assert_whole(set: usize, list: &[Transferable], witness: &MessagePort) {
    assert_eq!(list.len(), set.count_ones() as usize);
    for thing in list {
        match thing {
            Transferable::Port(port) => {
                assert_eq!(text(port), "queued");
                assert_entangled(port, witness);
                witness.post_message(b"queued", []).expect("room");
            }
            Transferable::Buffer(buffer) => assert_eq!(buffer.to_vec().expect("ours"), b"pixels"),
            Transferable::Frozen(buffer) => assert_eq!(buffer[..], *b"weights"),
            Transferable::Shared(buffer) => assert_eq!(buffer.to_vec().expect("ours"), b"counters"),
            Transferable::Descriptor(file) => {
                let mut bytes = [0; 6];
                let file = File::from(file.try_clone().expect("a descriptor"));
                file.read_exact_at(&mut bytes, 0).expect("a file");
                assert_eq!(&bytes, b"a file");
            }
        }
    }
}

fn unpacked(message: Message) -> Vec<Transferable> {
    let Message { data: _, ports, buffers, frozen, shared, descriptors } = message;
    let mut list: Vec<Transferable> = ports.into_iter().map(Transferable::from).collect();
    list.extend(buffers.into_iter().map(Transferable::from));
    list.extend(frozen.into_iter().map(Transferable::from));
    list.extend(shared.into_iter().map(Transferable::from));
    list.extend(descriptors.into_iter().map(Transferable::from));
    list
}

/// Does `work` with room for exactly `count` more descriptors.
fn with_room_for<T>(count: usize, work: impl FnOnce() -> T) -> T {
    let entries = fs::read_dir("/proc/self/fd").expect("/proc/self/fd").flatten();
    let names = entries.map(|entry| entry.file_name().to_str().expect("a number").parse::<u64>().expect("a number"));
    let mut used: BTreeSet<u64> = names.collect();
    // The one that listed the directory is closed again.
    used.retain(|number| fs::read_link(format!("/proc/self/fd/{number}")).is_ok());
    let limit = (0..).filter(|number| !used.contains(number)).nth(count).expect("a number");
    with_limit(Resource::RLIMIT_NOFILE, limit, work)
}

fn with_limit<T>(resource: Resource, limit: u64, work: impl FnOnce() -> T) -> T {
    let (soft, hard) = getrlimit(resource).expect("a limit");
    setrlimit(resource, limit, hard).expect("it can be lowered");
    let result = work();
    setrlimit(resource, soft, hard).expect("it can be raised");
    result
}

fn is_exhausted(result: &Result<Message, TryRecvError>) -> bool {
    matches!(result, Err(TryRecvError::Failed(RecvError::ResourceExhausted(_))))
}

/// A pair that keeps no buffers to use them again, so that descriptors can be counted.
fn forgetful_pair() -> (MessagePort, MessagePort) {
    let options = ChannelOptions::new().cached_buffers(0);
    let MessageChannel { port1, port2 } = MessageChannel::with_options(&options).expect("a channel");
    (port1, port2)
}

fn few_descriptors() {
    let (a, b) = forgetful_pair();
    let before = Ledger::now();
    for set in sets() {
        let (list, witness) = things(set);
        let needed = list.len() + (set & 1);
        // Posting needs none.
        with_room_for(0, || a.post_message(b"things", list).expect("no descriptor is needed"));
        // Receiving needs one for each handle, and takes nothing without.
        for room in 0..needed {
            let held = Ledger::now();
            let result = with_room_for(room, || b.try_recv());
            assert!(is_exhausted(&result), "room for {room} of {needed}: {result:?}");
            let in_place = with_room_for(room, || b.try_recv_ref().map(|message| message.len()));
            assert!(matches!(in_place, Err(TryRecvError::Failed(RecvError::ResourceExhausted(_)))));
            held.assert_restored("after a receive that failed");
        }
        let message = with_room_for(needed, || b.try_recv()).expect("room for all");
        assert_eq!(message.data, b"things");
        assert_whole(set, &unpacked(message), &witness);
    }
    before.assert_restored("after all of it");
    // Making things.
    with_room_for(0, || {
        assert!(matches!(TransferBuffer::new(10), Err(BufferError::ResourceExhausted(_))));
        assert!(matches!(SharedBuffer::new(10), Err(BufferError::ResourceExhausted(_))));
        assert!(matches!(FrozenBuffer::from_bytes(b"x"), Err(BufferError::ResourceExhausted(_))));
        assert!(MessageChannel::new().is_err());
    });
    // Freezing needs none.
    let buffer = buffer_of(b"pixels");
    assert_eq!(with_room_for(0, || buffer.freeze()).expect("no descriptor is needed")[..], *b"pixels");
    before.assert_restored("after making things");
}

fn few_in_flight() {
    let user = geteuid();
    let (a, b) = forgetful_pair();
    // More than the limit are in flight: of one file, in a queue that nobody reads.
    let (filler, _unread) = pair();
    for _ in 0..20 {
        filler.post_message_detaching(b"", &[TransferRef::Descriptor(a.as_fd())]).expect("room");
    }
    let before = Ledger::now();
    for set in sets() {
        let (list, witness) = things(set);
        if user.is_root() {
            seteuid(Uid::from_raw(65534)).expect("root can"); // root may have any number in flight
        }
        let error =
            with_limit(Resource::RLIMIT_NOFILE, 8, || a.post_message(b"", list)).expect_err("too many in flight");
        seteuid(user).expect("the user it was");
        assert!(matches!(error.kind, PostErrorKind::ResourceExhausted(_)), "{error:?}");
        assert_whole(set, &error.transfer, &witness);
        assert!(matches!(b.try_recv(), Err(TryRecvError::Empty)));
        a.post_message(b"things", error.transfer).expect("no limit");
        assert_whole(set, &unpacked(b.recv_timeout(PATIENCE).expect("a message")), &witness);
    }
    before.assert_restored("after all of it");
}

/// A buffer of this length needs more address space than there is.
const LARGE: usize = 64 << 20;

/// Does `work` with a few more megabytes of address space than are used, and not with `LARGE`.
fn without_address_space<T>(work: impl FnOnce() -> T) -> T {
    let statm = fs::read_to_string("/proc/self/statm").expect("/proc/self/statm");
    let pages: u64 = statm.split(' ').next().expect("a size").parse().expect("a number");
    with_limit(Resource::RLIMIT_AS, pages * 4096 + (8 << 20), work)
}

fn no_address_space() {
    let (a, b) = forgetful_pair();
    let before = Ledger::now();
    let large = || TransferBuffer::new(LARGE).expect("memory");
    let things: [Transferable; 3] = [
        large().into(),
        large().freeze().expect("a new buffer").into(),
        SharedBuffer::new(LARGE).expect("memory").into(),
    ];
    // Good ones of each other kind come before and behind.
    for thing in things {
        let (witness, port) = pair();
        let list = [port.into(), FrozenBuffer::from_bytes(b"x").expect("memory").into(), thing];
        a.post_message(b"large", list).expect("room");
        for _ in 0..3 {
            let held = Ledger::now();
            let result = without_address_space(|| b.try_recv());
            assert!(is_exhausted(&result), "{result:?}");
            held.assert_restored("after a receive that failed");
        }
        let message = b.try_recv().expect("address space");
        let buffers = [&message.buffers.len(), &message.shared.len(), &message.frozen.len()];
        assert!(buffers.into_iter().sum::<usize>() == 2);
        assert_entangled(&message.ports[0], &witness);
    }
    without_address_space(|| {
        assert!(matches!(TransferBuffer::new(LARGE), Err(BufferError::ResourceExhausted(_))));
        assert!(matches!(SharedBuffer::new(LARGE), Err(BufferError::ResourceExhausted(_))));
    });
    // Freezing maps the memory once more before it gives the first mapping up.
    let buffer = large();
    buffer.write_at(LARGE - 6, b"pixels").expect("inside");
    let error = without_address_space(|| buffer.freeze()).expect_err("no address space");
    assert!(matches!(error.kind, FreezeErrorKind::ResourceExhausted(_)), "{error:?}");
    let frozen = error.buffer.freeze().expect("as it was");
    assert_eq!(frozen[LARGE - 6..], *b"pixels");
    let bytes = vec![1; LARGE];
    let result = without_address_space(|| FrozenBuffer::from_bytes(&bytes));
    assert!(matches!(result, Err(BufferError::ResourceExhausted(_))), "{result:?}");
    drop(frozen);
    before.assert_restored("after all of it");
}

fn small_files() {
    const LIMIT: usize = 1 << 20;
    let before = Ledger::now();
    let path = std::env::temp_dir().join(format!("messageport-small-{}", std::process::id()));
    fs::write(&path, vec![1; LIMIT]).expect("room on the disk");
    let file = File::open(&path).expect("it is there");
    fs::remove_file(&path).expect("it is there");
    with_limit(Resource::RLIMIT_FSIZE, LIMIT as u64, || {
        let exhausted = |result: Result<(), BufferError>| matches!(result, Err(BufferError::ResourceExhausted(_)));
        // The header page does not fit any more.
        let bytes = vec![1; LIMIT - 4095];
        assert!(exhausted(TransferBuffer::new(bytes.len()).map(drop)));
        assert!(exhausted(SharedBuffer::new(bytes.len()).map(drop)));
        assert!(exhausted(FrozenBuffer::from_bytes(&bytes).map(drop)));
        assert!(exhausted(FrozenBuffer::from_file(&file).map(drop)));
        let bytes = &bytes[1..];
        assert_eq!(buffer_of(bytes).freeze().expect("a new buffer")[..], *bytes);
        assert_eq!(FrozenBuffer::from_bytes(bytes).expect("it fits")[..], *bytes);
        assert_eq!(shared_of(bytes).to_vec().expect("it fits"), bytes);
    });
    for len in [usize::MAX, 1 << 62, (1 << 40) + 1] {
        assert!(matches!(TransferBuffer::new(len), Err(BufferError::ResourceExhausted(_))));
        assert!(matches!(SharedBuffer::new(len), Err(BufferError::ResourceExhausted(_))));
    }
    drop(file);
    before.assert_restored("after all of it");
}
