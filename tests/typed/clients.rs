//! One client in several threads, full queues and handlers that fail.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use messageport::TypedPostErrorKind::{self, Post};
use messageport::{
    AnswerError, CallError, Client, CloseReason, MessageChannel, PostErrorKind, RecvError, ServeError, Server,
    TypedClient, TypedPort, TypedServer,
};

use crate::harness::luggage::Luggage;
use crate::harness::*;

type Served = thread::JoinHandle<Result<(), ServeError<TypedPostErrorKind>>>;

/// A client whose server answers on a thread of its own.
fn served<Ans: serde::Serialize + 'static>(
    capacity: usize,
    handler: impl FnMut(u64) -> Ans + Send + 'static,
) -> (TypedClient<u64, Ans>, Served) {
    let (here, there) = pair_of(capacity);
    (TypedClient::new(here), thread::spawn(move || TypedServer::<u64, Ans>::new(there).serve(handler)))
}

#[test]
fn several_threads_share_a_client() {
    let (client, server) = served(4096, |number| number + 1);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let client = client.clone();
            thread::spawn(move || {
                for number in (thread..8000).step_by(4) {
                    match number % 3 {
                        0 => assert_eq!(client.call(number).unwrap(), number + 1),
                        1 => assert_eq!(client.call_timeout(number, PATIENCE).unwrap(), number + 1),
                        _ => {
                            // Two calls at a time. The second answer is taken first.
                            let Ok(first) = client.start(number) else { continue };
                            let Ok(mut second) = client.start(number + 10) else { continue };
                            assert_eq!(second.wait_timeout(PATIENCE).unwrap(), number + 11);
                            assert_eq!(first.wait().unwrap(), number + 1);
                        }
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drop(client);
    server.join().unwrap().unwrap();
}

#[test]
fn a_thread_that_receives_wakes_the_others_and_hands_over_when_it_goes() {
    let (here, there) = pair();
    let client = TypedClient::<u64, u64>::new(here);
    let server = TypedServer::<u64, u64>::new(there);
    // The first thread receives, and the others sleep until it hands over.
    let (tell, told) = mpsc::channel();
    for number in 0..4 {
        let call = client.start(number).unwrap();
        let (tell, (tell_id, id)) = (tell.clone(), mpsc::channel());
        thread::spawn(move || {
            tell_id.send(nix::unistd::gettid()).unwrap();
            tell.send(call.wait().unwrap()).unwrap();
        });
        await_sleep(id.recv().unwrap());
    }
    let mut responders: Vec<_> = (0..4).map(|_| Some(server.recv().unwrap().1)).collect();
    for number in [2, 0, 3, 1] {
        responders[number].take().unwrap().answer(number as u64).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE), Ok(number as u64));
    }
}

/// Waits until a thread sleeps.
fn await_sleep(thread: nix::unistd::Pid) {
    let start = Instant::now();
    loop {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
        if stat.rsplit(") ").next().unwrap().starts_with('S') {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "the thread does not sleep");
        thread::yield_now();
    }
}

#[test]
fn the_end_reaches_every_thread() {
    let (here, there) = pair();
    let client = TypedClient::<u64, u64>::new(here);
    let server = TypedServer::<u64, u64>::new(there);
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let client = client.clone();
            thread::spawn(move || client.call(number))
        })
        .collect();
    let responders: Vec<_> = (0..4).map(|_| server.recv().unwrap()).collect();
    drop(server);
    for thread in threads {
        let error = thread.join().unwrap().unwrap_err();
        assert!(
            matches!(error, CallError::NoAnswer(AnswerError::Failed(RecvError::Ended(CloseReason::Closed)))),
            "{error:?}"
        );
    }
    drop(responders);
}

#[test]
fn a_call_waits_for_space_while_the_server_waits_for_space() {
    // Requests and answers fill both queues at once, and only the client can make space.
    let (client, server) = served(4096, |number| vec![number; 100]);
    let mut open = Vec::new();
    while let Ok(call) = client.start(open.len() as u64) {
        open.push(call);
    }
    assert_eq!(client.call_timeout(7, PATIENCE).unwrap(), vec![7; 100]);
    for (number, mut call) in open.into_iter().enumerate() {
        assert_eq!(call.wait_timeout(PATIENCE).unwrap(), vec![number as u64; 100]);
    }
    drop(client);
    server.join().unwrap().unwrap();
}

