//! Shortages of the system: descriptors, room for descriptors in flight, address space, file size. The call returns an
//! error, everything is still the caller's or still queued, and all of it works afterwards.

mod tools;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use messageport::aio::AsyncPort;
use messageport::{
    AcceptError, AnswerError, BadTransfer, BufferError, ChannelOptions, Client, CloseReason, ConnectError,
    ConnectOptions, FreezeErrorKind, FrozenBuffer, Incoming, ListenError, Listener, Message, MessageChannel,
    MessagePort, PostDataError, PostErrorKind, RecvError, RecvTimeoutError, Server, SharedBuffer, TransferBuffer,
    TransferRef, Transferable, TryRecvError, parent_port,
};
use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::stat::fstat;
use nix::unistd::{Uid, geteuid, seteuid};

use tools::child::{self, Process, Role, hold};
use tools::ledger::Ledger;
use tools::luggage::{KINDS, Luggage, SMALL_BUFFER, shared_of};
use tools::{PATIENCE, assert_entangled, buffer_of, end_of, forgetful_pair, growing_pair, pair, readable, text};

const ROLES: &[Role] = &[
    ("few descriptors", few_descriptors),
    ("few descriptors to grow", few_descriptors_to_grow),
    ("few descriptors to recycle", few_descriptors_to_recycle),
    ("few descriptors for a laden port", few_descriptors_for_a_laden_port),
    ("descriptors of other threads", descriptors_of_other_threads),
    ("a message without room", message_without_room),
    ("a request without room", request_without_room),
    ("a task without room", task_without_room),
    ("few descriptors to listen", few_descriptors_to_listen),
    ("few descriptors for a listener", few_descriptors_for_a_listener),
    ("few in flight", few_in_flight),
    ("no address space", no_address_space),
    ("no address space to grow", no_address_space_to_grow),
    ("no address space for inline data", no_address_space_for_inline_data),
    ("no descriptor for a process", no_descriptor_for_a_process),
    ("small files", small_files),
    ("lowered limit", lowered_limit),
    ("hold", hold),
];

/// Held while a process runs with a low limit of descriptors. Unless it is privileged, the kernel then compares the
/// limit with all descriptors that the processes of this user have in flight.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[track_caller]
fn play(role: &str) {
    let _alone = alone();
    child::play(role);
}

#[test]
fn too_few_descriptors_leave_everything_where_it_is() {
    play("few descriptors");
}

#[test]
fn too_few_descriptors_to_grow_leave_everything_where_it_is() {
    play("few descriptors to grow");
}

#[test]
fn a_recycled_buffer_needs_no_descriptor() {
    play("few descriptors to recycle");
}

#[test]
fn a_port_with_grown_queues_and_cached_buffers_arrives_whole_or_not_at_all() {
    play("few descriptors for a laden port");
}

#[test]
fn a_message_without_room_takes_no_descriptors_from_other_threads() {
    play("descriptors of other threads");
}

#[test]
fn a_message_without_room_is_given_up_after_a_while() {
    play("a message without room");
}

#[test]
fn a_server_waits_for_room_for_a_request() {
    play("a request without room");
}

#[test]
fn a_task_naps_until_there_is_room() {
    play("a task without room");
}

#[test]
fn a_listener_that_cannot_be_made_leaves_nothing_behind() {
    play("few descriptors to listen");
}

#[test]
fn a_listener_waits_for_descriptors_and_goes_on() {
    let _alone = alone();
    let (mut process, carrier) = Process::start("few descriptors for a listener");
    let name = text(&carrier);
    let mut clients = Vec::new();
    while let Ok(_connect) = carrier.recv_timeout(PATIENCE) {
        let word = match ConnectOptions::new().timeout(PATIENCE).connect(&name, b"") {
            Ok(port) => {
                clients.push(port);
                "accepted"
            }
            Err(ConnectError::Overloaded) => "overloaded",
            Err(error) => panic!("{error:?}"),
        };
        carrier.post_message(word.as_bytes(), []).expect("room");
    }
    process.succeeded();
}

#[test]
fn too_many_descriptors_in_flight_give_everything_back() {
    play("few in flight");
}

#[test]
fn too_little_memory_for_inline_data_leaves_the_message_queued() {
    play("no address space for inline data");
}

#[test]
fn too_little_address_space_leaves_everything_where_it_is() {
    play("no address space");
}

#[test]
fn too_little_address_space_to_grow_leaves_everything_where_it_is() {
    play("no address space to grow");
}

#[test]
fn a_process_descriptor_without_room_is_none() {
    play("no descriptor for a process");
}

#[test]
fn a_file_size_limit_is_an_error_and_no_signal() {
    play("small files");
}

