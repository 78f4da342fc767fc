//! The client's end: whoever waits receives for all.
//!
//! There is no thread behind a client. The first of the threads that wait takes the receiving half out of the table,
//! receives without holding the lock, and puts what arrives at the places of the calls; the others sleep until their
//! answer is there or the receiving half is free again.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::error::{AnswerError, CallError};
use super::table::Calls;
use super::{Number, list_of};
use crate::end::End;
use crate::end::wait::Deadline;
use crate::error::{PostErrorKind, RecvError};
use crate::port::MessagePort;
use crate::port::message::Message;
use crate::port::transfer::{PostError, TransferRef, Transferable};
use crate::scratch;

/// How long a call whose request does not fit yet receives answers before it tries again: the server may be waiting for
/// just that.
const RETRY: Duration = Duration::from_millis(1);
/// Most messages that a look takes which does not wait.
const LOOKS: usize = 1000;

/// The asking end of a pair: posts requests and receives their answers. The other end is a [`Server`](super::Server).
///
/// Any number of calls can be open at a time, and their answers may come in any order. Clones are the same client, for
/// other threads; the port is closed when the last of them and the last [`PendingCall`] are dropped.
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
/// A request that is not answered ends in an error as soon as that is certain: [`Dropped`](AnswerError::Dropped) if the
/// server dropped it, and if the server's end is gone the reason, for every open call. A call that is given up (its
/// `PendingCall` dropped, its time over) is forgotten: its answer is dropped when it comes, and what that carries is
/// closed. The server is not told; to be able to stop it, put a port into the request and close the other end.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// A request that has been posted; see [`Client::start`]. Dropping it gives the call up.
#[must_use = "dropping it gives the call up"]
pub struct PendingCall {
    shared: Arc<Shared>,
    number: Number,
}

struct Shared {
    /// The client's end of the pair, to be looked at without the lock.
    end: Arc<End>,
    calls: Mutex<Calls>,
}

impl Client {
    /// Makes a port the client's end.
    pub fn new(port: MessagePort) -> Self {
        let end = Arc::clone(port.end());
        let calls = Mutex::new(Calls::new(port));
        Self { shared: Arc::new(Shared { end, calls }) }
    }

    /// Posts a request and returns without waiting for the answer. It never blocks.
    ///
    /// # Errors
    /// As for [`MessagePort::post_message`], [`Full`](PostErrorKind::Full) too. The number of the call takes 8 bytes of
    /// the message.
    pub fn start(
        &self,
        data: &[u8],
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<PendingCall, PostError> {
        let transfer: Vec<Transferable> = transfer.into_iter().collect();
        let mut request = scratch::take();
        request.extend_from_slice(data);
        let result = self.post(&mut request, &list_of(&transfer), Deadline::Now);
        scratch::keep(request);
        result.map(|number| self.pending(number)).map_err(|kind| PostError { kind, transfer })
    }

    /// Posts a request, waiting for space if need be, and waits for the answer for as long as the server lives.
    ///
    /// # Errors
    /// [`NotPosted`](CallError::NotPosted) with the transfer list; [`NoAnswer`](CallError::NoAnswer).
    pub fn call(&self, data: &[u8], transfer: impl IntoIterator<Item = Transferable>) -> Result<Message, CallError> {
        self.call_until(data, transfer.into_iter().collect(), Deadline::Never)
    }

    /// As [`call`](Self::call), waiting at most for `timeout`, for space and answer together.
    ///
    /// # Errors
    /// As for [`call`](Self::call), and `TimedOut` in either.
    pub fn call_timeout(
        &self,
        data: &[u8],
        transfer: impl IntoIterator<Item = Transferable>,
        timeout: Duration,
    ) -> Result<Message, CallError> {
        self.call_until(data, transfer.into_iter().collect(), Deadline::after(timeout))
    }

    fn call_until(&self, data: &[u8], transfer: Vec<Transferable>, deadline: Deadline) -> Result<Message, CallError> {
        // The memory of the request becomes that of the answer.
        let mut message = Message::from(data.to_vec());
        match self.post(&mut message.data, &list_of(&transfer), deadline) {
            Ok(number) => {
                drop(transfer);
                self.finish(number, deadline, &mut message).map_err(CallError::NoAnswer)?;
                Ok(message)
            }
            Err(kind) => Err(CallError::NotPosted(PostError { kind, transfer })),
        }
    }

    /// How long a blocked call spins before it sleeps; see [`MessagePort::set_spin`]. It takes effect when no thread is
    /// waiting.
    pub fn set_spin(&self, budget: Duration) {
        if self.shared.end.home().is_here()
            && let Some(receiver) = &self.shared.lock().receiver
        {
            receiver.set_spin(budget);
        }
    }

    /// The client's end of the pair.
    #[cfg(feature = "serde")]
    pub(crate) fn end(&self) -> &Arc<End> {
        &self.shared.end
    }

    pub(crate) fn pending(&self, number: Number) -> PendingCall {
        PendingCall { shared: Arc::clone(&self.shared), number }
    }

    /// Posts a request, whose data is as before afterwards.
    #[inline]
    pub(crate) fn post(
        &self,
        data: &mut Vec<u8>,
        list: &[TransferRef<'_>],
        deadline: Deadline,
    ) -> Result<Number, PostErrorKind> {
        let shared = &*self.shared;
        if !shared.end.home().is_here() {
            return Err(PostErrorKind::Forked);
        }
        let mut calls = shared.lock();
        match calls.post(data, list) {
            Err(PostErrorKind::Full(_)) if deadline.waits() => {
                shared.post_when_there_is_room(calls, data, list, deadline)
            }
            result => result,
        }
    }

    /// Waits for the answer to a call, which is over then.
    #[inline]
    pub(crate) fn finish(&self, number: Number, deadline: Deadline, answer: &mut Message) -> Result<(), AnswerError> {
        let result = self.shared.wait(number, deadline, answer);
        if result.is_err() {
            self.shared.give_up(number);
        }
        result
    }
}

impl PendingCall {
    /// Waits for the answer for as long as the server lives.
    ///
    /// # Errors
    /// [`AnswerError`]. The call is over, whatever the error.
    pub fn wait(mut self) -> Result<Message, AnswerError> {
        let mut answer = Message::new();
        self.wait_into(&mut answer, Deadline::Never)?;
        Ok(answer)
    }

    /// Waits for the answer at most for `timeout`.
    ///
    /// # Errors
    /// [`AnswerError`]. After [`TimedOut`](AnswerError::TimedOut) the call is still open, and after a shortage of
    /// resources.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Message, AnswerError> {
        let mut answer = Message::new();
        self.wait_into(&mut answer, Deadline::after(timeout))?;
        Ok(answer)
    }

    /// The answer, if it is there.
    ///
    /// # Errors
    /// [`AnswerError`], but `None` where that would be `TimedOut`.
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
        self.shared.wait(self.number, deadline, answer)
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.shared.give_up(self.number);
    }
}

