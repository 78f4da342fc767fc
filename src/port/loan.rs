//! Loans: the things inside a value while it is being posted, until it is certain that the post succeeds.
//!
//! While a value is encoded there are only shared references to the ports and buffers in it, and these may be gone when
//! the encoding is complete. So the post does not borrow the things. It takes a second, owned handle of each, and marks
//! the first, which cannot be used from then on. If the post succeeds, the first handle is detached; in any other case,
//! including a panic, the mark is removed and the first handle is as it was before.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::MessagePort;
use super::transfer::TransferRef;
use crate::buffer::TransferBuffer;
use crate::buffer::memory::Hold;
use crate::end::End;
use crate::error::PostErrorKind;

/// A thing that a value lends: the handle to transfer, and the lender that marks the one in the value.
#[allow(clippy::large_enum_variant)] // a port is large, and lists are short
pub(crate) enum Loan {
    Port {
        port: MessagePort,
        lender: Arc<End>,
    },
    Buffer {
        buffer: TransferBuffer,
        lender: Hold,
    },
    /// Not lent: the post fails once the whole value has been encoded.
    Unlent(Unlent),
}

/// Why a thing was not lent.
pub(crate) enum Unlent {
    Duplicate,
    UnusablePort(Arc<End>),
    UnusableBuffer,
}

/// Borrows a port for the list of a value, which begins at `from`. Returns its index among the ports on it.
pub(crate) fn port(list: &mut Vec<Loan>, from: usize, port: &MessagePort) -> u32 {
    let end = port.end();
    let (of_value, lender) = (&list[from..], Arc::clone(end));
    let index = of_value.iter().filter(|loan| matches!(loan, Loan::Port { .. })).count();
    let loan = if of_value.iter().any(|loan| loan.is_of_port(end)) {
        Loan::Unlent(Unlent::Duplicate)
    } else if let Some(port) = port.lend() {
        Loan::Port { port, lender }
    } else {
        Loan::Unlent(Unlent::UnusablePort(lender))
    };
    list.push(loan);
    index as u32
}

/// Borrows a buffer for the list of a value, which begins at `from`. Returns its index among the buffers on it.
pub(crate) fn buffer(list: &mut Vec<Loan>, from: usize, buffer: &TransferBuffer) -> u32 {
    let of_value = &list[from..];
    let index = of_value.iter().filter(|loan| matches!(loan, Loan::Buffer { .. })).count();
    let loan = match buffer.lend() {
        Some((_, lender)) if of_value.iter().any(|loan| loan.is_of_buffer(&lender)) => Loan::Unlent(Unlent::Duplicate),
        Some((buffer, lender)) => Loan::Buffer { buffer, lender },
        None => Loan::Unlent(Unlent::UnusableBuffer),
    };
    list.push(loan);
    index as u32
}

/// Calls `post` with the things on the list, to transfer them over `carrier`. Afterwards everything is detached, or as
/// it was.
#[inline]
pub(crate) fn post<T>(
    mut list: Vec<Loan>,
    carrier: &Arc<End>,
    post: impl FnOnce(&[TransferRef<'_>]) -> Result<T, PostErrorKind>,
) -> Result<T, PostErrorKind> {
    if list.is_empty() {
        return post(&[]);
    }
    check(&list, carrier)?;
    let handles: Vec<TransferRef<'_>> = list.iter().filter_map(Loan::handle).collect();
    let posted = post(&handles)?;
    list.iter_mut().for_each(Loan::complete);
    Ok(posted)
}

/// The checks of a transfer list that can be made only here, in the order of
/// [`Baggage::check`](super::baggage::Baggage).
fn check(list: &[Loan], carrier: &Arc<End>) -> Result<(), PostErrorKind> {
    let find = |what: &dyn Fn(&Loan) -> bool| list.iter().position(what);
    if let Some(index) = find(&|loan| loan.is_of_port(carrier)) {
        return Err(PostErrorKind::ContainsSelf { index });
    }
    if let Some(index) = find(&|loan| loan.end().is_some_and(|end| end.segment().is(carrier.segment()))) {
        return Err(PostErrorKind::ContainsPeer { index });
    }
    if let Some(index) = find(&|loan| matches!(loan, Loan::Unlent(Unlent::Duplicate))) {
        return Err(PostErrorKind::Duplicate { index });
    }
    match find(&Loan::is_unusable) {
        Some(index) => Err(PostErrorKind::Unusable { index }),
        None => Ok(()),
    }
}

impl Loan {
    fn end(&self) -> Option<&Arc<End>> {
        match self {
            Self::Port { lender, .. } => Some(lender),
            Self::Unlent(Unlent::UnusablePort(end)) => Some(end),
            _ => None,
        }
    }

    fn is_of_port(&self, end: &Arc<End>) -> bool {
        self.end().is_some_and(|own| Arc::ptr_eq(own, end))
    }

    fn is_of_buffer(&self, hold: &Hold) -> bool {
        matches!(self, Self::Buffer { lender, .. } if Arc::ptr_eq(&lender.memory, &hold.memory))
    }

    /// True if the thing was not lent, or its first handle was closed or dropped while the value was encoded: a value
    /// must keep what it lends, since a failed post gives it back.
    fn is_unusable(&self) -> bool {
        match self {
            Self::Port { lender, .. } => lender.is_recalled(),
            // Two holds are here, and one is in the value.
            Self::Buffer { lender, .. } => lender.count() < 3,
            Self::Unlent(_) => true,
        }
    }

    fn handle(&self) -> Option<TransferRef<'_>> {
        match self {
            Self::Port { port, .. } => Some(TransferRef::Port(port)),
            Self::Buffer { buffer, .. } => Some(TransferRef::Buffer(buffer)),
            Self::Unlent(_) => None,
        }
    }

    /// Detaches the handle in the value, after a post that has succeeded.
    fn complete(&mut self) {
        match self {
            Self::Port { port, lender } => {
                lender.detach();
                // Posted to a peer that discards it is closed, but no longer ours.
                port.end().disown();
                port.end().let_go_of_lane();
            }
            Self::Buffer { lender, .. } => lender.set_gone(),
            Self::Unlent(_) => {}
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Self::Port { port, lender } = self
            && lender.unlend()
        {
            // The first handle has the port again: the second must not close it.
            port.end().disown();
        }
    }
}
