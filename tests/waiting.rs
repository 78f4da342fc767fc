//! Waiting: a blocked call wakes on progress, close, death and deadline, and a loop on the descriptor misses nothing.

mod tools;

use std::error::Error;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use messageport::{
    CloseReason, MessagePort, PostErrorKind, RecvError, RecvTimeoutError, TransferBuffer, TransferRef, TryRecvError,
};
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use tools::attacker::Pages;
use tools::child::{Process, Role, echo, hold};
use tools::ledger::alone;
use tools::memory::newest_memory;
use tools::{PATIENCE, assert_entangled, cost_of, end_of, fill_by, pair, pair_of, readable, text, within};

const ROLES: &[Role] = &[("hold", hold), ("echo", echo)];

/// The value of a doorbell whose owner sleeps on the futex.
const FUTEX: u32 = 1;
/// The value of a doorbell whose owner sleeps on the descriptor.
const FD: u32 = 2;
/// Five seconds: much longer than a wake-up takes, and shorter than a hang.
const LATE: Duration = Duration::from_secs(5);

/// A pair, and a mapping that shows its doorbells. The first port is side A.
fn watched_pair(capacity: usize) -> (MessagePort, MessagePort, Pages) {
    let ((a, b), file) = newest_memory(|| pair_of(capacity));
    (a, b, Pages::of(&file))
}

/// Gives `b` to a second process that can be killed, or leaves it here.
fn holder(is_process: bool, a: &MessagePort, b: MessagePort) -> (Option<Process>, Option<MessagePort>) {
    if !is_process {
        return (None, Some(b));
    }
    let process = Process::with_port("hold", b);
    assert_eq!(text(a), "ready");
    (Some(process), None)
}

/// The doorbell on which side A sleeps for a message.
fn data_of_a(pages: &Pages) -> &AtomicU32 {
    pages.doorbells(1)[0]
}

/// The doorbell on which side A sleeps for space.
fn space_of_a(pages: &Pages) -> &AtomicU32 {
    pages.doorbells(0)[1]
}

/// Waits until the owner of the doorbell sleeps in this way.
#[track_caller]
fn await_sleeper(doorbell: &AtomicU32, how: u32) {
    let start = Instant::now();
    while doorbell.load(Ordering::SeqCst) != how {
        assert!(start.elapsed() < PATIENCE, "no thread sleeps");
        thread::yield_now();
    }
}

/// Joins a thread that must end within `LATE`.
#[track_caller]
fn join_soon<T>(thread: JoinHandle<T>) -> T {
    let start = Instant::now();
    while !thread.is_finished() {
        assert!(start.elapsed() < LATE, "not woken");
        thread::yield_now();
    }
    thread.join().expect("no panic")
}

/// Posts until the queue is full. Returns the number of messages.
fn fill(port: &MessagePort) -> usize {
    fill_by(|data| port.post_message(data, []))
}

#[test]
fn a_blocked_recv_wakes_on_a_message_and_on_close_in_both_kinds_of_sleep() {
    let _alone = alone();
    for how in [FUTEX, FD] {
        for close in [false, true] {
            let (a, b, pages) = watched_pair(4096);
            let receiver = thread::spawn(move || a.recv_timeout(PATIENCE));
            await_sleeper(data_of_a(&pages), how);
            if close {
                b.close();
                let result = join_soon(receiver);
                assert!(
                    matches!(result, Err(RecvTimeoutError::Failed(RecvError::Ended(CloseReason::Closed)))),
                    "{how}: {result:?}"
                );
            } else {
                b.post_message(b"wake up", []).expect("room");
                assert_eq!(join_soon(receiver).expect("a message").data, b"wake up", "{how}");
            }
        }
    }
}

#[test]
fn a_blocked_recv_wakes_on_the_death_of_the_peer_in_both_kinds_of_sleep() {
    let _alone = alone();
    for how in [FUTEX, FD] {
        let (a, b, pages) = watched_pair(4096);
        let mut peer = Process::with_port("hold", b);
        assert_eq!(text(&a), "ready");
        let receiver = thread::spawn(move || a.recv());
        await_sleeper(data_of_a(&pages), how);
        peer.kill();
        let result = join_soon(receiver);
        assert!(matches!(result, Err(RecvError::Ended(CloseReason::PeerDied))), "{how}: {result:?}");
    }
}

