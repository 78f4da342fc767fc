//! Meeting by name.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

use messageport::{AcceptError, ConnectOptions, Incoming, ListenOptions, Listener as RustListener};

use super::channel::FfiChannelOptions;
use crate::code::{self, Code};
use crate::failure::Failure;
use crate::guard::{free, guard};
use crate::handle::{Handle, Object, Out};
use crate::input::{Options, Timeout, bytes, copy_of, name as name_of, options};
use crate::port::PortHandle;
use crate::transfer::MessageHandle;

/// `MSGPORT_ANY_USER`.
pub const ANY_USER: u32 = 1;
/// `MSGPORT_REMOVE_ON_SIGNAL`.
pub const REMOVE_ON_SIGNAL: u32 = 2;
/// `MSGPORT_WAIT_FOR_LISTENER`.
pub const WAIT_FOR_LISTENER: u32 = 4;

/// `msgport_listen_options`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FfiListenOptions {
    pub size: usize,
    pub greeting_timeout: i64,
    pub flags: u32,
    pub mode: u32,
    pub group: u32,
    pub reserved: u32,
}

impl Options for FfiListenOptions {
    const DEFAULT: Self =
        Self { size: size_of::<Self>(), greeting_timeout: 0, flags: 0, mode: 0, group: 0, reserved: 0 };
}

/// `msgport_connect_options`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FfiConnectOptions {
    pub size: usize,
    pub timeout: i64,
    pub flags: u32,
    pub reserved: u32,
    pub channel: *const FfiChannelOptions,
}

impl Options for FfiConnectOptions {
    const DEFAULT: Self =
        Self { size: size_of::<Self>(), timeout: 0, flags: 0, reserved: 0, channel: std::ptr::null() };
}

/// `msgport_peer`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Peer {
    pub uid: u32,
    pub pid: i32,
    pub has_pid: u32,
}

impl Peer {
    pub(super) fn new(uid: u32, pid: Option<i32>) -> Self {
        Self { uid, pid: pid.unwrap_or(0), has_pid: pid.is_some().into() }
    }
}

/// `msgport_listener`.
pub type ListenerHandle = Handle<Listener>;

pub struct Listener {
    /// `None` once it is in an event loop.
    listener: Option<RustListener>,
    path: CString,
}

impl Listener {
    fn open(&self) -> Result<&RustListener, Failure> {
        self.listener.as_ref().ok_or(Failure::plain(code::DETACHED))
    }

    /// The place of the listener, which moves to an event loop.
    pub(super) fn place(&mut self) -> &mut Option<RustListener> {
        &mut self.listener
    }
}

impl Object for Listener {
    const NAME: &'static str = "listener";
}

/// Refuses flags and fields that this version does not have.
fn check_known(flags: u32, known: u32, reserved: u32) -> Result<(), Failure> {
    if flags & !known != 0 || reserved != 0 { Err(Failure::plain(code::BAD_OPTIONS)) } else { Ok(()) }
}

/// The options of a listener.
///
/// # Safety
/// The pointer is NULL or leads to a struct of the size that it contains.
unsafe fn listen_options_of(given: *const FfiListenOptions) -> Result<ListenOptions, Failure> {
    // SAFETY: the same condition, which the caller upholds.
    let given = unsafe { options(given) }?;
    check_known(given.flags, ANY_USER | REMOVE_ON_SIGNAL, given.reserved)?;
    let mut listen =
        ListenOptions::new().any_uid(given.flags & ANY_USER != 0).remove_on_signal(given.flags & REMOVE_ON_SIGNAL != 0);
    if let Some(timeout) = Timeout::option(given.greeting_timeout) {
        listen = listen.greeting_timeout(timeout);
    }
    if given.mode != 0 {
        listen = listen.mode(given.mode);
    }
    if given.group != 0 {
        listen = listen.group(given.group);
    }
    Ok(listen)
}

fn give(listener: RustListener, out: Out<*mut ListenerHandle>) -> Result<(), Failure> {
    let path = CString::new(listener.path().as_os_str().as_bytes()).map_err(|_| Failure::plain(code::BAD_NAME))?;
    out.give(Listener { listener: Some(listener), path });
    Ok(())
}

