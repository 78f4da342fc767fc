//! Descriptors that came from a peer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::closer;

/// A descriptor that a peer passed and of which nothing is known: it can be of any kind.
///
/// It becomes an `OwnedFd` only when a check has found what it is, or when the user gets it. Otherwise the
/// [closer] closes it, so that no call waits in close(2).
#[derive(Default, Debug)]
pub(crate) struct Passed {
    /// `None` once it has been taken out.
    descriptor: Option<OwnedFd>,
}

impl From<OwnedFd> for Passed {
    fn from(descriptor: OwnedFd) -> Self {
        Self { descriptor: Some(descriptor) }
    }
}

impl AsFd for Passed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_ref().expect("a descriptor is borrowed before it is taken out").as_fd()
    }
}

impl Passed {
    /// The descriptor and what `check` found, which must include that closing does not wait. After an error the
    /// descriptor is still here.
    pub(crate) fn check<T, E>(
        &mut self,
        check: impl FnOnce(BorrowedFd<'_>) -> Result<T, E>,
    ) -> Result<(OwnedFd, T), E> {
        let descriptor = self.descriptor.take().expect("a descriptor is adopted once");
        match check(descriptor.as_fd()) {
            Ok(found) => Ok((descriptor, found)),
            Err(error) => {
                self.descriptor = Some(descriptor);
                Err(error)
            }
        }
    }

    /// The descriptor, for the user, who closes it.
    pub(crate) fn for_user(mut self) -> OwnedFd {
        self.descriptor.take().expect("a descriptor is handed out once")
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        if let Some(descriptor) = self.descriptor.take() {
            closer::elsewhere(move || drop(descriptor));
        }
    }
}
