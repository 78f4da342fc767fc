//! The handles of buffers: transferable, frozen and shared ones.

use messageport::{FrozenBuffer, SharedBuffer, TransferBuffer};

use crate::code;
use crate::failure::Failure;
use crate::handle::{Handle, Object};

/// `msgport_buffer`.
pub type BufferHandle = Handle<Buffer>;

/// `None` once the buffer is frozen, or moved into the list of a call.
pub struct Buffer(Option<TransferBuffer>);

impl Object for Buffer {
    const NAME: &'static str = "buffer";
}

const DETACHED: Failure = Failure::plain(code::DETACHED);

impl From<TransferBuffer> for Buffer {
    fn from(buffer: TransferBuffer) -> Self {
        Self(Some(buffer))
    }
}

impl Buffer {
    pub(crate) fn get(&self) -> Result<&TransferBuffer, Failure> {
        self.0.as_ref().ok_or(DETACHED)
    }

    pub(crate) fn get_mut(&mut self) -> Result<&mut TransferBuffer, Failure> {
        self.0.as_mut().ok_or(DETACHED)
    }

    /// The place of the buffer, from which a call takes it and to which a failed call returns it.
    pub(crate) fn place(&mut self) -> &mut Option<TransferBuffer> {
        &mut self.0
    }

    pub(crate) fn freeze(&mut self) -> Result<FrozenBuffer, Failure> {
        let buffer = self.0.take().ok_or(DETACHED)?;
        buffer.freeze().map_err(|error| {
            let (kind, buffer) = error.into_parts();
            self.0 = Some(buffer);
            kind.into()
        })
    }
}

/// `msgport_frozen`.
pub type FrozenHandle = Handle<Frozen>;

pub struct Frozen(pub(crate) FrozenBuffer);

impl Object for Frozen {
    const NAME: &'static str = "frozen";
}

/// `msgport_shared`.
pub type SharedHandle = Handle<Shared>;

pub struct Shared(pub(crate) SharedBuffer);

impl Object for Shared {
    const NAME: &'static str = "shared";
}