#[test]
fn a_handle_lets_go_of_a_port_although_its_number_is_above_the_limit() {
    play("lowered limit");
}

/// Calls `work` with room for exactly `count` more descriptors.
fn with_room_for<T>(count: usize, work: impl FnOnce() -> T) -> T {
    let entries = fs::read_dir("/proc/self/fd").expect("/proc/self/fd").flatten();
    let names = entries.map(|entry| entry.file_name().to_str().expect("a number").parse::<u64>().expect("a number"));
    let mut used: BTreeSet<u64> = names.collect();
    // Without the descriptor that listed the directory.
    used.retain(|number| fs::read_link(format!("/proc/self/fd/{number}")).is_ok());
    let limit = (0..).filter(|number| !used.contains(number)).nth(count).expect("a number");
    with_limit(Resource::RLIMIT_NOFILE, limit, work)
}

fn with_limit<T>(resource: Resource, limit: u64, work: impl FnOnce() -> T) -> T {
    let (soft, hard) = getrlimit(resource).expect("a limit");
    setrlimit(resource, limit, hard).expect("the limit can be lowered");
    let result = work();
    setrlimit(resource, soft, hard).expect("the limit can be raised");
    result
}

fn is_exhausted(result: &Result<Message, TryRecvError>) -> bool {
    matches!(result, Err(TryRecvError::Failed(RecvError::ResourceExhausted(_))))
}

fn few_descriptors() {
    let (a, b) = forgetful_pair();
    let before = Ledger::now();
    for kinds in 1..1 << KINDS {
        let mut luggage = Luggage::pack_kinds(kinds);
        let list = luggage.take();
        let needed = list.len() + (kinds & 1);
        // Posting needs none.
        with_room_for(0, || a.post_message(b"things", list).expect("no descriptor is needed"));
        // Receiving needs one for each handle. Without it nothing is taken.
        for room in 0..needed {
            let held = Ledger::now();
            let result = with_room_for(room, || b.try_recv());
            assert!(is_exhausted(&result), "room for {room} of {needed}: {result:?}");
            held.assert_restored("after a receive that failed");
            let in_place = with_room_for(room, || b.try_recv_ref().map(|message| message.len()));
            assert!(matches!(in_place, Err(TryRecvError::Failed(RecvError::ResourceExhausted(_)))));
            held.assert_restored("after a receive in place that failed");
        }
        let message = with_room_for(needed, || b.try_recv()).expect("room for all");
        assert_eq!(message.data, b"things");
        luggage.assert_whole(message.transfer_list());
    }
    before.assert_restored("after the shortages");
    // Things to make.
    with_room_for(0, || {
        assert!(matches!(TransferBuffer::new(10), Err(BufferError::ResourceExhausted(_))));
        assert!(matches!(SharedBuffer::new(10), Err(BufferError::ResourceExhausted(_))));
        assert!(matches!(FrozenBuffer::from_bytes(b"x"), Err(BufferError::ResourceExhausted(_))));
        assert!(MessageChannel::new().is_err());
    });
    // Freezing needs no descriptor.
    let buffer = buffer_of(b"pixels");
    assert_eq!(with_room_for(0, || buffer.freeze()).expect("no descriptor is needed")[..], *b"pixels");
    before.assert_restored("after making things");
}

/// Descriptors for a transfer list, more than there will be room for.
const MANY: usize = 100;

fn many_descriptors() -> Vec<Transferable> {
    let null = File::open("/dev/null").expect("a device");
    (0..MANY).map(|_| OwnedFd::from(null.try_clone().expect("a descriptor")).into()).collect()
}

fn descriptors_of_other_threads() {
    let (a, b) = forgetful_pair();
    a.post_message(b"many", many_descriptors()).expect("room");
    with_room_for(MANY / 2, || {
        let opened = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                for _ in 0..5000 {
                    File::open("/dev/null").expect("there is room for a file");
                    opened.fetch_add(1, Ordering::Relaxed);
                }
            });
            while !other.is_finished() {
                assert!(is_exhausted(&b.try_recv()));
            }
        });
        assert_eq!(opened.into_inner(), 5000);
    });
    let message = with_room_for(MANY, || b.try_recv()).expect("room for all");
    assert_eq!((&message.data[..], message.descriptors.len()), (b"many".as_slice(), MANY));
}

