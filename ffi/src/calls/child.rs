//! Child processes with a port.

use std::ffi::{OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use messageport::{parent_port, spawn_with_port};

use crate::code::Code;
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::Out;
use crate::input::{list_of_texts, text};
use crate::port::{Port, PortHandle};

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_spawn_with_port(
    program: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    port: *mut PortHandle,
    pid: *mut i32,
) -> Code {
    guard(|| {
        // SAFETY: NULL or a text that ends with NUL; the caller of C upholds it.
        let program = unsafe { text(program, "program") }?;
        if arguments.is_null() {
            return Err(Failure::null("arguments"));
        }
        // SAFETY: a list of texts that ends with NULL; the caller of C upholds it.
        let arguments = unsafe { list_of_texts(arguments) };
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let port = unsafe { Port::exclusive(port) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(pid, "pid") }?;

        let mut command = Command::new(OsStr::from_bytes(program.to_bytes()));
        let Some((first, rest)) = arguments.split_first() else {
            return Err(Failure::bad_argument("arguments is empty; the first is the program's own name"));
        };
        command.arg0(first).args(rest);
        if !environment.is_null() {
            command.env_clear();
            // SAFETY: a list of texts that ends with NULL; the caller of C upholds it.
            for entry in unsafe { list_of_texts(environment) } {
                let (name, value) = split(entry)?;
                command.env(name, value);
            }
        }
        match spawn_with_port(&mut command, port.take_whole()?) {
            Ok(child) => {
                out.set(child.id().cast_signed());
                Ok(())
            }
            Err(error) => {
                let (kind, back) = error.into_parts();
                port.put_back(back);
                Err(kind.into())
            }
        }
    })
}

/// Splits `NAME=value`.
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
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(port, "port") }?;
        out.give(parent_port()?.into());
        Ok(())
    })
}
