//! The open calls of a client, one entry each, and the halves of the port that they share.

use std::thread::Thread;

use super::error::AnswerError;
use super::{MarkKind, Number, mark, unmark};
use crate::error::{CloseReason, PostErrorKind, RecvError};
use crate::port::message::Message;
use crate::port::transfer::TransferRef;
use crate::port::{MessagePort, RecvHalf, SendHalf};
use crate::queue::segment::Segment;

/// After every 2^28 calls of an entry its word in the segment is renewed. The word is compared modulo 2^30, and a call
/// that came 2^29 calls after the one in the word would be taken for cancelled.
const CALLS_PER_CANCELLATION: u32 = 1 << 28;

/// The state of a client that its threads share under its lock.
pub(super) struct Calls {
    // The order matters: see `MessagePort`.
    sender: SendHalf,
    /// `None` while a waiting thread receives with it.
    pub(super) receiver: Option<Box<RecvHalf>>,
    entries: Vec<CallEntry>,
    /// Indices of the entries without a call.
    free: Vec<u32>,
    /// The end of the server, once it has been received.
    ended: Option<CloseReason>,
    /// Number of threads that sleep until their call has an outcome or the receiving half is free.
    pub(super) sleepers: usize,
}

/// The entry of a call in the table. It is used again when the call is over.
#[derive(Default)]
pub(super) struct CallEntry {
    /// Calls that used this entry before.
    count: u32,
    state: CallState,
    /// The answer, in the state `Answered`. Its memory is used again.
    message: Message,
    /// The error, in the state `Failed`.
    error: Option<AnswerError>,
    /// The thread that sleeps until the call has an outcome.
    pub(super) sleeper: Option<Thread>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum CallState {
    /// There is no call.
    #[default]
    Free,
    /// The request is posted, and the call has no outcome.
    Open,
    Answered,
    Failed,
}

impl Calls {
    pub(super) fn new(port: MessagePort) -> Self {
        // Not `split`: a half that it returns may be closed while the other posts. Here only a drop closes the halves.
        let MessagePort { sender, receiver } = port;
        let receiver = Some(Box::new(receiver));
        Self { sender, receiver, entries: Vec::new(), free: Vec::new(), ended: None, sleepers: 0 }
    }

    /// Posts a request. `data` is unchanged afterwards.
    #[inline]
    pub(super) fn post(&mut self, data: &mut Vec<u8>, list: &[TransferRef<'_>]) -> Result<Number, PostErrorKind> {
        let number = self.open();
        let len = data.len();
        let result = mark(data, MarkKind::Request, number).and_then(|()| self.sender.post(data, list));
        data.truncate(len);
        if result.is_err() {
            self.close(number);
        }
        result.map(|()| number)
    }

    /// Opens a call in a free entry.
    #[inline]
    fn open(&mut self) -> Number {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(CallEntry::default());
            self.entries.len() as u32 - 1
        });
        let entry = &mut self.entries[index as usize];
        entry.state = CallState::Open;
        Number::new(index, entry.count)
    }

    /// The entry of a call that is not over.
    #[inline]
    pub(super) fn entry(&mut self, number: Number) -> Option<&mut CallEntry> {
        let index = number.index();
        let entry = self.entries.get_mut(index)?;
        let is_its_call = entry.state != CallState::Free && Number::new(index as u32, entry.count) == number;
        is_its_call.then_some(entry)
    }

    /// The entry of a call that has no outcome yet.
    #[inline]
    fn open_entry(&mut self, number: Number) -> Option<&mut CallEntry> {
        self.entry(number).filter(|entry| entry.state == CallState::Open)
    }

    /// As [`close`](Self::close), and cancels a call that has no outcome yet.
    pub(super) fn abandon(&mut self, number: Number, segment: &Segment) -> Option<Message> {
        if self.entry(number)?.state == CallState::Open {
            number.cancel(segment);
        }
        self.close(number)
    }

