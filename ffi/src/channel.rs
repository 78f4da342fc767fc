//! Channels.

use messageport::{ChannelOptions, MessageChannel};

use crate::code::Code;
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::{Handle, Out};
use crate::input::{Options, options};
use crate::port::{Port, PortHandle};

/// `MSGPORT_CHANNEL_DATA_ONLY`.
pub const CHANNEL_DATA_ONLY: u32 = 1;

/// `msgport_channel_options`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FfiChannelOptions {
    pub size: usize,
    pub capacity: usize,
    pub max_handles: u32,
    pub flags: u32,
    pub max_capacity: usize,
}

impl Options for FfiChannelOptions {
    const DEFAULT: Self = Self { size: size_of::<Self>(), capacity: 0, max_handles: 0, flags: 0, max_capacity: 0 };
}

impl FfiChannelOptions {
    pub(crate) fn to_rust(self) -> Result<ChannelOptions, Failure> {
        let mut options = ChannelOptions::new();
        if self.flags & !CHANNEL_DATA_ONLY != 0 {
            return Err(Failure::bad_argument("unknown flags in the options of a channel"));
        }
        if self.capacity != 0 {
            options = options.capacity(self.capacity);
        }
        if self.max_capacity != 0 {
            options = options.max_capacity(self.max_capacity);
        }
        match (self.flags & CHANNEL_DATA_ONLY != 0, self.max_handles) {
            (true, 0) => options = options.max_handles(0),
            (true, _) => return Err(Failure::bad_argument("max_handles in a channel for data only")),
            (false, 0) => {}
            (false, count) => options = options.max_handles(count as usize),
        }
        Ok(options)
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_channel_new(
    channel_options: *const FfiChannelOptions,
    port1: *mut *mut PortHandle,
    port2: *mut *mut PortHandle,
) -> Code {
    guard(|| {
        let (out1, out2) = (Out::new(port1, "port1")?, Out::new(port2, "port2")?);
        if port1 == port2 {
            return Err(Failure::bad_argument("port1 and port2 are the same place"));
        }
        // SAFETY: options as the header defines them.
        let channel_options = unsafe { options(channel_options) }?.to_rust()?;
        let MessageChannel { port1, port2 } = MessageChannel::with_options(&channel_options)?;
        // SAFETY: writable, says the header.
        unsafe { out1.set(Handle::give(Port::whole(port1))) };
        // SAFETY: writable, says the header.
        unsafe { out2.set(Handle::give(Port::whole(port2))) };
        Ok(())
    })
}
