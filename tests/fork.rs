//! `fork` without `exec`: an inherited port stays the parent's, every call on it in the child returns `Forked`, and
//! nothing that the child does with it has an effect outside of the child. `exec`: only the intended descriptor
//! survives.
//!
//! Every body runs in a process of its own with a single thread: only such a process may run any code after a `fork`.
//! The bodies at the end are the exception: there other threads hold the library's locks at the fork. The allocator of
//! the system releases its own locks in a child.

mod tools;

use std::cell::{Cell, RefCell};
use std::os::fd::AsFd;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use messageport::{
    AcceptError, AnswerError, BufferError, CallError, Client, EventLoop, FreezeErrorKind, FrozenBuffer, ListenError,
    ListenOptions, Listener, Message, MessagePort, PostDataError, PostError, PostErrorKind, RecvError, RecvHalf,
    RecvTimeoutError, Responder, SendHalf, Server, SharedBuffer, SpawnErrorKind, TransferBuffer, TransferRef,
    TryRecvError, connect, parent_port, spawn_with_port,
};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, raise};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, alarm, fork};

use tools::child::{Process, Role, command};
use tools::{PATIENCE, assert_entangled, pair, sandbox, text};

const ROLES: &[Role] = &[
    ("calls", calls),
    ("transfers", transfers),
    ("drops", drops),
    ("buffers", buffers),
    ("guards", guards),
    ("generations", generations),
    ("listener", listener),
    ("listener of a first process", listener_of_a_first_process),
    ("listener elsewhere", listener_elsewhere),
    ("first process elsewhere", first_process_elsewhere),
    ("fork in a sandbox", fork_in_a_sandbox),
    ("exec", exec),
    ("locks of a loop", locks_of_a_loop),
    ("locks of calls", locks_of_calls),
    ("locks of answers", locks_of_answers),
    ("locks of halves", locks_of_halves),
];

/// Runs a role, whose messages this process posts back.
#[track_caller]
fn play(role: &str) {
    let (mut process, port) = Process::start(role);
    while let Ok(message) = port.recv_timeout(tools::PATIENCE) {
        port.post_message(&message.data, []).expect("room");
    }
    process.succeeded();
}

#[test]
fn every_call_in_the_child_returns_forked() {
    play("calls");
}

#[test]
fn inherited_things_cannot_be_posted() {
    play("transfers");
}

#[test]
fn drops_in_the_child_have_no_effect() {
    play("drops");
}

#[test]
fn the_child_can_use_frozen_and_shared_buffers() {
    play("buffers");
}

#[test]
fn guards_in_the_child_are_harmless() {
    play("guards");
}

#[test]
fn every_generation_has_ports_of_its_own() {
    play("generations");
}

#[test]
fn an_inherited_listener_stays_the_parents() {
    play("listener");
}

#[test]
fn an_inherited_listener_stays_the_parents_although_both_have_one_process_number() {
    play("listener of a first process");
}

#[test]
fn descriptors_do_not_survive_exec() {
    play("exec");
}

#[test]
fn a_child_waits_for_no_lock_of_a_loop() {
    play("locks of a loop");
}

#[test]
fn a_child_waits_for_no_lock_of_calls() {
    play("locks of calls");
}

#[test]
fn a_child_waits_for_no_lock_of_answers() {
    play("locks of answers");
}

#[test]
fn a_child_waits_for_no_lock_of_halves() {
    play("locks of halves");
}

/// The port whose peer, in the process of the test, posts everything back.
fn outside() -> MessagePort {
    parent_port().expect("a port")
}

#[track_caller]
fn assert_works(outside: &MessagePort) {
    outside.post_message(b"still here", []).expect("a peer");
    assert_eq!(text(outside), "still here");
}

/// True in the child.
fn is_child() -> Result<(), nix::unistd::Pid> {
    #[allow(unsafe_code)]
    // SAFETY: what the child calls waits for no lock that another thread of the parent may hold, and the allocator of
    // the C library works in such a child (fork(2)).
    let result = unsafe { fork() };
    match result.expect("a fork") {
        ForkResult::Child => Ok(()),
        ForkResult::Parent { child } => Err(child),
    }
}

