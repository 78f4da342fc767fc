//! The server's end: receives requests, and answers them in any order, from any thread.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{MARK_LEN, MarkKind, Number, lend, mark, unmark};
use crate::end::interrupt::Interrupter;
use crate::end::shortage::ShortageNaps;
use crate::end::wait::Deadline;
use crate::end::{End, State};
use crate::error::{
    BadTransfer, CloseReason, PostErrorKind, RecvError, RecvTimeoutError, Refusal, TryRecvError,
    is_want_of_descriptors, with_cause,
};
use crate::port::message::Message;
use crate::port::transfer::{TransferRef, Transferable};
use crate::port::{MessagePort, RecvHalf, SendHalf};
use crate::queue::doorbell::{self, FD};
use crate::scratch;

/// An answer that waits for space holds the lock for at most 1 ms at a time, so that other answers can be posted.
const LOCK_SLICE: Duration = Duration::from_millis(1);
/// A wait for requests checks once a second whether a notice of a dropped request is owed.
const NOTICE_CHECK: Duration = Duration::from_secs(1);
/// While a notice is owed and the queue is full, a wait for requests tries to post it every 1 ms.
const NOTICE_RETRY: Duration = Duration::from_millis(1);

/// While 1024 notices of dropped requests are owed, a server receives nothing: a client that reads no notice finds its
/// queue full instead of filling the server's memory.
const MAX_OWED: usize = 1024;

/// The answering end of a pair; the other end is a [`Client`](super::Client).
///
/// [`serve`](Self::serve) answers one request after the other. [`recv`](Self::recv) returns a request with its
/// [`Responder`], which can answer later and from another thread, and [shows](Responder::is_cancelled) whether the call
/// has been cancelled. Dropping the server closes the port: posted answers still arrive, and every other open call of
/// the client fails.
///
/// A client that reads no answers does not get far: once 1024 notices of dropped requests wait for room in the queue, a
/// server receives no further request until there is room. `recv` then waits, and `try_recv` returns `Empty`.
pub struct Server {
    receiver: RecvHalf,
    answers: Arc<Answers>,
}

/// The obligation to answer one request. Dropping it without an answer notifies the client, whose call then fails with
/// [`Dropped`](super::AnswerError::Dropped). The notice is posted at once; if the queue of answers is full, it is
/// posted when there is room and the server receives or answers something, at the latest a second after such a wait
/// began.
#[must_use = "dropping it notifies the client that there is no answer"]
pub struct Responder {
    open: OpenRequest<Arc<Answers>>,
}

/// An answer was not posted: the error gives back the responder, as it was, and the answer `A`, or its transfer list.
pub type RespondError<K, R, A> = Refusal<K, (R, A)>;

/// Why [`Server::serve`] came to an end other than the client's closing.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError<E = PostErrorKind> {
    /// No request can be received: `Ended` if the client is gone without having closed its port.
    Failed(RecvError),
    /// An answer could not be posted, and the client has been notified. `E` is the reason.
    NotAnswered(E),
}

/// The posting side of a server, which its responders share.
pub(crate) struct Answers {
    /// The server's end of the pair, to be read without the lock.
    end: Arc<End>,
    outbox: Mutex<Outbox>,
    /// True while `Outbox::owed` is not empty. A hint that is read without the lock.
    owing: AtomicBool,
}

struct Outbox {
    sender: SendHalf,
    /// Calls whose requests were dropped while the queue was full: their notices are owed.
    owed: Vec<Number>,
}

/// A request that has been received and not answered. Dropping it notifies the client that there is no answer.
pub(crate) struct OpenRequest<A: Deref<Target = Answers>> {
    answers: A,
    number: Number,
    /// The request has been answered.
    over: Cell<bool>,
}

impl Server {
    /// Makes a port the server's end.
    pub fn new(port: MessagePort) -> Self {
        // Not `split`: a half that it returns may be closed while the other posts. This port is closed under the lock.
        let MessagePort { sender, receiver } = port;
        let end = Arc::clone(sender.end());
        let outbox = Mutex::new(Outbox { sender, owed: Vec::new() });
        Self { receiver, answers: Arc::new(Answers { end, outbox, owing: AtomicBool::new(false) }) }
    }

