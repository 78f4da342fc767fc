//! `fork` without `exec`, and `exec`: an inherited port answers `Forked`, and dropping it harms nobody.
#![allow(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use messageport::{
    BufferError, CloseReason, MessageChannel, MessagePort, PostErrorKind, RecvError, RecvTimeoutError, TransferBuffer,
    TransferRef, TryRecvError,
};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

const PATIENCE: Duration = Duration::from_secs(20);

/// One at a time: a forked child has one thread, and descriptors are looked at.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `body` in a forked child with everything that this process has, and drops there what it is given.
#[track_caller]
fn in_forked_child(body: impl FnOnce()) {
    // SAFETY: the child runs `body` and ends; the C library makes memory allocation usable after a fork.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            let result = catch_unwind(AssertUnwindSafe(body));
            // SAFETY: ends the process; nothing of the parent's runs in it.
            unsafe { nix::libc::_exit(i32::from(result.is_err())) };
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).expect("waitpid"), WaitStatus::Exited(child, 0), "the forked child failed");
        }
    }
}

fn assert_works(channel: &MessageChannel) {
    for (from, to) in [(&channel.port1, &channel.port2), (&channel.port2, &channel.port1)] {
        from.post_message(b"still here", []).expect("a peer");
        assert_eq!(to.recv_timeout(PATIENCE).expect("a message").data, b"still here");
    }
}

#[test]
fn every_call_of_an_inherited_port_says_forked() {
    let _alone = alone();
    let channel = MessageChannel::new().unwrap();
    channel.port2.post_message(b"for the parent", []).unwrap();
    let port = &channel.port1;
    in_forked_child(|| {
        let short = Duration::from_millis(1);
        assert!(matches!(port.post_message(b"", []).unwrap_err().kind, PostErrorKind::Forked));
        assert!(matches!(port.post_message_wait(b"", [], Some(short)).unwrap_err().kind, PostErrorKind::Forked));
        assert!(matches!(port.reserve(8).unwrap_err(), PostErrorKind::Forked));
        assert!(matches!(port.recv(), Err(RecvError::Forked)));
        assert!(matches!(port.try_recv(), Err(TryRecvError::Failed(RecvError::Forked))));
        assert!(matches!(port.recv_timeout(short), Err(RecvTimeoutError::Failed(RecvError::Forked))));
        assert!(matches!(port.try_recv_ref().map(drop), Err(TryRecvError::Failed(RecvError::Forked))));
        port.close();
    });
    assert_eq!(channel.port1.recv_timeout(PATIENCE).unwrap().data, b"for the parent");
    assert_works(&channel);
}

#[test]
fn drops_in_the_child_harm_nobody() {
    let _alone = alone();
    let channel = MessageChannel::new().unwrap();
    let other = MessageChannel::new().unwrap();
    let buffer = TransferBuffer::new(100).unwrap();
    buffer.write_at(0, b"mine").unwrap();
    // The child drops copies of the handles: what is moved into the closure there is still the parent's here.
    let mut handles = Some((channel, other.port1.split(), buffer));
    in_forked_child(|| drop(handles.take()));
    let (channel, (sender, receiver), buffer) = handles.unwrap();
    assert_works(&channel);
    assert_works(&MessageChannel { port1: MessagePort::join(sender, receiver).unwrap(), port2: other.port2 });
    let mut bytes = [0; 4];
    buffer.read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"mine");
}

#[test]
fn guards_in_the_child_are_harmless() {
    let _alone = alone();
    let channel = MessageChannel::new().unwrap();
    channel.port2.post_message(b"in place", []).unwrap();
    let reserved = channel.port1.reserve(8).unwrap();
    let read = channel.port1.recv_ref().unwrap();
    let mut guards = Some((reserved, read));
    in_forked_child(|| {
        let (mut reserved, read) = guards.take().unwrap();
        assert!(matches!(reserved.write_at(0, b"x"), Err(PostErrorKind::Forked)));
        assert!(matches!(reserved.commit(), Err(PostErrorKind::Forked)));
        assert!(matches!(read.read_at(0, &mut [0]), Err(BufferError::Forked)));
        // SAFETY: nobody writes; it is empty here anyway.
        assert!(unsafe { read.as_slice() }.is_empty());
    });
    let (mut reserved, read) = guards.unwrap();
    assert_eq!(read.to_vec().unwrap(), b"in place");
    reserved.write_at(0, b"complete").unwrap();
    reserved.commit().unwrap();
    assert_eq!(channel.port2.recv_timeout(PATIENCE).unwrap().data, b"complete");
}

#[test]
fn inherited_things_cannot_be_transferred() {
    let _alone = alone();
    let inherited = MessageChannel::new().unwrap();
    let buffer = TransferBuffer::new(10).unwrap();
    in_forked_child(|| {
        assert!(matches!(buffer.read_at(0, &mut [0]), Err(BufferError::Forked)));
        let own = MessageChannel::new().unwrap();
        for thing in [TransferRef::Port(&inherited.port1), TransferRef::Buffer(&buffer)] {
            let result = own.port1.post_message_detaching(b"", &[thing]);
            assert!(matches!(result, Err(PostErrorKind::Unusable { index: 0 })), "{result:?}");
        }
    });
    assert_works(&inherited);
}

#[test]
fn a_forked_child_and_its_child_make_channels_of_their_own() {
    let _alone = alone();
    let parents = MessageChannel::new().unwrap();
    in_forked_child(|| {
        let childs = MessageChannel::new().unwrap();
        assert_works(&childs);
        in_forked_child(|| {
            assert!(matches!(parents.port1.recv(), Err(RecvError::Forked)));
            assert!(matches!(childs.port1.recv(), Err(RecvError::Forked)));
            assert_works(&MessageChannel::new().unwrap());
        });
        assert_works(&childs);
        assert!(matches!(parents.port1.recv(), Err(RecvError::Forked)));
    });
    assert_works(&parents);
}

#[test]
fn the_end_is_seen_although_a_forked_child_dropped_its_copies() {
    let _alone = alone();
    let mut channel = Some(MessageChannel::new().unwrap());
    in_forked_child(|| drop(channel.take()));
    let MessageChannel { port1, port2 } = channel.unwrap();
    drop(port1);
    assert!(matches!(port2.recv(), Err(RecvError::Ended(CloseReason::Closed))));
}

#[test]
fn nothing_is_inherited_by_exec() {
    let _alone = alone();
    let list = || {
        let mut command = Command::new("ls");
        command.args(["-l", "/proc/self/fd"]).stdin(Stdio::null());
        String::from_utf8(command.output().expect("ls").stdout).unwrap()
    };
    let channel = MessageChannel::new().unwrap();
    let buffer = TransferBuffer::new(10).unwrap();
    channel.port1.post_message(b"", [MessageChannel::new().unwrap().port1.into(), buffer.into()]).unwrap();
    let message = channel.port2.recv().unwrap(); // descriptors that came over the lane
    let seen = list();
    assert!(!seen.contains("memfd:") && !seen.contains("socket:"), "{seen}");
    drop(message);
}
