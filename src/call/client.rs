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
use crate::scratch;
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
    receiver: Option<Box<RecvHalf>>,
    places: Vec<Place>,
    free: Vec<u32>,
    /// The end of the server has been received.
    ended: Option<CloseReason>,
    /// Threads that sleep until their answer is there or the receiver is free.
    sleepers: usize,
}

/// Where a call is while it is open.
#[derive(Default)]
struct Place {
    count: u32,
    state: State,
    /// The answer, once `Answered`; its memory is used again.
    message: Message,
    /// Once `Failed`.
    error: Option<AnswerError>,
    sleeper: Option<Thread>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Free,
    Open,
    Answered,
    Failed,
}

impl Client {
    /// Makes a port the client's end.
    pub fn new(port: MessagePort) -> Self {
        // Not `split`, whose halves may be closed in the middle of a post: nothing closes these but their drop.
        let MessagePort { sender, receiver } = port;
        let end = Arc::clone(sender.end());
        let receiver = Some(Box::new(receiver));
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
        let mut request = scratch::take();
        request.extend_from_slice(data);
        let result = self.post(&mut request, &list_of(&transfer), Patience::None);
        scratch::keep(request);
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
            (calls, result) = self.receive(calls, Some(number), answer, patience);
            match result {
                Ok(true) => break Ok(()),
                Ok(false) => {}
                Err(error) => break Err(error),
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
    /// `number`, or until nobody receives. True if it was the answer to `number`, which is over then; else `message` is
    /// empty.
    #[inline]
    fn receive<'a>(
        &'a self,
        mut calls: MutexGuard<'a, Calls>,
        number: Option<Number>,
        message: &mut Message,
        patience: Patience,
    ) -> (MutexGuard<'a, Calls>, Result<bool, AnswerError>) {
        let Some(receiver) = calls.receiver.take() else {
            return self.sleep(calls, number, patience);
        };
        drop(calls);
        let received = match patience {
            Patience::Until(None) => receiver.recv_into(message).map_err(AnswerError::from),
            Patience::Until(Some(_)) => {
                let left = patience.left().unwrap_or_default();
                receiver.recv_into_timeout(message, left).map_err(AnswerError::from)
            }
            Patience::None => receiver.try_recv_into(message).map_err(AnswerError::from),
        };
        calls = self.lock();
        calls.receiver = Some(receiver);
        let result = match received {
            Ok(()) => Ok(calls.deliver(message, number)),
            Err(AnswerError::Failed(error)) => calls.fail(error).map(|()| false),
            Err(error) => Err(error),
        };
        let has_things = !message.ports.is_empty() || !message.buffers.is_empty();
        if has_things && !matches!(result, Ok(true)) {
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
        patience: Patience,
    ) -> (MutexGuard<'a, Calls>, Result<bool, AnswerError>) {
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
        (calls, Ok(false))
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
        let mut message = Message::new();
        let result = loop {
            let left = patience.left().unwrap_or(RETRY).min(RETRY);
            if left.is_zero() {
                break Err(PostErrorKind::TimedOut);
            }
            let result;
            (calls, result) = self.receive(calls, None, &mut message, Patience::timeout(left));
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

    /// The place of a call that is not over.
    #[inline]
    fn place(&mut self, number: Number) -> Option<&mut Place> {
        let index = number.place();
        let place = self.places.get_mut(index)?;
        let is_there = place.state != State::Free && Number::new(index as u32, place.count) == number;
        is_there.then_some(place)
    }

    /// The place of a call that has no outcome yet.
    #[inline]
    fn open_place(&mut self, number: Number) -> Option<&mut Place> {
        self.place(number).filter(|place| place.state == State::Open)
    }

    /// Frees the place of a call, if it is not over. Returns what came and was not taken.
    #[inline]
    fn close(&mut self, number: Number) -> Option<Message> {
        let place = self.place(number)?;
        let untaken = (place.state == State::Answered).then(|| std::mem::take(&mut place.message));
        place.state = State::Free;
        place.count = place.count.wrapping_add(1);
        self.free.push(number.place() as u32);
        untaken
    }

    /// Takes the outcome of a call, if there is one. The call is over then.
    #[inline]
    fn take(&mut self, number: Number, answer: &mut Message) -> Option<Result<(), AnswerError>> {
        let ended = self.ended;
        let Some(place) = self.place(number) else { return Some(Err(AnswerError::Taken)) };
        let result = match place.state {
            State::Answered => {
                std::mem::swap(&mut place.message, answer);
                place.state = State::Open;
                Ok(())
            }
            State::Failed => Err(place.error.take()?),
            State::Open | State::Free => Err(AnswerError::Failed(RecvError::Ended(ended?))),
        };
        self.close(number);
        Some(result)
    }

    /// Puts a message where it belongs; true if that is with the thread that has received it, whose call `own` is. One
    /// that belongs nowhere is an answer that comes too late, or none at all.
    #[inline]
    fn deliver(&mut self, message: &mut Message, own: Option<Number>) -> bool {
        match unmark(&mut message.data) {
            Some((Kind::Answer, number)) => {
                if self.open_place(number).is_some() && own == Some(number) {
                    self.close(number);
                    return true;
                }
                if let Some(place) = self.open_place(number) {
                    std::mem::swap(&mut place.message, message);
                    place.settle(State::Answered);
                }
            }
            Some((Kind::Dropped, number)) => self.settle(number, AnswerError::Dropped),
            Some((Kind::Request, _)) | None => {}
        }
        false
    }

    /// What a failure to receive means: the end of all calls, of one, or of none; then it is the error of this attempt.
    #[cold]
    fn fail(&mut self, error: RecvError) -> Result<(), AnswerError> {
        match error {
            RecvError::Ended(reason) => {
                self.ended = Some(reason);
                self.places.iter().filter_map(|place| place.sleeper.as_ref()).for_each(Thread::unpark);
            }
            RecvError::MessageError { reason, mut data } => {
                if let Some((_, number)) = unmark(&mut data) {
                    self.settle(number, AnswerError::Failed(RecvError::MessageError { reason, data }));
                }
            }
            error => return Err(AnswerError::Failed(error)),
        }
        Ok(())
    }

    fn settle(&mut self, number: Number, error: AnswerError) {
        if let Some(place) = self.open_place(number) {
            place.error = Some(error);
            place.settle(State::Failed);
        }
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

impl Place {
    /// Notes the outcome of the call and wakes whoever waits for it.
    fn settle(&mut self, outcome: State) {
        self.state = outcome;
        if let Some(sleeper) = &self.sleeper {
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
