//! A client that reads nothing: the server stops receiving, and goes on when the client reads.

mod tools;

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use messageport::{MessagePort, PostErrorKind, RecvError, RecvTimeoutError, Server, TryRecvError, TypedServer};

use tools::attacker::Pages;
use tools::child::Role;
use tools::memory::newest_memory;
use tools::{PATIENCE, pair_of, readable, within};

const ROLES: &[Role] = &[];

/// A post that waits for 300 ms finds that the server no longer receives.
const STOPPED: Duration = Duration::from_millis(300);
/// A server that receives this many requests of a client that reads nothing does not stop.
const ENDLESS: u64 = 50_000;

/// The data of a request: what a client posts. `number` is that of the call.
fn request(data: &[u8], number: u64) -> Vec<u8> {
    [data, &(1 << 62 | number).to_ne_bytes()].concat()
}

/// The data of the notice that the request was dropped.
fn notice(number: u64) -> [u8; 8] {
    (3 << 62 | number).to_ne_bytes()
}

/// Posts requests until the server no longer receives. Returns how many.
fn fill(client: &MessagePort) -> u64 {
    for number in 0..ENDLESS {
        if let Err(error) = client.post_message_timeout(&request(b"drop this", number), [], STOPPED) {
            assert!(matches!(error.kind, PostErrorKind::TimedOut), "{error:?}");
            assert!(matches!(client.post_message(&request(b"drop this", 0), []), Err(error) if is_full(&error.kind)));
            return number;
        }
    }
    panic!("the server received {ENDLESS} requests of a client that reads nothing");
}

fn is_full(kind: &PostErrorKind) -> bool {
    matches!(kind, PostErrorKind::Full(_))
}

/// Reads a notice for each of `count` requests.
fn read_notices(client: &MessagePort, count: u64) {
    let mut numbers: Vec<u64> = (0..count)
        .map(|_| {
            let data = client.recv_timeout(PATIENCE).expect("a notice").data;
            let number = u64::from_ne_bytes(data[..].try_into().expect("a mark")) & !(3 << 62);
            assert_eq!(data, notice(number));
            number
        })
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..count), "each request has one notice");
}

/// After `serve` has started: fills the queue, reads everything, and expects an answer.
fn fill_and_read(client: MessagePort, answer: &[u8]) {
    let count = fill(&client);
    read_notices(&client, count);
    client.post_message(&request(b"answer this", 7), []).expect("the server goes on");
    let data = client.recv_timeout(PATIENCE).expect("an answer").data;
    assert_eq!(data, [answer, &(2 << 62 | 7_u64).to_ne_bytes()].concat());
}

#[test]
fn a_server_that_waits_stops_receiving_while_too_much_is_owed() {
    let (client, there) = pair_of(4096);
    let server = thread::spawn(move || {
        let server = Server::new(there);
        loop {
            match server.recv() {
                Ok((message, responder)) if message.data == b"answer this" => {
                    responder.answer(b"here", []).map_err(|error| error.kind).expect("room");
                }
                Ok(dropped) => drop(dropped),
                Err(error) => return error,
            }
        }
    });
    within(2 * PATIENCE, move || fill_and_read(client, b"here"));
    assert!(matches!(server.join().expect("no panic"), RecvError::Ended(_)));
}

#[test]
fn a_serving_server_stops_receiving_while_too_much_is_owed() {
    let (client, there) = pair_of(4096);
    // A request of bytes that are no such text is dropped.
    let server = thread::spawn(move || TypedServer::<Answerable, ()>::new(there).serve(|Answerable| ()));
    within(2 * PATIENCE, move || fill_and_read(client, b""));
    server.join().expect("no panic").expect("the client has closed its end");
}

/// Decoded from `answer this` only.
struct Answerable;

impl<'de> serde::Deserialize<'de> for Answerable {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <[u8; 11]>::deserialize(deserializer)?;
        if bytes == *b"answer this" { Ok(Self) } else { Err(serde::de::Error::custom("something else")) }
    }
}

#[test]
fn the_end_of_a_client_that_reads_nothing_ends_the_server() {
    let (client, there) = pair_of(4096);
    let server = thread::spawn(move || {
        let server = Server::new(there);
        while server.recv().is_ok() {}
    });
    within(2 * PATIENCE, move || {
        fill(&client);
        drop(client);
        server.join().expect("no panic");
    });
}

#[test]
fn a_server_that_owes_too_much_is_interrupted_and_loses_no_notice() {
    for of_port in [false, true] {
        let (client, there) = pair_of(4096);
        let interrupter = there.interrupter().expect("descriptors");
        let server = Server::new(there);
        let interrupter = if of_port { interrupter } else { server.interrupter().expect("descriptors") };
        let (report, reported) = mpsc::channel();
        let server = thread::spawn(move || {
            loop {
                match server.recv() {
                    Ok(dropped) => drop(dropped),
                    Err(RecvError::Interrupted) => report.send(()).expect("the test waits"),
                    Err(error) => return error,
                }
            }
        });
        within(3 * PATIENCE, move || {
            let count = fill(&client);
            interrupter.interrupt();
            reported.recv_timeout(PATIENCE).expect("an interrupt");
            read_notices(&client, count);
        });
        assert!(matches!(server.join().expect("no panic"), RecvError::Ended(_)));
    }
}

#[test]
fn a_server_that_owes_too_much_keeps_to_its_deadlines_and_is_woken_by_its_descriptor() {
    let (client, there) = pair_of(4096);
    poll_while_too_much_is_owed(client, there, || {});
}

#[test]
fn what_a_former_holder_wanted_does_not_delay_a_server() {
    let ((client, there), file) = newest_memory(|| pair_of(4096));
    let pages = Pages::of(&file);
    poll_while_too_much_is_owed(client, there, || pages.wanted(1).store(u64::MAX, Ordering::Relaxed));
}

/// Calls `meddle` before the server waits for the last time before the client reads.
fn poll_while_too_much_is_owed(client: MessagePort, there: MessagePort, meddle: impl FnOnce()) {
    let server = Server::new(there);
    // A loop around the descriptor: receives until there is nothing.
    let receive_all = || {
        let mut count = 0;
        loop {
            match server.try_recv() {
                Ok(dropped) => drop(dropped),
                Err(TryRecvError::Empty) => return count,
                Err(error) => panic!("{error}"),
            }
            count += 1;
        }
    };
    let (mut posted, mut received) = (0, 0);
    readable(&server, Duration::ZERO);
    loop {
        let before = posted;
        while client.post_message(&request(b"", posted), []).is_ok() {
            posted += 1;
        }
        let count = receive_all();
        received += count;
        if posted == before && count == 0 {
            break;
        }
        assert!(posted < ENDLESS, "the server received {ENDLESS} requests of a client that reads nothing");
    }
    assert!(received < posted, "the rest is queued");
    let early = server.recv_timeout(Duration::from_millis(5));
    assert!(matches!(early, Err(RecvTimeoutError::TimedOut)), "{early:?}");
    meddle();
    assert_eq!(receive_all(), 0);
    assert!(!readable(&server, Duration::ZERO), "a loop around the descriptor would spin");
    // The client reads: the descriptor becomes readable, and everything that was queued is received.
    let mut notices = 0;
    while received < posted || notices < posted {
        while client.try_recv().is_ok() {
            notices += 1;
        }
        assert!(received == posted || readable(&server, PATIENCE), "{received} of {posted} requests received");
        received += receive_all();
    }
    assert_eq!((received, notices), (posted, posted));
}