/// Forks. The child runs `body`, which takes the child's copies, and ends without any other destructor. The parent
/// waits for it.
macro_rules! in_child {
    ($body:expr) => {
        match is_child() {
            Ok(()) => end_child($body),
            Err(child) => assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)), "the forked child failed"),
        }
    };
}

/// Seconds after which the kernel ends a child, which hangs.
const CHILD_SECONDS: u32 = 20;

fn end_child(body: impl FnOnce()) -> ! {
    alarm::set(CHILD_SECONDS);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    #[allow(unsafe_code)]
    // SAFETY: ends the process at once, without destructors.
    unsafe {
        libc::_exit(result.is_err().into())
    }
}

fn is_forked(error: &RecvError) -> bool {
    matches!(error, RecvError::Forked)
}

#[track_caller]
fn assert_sender_forked(port: &SendHalf) {
    let posted =
        |result: Result<(), PostError>| matches!(result, Err(error) if matches!(error.kind, PostErrorKind::Forked));
    assert!(posted(port.post_message(b"", [])));
    assert!(posted(port.post_message_wait(b"", [])));
    assert!(posted(port.post_message_timeout(b"", [], Duration::ZERO)));
    assert!(matches!(port.post_message_detaching(b"", &[]), Err(PostErrorKind::Forked)));
    assert!(matches!(port.reserve(1), Err(PostDataError::Forked)));
    port.close();
}

#[track_caller]
fn assert_receiver_forked(port: &RecvHalf) {
    let mut message = Message::new();
    assert!(port.recv().is_err_and(|error| is_forked(&error)));
    assert!(port.recv_into(&mut message).is_err_and(|error| is_forked(&error)));
    assert!(port.recv_ref().is_err_and(|error| is_forked(&error)));
    assert!(matches!(port.try_recv(), Err(TryRecvError::Failed(RecvError::Forked))));
    assert!(matches!(port.try_recv_into(&mut message), Err(TryRecvError::Failed(RecvError::Forked))));
    assert!(matches!(port.try_recv_ref(), Err(TryRecvError::Failed(RecvError::Forked))));
    let timeout = Duration::from_millis(1);
    assert!(matches!(port.recv_timeout(timeout), Err(RecvTimeoutError::Failed(RecvError::Forked))));
    assert!(matches!(port.recv_into_timeout(&mut message, timeout), Err(RecvTimeoutError::Failed(RecvError::Forked))));
    port.close();
}

fn calls() {
    let outside = outside();
    let (a, b) = pair();
    b.post_message(b"waits in the queue", []).expect("room");
    let (c, d) = pair();
    let buffer = TransferBuffer::new(100).expect("memory");
    buffer.write_at(0, b"the parent's").expect("inside");
    // Ports and halves.
    let (sender, receiver) = a.split();
    in_child!(|| {
        assert_sender_forked(&sender);
        assert_receiver_forked(&receiver);
        let (sender, receiver) = outside.split();
        assert_sender_forked(&sender);
        assert_receiver_forked(&receiver);
        c.close();
        assert!(matches!(c.try_recv(), Err(TryRecvError::Failed(RecvError::Forked))));
        assert!(matches!(buffer.read_at(0, &mut [0]), Err(BufferError::Forked)));
        assert!(matches!(buffer.write_at(0, &[0]), Err(BufferError::Forked)));
        #[allow(unsafe_code)]
        // SAFETY: the buffer has no other user.
        let slice = unsafe { buffer.as_slice() };
        assert!(slice.is_empty());
    });
    assert_works(&outside);
    let a = MessagePort::join(sender, receiver).expect("halves of one port");
    assert_eq!(text(&a), "waits in the queue");
    assert_entangled(&a, &b);
    assert_entangled(&c, &d);
    let mut start = [0; 12];
    buffer.read_at(0, &mut start).expect("inside");
    assert_eq!(&start, b"the parent's");
}

