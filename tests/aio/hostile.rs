//! A peer that breaks the protocol costs a runtime its own channel and nothing else.

use std::future::{Future, poll_fn};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use messageport::aio::AsyncPort;
use messageport::{CloseReason, MessagePort, RecvError};
use nix::sys::socket::{Shutdown, shutdown};

use crate::tools::attacker::{Attacker, DATA, HANDLES, WAKE, packet};
use crate::tools::ledger::alone;
use crate::tools::{cost_of, pair, pair_of};
use crate::{on_runtimes, soon};

on_runtimes! {
    a_lane_that_is_closed_one_way_ends_the_port,
    a_lane_that_is_closed_one_way_ends_a_port_that_waits,
    a_port_without_its_record_ends_with_the_sender,
    nonsense_on_the_lane_is_a_violation,
}

fn attack() -> (Attacker, MessagePort) {
    Attacker::new(|| pair_of(4096))
}

async fn a_lane_that_is_closed_one_way_ends_the_port() {
    let (mut attacker, victim) = attack();
    attacker.record(DATA, b"the last", 0);
    shutdown(attacker.lane.as_raw_fd(), Shutdown::Write).expect("a socket");
    let mut victim = AsyncPort::new(victim).expect("a registration");
    assert_eq!(soon(victim.recv()).await.expect("a message").data, b"the last");
    assert!(matches!(soon(victim.recv()).await, Err(RecvError::Ended(_))));
}

async fn a_lane_that_is_closed_one_way_ends_a_port_that_waits() {
    let (attacker, victim) = attack();
    let victim = AsyncPort::new(victim).expect("a registration");
    let (mut sender, mut receiver) = victim.split();
    while sender.post_message(&[0; 500], []).is_ok() {}
    let receiving = tokio::spawn(async move { receiver.recv().await });
    let sending = tokio::spawn(async move { sender.post_message_wait(&[0; 500], []).await });
    tokio::task::yield_now().await;
    // A packet before the end of the lane hides that end.
    let file = attacker.lane.try_clone().expect("a descriptor");
    attacker.send(&packet(HANDLES, 1, 7), &[file.as_fd()]).expect("room");
    shutdown(attacker.lane.as_raw_fd(), Shutdown::Write).expect("a socket");
    assert!(matches!(soon(receiving).await.expect("no panic"), Err(RecvError::Ended(_))));
    soon(sending).await.expect("no panic").expect_err("the port has ended");
}

async fn a_port_without_its_record_ends_with_the_sender() {
    let (attacker, victim) = attack();
    let mut victim = AsyncPort::new(victim).expect("a registration");
    let (x, y) = pair();
    let mut y = AsyncPort::new(y).expect("a registration");
    let lane = x.as_fd().try_clone_to_owned().expect("a descriptor");
    attacker.send(&packet(HANDLES, 1, 0), &[lane.as_fd()]).expect("room");
    drop((lane, x));
    assert!(crate::cancelled_after(1, victim.recv()).await.is_none());
    let waiting = tokio::spawn(async move { victim.recv().await });
    drop(attacker);
    assert!(matches!(soon(waiting).await.expect("no panic"), Err(RecvError::Ended(CloseReason::Closed))));
    // The port that never arrived has ended too.
    assert!(matches!(soon(y.recv()).await, Err(RecvError::Ended(_))));
}

async fn nonsense_on_the_lane_is_a_violation() {
    let (attacker, victim) = attack();
    let mut victim = AsyncPort::new(victim).expect("a registration");
    let waiting = tokio::spawn(async move { victim.recv().await });
    tokio::task::yield_now().await;
    attacker.send(&packet(99, 0, 0), &[]).expect("room");
    let result = soon(waiting).await.expect("no panic");
    assert!(matches!(result, Err(RecvError::Ended(CloseReason::ProtocolViolation(_)))), "{result:?}");
}

/// Ways to wake a peer spuriously, as fast as possible.
#[derive(Clone, Copy, Debug)]
enum Flood {
    /// Packets.
    Packets,
    /// Packets, and the doorbell always rings.
    Rings,
    /// One packet each time the doorbell is armed, as from an honest peer with a message.
    Answers,
}

/// The polls of a task in one second of the flood, and their CPU time. The task receives, or waits for space.
/// Afterwards a message or space does come, and the task finds it.
fn under(flood: Flood, sending: bool, doorbell: u32) -> (u64, Duration) {
    let _alone = alone();
    let (mut attacker, victim) = attack();
    let runtime = crate::current_thread();
    let (polls, cost) = cost_of(|| {
        let _runtime = runtime.enter();
        let mut victim = AsyncPort::new(victim).expect("a registration");
        if sending {
            crate::fill(&mut victim);
        }
        let peer = {
            thread::spawn(move || {
                let start = Instant::now();
                while start.elapsed() < Duration::from_secs(1) {
                    wake_for_nothing(&attacker, flood, doorbell);
                }
                if sending {
                    for _ in 0..2 {
                        attacker.port.recv().expect("a message");
                    }
                } else {
                    attacker.record(DATA, b"at last", 0);
                    let _ = attacker.send(&packet(WAKE, 0, 0), &[]); // a full lane wakes as well
                }
                attacker
            })
        };
        let mut transfer = Vec::new();
        let mut waiting = pin!(async {
            if sending {
                victim.post_message_draining_wait(&[0; 600], &mut transfer).await.expect("room");
            } else {
                assert_eq!(victim.recv().await.expect("a message").data, b"at last");
            }
        });
        let mut polls = 0;
        runtime.block_on(soon(poll_fn(|context| {
            polls += 1;
            waiting.as_mut().poll(context)
        })));
        drop(peer.join().expect("no panic"));
        polls
    });
    (polls, cost.cpu)
}

fn wake_for_nothing(attacker: &Attacker, flood: Flood, doorbell: u32) {
    let doorbells = [attacker.pages.doorbells(0)[0], attacker.pages.doorbells(1)[1]];
    match flood {
        Flood::Packets => {}
        Flood::Rings => doorbells.iter().for_each(|doorbell| doorbell.store(0, Ordering::SeqCst)),
        Flood::Answers if doorbells[doorbell as usize].swap(0, Ordering::SeqCst) == 0 => return,
        Flood::Answers => {}
    }
    let _ = attacker.send(&packet(WAKE, doorbell, 0), &[]);
}

#[test]
fn a_flood_of_wake_ups_does_not_make_a_task_spin() {
    for flood in [Flood::Packets, Flood::Rings, Flood::Answers] {
        for sending in [false, true] {
            for doorbell in [0, 1] {
                let (polls, cpu) = under(flood, sending, doorbell);
                println!("{flood:?}, sending {sending}, doorbell {doorbell}: {polls} polls, {cpu:?} of CPU");
                assert!(polls < 2000, "{flood:?}, sending {sending}, doorbell {doorbell}: {polls} polls");
            }
        }
    }
}