#[test]
fn a_blocked_post_wakes_on_space_close_and_death() {
    let _alone = alone();
    for event in ["space", "try_recv", "recv_ref", "close", "drop", "death"] {
        let (a, b, pages) = watched_pair(4096);
        let (mut process, b) = holder(event == "death", &a, b);
        fill(&a);
        let sender = thread::spawn(move || a.post_message_timeout(b"at last", [], PATIENCE));
        await_sleeper(space_of_a(&pages), FUTEX);
        let b = match (event, b) {
            ("space", Some(b)) => {
                b.recv().expect("a message");
                Some(b)
            }
            ("try_recv", Some(b)) => {
                b.try_recv().expect("a message");
                Some(b)
            }
            ("recv_ref", Some(b)) => {
                drop(b.recv_ref().expect("a message"));
                Some(b)
            }
            ("close", Some(b)) => {
                b.close();
                Some(b)
            }
            (_, b) => {
                drop(b);
                process.as_mut().map(Process::kill);
                None
            }
        };
        let result = join_soon(sender);
        let expected = match event {
            "close" | "drop" => Some(CloseReason::Closed),
            "death" => Some(CloseReason::PeerDied),
            _ => None,
        };
        match (result, expected) {
            (Ok(()), None) => {}
            (Err(error), Some(reason)) => {
                assert!(matches!(error.kind, PostErrorKind::PeerGone(seen) if seen == reason), "{event}: {error:?}");
            }
            (result, _) => panic!("{event}: {result:?}"),
        }
        drop(b);
    }
}

#[test]
fn a_blocked_post_with_a_transfer_list_wakes_and_gives_the_list_back_at_its_deadline() {
    let _alone = alone();
    let (a, b, pages) = watched_pair(4096);
    let (x1, x2) = pair();
    fill(&a);
    let error = a.post_message_timeout(b"a port", [x2.into()], Duration::from_millis(30)).expect_err("a full queue");
    assert!(matches!(error.kind, PostErrorKind::TimedOut), "{error:?}");
    let sender = thread::spawn(move || a.post_message_timeout(b"a port", error.into_inner(), PATIENCE));
    await_sleeper(space_of_a(&pages), FUTEX);
    b.recv().expect("a message");
    join_soon(sender).expect("room");
    let mut last = b.recv().expect("a message");
    while last.ports.is_empty() {
        last = b.recv_timeout(LATE).expect("a message");
    }
    tools::assert_entangled(&x1, &last.ports[0]);
}

#[test]
fn deadlines_hold_when_nothing_happens() {
    let _alone = alone();
    let (a, _b) = pair_of(4096);
    fill(&a);
    for millis in [0, 1, 15, 120] {
        let timeout = Duration::from_millis(millis);
        let (result, recv) = cost_of(|| a.recv_timeout(timeout));
        assert!(matches!(result, Err(RecvTimeoutError::TimedOut)), "{result:?}");
        let (result, post) = cost_of(|| a.post_message_timeout(b"", [], timeout));
        assert!(matches!(result, Err(error) if matches!(error.kind, PostErrorKind::TimedOut)));
        assert!(recv.time >= timeout && post.time >= timeout, "too early");
        for cost in [recv, post] {
            assert!(cost.time < timeout + LATE, "{:?} instead of {timeout:?}", cost.time);
        }
    }
}

#[test]
fn both_halves_can_block_and_each_wakes_for_its_own_reason() {
    let _alone = alone();
    for message_first in [true, false] {
        let (a, b, pages) = watched_pair(4096);
        fill(&a);
        let (sender, receiver) = a.split();
        let sender = thread::spawn(move || {
            let result = sender.post_message_timeout(b"at last", [], PATIENCE);
            (sender, result)
        });
        let receiver = thread::spawn(move || {
            let result = receiver.recv_timeout(PATIENCE);
            (receiver, result)
        });
        await_sleeper(space_of_a(&pages), FUTEX);
        await_sleeper(data_of_a(&pages), FD);
        let wake_receiver = || b.post_message(b"good morning", []).expect("room");
        let wake_sender = || {
            let _ = b.recv().expect("a message");
        };
        let (sent, received) = if message_first {
            wake_receiver();
            let received = join_soon(receiver);
            await_sleeper(space_of_a(&pages), FUTEX);
            assert!(!sender.is_finished(), "woken without a reason");
            wake_sender();
            (join_soon(sender), received)
        } else {
            wake_sender();
            let sent = join_soon(sender);
            await_sleeper(data_of_a(&pages), FD);
            assert!(!receiver.is_finished(), "woken without a reason");
            wake_receiver();
            (sent, join_soon(receiver))
        };
        sent.1.expect("room");
        assert_eq!(received.1.expect("a message").data, b"good morning");
        MessagePort::join(sent.0, received.0).expect("halves of one port");
    }
}

