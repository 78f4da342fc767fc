//! The client's end: a table of open calls, and whoever waits receives for all.
//!
//! There is no thread behind a client. The first of the threads that wait takes the receiving half out of the table,
//! receives without holding the lock, and puts what arrives at the places of the calls; the others sleep until their
//! answer is there or the receiving half is free again.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use super::{Kind, Number, Patience, list_of, mark, unmark};
use crate::end::End;
use crate::error::{CloseReason, PostError, PostErrorKind, RecvError, RecvTimeoutError, TryRecvError};
use crate::message::Message;
use crate::port::{MessagePort, RecvHalf, SendHalf};
use crate::transfer::{TransferRef, Transferable};

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

/// Why there is no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnswerError {
    /// The server has dropped the request without answering it.
    Dropped,
    /// The time was over before the answer came.
    TimedOut,
    /// The call was over before: its answer has been taken, or the error told.
    Taken,
    /// The answer could not be received, or the server is gone: then `Ended` with the reason.
    Failed(RecvError),
}

/// A call failed: [`Client::call`] has no answer. `P` has the request if that was not posted.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError<P = PostError> {
    /// The request was not posted.
    NotPosted(P),
    /// The request was posted, and there is no answer.
    NoAnswer(AnswerError),
}

struct Shared {
    /// The client's end of the pair, to be looked at without the lock.
    end: Arc<End>,
    calls: Mutex<Calls>,
}

struct Calls {
    // The order matters: see `MessagePort`.
    sender: SendHalf,
    /// `None` while one of the waiting threads has it.
    receiver: Option<Box<Receiver>>,
    places: Vec<Place>,
    free: Vec<u32>,
    /// The end of the server has been received.
    ended: Option<CloseReason>,
    /// Threads that sleep until their answer is there or the receiver is free.
    sleepers: usize,
}

struct Receiver {
    half: RecvHalf,
    message: Message,
}

/// Where a call is while it is open.
#[derive(Default)]
struct Place {
    count: u32,
    state: State,
    /// The answer, once it is there. Its memory is used again.
    message: Message,
    sleeper: Option<Thread>,
}

#[derive(Default)]
enum State {
    #[default]
    Free,
    Open,
    Done(Result<(), AnswerError>),
}

impl Client {
    /// Makes a port the client's end.
    pub fn new(port: MessagePort) -> Self {
        let (sender, half) = port.split();
        let end = Arc::clone(sender.end());
        let receiver = Some(Box::new(Receiver { half, message: Message::new() }));
        let calls = Calls { sender, receiver, places: Vec::new(), free: Vec::new(), ended: None, sleepers: 0 };
        Self { shared: Arc::new(Shared { end, calls: Mutex::new(calls) }) }
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
        let result = self.post(&mut data.to_vec(), &list_of(&transfer), Patience::None);
        result.map(|number| self.pending(number)).map_err(|kind| PostError { kind, transfer })
    }

    /// Posts a request, waiting for space if need be, and waits for the answer for as long as the server lives.
    ///
    /// # Errors
    /// [`NotPosted`](CallError::NotPosted) with the transfer list; [`NoAnswer`](CallError::NoAnswer).
    pub fn call(&self, data: &[u8], transfer: impl IntoIterator<Item = Transferable>) -> Result<Message, CallError> {
        self.call_until(data, transfer.into_iter().collect(), Patience::Until(None))
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
        self.call_until(data, transfer.into_iter().collect(), Patience::timeout(timeout))
    }

