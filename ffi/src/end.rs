//! What a handle of a port stands for: a whole port, or one half of it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use messageport::{
    Message, MessagePort, MessageRef, Queued, RecvError, RecvHalf, RecvTimeoutError, Reservation, SendHalf,
    TransferBuffer, TransferRef, TryRecvError,
};

use crate::code;
use crate::failure::Failure;
use crate::input::Timeout;

pub(crate) enum End {
    Whole(MessagePort),
    Sender(SendHalf),
    Receiver(RecvHalf),
    /// Given to a child process, or joined to another half.
    Gone,
}

const WRONG_HALF: Failure = Failure::Plain(code::WRONG_HALF);
const GONE: Failure = Failure::Plain(code::DETACHED);

impl End {
    /// A message without a transfer list: the way that must be short.
    #[inline]
    pub(crate) fn post_plain(&self, data: &[u8]) -> Result<(), Failure> {
        if let Self::Whole(port) = self {
            port.post_message(data, []).map_err(|error| error.kind)?;
            return Ok(());
        }
        self.post(data, &[])
    }

    pub(crate) fn post(&self, data: &[u8], list: &[TransferRef<'_>]) -> Result<(), Failure> {
        match self {
            Self::Whole(port) => port.post_message_detaching(data, list)?,
            Self::Sender(half) if list.is_empty() => half.post_message(data, []).map_err(|error| error.kind)?,
            Self::Sender(half) => half.post_message_detaching(data, list)?,
            Self::Receiver(_) => return Err(WRONG_HALF),
            Self::Gone => return Err(GONE),
        }
        Ok(())
    }

    pub(crate) fn post_wait(&self, data: &[u8], list: &[TransferRef<'_>], timeout: Timeout) -> Result<(), Failure> {
        let timeout = match timeout {
            Timeout::None => Some(Duration::ZERO),
            Timeout::For(time) => Some(time),
            Timeout::Forever => None,
        };
        match self {
            Self::Whole(port) => port.post_message_wait_detaching(data, list, timeout)?,
            Self::Sender(half) => half.post_message_wait_detaching(data, list, timeout)?,
            Self::Receiver(_) => return Err(WRONG_HALF),
            Self::Gone => return Err(GONE),
        }
        Ok(())
    }

    pub(crate) fn reserve(&self, len: usize) -> Result<Reservation<'_>, Failure> {
        match self {
            Self::Whole(port) => Ok(port.reserve(len)?),
            Self::Sender(half) => Ok(half.reserve(len)?),
            Self::Receiver(_) => Err(WRONG_HALF),
            Self::Gone => Err(GONE),
        }
    }

    pub(crate) fn max_message_len(&self) -> Result<usize, Failure> {
        match self {
            Self::Whole(port) => Ok(port.max_message_len()),
            Self::Sender(half) => Ok(half.max_message_len()),
            Self::Receiver(_) => Err(WRONG_HALF),
            Self::Gone => Err(GONE),
        }
    }

    /// If the message that came cannot be received, its data is still in `message`.
    pub(crate) fn max_inline_len(&self) -> Result<usize, Failure> {
        match self {
            Self::Whole(port) => Ok(port.max_inline_len()),
            Self::Sender(half) => Ok(half.max_inline_len()),
            Self::Receiver(_) => Err(WRONG_HALF),
            Self::Gone => Err(GONE),
        }
    }

    pub(crate) fn buffer(&self, len: usize) -> Result<TransferBuffer, Failure> {
        match self {
            Self::Whole(port) => Ok(port.buffer(len)?),
            Self::Sender(half) => Ok(half.buffer(len)?),
            Self::Receiver(_) => Err(WRONG_HALF),
            Self::Gone => Err(GONE),
        }
    }

    pub(crate) fn release_buffers(&self) -> Result<usize, Failure> {
        match self {
            Self::Whole(port) => Ok(port.release_buffers()?),
            Self::Sender(half) => Ok(half.release_buffers()?),
            Self::Receiver(_) => Err(WRONG_HALF),
            Self::Gone => Err(GONE),
        }
    }

    pub(crate) fn queued(&self) -> Result<Queued, Failure> {
        match self {
            Self::Whole(port) => Ok(port.queued()),
            Self::Sender(half) => Ok(half.queued()),
            Self::Receiver(_) => Err(WRONG_HALF),
            Self::Gone => Err(GONE),
        }
    }

    #[inline]
    pub(crate) fn recv_into(&self, message: &mut Message, timeout: Timeout) -> Result<(), Failure> {
        if let (Self::Whole(port), Timeout::Forever) = (self, &timeout) {
            return match port.recv_into(message) {
                Ok(()) => Ok(()),
                Err(error) => Err(Missed::Failed(error).into_failure(message)),
            };
        }
        self.recv_into_otherwise(message, timeout)
    }

    fn recv_into_otherwise(&self, message: &mut Message, timeout: Timeout) -> Result<(), Failure> {
        let result: Result<(), Missed> = match (self, timeout) {
            (Self::Whole(port), Timeout::Forever) => port.recv_into(message).map_err(Missed::from),
            (Self::Whole(port), Timeout::None) => port.try_recv_into(message).map_err(Missed::from),
            (Self::Whole(port), Timeout::For(time)) => port.recv_into_timeout(message, time).map_err(Missed::from),
            (Self::Receiver(half), Timeout::Forever) => half.recv_into(message).map_err(Missed::from),
            (Self::Receiver(half), Timeout::None) => half.try_recv_into(message).map_err(Missed::from),
            (Self::Receiver(half), Timeout::For(time)) => half.recv_into_timeout(message, time).map_err(Missed::from),
            (Self::Sender(_), _) => return Err(WRONG_HALF),
            (Self::Gone, _) => return Err(GONE),
        };
        result.map_err(|missed| missed.into_failure(message))
    }

    pub(crate) fn recv_ref(&self, timeout: Timeout) -> Result<MessageRef<'_>, Failure> {
        match (self, timeout) {
            (Self::Whole(port), Timeout::Forever) => Ok(port.recv_ref()?),
            (Self::Whole(port), Timeout::None) => Ok(port.try_recv_ref()?),
            (Self::Whole(port), Timeout::For(time)) => Ok(port.recv_ref_timeout(time)?),
            (Self::Receiver(half), Timeout::Forever) => Ok(half.recv_ref()?),
            (Self::Receiver(half), Timeout::None) => Ok(half.try_recv_ref()?),
            (Self::Receiver(half), Timeout::For(time)) => Ok(half.recv_ref_timeout(time)?),
            (Self::Sender(_), _) => Err(WRONG_HALF),
            (Self::Gone, _) => Err(GONE),
        }
    }