fn transfers() {
    let outside = outside();
    let (a, b) = pair();
    let buffer = TransferBuffer::new(100).expect("memory");
    in_child!(|| {
        let (own1, own2) = pair();
        let unusable = |kind: &PostErrorKind| matches!(kind, PostErrorKind::Unusable { index: 0 });
        assert!(unusable(
            &own1.post_message_detaching(b"", &[TransferRef::Port(&a)]).expect_err("a port of the parent")
        ));
        assert!(unusable(
            &own1.post_message_detaching(b"", &[TransferRef::Buffer(&buffer)]).expect_err("a buffer of the parent")
        ));
        let mut error = own1.post_message(b"", [a.into()]).expect_err("a port of the parent");
        assert!(unusable(&error.kind) && error.get_mut().len() == 1);
        drop(error);
        let error = own1.post_message(b"", [buffer.into()]).expect_err("a port of the parent");
        assert!(unusable(&error.kind));
        let error = spawn_with_port(&mut Command::new("/bin/true"), b).expect_err("a port of the parent");
        assert!(matches!(error.kind, SpawnErrorKind::Port(PostErrorKind::Unusable { index: 0 })));
        // The child's own ports work.
        let (travel1, travel2) = pair();
        own1.post_message(b"", [travel2.into()]).expect("room");
        assert_entangled(&own2.recv().expect("a message").ports[0], &travel1);
    });
    assert_entangled(&a, &b);
    a.post_message(b"", [buffer.into()]).expect("room");
    assert_eq!(b.recv().expect("a message").buffers[0].len(), 100);
    assert_works(&outside);
}

fn drops() {
    let outside = outside();
    let (a, b) = pair();
    let (c, d) = pair();
    let (travel1, travel2) = pair();
    a.post_message(b"with things", [travel2.into(), TransferBuffer::new(10).expect("memory").into()]).expect("room");
    let unread = pair();
    unread.0.post_message(b"with things", [TransferBuffer::new(10).expect("memory").into()]).expect("room");
    let received = b.recv().expect("a message");
    let (sender, receiver) = c.split();
    let (left, peer) = pair();
    drop(peer);
    in_child!(move || {
        drop((receiver, sender, d, a, b, received, unread, travel1, left));
        let threads = std::fs::read_dir("/proc/self/task").expect("the threads").count();
        assert_eq!(threads, 1, "a drop started a thread");
        // At the addresses of the parent's memory the child has private pages now.
        let (own1, own2) = pair();
        assert_entangled(&own1, &own2);
        drop((own1, own2, outside));
    });
    assert_entangled(&a, &b);
    assert_entangled(&received.ports[0], &travel1);
    assert_eq!(getsockopt(&left.as_fd(), sockopt::PassCred), Ok(false), "an option of the parent's socket");
    assert_eq!(received.buffers[0].len(), 10);
    assert_eq!(unread.1.recv().expect("a message").buffers.len(), 1);
    assert_entangled(&MessagePort::join(sender, receiver).expect("halves of one port"), &d);
    assert_works(&outside);
}

