//! Received messages.

use std::ffi::{c_int, c_void};
use std::os::fd::{IntoRawFd, OwnedFd};

use messageport::{FrozenBuffer, Message as RustMessage, MessagePort, MessageRef, SharedBuffer, TransferBuffer};

use crate::buffer::{Buffer, BufferHandle};
use crate::code::{self, Code};
use crate::failure::Failure;
use crate::frozen::{Frozen, FrozenHandle};
use crate::guard::guard;
use crate::handle::{Handle, Kind, Out};
use crate::port::{Port, PortHandle};
use crate::post::{ITEM_BUFFER, ITEM_DESCRIPTOR, ITEM_FROZEN, ITEM_PORT, ITEM_SHARED};
use crate::shared::{Shared, SharedHandle};

/// `msgport_message`.
pub type MessageHandle = Handle<Message>;

#[derive(Default)]
pub struct Message {
    /// What is received into. What came with the data is moved out at once.
    pub(crate) received: RustMessage,
    things: Option<Box<Things>>,
    /// It belongs to an event loop, which lends it to a handler.
    lent: bool,
}

/// What came with the data. `None`: taken.
#[derive(Default)]
struct Things {
    ports: Vec<Option<MessagePort>>,
    buffers: Vec<Option<TransferBuffer>>,
    frozen: Vec<Option<FrozenBuffer>>,
    shared: Vec<Option<SharedBuffer>>,
    descriptors: Vec<Option<OwnedFd>>,
}

impl Kind for Message {
    const NAME: &'static str = "message";
    const TAG: u64 = u64::from_le_bytes(*b"message\0");
}

impl Message {
    /// Where to receive: what was in it is dropped.
    #[inline]
    pub(crate) fn emptied(&mut self) -> &mut RustMessage {
        // `received` is emptied by whoever receives.
        if self.things.is_some() {
            self.drop_things();
        }
        &mut self.received
    }

    #[cold]
    fn drop_things(&mut self) {
        self.things = None;
    }

    /// The data, as C sees it: never NULL.
    #[inline]
    pub(crate) fn data(&self) -> (*const c_void, usize) {
        let bytes = &self.received.data;
        (if bytes.is_empty() { c"".as_ptr().cast() } else { bytes.as_ptr().cast() }, bytes.len())
    }

    /// Drops what is in it and keeps its memory.
    fn clear(&mut self) {
        self.emptied().clear();
    }

    /// After something was received: makes what came with it ready to be taken.
    #[inline]
    pub(crate) fn sort(&mut self) {
        let RustMessage { data: _, ports, buffers, frozen, shared, descriptors } = &self.received;
        if ports.len() + buffers.len() + frozen.len() + shared.len() + descriptors.len() > 0 {
            self.move_things();
        }
    }

    #[cold]
    fn move_things(&mut self) {
        let received = &mut self.received;
        self.things = Some(Box::new(Things {
            ports: received.ports.drain(..).map(Some).collect(),
            buffers: received.buffers.drain(..).map(Some).collect(),
            frozen: received.frozen.drain(..).map(Some).collect(),
            shared: received.shared.drain(..).map(Some).collect(),
            descriptors: received.descriptors.drain(..).map(Some).collect(),
        }));
    }

    /// Takes what came with a message that is read in place.
    pub(crate) fn take_things_of(&mut self, message: &mut MessageRef<'_>) {
        self.clear();
        self.received = message.take_transferred();
        self.sort();
    }

    /// For an event loop to lend to handlers.
    pub(crate) fn lent() -> Self {
        Self { lent: true, ..Self::default() }
    }

    /// Shows what is in `event`.
    pub(crate) fn lend(&mut self, event: &mut RustMessage) {
        self.things = None;
        std::mem::swap(&mut self.received, event);
        self.sort();
    }

    /// Gives back what nobody took.
    pub(crate) fn give_back(&mut self, event: &mut RustMessage) {
        self.unsort();
        std::mem::swap(&mut self.received, event);
    }

