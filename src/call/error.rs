//! Why a call fails.

use std::fmt;
use std::io;

use crate::error::{RecvError, RecvTimeoutError, TryRecvError};
use crate::port::transfer::PostError;

/// Why there is no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum AnswerError {
    /// The server has dropped the request without answering it.
    Dropped,
    /// The time for waiting was over before the answer came.
    TimedOut,
    /// The call was over already: its answer or its error has been returned.
    Taken,
    /// The answer could not be received; or the server is gone, which is `Ended` with the reason.
    Failed(RecvError),
}

/// [`Client::call`](super::Client::call) failed. `P` contains the request if it was not posted.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError<P = PostError> {
    /// The request was not posted.
    NotPosted(P),
    /// The request was posted, and there is no answer.
    NoAnswer(AnswerError),
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
            Self::Taken => f.write_str("the call is over, and its outcome was returned before"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AnswerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Dropped | Self::TimedOut | Self::Taken => None,
            Self::Failed(error) => error.source(),
        }
    }
}

impl From<AnswerError> for io::Error {
    fn from(error: AnswerError) -> Self {
        let kind = match error {
            AnswerError::Dropped => io::ErrorKind::ConnectionAborted,
            AnswerError::TimedOut => io::ErrorKind::TimedOut,
            AnswerError::Taken => io::ErrorKind::InvalidInput,
            AnswerError::Failed(error) => return error.into(),
        };
        Self::new(kind, error)
    }
}

impl<P: fmt::Display> fmt::Display for CallError<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPosted(error) => error.fmt(f),
            Self::NoAnswer(error) => error.fmt(f),
        }
    }
}

impl<P: std::error::Error> std::error::Error for CallError<P> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotPosted(error) => error.source(),
            Self::NoAnswer(error) => error.source(),
        }
    }
}

/// The request is dropped.
impl<P: Into<io::Error>> From<CallError<P>> for io::Error {
    fn from(error: CallError<P>) -> Self {
        match error {
            CallError::NotPosted(error) => error.into(),
            CallError::NoAnswer(error) => error.into(),
        }
    }
}
