//! `LoopHandle`: how other threads stop an event loop and post tasks to it.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::EventLoop;
use crate::error::Refusal;
use crate::sys::Errno;
use crate::sys::epoll::WakeUp;
use crate::sys::fork::Home;

/// A closure for the loop's thread.
pub(crate) type Task = Box<dyn FnOnce(&EventLoop) + Send>;

/// The inbox of a loop, which its handles share.
pub(crate) struct Inbox {
    wake_up: WakeUp,
    /// Set when a task was posted, `stop` was called or the last handle was dropped, until the loop takes notice.
    news: AtomicBool,
    stop: AtomicBool,
    /// `None` after the loop has been dropped.
    tasks: Mutex<Option<VecDeque<Task>>>,
    /// Number of handles.
    handles: AtomicUsize,
    /// The process of the loop. In a forked child a thread that does not exist there may hold the lock of the tasks,
    /// and the descriptor is the parent's.
    home: Home,
}

impl Inbox {
    pub(crate) fn new() -> Result<Self, Errno> {
        Ok(Self {
            wake_up: WakeUp::new()?,
            news: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            tasks: Mutex::new(Some(VecDeque::new())),
            handles: AtomicUsize::new(0),
            home: Home::here()?,
        })
    }

    /// The tasks that wait. `None` in a forked child.
    fn tasks(&self) -> Option<MutexGuard<'_, Option<VecDeque<Task>>>> {
        self.home.is_here().then(|| self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the loop's sleep.
    pub(crate) fn ring(&self) {
        if self.home.is_here() {
            self.wake_up.ring();
        }
    }

    /// Makes the loop take notice of a change, and ends its sleep. Of several calls before it does, only the first
    /// rings.
    pub(crate) fn notify(&self) {
        // AcqRel: pairs with the swap in `take_news`. The loop that clears the flag sees the change made before this
        // store, and a thread that finds the flag set leaves the ringing to the thread that set it.
        if !self.news.swap(true, Ordering::AcqRel) {
            self.ring();
        }
    }

    /// True if the loop has something to take notice of.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        // Acquire: pairs with the swap in `notify`, so that the caller sees the change made before it.
        self.news.load(Ordering::Acquire)
    }

    /// Clears the flag, and returns the number of tasks if it was set.
    pub(crate) fn take_news(&self) -> usize {
        // AcqRel: pairs with the swap in `notify`. A change that is made after this one sets the flag again.
        if !self.has_news() || !self.news.swap(false, Ordering::AcqRel) {
            return 0;
        }
        self.tasks().map_or(0, |tasks| tasks.as_ref().map_or(0, VecDeque::len))
    }

    pub(crate) fn next_task(&self) -> Option<Task> {
        self.tasks()?.as_mut()?.pop_front()
    }

    pub(crate) fn stop(&self) {
        // Release: pairs with the swap in `take_stop`, so that the caller of `run` sees what was done before `stop`.
        self.stop.store(true, Ordering::Release);
        self.notify();
    }

    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        // Relaxed: a hint to end the batch. `take_stop` decides, and synchronizes.
        self.stop.load(Ordering::Relaxed)
    }

    /// True once for each stop.
    pub(crate) fn take_stop(&self) -> bool {
        // AcqRel: pairs with the store in `stop`; see there.
        self.is_stopping() && self.stop.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn has_handles(&self) -> bool {
        // Acquire: pairs with the release of the `fetch_sub` in `LoopHandle::drop`. A load of 0 is followed by loads
        // that see every task that a handle has posted, so the loop does not end while tasks wait.
        self.handles.load(Ordering::Acquire) > 0
    }

    /// Closes the inbox, and returns the tasks that wait.
    pub(crate) fn close(&self) -> VecDeque<Task> {
        self.tasks().and_then(|mut tasks| tasks.take()).unwrap_or_default()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        if !self.home.is_here() {
            // A caller in C may free a handle that another thread of the parent was using: the list may be half
            // changed.
            std::mem::forget(self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake_up.as_fd()
    }
}

/// A handle for other threads to an [`EventLoop`].
///
/// While a handle exists, [`run`](EventLoop::run) does not end for want of work, since a task may still come.
pub struct LoopHandle {
    inbox: Arc<Inbox>,
}

impl LoopHandle {
    pub(crate) fn new(inbox: &Arc<Inbox>) -> Self {
        // AcqRel: with the `fetch_sub` in `drop` it forms the release sequence that `has_handles` acquires.
        inbox.handles.fetch_add(1, Ordering::AcqRel);
        Self { inbox: Arc::clone(inbox) }
    }

    /// Makes the loop's present [`run`](EventLoop::run) return or, if the loop is not running, its next one. The batch
    /// that is being dispatched ends with the present message, and the rest stays queued. Does nothing in a child that
    /// inherited the handle by `fork`.
    pub fn stop(&self) {
        self.inbox.stop();
    }

    /// True in a child that inherited the handle by `fork`, where the loop is the parent's.
    pub fn is_inherited(&self) -> bool {
        !self.inbox.home.is_here()
    }

    /// Calls `task` on the loop's thread: the standard's
    /// [`postTask`](https://wicg.github.io/scheduling-apis/#dom-scheduler-posttask). The tasks of one thread are called
    /// in the order in which it posted them. A loop that is dropped drops the tasks that it has not called.
    ///
    /// # Errors
    /// The loop has been dropped, or this process [inherited](Self::is_inherited) the handle; the task is in the error.
    pub fn post_task<F: FnOnce(&EventLoop) + Send + 'static>(&self, task: F) -> Result<(), Refusal<LoopGone, F>> {
        match self.inbox.tasks().as_deref_mut() {
            Some(Some(tasks)) => tasks.push_back(Box::new(task)),
            _ => return Err(Refusal::new(LoopGone, task)),
        }
        self.inbox.notify();
        Ok(())
    }
}

impl Clone for LoopHandle {
    fn clone(&self) -> Self {
        Self::new(&self.inbox)
    }
}

impl Drop for LoopHandle {
    fn drop(&mut self) {
        // AcqRel: pairs with the load in `has_handles`; see there.
        if self.inbox.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.inbox.notify(); // the loop may have nothing else to wait for
        }
    }
}

impl fmt::Debug for LoopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopHandle").finish_non_exhaustive()
    }
}

/// The event loop of a [`LoopHandle`] has been dropped, or belongs to the parent of this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LoopGone;

impl fmt::Display for LoopGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event loop has been dropped, or belongs to the parent process")
    }
}

impl std::error::Error for LoopGone {}

impl From<LoopGone> for io::Error {
    fn from(error: LoopGone) -> Self {
        Self::new(io::ErrorKind::BrokenPipe, error)
    }
}
