//! Shared buffers.

use std::ffi::{c_char, c_void};

use messageport::SharedBuffer;

use crate::code::{self, Code};
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::{Handle, Kind, Out};
use crate::input::{bytes, bytes_mut, text};

/// `msgport_shared`.
pub type SharedHandle = Handle<Shared>;

pub struct Shared(pub(crate) SharedBuffer);

impl Kind for Shared {
    const NAME: &'static str = "shared";
    const TAG: u64 = u64::from_le_bytes(*b"shared\0\0");
}

/// Hands out what `make` makes.
///
/// # Safety
/// `shared` is NULL or writable.
unsafe fn give(
    shared: *mut *mut SharedHandle,
    make: impl FnOnce() -> Result<SharedBuffer, Failure>,
) -> Result<(), Failure> {
    let out = Out::new(shared, "shared")?;
    let buffer = Shared(make()?);
    // SAFETY: writable, says the caller.
    unsafe { out.set(Handle::give(buffer)) };
    Ok(())
}

/// # Safety
/// `name` is NULL or a text that ends with zero, and does not change for `'a`.
unsafe fn name_of<'a>(name: *const c_char) -> Result<&'a str, Failure> {
    // SAFETY: as above.
    let name = unsafe { text(name, "name") }?;
    name.to_str().map_err(|_| Failure::plain(code::BAD_NAME))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_new(len: usize, shared: *mut *mut SharedHandle) -> Code {
    // SAFETY: writable or NULL, says the header.
    guard(|| unsafe { give(shared, || Ok(SharedBuffer::new(len)?)) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_create_named(
    name: *const c_char,
    len: usize,
    shared: *mut *mut SharedHandle,
) -> Code {
    guard(|| {
        // SAFETY: a text or NULL, says the header.
        let name = unsafe { name_of(name) }?;
        // SAFETY: writable or NULL, says the header.
        unsafe { give(shared, || Ok(SharedBuffer::create_named(name, len)?)) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_open_named(
    name: *const c_char,
    min_len: usize,
    shared: *mut *mut SharedHandle,
) -> Code {
    guard(|| {
        // SAFETY: a text or NULL, says the header.
        let name = unsafe { name_of(name) }?;
        // SAFETY: writable or NULL, says the header.
        unsafe { give(shared, || Ok(SharedBuffer::open_named(name, min_len)?)) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_remove_name(name: *const c_char) -> Code {
    guard(|| {
        // SAFETY: a text or NULL, says the header.
        let name = unsafe { name_of(name) }?;
        Ok(SharedBuffer::remove_name(name)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_free(shared: *mut SharedHandle) {
    guard(|| {
        // SAFETY: a handle or NULL, and the last use, says the header.
        drop(unsafe { Handle::take(shared) });
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_clone(shared: *const SharedHandle, clone: *mut *mut SharedHandle) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let shared = unsafe { Handle::get(shared) }?;
        let out = Out::new(clone, "clone")?;
        let clone = Shared(shared.0.clone());
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(clone)) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_data(
    shared: *const SharedHandle,
    data: *mut *mut c_void,
    len: *mut usize,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let shared = &unsafe { Handle::get(shared) }?.0;
        let (out_data, out_len) = (Out::new(data, "data")?, Out::new(len, "len")?);
        // SAFETY: writable, says the header.
        unsafe { out_data.set(shared.as_ptr().cast()) };
        // SAFETY: writable, says the header.
        unsafe { out_len.set(shared.len()) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_read(
    shared: *const SharedHandle,
    offset: usize,
    into: *mut c_void,
    len: usize,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let shared = unsafe { Handle::get(shared) }?;
        // SAFETY: writable, says the header. Bytes without a value are only written here.
        let into = unsafe { bytes_mut(into, len, "into") }?;
        Ok(shared.0.read_at(offset, into)?)
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_shared_write(
    shared: *const SharedHandle,
    offset: usize,
    from: *const c_void,
    len: usize,
) -> Code {
    guard(|| {
        // SAFETY: a handle or NULL, says the header.
        let shared = unsafe { Handle::get(shared) }?;
        // SAFETY: readable, says the header.
        let from = unsafe { bytes(from, len, "from") }?;
        Ok(shared.0.write_at(offset, from)?)
    })
}
