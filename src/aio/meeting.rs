//! Meeting by name in a task: a listener that accepts, and connecting to a listener.
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
    AcceptError, ConnectError, ConnectOptions, Connecting, Incoming, ListenError, ListenOptions, Listener,
    SHORTAGE_PAUSE,
};
use crate::error::{Refusal, WatchError};
use crate::port::MessagePort;
use crate::sys::readiness::{OneDescriptor, Readiness};
use crate::sys::socket;

/// A listener takes at most 64 steps in a row, so that clients that send nothing do not starve other tasks.
const MAX_STEPS: u32 = 64;

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
///     let client = listener.accept().await?; // waits out a shortage of descriptors
///     tokio::spawn(async move {
///         let Ok(mut port) = AsyncPort::new(client.port) else { return };
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
    /// Ends when the next silent client will be dropped, or when a pause after a shortage is over.
    pause: Option<Timer>,
}

impl AsyncListener {
    /// Registers a listener with the runtime in which this is called.
    ///
    /// # Errors
    /// This is not called within a runtime, or the system has no resources. The listener is in the error.
    ///
    /// # Panics
    /// If the runtime does not drive I/O and time.
    pub fn new(listener: Listener) -> Result<Self, Refusal<WatchError, Listener>> {
        let failed = |(listener, error)| Refusal::new(WatchError::System(error), listener);
        match current_runtime() {
            Ok(runtime) => {
                let registration = Readiness::new(listener).map_err(failed)?;
                Ok(Self { registration, runtime, pause: None })
            }
            Err(error) => Err(failed((listener, error))),
        }
    }

    /// Starts listening on `name` with the default options; see [`ListenOptions::bind_async`].
    ///
    /// # Errors
    /// Those of [`ListenOptions::bind_async`].
    ///
    /// # Panics
    /// If the runtime does not drive I/O and time.
    pub fn bind(name: &str) -> Result<Self, ListenError> {
        ListenOptions::new().bind_async(name)
    }

    /// Waits for the next client. While this waits, clients that misbehave are turned away and counted, and shortages
    /// of descriptors or memory are waited out.
    ///
    /// Cancel-safe: if the future is dropped, no client is lost.
    ///
    /// # Errors
    /// Those of [`Listener::accept`]; also [`AcceptError::System`] in a runtime that is shutting down.
    pub async fn accept(&mut self) -> Result<Incoming, AcceptError> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        let listener = self.registration.get_ref();
        for _ in 0..MAX_STEPS {
            match listener.try_accept() {
                Ok(None) => {}
                Err(error) if error.is_shortage() => {
                    // The descriptor stays readable while a connection waits, so this waits for time to pass.
                    let pause = self.pause.insert(timer(&self.runtime, SHORTAGE_PAUSE));
                    if pause.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    continue;
                }
                result => return Poll::Ready(result.transpose().unwrap_or(Err(AcceptError::TimedOut))),
            }
            // That was one step, for example to admit a client that has sent nothing yet. There may be more to do.
            if socket::wait(listener.as_fd(), false, Duration::ZERO).is_ok_and(|seen| seen.readable) {
                continue;
            }
            match self.registration.poll(context) {
                Poll::Ready(Ok(_)) => continue,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(AcceptError::System(error))),
                Poll::Pending => {}
            }
            // A client that stays silent is dropped when its time is over.
            let left = listener.next_deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            self.pause = left.map(|left| timer(&self.runtime, left));
            if self.pause.as_mut().is_none_or(|timer| timer.as_mut().poll(context).is_pending()) {
                return Poll::Pending;
            }
        }
        // Many clients connect and send nothing: let other tasks run.
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

    /// Turns the listener back into one without a runtime.
    pub fn into_listener(self) -> Listener {
        self.registration.into_inner()
    }
}

impl fmt::Debug for AsyncListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AsyncListener").field(self.registration.get_ref()).finish()
    }
}

/// Sends a greeting to the listener on `name`, which makes a pair, and returns one end of the pair: the
/// [`connect`](crate::connect()) of tasks.
///
/// If the future is dropped, the listener may have accepted already. Its port then ends with `PeerDied`.
///
/// # Errors
/// Those of [`connect`](crate::connect()); also [`ConnectError::System`] if this is not called within a runtime.
///
/// # Panics
/// If the runtime does not drive I/O and time.
pub async fn connect(name: &str, greeting: &[u8]) -> Result<AsyncPort, ConnectError> {
    ConnectOptions::new().connect_async(name, greeting).await
}

impl ConnectOptions {
    /// Sends a greeting to the listener on `name`, in a task; see [`aio::connect`](connect).
    ///
    /// # Errors
    /// Those of [`aio::connect`](connect).
    ///
    /// # Panics
    /// If the runtime does not drive I/O and time.
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
            sleep(connecting.pause().min(connecting.left())).await;
        };
        AsyncPort::new(port).map_err(|failed| ConnectError::System(failed.into()))
    }
}

impl ListenOptions {
    /// Starts listening on `name` in the runtime in which this is called.
    ///
    /// # Errors
    /// Those of [`bind`](Self::bind); also [`ListenError::System`] for those of [`AsyncListener::new`]. The name is
    /// then free.
    ///
    /// # Panics
    /// If the runtime does not drive I/O and time.
    pub fn bind_async(&self, name: &str) -> Result<AsyncListener, ListenError> {
        AsyncListener::new(self.bind(name)?).map_err(|failed| {
            let (kind, listener) = failed.into_parts();
            ListenError::System(listener.path().to_owned(), kind.into())
        })
    }
}

/// Waits for the answer to the greeting that has been sent.
async fn answer(connecting: Connecting) -> Result<MessagePort, ConnectError> {
    let mut connecting = Readiness::new(connecting).map_err(|(_connecting, error)| ConnectError::System(error))?;
    loop {
        if let Some(port) = connecting.get_mut().step()? {
            return Ok(port);
        }
        let left = connecting.get_mut().left();
        let readiness = &mut connecting; // mutable: a shared reference to a port is not `Send`
        let edge = timeout(left, poll_fn(|context| Readiness::poll_mut(readiness, context))).await;
        if let Ok(Err(error)) = edge {
            return Err(ConnectError::System(error));
        }
    }
}
