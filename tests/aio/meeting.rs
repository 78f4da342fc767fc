//! Listeners and clients in tasks.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use messageport::aio::{AsyncListener, AsyncPort, connect};
use messageport::{ConnectError, ConnectOptions, ListenOptions, Listener, parent_port};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_socket, socket};
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::timeout;

use crate::tools::PATIENCE;
use crate::tools::child::{Process, command};
use crate::tools::ledger::alone;
use crate::{cancelled_after, on_runtimes, soon};

on_runtimes! {
    clients_in_tasks_and_in_threads_are_accepted,
    a_client_in_another_process_is_accepted,
    an_accept_that_is_dropped_loses_no_client,
    a_silent_client_is_dropped_in_time,
    silent_clients_delay_no_other_client,
    a_connect_without_a_listener_is_an_error,
    a_connect_without_an_answer_times_out,
    a_listener_can_leave_its_runtime,
}

const PATH: &str = "MESSAGEPORT_TEST_PATH";

/// A socket path that no other test uses.
fn path() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let path: PathBuf = std::env::temp_dir().join(format!("messageport-aio-{}-{number}", std::process::id()));
    path.to_str().expect("a path of text").to_owned()
}

pub(crate) fn connect_and_say_hello() {
    let port = messageport::connect(&std::env::var(PATH).expect("a path"), b"hello").expect("a listener");
    assert_eq!(port.recv().expect("an answer").data, b"welcome");
}

/// A role: accepts a client, for which it has no descriptor for a while. The parent connects after the first message.
pub(crate) fn listen_without_descriptors() {
    let carrier = parent_port().expect("a port");
    crate::current_thread().block_on(async {
        let mut listener = AsyncListener::bind(&path()).expect("the name is free");
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        // The numbers below this are in use, so none is left.
        let free = File::open("/dev/null").expect("a file").as_raw_fd();
        setrlimit(Resource::RLIMIT_NOFILE, free as u64, hard).expect("the limit can be lowered");
        carrier.post_message(listener.path().as_os_str().as_encoded_bytes(), []).expect("room");
        // The accept is woken by the client, and then by the ends of its pauses.
        let accepting = timeout(PATIENCE, cancelled_after(4, listener.accept())).await.expect("no client");
        assert!(accepting.is_none(), "the accept did not wait out the shortage: {accepting:?}");
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("the limit can be raised");
        let client = soon(listener.accept()).await.expect("a client");
        assert_eq!(client.greeting.data, b"patient");
    });
}

#[test]
fn a_listener_waits_for_descriptors() {
    let _alone = alone();
    let (mut process, carrier) = Process::start("listen without descriptors");
    let path = crate::tools::text(&carrier);
    let _port = ConnectOptions::new().timeout(PATIENCE).connect(&path, b"patient").expect("a listener");
    process.succeeded();
}

async fn clients_in_tasks_and_in_threads_are_accepted() {
    let path = path();
    let mut listener = AsyncListener::bind(&path).expect("the name is free");
    assert_eq!(listener.path().to_str(), Some(&*path));
    let mut clients = Vec::new();
    for number in 0..40_u8 {
        let path = path.clone();
        clients.push(tokio::spawn(async move {
            let mut port = if number % 2 == 0 {
                connect(&path, &[number]).await.expect("a listener")
            } else {
                let port = spawn_blocking(move || messageport::connect(&path, &[number]).expect("a listener"));
                AsyncPort::new(port.await.expect("no panic")).expect("a registration")
            };
            assert_eq!(port.recv().await.expect("an answer").data, [number]);
        }));
    }
    for _ in 0..40 {
        let client = soon(listener.accept()).await.expect("a client");
        assert_eq!(client.pid, Some(std::process::id() as i32));
        client.port.post_message(&client.greeting.data, []).expect("room");
    }
    for client in clients {
        soon(client).await.expect("no panic");
    }
    assert_eq!(listener.refused(), 0);
}

async fn a_client_in_another_process_is_accepted() {
    let path = path();
    let mut listener = AsyncListener::bind(&path).expect("the name is free");
    let mut process = Process::run(command("connect").env(PATH, &path));
    let client = soon(listener.accept()).await.expect("a client");
    assert_eq!((&*client.greeting.data, client.pid), (&b"hello"[..], Some(process.id() as i32)));
    client.port.post_message(b"welcome", []).expect("room");
    process.succeeded();
}

