//! `messageport` for C: the functions of `include/messageport.h`, which documents them.
//!
//! The body of each function is one closure under one guard, over the public interface of the Rust library. The rooms,
//! from top to bottom; imports point down:
//!
//! | room | contents |
//! |---|---|
//! | `calls` | the functions of the header, a file for each of its sections |
//! | `guard` | the way out of every function: a code, and never a panic |
//! | `transfer` | transfer lists, the kinds of things on them, messages |
//! | `port` | what a handle of a port stands for; sets of ports |
//! | `buffer` | what the handles of buffers stand for |
//! | `input` | bytes, texts, times, options, user data |
//! | `handle` | the way from a pointer of C to a value of Rust and back, and to the place of a result |
//! | `failure` | what errors become: a code, and a description for each thread |
//! | `code` | the table of codes |
//!
//! Comments that begin with SAFETY refer to the header, section "Rules that hold for all functions": where they name
//! the caller of C, it upholds the rules on pointers, outputs and threads.
//!
//! This crate is no Rust interface: use `messageport`.
#![allow(unsafe_code)]
// The header documents what each function does and what its caller must uphold.
#![allow(missing_docs, clippy::missing_safety_doc)]

mod calls;
mod guard;
mod transfer;
mod port;
mod buffer;
mod input;
mod handle;
mod failure;
mod code;

pub use buffer::*;
pub use calls::*;
pub use code::*;
pub use input::Destroy;
pub use port::{PortHandle, SetHandle};
pub use transfer::*;