fn message_without_room() {
    let (a, b) = forgetful_pair();
    a.post_message(b"many", many_descriptors()).expect("room");
    a.post_message(b"more", [OwnedFd::from(File::open("/dev/null").expect("a device")).into()]).expect("room");
    let held = Ledger::now();
    with_room_for(MANY / 2, || {
        let (start, mut attempts) = (Instant::now(), 0);
        let error = loop {
            attempts += 1;
            match b.try_recv() {
                Err(TryRecvError::Failed(RecvError::ResourceExhausted(_))) => {}
                other => break other.expect_err("there is no room"),
            }
            assert!(start.elapsed() < PATIENCE, "the message is not given up");
            std::thread::sleep(Duration::from_millis(10)); // a pause between attempts
        };
        let TryRecvError::Failed(RecvError::MessageError { reason: BadTransfer::NoRoom, data }) = error else {
            panic!("{error:?}")
        };
        assert_eq!(data, b"many");
        assert!(attempts >= 16, "given up after {attempts} attempts");
        held.assert_restored("after a message that was given up");
        // Later messages are not affected.
        let message = b.try_recv().expect("room for one");
        assert_eq!((&message.data[..], message.descriptors.len()), (b"more".as_slice(), 1));
    });
}

fn request_without_room() {
    let (a, b) = forgetful_pair();
    let client = Client::new(a);
    let mut pending = client.start(b"many", many_descriptors()).expect("room");
    let server = with_room_for(MANY / 2, || {
        let server = std::thread::spawn(|| {
            Server::new(b).serve(|message| {
                message.data = message.descriptors.len().to_string().into_bytes();
                message.descriptors.clear();
            })
        });
        let early = pending.wait_timeout(Duration::from_millis(100));
        assert!(matches!(early, Err(AnswerError::TimedOut)), "{early:?}");
        server
    });
    assert_eq!(pending.wait_timeout(PATIENCE).expect("there is room").data, b"100");
    drop((client, pending));
    server.join().expect("no panic").expect("the client has closed its end");
}

fn task_without_room() {
    let (a, b) = forgetful_pair();
    a.post_message(b"many", many_descriptors()).expect("room");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut b = AsyncPort::new(b).expect("a registration");
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        setrlimit(Resource::RLIMIT_NOFILE, MANY as u64, hard).expect("the limit can be lowered");
        let start = Instant::now();
        for _ in 0..5 {
            let result = b.recv().await;
            assert!(matches!(result, Err(RecvError::ResourceExhausted(_))), "{result:?}");
        }
        assert!(start.elapsed() >= Duration::from_millis(10 + 20 + 40 + 80), "naps of {:?}", start.elapsed());
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("the limit can be raised");
        let message = b.recv().await.expect("there is room");
        assert_eq!((&message.data[..], message.descriptors.len()), (b"many".as_slice(), MANY));
    });
}

fn few_descriptors_to_listen() {
    let folder = std::env::temp_dir().join(format!("messageport-listen-{}", std::process::id()));
    fs::create_dir(&folder).expect("a free name");
    let name = folder.join("name");
    let bind = || Listener::bind(name.to_str().expect("a path of text"));
    for count in 0..3 {
        let error = with_room_for(count, bind).expect_err("a lock, a socket and a set take three");
        assert!(matches!(&error, ListenError::System(_, error) if error.raw_os_error() == Some(Errno::EMFILE as i32)));
        assert_eq!(fs::read_dir(&folder).expect("the folder").count(), 0, "with room for {count}");
    }
    let listener = with_room_for(3, bind).expect("room for all");
    drop(listener);
    fs::remove_dir(&folder).expect("an empty folder");
}

/// A role, whose parent connects at every message, and then posts how that ended.
fn few_descriptors_for_a_listener() {
    let outside = parent_port().expect("a port");
    let path = std::env::temp_dir().join(format!("messageport-shortages-{}", std::process::id()));
    let name = path.to_str().expect("a path of text");
    let listener = Listener::bind(name).expect("a free name");
    let connect = || outside.post_message(b"connect", []).expect("room");
    outside.post_message(name.as_bytes(), []).expect("room");
    let is_short = |result: Result<Option<Incoming>, AcceptError>| match result {
        Err(AcceptError::System(error)) => assert_eq!(error.raw_os_error(), Some(Errno::EMFILE as i32)),
        other => panic!("instead of a shortage: {other:?}"),
    };
    let step = || {
        assert!(readable(&listener, PATIENCE), "no client");
        listener.try_accept()
    };
    // Without a descriptor for the connection, the client waits.
    with_room_for(0, || {
        connect();
        is_short(step());
        is_short(listener.accept_timeout(Duration::from_millis(1)).map(Some));
    });
    let _first = listener.accept_timeout(PATIENCE).expect("the client that has waited");
    assert_eq!((&*text(&outside), listener.refused()), ("accepted", 0));
    // A connection takes one, a pair three. Without those for the pair, the client is refused.
    let before = Ledger::now();
    with_room_for(3, || {
        connect();
        is_short(std::iter::repeat_with(step).find(|result| !matches!(result, Ok(None))).expect("an endless iterator"));
    });
    assert_eq!((&*text(&outside), listener.refused()), ("overloaded", 1));
    before.assert_restored("after a client that was refused");
    // A call without a deadline outlasts the shortage, which ends when this thread has slept a few times.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    let sleeps = || getrusage(UsageWho::RUSAGE_SELF).expect("the usage").voluntary_context_switches();
    let (before, start) = (sleeps(), Instant::now());
    let (incoming, rescue) = with_room_for(0, || {
        connect();
        let rescue = thread::spawn(move || {
            while sleeps() < before + 5 && start.elapsed() < PATIENCE {
                thread::yield_now();
            }
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("the limit can be raised");
        });
        (listener.accept(), rescue)
    });
    let incoming = incoming.expect("the client, after the shortage");
    rescue.join().expect("no panic");
    assert_eq!(text(&outside), "accepted");
    drop((incoming, listener));
    assert!(!path.exists());
}

