//! The client's end: a thread that waits receives for all the others.
//!
//! A client has no thread of its own. The first waiting thread takes the receiving half out of the table, receives
//! without holding the lock, and stores what arrives in the entries of the calls. The other waiting threads sleep until
//! their call has an outcome or the receiving half is free again.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::error::{AnswerError, CallError};
use super::table::Calls;
use super::{Number, lend};
use crate::end::End;
use crate::end::interrupt::{Interrupter, WHOLE};
use crate::end::wait::Deadline;
use crate::error::{PostErrorKind, RecvError};
use crate::port::MessagePort;
use crate::port::message::Message;
use crate::port::peer::interrupter;
use crate::port::transfer::{PostError, TransferRef, Transferable};
use crate::scratch;

/// A call whose request does not fit receives answers for 1 ms before it tries to post again: the server may wait for
/// space itself.
const POST_RETRY: Duration = Duration::from_millis(1);
/// A wait receives up to 1000 messages of other calls before it checks whether its time is over.
const RECEIVES_PER_CHECK: usize = 1000;

/// A message that is refused, and so takes up to some milliseconds, counts as 100 messages.
const RECEIVES_PER_REFUSAL: usize = RECEIVES_PER_CHECK / 10;

/// What a call has received.
enum Got {
    /// The answer that it waits for.
    Answer,
    /// A message of another call; or nothing, after a sleep.
    Other,
    /// A message that could not be received, or came too late and carried something.
    Refused,
}

/// The calling end of a pair: posts requests and receives their answers. The other end is a [`Server`](super::Server).
///
/// Any number of calls can be open at a time, and their answers may come in any order. Clones stand for the same client
/// and can be used by other threads. The port is closed when the last clone and the last [`PendingCall`] are dropped.
///
/// ```
/// use messageport::{Client, MessageChannel, Server};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let MessageChannel { port1, port2 } = MessageChannel::new()?;
/// let server = std::thread::spawn(|| Server::new(port2).serve(|message| message.data.reverse()));
/// let client = Client::new(port1);
/// let other = client.start(b"stressed", [])?;
/// assert_eq!(client.call(b"drawer", [])?.data, b"reward");
/// assert_eq!(other.wait()?.data, b"desserts");
/// drop(client);
/// server.join().unwrap()?;
/// # Ok(()) }
/// ```
///
/// A call without an answer fails as soon as that is certain: with [`Dropped`](AnswerError::Dropped) if the server
/// dropped the request, and with the reason, as every open call does, if the server's end is gone. When a call is
/// abandoned, because its `PendingCall` is dropped or its time is over, its answer is dropped on arrival, and
/// everything in the answer is closed. The call is then cancelled: the server can find out by
/// [`Responder::is_cancelled`](super::Responder::is_cancelled), and stop working on the answer. A server that does not
/// look answers in vain.
#[derive(Clone)]
pub struct Client {
    core: Arc<ClientCore>,
}

/// A call that is open; see [`Client::start`]. Dropping it cancels the call.
#[must_use = "dropping it cancels the call"]
pub struct PendingCall {
    core: Arc<ClientCore>,
    number: Number,
}

/// The parts of a client that its clones and open calls share.
struct ClientCore {
    /// The client's end of the pair, to be read without the lock.
    end: Arc<End>,
    calls: Mutex<Calls>,
}

impl Client {
    /// Makes a port the client's end.
    pub fn new(port: MessagePort) -> Self {
        let end = Arc::clone(port.end());
        let calls = Mutex::new(Calls::new(port));
        Self { core: Arc::new(ClientCore { end, calls }) }
    }

    /// Posts a request and returns without waiting for the answer. Never blocks.
    ///
    /// # Errors
    /// Those of [`MessagePort::post_message`], including [`Full`](PostErrorKind::Full). The number of the call takes 8
    /// bytes of the message.
    pub fn start(
        &self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<PendingCall, PostError> {
        let transfer: Vec<Transferable> = transfer.into_iter().collect();
        let mut request = scratch::take();
        request.extend_from_slice(data.as_ref());
        let result = self.post(&mut request, &lend(&transfer), Deadline::Now);
        scratch::keep(request);
        result.map(|number| self.pending(number)).map_err(|kind| PostError::new(kind, transfer))
    }

    /// As [`start`](Self::start), with a request of data alone.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub fn start_data(&self, data: impl AsRef<[u8]>) -> Result<PendingCall, PostError> {
        self.start(data, [])
    }

