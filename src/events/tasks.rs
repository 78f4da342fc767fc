//! `LoopHandle`: what other threads can tell an event loop.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::EventLoop;
use crate::sys::Errno;
use crate::sys::epoll::WakeUp;

/// A closure for the loop's thread.
pub(crate) type Task = Box<dyn FnOnce(&EventLoop) + Send>;

/// What the loop and its handles share.
pub(crate) struct Shared {
    wake_up: WakeUp,
    /// There are tasks, or `stop` was called, or the last handle is gone; told since the loop last looked.
    news: AtomicBool,
    stop: AtomicBool,
    /// `None` once the loop has been dropped.
    tasks: Mutex<Option<VecDeque<Task>>>,
    handles: AtomicUsize,
}

impl Shared {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self {
            wake_up: WakeUp::new()?,
            news: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            tasks: Mutex::new(Some(VecDeque::new())),
            handles: AtomicUsize::new(0),
        })
    }

    fn tasks(&self) -> MutexGuard<'_, Option<VecDeque<Task>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the loop's sleep.
    pub(crate) fn ring(&self) {
        self.wake_up.ring();
    }

    pub(crate) fn tell(&self) {
        // AcqRel, with the swap in `take_news`: the loop sees what is told. Only the first of many rings.
        if !self.news.swap(true, Ordering::AcqRel) {
            self.ring();
        }
    }

    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.news.load(Ordering::Acquire)
    }

    /// The number of tasks, if anything was told since the last time.
    pub(crate) fn take_news(&self) -> usize {
        if !self.has_news() || !self.news.swap(false, Ordering::AcqRel) {
            return 0;
        }
        self.tasks().as_ref().map_or(0, VecDeque::len)
    }

    pub(crate) fn next_task(&self) -> Option<Task> {
        self.tasks().as_mut()?.pop_front()
    }

    pub(crate) fn stop(&self) {
        // Release, with `take_stop`.
        self.stop.store(true, Ordering::Release);
        self.tell();
    }

    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn take_stop(&self) -> bool {
        self.is_stopping() && self.stop.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn has_handles(&self) -> bool {
        self.handles.load(Ordering::Acquire) > 0
    }

    /// No more tasks are taken; those that wait are returned.
    pub(crate) fn end(&self) -> VecDeque<Task> {
        self.tasks().take().unwrap_or_default()
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake_up.as_fd()
    }
}

/// Speaks to an [`EventLoop`] from any thread.
///
/// As long as there is one, [`run`](EventLoop::run) goes on, since a task may come.
pub struct LoopHandle {
    shared: Arc<Shared>,
}

impl LoopHandle {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.handles.fetch_add(1, Ordering::AcqRel);
        Self { shared: Arc::clone(shared) }
    }

    /// Makes the loop's present [`run`](EventLoop::run) return, or if it does not run, its next one. A batch that is being
    /// dispatched ends with the present message; the rest waits.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Calls `task` on the loop's thread: the standard's
    /// [`postTask`](https://wicg.github.io/scheduling-apis/#dom-scheduler-posttask). Tasks of one thread are called in
    /// order.
    ///
    /// # Errors
    /// The loop has been dropped; the task is in the error. A task that the loop had not called when it was dropped is
    /// dropped with it.
    pub fn post_task<F: FnOnce(&EventLoop) + Send + 'static>(&self, task: F) -> Result<(), LoopGone<F>> {
        match self.shared.tasks().as_mut() {
            Some(tasks) => tasks.push_back(Box::new(task)),
            None => return Err(LoopGone(task)),
        }
        self.shared.tell();
        Ok(())
    }
}

impl Clone for LoopHandle {
    fn clone(&self) -> Self {
        Self::new(&self.shared)
    }
}

impl Drop for LoopHandle {
    fn drop(&mut self) {
        if self.shared.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.tell(); // it may be what kept the loop running
        }
    }
}

impl fmt::Debug for LoopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopHandle").finish_non_exhaustive()
    }
}

/// [`LoopHandle::post_task`] failed: the loop has been dropped.
pub struct LoopGone<F>(
    /// The task, which was not called.
    pub F,
);

impl<F> fmt::Debug for LoopGone<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopGone").finish_non_exhaustive()
    }
}

impl<F> fmt::Display for LoopGone<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event loop has been dropped")
    }
}

impl<F> std::error::Error for LoopGone<F> {}

/// The task is dropped.
impl<F> From<LoopGone<F>> for io::Error {
    fn from(_: LoopGone<F>) -> Self {
        Self::new(io::ErrorKind::BrokenPipe, LoopGone(()))
    }
}