    /// Takes the next request, waiting for it as long as the client lives.
    ///
    /// # Errors
    /// Those of [`MessagePort::recv`]. A message that is not a request is a [`MessageError`](RecvError::MessageError)
    /// with [`NoRequest`](BadTransfer::NoRequest). A request that cannot be received counts as dropped.
    pub fn recv(&self) -> Result<(Message, Responder), RecvError> {
        loop {
            match self.recv_until(Deadline::Never) {
                Ok(request) => return Ok(request),
                Err(RecvTimeoutError::TimedOut) => {}
                Err(RecvTimeoutError::Failed(error)) => return Err(error),
            }
        }
    }

    /// Takes the next request if there is one, without waiting.
    ///
    /// # Errors
    /// [`Empty`](TryRecvError::Empty), and those of [`recv`](Self::recv). It is `Empty` too while so many notices are
    /// owed that nothing is received; what the client reads then makes the descriptor readable. Where other threads
    /// answer meanwhile, poll with a timeout: their waits can take that wake-up.
    pub fn try_recv(&self) -> Result<(Message, Responder), TryRecvError> {
        let mut message = Message::new();
        let number = self.try_next(&mut message)?;
        Ok((message, self.responder(number)))
    }

    /// Takes the next request, waiting for at most `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`](RecvTimeoutError::TimedOut), and those of [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<(Message, Responder), RecvTimeoutError> {
        self.recv_until(Deadline::after(timeout))
    }

    fn recv_until(&self, deadline: Deadline) -> Result<(Message, Responder), RecvTimeoutError> {
        let mut message = Message::new();
        let number = self.next(&mut message, deadline)?;
        Ok((message, self.responder(number)))
    }

    /// Answers every request with the message that `handler` leaves in place of it: its data, and everything that it
    /// carries. Returns when the client has closed its end. A request that cannot be received is dropped, and so is a
    /// request whose `handler` panics. A request for whose descriptors there is no room is tried again, ever more
    /// rarely, until there is room or it is given up; see [`RecvError::ResourceExhausted`].
    ///
    /// # Errors
    /// [`ServeError`]. The server can be used again.
    pub fn serve(&self, mut handler: impl FnMut(&mut Message)) -> Result<(), ServeError> {
        self.serve_with(|message, open| {
            handler(message);
            let mut data = std::mem::take(&mut message.data);
            let mut list = Vec::new();
            let room = list.try_reserve_exact(message.lent().count());
            let posted = room.map_err(PostErrorKind::from).and_then(|()| {
                list.extend(message.lent());
                open.post(&mut data, &list, Deadline::Never)
            });
            drop(list);
            message.data = data;
            message.clear(); // a handle that was detached must not outlive the post
            unless_gone(posted)
        })
    }

    /// The loop of every server: calls `answer` with each request. `answer` posts the answer.
    #[inline]
    pub(crate) fn serve_with<E>(
        &self,
        mut answer: impl FnMut(&mut Message, &OpenRequest<&Answers>) -> Result<(), E>,
    ) -> Result<(), ServeError<E>> {
        let (mut message, mut naps) = (Message::new(), ShortageNaps::NEW);
        loop {
            let number = match self.next(&mut message, Deadline::Never) {
                Ok(number) => number,
                // Room comes, or the request is given up.
                Err(RecvTimeoutError::Failed(RecvError::ResourceExhausted(error)))
                    if is_want_of_descriptors(&error) =>
                {
                    std::thread::sleep(naps.next());
                    continue;
                }
                Err(RecvTimeoutError::TimedOut) => continue,
                Err(RecvTimeoutError::Failed(RecvError::MessageError { .. })) => {
                    naps.reset();
                    continue;
                }
                Err(RecvTimeoutError::Failed(RecvError::Ended(CloseReason::Closed))) => return Ok(()),
                Err(RecvTimeoutError::Failed(error)) => return Err(ServeError::Failed(error)),
            };
            naps.reset();
            let open = OpenRequest { answers: &*self.answers, number, over: Cell::new(false) };
            answer(&mut message, &open).map_err(ServeError::NotAnswered)?;
        }
    }

    /// A handle with which other threads end a wait for a request; see [`Interrupter`]. [`serve`](Self::serve) returns
    /// the error then, and can be called again.
    ///
    /// # Errors
    /// Those of [`MessagePort::interrupter`].
    pub fn interrupter(&self) -> io::Result<Interrupter> {
        self.receiver.interrupter()
    }

    /// Sets how long a blocked call spins before it sleeps; see [`MessagePort::set_spin`].
    pub fn set_spin(&self, budget: Duration) {
        self.receiver.set_spin(budget);
    }

    /// Receives the next request.
    #[inline]
    pub(crate) fn next(&self, message: &mut Message, deadline: Deadline) -> Result<Number, RecvTimeoutError> {
        loop {
            let slice = if self.answers.settle() { NOTICE_CHECK } else { NOTICE_RETRY };
            if slice == NOTICE_RETRY && !self.answers.wait_until_little_is_owed(deadline) {
                return Err(RecvTimeoutError::TimedOut);
            }
            let left = deadline.left();
            match self.receiver.recv_into_timeout(message, left.min(slice)) {
                Ok(()) => return Ok(request(message)?),
                Err(RecvTimeoutError::TimedOut) if left > slice => {}
                Err(RecvTimeoutError::TimedOut) => return Err(RecvTimeoutError::TimedOut),
                Err(RecvTimeoutError::Failed(error)) => return Err(self.notify_of(error).into()),
            }
        }
    }

    pub(crate) fn try_next(&self, message: &mut Message) -> Result<Number, TryRecvError> {
        if !self.answers.settle() && self.must_wait()? {
            return Err(TryRecvError::Empty);
        }
        match self.receiver.try_recv_into(message) {
            Ok(()) => Ok(request(message)?),
            Err(TryRecvError::Empty) => Err(TryRecvError::Empty),
            Err(TryRecvError::Failed(error)) => Err(self.notify_of(error).into()),
        }
    }

    /// True if too much is owed to receive more. The client's next read then makes the descriptor readable, as a
    /// request would.
    #[cold]
    fn must_wait(&self) -> Result<bool, RecvError> {
        if !self.answers.owes_too_much() {
            return Ok(false);
        }
        self.receiver.drain_lane()?;
        doorbell::arm(self.answers.end.outgoing().space_doorbell(), FD);
        // The client may have read before it could see the doorbell, or may be gone.
        Ok(!self.answers.settle() && self.answers.owes_too_much())
    }

    pub(crate) fn responder(&self, number: Number) -> Responder {
        Responder { open: OpenRequest { answers: Arc::clone(&self.answers), number, over: Cell::new(false) } }
    }

    /// Notifies the client of a request that cannot be received. Returns the error.
    #[cold]
    fn notify_of(&self, mut error: RecvError) -> RecvError {
        if let RecvError::MessageError { data, .. } = &mut error
            && let Some((MarkKind::Request, number)) = unmark(data)
        {
            self.answers.drop_request(number);
        }
        error
    }
}