#[test]
fn answers_come_from_other_threads() {
    let (here, there) = pair();
    let client = TypedClient::<u64, u64>::new(here);
    let server = thread::spawn(move || {
        let server = TypedServer::<u64, u64>::new(there);
        let mut threads = Vec::new();
        while let Ok((number, responder)) = server.recv() {
            threads.push(thread::spawn(move || responder.answer_timeout(number * 2, PATIENCE).unwrap()));
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    let calls: Vec<_> = (0..50).map(|number| client.start(number).unwrap()).collect();
    for (number, mut call) in (0..50).zip(calls) {
        assert_eq!(call.wait_timeout(PATIENCE).unwrap(), number * 2);
    }
    drop(client);
    server.join().unwrap();
}

#[test]
fn an_answer_that_does_not_fit_gives_the_responder_back() {
    let (here, there) = pair_of(4096);
    let client = TypedClient::<u64, Vec<u8>>::new(here);
    let server = TypedServer::<u64, Vec<u8>>::new(there);
    let call = client.start(1).unwrap();
    let (_, responder) = server.recv().unwrap();
    let error = responder.answer(vec![1; 5000]).unwrap_err();
    assert!(matches!(error.kind, Post(PostErrorKind::TooLarge { .. })));
    let (responder, value) = error.into_inner();
    assert_eq!(value, vec![1; 5000]);
    responder.answer(vec![2]).unwrap();
    assert_eq!(call.wait().unwrap(), [2]);

    // `serve` returns it as an error, and the call ends.
    let call = client.start(1).unwrap();
    let error = server.serve(|_| vec![1; 5000]).unwrap_err();
    assert!(matches!(error, ServeError::NotAnswered(Post(PostErrorKind::TooLarge { .. }))));
    assert!(matches!(call.wait(), Err(AnswerError::Dropped)));
}

#[test]
fn an_answer_waits_until_its_deadline() {
    let (here, there) = pair_of(4096);
    let client = Client::new(here);
    let server = Server::new(there);
    let calls: Vec<_> = (0..10).map(|_| client.start(b"", []).unwrap()).collect();
    let mut responders: Vec<_> = (0..10).map(|_| server.recv().unwrap().1).collect();
    let responder = loop {
        if let Err(error) = responders.pop().unwrap().answer(&[0; 1000], []) {
            break error.into_inner().0;
        }
    };
    let start = Instant::now();
    let wait = Duration::from_millis(20);
    let error = responder.answer_timeout(&[0; 1000], [], wait).unwrap_err();
    assert!(matches!(error.kind, PostErrorKind::TimedOut));
    assert!(start.elapsed() >= wait);
    drop(calls);
}

#[test]
fn a_handler_that_panics_drops_its_request() {
    let (here, there) = pair();
    let client = TypedClient::<u64, u64>::new(here);
    let server = TypedServer::<u64, u64>::new(there);
    let (bad, good) = (client.start(0).unwrap(), client.start(5).unwrap());
    let serve = || server.serve(|number| 100 / number);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(serve)).is_err());
    assert!(matches!(bad.wait(), Err(AnswerError::Dropped)));
    let thread = thread::spawn(move || server.serve(|number| 100 / number));
    assert_eq!(good.wait().unwrap(), 20);
    drop(client);
    thread.join().unwrap().unwrap();
}

#[test]
fn a_handler_may_call_back() {
    // The handler of the server calls back over a second pair, which the other thread serves while it waits.
    let (front, front_server) = served(4096, {
        let (back, _) = served(4096, |number| number * 10);
        move |number| back.call(number).unwrap() + 1
    });
    assert_eq!(front.call(4).unwrap(), 41);
    drop(front);
    front_server.join().unwrap().unwrap();
}

#[test]
fn a_client_goes_on_after_many_abandoned_calls() {
    static SERVED: AtomicU32 = AtomicU32::new(0);
    let (client, server) = served(64 << 10, |number| {
        SERVED.fetch_add(1, Ordering::Relaxed);
        number
    });
    for number in 0..5000 {
        match client.start(number) {
            Ok(call) => drop(call),
            Err(_) => assert_eq!(client.call(number).unwrap(), number),
        }
    }
    assert_eq!(client.call(1).unwrap(), 1);
    drop(client);
    server.join().unwrap().unwrap();
    assert_eq!(SERVED.load(Ordering::Relaxed), 5001);
}

#[test]
fn a_forked_child_cannot_use_clients_and_servers() {
    let MessageChannel { port1, port2 } = MessageChannel::new().unwrap();
    let client = TypedClient::<u64, u64>::new(port1);
    let server = TypedServer::<u64, u64>::new(port2);
    let mut call = client.start(1).unwrap();
    let (number, responder) = server.recv().unwrap();
    #[allow(unsafe_code)]
    // SAFETY: the child allocates little, and exits without running anything else.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let started = matches!(client.start(2), Err(error) if matches!(error.kind, Post(PostErrorKind::Forked)));
            let waited = matches!(call.try_wait(), Err(AnswerError::Failed(RecvError::Forked)));
            let served = matches!(server.recv(), Err(RecvError::Forked));
            let answered =
                matches!(responder.answer(1), Err(error) if matches!(error.kind, Post(PostErrorKind::Forked)));
            drop((client, call, server));
            #[allow(unsafe_code)]
            // SAFETY: ends the process at once, without destructors.
            unsafe {
                nix::libc::_exit(i32::from(!(started && waited && served && answered)));
            }
        }
        nix::unistd::ForkResult::Parent { child } => {
            let status = nix::sys::wait::waitpid(child, None).unwrap();
            assert!(matches!(status, nix::sys::wait::WaitStatus::Exited(_, 0)), "{status:?}");
        }
    }
    responder.answer(number + 1).unwrap();
    assert_eq!(call.wait_timeout(PATIENCE).unwrap(), 2);
}