fn buffers() {
    let outside = outside();
    let frozen = FrozenBuffer::from_bytes(&[7; 100_000]).expect("memory");
    let shared = SharedBuffer::new(100_000).expect("memory");
    let name = format!("fork-{}", std::process::id());
    let named = SharedBuffer::create_named(&name, 1000).expect("a free name");
    let moving = TransferBuffer::new(10).expect("memory");
    let (slice, word) = (&frozen[..], shared.atomic_u64(8).expect("a word")); // from before the fork
    let words = |number| named.atomic_u32(number).expect("a word");
    in_child!(|| {
        // The first touch of most pages, through references from before the fork.
        assert!(slice.iter().all(|byte| *byte == 7) && frozen.len() == 100_000);
        word.fetch_add(5, Ordering::SeqCst);
        shared.write_at(50_000, b"child").expect("inside");
        words(16).store(9, Ordering::SeqCst);
    });
    assert!(slice.iter().all(|byte| *byte == 7));
    assert_eq!((word.load(Ordering::SeqCst), words(16).load(Ordering::SeqCst)), (5, 9));
    in_child!(move || {
        // The child can post them over its own ports. A buffer that would move is the parent's.
        let (own1, own2) = pair();
        own1.post_message(b"", [frozen.clone().into(), shared.clone().into()]).expect("room");
        let message = own2.recv().expect("a message");
        assert_eq!(message.frozen[0][..], frozen[..]);
        message.shared[0].write_at(60_000, b"again").expect("inside");
        let error = moving.freeze().expect_err("a buffer of the parent");
        assert!(matches!(error.kind, FreezeErrorKind::Forked));
        drop((own1, own2, message, error, frozen, shared, named));
    });
    let bytes = shared.to_vec().expect("a buffer of this process");
    assert_eq!((&bytes[50_000..50_005], &bytes[60_000..60_005]), (&b"child"[..], &b"again"[..]));
    // The name is still the parent's.
    SharedBuffer::open_named(&name, 1000).expect("a named buffer");
    drop(named);
    assert!(SharedBuffer::open_named(&name, 1000).is_err());
    assert_eq!(moving.freeze().expect("a new buffer").len(), 10);
    assert_works(&outside);
}

fn guards() {
    let outside = outside();
    let (a, b) = pair();
    a.post_message(b"read in place", []).expect("room");
    a.post_message(b"the next one", []).expect("room");
    let mut reservation = a.reserve(8).expect("room");
    reservation.write_at(0, b"reserved").expect("inside");
    let message = b.recv_ref().expect("a message");
    in_child!(move || {
        assert!(matches!(reservation.write_at(0, b"spoilt!!"), Err(BufferError::Forked)));
        assert!(matches!(reservation.commit(), Err(PostDataError::Forked)));
        assert!(matches!(message.read_at(0, &mut [0]), Err(BufferError::Forked)));
        assert!(matches!(message.to_vec(), Err(BufferError::Forked)));
        #[allow(unsafe_code)]
        // SAFETY: the peer keeps to the protocol.
        let slice = unsafe { message.as_slice() };
        assert!(slice.is_empty());
        drop(message);
    });
    in_child!(move || drop((reservation, message)));
    assert_eq!(message.to_vec().expect("this process"), b"read in place");
    drop(message);
    reservation.commit().expect("a peer");
    assert_eq!(text(&b), "the next one");
    assert_eq!(text(&b), "reserved");
    assert_works(&outside);
}

fn generations() {
    let outside = outside();
    let (a, b) = pair();
    in_child!(|| {
        // Before the child has made ports of its own, and afterwards.
        in_child!(|| assert!(matches!(a.try_recv(), Err(TryRecvError::Failed(RecvError::Forked)))));
        let (own1, own2) = pair();
        assert!(matches!(a.try_recv(), Err(TryRecvError::Failed(RecvError::Forked))));
        in_child!(|| {
            let (grand1, grand2) = pair();
            assert_entangled(&grand1, &grand2);
            for inherited in [&a, &own1] {
                assert!(matches!(inherited.try_recv(), Err(TryRecvError::Failed(RecvError::Forked))));
            }
            drop((own1, a));
        });
        assert_entangled(&own1, &own2);
    });
    // A second child, forked after more ports were made.
    let (c, d) = pair();
    in_child!(|| assert!(matches!(c.try_recv(), Err(TryRecvError::Failed(RecvError::Forked)))));
    assert_entangled(&a, &b);
    assert_entangled(&c, &d);
    assert_works(&outside);
}

fn listener() {
    let outside = outside();
    let path = std::env::temp_dir().join(format!("messageport-fork-{}", std::process::id()));
    let name = path.to_str().expect("a path of text");
    let listener = Listener::bind(name).expect("a free name");
    in_child!(move || drop(listener));
    assert!(path.exists(), "the child has removed the parent's socket");
    let error = Listener::bind(name).expect_err("a name in use");
    assert!(matches!(error, ListenError::InUse(_)), "{error:?}");
    drop(listener);
    assert!(!path.exists());
    assert_works(&outside);
}