    fn call_until(&self, data: &[u8], transfer: Vec<Transferable>, patience: Patience) -> Result<Message, CallError> {
        // The memory of the request becomes that of the answer.
        let mut message = Message { data: data.to_vec(), ..Message::new() };
        match self.post(&mut message.data, &list_of(&transfer), patience) {
            Ok(number) => {
                drop(transfer);
                self.finish(number, patience, &mut message).map_err(CallError::NoAnswer)?;
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
            receiver.half.set_spin(budget);
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
        patience: Patience,
    ) -> Result<Number, PostErrorKind> {
        let shared = &*self.shared;
        if !shared.end.home().is_here() {
            return Err(PostErrorKind::Forked);
        }
        let mut calls = shared.lock();
        match calls.post(data, list) {
            Err(PostErrorKind::Full(_)) if !matches!(patience, Patience::None) => {
                shared.post_when_there_is_room(calls, data, list, patience)
            }
            result => result,
        }
    }

    /// Waits for the answer to a call, which is over then.
    #[inline]
    pub(crate) fn finish(&self, number: Number, patience: Patience, answer: &mut Message) -> Result<(), AnswerError> {
        let result = self.shared.wait(number, patience, answer);
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
        self.wait_into(&mut answer, Patience::Until(None))?;
        Ok(answer)
    }

    /// Waits for the answer at most for `timeout`.
    ///
    /// # Errors
    /// [`AnswerError`]. After [`TimedOut`](AnswerError::TimedOut) the call is still open, and after a shortage of
    /// resources.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Message, AnswerError> {
        let mut answer = Message::new();
        self.wait_into(&mut answer, Patience::timeout(timeout))?;
        Ok(answer)
    }

    /// The answer, if it is there.
    ///
    /// # Errors
    /// [`AnswerError`], but `None` where that would be `TimedOut`.
    pub fn try_take(&mut self) -> Result<Option<Message>, AnswerError> {
        let mut answer = Message::new();
        match self.wait_into(&mut answer, Patience::None) {
            Ok(()) => Ok(Some(answer)),
            Err(AnswerError::TimedOut) => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[inline]
    pub(crate) fn wait_into(&mut self, answer: &mut Message, patience: Patience) -> Result<(), AnswerError> {
        self.shared.wait(self.number, patience, answer)
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
    fn wait(&self, number: Number, patience: Patience, answer: &mut Message) -> Result<(), AnswerError> {
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
            (calls, result) = self.receive(calls, Some(number), patience);
            if let Err(error) = result {
                break Err(error);
            }
            // Messages that keep coming must not keep us here when the time is over.
            looks += 1;
            if looks >= LOOKS && patience.left().is_some_and(|left| left.is_zero()) {
                break Err(AnswerError::TimedOut);
            }
        };
        calls.pass_on();
        result
    }

    /// Receives one message for whomever it is, or sleeps while another thread does: then until it has something for
    /// `number`, or until nobody receives.
    #[inline]
    fn receive<'a>(
        &'a self,
        mut calls: MutexGuard<'a, Calls>,
        number: Option<Number>,
        patience: Patience,
    ) -> (MutexGuard<'a, Calls>, Result<(), AnswerError>) {
        let Some(mut receiver) = calls.receiver.take() else {
            return self.sleep(calls, number, patience);
        };
        drop(calls);
        let Receiver { half, message } = &mut *receiver;
        let result = match patience {
            Patience::Until(None) => half.recv_into(message).map_err(AnswerError::from),
            Patience::Until(Some(_)) => {
                half.recv_into_timeout(message, patience.left().unwrap_or_default()).map_err(AnswerError::from)
            }
            Patience::None => half.try_recv_into(message).map_err(AnswerError::from),
        };
        calls = self.lock();
        let result = match result {
            Ok(()) => {
                calls.deliver(message);
                Ok(())
            }
            Err(AnswerError::Failed(RecvError::Ended(reason))) => {
                calls.end(reason);
                Ok(())
            }
            Err(AnswerError::Failed(RecvError::MessageError { reason, mut data })) => {
                if let Some((_, number)) = unmark(&mut data) {
                    calls.settle(number, Err(AnswerError::Failed(RecvError::MessageError { reason, data })));
                }
                Ok(())
            }
            Err(error) => Err(error),
        };
        if !message.ports.is_empty() || !message.buffers.is_empty() {
            // Of a late answer. Closing things can take time.
            drop(calls);
            message.clear();
            calls = self.lock();
        }
        calls.receiver = Some(receiver);
        (calls, result)
    }

    #[cold]
    fn sleep<'a>(
        &'a self,
        mut calls: MutexGuard<'a, Calls>,
        number: Option<Number>,
        patience: Patience,
    ) -> (MutexGuard<'a, Calls>, Result<(), AnswerError>) {
        let left = patience.left();
        if left.is_some_and(|left| left.is_zero()) {
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
        match left {
            None => thread::park(),
            Some(left) => thread::park_timeout(left),
        }
        calls = self.lock();
        calls.sleepers -= 1;
        set_sleeper(&mut calls, None);
        (calls, Ok(()))
    }

    /// The queue is full: receives answers, for which the server may be waiting, and tries again.
    #[cold]
    fn post_when_there_is_room<'a>(
        &'a self,
        mut calls: MutexGuard<'a, Calls>,
        data: &mut Vec<u8>,
        list: &[TransferRef<'_>],
        patience: Patience,
    ) -> Result<Number, PostErrorKind> {
        let result = loop {
            let left = patience.left().unwrap_or(RETRY).min(RETRY);
            if left.is_zero() {
                break Err(PostErrorKind::TimedOut);
            }
            let result;
            (calls, result) = self.receive(calls, None, Patience::timeout(left));
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

impl Calls {
    #[inline]
    fn post(&mut self, data: &mut Vec<u8>, list: &[TransferRef<'_>]) -> Result<Number, PostErrorKind> {
        let number = self.open();
        let len = data.len();
        mark(data, Kind::Request, number);
        let result = self.sender.post(data, list);
        data.truncate(len);
        if result.is_err() {
            self.close(number);
        }
        result.map(|()| number)
    }

    /// A place for a new call.
    #[inline]
    fn open(&mut self) -> Number {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[index as usize];
        place.state = State::Open;
        Number::new(index, place.count)
    }

    /// The place of a call, while it is open.
    #[inline]
    fn place(&mut self, number: Number) -> Option<&mut Place> {
        let index = number.place();
        let place = self.places.get_mut(index)?;
        let is_open = !matches!(place.state, State::Free) && Number::new(index as u32, place.count) == number;
        is_open.then_some(place)
    }

    /// Frees the place of a call, if it is open. Returns what was there.
    fn close(&mut self, number: Number) -> Option<Message> {
        let place = self.place(number)?;
        place.state = State::Free;
        place.count = place.count.wrapping_add(1);
        let data = std::mem::take(&mut place.message.data); // its memory stays for the next call
        let things = std::mem::replace(&mut place.message, Message { data, ..Message::new() });
        self.free.push(number.place() as u32);
        Some(things)
    }

    /// Takes the outcome of a call, if there is one. The call is over then.
    #[inline]
    fn take(&mut self, number: Number, answer: &mut Message) -> Option<Result<(), AnswerError>> {
        let ended = self.ended;
        let Some(place) = self.place(number) else { return Some(Err(AnswerError::Taken)) };
        let result = match std::mem::replace(&mut place.state, State::Open) {
            State::Done(result) => result,
            _ => Err(AnswerError::Failed(RecvError::Ended(ended?))),
        };
        if result.is_ok() {
            std::mem::swap(&mut place.message, answer);
        }
        self.close(number);
        Some(result)
    }

    /// Puts a message where it belongs. One that belongs nowhere is a late answer, or none at all.
    #[inline]
    fn deliver(&mut self, message: &mut Message) {
        match unmark(&mut message.data) {
            Some((Kind::Answer, number)) => {
                if let Some(place) = self.place(number)
                    && matches!(place.state, State::Open)
                {
                    std::mem::swap(&mut place.message, message);
                    self.settle(number, Ok(()));
                }
            }
            Some((Kind::Dropped, number)) => self.settle(number, Err(AnswerError::Dropped)),
            Some((Kind::Request, _)) | None => {}
        }
    }

    /// Notes the outcome of an open call and wakes whoever waits for it.
    #[inline]
    fn settle(&mut self, number: Number, outcome: Result<(), AnswerError>) {
        if let Some(place) = self.place(number)
            && matches!(place.state, State::Open)
        {
            place.state = State::Done(outcome);
            if let Some(sleeper) = &place.sleeper {
                sleeper.unpark();
            }
        }
    }

    /// There will be no more answers.
    fn end(&mut self, reason: CloseReason) {
        self.ended = Some(reason);
        self.places.iter().filter_map(|place| place.sleeper.as_ref()).for_each(Thread::unpark);
    }

    /// A thread that has received, or was woken to, goes away: another one must take its turn.
    #[inline]
    fn pass_on(&self) {
        if self.sleepers > 0
            && self.receiver.is_some()
            && let Some(sleeper) = self.places.iter().find_map(|place| place.sleeper.as_ref())
        {
            sleeper.unpark();
        }
    }
}

impl From<RecvError> for AnswerError {
    fn from(error: RecvError) -> Self {
        Self::Failed(error)
    }
}

impl From<RecvTimeoutError> for AnswerError {
    fn from(error: RecvTimeoutError) -> Self {
        match error {
            RecvTimeoutError::TimedOut => Self::TimedOut,
            RecvTimeoutError::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<TryRecvError> for AnswerError {
    fn from(error: TryRecvError) -> Self {
        match error {
            TryRecvError::Empty => Self::TimedOut,
            TryRecvError::Failed(error) => Self::Failed(error),
        }
    }
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped => f.write_str("the server dropped the request"),
            Self::TimedOut => f.write_str("timed out waiting for the answer"),
            Self::Taken => f.write_str("the call is over, and its outcome has been told"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AnswerError {}

impl<P: fmt::Display> fmt::Display for CallError<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPosted(error) => error.fmt(f),
            Self::NoAnswer(error) => error.fmt(f),
        }
    }
}

impl<P: std::error::Error> std::error::Error for CallError<P> {}

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
