//! Ports whose peer is in another process.

use std::thread;
use std::time::Duration;

use futures_util::StreamExt;
use messageport::aio::AsyncPort;
use messageport::{CloseReason, MessagePort, PostErrorKind, RecvError, TransferBuffer, parent_port};
use tokio::task::yield_now;

use crate::tools::child::Process;
use crate::tools::{PATIENCE, assert_entangled, pair, pair_of};
use crate::{on_runtimes, soon};

on_runtimes! {
    echo_across_processes,
    a_slow_reader_holds_the_sender_back,
    the_death_of_the_peer_wakes_both_halves_and_gives_the_list_back,
    messages_of_a_killed_peer_arrive,
    a_stream_yields_the_death_of_the_peer_once,
}

/// Posts ten messages, reports it over a second port, and holds its port until the process is killed.
pub(crate) fn post_and_hold() {
    let port = parent_port().expect("a port");
    let control = port.recv().expect("a message").ports.remove(0);
    for number in 0..10_u8 {
        port.post_message(&[number], []).expect("room");
    }
    control.post_message(b"done", []).expect("room");
    loop {
        thread::park();
    }
}

/// Receives numbers, with pauses, and posts the sum.
pub(crate) fn read_slowly() {
    let port = parent_port().expect("a port");
    let mut sum = 0_u64;
    for number in 0..SLOW {
        let data = port.recv().expect("a message").data;
        assert_eq!(data[..8], number.to_ne_bytes());
        sum += number;
        if number % 50 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
    port.post_message(&sum.to_ne_bytes(), []).expect("room");
    let _ = port.recv();
}

const SLOW: u64 = 3000;

fn start(role: &str, capacity: usize) -> (Process, AsyncPort) {
    let (ours, theirs): (MessagePort, MessagePort) = pair_of(capacity);
    (Process::with_port(role, theirs), AsyncPort::new(ours).expect("a registration"))
}

async fn echo_across_processes() {
    let (mut process, mut port) = start("echo", 64 << 10);
    for number in 0..500_u32 {
        port.post_message(&number.to_ne_bytes(), []).expect("room");
        assert_eq!(soon(port.recv()).await.expect("an answer").data, number.to_ne_bytes());
    }
    let (x, y) = pair();
    let buffer = TransferBuffer::new(1 << 20).expect("memory");
    buffer.write_at(0, b"pixels").expect("inside");
    port.post_message_wait(b"things", [y.into(), buffer.into()]).await.expect("room");
    let answer = soon(port.recv()).await.expect("an answer");
    let mut pixels = [0; 6];
    answer.buffers[0].read_at(0, &mut pixels).expect("inside");
    assert_eq!(&pixels, b"pixels");
    assert_entangled(&x, &answer.ports[0]);
    drop(port);
    process.succeeded();
}

async fn a_slow_reader_holds_the_sender_back() {
    let (mut process, port) = start("read slowly", 4096);
    let (mut sender, mut receiver) = port.split();
    let sending = tokio::spawn(async move {
        for number in 0..SLOW {
            let mut data = number.to_ne_bytes().to_vec();
            data.resize(200, 0);
            sender.post_message_wait(&data, []).await.expect("room");
        }
        sender
    });
    let sum = soon(receiver.recv()).await.expect("an answer").data;
    assert_eq!(sum, (0..SLOW).sum::<u64>().to_ne_bytes());
    drop((receiver, soon(sending).await.expect("no panic")));
    process.succeeded();
}

async fn the_death_of_the_peer_wakes_both_halves_and_gives_the_list_back() {
    let (mut process, mut port) = start("hold", 4096);
    assert_eq!(soon(port.recv()).await.expect("a message").data, b"ready");
    crate::fill(&mut port);
    let (mut sender, mut receiver) = port.split();
    let (x, y) = pair();
    let sending = tokio::spawn(async move {
        let mut list = vec![y.into()];
        let result = sender.post_message_draining_wait(b"a port", &mut list).await;
        (result, list)
    });
    let receiving = tokio::spawn(async move { (receiver.recv().await, receiver) });
    yield_now().await;
    process.kill();
    let (result, mut list) = soon(sending).await.expect("no panic");
    assert!(matches!(result, Err(PostErrorKind::PeerGone(CloseReason::PeerDied))), "{result:?}");
    let Some(messageport::Transferable::Port(y)) = list.pop() else { panic!("the list must come back") };
    assert_entangled(&x, &y);
    let (result, _receiver) = soon(receiving).await.expect("no panic");
    assert!(matches!(result, Err(RecvError::Ended(CloseReason::PeerDied))), "{result:?}");
}

async fn messages_of_a_killed_peer_arrive() {
    let (mut process, mut port) = start("post and hold", 4096);
    // Messages and death have both happened before the runtime handles either.
    let (control, there) = pair();
    port.post_message(b"", [there.into()]).expect("room");
    control.recv_timeout(PATIENCE).expect("the peer has posted everything");
    process.kill();
    for number in 0..10_u8 {
        assert_eq!(soon(port.recv()).await.expect("a message").data, [number]);
    }
    assert!(matches!(soon(port.recv()).await, Err(RecvError::Ended(CloseReason::PeerDied))));
}

async fn a_stream_yields_the_death_of_the_peer_once() {
    let (mut process, mut port) = start("hold", 4096);
    assert_eq!(soon(port.next()).await.expect("an item").expect("a message").data, b"ready");
    let waiting = tokio::spawn(async move { (port.next().await, port) });
    yield_now().await;
    process.kill();
    let (item, mut port) = soon(waiting).await.expect("no panic");
    assert!(matches!(item, Some(Err(RecvError::Ended(CloseReason::PeerDied)))), "{item:?}");
    assert!(soon(port.next()).await.is_none());
}