fn few_in_flight() {
    let user = geteuid();
    let (a, b) = forgetful_pair();
    // More descriptors than the limit are in flight: duplicates of one, in a queue that is not read.
    let (filler, _unread) = pair();
    for _ in 0..20 {
        filler.post_message_detaching(b"", &[TransferRef::Descriptor(a.as_fd())]).expect("room");
    }
    let before = Ledger::now();
    for kinds in 1..1 << KINDS {
        let mut luggage = Luggage::pack_kinds(kinds);
        let list = luggage.take();
        if user.is_root() {
            seteuid(Uid::from_raw(65534)).expect("root may"); // root itself may have any number in flight
        }
        let posted = with_limit(Resource::RLIMIT_NOFILE, 8, || a.post_message(b"", list));
        seteuid(user).expect("back to the user");
        if kinds == SMALL_BUFFER {
            posted.expect("a copy needs no descriptor");
            luggage.assert_whole(b.recv_timeout(PATIENCE).expect("a message").transfer_list());
            continue;
        }
        let error = posted.expect_err("too many in flight");
        assert!(matches!(error.kind, PostErrorKind::ResourceExhausted(_)), "{error:?}");
        assert!(error.to_string().contains("RLIMIT_NOFILE"), "{error}");
        let list = error.into_inner();
        luggage.assert_whole(&list);
        assert!(matches!(b.try_recv(), Err(TryRecvError::Empty)));
        a.post_message(b"things", list).expect("no limit");
        luggage.assert_whole(b.recv_timeout(PATIENCE).expect("a message").transfer_list());
    }
    before.assert_restored("after the shortages");
    // A larger ring is in flight too, and so is the buffer of large data that is new to the peer.
    let (a, b) = growing_pair(4096, 1 << 20);
    let mut count = fill(&a);
    let limited = |post: &dyn Fn() -> Result<(), PostErrorKind>| {
        if user.is_root() {
            seteuid(Uid::from_raw(65534)).expect("root may");
        }
        let result = with_limit(Resource::RLIMIT_NOFILE, 8, post);
        seteuid(user).expect("back to the user");
        result
    };
    let held = Ledger::now();
    let result = limited(&|| a.post_message_detaching(&[1; 500], &[]));
    assert!(matches!(result, Err(PostErrorKind::ResourceExhausted(_))), "{result:?}");
    held.assert_restored("after a queue did not grow");
    a.post_message(&count.to_ne_bytes(), []).expect("no limit");
    count += 1;
    expect(&b, 0..count);
    let large = vec![7; 100_000];
    // The memory of the data is made before posting it fails.
    let result = limited(&|| a.post_message_detaching(&large, &[]));
    assert!(matches!(result, Err(PostErrorKind::ResourceExhausted(_))), "{result:?}");
    a.post_message(&large, []).expect("no limit");
    assert!(b.recv().expect("a message").data == large);
    limited(&|| a.post_message_detaching(&large, &[])).expect("the peer knows the buffer");
    assert!(b.recv().expect("a message").data == large);
}

/// 64 MiB: more than the address space that `without_address_space` leaves.
const LARGE: usize = 64 << 20;

