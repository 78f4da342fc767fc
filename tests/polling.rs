//! Ports in the event loop of another library, by their descriptor alone: with the `polling` crate, in each of its
//! modes, and with poll(2).

mod tools;

use std::os::fd::AsFd;
use std::thread;

use messageport::{CloseReason, MessagePort, RecvError, TryRecvError, parent_port};
use nix::poll::{PollFd, PollFlags, poll};
use polling::{Event, Events, PollMode, Poller};

use tools::child::{Process, Role};
use tools::{PATIENCE, pair, pair_of};

const ROLES: &[Role] = &[("count", count)];

/// A role: posts the numbers up to 1000 and ends without closing.
fn count() {
    let port = parent_port().expect("a port");
    for number in 0..1000_u32 {
        port.post_message_timeout(&number.to_ne_bytes(), [], PATIENCE).expect("room");
    }
    std::mem::forget(port);
}

/// The messages and the end of one port of a loop.
#[derive(Default)]
struct Received {
    messages: u32,
    end: Option<CloseReason>,
}

impl Received {
    /// Receives until `try_recv` returns `Empty`. Before that the descriptor need not become readable.
    fn take_all(&mut self, port: &MessagePort) {
        loop {
            match port.try_recv() {
                Ok(message) => {
                    assert_eq!(message.data, self.messages.to_ne_bytes());
                    self.messages += 1;
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Failed(RecvError::Ended(reason))) => {
                    self.end = Some(reason);
                    return;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Runs a loop until every port has ended.
fn run_with_polling(ports: &[MessagePort], mode: PollMode) -> Vec<Received> {
    let poller = Poller::new().expect("a poller");
    assert!(poller.supports_edge());
    for (key, port) in ports.iter().enumerate() {
        #[allow(unsafe_code)]
        // SAFETY: the descriptors are deleted from the poller below, before the ports can be dropped.
        unsafe {
            poller.add_with_mode(&port.as_fd(), Event::readable(key), mode).expect("a new descriptor");
        }
    }
    let mut received: Vec<Received> = ports.iter().map(|_| Received::default()).collect();
    // The first receive comes after the first `as_fd`.
    for (port, received) in ports.iter().zip(&mut received) {
        received.take_all(port);
    }
    let mut events = Events::new();
    while received.iter().any(|received| received.end.is_none()) {
        events.clear();
        assert!(poller.wait(&mut events, Some(PATIENCE)).expect("a wait") > 0, "no port becomes readable");
        for event in events.iter() {
            received[event.key].take_all(&ports[event.key]);
            if mode == PollMode::Oneshot {
                poller.modify(ports[event.key].as_fd(), Event::readable(event.key)).expect("it is registered");
            }
        }
    }
    for port in ports {
        poller.delete(port.as_fd()).expect("it is registered");
    }
    received
}

#[test]
fn the_polling_crate_drives_ports() {
    for mode in [PollMode::Oneshot, PollMode::Level, PollMode::Edge] {
        let (ours, theirs): (Vec<MessagePort>, Vec<MessagePort>) = (0..4).map(|_| pair_of(4096)).unzip();
        // A message waits before the loop begins.
        theirs[0].post_message(&0_u32.to_ne_bytes(), []).expect("room");
        let peers: Vec<_> = theirs
            .into_iter()
            .enumerate()
            .map(|(index, port)| {
                thread::spawn(move || {
                    for number in u32::from(index == 0)..1000 {
                        port.post_message_timeout(&number.to_ne_bytes(), [], PATIENCE).expect("room");
                    }
                })
            })
            .collect();
        for received in run_with_polling(&ours, mode) {
            assert_eq!((received.messages, received.end), (1000, Some(CloseReason::Closed)), "{mode:?}");
        }
        for peer in peers {
            peer.join().expect("no panic");
        }
    }
}

#[test]
fn the_polling_crate_sees_a_process_end() {
    let (a, b) = pair();
    let _process = Process::with_port("count", b);
    let received = run_with_polling(&[a], PollMode::Oneshot).remove(0);
    assert_eq!((received.messages, received.end), (1000, Some(CloseReason::PeerDied)));
}

#[test]
fn plain_poll_drives_ports() {
    let (ours, theirs): (Vec<MessagePort>, Vec<MessagePort>) = (0..4).map(|_| pair_of(4096)).unzip();
    let peers: Vec<_> = theirs
        .into_iter()
        .map(|port| {
            thread::spawn(move || {
                for number in 0..1000_u32 {
                    port.post_message_timeout(&number.to_ne_bytes(), [], PATIENCE).expect("room");
                }
            })
        })
        .collect();
    let mut received: Vec<Received> = ours.iter().map(|_| Received::default()).collect();
    loop {
        let mut descriptors: Vec<_> = ours.iter().map(|port| PollFd::new(port.as_fd(), PollFlags::POLLIN)).collect();
        // Before each poll, not only after a poll that found a port readable.
        for (port, received) in ours.iter().zip(&mut received) {
            received.take_all(port);
        }
        // Ports that have ended stay readable.
        descriptors.retain({
            let mut received = received.iter();
            move |_| received.next().is_some_and(|received| received.end.is_none())
        });
        if descriptors.is_empty() {
            break;
        }
        assert!(poll(&mut descriptors, PATIENCE.as_millis() as u16).expect("poll") > 0, "no port becomes readable");
    }
    for received in received {
        assert_eq!((received.messages, received.end), (1000, Some(CloseReason::Closed)));
    }
    for peer in peers {
        peer.join().expect("no panic");
    }
}