/// Puts the next child into a new pid namespace, where its number is 1.
fn unshare_processes() -> Result<(), Errno> {
    let unshare = |flags| {
        #[allow(unsafe_code)]
        // SAFETY: takes no pointers, and the process has one thread.
        Errno::result(unsafe { libc::unshare(flags) }).map(drop)
    };
    unshare(libc::CLONE_NEWPID).or_else(|_| unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID))
}

/// A role: the parent is process 1 of one namespace, as in a container, and its child is process 1 of another.
fn listener_of_a_first_process() {
    let path = std::env::temp_dir().join(format!("messageport-first-{}", std::process::id()));
    if let Err(errno) = unshare_processes() {
        return println!("SKIPPED: no pid namespaces here: {errno}");
    }
    in_child!(move || {
        assert_eq!(std::process::id(), 1);
        let name = path.to_str().expect("a path of text");
        let listener = ListenOptions::new().remove_on_signal(true).bind(name).expect("a free name");
        // No signal ends this process, so none removes the files.
        for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
            raise(signal).expect("a signal");
            assert!(path.exists(), "removed by {signal}");
        }
        unshare_processes().expect("another namespace");
        let lock = path.with_extension("lock");
        assert!(lock.exists());
        in_child!(move || {
            assert_eq!(std::process::id(), 1);
            assert!(matches!(listener.try_accept(), Err(AcceptError::Forked)));
            drop(listener);
        });
        assert!(path.exists(), "the child has removed the parent's socket");
        assert!(lock.exists(), "the child has removed the parent's lock file");
        drop(listener);
        assert!(!path.exists() && !lock.exists());
    });
}

/// A role: passes its port on to a process with the number 1 of another pid namespace.
fn listener_elsewhere() {
    let port = parent_port().expect("a port");
    if let Err(errno) = unshare_processes() {
        port.post_data(format!("no pid namespaces here: {errno}")).expect("room");
        return;
    }
    let mut child = spawn_with_port(&mut command("first process elsewhere"), port).expect("it can be started");
    assert!(child.wait().expect("a child").success());
}

/// A role: listens, and accepts a client that has no number here.
fn first_process_elsewhere() {
    let port = parent_port().expect("a port");
    assert_eq!(std::process::id(), 1);
    let path = std::env::temp_dir().join(format!("messageport-elsewhere-{}", text(&port)));
    let listener = Listener::bind(path.to_str().expect("a path of text")).expect("a free name");
    port.post_data(listener.path().to_str().expect("a path of text")).expect("room");
    let client = listener.accept_timeout(PATIENCE).expect("a client");
    assert_eq!(client.pid, None);
    assert_eq!(client.greeting.data, b"hello");
}

#[test]
fn a_client_of_another_pid_namespace_has_no_number() {
    let (mut process, port) = Process::start("listener elsewhere");
    port.post_data(std::process::id().to_string()).expect("room");
    let name = text(&port);
    if name.starts_with('/') {
        drop(connect(&name, b"hello").expect("a listener"));
    } else {
        println!("SKIPPED: {name}");
    }
    process.succeeded();
}

/// Refuses madvise(2) with `MADV_WIPEONFORK`, and prlimit64(2), to this process, with `EPERM` (seccomp(2)).
fn refuse_advice_and_limits() -> Result<(), Errno> {
    let instruction = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |at: u32| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0);
    let unless = |value: u32, skip: u8| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, 0, skip);
    let answer = |action: u32| instruction(libc::BPF_RET | libc::BPF_K, action, 0, 0);
    let refuse = answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32);
    // Offsets in `seccomp_data`: the number of the call, and the low half of its third argument (little endian).
    let (number, third) = (0, 32);
    sandbox::install(&[
        load(number),
        unless(libc::SYS_prlimit64 as u32, 1),
        refuse,
        unless(libc::SYS_madvise as u32, 3),
        load(third),
        unless(libc::MADV_WIPEONFORK as u32, 1),
        refuse,
        answer(libc::SECCOMP_RET_ALLOW),
    ])
}