    /// Posts a request, after waiting for space if the queue is full, and waits for the answer for as long as the
    /// server lives.
    ///
    /// # Errors
    /// [`NotPosted`](CallError::NotPosted) with the transfer list; [`NoAnswer`](CallError::NoAnswer).
    pub fn call(
        &self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<Message, CallError> {
        self.call_until(data.as_ref(), transfer.into_iter().collect(), Deadline::Never)
    }

    /// As [`call`](Self::call), waiting for at most `timeout`, for space and answer together.
    ///
    /// # Errors
    /// Those of [`call`](Self::call), and `TimedOut` in either.
    pub fn call_timeout(
        &self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
        timeout: Duration,
    ) -> Result<Message, CallError> {
        self.call_until(data.as_ref(), transfer.into_iter().collect(), Deadline::after(timeout))
    }

    /// As [`call`](Self::call), with a request of data alone.
    ///
    /// # Errors
    /// Those of [`call`](Self::call).
    pub fn call_data(&self, data: impl AsRef<[u8]>) -> Result<Message, CallError> {
        self.call(data, [])
    }

    /// As [`call_timeout`](Self::call_timeout), with a request of data alone.
    ///
    /// # Errors
    /// Those of [`call_timeout`](Self::call_timeout).
    pub fn call_data_timeout(&self, data: impl AsRef<[u8]>, timeout: Duration) -> Result<Message, CallError> {
        self.call_timeout(data, [], timeout)
    }

    fn call_until(&self, data: &[u8], transfer: Vec<Transferable>, deadline: Deadline) -> Result<Message, CallError> {
        // The answer is received into the memory of the request.
        let mut message = Message::from(data.to_vec());
        match self.post(&mut message.data, &lend(&transfer), deadline) {
            Ok(number) => {
                drop(transfer);
                self.finish(number, deadline, &mut message).map_err(CallError::NoAnswer)?;
                Ok(message)
            }
            Err(kind) => Err(CallError::NotPosted(PostError::new(kind, transfer))),
        }
    }

    /// A handle with which other threads end a wait for an answer, or for space for a request; see [`Interrupter`]. Of
    /// several threads that wait on the client it ends the wait of one.
    ///
    /// After [`PendingCall::wait_timeout`] has returned `Interrupted` the call is still open; a call of
    /// [`call`](Self::call) or [`PendingCall::wait`] is over then, and its answer is dropped on arrival.
    ///
    /// # Errors
    /// Those of [`MessagePort::interrupter`].
    pub fn interrupter(&self) -> io::Result<Interrupter> {
        interrupter(&self.core.end, WHOLE)
    }

    /// Sets how long a blocked call spins before it sleeps; see [`MessagePort::set_spin`]. Does nothing while a thread
    /// waits for an answer.
    pub fn set_spin(&self, budget: Duration) {
        if self.core.end.home().is_here()
            && let Some(receiver) = &self.core.lock().receiver
        {
            receiver.set_spin(budget);
        }
    }

    /// The client's end of the pair, which a typed post checks its list against.
    #[cfg(feature = "serde")]
    pub(crate) fn end(&self) -> &Arc<End> {
        &self.core.end
    }

    pub(crate) fn pending(&self, number: Number) -> PendingCall {
        PendingCall { core: Arc::clone(&self.core), number }
    }

    /// Posts a request. `data` is unchanged afterwards.
    #[inline]
    pub(crate) fn post(
        &self,
        data: &mut Vec<u8>,
        list: &[TransferRef<'_>],
        deadline: Deadline,
    ) -> Result<Number, PostErrorKind> {
        let core = &*self.core;
        if !core.end.home().is_here() {
            return Err(PostErrorKind::Forked);
        }
        let mut calls = core.lock();
        match calls.post(data, list) {
            Err(PostErrorKind::Full(_)) if deadline.waits() => {
                core.post_when_there_is_room(calls, data, list, deadline)
            }
            result => result,
        }
    }

    /// Waits for the answer to a call. The call is over afterwards.
    #[inline]
    pub(crate) fn finish(&self, number: Number, deadline: Deadline, answer: &mut Message) -> Result<(), AnswerError> {
        let result = self.core.wait(number, deadline, answer);
        if result.is_err() {
            self.core.abandon(number);
        }
        result
    }
}

impl PendingCall {
    /// Waits for the answer for as long as the server lives.
    ///
    /// # Errors
    /// [`AnswerError`]. The call is over after any error.
    pub fn wait(mut self) -> Result<Message, AnswerError> {
        let mut answer = Message::new();
        self.wait_into(&mut answer, Deadline::Never)?;
        Ok(answer)
    }

    /// Waits for the answer for at most `timeout`.
    ///
    /// # Errors
    /// [`AnswerError`]. The call is still open after [`TimedOut`](AnswerError::TimedOut) and after a shortage of memory
    /// or descriptors.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Message, AnswerError> {
        let mut answer = Message::new();
        self.wait_into(&mut answer, Deadline::after(timeout))?;
        Ok(answer)
    }

    /// Takes the answer if it has arrived, without waiting. `None`: it has not, and the call is still open.
    ///
    /// # Errors
    /// [`AnswerError`], except `TimedOut`.
    pub fn try_wait(&mut self) -> Result<Option<Message>, AnswerError> {
        let mut answer = Message::new();
        match self.wait_into(&mut answer, Deadline::Now) {
            Ok(()) => Ok(Some(answer)),
            Err(AnswerError::TimedOut) => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[inline]
    pub(crate) fn wait_into(&mut self, answer: &mut Message, deadline: Deadline) -> Result<(), AnswerError> {
        self.core.wait(self.number, deadline, answer)
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.core.abandon(self.number);
    }
}

impl ClientCore {
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Calls> {
        // A panic cannot leave the state half changed, and no code of the user runs under the lock: poison is ignored.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the answer to a call.
    #[inline]
    fn wait(&self, number: Number, deadline: Deadline, answer: &mut Message) -> Result<(), AnswerError> {
        // In a forked child a thread that does not exist there may hold the lock.
        if !self.end.home().is_here() {
            return Err(AnswerError::Failed(RecvError::Forked));
        }
        let mut calls = self.lock();
        let mut receives = 0;
        let result = loop {
            if let Some(result) = calls.take(number, answer) {
                break result;
            }
            let result;
            (calls, result) = self.receive(calls, Some(number), answer, deadline);
            match result {
                Ok(Got::Answer) => break Ok(()),
                Ok(Got::Other) => receives += 1,
                Ok(Got::Refused) => receives += RECEIVES_PER_REFUSAL,
                Err(error) => break Err(error),
            }
            // Messages that keep coming must not extend the wait.
            if receives >= RECEIVES_PER_CHECK && deadline.is_over() {
                break Err(AnswerError::TimedOut);
            }
        };
        calls.pass_on();
        result
    }

    /// Receives one message, for whichever call. While another thread receives, sleeps instead, until `number` has an
    /// outcome or no thread receives. After `Got::Answer` the message is the answer to `number`, whose call is over;
    /// otherwise it is empty.
    #[inline]
    fn receive<'a>(
        &'a self,
        mut calls: MutexGuard<'a, Calls>,
        number: Option<Number>,
        message: &mut Message,
        deadline: Deadline,
    ) -> (MutexGuard<'a, Calls>, Result<Got, AnswerError>) {
        let Some(receiver) = calls.receiver.take() else {
            return self.sleep(calls, number, deadline);
        };
        drop(calls);
        let received = match deadline {
            Deadline::Never => receiver.recv_into(message).map_err(AnswerError::from),
            Deadline::At(_) => receiver.recv_into_timeout(message, deadline.left()).map_err(AnswerError::from),
            Deadline::Now => receiver.try_recv_into(message).map_err(AnswerError::from),
        };
        calls = self.lock();
        calls.receiver = Some(receiver);
        let result = match received {
            Ok(()) if calls.deliver(message, number) => Ok(Got::Answer),
            Ok(()) => Ok(Got::Other),
            Err(AnswerError::Failed(error)) => calls.fail(error).map(|()| Got::Refused),
            Err(error) => Err(error),
        };
        if message.has_transferred() && !matches!(result, Ok(Got::Answer)) {
            // The answer came too late. Closing what it carries can take time, so this is done without the lock.
            calls.pass_on();
            drop(calls);
            message.refuse();
            return (self.lock(), result.map(|_| Got::Refused));
        }
        (calls, result)
    }

    #[cold]
    fn sleep<'a>(
        &'a self,
        mut calls: MutexGuard<'a, Calls>,
        number: Option<Number>,
        deadline: Deadline,
    ) -> (MutexGuard<'a, Calls>, Result<Got, AnswerError>) {
        if deadline.is_over() {
            return (calls, Err(AnswerError::TimedOut));
        }
        let set_sleeper = |calls: &mut Calls, sleeper| {
            if let Some(entry) = number.and_then(|number| calls.entry(number)) {
                entry.sleeper = sleeper;
            }
        };
        calls.sleepers += 1;
        set_sleeper(&mut calls, Some(thread::current()));
        drop(calls);
        match deadline {
            Deadline::Never => thread::park(),
            Deadline::At(_) | Deadline::Now => thread::park_timeout(deadline.left()),
        }
        calls = self.lock();
        calls.sleepers -= 1;
        set_sleeper(&mut calls, None);
        (calls, Ok(Got::Other))
    }

    /// Receives answers until the request fits: the server may be blocked until its answers are read.
    #[cold]
    fn post_when_there_is_room<'a>(
        &'a self,
        mut calls: MutexGuard<'a, Calls>,
        data: &mut Vec<u8>,
        list: &[TransferRef<'_>],
        deadline: Deadline,
    ) -> Result<Number, PostErrorKind> {
        let mut message = Message::new();
        let result = loop {
            let left = deadline.left().min(POST_RETRY);
            if left.is_zero() {
                break Err(PostErrorKind::TimedOut);
            }
            let result;
            (calls, result) = self.receive(calls, None, &mut message, Deadline::after(left));
            if matches!(result, Err(AnswerError::Failed(RecvError::Interrupted))) {
                break Err(PostErrorKind::Interrupted);
            }
            if matches!(result, Err(AnswerError::Failed(_))) {
                // Nothing can be received now. The waits for answers return the reason.
                drop(calls);
                thread::sleep(left);
                calls = self.lock();
            }
            match calls.post(data, list) {
                Err(PostErrorKind::Full(_)) => {}
                result => break result,
            }
        };
        calls.pass_on();
        result
    }

    /// Ends a call without its answer.
    fn abandon(&self, number: Number) {
        if self.end.home().is_here() {
            let mut calls = self.lock();
            let dropped = calls.abandon(number, self.end.segment());
            drop(calls);
            dropped.into_iter().for_each(|mut answer| answer.refuse());
        }
    }
}

/// The descriptor to wait on in a poll(2) or epoll(7) of your own: it is readable when an answer may have come, and
/// when the server is gone. Take it first. Then, before each `poll`, call [`try_wait`](PendingCall::try_wait) on the
/// open calls, until each has returned `None` or its answer: that arms the wake-up. A thread that waits for an answer
/// meanwhile reads what the descriptor would report. See also [`MessagePort`'s](MessagePort#impl-AsFd-for-MessagePort).
impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        if self.core.end.home().is_here()
            && let Some(receiver) = &self.core.lock().receiver
        {
            receiver.as_fd(); // notes that it is polled
        }
        self.core.end.as_fd()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl fmt::Debug for PendingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCall").field("number", &self.number.0).finish_non_exhaustive()
    }
}
