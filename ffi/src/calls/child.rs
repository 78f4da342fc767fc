//! Child processes with a port.

use std::ffi::{OsStr, c_char, c_int};
use std::os::fd::{AsFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::ptr::null;

use messageport::{PreparedPort, parent_port, spawn_with_port};

use crate::code::{self, Code};
use crate::failure::Failure;
use crate::guard::guard;
use crate::handle::Out;
use crate::input::{Options, copy_of, list_of_texts, options, text};
use crate::port::{Port, PortHandle};

/// `msgport_spawn_options`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FfiSpawnOptions {
    pub size: usize,
    pub environment: *const *const c_char,
    pub directory: *const c_char,
    pub input: c_int,
    pub output: c_int,
    pub error: c_int,
    pub reserved: u32,
}

impl Options for FfiSpawnOptions {
    const DEFAULT: Self = Self {
        size: size_of::<Self>(),
        environment: null(),
        directory: null(),
        input: 0,
        output: 0,
        error: 0,
        reserved: 0,
    };
}

/// `MSGPORT_NO_STREAM`.
pub const NO_STREAM: c_int = -1;

/// A standard stream of the child; `None` for this process's own.
///
/// # Safety
/// A descriptor that is open stays open until the call of C returns.
unsafe fn stream(descriptor: c_int) -> Result<Option<Stdio>, Failure> {
    match descriptor {
        0 => Ok(None),
        NO_STREAM => Ok(Some(Stdio::null())),
        // SAFETY: the same condition, which the caller upholds.
        _ => Ok(Some(unsafe { copy_of(descriptor, "a stream") }?.into())),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn msgport_spawn_with_port(
    program: *const c_char,
    arguments: *const *const c_char,
    spawn_options: *const FfiSpawnOptions,
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
        // SAFETY: NULL or a struct of the size that it contains; the caller of C upholds it.
        let given = unsafe { options(spawn_options) }?;
        if given.reserved != 0 {
            return Err(Failure::plain(code::BAD_OPTIONS));
        }
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let port = unsafe { Port::exclusive(port) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(pid, "pid") }?;

        let mut command = Command::new(OsStr::from_bytes(program.to_bytes()));
        let Some((first, rest)) = arguments.split_first() else {
            return Err(Failure::bad_argument("arguments is empty; the first is the program's own name"));
        };
        command.arg0(first).args(rest);
        if !given.environment.is_null() {
            command.env_clear();
            // SAFETY: a list of texts that ends with NULL; the caller of C upholds it.
            for entry in unsafe { list_of_texts(given.environment) } {
                let (name, value) = split(entry)?;
                command.env(name, value);
            }
        }
        if !given.directory.is_null() {
            // SAFETY: a text that ends with NUL; the caller of C upholds it.
            command.current_dir(OsStr::from_bytes(unsafe { text(given.directory, "directory") }?.to_bytes()));
        }
        // SAFETY: the caller of C keeps the descriptors open.
        if let Some(input) = unsafe { stream(given.input) }? {
            command.stdin(input);
        }
        // SAFETY: the caller of C keeps the descriptors open.
        if let Some(output) = unsafe { stream(given.output) }? {
            command.stdout(output);
        }
        // SAFETY: the caller of C keeps the descriptors open.
        if let Some(error) = unsafe { stream(given.error) }? {
            command.stderr(error);
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
pub unsafe extern "C" fn msgport_prepare_port(port: *mut PortHandle, descriptor: *mut c_int) -> Code {
    guard(|| {
        // SAFETY: NULL or a live handle in exclusive use; the caller of C upholds it.
        let port = unsafe { Port::exclusive(port) }?;
        // SAFETY: NULL or writable; the caller of C upholds it.
        let out = unsafe { Out::new(descriptor, "descriptor") }?;
        let prepared = match PreparedPort::new(port.take_whole()?) {
            Ok(prepared) => prepared,
            Err(error) => {
                let (kind, back) = error.into_parts();
                port.put_back(back);
                return Err(kind.into());
            }
        };
        match prepared.as_fd().try_clone_to_owned() {
            Ok(copy) => {
                out.set(copy.into_raw_fd());
                Ok(())
            }
            Err(error) => {
                port.put_back(prepared.into_port()?);
                Err(Failure::of_system(&error, &error))
            }
        }
    })
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