/// A role: a sandbox refuses the page that the kernel wipes in a child, and the limits.
fn fork_in_a_sandbox() {
    if let Err(errno) = refuse_advice_and_limits() {
        return println!("SKIPPED: no seccomp here: {errno}");
    }
    let (a, b) = pair();
    in_child!({
        let (a, b) = (&a, &b);
        move || {
            assert!(matches!(a.post_data("in the child").unwrap_err(), PostDataError::Forked));
            let (x, y) = pair();
            assert_entangled(&x, &y);
            in_child!(move || {
                assert!(is_forked(&x.recv().expect_err("a port of the parent")));
                assert!(is_forked(&b.recv().expect_err("a port of the parent's parent")));
                let (x, y) = pair();
                assert_entangled(&x, &y);
            });
            assert_entangled(&x, &y);
        }
    });
    assert_entangled(&a, &b);
}

#[test]
fn forks_are_detected_where_a_sandbox_refuses_advice_and_limits() {
    tools::child::play("fork in a sandbox");
}

/// The number of descriptors of a program that `command` starts. None may be the library's memory.
fn inherited(command: &mut Command) -> usize {
    let output = command.args(["-l", "/proc/self/fd"]).output().expect("ls starts");
    count(&output.stdout)
}

fn count(listing: &[u8]) -> usize {
    let listing = String::from_utf8_lossy(listing);
    assert!(!listing.contains("messageport"), "{listing}");
    listing.lines().filter(|line| line.contains(" -> ")).count()
}

fn exec() {
    let outside = outside();
    let before = inherited(&mut Command::new("/bin/ls"));
    let things: Vec<_> = (0..5).map(|_| (pair(), TransferBuffer::new(10).expect("memory"))).collect();
    let path = std::env::temp_dir().join(format!("messageport-exec-{}", std::process::id()));
    let listener = Listener::bind(path.to_str().expect("a path of text")).expect("a free name");
    let ((a, b), (c, d)) = (pair(), pair());
    a.post_message(b"", [d.into(), TransferBuffer::new(10).expect("memory").into()]).expect("room");
    let received = b.recv().expect("a message");
    assert_eq!(inherited(&mut Command::new("/bin/ls")), before);
    // A forked child passes on none of its parent's descriptors either.
    in_child!(|| assert_eq!(inherited(&mut Command::new("/bin/ls")), before));
    // A program that gets a port inherits one descriptor for it. The next program, without a port, inherits none.
    let mut command = Command::new("/bin/ls");
    command.args(["-l", "/proc/self/fd"]).stdout(std::process::Stdio::piped());
    let (keep, give) = pair();
    let child = spawn_with_port(&mut command, give).expect("ls starts");
    let output = child.wait_with_output().expect("ls ends");
    assert_eq!(count(&output.stdout), before + 1);
    assert_eq!(tools::end_of(&keep), messageport::CloseReason::PeerDied);
    assert_eq!(count(&command.output().expect("ls starts").stdout), before);
    assert_entangled(&received.ports[0], &c);
    assert_works(&outside);
    drop((things, listener));
}

/// Calls `round` 200 times, while another thread repeats `work`.
fn meanwhile(work: impl Fn() + Send + 'static, mut round: impl FnMut()) {
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let thread = thread::spawn(move || {
        while !until.load(Ordering::Relaxed) {
            work();
        }
    });
    (0..200).for_each(|_| round());
    over.store(true, Ordering::Relaxed);
    thread.join().expect("the other thread works");
}

