//! Received messages.

use std::ffi::c_void;

use messageport::{Message as RustMessage, MessagePort, TransferBuffer};

use crate::buffer::{Buffer, BufferHandle};
use crate::code::{self, Code};
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::{Handle, Kind, Out};
use crate::port::{Port, PortHandle};

/// `msgport_message`.
pub type MessageHandle = Handle<Message>;

#[derive(Default)]
pub struct Message {
    /// What is received into. Its ports and buffers are moved out at once.
    pub(crate) received: RustMessage,
    /// `None`: taken.
    ports: Vec<Option<MessagePort>>,
    buffers: Vec<Option<TransferBuffer>>,
}

impl Kind for Message {
    const NAME: &'static str = "message";
    const TAG: u64 = u64::from_le_bytes(*b"message\0");
}

impl Message {
    /// Drops what is in it and keeps its memory.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.received.clear();
        if !self.ports.is_empty() || !self.buffers.is_empty() {
            self.ports.clear();
            self.buffers.clear();
        }
    }

    /// After something was received: makes its ports and buffers ready to be taken.
    #[inline]
    pub(crate) fn sort(&mut self) {
        if !self.received.ports.is_empty() || !self.received.buffers.is_empty() {
            self.ports.extend(self.received.ports.drain(..).map(Some));
            self.buffers.extend(self.received.buffers.drain(..).map(Some));
        }
    }

    pub(crate) fn keep(&mut self, ports: &mut Vec<MessagePort>, buffers: &mut Vec<TransferBuffer>) {
        self.ports.extend(ports.drain(..).map(Some));
        self.buffers.extend(buffers.drain(..).map(Some));
    }
}

fn take<T>(things: &mut [Option<T>], index: usize) -> Result<T, Failure> {
    let count = things.len();
    let thing = things.get_mut(index).ok_or_else(|| Failure::out_of_range(index, count))?;
    thing.take().ok_or(Failure::Plain(code::TAKEN))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_new(message: *mut *mut MessageHandle) -> Code {
    guard(|| {
        let out = Out::new(message, "message")?;
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(Message::default())) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_free(message: *mut MessageHandle) {
    guard(|| {
        // SAFETY: a handle or NULL, and the last use, says the header.
        drop(unsafe { Handle::take(message) });
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_clear(message: *mut MessageHandle) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        unsafe { Handle::get_mut(message) }?.clear();
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_data(
    message: *const MessageHandle,
    data: *mut *const c_void,
    len: *mut usize,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let bytes = &unsafe { Handle::get(message) }?.received.data;
        let (out_data, out_len) = (Out::new(data, "data")?, Out::new(len, "len")?);
        // SAFETY: writable, says the header.
        unsafe { out_data.set(if bytes.is_empty() { c"".as_ptr().cast() } else { bytes.as_ptr().cast() }) };
        // SAFETY: writable, says the header.
        unsafe { out_len.set(bytes.len()) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_ports(message: *const MessageHandle, count: *mut usize) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let ports = unsafe { Handle::get(message) }?.ports.len();
        let out = Out::new(count, "count")?;
        // SAFETY: writable, says the header.
        unsafe { out.set(ports) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_take_port(
    message: *mut MessageHandle,
    index: usize,
    port: *mut *mut PortHandle,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let message = unsafe { Handle::get_mut(message) }?;
        let out = Out::new(port, "port")?;
        let port = Port::whole(take(&mut message.ports, index)?);
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(port)) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_buffers(message: *const MessageHandle, count: *mut usize) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let buffers = unsafe { Handle::get(message) }?.buffers.len();
        let out = Out::new(count, "count")?;
        // SAFETY: writable, says the header.
        unsafe { out.set(buffers) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_take_buffer(
    message: *mut MessageHandle,
    index: usize,
    buffer: *mut *mut BufferHandle,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let message = unsafe { Handle::get_mut(message) }?;
        let out = Out::new(buffer, "buffer")?;
        let buffer = Buffer { buffer: take(&mut message.buffers, index)? };
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(buffer)) };
        Ok(())
    })
}
