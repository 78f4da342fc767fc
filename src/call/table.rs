//! The open calls of a client, each at its place, and the halves of the port that all of them share.

use std::thread::Thread;

use super::error::AnswerError;
use super::{Kind, Number, mark, unmark};
use crate::error::{CloseReason, PostErrorKind, RecvError};
use crate::port::message::Message;
use crate::port::transfer::TransferRef;
use crate::port::{MessagePort, RecvHalf, SendHalf};

/// What the threads of a client share, under its lock.
pub(super) struct Calls {
    // The order matters: see `MessagePort`.
    sender: SendHalf,
    /// `None` while one of the waiting threads has it.
    pub(super) receiver: Option<Box<RecvHalf>>,
    places: Vec<Place>,
    free: Vec<u32>,
    /// The end of the server has been received.
    ended: Option<CloseReason>,
    /// Threads that sleep until their answer is there or the receiver is free.
    pub(super) sleepers: usize,
}

/// Where a call is while it is open.
#[derive(Default)]
pub(super) struct Place {
    count: u32,
    state: State,
    /// The answer, once `Answered`; its memory is used again.
    message: Message,
    /// Once `Failed`.
    error: Option<AnswerError>,
    pub(super) sleeper: Option<Thread>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Free,
    Open,
    Answered,
    Failed,
}

impl Calls {
    /// No calls, over a port.
    pub(super) fn new(port: MessagePort) -> Self {
        // Not `split`, whose halves may be closed in the middle of a post: nothing closes these but their drop.
        let MessagePort { sender, receiver } = port;
        let receiver = Some(Box::new(receiver));
        Self { sender, receiver, places: Vec::new(), free: Vec::new(), ended: None, sleepers: 0 }
    }

    /// Posts a request, whose data is as before afterwards.
    #[inline]
    pub(super) fn post(&mut self, data: &mut Vec<u8>, list: &[TransferRef<'_>]) -> Result<Number, PostErrorKind> {
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
    pub(super) fn place(&mut self, number: Number) -> Option<&mut Place> {
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
    pub(super) fn close(&mut self, number: Number) -> Option<Message> {
        let place = self.place(number)?;
        let untaken = (place.state == State::Answered).then(|| std::mem::take(&mut place.message));
        place.state = State::Free;
        place.count = place.count.wrapping_add(1);
        self.free.push(number.place() as u32);
        untaken
    }

    /// Takes the outcome of a call, if there is one. The call is over then.
    #[inline]
    pub(super) fn take(&mut self, number: Number, answer: &mut Message) -> Option<Result<(), AnswerError>> {
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
    pub(super) fn deliver(&mut self, message: &mut Message, own: Option<Number>) -> bool {
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
    pub(super) fn fail(&mut self, error: RecvError) -> Result<(), AnswerError> {
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
    pub(super) fn pass_on(&self) {
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
