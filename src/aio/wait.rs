//! How a half of a port waits in a task.
//!
//! The two halves share one registration of the lane and its waker. Every packet and the peer's end make an edge, and
//! an edge wakes each half that waits. A half then runs the sleeper's sequence of `doorbell.rs`, with "leave the waker"
//! in place of "sleep": leave the waker, consume the edges, read the lane, arm the doorbell, poll the ring. It does not
//! matter which half sees an edge or reads a packet first. The poll finds what was committed before it. A later commit
//! makes another edge, unless the other half has read its packet meanwhile, and then that half wakes the task
//! (`end/task.rs`).
#![forbid(unsafe_code)]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep};

use crate::end::End;
use crate::end::lane::Half;
use crate::end::spurious::SpuriousWakes;
use crate::error::{CloseReason, RecvError};
use crate::queue::doorbell::{self, AWAKE, FD};
use crate::queue::sync::Ordering;
use crate::sys::fork::Home;
use crate::sys::readiness::{Edge, OneDescriptor, Readiness};

/// A half consumes at most 8 edges at a time: a hostile peer can make them as fast as they are consumed.
const MAX_EDGES: u32 = 8;

/// A timer of a runtime. In a forked child, where a thread that does not exist may hold the lock of the runtime's
/// timers, it is forgotten instead of dropped.
pub(super) struct Timer {
    /// `None` only once this is being dropped.
    sleep: Option<Pin<Box<Sleep>>>,
    home: Option<Home>,
}

impl Timer {
    pub(super) fn as_mut(&mut self) -> Pin<&mut Sleep> {
        self.sleep.as_mut().expect("taken by `drop` only").as_mut()
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if self.home.is_some_and(|home| !home.is_here()) {
            std::mem::forget(self.sleep.take());
        }
    }
}

impl OneDescriptor for End {}

/// A lane, registered with a runtime.
pub(super) struct Registration {
    lane: Readiness<Arc<End>>,
    /// Wakes both halves.
    waker: Waker,
    runtime: Handle,
}

struct BothHalves(Arc<End>);

impl Wake for BothHalves {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.tasks().wake(Half::Receiver);
        self.0.tasks().wake(Half::Sender);
    }
}

impl Registration {
    /// # Panics
    /// Without an I/O or a time driver.
    pub(super) fn new(end: &Arc<End>) -> io::Result<Arc<Self>> {
        let runtime = current_runtime()?;
        let waker = Waker::from(Arc::new(BothHalves(Arc::clone(end))));
        let lane = Readiness::new(Arc::clone(end)).map_err(|(_end, error)| error)?;
        Ok(Arc::new(Self { lane, waker, runtime }))
    }

    pub(super) fn end(&self) -> &Arc<End> {
        self.lane.get_ref()
    }

    pub(super) fn timer(&self, time: Duration) -> Timer {
        timer(&self.runtime, time)
    }
}

pub(super) fn timer(runtime: &Handle, time: Duration) -> Timer {
    // The task may be polled outside of the runtime.
    let _within = runtime.enter();
    Timer { sleep: Some(Box::pin(sleep(time))), home: Home::here().ok() }
}

/// # Panics
/// If the runtime has no time driver. A timer is seldom needed, so this is checked at once.
pub(super) fn current_runtime() -> io::Result<Handle> {
    let runtime = Handle::try_current().map_err(io::Error::other)?;
    drop(sleep(Duration::ZERO));
    Ok(runtime)
}

/// The wait of one half.
pub(super) struct Wait {
    registration: Arc<Registration>,
    /// The half, named by the doorbell on which it sleeps.
    half: Half,
    /// The half has armed the doorbell, and its wait is not over.
    armed: bool,
    /// The spurious wake-ups of this wait.
    spurious: SpuriousWakes,
    /// The time for which the half must nap before it sleeps.
    due_nap: Option<Duration>,
    nap: Option<Timer>,
}

impl Wait {
    pub(super) fn new(registration: Arc<Registration>, half: Half) -> Self {
        let spurious = match half {
            Half::Receiver => SpuriousWakes::CONSUMER_TASK,
            Half::Sender => SpuriousWakes::PRODUCER,
        };
        Self { registration, half, armed: false, spurious, due_nap: None, nap: None }
    }

