//! Child processes with a port.

use std::ffi::{OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use messageport::{SpawnError, parent_port, spawn_with_port};

use crate::code::Code;
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::{Handle, Out};
use crate::input::text;
use crate::port::{Port, PortHandle};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_spawn(
    program: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    port: *mut PortHandle,
    pid: *mut i32,
) -> Code {
    guard(|| {
        // SAFETY: a text or NULL, says the header.
        let program = unsafe { text(program, "program") }?;
        if arguments.is_null() {
            return Err(Failure::null("arguments"));
        }
        // SAFETY: a list that ends with NULL, says the header.
        let arguments = unsafe { list(arguments) };
        // SAFETY: a handle or NULL, and nobody else uses it, says the header.
        let port = unsafe { Handle::get_mut(port) }?;
        let out = Out::new(pid, "pid")?;

        let mut command = Command::new(OsStr::from_bytes(program.to_bytes()));
        let Some((first, rest)) = arguments.split_first() else {
            return Err(Failure::bad_argument("arguments is empty; the first is the program's own name"));
        };
        command.arg0(first).args(rest);
        if !environment.is_null() {
            command.env_clear();
            // SAFETY: a list that ends with NULL, says the header.
            for entry in unsafe { list(environment) } {
                let (name, value) = split(entry)?;
                command.env(name, value);
            }
        }
        match spawn_with_port(&mut command, port.take_whole()?) {
            Ok(child) => {
                // SAFETY: writable, says the header.
                unsafe { out.set(child.id().cast_signed()) };
                Ok(())
            }
            Err(SpawnError { kind, port: back }) => {
                port.put_back(back);
                Err(kind.into())
            }
        }
    })
}

/// # Safety
/// `list` leads to texts that end with zero, and the last is followed by NULL. None of it changes for `'a`.
unsafe fn list<'a>(list: *const *const c_char) -> Vec<&'a OsStr> {
    let mut texts = Vec::new();
    for index in 0.. {
        // SAFETY: not behind the NULL that ends the list.
        let place = unsafe { list.add(index) };
        // SAFETY: a pointer in the list, says the caller.
        let pointer = unsafe { place.read() };
        // SAFETY: a text or the NULL at the end, says the caller.
        let Ok(text) = (unsafe { text(pointer, "") }) else { break };
        texts.push(OsStr::from_bytes(text.to_bytes()));
    }
    texts
}

/// `NAME=value`.
fn split(entry: &OsStr) -> Result<(&OsStr, &OsStr), Failure> {
    let bytes = entry.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=') {
        Some(at @ 1..) => Ok((OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..]))),
        _ => Err(Failure::bad_argument("an entry of environment is not NAME=value")),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_parent_port(port: *mut *mut PortHandle) -> Code {
    guard(|| {
        let out = Out::new(port, "port")?;
        let port = Port::whole(parent_port()?);
        // SAFETY: writable, says the header.
        unsafe { out.set(Handle::give(port)) };
        Ok(())
    })
}
