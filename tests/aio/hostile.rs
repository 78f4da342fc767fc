//! A peer that keeps to no protocol costs a runtime no more than its own channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use messageport::aio::AsyncPort;
use messageport::{CloseReason, MessagePort, RecvError};
use nix::sys::socket::{Shutdown, shutdown};

use crate::tools::attacker::{Attacker, DATA, HANDLES, WAKE, packet};
use crate::tools::{cost_of, pair, pair_of};
use crate::{on_runtimes, soon};

on_runtimes! {
    a_lane_that_is_closed_one_way_ends_the_port,
    a_lane_that_is_closed_one_way_ends_a_port_that_waits,
    descriptors_without_a_record_and_then_death,
    nonsense_on_the_lane_is_a_violation,
}

fn attack() -> (Attacker, MessagePort) {
    Attacker::new(|| pair_of(4096))
}

async fn a_lane_that_is_closed_one_way_ends_the_port() {
    let (mut attacker, victim) = attack();
    attacker.record(DATA, b"the last", 0);
    shutdown(std::os::fd::AsRawFd::as_raw_fd(&attacker.lane), Shutdown::Write).expect("a socket");
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
    let sending = tokio::spawn(async move { sender.post_message_wait(&[0; 500], &mut Vec::new()).await });
    tokio::task::yield_now().await;
    // A packet in front of the end of the file, which hides it.
    let file = attacker.lane.try_clone().expect("a descriptor");
    attacker.send(&packet(HANDLES, 1, 7), &[std::os::fd::AsFd::as_fd(&file)]).expect("room");
    shutdown(std::os::fd::AsRawFd::as_raw_fd(&attacker.lane), Shutdown::Write).expect("a socket");
    assert!(matches!(soon(receiving).await.expect("no panic"), Err(RecvError::Ended(_))));
    soon(sending).await.expect("no panic").expect_err("the port has ended");
}

async fn descriptors_without_a_record_and_then_death() {
    let (attacker, victim) = attack();
    let mut victim = AsyncPort::new(victim).expect("a registration");
    let (x, mut y) = {
        let (x, y) = pair();
        (x, AsyncPort::new(y).expect("a registration"))
    };
    let lane = std::os::fd::AsFd::as_fd(&x).try_clone_to_owned().expect("a descriptor");
    attacker.send(&packet(HANDLES, 1, 0), &[std::os::fd::AsFd::as_fd(&lane)]).expect("room");
    drop((lane, x));
    assert!(crate::cancelled_after(1, victim.recv()).await.is_none());
    let waiting = tokio::spawn(async move { victim.recv().await });
    drop(attacker);
    assert!(matches!(soon(waiting).await.expect("no panic"), Err(RecvError::Ended(CloseReason::Closed))));
    // What never arrived has ended too.
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

/// How often a task is polled while its port's peer sends wake-ups for nothing as fast as it can, in one second: for a
/// receiver or for a sender that waits.
fn polls_under_a_flood(sending: bool, doorbell: u32, rings_too: bool) -> (u64, Duration) {
    let _alone = crate::tools::ledger::alone();
    let (mut attacker, victim) = attack();
    let stop = Arc::new(AtomicBool::new(false));
    let polls = Arc::new(AtomicU64::new(0));
    let runtime = crate::current_thread();
    let (result, cost) = cost_of(|| {
        runtime.block_on(async {
            let mut victim = AsyncPort::new(victim).expect("a registration");
            if sending {
                crate::fill(&mut victim);
            }
            let flood = {
                let (stop, lane) = (Arc::clone(&stop), attacker.lane.try_clone().expect("a descriptor"));
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        if rings_too {
                            // As an honest peer does.
                            attacker.pages.doorbells(0)[0].store(0, Ordering::SeqCst);
                            attacker.pages.doorbells(1)[1].store(0, Ordering::SeqCst);
                        }
                        let _ = crate::tools::attacker::send(&lane, &packet(WAKE, doorbell, 0), &[]);
                    }
                    // And then there is something after all.
                    if sending {
                        attacker.port.recv().expect("a message");
                        attacker.port.recv().expect("a message");
                    } else {
                        attacker.record(DATA, b"at last", 0);
                    }
                    attacker
                })
            };
            let start = Instant::now();
            let mut transfer = Vec::new();
            let mut waiting = std::pin::pin!(async {
                if sending {
                    victim.post_message_wait(&[0; 600], &mut transfer).await.expect("room");
                } else {
                    assert_eq!(victim.recv().await.expect("a message").data, b"at last");
                }
            });
            let counted = std::future::poll_fn(|context| {
                polls.fetch_add(1, Ordering::Relaxed);
                if start.elapsed() > Duration::from_secs(1) {
                    stop.store(true, Ordering::Relaxed);
                }
                waiting.as_mut().poll(context)
            });
            soon(counted).await;
            flood.join().expect("no panic")
        })
    });
    drop(result);
    (polls.load(Ordering::Relaxed), cost.cpu)
}

#[test]
fn a_flood_of_wake_ups_does_not_make_a_task_spin() {
    for sending in [false, true] {
        for doorbell in [0, 1] {
            for rings_too in [false, true] {
                let (polls, cpu) = polls_under_a_flood(sending, doorbell, rings_too);
                println!("sending {sending}, doorbell {doorbell}, rings {rings_too}: {polls} polls, {cpu:?} of CPU");
                assert!(polls < 2000, "sending {sending}, doorbell {doorbell}, rings {rings_too}: {polls} polls");
            }
        }
    }
}
