//! The functions of the header, a file for each of its sections.

mod channel;
mod child;
mod codes;
mod event_loop;
mod frozen;
mod handlers;
mod listener;
mod message;
mod named;
mod port;
mod portset;
mod post;
mod recv;
mod request;
mod reserve;
mod shared;
mod transfer_buffer;

pub use self::channel::*;
pub use self::child::*;
pub use self::codes::*;
pub use self::event_loop::*;
pub use self::frozen::*;
pub use self::handlers::*;
pub use self::listener::*;
pub use self::message::*;
pub use self::named::*;
pub use self::port::*;
pub use self::portset::*;
pub use self::post::*;
pub use self::recv::*;
pub use self::request::*;
pub use self::reserve::*;
pub use self::shared::*;
pub use self::transfer_buffer::*;