/// Calls `work` with eight MiB of address space beyond the present use.
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
    // Small things of other kinds come before and behind the large one.
    for thing in things {
        let (witness, port) = pair();
        let list = [port.into(), FrozenBuffer::from_bytes(b"x").expect("memory").into(), thing];
        a.post_message(b"large", list).expect("room");
        for _ in 0..3 {
            let held = Ledger::now();
            let result = without_address_space(|| b.try_recv());
            assert!(is_exhausted(&result), "{result:?}");
            held.assert_restored("after a receive in place that failed");
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
    // Freezing maps the memory a second time before it drops the first mapping.
    let buffer = large();
    buffer.write_at(LARGE - 6, b"pixels").expect("inside");
    let error = without_address_space(|| buffer.freeze()).expect_err("no address space");
    assert!(matches!(error.kind, FreezeErrorKind::ResourceExhausted(_)), "{error:?}");
    let frozen = error.into_inner().freeze().expect("an unchanged buffer");
    assert_eq!(frozen[LARGE - 6..], *b"pixels");
    let bytes = vec![1; LARGE];
    let result = without_address_space(|| FrozenBuffer::from_bytes(&bytes));
    assert!(matches!(result, Err(BufferError::ResourceExhausted(_))), "{result:?}");
    drop(frozen);
    before.assert_restored("after the shortages");
}

fn no_address_space_for_inline_data() {
    let MessageChannel { port1: a, port2: b } = ChannelOptions::new().capacity(64 << 20).create().expect("a channel");
    let long = vec![7; 20 << 20];
    assert!(long.len() < a.max_inline_len());
    for list in [vec![], vec![pair().0.into()]] {
        let transferred = list.len();
        a.post_message(&long, list).expect("room");
        for _ in 0..3 {
            let result = without_address_space(|| b.try_recv());
            assert!(is_exhausted(&result), "{result:?}");
            let mut messages = [Message::new()];
            let result = without_address_space(|| b.try_recv_messages(&mut messages));
            let exhausted = matches!(result, Err(TryRecvError::Failed(RecvError::ResourceExhausted(_))));
            assert!(exhausted, "{result:?}");
        }
        // In a batch the message stays too, without an error for the one in front of it.
        a.post_message(b"short", []).expect("room");
        let message = b.try_recv().expect("memory");
        assert_eq!((message.data == long, message.ports.len()), (true, transferred));
        a.post_message(&long, []).expect("room");
        let mut messages = [Message::new(), Message::new()];
        assert_eq!(without_address_space(|| b.try_recv_messages(&mut messages)).expect("the short one"), 1);
        assert_eq!((&*messages[0].data, &*messages[1].data), (&b"short"[..], &b""[..]));
        assert!(b.try_recv().expect("memory").data == long);
    }
}

fn small_files() {
    const LIMIT: usize = 1 << 20;
    let before = Ledger::now();
    let path = std::env::temp_dir().join(format!("messageport-small-{}", std::process::id()));
    fs::write(&path, vec![1; LIMIT]).expect("room on the disk");
    let file = File::open(&path).expect("a file");
    fs::remove_file(&path).expect("a file");
    with_limit(Resource::RLIMIT_FSIZE, LIMIT as u64, || {
        let exhausted = |result: Result<(), BufferError>| matches!(result, Err(BufferError::ResourceExhausted(_)));
        // With the header page the file would exceed the limit.
        let bytes = vec![1; LIMIT - 4095];
        assert!(exhausted(TransferBuffer::new(bytes.len()).map(drop)));
        assert!(exhausted(SharedBuffer::new(bytes.len()).map(drop)));
        assert!(exhausted(FrozenBuffer::from_bytes(&bytes).map(drop)));
        assert!(exhausted(FrozenBuffer::from_file(&file).map(drop)));
        let bytes = &bytes[1..];
        assert_eq!(buffer_of(bytes).freeze().expect("a new buffer")[..], *bytes);
        assert_eq!(FrozenBuffer::from_bytes(bytes).expect("a file below the limit")[..], *bytes);
        assert_eq!(shared_of(bytes).to_vec().expect("a file below the limit"), bytes);
    });
    // Growth, and data larger than the ring.
    let (a, b) = growing_pair(4096, 1 << 20);
    with_limit(Resource::RLIMIT_FSIZE, 32 << 10, || {
        let mut count = 0;
        let kind = loop {
            match a.post_message(&u32::to_ne_bytes(count), []) {
                Ok(()) => count += 1,
                Err(error) => break error.kind,
            }
        };
        assert!(matches!(kind, PostErrorKind::ResourceExhausted(_)), "{kind:?}");
        assert_eq!(a.queued().capacity, 16 << 10, "a larger ring exceeds the file size");
        let error = a.post_message(&[1; 40_000], [buffer_of(b"pixels").into()]).expect_err("a file too large");
        assert!(matches!(error.kind, PostErrorKind::ResourceExhausted(_)), "{error:?}");
        assert_eq!(error.into_inner().len(), 1);
        assert!(matches!(a.buffer(40_000), Err(BufferError::ResourceExhausted(_))));
        assert!(matches!(a.reserve(40_000), Err(PostDataError::ResourceExhausted(_))));
        expect(&b, 0..count);
    });
    a.post_message(&[1; 40_000], []).expect("no limit");
    assert_eq!(b.recv().expect("a message").data, [1; 40_000]);
    drop((a, b));
    for len in [usize::MAX, 1 << 62, (1 << 40) + 1] {
        assert!(matches!(TransferBuffer::new(len), Err(BufferError::ResourceExhausted(_))));
        assert!(matches!(SharedBuffer::new(len), Err(BufferError::ResourceExhausted(_))));
    }
    drop(file);
    before.assert_restored("after the shortages");
}

// Growth, recycled buffers, and ports with many of both.

/// Posts numbers until the queue would have to grow. Returns their count.
fn fill(port: &MessagePort) -> u32 {
    let mut count = 0;
    while port.post_message_timeout(&u32::to_ne_bytes(count), [], Duration::ZERO).is_ok() {
        count += 1;
    }
    count
}

#[track_caller]
fn expect(port: &MessagePort, numbers: std::ops::Range<u32>) {
    for number in numbers {
        assert_eq!(port.try_recv().expect("a number").data, number.to_ne_bytes());
    }
}

fn few_descriptors_to_grow() {
    let before = Ledger::now();
    for kinds in 1..1 << KINDS {
        let (a, b) = growing_pair(4096, 64 << 10);
        let mut luggage = Luggage::pack_kinds(kinds);
        let list = luggage.take();
        let count = fill(&a);
        // The sender has none for a larger ring.
        let held = Ledger::now();
        let error = with_room_for(0, || a.post_message(&[1; 500], list)).expect_err("no descriptor");
        assert!(matches!(error.kind, PostErrorKind::ResourceExhausted(_)), "{error:?}");
        let list = error.into_inner();
        luggage.assert_whole(&list);
        let result = with_room_for(0, || a.reserve(500).map(drop));
        assert!(matches!(result, Err(PostDataError::ResourceExhausted(_))), "{result:?}");
        held.assert_restored("after a queue did not grow");
        assert_eq!(a.queued().capacity, 4096);
        with_room_for(1, || a.post_message(b"things", list).expect("room for a ring"));
        a.post_message(b"behind them", []).expect("room");
        // The receiver has none for it either: every message before the larger ring comes, and nothing is lost.
        with_room_for(0, || expect(&b, 0..count));
        let held = Ledger::now();
        for _ in 0..3 {
            let result = with_room_for(0, || b.try_recv());
            assert!(is_exhausted(&result), "{result:?}");
            let result = with_room_for(0, || b.try_recv_ref().map(drop));
            assert!(matches!(result, Err(TryRecvError::Failed(RecvError::ResourceExhausted(_)))), "{result:?}");
            let result = with_room_for(0, || b.recv_timeout(PATIENCE));
            assert!(matches!(result, Err(RecvTimeoutError::Failed(RecvError::ResourceExhausted(_)))), "{result:?}");
        }
        held.assert_restored("after a ring that was not taken");
        let message = b.try_recv().expect("descriptors");
        luggage.assert_whole(message.transfer_list());
        assert_eq!(text(&b), "behind them");
        assert!(matches!(b.try_recv(), Err(TryRecvError::Empty)));
        assert_entangled(&a, &b);
        assert_eq!(a.queued().capacity, 4096);
    }
    before.assert_restored("after growing");
}

fn few_descriptors_to_recycle() {
    let before = Ledger::now();
    let large = vec![7; 100_000];
    for kinds in 1..1 << KINDS {
        let (a, b) = pair();
        let mut luggage = Luggage::pack_kinds(kinds);
        let list = luggage.take();
        // Data larger than the ring takes a descriptor on each side the first time.
        let held = Ledger::now();
        let error = with_room_for(0, || a.post_message(&large, list)).expect_err("no descriptor");
        assert!(matches!(error.kind, PostErrorKind::ResourceExhausted(_)), "{error:?}");
        let list = error.into_inner();
        luggage.assert_whole(&list);
        assert!(matches!(with_room_for(0, || a.reserve(100_000).map(drop)), Err(PostDataError::ResourceExhausted(_))));
        assert!(matches!(with_room_for(0, || a.buffer(100_000)), Err(BufferError::ResourceExhausted(_))));
        held.assert_restored("after a post that failed");
        with_room_for(1, || a.post_message(&large, list).expect("room for one"));
        let needed = 1 + kinds.count_ones() as usize + (kinds & 1);
        for room in 0..needed {
            let held = Ledger::now();
            let result = with_room_for(room, || b.try_recv());
            assert!(is_exhausted(&result), "room for {room} of {needed}: {result:?}");
            held.assert_restored("after a receive in place that failed");
        }
        let message = with_room_for(needed, || b.try_recv()).expect("room for all");
        assert!(message.data == large);
        luggage.assert_whole(message.transfer_list());
        // From then on none, for any way to post it.
        with_room_for(0, || {
            for _ in 0..3 {
                a.post_message(&large, []).expect("a known buffer");
                assert!(b.try_recv().expect("a message").data == large);
                let mut reservation = a.reserve(large.len()).expect("the buffer came back");
                reservation.write_at(0, &large).expect("inside");
                reservation.commit().expect("a known buffer");
                assert_eq!(b.try_recv_ref().expect("a message").len(), large.len());
                a.post_message(b"there", [a.buffer(90_000).expect("the buffer came back").into()])
                    .expect("a known buffer");
                let list = b.try_recv().expect("a message").take_transfer_list();
                b.post_message(b"back", list).expect("a known buffer");
                assert_eq!(a.try_recv().expect("a message").buffers[0].len(), 90_000);
            }
        });
        // Buffers in the pool can be freed without a descriptor.
        assert!(with_room_for(0, || a.release_buffers()).expect("room") >= 1);
    }
    before.assert_restored("after recycling");
}

fn few_descriptors_for_a_laden_port() {
    let before = Ledger::now();
    for kinds in (0..1 << KINDS).filter(|kinds| kinds & 1 == 0) {
        let (carrier, arrivals) = forgetful_pair();
        let (stays, port) = growing_pair(4096, 64 << 10);
        // Three buffers are in its cache, two of its own are with the peer, and both queues have grown.
        let buffers = |port: &MessagePort, count| -> Vec<_> {
            (0..count).map(|_| port.buffer(5000).expect("memory").into()).collect()
        };
        stays.post_message(b"", buffers(&stays, 3)).expect("room");
        drop(port.try_recv().expect("buffers"));
        port.post_message(b"", buffers(&port, 2)).expect("room");
        let mut kept = stays.try_recv().expect("buffers").buffers;
        let counts = [fill(&stays), fill(&port)];
        for (port, count) in [(&stays, counts[0]), (&port, counts[1])] {
            port.post_message(&count.to_ne_bytes(), []).expect("room in a larger ring");
        }
        expect(&port, 0..counts[0]); // the last number leads into the larger ring
        expect(&port, counts[0]..counts[0] + 1);
        let mut luggage = Luggage::pack_kinds(kinds);
        let mut list = luggage.take();
        list.insert(0, port.into());
        with_room_for(0, || carrier.post_message(b"laden", list).expect("no descriptor is needed"));
        let needed = 2 + 2 + 3 + 2 + kinds.count_ones() as usize;
        for room in 0..needed {
            let held = Ledger::now();
            let result = with_room_for(room, || arrivals.try_recv());
            assert!(is_exhausted(&result), "room for {room} of {needed}: {result:?}");
            held.assert_restored("after a receive in place that failed");
        }
        stays.post_message(b"meanwhile", []).expect("room");
        let mut message = with_room_for(needed, || arrivals.try_recv()).expect("room for all");
        let port = message.ports.remove(0);
        luggage.assert_whole(message.transfer_list());
        assert_eq!(text(&port), "meanwhile");
        expect(&stays, 0..counts[1] + 1);
        // All its buffers are recycled as before.
        stays.post_message(b"back", [kept.pop().expect("a buffer").into()]).expect("room");
        assert_eq!(port.try_recv().expect("a buffer").buffers[0].len(), 5000);
        with_room_for(0, || {
            stays.post_message(b"", buffers(&stays, 3)).expect("the buffers came back");
            drop(port.try_recv().expect("buffers"));
            drop(kept);
            port.post_message(b"", buffers(&port, 2)).expect("the buffers came back");
            drop(stays.try_recv().expect("buffers"));
        });
    }
    before.assert_restored("after laden ports");
}

fn no_address_space_to_grow() {
    const CAPACITY: usize = 16 << 20;
    let before = Ledger::now();
    let (a, b) = growing_pair(CAPACITY, 8 * CAPACITY);
    let megabyte = vec![7; 1 << 20];
    let mut count = 0;
    while a.post_message_timeout(&megabyte, [], Duration::ZERO).is_ok() {
        count += 1;
    }
    // The sender cannot map a larger ring.
    let error = without_address_space(|| a.post_message(&megabyte, [])).expect_err("no address space");
    assert!(matches!(error.kind, PostErrorKind::ResourceExhausted(_)), "{error:?}");
    a.post_message(&megabyte, []).expect("address space");
    let mut message = Message::new();
    for _ in 0..count {
        b.recv_into(&mut message).expect("a message");
    }
    // Nor can the receiver.
    for _ in 0..3 {
        let held = Ledger::now();
        let result = without_address_space(|| b.try_recv_into(&mut message));
        assert!(matches!(result, Err(TryRecvError::Failed(RecvError::ResourceExhausted(_)))), "{result:?}");
        held.assert_restored("after a ring that was not taken");
    }
    b.recv_into(&mut message).expect("address space");
    assert!(message.data == megabyte);
    // Data larger than the address space.
    let large = vec![7; LARGE];
    let error = without_address_space(|| a.post_message(&large, [])).expect_err("no address space");
    assert!(matches!(error.kind, PostErrorKind::ResourceExhausted(_)), "{error:?}");
    assert!(matches!(without_address_space(|| a.reserve(LARGE).map(drop)), Err(PostDataError::ResourceExhausted(_))));
    assert!(matches!(without_address_space(|| a.buffer(LARGE)), Err(BufferError::ResourceExhausted(_))));
    a.post_message(&large, []).expect("address space");
    for _ in 0..3 {
        let held = Ledger::now();
        assert!(is_exhausted(&without_address_space(|| b.try_recv())));
        held.assert_restored("after a receive that failed");
    }
    assert!(b.recv().expect("address space").data == large);
    // A buffer that both sides have mapped is posted and received without more address space.
    without_address_space(|| {
        let buffer = a.buffer(LARGE).expect("the buffer came back");
        buffer.write_at(LARGE - 6, b"pixels").expect("inside");
        a.post_message(b"", [buffer.into()]).expect("a known buffer");
        let message = b.try_recv().expect("a message");
        assert_eq!(message.buffers[0].read_value::<[u8; 6]>(LARGE - 6).expect("inside"), *b"pixels");
    });
    // A port with a large buffer in its cache.
    let (carrier, arrivals) = forgetful_pair();
    carrier.post_message(b"", [b.into()]).expect("room");
    for _ in 0..3 {
        let held = Ledger::now();
        let result = without_address_space(|| arrivals.try_recv());
        assert!(is_exhausted(&result), "{result:?}");
        held.assert_restored("after a port that was not taken");
    }
    let b = arrivals.try_recv().expect("address space").ports.remove(0);
    assert_entangled(&a, &b);
    drop((a, b, carrier, arrivals));
    before.assert_restored("after the shortages");
}

/// A port is posted by reference, and the numbers of its handle's descriptors cannot be used again.
fn lowered_limit() {
    let (mut process, carrier) = Process::start("hold");
    assert_eq!(text(&carrier), "ready");
    let low: Vec<File> = (0..50).map(|_| File::open("/dev/null").expect("a device")).collect();
    let (peer, handle) = pair();
    drop(low);
    with_limit(Resource::RLIMIT_NOFILE, 40, || {
        carrier.post_message_detaching(b"", &[TransferRef::Port(&handle)]).expect("room");
    });
    // The port has one holder left, in whose queue it is.
    process.kill();
    assert_eq!(end_of(&peer), CloseReason::PeerDied);
    // The handle still has a descriptor that can be polled.
    let id = fstat(handle.as_fd()).expect("an open descriptor");
    assert_ne!(id.st_ino, fstat(peer.as_fd()).expect("an open descriptor").st_ino);
}

/// The kernel passes an error number instead of a descriptor of the sender's process, for which there is no room.
fn no_descriptor_for_a_process() {
    /// Each packet has a descriptor of the sender's process (unix(7), since Linux 6.5).
    const SO_PASSPIDFD: libc::c_int = 76;
    let (a, b) = pair();
    let on = 1_i32;
    #[allow(unsafe_code)]
    // SAFETY: the pointer is to an int, and the length is that of an int.
    let result = unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(b.as_fd().as_raw_fd(), libc::SOL_SOCKET, SO_PASSPIDFD, value, size_of::<i32>() as u32)
    };
    if result != 0 {
        eprintln!("skipped: this kernel has no such option");
        return;
    }
    a.post_message(b"many", many_descriptors()).expect("room");
    let held = Ledger::now();
    for room in [0, 1, MANY / 2, MANY - 1] {
        let result = with_room_for(room, || b.try_recv());
        assert!(is_exhausted(&result), "room for {room}: {result:?}");
        held.assert_restored("after a receive that failed");
    }
    let message = with_room_for(MANY, || b.try_recv()).expect("room for all but the process");
    assert_eq!(message.descriptors.len(), MANY);
}
