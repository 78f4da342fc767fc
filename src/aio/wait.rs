//! How a half of a port waits in a task.
//!
//! Both halves watch the lane by one registration, whose waker stands for both: every packet and the end of the peer are
//! an edge, and an edge wakes whichever half waits. Each half then does the sleeper's sequence of `doorbell.rs` with
//! "register" in the place of "sleep": leave the task, take note of the last edge, read the lane, arm the doorbell, look.
//! So it does not matter who of the two sees an edge or reads a packet first. What came before the look is found by it,
//! and what comes after it makes another edge, unless the other half has read the packet meanwhile: then that one wakes
//! the task (`task.rs`).
#![forbid(unsafe_code)]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep};

use crate::end::End;
use crate::end::lane::Doorbell;
use crate::queue::doorbell::{self, AWAKE, FD};
use crate::queue::sync::Ordering;
use crate::sys::readiness::{Edge, OneDescriptor, Readiness};

/// So many wake-ups for nothing are believed. An honest peer wakes a receiver for nothing only where an earlier holder
/// of the port had asked for it, or where the port's sender has.
const BELIEVED_RECEIVING: u32 = 8;
/// Each message that is read wakes a sender, though it may need the space of many.
const BELIEVED_SENDING: u32 = 64;
/// After another one the half is deaf for this time, doubled up to three times.
const NAP: Duration = Duration::from_millis(1);
/// Most edges that are taken note of at a time; a hostile peer can make them as fast as we do.
const EDGES: u32 = 8;

pub(super) type Timer = Pin<Box<Sleep>>;

impl OneDescriptor for End {}

/// A lane and the runtime that watches it.
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
        self.0.tasks().wake(Doorbell::Data);
        self.0.tasks().wake(Doorbell::Space);
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
    // Whoever polls the task need not be in the runtime.
    let _within = runtime.enter();
    Box::pin(sleep(time))
}

/// # Panics
/// If the runtime has no time driver: sooner than when a timer is needed, which is seldom.
pub(super) fn current_runtime() -> io::Result<Handle> {
    let runtime = Handle::try_current().map_err(io::Error::other)?;
    drop(sleep(Duration::ZERO));
    Ok(runtime)
}

/// The wait of one half.
pub(super) struct Wait {
    registration: Arc<Registration>,
    /// The half, by the doorbell on which it sleeps.
    half: Doorbell,
    /// It has armed the doorbell, and got nowhere since.
    armed: bool,
    /// Wake-ups since then.
    fruitless: u32,
    /// The last of them is one too many.
    tired: bool,
    nap: Option<Timer>,
}

impl Wait {
    pub(super) fn new(registration: Arc<Registration>, half: Doorbell) -> Self {
        Self { registration, half, armed: false, fruitless: 0, tired: false, nap: None }
    }

    pub(super) fn registration(&self) -> &Arc<Registration> {
        &self.registration
    }

    /// What was waited for is there.
    #[inline]
    pub(super) fn over(&mut self) {
        if self.armed {
            self.armed = false;
            self.fruitless = 0;
            self.tired = false;
            self.nap = None;
            self.registration.end().tasks().forget(self.half);
        }
    }

    /// Everything up to the last look: if that finds nothing, call [`sleep`](Self::sleep). What the port's receiving
    /// half reads next is record `sequence`, or a later one.
    ///
    /// `Pending`: not worth a look; the task will be woken.
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
            // Whoever closes or dies has committed before.
            end.note_peer_gone();
            return Poll::Ready(Ok(()));
        }
        if let Err(violation) = end.drain_lane(sequence, self.half) {
            end.violated(violation);
            return Poll::Ready(Ok(()));
        }
        let doorbell = match self.half {
            Doorbell::Data => end.incoming().data(),
            Doorbell::Space => end.outgoing().space(),
        };
        let mut fruitless = end.tasks().take_unasked(self.half);
        if doorbell.load(Ordering::SeqCst) == AWAKE {
            // If it was armed the peer has rung it, for nothing.
            fruitless += u32::from(self.armed);
            end.tasks().ask(self.half);
        }
        self.fruitless = self.fruitless.saturating_add(fruitless);
        self.tired = fruitless > 0 && self.fruitless > self.believed();
        self.armed = true;
        doorbell::arm(doorbell, FD);
        Poll::Ready(Ok(()))
    }

    fn take_edges(&self, context: &Context<'_>) -> io::Result<Edge> {
        // Of all that come here tokio keeps the last waker only, and so it is always the same one.
        let mut both = Context::from_waker(&self.registration.waker);
        for _ in 0..EDGES {
            match self.registration.lane.poll(&mut both) {
                Poll::Pending => return Ok(Edge::Readable),
                Poll::Ready(Ok(Edge::Readable)) => {}
                Poll::Ready(closed_or_failed) => return closed_or_failed,
            }
        }
        context.waker().wake_by_ref();
        Ok(Edge::Readable)
    }

    fn believed(&self) -> u32 {
        match self.half {
            Doorbell::Data => BELIEVED_RECEIVING,
            Doorbell::Space => BELIEVED_SENDING,
        }
    }

    /// There is nothing: the task sleeps until it is woken. One that was woken for nothing too often is deaf for a while.
    pub(super) fn sleep(&mut self, context: &mut Context<'_>) {
        if self.tired {
            self.tired = false;
            self.registration.end().tasks().forget(self.half);
            let time = NAP * (1 << (self.fruitless - self.believed()).min(3));
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
