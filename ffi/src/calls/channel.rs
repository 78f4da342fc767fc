//! Channels.

use std::ffi::c_char;

use messageport::{ChannelOptions, MessageChannel, raise_descriptor_limit};

use crate::code::{self, Code};
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::Out;
use crate::input::{Options, name, options};
use crate::port::PortHandle;

/// `MSGPORT_CHANNEL_DATA_ONLY`.
pub const CHANNEL_DATA_ONLY: u32 = 1;
/// `MSGPORT_CHANNEL_NO_CACHE`.
pub const CHANNEL_NO_CACHE: u32 = 2;

/// `msgport_channel_options`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FfiChannelOptions {
    pub size: usize,
    pub capacity: usize,
    pub max_capacity: usize,
    pub max_message_len: usize,
    pub cached_bytes: u64,
    pub cached_buffers: u32,
    pub max_handles: u32,
    pub flags: u32,
    pub reserved: u32,
    pub name: *const c_char,
}

impl Options for FfiChannelOptions {
    const DEFAULT: Self = Self {
        size: size_of::<Self>(),
        capacity: 0,
        max_capacity: 0,
        max_message_len: 0,
        cached_bytes: 0,
        cached_buffers: 0,
        max_handles: 0,
        flags: 0,
        reserved: 0,
        name: std::ptr::null(),
    };
}

impl FfiChannelOptions {
    /// # Safety
    /// `name` is NULL or a text that ends with a zero byte, and lives until the call of C returns.
    pub(crate) unsafe fn to_rust(self) -> Result<ChannelOptions, Failure> {
        if self.flags & !(CHANNEL_DATA_ONLY | CHANNEL_NO_CACHE) != 0 || self.reserved != 0 {
            return Err(Failure::plain(code::BAD_OPTIONS));
        }
        let mut options = ChannelOptions::new();
        if self.capacity != 0 {
            options = options.capacity(self.capacity);
        }
        if self.max_capacity != 0 {
            options = options.max_capacity(self.max_capacity);
        }
        if self.max_message_len != 0 {
            options = options.max_message_len(self.max_message_len);
        }
        if self.cached_bytes != 0 {
            options = options.cached_bytes(self.cached_bytes);
        }
        if let Some(count) = none_or(self.flags & CHANNEL_NO_CACHE != 0, self.cached_buffers)? {
            options = options.cached_buffers(count);
        }
        if let Some(count) = none_or(self.flags & CHANNEL_DATA_ONLY != 0, self.max_handles)? {
            options = options.max_handles(count);
        }
        if !self.name.is_null() {
            // SAFETY: the caller upholds it.
            options = options.name(unsafe { name(self.name) }?);
        }
        Ok(options)
    }
}

/// A number in options, where 0 is the default, together with the flag that means 0.
fn none_or(none: bool, count: u32) -> Result<Option<usize>, Failure> {
    match (none, count) {
        (true, 0) => Ok(Some(0)),
        (true, _) => Err(Failure::bad_argument("the options have a number, and the flag that there are none")),
        (false, 0) => Ok(None),
        (false, count) => Ok(Some(count as usize)),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_channel_new(
    channel_options: *const FfiChannelOptions,
    port1: *mut *mut PortHandle,
    port2: *mut *mut PortHandle,
) -> Code {
    guard(|| {
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out1 = unsafe { Out::new(port1, "port1") }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out2 = unsafe { Out::new(port2, "port2") }?;
        if port1 == port2 {
            return Err(Failure::bad_argument("port1 and port2 are the same pointer"));
        }
        // SAFETY: NULL or a struct of the size that it contains; the caller of C upholds it.
        let channel_options = unsafe { options(channel_options) }?;
        // SAFETY: the name is NULL or a text; the caller of C upholds it.
        let channel_options = unsafe { channel_options.to_rust() }?;
        let MessageChannel { port1, port2 } = channel_options.create()?;
        out1.give(port1.into());
        out2.give(port2.into());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_raise_descriptor_limit(wanted: u64, limit: *mut u64) -> Code {
    guard(|| {
        let raised = raise_descriptor_limit(wanted).map_err(|error| Failure::of_system(&error, &error))?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        if let Some(out) = unsafe { Out::optional(limit) } {
            out.set(raised);
        }
        Ok(())
    })
}