/// The outcome of posting an answer. That the client is gone is not an error here: the next receive returns the reason.
pub(crate) fn unless_gone(posted: Result<(), PostErrorKind>) -> Result<(), PostErrorKind> {
    match posted {
        Err(PostErrorKind::PeerGone(_)) => Ok(()),
        result => result,
    }
}

/// Cuts the mark off a request and returns its number.
#[inline]
fn request(message: &mut Message) -> Result<Number, RecvError> {
    match unmark(&mut message.data) {
        Some((MarkKind::Request, number)) => Ok(number),
        _ => {
            let data = std::mem::take(&mut message.data);
            message.refuse();
            Err(RecvError::MessageError { reason: BadTransfer::NoRequest, data })
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Under the lock, so that no answer is half posted. An answer that waits for space releases it every
        // `LOCK_SLICE`.
        let _outbox = self.answers.end.home().is_here().then(|| self.answers.lock());
        self.receiver.close();
    }
}

impl Responder {
    /// True once the answer is unwanted: the client has abandoned the call, by dropping its
    /// [`PendingCall`](super::PendingCall) or because its time was over, or the client is gone. It stays true. A server
    /// that works long on an answer looks now and then, and drops the responder when it is true.
    ///
    /// The abandonment is visible at once, however many requests are queued. Of the calls of a client that are open at
    /// the same time, the first 512 can be cancelled; of the others only the end of the client is seen. If the call has
    /// not been cancelled, this makes one call of poll(2).
    pub fn is_cancelled(&self) -> bool {
        self.open.is_cancelled()
    }

    /// Posts the answer. Never blocks.
    ///
    /// # Errors
    /// Those of [`MessagePort::post_message`], including [`Full`](PostErrorKind::Full), with the responder and the
    /// transfer list. The number of the call takes 8 bytes of the message.
    pub fn answer(
        self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<(), RespondError<PostErrorKind, Self, Vec<Transferable>>> {
        self.post(data.as_ref(), transfer.into_iter().collect(), Deadline::Now)
    }

    /// Posts the answer and, if the queue is full, waits for space for as long as the client lives.
    ///
    /// # Errors
    /// Those of [`answer`](Self::answer) except `Full`.
    pub fn answer_wait(
        self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<(), RespondError<PostErrorKind, Self, Vec<Transferable>>> {
        self.post(data.as_ref(), transfer.into_iter().collect(), Deadline::Never)
    }

    /// Posts the answer and, if the queue is full, waits for space for at most `timeout`.
    ///
    /// # Errors
    /// Those of [`answer`](Self::answer), with [`TimedOut`](PostErrorKind::TimedOut) instead of `Full`.
    pub fn answer_timeout(
        self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
        timeout: Duration,
    ) -> Result<(), RespondError<PostErrorKind, Self, Vec<Transferable>>> {
        self.post(data.as_ref(), transfer.into_iter().collect(), Deadline::after(timeout))
    }

    /// As [`answer`](Self::answer), with an answer of data alone.
    ///
    /// # Errors
    /// Those of [`answer`](Self::answer).
    pub fn answer_data(
        self,
        data: impl AsRef<[u8]>,
    ) -> Result<(), RespondError<PostErrorKind, Self, Vec<Transferable>>> {
        self.answer(data, [])
    }

    fn post(
        self,
        data: &[u8],
        transfer: Vec<Transferable>,
        deadline: Deadline,
    ) -> Result<(), RespondError<PostErrorKind, Self, Vec<Transferable>>> {
        let mut answer = scratch::take();
        answer.extend_from_slice(data);
        let result = self.open.post(&mut answer, &lend(&transfer), deadline);
        scratch::keep(answer);
        result.map_err(|kind| Refusal::new(kind, (self, transfer)))
    }

    #[cfg(feature = "serde")]
    pub(crate) fn open(&self) -> &OpenRequest<Arc<Answers>> {
        &self.open
    }
}

impl<A: Deref<Target = Answers>> OpenRequest<A> {
    /// Posts the answer. `data` is unchanged afterwards.
    #[inline]
    pub(crate) fn post(
        &self,
        data: &mut Vec<u8>,
        list: &[TransferRef<'_>],
        deadline: Deadline,
    ) -> Result<(), PostErrorKind> {
        let len = data.len();
        let marked = mark(data, MarkKind::Answer, self.number);
        let result = marked.and_then(|()| self.answers.post(data, list, deadline));
        data.truncate(len);
        if result.is_ok() {
            self.over.set(true);
        }
        result
    }

    /// True once nobody wants the answer.
    fn is_cancelled(&self) -> bool {
        let end = &self.answers.end;
        self.number.is_cancelled(end.segment())
            || end.state() != State::Open
            || end.peer_has_closed()
            || end.lane().hung_up()
    }

    /// The server's end of the pair, which a typed post checks its list against.
    #[cfg(feature = "serde")]
    pub(crate) fn end(&self) -> &Arc<End> {
        &self.answers.end
    }
}

impl<A: Deref<Target = Answers>> Drop for OpenRequest<A> {
    fn drop(&mut self) {
        if !self.over.get() {
            self.answers.drop_request(self.number);
        }
    }
}

impl Answers {
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Outbox> {
        // A panic cannot leave the state half changed, and no code of the user runs under the lock: poison is ignored.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn post(&self, data: &[u8], list: &[TransferRef<'_>], deadline: Deadline) -> Result<(), PostErrorKind> {
        // In a forked child a thread that does not exist there may hold the lock.
        if !self.end.home().is_here() {
            return Err(PostErrorKind::Forked);
        }
        self.settle();
        let result = self.lock().sender.post(data, list);
        match (result, deadline) {
            (Err(PostErrorKind::Full(_)), Deadline::At(_) | Deadline::Never) => {
                self.post_when_there_is_room(data, list, deadline)
            }
            (result, _) => result,
        }
    }

    #[cold]
    fn post_when_there_is_room(
        &self,
        data: &[u8],
        list: &[TransferRef<'_>],
        deadline: Deadline,
    ) -> Result<(), PostErrorKind> {
        loop {
            let slice = Instant::now() + LOCK_SLICE;
            let until = deadline.instant().map_or(slice, |deadline| deadline.min(slice));
            match self.lock().sender.post_by(data, list, Deadline::At(until)) {
                Err(PostErrorKind::TimedOut) if !deadline.is_over() => {}
                result => return result,
            }
            self.settle();
        }
    }

    /// Notifies the client that there is no answer, at once or when there is room.
    fn drop_request(&self, number: Number) {
        if self.end.home().is_here() {
            self.lock().owed.push(number);
            // Relaxed: a hint for `settle`; the lock orders `owed` itself.
            self.owing.store(true, Ordering::Relaxed);
            self.settle();
        }
    }

    /// Posts the notices that are owed. False if the queue has no room for all of them.
    #[inline]
    fn settle(&self) -> bool {
        // Relaxed: a hint. A thread that reads an old value reads again at the next post or receive, and both store
        // under the lock.
        !self.owing.load(Ordering::Relaxed) || self.post_notices()
    }

    #[cold]
    fn post_notices(&self) -> bool {
        if !self.end.home().is_here() {
            return true;
        }
        let mut outbox = self.lock();
        while !outbox.owed.is_empty() {
            if !outbox.post_notice(Deadline::Now) {
                return false;
            }
        }
        // Relaxed: a hint for `settle`, stored under the lock.
        self.owing.store(false, Ordering::Relaxed);
        true
    }

    fn owes_too_much(&self) -> bool {
        self.lock().owed.len() >= MAX_OWED
    }

    /// Waits for room as a post does, while too much is owed to receive more. False if the deadline is over first.
    #[cold]
    fn wait_until_little_is_owed(&self, deadline: Deadline) -> bool {
        loop {
            let mut outbox = self.lock();
            if outbox.owed.len() < MAX_OWED {
                return true;
            }
            let slice = Instant::now() + LOCK_SLICE;
            let until = deadline.instant().map_or(slice, |deadline| deadline.min(slice));
            if !outbox.post_notice(Deadline::At(until)) {
                drop(outbox);
                if deadline.is_over() {
                    return false;
                }
                // A post that is short of memory fails at once.
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
            }
        }
    }
}

impl Outbox {
    /// Posts the last notice that is owed, waiting for room until `deadline`. False if there is none.
    fn post_notice(&mut self, deadline: Deadline) -> bool {
        let Some(number) = self.owed.last() else { return true };
        let mut notice = Vec::with_capacity(MARK_LEN);
        let marked = mark(&mut notice, MarkKind::Dropped, *number);
        let posted = marked.and_then(|()| match deadline {
            Deadline::Now => self.sender.post(&notice, &[]),
            deadline => self.sender.post_by(&notice, &[], deadline),
        });
        let waits = matches!(
            posted,
            Err(PostErrorKind::Full(_) | PostErrorKind::TimedOut | PostErrorKind::ResourceExhausted(_))
        );
        if !waits {
            self.owed.pop(); // posted, or the client is gone
        }
        !waits
    }
}

/// The descriptor to wait on for requests; see [`MessagePort`'s](MessagePort#impl-AsFd-for-MessagePort).
impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

impl<E: std::error::Error> fmt::Display for ServeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::NotAnswered(error) => with_cause(f, &"a request could not be answered", error),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for ServeError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => error.source(),
            Self::NotAnswered(error) => Some(error),
        }
    }
}

impl<E: Into<io::Error>> From<ServeError<E>> for io::Error {
    fn from(error: ServeError<E>) -> Self {
        match error {
            ServeError::Failed(error) => error.into(),
            ServeError::NotAnswered(error) => error.into(),
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.receiver).finish()
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("number", &self.open.number.0).finish_non_exhaustive()
    }
}
