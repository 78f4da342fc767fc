//! Posting from a task.
#![forbid(unsafe_code)]

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_sink::Sink;
use tokio::task::coop;

use super::port::{AsyncPort, AsyncSendHalf};
use super::wait::Timer;
use crate::error::{FullCause, PostErrorKind, Refusal};
use crate::port::message::Message;
use crate::port::transfer::{PostError, TransferRef, Transferable};

impl AsyncPort {
    /// Posts a message without waiting; see [`MessagePort::post_message`](crate::MessagePort::post_message).
    ///
    /// # Errors
    /// Those of `MessagePort::post_message`. Also `Full` while the `Sink` holds a message that does not fit, since that
    /// one is posted first.
    pub fn post_message(
        &mut self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<(), PostError> {
        self.sender.post_message(data, transfer)
    }

    /// Posts a message and, if the queue is full, waits for space for as long as the peer lives.
    ///
    /// If the future is dropped, nothing was posted, and what is on the list is dropped with the future:
    /// [`post_message_draining_wait`](Self::post_message_draining_wait) leaves it with the caller.
    ///
    /// ```
    /// # use messageport::{MessageChannel, TransferBuffer, aio::AsyncPort};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let MessageChannel { port1, port2 } = MessageChannel::new()?;
    /// # let mut port = AsyncPort::new(port1)?;
    /// port.post_message_wait(b"a frame", [TransferBuffer::new(4096)?.into()]).await?;
    /// port.post_message_wait(b"nothing but text", []).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`MessagePort::post_message`](crate::MessagePort::post_message) except `Full`; also
    /// [`ResourceExhausted`](PostErrorKind::ResourceExhausted) if it has to wait in a runtime that is shutting down. A
    /// message that the `Sink` holds is posted first, and the error may be its error.
    pub async fn post_message_wait(
        &mut self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<(), PostError> {
        self.sender.post_message_wait(data, transfer).await
    }

    /// Posts a message of data alone, without waiting; see [`MessagePort::post_data`](crate::MessagePort::post_data).
    ///
    /// # Errors
    /// Those of [`post_message`](Self::post_message).
    pub fn post_data(&mut self, data: impl AsRef<[u8]>) -> Result<(), PostErrorKind> {
        self.sender.post_data(data)
    }

    /// Posts a message of data alone and, if the queue is full, waits for space for as long as the peer lives.
    ///
    /// Cancel-safe: if the future is dropped, nothing was posted.
    ///
    /// # Errors
    /// Those of [`post_message_wait`](Self::post_message_wait).
    pub async fn post_data_wait(&mut self, data: impl AsRef<[u8]>) -> Result<(), PostErrorKind> {
        self.sender.post_data_wait(data).await
    }

    /// Posts a message as [`post_message_wait`](Self::post_message_wait) does, with a list that stays with the caller
    /// until the message is posted, and is empty then.
    ///
    /// Cancel-safe: if the future is dropped, nothing was posted, and the list is as it was.
    ///
    /// ```
    /// # use messageport::{MessageChannel, TransferBuffer, aio::AsyncPort};
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let MessageChannel { port1, port2 } = MessageChannel::new()?;
    /// # let mut port = AsyncPort::new(port1)?;
    /// let mut frames = vec![TransferBuffer::new(4096)?.into()];
    /// let posting = port.post_message_draining_wait(b"a frame", &mut frames);
    /// match tokio::time::timeout(Duration::from_secs(1), posting).await {
    ///     Ok(posted) => posted?,
    ///     Err(_) => println!("no room yet for {} frame", frames.len()),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of [`post_message_wait`](Self::post_message_wait). The list is unchanged.
    pub async fn post_message_draining_wait(
        &mut self,
        data: impl AsRef<[u8]>,
        transfer: &mut Vec<Transferable>,
    ) -> Result<(), PostErrorKind> {
        self.sender.post_message_draining_wait(data, transfer).await
    }

    /// Takes back the message that the `Sink` has taken and not posted yet, if there is one.
    pub fn take_unsent(&mut self) -> Option<Message> {
        self.sender.take_unsent()
    }

    /// The longest data that a message can have; see
    /// [`MessagePort::max_message_len`](crate::MessagePort::max_message_len).
    pub fn max_message_len(&self) -> usize {
        self.sender.max_message_len()
    }
}

impl AsyncSendHalf {
    /// See [`AsyncPort::post_message`].
    pub fn post_message(
        &mut self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<(), PostError> {
        match self.try_post_unsent() {
            Ok(()) => self.half.post_message(data, transfer),
            Err(kind) => Err(PostError::new(kind, transfer.into_iter().collect())),
        }
    }

    /// See [`AsyncPort::post_message_wait`].
    pub async fn post_message_wait(
        &mut self,
        data: impl AsRef<[u8]>,
        transfer: impl IntoIterator<Item = Transferable>,
    ) -> Result<(), PostError> {
        let mut transfer: Vec<Transferable> = transfer.into_iter().collect();
        let posted = self.post_message_draining_wait(data, &mut transfer).await;
        posted.map_err(|kind| PostError::new(kind, transfer))
    }

    /// See [`AsyncPort::post_data`].
    pub fn post_data(&mut self, data: impl AsRef<[u8]>) -> Result<(), PostErrorKind> {
        self.try_post_unsent()?;
        Ok(self.half.post_data(data)?)
    }

    /// See [`AsyncPort::post_data_wait`].
    pub async fn post_data_wait(&mut self, data: impl AsRef<[u8]>) -> Result<(), PostErrorKind> {
        poll_fn(|context| {
            ready!(self.poll_unsent(context))?;
            self.poll_post(context, data.as_ref(), &[])
        })
        .await
    }

    /// See [`AsyncPort::post_message_draining_wait`].
    pub async fn post_message_draining_wait(
        &mut self,
        data: impl AsRef<[u8]>,
        transfer: &mut Vec<Transferable>,
    ) -> Result<(), PostErrorKind> {
        poll_fn(|context| self.poll_post_list(context, data.as_ref(), transfer)).await
    }

    /// Borrows the list mutably from the start: a shared reference to it is not `Send`, and so neither would be the
    /// future.
    fn poll_post_list(
        &mut self,
        context: &mut Context<'_>,
        data: &[u8],
        transfer: &mut Vec<Transferable>,
    ) -> Poll<Result<(), PostErrorKind>> {
        ready!(self.poll_unsent(context))?;
        let list: Vec<TransferRef<'_>> = transfer.iter().map(TransferRef::from).collect();
        ready!(self.poll_post(context, data, &list))?;
        transfer.clear(); // what is left are detached handles
        Poll::Ready(Ok(()))
    }

    /// See [`AsyncPort::take_unsent`].
    pub fn take_unsent(&mut self) -> Option<Message> {
        self.unsent.take()
    }

    /// See [`AsyncPort::max_message_len`].
    pub fn max_message_len(&self) -> usize {
        self.half.max_message_len()
    }

    fn poll_post(
        &mut self,
        context: &mut Context<'_>,
        data: &[u8],
        list: &[TransferRef<'_>],
    ) -> Poll<Result<(), PostErrorKind>> {
        let turn = ready!(coop::poll_proceed(context));
        loop {
            // 1. Post.
            let mut result = self.half.post(data, list);
            // 2. If there is no room, arm the doorbell, so that freed space wakes the task, and try once more.
            if matches!(result, Err(PostErrorKind::Full(FullCause::Ring))) {
                self.half.want_any_space();
                // Sequence 0: the sending half leaves all descriptors on the lane to the receiving half.
                ready!(self.wait.poll_arm(context, 0)).map_err(PostErrorKind::ResourceExhausted)?;
                result = self.half.post(data, list);
            }
            // 3. If there is still no room, sleep.
            match result {
                Err(PostErrorKind::Full(cause)) => {
                    self.wait.sleep(context);
                    let retry = self.retry.get_or_insert_with(|| Retry::new(cause));
                    ready!(retry.poll(context, |time| self.wait.registration().timer(time)));
                }
                result => {
                    self.wait.over();
                    self.retry = None;
                    turn.made_progress();
                    return Poll::Ready(result);
                }
            }
        }
    }

    /// Posts the message that the `Sink` holds, waiting for space. The sink still holds it after an error.
    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<Result<(), PostErrorKind>> {
        let Some(message) = self.unsent.take() else { return Poll::Ready(Ok(())) };
        let result = self.poll_post(context, &message.data, &message.transfer_list());
        if !matches!(result, Poll::Ready(Ok(()))) {
            self.unsent = Some(message);
        }
        result
    }

    /// Posts the message that the `Sink` holds, without waiting. The sink still holds it after an error.
    fn try_post_unsent(&mut self) -> Result<(), PostErrorKind> {
        if let Some(message) = &self.unsent {
            self.half.post(&message.data, &message.transfer_list())?;
            self.unsent = None;
        }
        Ok(())
    }

    /// The result for the user of the `Sink`: an error gives the message back.
    fn or_give_back(&mut self, result: Result<(), PostErrorKind>) -> Result<(), SendError> {
        result.map_err(|kind| SendError::new(kind, self.unsent.take().unwrap_or_default()))
    }
}

/// The timer of a sender that may not be woken: a peer cannot send a wake-up over a full lane, and a lane that has room
/// again makes no edge.
pub(super) struct Retry {
    timer: Option<Timer>,
    /// The next interval. It doubles, so that a wait takes at most twice as long as it must.
    next: Duration,
    longest: Duration,
}

impl Retry {
    fn new(cause: FullCause) -> Self {
        let (next, longest) = match cause {
            FullCause::Ring => (Duration::from_millis(10), Duration::from_secs(1)),
            FullCause::Lane => (Duration::from_millis(1), Duration::from_millis(100)),
        };
        Self { timer: None, next, longest }
    }

    fn poll(&mut self, context: &mut Context<'_>, timer: impl FnOnce(Duration) -> Timer) -> Poll<()> {
        let next = self.next;
        ready!(self.timer.get_or_insert_with(|| timer(next)).as_mut().poll(context));
        self.timer = None;
        self.next = (self.next * 2).min(self.longest);
        Poll::Ready(())
    }
}

/// Posts messages in order, with everything in them, and holds at most one that does not fit. Closing the sink only
/// flushes it: the port ends when it is [closed](AsyncSendHalf::close) or dropped.
impl Sink<Message> for AsyncSendHalf {
    type Error = SendError;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_flush(context)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), SendError> {
        let half = self.get_mut();
        if let Err(kind) = half.try_post_unsent() {
            return Err(SendError::new(kind, message));
        }
        half.unsent = Some(message);
        match half.try_post_unsent() {
            Err(PostErrorKind::Full(_)) => Ok(()),
            result => half.or_give_back(result),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let half = self.get_mut();
        let result = ready!(half.poll_unsent(context));
        Poll::Ready(half.or_give_back(result))
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_flush(context)
    }
}

/// The sink of the sending half, [`AsyncSendHalf`].
impl Sink<Message> for AsyncPort {
    type Error = SendError;

    fn poll_ready(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Pin::new(&mut self.get_mut().sender).poll_ready(context)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), SendError> {
        Pin::new(&mut self.get_mut().sender).start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Pin::new(&mut self.get_mut().sender).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Pin::new(&mut self.get_mut().sender).poll_close(context)
    }
}

/// The [`Sink`] could not post a message: it gives back the message, unchanged.
pub type SendError = Refusal<PostErrorKind, Message>;