async fn an_accept_that_is_dropped_loses_no_client() {
    let path = path();
    let mut listener = AsyncListener::bind(&path).expect("the name is free");
    let clients = {
        let path = path.clone();
        tokio::spawn(async move {
            for number in 0..100_u8 {
                let mut port = connect(&path, &[number]).await.expect("a listener");
                assert_eq!(port.recv().await.expect("an answer").data, [number]);
            }
        })
    };
    for number in 0..100_u8 {
        // Dropped before the first poll, and after it.
        let mut client = cancelled_after(0, listener.accept()).await;
        while client.is_none() {
            client = cancelled_after(1, listener.accept()).await;
            yield_now().await;
        }
        let client = client.expect("the accept has ended").expect("a client");
        assert_eq!(client.greeting.data, [number]);
        client.port.post_message(&[number], []).expect("room");
    }
    soon(clients).await.expect("no panic");
}

/// Connects, and sends no greeting.
fn silent_client(path: &str) -> OwnedFd {
    let client = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    connect_socket(client.as_raw_fd(), &UnixAddr::new(path).expect("a path that fits")).expect("a listener");
    client
}

async fn a_silent_client_is_dropped_in_time() {
    let path = path();
    let options = ListenOptions::new().greeting_timeout(Duration::from_millis(100));
    let mut listener = AsyncListener::new(options.bind(&path).expect("the name is free")).expect("a registration");
    let client = silent_client(&path);
    let accepting = tokio::spawn(async move {
        listener.accept().await.expect("a client");
        listener.refused()
    });
    // The listener hangs up although no other client comes.
    let hung_up = spawn_blocking(move || {
        let mut events = [PollFd::new(client.as_fd(), PollFlags::POLLIN)];
        poll(&mut events, PATIENCE.as_millis() as u16).expect("poll")
    });
    assert_eq!(hung_up.await.expect("no panic"), 1, "the listener did not hang up");
    let _port = soon(connect(&path, b"not silent")).await.expect("a listener");
    assert_eq!(soon(accepting).await.expect("no panic"), 1);
}

async fn silent_clients_delay_no_other_client() {
    let path = path();
    let options = ListenOptions::new().greeting_timeout(5 * PATIENCE);
    let mut listener = AsyncListener::new(options.bind(&path).expect("the name is free")).expect("a registration");
    // One poll of the accept, before any client connects.
    assert!(cancelled_after(1, listener.accept()).await.is_none());
    let silent: Vec<_> = (0..20).map(|_| silent_client(&path)).collect();
    let client = {
        let (options, path) = (ConnectOptions::new().timeout(PATIENCE), path.clone());
        spawn_blocking(move || options.connect(&path, b"not silent").expect("a listener"))
    };
    let incoming = soon(listener.accept()).await.expect("a client");
    assert_eq!(incoming.greeting.data, b"not silent");
    drop((soon(client).await.expect("no panic"), silent));
}

async fn a_connect_without_a_listener_is_an_error() {
    let error = soon(connect(&path(), b"hello")).await.expect_err("no listener");
    assert!(matches!(error, ConnectError::NoListener(_)), "{error:?}");
}

async fn a_connect_without_an_answer_times_out() {
    let path = path();
    let _deaf = Listener::bind(&path).expect("the name is free");
    let options = ConnectOptions::new().timeout(Duration::from_millis(100));
    let start = Instant::now();
    let error = soon(options.connect_async(&path, b"hello")).await.expect_err("no answer");
    assert!(matches!(error, ConnectError::TimedOut), "{error:?}");
    assert!(start.elapsed() < PATIENCE / 2);
}

async fn a_listener_can_leave_its_runtime() {
    let path = path();
    let mut listener = AsyncListener::bind(&path).expect("the name is free");
    assert!(cancelled_after(1, listener.accept()).await.is_none());
    let client = spawn_blocking(move || messageport::connect(&path, b"hello").expect("a listener"));
    let listener = listener.into_listener();
    let incoming = listener.accept_timeout(PATIENCE).expect("a client");
    let client = soon(client).await.expect("no panic");
    crate::tools::assert_entangled(&incoming.port, &client);
}