fn locks_of_a_loop() {
    let outside = outside();
    let event_loop = EventLoop::new().expect("descriptors");
    let (posting, handle) = (event_loop.handle(), Cell::new(Some(event_loop.handle())));
    let event_loop = RefCell::new(Some(event_loop));
    let waiting = Arc::new(AtomicUsize::new(0));
    let work = move || {
        // Limited, since this may be faster than the loop.
        if waiting.load(Ordering::Relaxed) < 1000 {
            waiting.fetch_add(1, Ordering::Relaxed);
            let waiting = Arc::clone(&waiting);
            let task = move |_: &EventLoop| _ = waiting.fetch_sub(1, Ordering::Relaxed);
            posting.post_task(task).unwrap_or_else(|_| panic!("the loop is there"));
        }
    };
    meanwhile(work, || {
        event_loop.borrow().as_ref().expect("a loop").run_once_timeout(Duration::ZERO).expect("the parent");
        in_child!(|| {
            let (handle, event_loop) = (handle.take().expect("a handle"), event_loop.take().expect("a loop"));
            assert!(handle.post_task(|_| {}).is_err());
            handle.stop();
            assert!(event_loop.run_once().is_err());
            drop((handle, event_loop));
        });
    });
    // The loop of the parent works.
    let event_loop = event_loop.take().expect("a loop");
    drop(handle);
    let called = Rc::new(Cell::new(false));
    let call = Rc::clone(&called);
    event_loop.set_timeout(Duration::from_millis(1), move |_| call.set(true));
    event_loop.run().expect("the parent");
    assert!(called.get());
    assert_works(&outside);
}

fn locks_of_calls() {
    let outside = outside();
    let (port, peer) = pair();
    let (client, server) = (Client::new(port), Server::new(peer));
    let calling = client.clone();
    let answering = thread::spawn(move || server.serve(|_| {}));
    let work = move || drop(calling.call(b"request", []).expect("an answer"));
    meanwhile(work, || {
        let call = client.start(b"request", []).expect("room");
        let client = client.clone();
        in_child!(|| {
            assert!(matches!(call.wait(), Err(AnswerError::Failed(RecvError::Forked))));
            let error = client.call(b"", []).expect_err("a client of the parent");
            assert!(matches!(error, CallError::NotPosted(PostError { kind: PostErrorKind::Forked, .. })));
            client.set_spin(Duration::ZERO);
            drop(client);
        });
    });
    drop(client);
    answering.join().expect("the server works").expect("the client closes");
    assert_works(&outside);
}

/// The mirror of the role before: here the server is inherited.
fn locks_of_answers() {
    let outside = outside();
    let (port, peer) = pair();
    let (client, server) = (Client::new(port), RefCell::new(Some(Server::new(peer))));
    let (requests, answering) = std::sync::mpsc::channel::<Responder>();
    let work = move || {
        // The other thread answers, or drops, what this thread receives.
        if let Ok(responder) = answering.recv_timeout(Duration::from_millis(1)) {
            let _ = responder.answer(b"answer", []);
        }
    };
    meanwhile(work, || {
        let calls: Vec<_> = (0..20).map(|_| client.start(b"request", []).expect("room")).collect();
        let mut last = None;
        for _ in &calls {
            let (_, responder) = server.borrow().as_ref().expect("a server").recv().expect("a request");
            last.replace(responder).map(|responder| requests.send(responder));
        }
        in_child!(|| {
            let server = server.take().expect("a server");
            assert!(matches!(server.recv(), Err(RecvError::Forked)));
            assert!(last.take().expect("a request").answer(b"", []).is_err());
            drop(server);
        });
        drop(last);
        for call in calls {
            let _ = call.wait(); // the last request was dropped
        }
    });
    assert_works(&outside);
}

fn locks_of_halves() {
    let outside = outside();
    let (port, peer) = pair();
    let (sender, receiver) = port.split();
    let echo = thread::spawn(move || {
        while let Ok(mut message) = peer.recv() {
            let list = message.take_transfer_list();
            let _ = peer.post_message_wait(&message.data, list);
        }
    });
    // The receiving half belongs to this thread, the sending half to the other one. Buffers come back into its pool.
    let receiver = Cell::new(Some(receiver));
    let work = move || {
        let buffer = sender.buffer(100).expect("memory");
        let _ = sender.post_message(b"request", [buffer.into()]);
    };
    meanwhile(work, || {
        let half = receiver.take().expect("a half");
        while half.try_recv().is_ok() {}
        receiver.set(Some(half));
        in_child!(|| {
            let half = receiver.take().expect("a half");
            assert_receiver_forked(&half);
            drop(half);
        });
    });
    drop(receiver);
    echo.join().expect("the peer works");
    assert_works(&outside);
}