impl Shared {
    #[inline]
    fn lock(&self) -> MutexGuard<'_, Calls> {
        // What the lock protects is whole at any time, and no foreign code runs under it.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the answer to a call.
    #[inline]
    fn wait(&self, number: Number, deadline: Deadline, answer: &mut Message) -> Result<(), AnswerError> {
        // In a forked child the lock may be held by a thread that is not there.
        if !self.end.home().is_here() {
            return Err(AnswerError::Failed(RecvError::Forked));
        }
        let mut calls = self.lock();
        let mut looks = 0;
        let result = loop {
            if let Some(result) = calls.take(number, answer) {
                break result;
            }
            let result;
            (calls, result) = self.receive(calls, Some(number), answer, deadline);
            match result {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(error) => break Err(error),
            }
            // Messages that keep coming must not keep us here when the time is over.
            looks += 1;
            if looks >= LOOKS && deadline.is_over() {
                break Err(AnswerError::TimedOut);
            }
        };
        calls.pass_on();
        result
    }

    /// Receives one message for whomever it is, or sleeps while another thread does: then until it has something for
    /// `number`, or until nobody receives. True if it was the answer to `number`, which is over then; else `message` is
    /// empty.
    #[inline]
    fn receive<'a>(
        &'a self,
        mut calls: MutexGuard<'a, Calls>,
        number: Option<Number>,
        message: &mut Message,
        deadline: Deadline,
    ) -> (MutexGuard<'a, Calls>, Result<bool, AnswerError>) {
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
            Ok(()) => Ok(calls.deliver(message, number)),
            Err(AnswerError::Failed(error)) => calls.fail(error).map(|()| false),
            Err(error) => Err(error),
        };
        if message.has_transferred() && !matches!(result, Ok(true)) {
            // Of an answer that comes too late. Closing things can take time.
            calls.pass_on();
            drop(calls);
            message.clear();
            calls = self.lock();
        }
        (calls, result)
    }

    #[cold]
    fn sleep<'a>(
        &'a self,
        mut calls: MutexGuard<'a, Calls>,
        number: Option<Number>,
        deadline: Deadline,
    ) -> (MutexGuard<'a, Calls>, Result<bool, AnswerError>) {
        if deadline.is_over() {
            return (calls, Err(AnswerError::TimedOut));
        }
        let set_sleeper = |calls: &mut Calls, sleeper| {
            if let Some(place) = number.and_then(|number| calls.place(number)) {
                place.sleeper = sleeper;
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
        (calls, Ok(false))
    }

    /// The queue is full: receives answers, for which the server may be waiting, and tries again.
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
            let left = deadline.left().min(RETRY);
            if left.is_zero() {
                break Err(PostErrorKind::TimedOut);
            }
            let result;
            (calls, result) = self.receive(calls, None, &mut message, Deadline::after(left));
            if matches!(result, Err(AnswerError::Failed(_))) {
                // Nothing can be received now; whoever waits for an answer is told why.
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

    /// Nobody waits for this call any more.
    fn give_up(&self, number: Number) {
        if self.end.home().is_here() {
            let mut calls = self.lock();
            let dropped = calls.close(number);
            drop(calls);
            drop(dropped);
        }
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
