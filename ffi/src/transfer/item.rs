//! Transfer lists of C.

use std::ffi::{c_int, c_void};
use std::os::fd::BorrowedFd;

use messageport::{PostError, PostErrorKind, TransferRef, Transferable};
use nix::libc;

use super::kind::{ItemKind, Lent, Place};
use crate::failure::Failure;
use crate::handle::Handle;

/// Items on the longest list; more is a mistake of the caller, since no message can carry them.
const MAX_ITEMS: usize = u16::MAX as usize;

/// `msgport_item`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Item {
    pub kind: u32,
    pub reserved: u32,
    pub of: ItemOf,
}

/// The union in `msgport_item`, whose `kind` selects the field.
#[repr(C)]
#[derive(Clone, Copy)]
pub union ItemOf {
    /// A handle of any type.
    pub handle: *mut c_void,
    pub descriptor: c_int,
}

impl Item {
    /// The handle, if the kind is one of a handle of this type.
    pub(crate) fn handle<T>(&self) -> *mut Handle<T> {
        // SAFETY: every value is valid for a pointer; the callers in `kind` check it before they follow it.
        unsafe { self.of.handle }.cast()
    }

    pub(crate) fn descriptor(&self) -> c_int {
        // SAFETY: every value is valid for an integer.
        unsafe { self.of.descriptor }
    }

    fn kind(&self, index: usize) -> Result<ItemKind, Failure> {
        if self.reserved != 0 {
            return Err(Failure::bad_item(index, "its reserved field is not 0"));
        }
        ItemKind::from_number(self.kind).ok_or_else(|| Failure::bad_item(index, "unknown kind"))
    }
}

/// # Safety
/// `items` leads to `count` items, which do not change during `'a`.
unsafe fn items_of<'a>(items: *const Item, count: usize) -> Result<&'a [Item], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    if items.is_null() {
        return Err(Failure::null("items"));
    }
    if count > MAX_ITEMS {
        return Err(Failure::bad_argument("more than 65535 items"));
    }
    // SAFETY: not NULL; the caller upholds the count.
    Ok(unsafe { std::slice::from_raw_parts(items, count) })
}

/// A descriptor on a list, which the caller of C keeps open during the call.
pub(crate) fn open_descriptor<'a>(index: usize, number: c_int) -> Result<BorrowedFd<'a>, Failure> {
    // SAFETY: F_GETFD takes no pointers.
    if number < 0 || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(Failure::bad_item(index, "not an open descriptor"));
    }
    // SAFETY: open; the caller of C upholds that it stays open during the call.
    Ok(unsafe { BorrowedFd::borrow_raw(number) })
}

/// Calls `post` with the things of a list, borrowed.
///
/// # Safety
/// `items` leads to `count` items; their handles are NULL or live, and nothing else uses them during the call.
#[inline(never)] // keeps the path of a message without a list short
pub(crate) unsafe fn with_list(
    items: *const Item,
    count: usize,
    post: &mut dyn FnMut(&[TransferRef<'_>]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    // SAFETY: the caller upholds the count.
    let items = unsafe { items_of(items, count) }?;
    let lend = |(index, item): (usize, &Item)| {
        // SAFETY: the caller upholds that the handles are NULL or live.
        unsafe { item.kind(index)?.lend(index, item) }
    };
    let things: Vec<Lent<'_>> = items.iter().enumerate().map(lend).collect::<Result<_, _>>()?;
    let list: Vec<TransferRef<'_>> = things.iter().map(Lent::as_ref).collect();
    post(&list)
}

/// The places that the things of a list were moved out of.
pub(crate) struct Taken<'a> {
    places: Vec<Place<'a>>,
}

impl Taken<'_> {
    /// Moves the things of a list out of their handles: all of them or none.
    ///
    /// # Safety
    /// As for [`with_list`]; the handles stay live as long as the result.
    pub(crate) unsafe fn take(items: *const Item, count: usize) -> Result<(Self, Vec<Transferable>), Failure> {
        // SAFETY: the caller upholds the count.
        let items = unsafe { items_of(items, count) }?;
        let mut taken = Self { places: Vec::with_capacity(count) };
        let mut list = Vec::with_capacity(count);
        // Two exclusive references to one handle must not exist.
        let address = |(index, item): (usize, &Item)| {
            let kind = ItemKind::from_number(item.kind)?;
            kind.moves().then(|| (item.handle::<()>().addr(), index))
        };
        let mut addresses: Vec<(usize, usize)> = items.iter().enumerate().filter_map(address).collect();
        addresses.sort_unstable();
        let twice = addresses.windows(2).filter(|two| two[0].0 == two[1].0).map(|two| two[1].1).min();
        if let Some(index) = twice {
            return Err(PostErrorKind::Duplicate { index }.into());
        }
        for (index, item) in items.iter().enumerate() {
            // SAFETY: the caller upholds that the handles are NULL or live; no two of them are the same.
            match item.kind(index).and_then(|kind| unsafe { kind.take(index, item) }) {
                Ok((place, thing)) => {
                    taken.places.push(place);
                    list.push(thing);
                }
                Err(failure) => {
                    taken.put_back(list);
                    return Err(failure);
                }
            }
        }
        Ok((taken, list))
    }

    /// The failure of the call, after everything on the list has returned to its handle.
    pub(crate) fn failed(self, error: PostError) -> Failure {
        let (kind, list) = error.into_parts();
        self.put_back(list);
        kind.into()
    }

    fn put_back(self, list: Vec<Transferable>) {
        for (place, thing) in self.places.into_iter().zip(list) {
            place.put_back(thing);
        }
    }
}
