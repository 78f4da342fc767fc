//! The arguments of C: bytes and texts, times, structs that grow, functions with user data.

mod bytes;
mod callback;
mod options;
mod time;

pub(crate) use self::bytes::{bytes, bytes_mut, copy_of, list_of_texts, name, text};
pub use self::callback::Destroy;
pub(crate) use self::callback::{Deferral, User};
pub(crate) use self::options::{GrowingOut, Options, options};
pub(crate) use self::time::{Deadline, Timeout, duration};