#[test]
fn both_halves_are_woken_by_the_close_and_by_the_death_of_the_peer() {
    let _alone = alone();
    for death in [true, false] {
        let (a, b, pages) = watched_pair(4096);
        let (mut process, b) = holder(death, &a, b);
        fill(&a);
        let (sender, receiver) = a.split();
        let sender = thread::spawn(move || sender.post_message_wait(b"at last", []));
        let receiver = thread::spawn(move || receiver.recv());
        await_sleeper(space_of_a(&pages), FUTEX);
        await_sleeper(data_of_a(&pages), FD);
        if let Some(process) = &mut process {
            process.kill();
        }
        drop(b);
        let expected = if death { CloseReason::PeerDied } else { CloseReason::Closed };
        let error = join_soon(sender).expect_err("the peer is gone").kind;
        assert!(matches!(error, PostErrorKind::PeerGone(reason) if reason == expected), "{error:?}");
        let error = join_soon(receiver).expect_err("the peer is gone");
        assert!(matches!(error, RecvError::Ended(reason) if reason == expected), "{error:?}");
    }
}

#[test]
fn closing_by_one_half_wakes_the_other() {
    let _alone = alone();
    for how in [FUTEX, FD] {
        let (a, b, pages) = watched_pair(4096);
        let (sender, receiver) = a.split();
        let receiver = thread::spawn(move || receiver.recv());
        await_sleeper(data_of_a(&pages), how);
        sender.close();
        let error = join_soon(receiver).expect_err("closed");
        assert!(matches!(error, RecvError::PortClosed), "{error:?}");
        assert_eq!(end_of(&b), CloseReason::Closed);
    }
    let (a, b, pages) = watched_pair(4096);
    let filled = fill(&a);
    let (sender, receiver) = a.split();
    let sender = thread::spawn(move || sender.post_message_wait(b"at last", []));
    await_sleeper(space_of_a(&pages), FUTEX);
    receiver.close();
    let error = join_soon(sender).expect_err("closed").kind;
    assert!(matches!(error, PostErrorKind::PortClosed), "{error:?}");
    for _ in 0..filled {
        b.recv().expect("a message posted before the close");
    }
    assert_eq!(end_of(&b), CloseReason::Closed);
}

