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
use crate::input::{Options, Timeout, bytes, name as name_of, options};
use crate::port::PortHandle;
use crate::transfer::MessageHandle;

/// `MSGPORT_ANY_USER`.
pub const ANY_USER: u32 = 1;

/// `msgport_listen_options`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FfiListenOptions {
    pub size: usize,
    pub greeting_timeout: i64,
    pub flags: u32,
    pub reserved: u32,
}

impl Options for FfiListenOptions {
    const DEFAULT: Self = Self { size: size_of::<Self>(), greeting_timeout: 0, flags: 0, reserved: 0 };
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

/// `msgport_listener`.
pub type ListenerHandle = Handle<Listener>;

pub struct Listener {
    listener: RustListener,
    path: CString,
}

impl Object for Listener {
    const NAME: &'static str = "listener";
}

/// Whether the flags contain `MSGPORT_ANY_USER`.
fn any_user(flags: u32, reserved: u32) -> Result<bool, Failure> {
    if flags & !ANY_USER != 0 || reserved != 0 {
        return Err(Failure::plain(code::BAD_OPTIONS));
    }
    Ok(flags & ANY_USER != 0)
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
        let given = unsafe { options(listen_options) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(listener, "listener") }?;
        let mut listen = ListenOptions::new().any_uid(any_user(given.flags, given.reserved)?);
        if let Some(timeout) = Timeout::option(given.greeting_timeout) {
            listen = listen.greeting_timeout(timeout);
        }
        let listener = listen.bind(name)?;
        let path = CString::new(listener.path().as_os_str().as_bytes()).map_err(|_| Failure::plain(code::BAD_NAME))?;
        out.give(Listener { listener, path });
        Ok(())
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
        let listener = &unsafe { Handle::get(listener) }?.listener;
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
            out.set(Peer { uid, pid: pid.unwrap_or(0), has_pid: pid.is_some().into() });
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
        let listener = &unsafe { Handle::get(listener) }?.listener;
        // SAFETY: NULL or writable; the caller of C upholds it.
        unsafe { Out::new(count, "count") }?.set(listener.refused());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_listener_descriptor(listener: *mut ListenerHandle, descriptor: *mut c_int) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle; the caller of C upholds it.
        let listener = &unsafe { Handle::get(listener) }?.listener;
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
        let mut connect = ConnectOptions::new().any_uid(any_user(given.flags, given.reserved)?).channel(channel);
        if let Some(timeout) = Timeout::option(given.timeout) {
            connect = connect.timeout(timeout);
        }
        out.give(connect.connect(name, greeting)?.into());
        Ok(())
    })
}
