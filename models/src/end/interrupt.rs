//! The models interrupt no wait.

use super::lane::{Bell, Half};

#[derive(Default)]
pub(crate) struct Interrupts;

impl Interrupts {
    pub(crate) fn is_wanted(&self, _half: Half) -> bool {
        false
    }

    pub(crate) fn take(&self, _half: Half) -> bool {
        false
    }

    pub(crate) fn bell(&self, _half: Half) -> Option<&Bell> {
        None
    }

    pub(crate) fn by_signal(&self, _half: Half) -> bool {
        false
    }
}
