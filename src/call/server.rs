//! The server's end: receives requests, and answers them in any order, from any thread.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Kind, Number, list_of, mark, unmark};
use crate::end::End;
use crate::end::wait::Deadline;
use crate::error::{BadTransfer, CloseReason, PostErrorKind, RecvError, RecvTimeoutError, TryRecvError, with_cause};
use crate::port::message::Message;
use crate::port::transfer::{PostError, TransferRef, Transferable};
use crate::port::{MessagePort, RecvHalf, SendHalf};
use crate::scratch;

/// How long one answer that waits for space keeps the others from being tried.
const TURN: Duration = Duration::from_millis(1);
/// How long a wait for requests lasts before it is seen whether a client must still be told of a dropped request ...
const SLICE: Duration = Duration::from_secs(1);
/// ... and if so, before that is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// The answering end of a pair; the other end is a [`Client`](super::Client).
///
/// [`serve`](Self::serve) answers one request after the other. [`recv`](Self::recv) returns a request with its
/// [`Responder`], which can answer later, and from another thread. Dropping the server closes the port: what has been
/// answered arrives, and every open call at the client ends.
pub struct Server {
    receiver: RecvHalf,
    answers: Arc<Answers>,
}

/// The duty to answer one request. Dropped without an answer it tells the client so, whose call fails with
/// [`Dropped`](super::AnswerError::Dropped): at once, or if the queue of answers is full as soon as there is room
/// and the server receives or answers something, at the latest a second after it began to wait for that.
#[must_use = "dropping it tells the client that there is no answer"]
pub struct Responder {
    open: Open<Arc<Answers>>,
}

/// An answer was not posted: why, and what can answer instead. `R` is the responder, `E` has the answer.
pub struct NotAnswered<R, E> {
    /// Why, and the answer back.
    pub error: E,
    /// The responder, as it was.
    pub responder: R,
}

/// Why [`Server::serve`] came to an end other than the client's closing.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError<E = PostErrorKind> {
    /// No request can be received. `Ended` if the client is gone without having closed its port.
    Failed(RecvError),
    /// An answer could not be posted, and the client has been notified. `E` is the reason.
    NotAnswered(E),
}

/// What posts the answers.
pub(crate) struct Answers {
    /// The server's end of the pair, to be looked at without the lock.
    end: Arc<End>,
    posting: Mutex<Posting>,
    /// `Posting::owed` is not empty. A hint, to be seen without the lock.
    owing: AtomicBool,
}

struct Posting {
    sender: SendHalf,
    /// Calls whose requests were dropped while the queue was full.
    owed: Vec<Number>,
}

/// A request that must be answered, or the client be told that it will not.
pub(crate) struct Open<A: Deref<Target = Answers>> {
    answers: A,
    number: Number,
    over: Cell<bool>,
}

impl Server {
    /// Makes a port the server's end.
    pub fn new(port: MessagePort) -> Self {
        // Not `split`, whose halves may be closed in the middle of a post: this one is closed under the lock of posts.
        let MessagePort { sender, receiver } = port;
        let end = Arc::clone(sender.end());
        let posting = Mutex::new(Posting { sender, owed: Vec::new() });
        Self { receiver, answers: Arc::new(Answers { end, posting, owing: AtomicBool::new(false) }) }
    }

    /// Takes the next request, waiting for it as long as the client lives.
    ///
    /// # Errors
    /// As for [`MessagePort::recv`]. What is no request is a [`MessageError`](RecvError::MessageError) with
    /// [`NoRequest`](BadTransfer::NoRequest). A request that cannot be received counts as dropped.
    pub fn recv(&self) -> Result<(Message, Responder), RecvError> {
        loop {
            match self.recv_until(Deadline::Never) {
                Ok(request) => return Ok(request),
                Err(RecvTimeoutError::TimedOut) => {}
                Err(RecvTimeoutError::Failed(error)) => return Err(error),
            }
        }
    }

