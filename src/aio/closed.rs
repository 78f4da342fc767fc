//! Waiting in a task for the end of the peer.
#![forbid(unsafe_code)]

use std::future::poll_fn;

use super::port::{AsyncPort, AsyncRecvHalf, AsyncSendHalf};
use crate::error::{CloseReason, RecvError};

impl AsyncPort {
    /// Why the peer is gone; `None` while it is there. See [`MessagePort::peer_state`](crate::MessagePort::peer_state).
    ///
    /// # Errors
    /// Those of [`MessagePort::peer_state`](crate::MessagePort::peer_state).
    pub fn peer_state(&self) -> Result<Option<CloseReason>, RecvError> {
        self.receiver.peer_state()
    }

    /// Waits until the peer is gone, and returns why. Takes no message and posts none: what the peer posted before can
    /// still be received.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// Those of [`peer_state`](Self::peer_state); also [`ResourceExhausted`](RecvError::ResourceExhausted) in a runtime
    /// that is shutting down.
    pub async fn closed(&mut self) -> Result<CloseReason, RecvError> {
        self.receiver.closed().await
    }
}

impl AsyncSendHalf {
    /// See [`AsyncPort::peer_state`].
    ///
    /// # Errors
    /// Those of [`MessagePort::peer_state`](crate::MessagePort::peer_state).
    pub fn peer_state(&self) -> Result<Option<CloseReason>, RecvError> {
        self.half.peer_state()
    }

    /// See [`AsyncPort::closed`].
    ///
    /// # Errors
    /// Those of [`AsyncPort::closed`].
    pub async fn closed(&mut self) -> Result<CloseReason, RecvError> {
        poll_fn(|context| self.wait.poll_end(context)).await
    }
}

impl AsyncRecvHalf {
    /// See [`AsyncPort::peer_state`].
    ///
    /// # Errors
    /// Those of [`MessagePort::peer_state`](crate::MessagePort::peer_state).
    pub fn peer_state(&self) -> Result<Option<CloseReason>, RecvError> {
        self.half.peer_state()
    }

    /// See [`AsyncPort::closed`].
    ///
    /// # Errors
    /// Those of [`AsyncPort::closed`].
    pub async fn closed(&mut self) -> Result<CloseReason, RecvError> {
        poll_fn(|context| self.wait.poll_end(context)).await
    }
}
