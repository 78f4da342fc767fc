//! `messageport` for C: the functions of `include/messageport.h`, which documents them.
//!
//! Each is one closure under one guard, over the public interface of the Rust library. The files
//! follow the sections of the header.
//!
//! | header | here |
//! |---|---|
//! | result codes | `code` (the table), `failure` (what Rust's errors become) |
//! | channels, ports | `channel`, `port`, `end` (what a handle of a port stands for) |
//! | posting, reserving, receiving | `post`, `reserve`, `recv` |
//! | messages, buffers | `message`, `buffer`, `frozen`, `shared` |
//! | event loops, sets | `events`, `listen`, `callback`, `set` |
//! | request and answer | `call` |
//! | meeting | `child`, `names` |
//!
//! `handle` is the one way from a pointer of C to a value of Rust and back, `guard` the one way out of a function.
//! This crate is no Rust interface: use `messageport`.
#![allow(unsafe_code)]
// Both are in the header: what a function does, and what its caller has to promise.
#![allow(missing_docs, clippy::missing_safety_doc)]

mod buffer;
mod call;
mod callback;
mod channel;
mod child;
mod code;
mod end;
mod events;
mod failure;
mod frozen;
mod guard;
mod handle;
mod input;
mod listen;
mod message;
mod names;
mod port;
mod post;
mod recv;
mod reserve;
mod set;
mod shared;

pub use buffer::*;
pub use call::*;
pub use callback::Destroy;
pub use channel::*;
pub use child::*;
pub use code::*;
pub use events::*;
pub use frozen::*;
pub use listen::*;
pub use message::*;
pub use names::*;
pub use port::*;
pub use post::*;
pub use recv::*;
pub use reserve::*;
pub use set::*;
pub use shared::*;