#[test]
fn s50_an_answer_carries_everything_that_the_handler_leaves_in_the_message() {
    let (here, there) = pair();
    let server = thread::spawn(move || Server::new(there).serve(|message| message.data.reverse()));
    let client = Client::new(here);
    let mut luggage = Luggage::pack();
    let answer = client.call(b"live", luggage.take()).unwrap();
    assert_eq!(answer.data, b"evil");
    luggage.assert_whole(answer.transfer_list());
    drop(client);
    server.join().unwrap().unwrap();
}

#[test]
fn long_values_and_requests_stop_at_the_limit_of_the_queue() {
    const LIMIT: usize = 1 << 20;
    for len in [50_000, 200_000, 400_000] {
        let (port, peer) = growing_pair(4096, LIMIT);
        let port = TypedPort::<Vec<u8>, ()>::from(port);
        let mut posted = 0;
        let error = loop {
            match port.post(vec![1; len]) {
                Ok(()) => posted += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error.kind, Post(PostErrorKind::Full(_))), "{error:?}");
        assert!(posted > 0 && posted * len <= LIMIT && posted * len <= port.as_port().queued().bytes);
        (0..posted).for_each(|_| assert_eq!(recv(&peer).data.len(), len + 3));

        let (port, peer) = growing_pair(4096, LIMIT);
        let (client, mut pending) = (Client::new(port), Vec::new());
        let error = loop {
            match client.start(&vec![2; len], []) {
                Ok(call) => pending.push(call),
                Err(error) => break error,
            }
        };
        assert!(matches!(error.kind, PostErrorKind::Full(_)), "{error:?}");
        assert!(!pending.is_empty() && pending.len() * len <= LIMIT);
        assert!(matches!(
            client.call_timeout(&vec![3; len], [], Duration::from_millis(1)),
            Err(CallError::NotPosted(_))
        ));
        (0..pending.len()).for_each(|_| assert_eq!(recv(&peer).data.len(), len + 8));
    }
}