    /// Takes the next request if there is one.
    ///
    /// # Errors
    /// [`Empty`](TryRecvError::Empty), or as for [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<(Message, Responder), TryRecvError> {
        let mut message = Message::new();
        let number = self.try_next(&mut message)?;
        Ok((message, self.responder(number)))
    }

    /// Takes the next request, waiting for it at most for `timeout`.
    ///
    /// # Errors
    /// [`TimedOut`](RecvTimeoutError::TimedOut), or as for [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<(Message, Responder), RecvTimeoutError> {
        self.recv_until(Deadline::after(timeout))
    }

    fn recv_until(&self, deadline: Deadline) -> Result<(Message, Responder), RecvTimeoutError> {
        let mut message = Message::new();
        let number = self.next(&mut message, deadline)?;
        Ok((message, self.responder(number)))
    }

    /// Answers every request with what `handler` makes of the message: data, ports and buffers that are in it afterwards.
    /// Returns when the client has closed its end. Requests that cannot be received are dropped, and so is the one
    /// during which `handler` panics.
    ///
    /// # Errors
    /// [`ServeError`]. The server can be used again.
    pub fn serve(&self, mut handler: impl FnMut(&mut Message)) -> Result<(), ServeError> {
        self.serve_with(|message, open| {
            handler(message);
            let mut data = std::mem::take(&mut message.data);
            let posted = open.post(&mut data, &message.transfer_list(), Deadline::Never);
            message.data = data;
            message.clear(); // a handle that was detached must not outlive the post
            unless_gone(posted)
        })
    }

    /// The loop of every server. `answer` is given each request, and posts the answer.
    #[inline]
    pub(crate) fn serve_with<E>(
        &self,
        mut answer: impl FnMut(&mut Message, &Open<&Answers>) -> Result<(), E>,
    ) -> Result<(), ServeError<E>> {
        let mut message = Message::new();
        loop {
            let number = match self.next(&mut message, Deadline::Never) {
                Ok(number) => number,
                Err(RecvTimeoutError::TimedOut) => continue,
                Err(RecvTimeoutError::Failed(RecvError::MessageError { .. })) => continue,
                Err(RecvTimeoutError::Failed(RecvError::Ended(CloseReason::Closed))) => return Ok(()),
                Err(RecvTimeoutError::Failed(error)) => return Err(ServeError::Failed(error)),
            };
            let open = Open { answers: &*self.answers, number, over: Cell::new(false) };
            answer(&mut message, &open).map_err(ServeError::NotAnswered)?;
        }
    }

    /// How long a blocked call spins before it sleeps; see [`MessagePort::set_spin`].
    pub fn set_spin(&self, budget: Duration) {
        self.receiver.set_spin(budget);
    }

    /// Receives the next request.
    #[inline]
    pub(crate) fn next(&self, message: &mut Message, deadline: Deadline) -> Result<Number, RecvTimeoutError> {
        loop {
            let slice = if self.answers.settle() { SLICE } else { RETRY };
            let left = deadline.left();
            match self.receiver.recv_into_timeout(message, left.min(slice)) {
                Ok(()) => return Ok(request(message)?),
                Err(RecvTimeoutError::TimedOut) if left > slice => {}
                Err(RecvTimeoutError::TimedOut) => return Err(RecvTimeoutError::TimedOut),
                Err(RecvTimeoutError::Failed(error)) => return Err(self.tell_of(error).into()),
            }
        }
    }

    pub(crate) fn try_next(&self, message: &mut Message) -> Result<Number, TryRecvError> {
        self.answers.settle();
        match self.receiver.try_recv_into(message) {
            Ok(()) => Ok(request(message)?),
            Err(TryRecvError::Empty) => Err(TryRecvError::Empty),
            Err(TryRecvError::Failed(error)) => Err(self.tell_of(error).into()),
        }
    }

    pub(crate) fn responder(&self, number: Number) -> Responder {
        Responder { open: Open { answers: Arc::clone(&self.answers), number, over: Cell::new(false) } }
    }

    /// Tells the client of a request that cannot be received.
    #[cold]
    fn tell_of(&self, mut error: RecvError) -> RecvError {
        if let RecvError::MessageError { data, .. } = &mut error
            && let Some((Kind::Request, number)) = unmark(data)
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

/// The number of a request, whose mark is cut off.
#[inline]
fn request(message: &mut Message) -> Result<Number, RecvError> {
    match unmark(&mut message.data) {
        Some((Kind::Request, number)) => Ok(number),
        _ => {
            let data = std::mem::take(&mut message.data);
            message.clear();
            Err(RecvError::MessageError { reason: BadTransfer::NoRequest, data })
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What has been answered is in the queue before the end is told. Whoever waits for space lets us in soon.
        let _posting = self.answers.end.home().is_here().then(|| self.answers.lock());
        self.receiver.close();
    }
}

impl Responder {
    /// Posts the answer. It never blocks.
    ///
    /// # Errors
    /// As for [`MessagePort::post_message`], [`Full`](PostErrorKind::Full) too; responder and transfer list are in the
    /// error. 8 bytes of the message are taken by the number of the call.
    pub fn answer(
        self,
        data: &[u8],
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<(), NotAnswered<Self, PostError>> {
        self.post(data, transfer.into_iter().collect(), Deadline::Now)
    }

    /// Posts the answer and, if the queue is full, waits for space for as long as the client lives.
    ///
    /// # Errors
    /// As for [`answer`](Self::answer), without `Full`.
    pub fn answer_wait(
        self,
        data: &[u8],
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<(), NotAnswered<Self, PostError>> {
        self.post(data, transfer.into_iter().collect(), Deadline::Never)
    }

    /// Posts the answer and, if the queue is full, waits for space at most for `timeout`.
    ///
    /// # Errors
    /// As for [`answer`](Self::answer), with [`TimedOut`](PostErrorKind::TimedOut) instead of `Full`.
    pub fn answer_timeout(
        self,
        data: &[u8],
        transfer: impl IntoIterator<Item = Transferable>,
        timeout: Duration,
    ) -> Result<(), NotAnswered<Self, PostError>> {
        self.post(data, transfer.into_iter().collect(), Deadline::after(timeout))
    }

    fn post(
        self,
        data: &[u8],
        transfer: Vec<Transferable>,
        deadline: Deadline,
    ) -> Result<(), NotAnswered<Self, PostError>> {
        let mut answer = scratch::take();
        answer.extend_from_slice(data);
        let result = self.open.post(&mut answer, &list_of(&transfer), deadline);
        scratch::keep(answer);
        result.map_err(|kind| NotAnswered { error: PostError { kind, transfer }, responder: self })
    }

    #[cfg(feature = "serde")]
    pub(crate) fn open(&self) -> &Open<Arc<Answers>> {
        &self.open
    }
}

impl<A: Deref<Target = Answers>> Open<A> {
    /// Posts the answer, whose data is as before afterwards.
    #[inline]
    pub(crate) fn post(
        &self,
        data: &mut Vec<u8>,
        list: &[TransferRef<'_>],
        deadline: Deadline,
    ) -> Result<(), PostErrorKind> {
        let len = data.len();
        mark(data, Kind::Answer, self.number);
        let result = self.answers.post(data, list, deadline);
        data.truncate(len);
        if result.is_ok() {
            self.over.set(true);
        }
        result
    }

    /// The server's end of the pair.
    #[cfg(feature = "serde")]
    pub(crate) fn end(&self) -> &Arc<End> {
        &self.answers.end
    }
}

impl<A: Deref<Target = Answers>> Drop for Open<A> {
    fn drop(&mut self) {
        if !self.over.get() {
            self.answers.drop_request(self.number);
        }
    }
}

impl Answers {
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Posting> {
        // What the lock protects is whole at any time, and no foreign code runs under it.
        self.posting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn post(&self, data: &[u8], list: &[TransferRef<'_>], deadline: Deadline) -> Result<(), PostErrorKind> {
        // In a forked child the lock may be held by a thread that is not there.
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
            let turn = Instant::now() + TURN;
            let until = deadline.instant().map_or(turn, |deadline| deadline.min(turn));
            match self.lock().sender.post_by(data, list, Deadline::At(until)) {
                Err(PostErrorKind::TimedOut) if !deadline.is_over() => {}
                result => return result,
            }
            self.settle();
        }
    }

    /// Tells the client that there will be no answer, now or later.
    fn drop_request(&self, number: Number) {
        if self.end.home().is_here() {
            self.lock().owed.push(number);
            self.owing.store(true, Ordering::Relaxed);
            self.settle();
        }
    }

    /// Posts what is owed. False if the queue has no room for all of it.
    #[inline]
    fn settle(&self) -> bool {
        // Relaxed: a hint; whoever does not see it yet will look again.
        !self.owing.load(Ordering::Relaxed) || self.settle_debts()
    }

    #[cold]
    fn settle_debts(&self) -> bool {
        if !self.end.home().is_here() {
            return true;
        }
        let Posting { sender, owed } = &mut *self.lock();
        while let Some(number) = owed.last() {
            let mut notice = Vec::with_capacity(super::MARK);
            mark(&mut notice, Kind::Dropped, *number);
            if let Err(PostErrorKind::Full(_)) = sender.post(&notice, &[]) {
                return false;
            }
            // Posted, or there is nobody to be told.
            owed.pop();
        }
        self.owing.store(false, Ordering::Relaxed);
        true
    }
}

/// The descriptor to wait on for requests; see [`MessagePort`].
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

impl<R, E: fmt::Debug> fmt::Debug for NotAnswered<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotAnswered").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<R, E: fmt::Display> fmt::Display for NotAnswered<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<R, E: std::error::Error> std::error::Error for NotAnswered<R, E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Answer and responder are dropped.
impl<R, E: Into<io::Error>> From<NotAnswered<R, E>> for io::Error {
    fn from(error: NotAnswered<R, E>) -> Self {
        error.error.into()
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
