//! Ports in tasks, on a runtime of one thread and on a runtime of several.

mod cancelling;
mod crowd;
mod figures;
mod forking;
mod hostile;
mod meeting;
mod processes;
mod receiving;
mod streams;
#[path = "../tools/mod.rs"]
mod tools;
mod waiting;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use messageport::MessagePort;
use messageport::aio::AsyncPort;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use tools::PATIENCE;
use tools::child::{Role, echo, hold};
use tools::ledger::{Ledger, alone};

const ROLES: &[Role] = &[
    ("hold", hold),
    ("post and hold", processes::post_and_hold),
    ("echo", echo),
    ("read slowly", processes::read_slowly),
    ("fork with a port", forking::fork_with_a_port),
    ("fork with a listener", forking::fork_with_a_listener),
    ("connect", meeting::connect_and_say_hello),
    ("listen without descriptors", meeting::listen_without_descriptors),
];

/// Turns each named body into two tests, one for each kind of runtime.
macro_rules! on_runtimes {
    ($($body:ident),* $(,)?) => {
        mod one_thread {
            $(#[test]
            fn $body() {
                $crate::check($crate::current_thread, super::$body());
            })*
        }
        mod several_threads {
            $(#[test]
            fn $body() {
                $crate::check($crate::multi_thread, super::$body());
            })*
        }
    };
}
pub(crate) use on_runtimes;

pub(crate) fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

pub(crate) fn multi_thread() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Runs a test body as a task, which may move between the threads of the runtime. The body must not hang, and must
/// leave nothing behind.
#[track_caller]
pub(crate) fn check(runtime: fn() -> Runtime, body: impl Future<Output = ()> + Send + 'static) {
    let _alone = alone();
    drop((tools::pair(), runtime())); // makes what is made once for the whole process
    let before = Ledger::now();
    let runtime = runtime();
    let result = runtime.block_on(async { timeout(3 * PATIENCE, tokio::spawn(body)).await });
    drop(runtime);
    result.expect("the test hangs").expect("the test fails");
    before.assert_restored("after the test");
}

/// A pair for tasks.
pub(crate) fn async_pair() -> (AsyncPort, AsyncPort) {
    let (a, b) = tools::pair();
    (AsyncPort::new(a).expect("a registration"), AsyncPort::new(b).expect("a registration"))
}

/// A pair with the smallest queues, one end of it for tasks.
pub(crate) fn small_pair() -> (AsyncPort, MessagePort) {
    let (a, b) = tools::pair_of(4096);
    (AsyncPort::new(a).expect("a registration"), b)
}

/// Posts until the queue is full. Returns the number of messages.
pub(crate) fn fill(port: &mut AsyncPort) -> usize {
    tools::fill_by(|data| port.post_message(data, []))
}

/// Polls the future at most `polls` times, each time that it is woken, and then drops it.
pub(crate) async fn cancelled_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The result of a future that must be ready within `PATIENCE`.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("not woken")
}