    /// Ends a call that is not over, and frees its entry. Returns an answer that was not taken.
    #[inline]
    pub(super) fn close(&mut self, number: Number) -> Option<Message> {
        let entry = self.entry(number)?;
        let untaken = (entry.state == CallState::Answered).then(|| std::mem::take(&mut entry.message));
        entry.state = CallState::Free;
        entry.count = entry.count.wrapping_add(1);
        let is_cancellation_old = entry.count.is_multiple_of(CALLS_PER_CANCELLATION);
        self.free.push(number.index() as u32);
        if is_cancellation_old {
            number.cancel(self.sender.end().segment());
        }
        untaken
    }

    /// Takes the outcome of a call, if there is one. The call is over then.
    #[inline]
    pub(super) fn take(&mut self, number: Number, answer: &mut Message) -> Option<Result<(), AnswerError>> {
        let ended = self.ended;
        let Some(entry) = self.entry(number) else { return Some(Err(AnswerError::Taken)) };
        let result = match entry.state {
            CallState::Answered => {
                std::mem::swap(&mut entry.message, answer);
                entry.state = CallState::Open;
                Ok(())
            }
            CallState::Failed => Err(entry.error.take()?),
            CallState::Open | CallState::Free => Err(AnswerError::Failed(RecvError::Ended(ended?))),
        };
        self.close(number);
        Some(result)
    }

    /// Gives a received message to its call. True if that is `own`, the call of the receiving thread, which keeps the
    /// message. A message without a call is dropped: an answer that is too late, or not an answer at all.
    #[inline]
    pub(super) fn deliver(&mut self, message: &mut Message, own: Option<Number>) -> bool {
        match unmark(&mut message.data) {
            Some((MarkKind::Answer, number)) => {
                if self.open_entry(number).is_some() && own == Some(number) {
                    self.close(number);
                    return true;
                }
                if let Some(entry) = self.open_entry(number) {
                    std::mem::swap(&mut entry.message, message);
                    entry.settle(CallState::Answered);
                }
            }
            Some((MarkKind::Dropped, number)) => self.settle(number, AnswerError::Dropped),
            Some((MarkKind::Request, _)) | None => {}
        }
        false
    }

    /// Applies a failed receive: to all calls, if the server is gone; to one, if its answer cannot be received; else to
    /// the attempt alone, whose error it returns.
    #[cold]
    pub(super) fn fail(&mut self, error: RecvError) -> Result<(), AnswerError> {
        match error {
            RecvError::Ended(reason) => {
                self.ended = Some(reason);
                self.entries.iter().filter_map(|entry| entry.sleeper.as_ref()).for_each(Thread::unpark);
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
        if let Some(entry) = self.open_entry(number) {
            entry.error = Some(error);
            entry.settle(CallState::Failed);
        }
    }

    /// Wakes a sleeping thread to receive, when the calling thread stops receiving.
    #[inline]
    pub(super) fn pass_on(&self) {
        if self.sleepers > 0
            && self.receiver.is_some()
            && let Some(sleeper) = self.entries.iter().find_map(|entry| entry.sleeper.as_ref())
        {
            sleeper.unpark();
        }
    }
}

impl CallEntry {
    /// Notes the outcome of the call and wakes the thread that waits for it.
    fn settle(&mut self, outcome: CallState) {
        self.state = outcome;
        if let Some(sleeper) = &self.sleeper {
            sleeper.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::channel::MessageChannel;

    #[test]
    fn a_call_is_not_cancelled_by_one_long_before_it() {
        let MessageChannel { port1, .. } = MessageChannel::new().expect("a pair");
        let mut calls = Calls::new(port1);
        let segment = calls.sender.end().segment().clone();
        let abandoned = calls.open();
        calls.abandon(abandoned, &segment);
        assert!(abandoned.is_cancelled(&segment));
        // As if as many calls had been opened and closed as lie between the steps.
        for step in 1..=16_u32 {
            calls.entries[0].count = CALLS_PER_CANCELLATION.wrapping_mul(step).wrapping_sub(1);
            for _ in 0..2 {
                let number = calls.open();
                assert!(!number.is_cancelled(&segment), "step {step}");
                calls.close(number);
            }
        }
    }
}