    pub(super) fn registration(&self) -> &Arc<Registration> {
        &self.registration
    }

    /// Ends the wait.
    #[inline]
    pub(super) fn over(&mut self) {
        if self.armed {
            self.armed = false;
            self.spurious.reset();
            self.due_nap = None;
            self.nap = None;
            // In a forked child a thread that does not exist there may hold the lock of the waker.
            let end = self.registration.end();
            if end.home().is_here() {
                end.tasks().forget(self.half);
            }
        }
    }

    /// Does everything that precedes the last poll of the ring. If that poll finds nothing, the caller calls
    /// [`sleep`](Self::sleep). `sequence` is the record that the receiving half reads next, or an earlier one.
    ///
    /// `Pending`: the half naps, and the task will be woken.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub(super) fn poll_arm(&mut self, context: &mut Context<'_>, sequence: u64) -> Poll<io::Result<()>> {
        if let Some(nap) = &mut self.nap {
            ready!(nap.as_mut().poll(context));
            self.nap = None;
        }
        let end = self.registration.end();
        end.tasks().leave(self.half, context.waker());
        if self.take_edges(context)? == Edge::Closed {
            // The peer has committed everything before it closed or died.
            end.note_peer_gone();
            return Poll::Ready(Ok(()));
        }
        if let Err(violation) = end.drain_lane(sequence, self.half) {
            end.violated(violation);
            return Poll::Ready(Ok(()));
        }
        let doorbell = match self.half {
            Half::Receiver => end.incoming().data_doorbell(),
            Half::Sender => end.outgoing().space_doorbell(),
        };
        let mut fruitless = end.tasks().take_excess(self.half);
        // SeqCst: in one order with the swaps of `doorbell::arm` and of the peer in `doorbell::ring`. Only the count of
        // spurious wake-ups depends on the value.
        if doorbell.load(Ordering::SeqCst) == AWAKE {
            // If the half had armed the doorbell, the peer has rung it, and without need.
            fruitless = fruitless.saturating_add(self.armed.into());
            end.tasks().allow(self.half);
        }
        self.due_nap = self.spurious.add(fruitless);
        self.armed = true;
        doorbell::arm(doorbell, FD);
        Poll::Ready(Ok(()))
    }

    /// Waits for the end of the peer, and returns the reason. Arms no doorbell: only the end, or a packet that some
    /// other wait has asked for, makes an edge.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Result<CloseReason, RecvError>> {
        let end = self.registration.end();
        if let Some(reason) = end.peer_state()? {
            return Poll::Ready(Ok(reason));
        }
        end.tasks().leave(self.half, context.waker());
        self.take_edges(context).map_err(RecvError::ResourceExhausted)?;
        // An end that came before the edges were taken is found here; a later one makes an edge.
        let state = end.peer_state();
        if !matches!(state, Ok(None)) {
            end.tasks().forget(self.half);
        }
        match state? {
            Some(reason) => Poll::Ready(Ok(reason)),
            None => Poll::Pending,
        }
    }

    fn take_edges(&self, context: &Context<'_>) -> io::Result<Edge> {
        // tokio keeps only the last waker that it is polled with, so both halves poll with the same one.
        let mut both = Context::from_waker(&self.registration.waker);
        for _ in 0..MAX_EDGES {
            match self.registration.lane.poll(&mut both) {
                Poll::Pending => return Ok(Edge::Readable),
                Poll::Ready(Ok(Edge::Readable)) => {}
                Poll::Ready(closed_or_failed) => return closed_or_failed,
            }
        }
        context.waker().wake_by_ref();
        Ok(Edge::Readable)
    }

    /// Lets the task sleep until it is woken. After too many spurious wake-ups it naps first, and nothing wakes it.
    pub(super) fn sleep(&mut self, context: &mut Context<'_>) {
        if let Some(time) = self.due_nap.take() {
            self.registration.end().tasks().forget(self.half);
            let nap = self.nap.insert(self.registration.timer(time));
            if nap.as_mut().poll(context).is_ready() {
                context.waker().wake_by_ref();
            }
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.over();
    }
}
