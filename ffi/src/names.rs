//! Meeting by name.

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use messageport::{ConnectOptions, Incoming, ListenOptions, Listener as RustListener};

use crate::channel::FfiChannelOptions;
use crate::code::{self, Code};
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::{Handle, Kind, Out};
use crate::input::{Options, Timeout, bytes, options, text};
use crate::message::MessageHandle;
use crate::port::{Port, PortHandle};

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
}

/// `msgport_listener`.
pub type ListenerHandle = Handle<Listener>;

pub struct Listener {
    listener: RustListener,
    path: CString,
}

impl Kind for Listener {
    const NAME: &'static str = "listener";
    const TAG: u64 = u64::from_le_bytes(*b"listener");
}

/// A time in options: 0 is the default.
fn time(nanoseconds: i64) -> Option<Duration> {
    match Timeout::of_nanoseconds(nanoseconds) {
        Timeout::None => None,
        Timeout::For(time) => Some(time),
        Timeout::Forever => Some(Duration::MAX),
    }
}

/// `MSGPORT_ANY_USER` or not.
fn any_user(flags: u32, reserved: u32) -> Result<bool, Failure> {
    if flags & !ANY_USER != 0 || reserved != 0 {
        return Err(Failure::plain(code::BAD_OPTIONS));
    }
    Ok(flags & ANY_USER != 0)
}

/// # Safety
/// `name` is NULL or a text that ends with zero, and does not change for `'a`.
unsafe fn name_of<'a>(name: *const c_char) -> Result<&'a str, Failure> {
    // SAFETY: as above.
    let name = unsafe { text(name, "name") }?;
    name.to_str().map_err(|_| Failure::plain(code::BAD_NAME))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_listener_bind(
    name: *const c_char,
    listen_options: *const FfiListenOptions,
    listener: *mut *mut ListenerHandle,
) -> Code {
    guard(|| {
        // SAFETY: a text or NULL, says the header.
        let name = unsafe { name_of(name) }?;
        // SAFETY: options as the header defines them.
        let given = unsafe { options(listen_options) }?;
        let out = Out::new(listener, "listener")?;
        let mut listen = ListenOptions::new().any_uid(any_user(given.flags, given.reserved)?);
        if let Some(timeout) = time(given.greeting_timeout) {
            listen = listen.greeting_timeout(timeout);
        }
        let listener = listen.bind(name)?;
        let path = CString::new(listener.path().as_os_str().as_bytes()).map_err(|_| Failure::plain(code::BAD_NAME))?;
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(Listener { listener, path })) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_listener_free(listener: *mut ListenerHandle) {
    guard(|| {
        // SAFETY: a handle or NULL, and the last use, says the header.
        drop(unsafe { Handle::take(listener) });
        Ok(())
    });
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
        // SAFETY: a handle or NULL, says the header.
        let listener = &unsafe { Handle::get(listener) }?.listener;
        let out = Out::new(port, "port")?;
        let greeting = match greeting.is_null() {
            true => None,
            // SAFETY: a handle, and nobody else uses it, says the header.
            false => Some(unsafe { Handle::get_mut(greeting) }?),
        };
        let incoming = match Timeout::of_nanoseconds(timeout) {
            Timeout::None => listener.accept_timeout(Duration::ZERO),
            Timeout::For(time) => listener.accept_timeout(time),
            Timeout::Forever => listener.accept(),
        }?;
        let Incoming { port, greeting: message, uid, pid } = incoming;
        if let Some(greeting) = greeting {
            *greeting.emptied() = message;
            greeting.sort();
        }
        if let Ok(out) = Out::new(peer, "peer") {
            // SAFETY: writable, says the header.
            unsafe { out.set(Peer { uid, pid }) };
        }
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(Port::whole(port))) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_listener_path(listener: *const ListenerHandle, path: *mut *const c_char) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let listener = unsafe { Handle::get(listener) }?;
        let out = Out::new(path, "path")?;
        // SAFETY: writable, says the header.
        unsafe { out.set(listener.path.as_ptr()) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_listener_refused(listener: *mut ListenerHandle, count: *mut u64) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let refused = unsafe { Handle::get(listener) }?.listener.refused();
        let out = Out::new(count, "count")?;
        // SAFETY: writable, says the header.
        unsafe { out.set(refused) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_listener_descriptor(listener: *mut ListenerHandle, descriptor: *mut c_int) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let number = unsafe { Handle::get(listener) }?.listener.as_fd().as_raw_fd();
        let out = Out::new(descriptor, "descriptor")?;
        // SAFETY: writable, says the header.
        unsafe { out.set(number) };
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
        // SAFETY: a text or NULL, says the header.
        let name = unsafe { name_of(name) }?;
        // SAFETY: readable, says the header.
        let greeting = unsafe { bytes(greeting, len, "greeting") }?;
        // SAFETY: options as the header defines them.
        let given = unsafe { options(connect_options) }?;
        // SAFETY: options as the header defines them.
        let channel = unsafe { options(given.channel) }?.to_rust()?;
        let out = Out::new(port, "port")?;
        let mut connect = ConnectOptions::new().any_uid(any_user(given.flags, given.reserved)?).channel(channel);
        if let Some(timeout) = time(given.timeout) {
            connect = connect.timeout(timeout);
        }
        let port = Port::whole(connect.connect(name, greeting)?);
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(port)) };
        Ok(())
    })
}
