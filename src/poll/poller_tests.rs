//! The checks of the poller, counted.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::poller::{Poller, Watchable};
use crate::error::TryRecvError;
use crate::port::channel::MessageChannel;
use crate::port::message::Message;
use crate::port::{MessagePort, RecvHalf};

/// A port that counts its checks.
struct Counted {
    port: MessagePort,
    checks: Rc<Cell<usize>>,
}

impl Watchable for Counted {
    fn with<R>(&self, visit: impl FnOnce(&RecvHalf) -> R) -> Option<R> {
        self.checks.set(self.checks.get() + 1);
        Some(visit(&self.port.receiver))
    }
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(500))
}

/// Gives every ready port a turn, and receives from it until it is empty. Returns the number of messages.
fn round(poller: &mut Poller<Counted>) -> usize {
    let mut message = Message::new();
    let mut count = 0;
    while let Some(key) = poller.next() {
        loop {
            let result = poller.get(key).expect("a port").port.try_recv_into(&mut message);
            match result {
                Ok(()) => count += 1,
                Err(TryRecvError::Empty) => break poller.found_empty(key),
                Err(error) => panic!("{error}"),
            }
        }
        poller.found_message(key);
    }
    count
}

fn add(poller: &mut Poller<Counted>, checks: &Rc<Cell<usize>>) -> MessagePort {
    let MessageChannel { port1, port2 } = MessageChannel::new().expect("a channel");
    poller
        .add(Counted { port: port2, checks: Rc::clone(checks) })
        .map_err(|(errno, _)| errno)
        .expect("the poller takes the port");
    port1
}

#[test]
fn idle_ports_are_not_checked() {
    let (_, limit) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit).unwrap();
    let count = 4000.min(limit as usize / 4);
    let mut poller = Poller::new().unwrap();
    let (idle, busy) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let mut peers: Vec<_> = (0..count).map(|_| add(&mut poller, &idle)).collect();
    let peer = add(&mut poller, &busy);
    assert_eq!(round(&mut poller), 0);
    poller.wait(Some(Instant::now()), || false).unwrap();
    assert!(idle.get() >= count);

    // With a wake-up for each message, and in a stream that never sleeps.
    for streaming in [false, true] {
        idle.set(0);
        for _ in 0..1000 {
            peer.post_message(b"busy", []).unwrap();
            if !streaming {
                poller.settle();
            }
            poller.wait(soon(), || false).unwrap();
            assert_eq!(round(&mut poller), 1);
        }
        assert_eq!(idle.get(), 0, "an idle port was checked");
        assert!(busy.get() >= 1000);
    }

    // Each message on an idle port is noticed, while another port is busy.
    peers[count / 2].post_message(b"at last", []).unwrap();
    let (mut extra, start) = (0, Instant::now());
    while extra == 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "a busy port starves the others");
        peer.post_message(b"busy", []).unwrap();
        poller.wait(soon(), || false).unwrap();
        extra = round(&mut poller) - 1;
    }
    assert_eq!(extra, 1);
    // An end is noticed too.
    drop(peers.pop());
    idle.set(0);
    poller.wait(soon(), || false).unwrap();
    poller.settle();
    poller.wait(soon(), || false).unwrap();
    assert!(poller.has_ready());
}

#[test]
fn a_stream_makes_no_system_call_a_message() {
    let mut poller = Poller::new().unwrap();
    poller.spin.set_budget(Duration::from_millis(100));
    let checks = Rc::new(Cell::new(0));
    let peer = add(&mut poller, &checks);
    for _ in 0..1000 {
        peer.post_message(b"busy", []).unwrap();
        poller.wait(soon(), || false).unwrap();
        assert_eq!(round(&mut poller), 1);
    }
    // The doorbell is not armed: a post makes no system call.
    let lane = peer.end().lane();
    assert_eq!(lane.drain(0, |_| {}).unwrap(), crate::end::lane::Drained::Empty);
    assert_eq!(
        peer.end().outgoing().data_doorbell().load(crate::queue::sync::Ordering::SeqCst),
        crate::queue::doorbell::AWAKE
    );
}

#[test]
fn a_key_is_never_used_again() {
    let mut poller = Poller::new().unwrap();
    let checks = Rc::new(Cell::new(0));
    let mut keys = Vec::new();
    for _ in 0..10 {
        let MessageChannel { port2, .. } = MessageChannel::new().expect("a channel");
        let key = poller.add(Counted { port: port2, checks: Rc::clone(&checks) }).map_err(|(errno, _)| errno).unwrap();
        assert!(!keys.contains(&key));
        assert!(poller.remove(key).is_some());
        assert!(poller.remove(key).is_none() && poller.get(key).is_none());
        poller.schedule(key);
        keys.push(key);
    }
    assert!(poller.next().is_none());
}

#[test]
fn a_port_that_cannot_receive_naps_longer_each_time_until_a_message_comes() {
    let mut poller = Poller::new().expect("an epoll set");
    let _peer = add(&mut poller, &Rc::default());
    for milliseconds in [10, 20, 40, 0, 10] {
        let key = loop {
            match poller.next() {
                Some(key) => break key,
                None => _ = poller.poll_epoll(Duration::from_secs(1)).expect("an epoll set"),
            }
        };
        if milliseconds == 0 {
            poller.found_message(key);
            poller.schedule(key);
            continue;
        }
        let before = Instant::now();
        poller.nap_short(key);
        let (end, after, nap) =
            (poller.next_nap().expect("a nap"), Instant::now(), Duration::from_millis(milliseconds));
        assert!(before + nap <= end && end <= after + nap, "a nap of {:?} instead of {nap:?}", end - before);
        // The nap passes.
        while poller.next_nap().is_some() {
            poller.poll_epoll(nap).expect("an epoll set");
        }
    }
}
