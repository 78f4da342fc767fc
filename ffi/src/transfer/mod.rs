//! Transfer lists on their way in, and what came with a message on its way out.

mod item;
mod kind;
mod message;

pub use self::item::{Item, ItemOf};
pub(crate) use self::item::{Taken, with_list};
pub use self::kind::ItemKind;
pub(crate) use self::message::address_of;
pub use self::message::{Message, MessageHandle};
