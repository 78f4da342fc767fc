//! Frozen buffers.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;

use messageport::FrozenBuffer;

use crate::buffer::BufferHandle;
use crate::code::Code;
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::{Handle, Kind, Out};
use crate::input::bytes;

/// `msgport_frozen`.
pub type FrozenHandle = Handle<Frozen>;

pub struct Frozen(pub(crate) FrozenBuffer);

impl Kind for Frozen {
    const NAME: &'static str = "frozen";
    const TAG: u64 = u64::from_le_bytes(*b"frozen\0\0");
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_frozen_new(data: *const c_void, len: usize, frozen: *mut *mut FrozenHandle) -> Code {
    guard(|| {
        // SAFETY: readable, says the header.
        let data = unsafe { bytes(data, len, "data") }?;
        let out = Out::new(frozen, "frozen")?;
        let frozen = Frozen(FrozenBuffer::from_bytes(data)?);
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(frozen)) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_frozen_from_file(descriptor: c_int, frozen: *mut *mut FrozenHandle) -> Code {
    guard(|| {
        let out = Out::new(frozen, "frozen")?;
        if descriptor < 0 {
            return Err(Failure::bad_argument("descriptor is negative"));
        }
        // SAFETY: the number is the caller's, who keeps it: it is only looked at and read from, and never closed.
        let file = ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) });
        let frozen = Frozen(FrozenBuffer::from_file(&file)?);
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(frozen)) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_buffer_freeze(buffer: *mut BufferHandle, frozen: *mut *mut FrozenHandle) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let buffer = unsafe { Handle::get_mut(buffer) }?;
        let out = Out::new(frozen, "frozen")?;
        let frozen = Frozen(buffer.freeze()?);
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(frozen)) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_frozen_free(frozen: *mut FrozenHandle) {
    guard(|| {
        // SAFETY: a handle or NULL, and the last use, says the header.
        drop(unsafe { Handle::take(frozen) });
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_frozen_clone(frozen: *const FrozenHandle, clone: *mut *mut FrozenHandle) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let frozen = unsafe { Handle::get(frozen) }?;
        let out = Out::new(clone, "clone")?;
        let clone = Frozen(frozen.0.clone());
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(clone)) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_frozen_data(
    frozen: *const FrozenHandle,
    data: *mut *const c_void,
    len: *mut usize,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let bytes: &[u8] = &unsafe { Handle::get(frozen) }?.0;
        let (out_data, out_len) = (Out::new(data, "data")?, Out::new(len, "len")?);
        // SAFETY: writable, says the header.
        unsafe { out_data.set(bytes.as_ptr().cast()) };
        // SAFETY: writable, says the header.
        unsafe { out_len.set(bytes.len()) };
        Ok(())
    })
}