#[test]
fn signals_are_invisible_and_deadlines_hold_under_a_thousand_a_second() {
    let _alone = alone();
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    #[allow(unsafe_code)]
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.expect("a handler");

    static STOP: AtomicBool = AtomicBool::new(false);
    #[allow(unsafe_code)]
    // SAFETY: takes no arguments and cannot fail.
    let target = unsafe { libc::pthread_self() } as usize; // a pointer in some C libraries
    let pest = thread::spawn(move || {
        while !STOP.load(Ordering::Relaxed) {
            #[allow(unsafe_code)]
            // SAFETY: the thread outlives this one, which it joins.
            unsafe {
                libc::pthread_kill(target as libc::pthread_t, libc::SIGUSR1);
            }
            thread::sleep(Duration::from_millis(1));
        }
    });
    let result = under_signals();
    STOP.store(true, Ordering::Relaxed);
    pest.join().expect("no panic");
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// Returns every failure as an error: a panic would leave the thread that sends the signals.
fn under_signals() -> Result<(), Box<dyn Error>> {
    let timeout = Duration::from_millis(100);
    let (a, b) = pair_of(4096);
    let (mut peer, ours) = Process::start("echo");
    fill(&a);
    let mut best = [PATIENCE; 2];
    for _ in 0..5 {
        let (result, recv) = cost_of(|| a.recv_timeout(timeout));
        if !matches!(result, Err(RecvTimeoutError::TimedOut)) {
            return Err(format!("expected a timeout: {result:?}").into());
        }
        let (result, post) = cost_of(|| a.post_message_timeout(&[0; 500], [], timeout));
        if !matches!(&result, Err(error) if matches!(error.kind, PostErrorKind::TimedOut)) {
            return Err(format!("expected a timeout: {result:?}").into());
        }
        for (best, cost) in best.iter_mut().zip([recv, post]) {
            if cost.time < timeout {
                return Err(format!("{:?} instead of {timeout:?}", cost.time).into());
            }
            *best = (*best).min(cost.time);
        }
    }
    // The best of five, since other programs run on the machine as well.
    if best.iter().any(|best| *best > timeout + Duration::from_millis(50)) {
        return Err(format!("late: {best:?}").into());
    }
    // A call that allocates much memory, and transfers in both directions.
    let mut buffer = TransferBuffer::new(64 << 20)?;
    for round in 0..100_u32 {
        ours.post_message(&round.to_ne_bytes(), [buffer.into()])?;
        let mut answer = ours.recv_timeout(PATIENCE)?;
        if answer.data != round.to_ne_bytes() || answer.buffers.len() != 1 {
            return Err(format!("answer {round} is {answer:?}").into());
        }
        buffer = answer.buffers.remove(0);
    }
    drop((ours, b));
    peer.succeeded();
    Ok(())
}

#[test]
fn a_consumer_that_only_polls_never_blocks_a_producer_at_any_offset() {
    let _alone = alone();
    for in_place in [false, true] {
        let (a, b) = pair_of(4096);
        let max = a.max_inline_len();
        // 8 bytes and three records of maximum size, in a ring of 512 words: 512 rounds pass every offset.
        let rounds = 4096 / 8;
        let producer = thread::spawn(move || {
            for round in 0..rounds {
                a.post_message_timeout(&[], [], LATE).unwrap_or_else(|error| panic!("round {round}: {error}"));
                for part in 0..3_u8 {
                    let data = vec![part ^ round as u8; max];
                    a.post_message_timeout(&data, [], LATE).unwrap_or_else(|error| panic!("round {round}: {error}"));
                }
            }
        });
        let mut seen = 0;
        let start = Instant::now();
        while seen < rounds * 4 {
            assert!(start.elapsed() < PATIENCE, "message {seen} does not come");
            let data = if in_place {
                b.try_recv_ref().map(|message| message.to_vec().expect("this process"))
            } else {
                b.try_recv().map(|message| message.data)
            };
            match data {
                Ok(data) => {
                    let (round, part) = (seen / 4, seen % 4);
                    let expected = if part == 0 { vec![] } else { vec![(part - 1) as u8 ^ round as u8; max] };
                    assert!(data == expected, "message {seen} is damaged");
                    seen += 1;
                }
                Err(TryRecvError::Empty) => thread::yield_now(),
                Err(error) => panic!("message {seen}: {error}"),
            }
        }
        producer.join().expect("no panic");
    }
}

#[test]
fn an_emptied_queue_takes_a_message_of_maximum_size_at_every_offset() {
    let _alone = alone();
    let (a, b) = pair_of(4096);
    let longest = vec![7; a.max_inline_len()];
    for offset in 0..4096 / 8 {
        a.post_message(&[], []).unwrap_or_else(|error| panic!("offset {offset}: {error}"));
        b.try_recv().expect("a message");
        assert!(matches!(b.try_recv(), Err(TryRecvError::Empty)));
        for _ in 0..2 {
            a.post_message(&longest, []).unwrap_or_else(|error| panic!("offset {offset}: {error}"));
            // No second `try_recv`, which would find nothing and publish the cursor.
            assert_eq!(b.try_recv().expect("a message").data, longest);
        }
    }
}

/// Receives by the contract of `AsFd`: waits only after `try_recv` has returned `Empty`.
#[track_caller]
fn next(port: &MessagePort, mut wait: impl FnMut() -> bool) -> Result<Vec<u8>, RecvError> {
    loop {
        match port.try_recv() {
            Ok(message) => return Ok(message.data),
            Err(TryRecvError::Empty) => assert!(wait(), "a message came and nothing was readable"),
            Err(TryRecvError::Failed(error)) => return Err(error),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits for the port in an epoll set, level-triggered.
fn epoll_of(port: &MessagePort) -> impl Fn(Duration) -> bool + use<> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll");
    epoll.add(port.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, 0)).expect("a descriptor that can be polled");
    move |timeout| {
        let timeout = EpollTimeout::try_from(timeout).expect("a timeout in milliseconds");
        epoll.wait(&mut [EpollEvent::empty()], timeout).expect("epoll") > 0
    }
}

#[test]
fn an_epoll_loop_gets_every_message_and_the_end_and_no_spurious_wake_up() {
    let _alone = alone();
    for with_epoll in [false, true] {
        let (mut peer, port) = Process::start("echo");
        let epoll = epoll_of(&port);
        let wait = |timeout| if with_epoll { epoll(timeout) } else { readable(&port, timeout) };
        for round in 0..300_u32 {
            port.post_message(&round.to_ne_bytes(), []).expect("room");
            if round % 3 == 0 {
                let buffer = TransferBuffer::new(1).expect("memory");
                port.post_message(b"and a buffer", [buffer.into()]).expect("room");
            }
            let data = next(&port, || wait(PATIENCE)).expect("an answer");
            assert_eq!(data, round.to_ne_bytes());
            if round % 3 == 0 {
                assert_eq!(next(&port, || wait(PATIENCE)).expect("an answer"), b"and a buffer");
            }
            if round % 100 == 0 {
                assert!(matches!(port.try_recv(), Err(TryRecvError::Empty)));
                // The peer may be preempted between its last commit and the wake-up: one packet can come late.
                if wait(Duration::from_millis(50)) {
                    assert!(matches!(port.try_recv(), Err(TryRecvError::Empty)));
                    assert!(!wait(Duration::from_millis(50)), "readable without a message");
                }
            }
        }
        assert!(matches!(port.try_recv(), Err(TryRecvError::Empty)));
        peer.kill();
        assert!(wait(PATIENCE), "the end is not readable");
        let error = next(&port, || wait(PATIENCE)).expect_err("the end");
        assert!(matches!(error, RecvError::Ended(CloseReason::PeerDied)), "{error:?}");
        assert!(wait(PATIENCE), "the end does not stay readable");
    }
}

#[test]
fn an_epoll_loop_gets_the_messages_and_the_close_of_another_thread() {
    let _alone = alone();
    for with_epoll in [false, true] {
        let (a, b) = pair();
        let epoll = epoll_of(&a);
        let wait = |timeout| if with_epoll { epoll(timeout) } else { readable(&a, timeout) };
        assert!(matches!(a.try_recv(), Err(TryRecvError::Empty)));
        let poster = thread::spawn(move || {
            for number in 0..1000_u32 {
                b.post_message_timeout(&number.to_ne_bytes(), [], PATIENCE).expect("room");
            }
        });
        for number in 0..1000_u32 {
            assert_eq!(next(&a, || wait(PATIENCE)).expect("a message"), number.to_ne_bytes());
        }
        let error = next(&a, || wait(PATIENCE)).expect_err("the end");
        assert!(matches!(error, RecvError::Ended(CloseReason::Closed)), "{error:?}");
        poster.join().expect("no panic");
    }
}

#[test]
fn as_fd_may_come_after_the_try_recv_that_found_nothing() {
    let _alone = alone();
    let (a, b) = pair();
    assert!(matches!(a.try_recv(), Err(TryRecvError::Empty)));
    let descriptor = a.as_fd();
    b.post_message(b"wake up", []).expect("room");
    assert!(readable(&descriptor, LATE), "a message came and nothing was readable");
    assert_eq!(text(&a), "wake up");
}

#[test]
fn a_blocking_call_between_two_polls_breaks_nothing() {
    let _alone = alone();
    let (mut peer, port) = Process::start("echo");
    port.as_fd();
    for round in 0..100_u32 {
        assert!(matches!(port.try_recv(), Err(TryRecvError::Empty)));
        port.post_message(&round.to_ne_bytes(), []).expect("room");
        if round % 2 == 0 {
            assert!(readable(&port, PATIENCE), "round {round}");
        }
        assert_eq!(port.recv_timeout(PATIENCE).expect("an answer").data, round.to_ne_bytes());
    }
    drop(port);
    peer.succeeded();
}

#[test]
fn a_call_with_a_timeout_waits_no_longer() {
    let (a, b) = pair_of(4096);
    assert!(matches!(b.recv_ref_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::TimedOut)));
    // A list of borrowed things: unchanged if the post fails, detached if it succeeds.
    let (travelling, witness) = pair();
    let list = [TransferRef::Port(&travelling)];
    while a.post_message_timeout(&[0; 1000], [], Duration::ZERO).is_ok() {}
    let full = a.post_message_detaching_timeout(b"full", &list, Duration::from_millis(1));
    assert!(matches!(full, Err(PostErrorKind::TimedOut)), "{full:?}");
    assert_entangled(&travelling, &witness);
    let reader =
        thread::spawn(
            move || while b.recv_ref_timeout(PATIENCE).expect("a message").take_transferred().ports.is_empty() {},
        );
    a.post_message_detaching_timeout(b"room", &list, PATIENCE).expect("room in time");
    assert!(matches!(travelling.try_recv(), Err(TryRecvError::Failed(RecvError::Detached))));
    reader.join().expect("the port has arrived");
}

#[test]
fn a_post_that_finds_the_lane_full_waits_for_room() {
    let _alone = alone();
    // More transfer lists than the lane has room for. The ring has room for more.
    let (a, b) = pair_of(16 << 20);
    let mut posted = 0_usize;
    let cause = loop {
        let file = OwnedFd::from(File::open("/dev/null").expect("a file"));
        match a.post_message(b"", [file.into()]) {
            Ok(()) => posted += 1,
            Err(error) => break error.kind,
        }
    };
    if let PostErrorKind::ResourceExhausted(error) = cause {
        return eprintln!("skipped: {posted} descriptors in flight are the limit here, and the lane not full: {error}");
    }
    assert!(matches!(cause, PostErrorKind::Full(messageport::FullCause::Lane)), "after {posted}: {cause:?}");
    let sender = thread::spawn(move || {
        let file = OwnedFd::from(File::open("/dev/null").expect("a file"));
        a.post_message_timeout(b"at last", [file.into()], PATIENCE)
    });
    within(PATIENCE, move || {
        for _ in 0..posted {
            assert!(b.recv().expect("a message").data.is_empty());
        }
        assert_eq!(b.recv().expect("a message").data, b"at last");
    });
    join_soon(sender).expect("room in the end");
}

#[test]
fn a_post_that_succeeded_arrives_although_the_other_half_closes_meanwhile() {
    let _alone = alone();
    let data = vec![7; 400_000];
    for _ in 0..200 {
        let (a, b) = pair_of(1 << 20);
        let (sender, receiver) = a.split();
        let start = Arc::new(Barrier::new(2));
        let poster = thread::spawn({
            let (start, data) = (Arc::clone(&start), data.clone());
            move || {
                start.wait();
                sender.post_message(&data, []).is_ok()
            }
        });
        start.wait();
        receiver.close();
        let first = b.recv();
        if poster.join().expect("no panic") {
            assert_eq!(first.expect("the message that was posted").data.len(), data.len());
        } else {
            assert!(matches!(first, Err(RecvError::Ended(CloseReason::Closed))), "{first:?}");
        }
    }
}

#[test]
fn a_long_spin_notices_the_death_of_the_peer() {
    let _alone = alone();
    let (a, b) = pair();
    let mut peer = Process::with_port("hold", b);
    assert_eq!(text(&a), "ready");
    a.set_spin(Duration::MAX);
    let receiver = thread::spawn(move || a.recv());
    peer.kill();
    let error = join_soon(receiver).expect_err("the end");
    assert!(matches!(error, RecvError::Ended(CloseReason::PeerDied)), "{error:?}");
}

#[test]
fn a_port_posted_to_a_peer_that_discards_is_closed_and_detached() {
    let _alone = alone();
    let (a, b) = pair();
    let (_sender, receiver) = b.split();
    drop(receiver);
    let (x1, x2) = pair();
    a.post_message_detaching(b"to nobody", &[TransferRef::Port(&x2)]).expect("the message is dropped");
    assert_eq!(end_of(&x1), CloseReason::Closed);
    assert!(matches!(x2.recv(), Err(RecvError::Detached)));
}