    pub(crate) fn close(&self) {
        match self {
            Self::Whole(port) => port.close(),
            Self::Sender(half) => half.close(),
            Self::Receiver(half) => half.close(),
            Self::Gone => {}
        }
    }

    pub(crate) fn set_spin(&self, budget: Duration) {
        match self {
            Self::Whole(port) => port.set_spin(budget),
            Self::Sender(half) => half.set_spin(budget),
            Self::Receiver(half) => half.set_spin(budget),
            Self::Gone => {}
        }
    }

    pub(crate) fn descriptor(&self) -> Result<BorrowedFd<'_>, Failure> {
        match self {
            Self::Whole(port) => Ok(port.as_fd()),
            Self::Receiver(half) => Ok(half.as_fd()),
            Self::Sender(_) => Err(WRONG_HALF),
            Self::Gone => Err(GONE),
        }
    }

    /// As a thing on a transfer list: a half cannot be on one.
    pub(crate) fn as_item(&self) -> Result<TransferRef<'_>, NotMovable> {
        match self {
            Self::Whole(port) => Ok(TransferRef::Port(port)),
            Self::Sender(_) | Self::Receiver(_) => Err(NotMovable::Half),
            Self::Gone => Err(NotMovable::Gone),
        }
    }
}

/// Why nothing was received, of any of the calls.
enum Missed {
    Nothing(code::Code),
    Failed(RecvError),
}

impl Missed {
    #[cold]
    fn into_failure(self, message: &mut Message) -> Failure {
        match self {
            Self::Nothing(code) => Failure::Plain(code),
            Self::Failed(mut error) => {
                if let RecvError::MessageError { data, .. } = &mut error {
                    message.data = std::mem::take(data);
                }
                error.into()
            }
        }
    }
}

impl From<RecvError> for Missed {
    fn from(error: RecvError) -> Self {
        Self::Failed(error)
    }
}

impl From<TryRecvError> for Missed {
    fn from(error: TryRecvError) -> Self {
        match error {
            TryRecvError::Empty => Self::Nothing(code::EMPTY),
            TryRecvError::Failed(error) => Self::Failed(error),
        }
    }
}

impl From<RecvTimeoutError> for Missed {
    fn from(error: RecvTimeoutError) -> Self {
        match error {
            RecvTimeoutError::TimedOut => Self::Nothing(code::TIMED_OUT),
            RecvTimeoutError::Failed(error) => Self::Failed(error),
        }
    }
}

/// Why an end cannot be transferred.
pub(crate) enum NotMovable {
    Half,
    Gone,
}
