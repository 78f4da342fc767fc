//! Meeting by name in a task: a listener whose accept waits, and connecting to one.
#![forbid(unsafe_code)]

use std::fmt;
use std::future::poll_fn;
use std::os::fd::AsFd;
use std::path::Path;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::port::AsyncPort;
use super::wait::{Timer, current_runtime, timer};
use crate::connect::{
    AcceptError, ConnectError, ConnectOptions, Connecting, Incoming, ListenError, ListenOptions, Listener, QUEUE_RETRY,
};
use crate::port::MessagePort;
use crate::sys::readiness::{OneDescriptor, Readiness};
use crate::sys::socket;

/// Most steps of a listener in a row.
const STEPS: u32 = 64;

impl OneDescriptor for Listener {}
impl OneDescriptor for Connecting {}

/// A [`Listener`] whose [`accept`](Self::accept) waits in a task.
///
/// ```no_run
/// use messageport::Listener;
/// use messageport::aio::{AsyncListener, AsyncPort};
///
/// # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
/// let mut listener = AsyncListener::new(Listener::bind("my-service")?)?;
/// loop {
///     let client = listener.accept().await?;
///     let mut port = AsyncPort::new(client.port)?;
///     tokio::spawn(async move {
///         while let Ok(message) = port.recv().await {
///             println!("{} bytes", message.data.len());
///         }
///     });
/// }
/// # }
/// ```
pub struct AsyncListener {
    registration: Readiness<Listener>,
    runtime: Handle,
    /// Until a client has been silent for too long.
    silence: Option<Timer>,
}

impl AsyncListener {
    /// Makes a listener wait in the runtime that this is called in.
    ///
    /// # Errors
    /// Not called within a runtime, or the system has no resources. The name is free again then.
    ///
    /// # Panics
    /// If the runtime does not drive I/O and time.
    pub fn new(listener: Listener) -> Result<Self, ListenError> {
        let path = listener.path().to_owned();
        let register = |listener| {
            let runtime = current_runtime()?;
            let registration = Readiness::new(listener).map_err(|(_listener, error)| error)?;
            Ok(Self { registration, runtime, silence: None })
        };
        register(listener).map_err(|error| ListenError::System(path, error))
    }

    /// As [`new`](Self::new), for a listener on `name` with the default options.
    ///
    /// # Errors
    /// As for [`Listener::bind`] and for [`new`](Self::new).
    ///
    /// # Panics
    /// As for [`new`](Self::new).
    pub fn bind(name: &str) -> Result<Self, ListenError> {
        ListenOptions::new().bind_async(name)
    }

    /// Waits for the next client. Clients that misbehave are turned away and counted, while this waits.
    ///
    /// Cancel-safe: if the future is dropped no client is lost.
    ///
    /// # Errors
    /// As for [`Listener::accept`]; also [`AcceptError::System`] in a runtime that is shutting down.
    pub async fn accept(&mut self) -> Result<Incoming, AcceptError> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        let listener = self.registration.get_ref();
        for _ in 0..STEPS {
            if let Some(result) = listener.try_accept().transpose() {
                return Poll::Ready(result);
            }
            // That was one step, and there may be more to do: a client that was admitted and says nothing, for example.
            if socket::wait(listener.as_fd(), false, Duration::ZERO).is_ok_and(|seen| seen.readable) {
                continue;
            }
            match self.registration.poll(context) {
                Poll::Ready(Ok(_)) => continue,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(AcceptError::System(error))),
                Poll::Pending => {}
            }
            // A client that stays silent is dropped in time.
            let left = listener.next_deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            self.silence = left.map(|left| timer(&self.runtime, left));
            if self.silence.as_mut().is_none_or(|timer| timer.as_mut().poll(context).is_pending()) {
                return Poll::Pending;
            }
        }
        // So many clients come that say nothing: other tasks have a turn.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        self.registration.get_ref().path()
    }

    /// Clients turned away so far; see [`Listener::refused`].
    pub fn refused(&self) -> u64 {
        self.registration.get_ref().refused()
    }

    /// The listener, to be used without a runtime.
    pub fn into_listener(self) -> Listener {
        self.registration.into_inner()
    }
}

impl fmt::Debug for AsyncListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncListener").field(self.registration.get_ref()).finish()
    }
}

/// [`connect`](crate::connect()) in a task: sends one end of a new pair to the listener on `name`, with a greeting, and
/// returns the other end.
///
/// If the future is dropped the listener may have accepted already; it then sees the end of its port, `Closed`.
///
/// # Errors
/// As for [`connect`](crate::connect()); also [`ConnectError::System`] if this is not called within a runtime.
///
/// # Panics
/// If the runtime does not drive I/O and time.
pub async fn connect(name: &str, greeting: &[u8]) -> Result<AsyncPort, ConnectError> {
    ConnectOptions::new().connect_async(name, greeting).await
}

impl ConnectOptions {
    /// [`connect`](Self::connect) in a task; see [`aio::connect`](connect).
    ///
    /// # Errors
    /// As for [`aio::connect`](connect).
    ///
    /// # Panics
    /// As for [`aio::connect`](connect).
    pub async fn connect_async(&self, name: &str, greeting: &[u8]) -> Result<AsyncPort, ConnectError> {
        current_runtime().map_err(ConnectError::System)?;
        let mut connecting = self.start(name, greeting)?;
        let port = loop {
            if let Some(port) = connecting.step()? {
                break port;
            }
            if connecting.has_greeted() {
                break answer(connecting).await?;
            }
            sleep(QUEUE_RETRY).await;
        };
        AsyncPort::new(port).map_err(|failed| ConnectError::System(failed.error))
    }
}

impl ListenOptions {
    /// [`bind`](Self::bind) for tasks: a listener whose [`accept`](AsyncListener::accept) waits in the runtime that this is
    /// called in.
    ///
    /// # Errors
    /// As for [`bind`](Self::bind) and for [`AsyncListener::new`].
    ///
    /// # Panics
    /// As for [`AsyncListener::new`].
    pub fn bind_async(&self, name: &str) -> Result<AsyncListener, ListenError> {
        AsyncListener::new(self.bind(name)?)
    }
}

/// The greeting has been sent.
async fn answer(connecting: Connecting) -> Result<MessagePort, ConnectError> {
    let mut connecting = Readiness::new(connecting).map_err(|(_connecting, error)| ConnectError::System(error))?;
    loop {
        if let Some(port) = connecting.get_mut().step()? {
            return Ok(port);
        }
        let left = connecting.get_mut().left();
        let readiness = &mut connecting; // not shared, since a port is not
        let edge = timeout(left, poll_fn(|context| Readiness::poll_mut(readiness, context))).await;
        if let Ok(Err(error)) = edge {
            return Err(ConnectError::System(error));
        }
    }
}
