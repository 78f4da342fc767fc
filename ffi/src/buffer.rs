//! Buffers.

use std::ffi::c_void;

use messageport::{FreezeError, FrozenBuffer, TransferBuffer};

use crate::code::{self, Code};
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::{Handle, Kind, Out};
use crate::input::{bytes, bytes_mut};
use crate::port::PortHandle;

/// `msgport_buffer`.
pub type BufferHandle = Handle<Buffer>;

/// `None`: frozen.
pub struct Buffer(Option<TransferBuffer>);

impl Kind for Buffer {
    const NAME: &'static str = "buffer";
    const TAG: u64 = u64::from_le_bytes(*b"buffer\0\0");
}

const DETACHED: Failure = Failure::plain(code::DETACHED);

impl Buffer {
    pub(crate) fn new(buffer: TransferBuffer) -> Self {
        Self(Some(buffer))
    }

    pub(crate) fn get(&self) -> Result<&TransferBuffer, Failure> {
        self.0.as_ref().ok_or(DETACHED)
    }

    /// Where the buffer is, to be taken and put back.
    pub(crate) fn place(&mut self) -> &mut Option<TransferBuffer> {
        &mut self.0
    }

    pub(crate) fn freeze(&mut self) -> Result<FrozenBuffer, Failure> {
        let buffer = self.0.take().ok_or(DETACHED)?;
        buffer.freeze().map_err(|FreezeError { kind, buffer }| {
            self.0 = Some(buffer);
            kind.into()
        })
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_buffer_new(len: usize, buffer: *mut *mut BufferHandle) -> Code {
    guard(|| {
        let out = Out::new(buffer, "buffer")?;
        let buffer = Buffer::new(TransferBuffer::new(len)?);
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(buffer)) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_buffer_free(buffer: *mut BufferHandle) {
    guard(|| {
        // SAFETY: a handle or NULL, and the last use, says the header.
        drop(unsafe { Handle::take(buffer) });
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_buffer_len(buffer: *mut BufferHandle, len: *mut usize) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let count = unsafe { Handle::get(buffer) }?.0.as_ref().map_or(0, TransferBuffer::len);
        let out = Out::new(len, "len")?;
        // SAFETY: writable, says the header.
        unsafe { out.set(count) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_buffer_read(
    buffer: *mut BufferHandle,
    offset: usize,
    into: *mut c_void,
    len: usize,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let buffer = unsafe { Handle::get(buffer) }?;
        // SAFETY: writable, says the header. Bytes without a value are only written here.
        let into = unsafe { bytes_mut(into, len, "into") }?;
        Ok(buffer.get()?.read_at(offset, into)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_buffer_write(
    buffer: *mut BufferHandle,
    offset: usize,
    from: *const c_void,
    len: usize,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let buffer = unsafe { Handle::get(buffer) }?;
        // SAFETY: readable, says the header.
        let from = unsafe { bytes(from, len, "from") }?;
        Ok(buffer.get()?.write_at(offset, from)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_buffer_data(
    buffer: *mut BufferHandle,
    data: *mut *mut c_void,
    len: *mut usize,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let buffer = unsafe { Handle::get_mut(buffer) }?.0.as_mut().ok_or(DETACHED)?;
        let (out_data, out_len) = (Out::new(data, "data")?, Out::new(len, "len")?);
        // Says why, where there is nothing.
        buffer.read_at(0, &mut [])?;
        // SAFETY: the slice is gone at once and nothing was read through it: what C does with the address is under the
        // condition in the header.
        let bytes = unsafe { buffer.as_mut_slice() };
        let (address, count) = (bytes.as_mut_ptr(), bytes.len());
        // SAFETY: writable, says the header.
        unsafe { out_data.set(address.cast()) };
        // SAFETY: writable, says the header.
        unsafe { out_len.set(count) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_buffer(
    port: *mut PortHandle,
    len: usize,
    buffer: *mut *mut BufferHandle,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        let out = Out::new(buffer, "buffer")?;
        let buffer = Buffer::new(port.end().buffer(len)?);
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(buffer)) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_port_release_buffers(port: *mut PortHandle, count: *mut usize) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let port = unsafe { Handle::get(port) }?;
        let out = Out::new(count, "count")?;
        let count = port.end().release_buffers()?;
        // SAFETY: writable, says the header.
        unsafe { out.set(count) };
        Ok(())
    })
}