fn accept(listener: &RustListener, timeout: Timeout) -> Result<Incoming, Failure> {
    let result = match timeout.limit() {
        None => listener.accept(),
        Some(time) => listener.accept_timeout(time),
    };
    match result {
        Err(AcceptError::TimedOut) if timeout == Timeout::Poll => Err(Failure::plain(code::EMPTY)),
        result => Ok(result?),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_listener_bind(
    name: *const c_char,
    listen_options: *const FfiListenOptions,
    listener: *mut *mut ListenerHandle,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a text that ends with NUL; the caller of C upholds it.
        let name = unsafe { name_of(name) }?;
        // SAFETY: NULL or a struct of the size that it contains; the caller of C upholds it.
        let listen = unsafe { listen_options_of(listen_options) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(listener, "listener") }?;
        give(listen.bind(name)?, out)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_listener_at(
    descriptor: c_int,
    listen_options: *const FfiListenOptions,
    listener: *mut *mut ListenerHandle,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a struct of the size that it contains; the caller of C upholds it.
        let listen = unsafe { listen_options_of(listen_options) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(listener, "listener") }?;
        // SAFETY: the caller of C keeps the descriptor open.
        let socket = unsafe { copy_of(descriptor, "descriptor") }?;
        give(listen.listen_at(socket)?, out)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_listener_activated(
    name: *const c_char,
    listen_options: *const FfiListenOptions,
    listener: *mut *mut ListenerHandle,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a text that ends with NUL; the caller of C upholds it.
        let name = if name.is_null() { None } else { Some(unsafe { name_of(name) }?) };
        // SAFETY: NULL or a struct of the size that it contains; the caller of C upholds it.
        let listen = unsafe { listen_options_of(listen_options) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(listener, "listener") }?;
        give(listen.listen_activated(name)?.ok_or_else(|| Failure::plain(code::EMPTY))?, out)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_listener_free(listener: *mut ListenerHandle) {
    // SAFETY: NULL or a live handle; the caller of C upholds that this is its last use.
    unsafe { free(listener) };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_listener_accept(
    listener: *mut ListenerHandle,
    timeout: i64,
    greeting: *mut MessageHandle,
    port: *mut *mut PortHandle,
    peer: *mut Peer,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let listener = unsafe { Handle::get(listener) }?.open()?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(port, "port") }?;
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let greeting = unsafe { Handle::get_optional(greeting) }?;
        let Incoming { port, greeting: message, uid, pid, .. } = accept(listener, Timeout::of(timeout))?;
        if let Some(greeting) = greeting {
            greeting.fill(message);
        }
        // SAFETY: NULL or writable; the caller of C upholds it.
        if let Some(out) = unsafe { Out::optional(peer) } {
            out.set(Peer::new(uid, pid));
        }
        out.give(port.into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_listener_path(listener: *const ListenerHandle, path: *mut *const c_char) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let listener = unsafe { Handle::get(listener) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        unsafe { Out::new(path, "path") }?.set(listener.path.as_ptr());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_listener_refused(listener: *mut ListenerHandle, count: *mut u64) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let listener = unsafe { Handle::get(listener) }?.open()?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        unsafe { Out::new(count, "count") }?.set(listener.refused());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_listener_descriptor(listener: *mut ListenerHandle, descriptor: *mut c_int) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let listener = unsafe { Handle::get(listener) }?.open()?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        unsafe { Out::new(descriptor, "descriptor") }?.set(listener.as_fd().as_raw_fd());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_connect(
    name: *const c_char,
    greeting: *const c_void,
    len: usize,
    connect_options: *const FfiConnectOptions,
    port: *mut *mut PortHandle,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a text that ends with NUL; the caller of C upholds it.
        let name = unsafe { name_of(name) }?;
        // SAFETY: readable for its length; the caller of C upholds it.
        let greeting = unsafe { bytes(greeting, len, "greeting") }?;
        // SAFETY: NULL or a struct of the size that it contains; the caller of C upholds it.
        let given = unsafe { options(connect_options) }?;
        // SAFETY: NULL or a struct of the size that it contains; the caller of C upholds it.
        let channel = unsafe { options(given.channel) }?;
        // SAFETY: the name is NULL or a text; the caller of C upholds it.
        let channel = unsafe { channel.to_rust() }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(port, "port") }?;
        check_known(given.flags, ANY_USER | WAIT_FOR_LISTENER, given.reserved)?;
        let mut connect = ConnectOptions::new()
            .any_uid(given.flags & ANY_USER != 0)
            .wait_for_listener(given.flags & WAIT_FOR_LISTENER != 0)
            .channel(channel);
        if let Some(timeout) = Timeout::option(given.timeout) {
            connect = connect.timeout(timeout);
        }
        out.give(connect.connect(name, greeting)?.into());
        Ok(())
    })
}
