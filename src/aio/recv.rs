//! Receiving in a task.
#![forbid(unsafe_code)]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::task::coop;

use super::port::{AsyncPort, AsyncRecvHalf};
use crate::error::{CloseReason, RecvError, TryRecvError};
use crate::port::message::Message;

impl AsyncPort {
    /// Takes the next message, waiting for as long as the peer lives.
    ///
    /// Cancel-safe: if the future is dropped, the message stays queued.
    ///
    /// # Errors
    /// Those of [`MessagePort::recv`](crate::MessagePort::recv); also
    /// [`ResourceExhausted`](RecvError::ResourceExhausted) if it has to wait in a runtime that is shutting down. After
    /// a shortage the next call naps before it tries again, for 10 ms at first and twice as long each time, up to 1 s.
    pub async fn recv(&mut self) -> Result<Message, RecvError> {
        self.receiver.recv().await
    }

    /// As [`recv`](Self::recv), into a message whose memory is used again. The previous content of the message is
    /// dropped.
    ///
    /// # Errors
    /// Those of [`recv`](Self::recv). The message is then empty.
    pub async fn recv_into(&mut self, message: &mut Message) -> Result<(), RecvError> {
        self.receiver.recv_into(message).await
    }

    /// Takes the next message if there is one, without waiting.
    ///
    /// # Errors
    /// Those of [`MessagePort::try_recv`](crate::MessagePort::try_recv).
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        self.receiver.try_recv()
    }

    /// As [`try_recv`](Self::try_recv), into a message whose memory is used again; see
    /// [`MessagePort::try_recv_into`](crate::MessagePort::try_recv_into).
    ///
    /// # Errors
    /// Those of [`try_recv`](Self::try_recv). The message is then empty.
    pub fn try_recv_into(&mut self, message: &mut Message) -> Result<(), TryRecvError> {
        self.receiver.try_recv_into(message)
    }
}

impl AsyncRecvHalf {
    /// See [`AsyncPort::recv`].
    pub async fn recv(&mut self) -> Result<Message, RecvError> {
        let mut message = Message::new();
        self.recv_into(&mut message).await?;
        Ok(message)
    }

    /// See [`AsyncPort::recv_into`].
    pub async fn recv_into(&mut self, message: &mut Message) -> Result<(), RecvError> {
        poll_fn(|context| self.poll_recv_into(context, message)).await
    }

    /// See [`AsyncPort::try_recv`].
    pub fn try_recv(&mut self) -> Result<Message, TryRecvError> {
        self.half.try_recv()
    }

    /// See [`AsyncPort::try_recv_into`].
    pub fn try_recv_into(&mut self, message: &mut Message) -> Result<(), TryRecvError> {
        self.half.try_recv_into(message)
    }

    fn poll_recv_into(&mut self, context: &mut Context<'_>, message: &mut Message) -> Poll<Result<(), RecvError>> {
        let turn = ready!(coop::poll_proceed(context));
        // 1. Receive, after a nap if the last attempt met a shortage.
        if let Some(nap) = &mut self.nap {
            ready!(nap.as_mut().poll(context));
            self.nap = None;
        }
        let mut received = self.half.try_recv_into(message);
        // 2. If there is no message, arm the doorbell, so that a post wakes the task, and try once more.
        if matches!(received, Err(TryRecvError::Empty)) {
            let sequence = self.half.receiving.borrow().consumer.sequence();
            ready!(self.wait.poll_arm(context, sequence)).map_err(RecvError::ResourceExhausted)?;
            received = self.half.try_recv_into(message);
        }
        let result = match received {
            Ok(()) => Ok(()),
            Err(TryRecvError::Failed(error)) => Err(error),
            // 3. If there is still no message, sleep.
            Err(TryRecvError::Empty) => {
                self.wait.sleep(context);
                return Poll::Pending;
            }
        };
        match result {
            Err(RecvError::ResourceExhausted(_)) => {
                self.nap = Some(self.wait.registration().timer(self.naps.next()));
            }
            _ => self.naps.reset(),
        }
        self.wait.over();
        turn.made_progress();
        Poll::Ready(result)
    }
}

/// The messages of the port. The stream ends when the peer has [closed](CloseReason::Closed) and all its messages have
/// been received, and when this port is closed. Any other end comes first, as an error: it is the last item. A
/// [`MessageError`](RecvError::MessageError) and a [`ResourceExhausted`](RecvError::ResourceExhausted) are items
/// between others.
impl Stream for AsyncRecvHalf {
    type Item = Result<Message, RecvError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let half = self.get_mut();
        if half.stream_is_over {
            return Poll::Ready(None);
        }
        let mut message = Message::new();
        let error = match ready!(half.poll_recv_into(context, &mut message)) {
            Ok(()) => return Poll::Ready(Some(Ok(message))),
            Err(error) => error,
        };
        half.stream_is_over = !matches!(error, RecvError::MessageError { .. } | RecvError::ResourceExhausted(_));
        match error {
            RecvError::Ended(CloseReason::Closed) | RecvError::PortClosed => Poll::Ready(None),
            error => Poll::Ready(Some(Err(error))),
        }
    }
}

/// The stream of the receiving half, [`AsyncRecvHalf`].
impl Stream for AsyncPort {
    type Item = Result<Message, RecvError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.get_mut().receiver).poll_next(context)
    }
}
