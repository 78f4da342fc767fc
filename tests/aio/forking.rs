//! A child that is forked without `exec` inherits ports and listeners of a runtime. It can drop them, and the parent
//! does not notice.
//!
//! The bodies run in processes of their own. The runtime has one thread, the one that forks.

use std::cell::Cell;
use std::time::Duration;

use messageport::aio::{AsyncListener, AsyncPort};
use messageport::connect;
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, alarm, fork};
use tokio::time::{sleep, timeout};

use crate::current_thread;
use crate::tools::child::{Process, command};
use crate::tools::{PATIENCE, pair};

#[test]
fn a_child_drops_a_port_of_a_runtime() {
    Process::run(&mut command("fork with a port")).succeeded();
}

#[test]
fn a_child_drops_a_listener_of_a_runtime() {
    Process::run(&mut command("fork with a listener")).succeeded();
}

/// Forks. The child runs `body` and ends without any other destructor.
fn in_child(body: impl FnOnce()) {
    #[allow(unsafe_code)]
    // SAFETY: this process has one thread.
    match unsafe { fork() }.expect("a fork") {
        ForkResult::Child => {
            alarm::set(20); // it hangs
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: ends the process at once, without destructors.
            unsafe { libc::_exit(result.is_err().into()) }
        }
        ForkResult::Parent { child } => assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0))),
    }
}

/// Waits for something that does not come, so that whatever can be armed is armed.
async fn fruitless<T>(wait: impl Future<Output = T>) {
    assert!(timeout(Duration::from_millis(5), wait).await.is_err());
}

/// Waits. Time does not end the wait, as it would in `timeout`, which polls `wait` once more.
async fn woken<T>(wait: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        () = sleep(PATIENCE) => panic!("the runtime does not watch the descriptor"),
        result = wait => result,
    }
}

pub(crate) fn fork_with_a_port() {
    let runtime = current_thread();
    let (here, mut peer) = pair();
    let port = Cell::new(Some(runtime.block_on(async { AsyncPort::new(here) }).expect("a registration")));
    for number in 0..3_u8 {
        let mut own = port.take().expect("a port");
        runtime.block_on(fruitless(own.recv()));
        port.set(Some(own));
        in_child(|| drop(port.take().expect("a port")));
        // The runtime of the parent still watches the port, which is woken.
        let mut own = port.take().expect("a port");
        let posted;
        (posted, peer) = runtime.block_on(async {
            // Another task, so that the post does not make the runtime poll this one.
            let post = tokio::spawn(async move {
                peer.post_message(&[number], []).expect("room");
                peer
            });
            (woken(own.recv()).await.expect("a message").data, post.await.expect("a peer"))
        });
        assert_eq!(posted, [number]);
        port.set(Some(own));
    }
}

pub(crate) fn fork_with_a_listener() {
    let runtime = current_thread();
    let path = std::env::temp_dir().join(format!("messageport-aio-fork-{}", std::process::id()));
    let name = path.to_str().expect("a path of text").to_owned();
    let listener = Cell::new(Some(runtime.block_on(async { AsyncListener::bind(&name) }).expect("a free name")));
    let mut own = listener.take().expect("a listener");
    runtime.block_on(fruitless(own.accept()));
    listener.set(Some(own));
    in_child(|| drop(listener.take().expect("a listener")));
    let mut own = listener.take().expect("a listener");
    let client = std::thread::spawn(move || connect(&name, b""));
    let accepted = runtime.block_on(woken(own.accept()));
    accepted.expect("a client").port.post_message(b"welcome", []).expect("room");
    assert_eq!(client.join().unwrap().expect("a listener").recv().expect("a message").data, b"welcome");
}