    /// All that is in it.
    pub(crate) fn take_all(&mut self) -> RustMessage {
        self.unsort();
        std::mem::take(&mut self.received)
    }

    /// Puts what was not taken back to the data.
    fn unsort(&mut self) {
        if let Some(things) = self.things.take() {
            let Things { ports, buffers, frozen, shared, descriptors } = *things;
            self.received.ports.extend(ports.into_iter().flatten());
            self.received.buffers.extend(buffers.into_iter().flatten());
            self.received.frozen.extend(frozen.into_iter().flatten());
            self.received.shared.extend(shared.into_iter().flatten());
            self.received.descriptors.extend(descriptors.into_iter().flatten());
        }
    }

    fn count(&self, kind: u32) -> Result<usize, Failure> {
        let things = self.things.as_deref();
        Ok(match kind {
            ITEM_PORT => things.map_or(0, |things| things.ports.len()),
            ITEM_BUFFER => things.map_or(0, |things| things.buffers.len()),
            ITEM_FROZEN => things.map_or(0, |things| things.frozen.len()),
            ITEM_SHARED => things.map_or(0, |things| things.shared.len()),
            ITEM_DESCRIPTOR => things.map_or(0, |things| things.descriptors.len()),
            _ => return Err(Failure::bad_argument("unknown kind of item")),
        })
    }

    fn take<T>(&mut self, index: usize, list: fn(&mut Things) -> &mut Vec<Option<T>>) -> Result<T, Failure> {
        let list = self.things.as_deref_mut().map(list).ok_or_else(|| Failure::out_of_range(index, 0))?;
        let count = list.len();
        let thing = list.get_mut(index).ok_or_else(|| Failure::out_of_range(index, count))?;
        thing.take().ok_or(Failure::plain(code::TAKEN))
    }
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
        // SAFETY: a handle or NULL, says the header.
        if unsafe { Handle::get(message) }?.lent {
            return Ok(()); // the loop's, not the handler's
        }
        // SAFETY: the last use, says the header.
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
        let (address, count) = unsafe { Handle::get(message) }?.data();
        let (out_data, out_len) = (Out::new(data, "data")?, Out::new(len, "len")?);
        // SAFETY: writable, says the header.
        unsafe { out_data.set(address) };
        // SAFETY: writable, says the header.
        unsafe { out_len.set(count) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_count(message: *const MessageHandle, kind: u32, count: *mut usize) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let message = unsafe { Handle::get(message) }?;
        let out = Out::new(count, "count")?;
        let number = message.count(kind)?;
        // SAFETY: writable, says the header.
        unsafe { out.set(number) };
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
        let port = Port::whole(message.take(index, |things| &mut things.ports)?);
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(port)) };
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
        let buffer = Buffer::new(message.take(index, |things| &mut things.buffers)?);
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(buffer)) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_take_frozen(
    message: *mut MessageHandle,
    index: usize,
    frozen: *mut *mut FrozenHandle,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let message = unsafe { Handle::get_mut(message) }?;
        let out = Out::new(frozen, "frozen")?;
        let frozen = Frozen(message.take(index, |things| &mut things.frozen)?);
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(frozen)) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_take_shared(
    message: *mut MessageHandle,
    index: usize,
    shared: *mut *mut SharedHandle,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let message = unsafe { Handle::get_mut(message) }?;
        let out = Out::new(shared, "shared")?;
        let shared = Shared(message.take(index, |things| &mut things.shared)?);
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(shared)) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_message_take_descriptor(
    message: *mut MessageHandle,
    index: usize,
    descriptor: *mut c_int,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let message = unsafe { Handle::get_mut(message) }?;
        let out = Out::new(descriptor, "descriptor")?;
        let number = message.take(index, |things| &mut things.descriptors)?.into_raw_fd();
        // SAFETY: writable, says the header.
        unsafe { out.set(number) };
        Ok(())
    })
}
