//! The static library: one object whose only global symbols are the functions of the header.
//!
//! cargo makes an archive with all objects of the library, its dependencies and the standard library of Rust. Some of
//! them refer to symbols that a static C library does not have, and two such archives in one program define
//! `rust_eh_personality` twice. Here the linker joins the objects, without what no function of the header reaches, and
//! everything but those functions becomes local to the object.

use std::env;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

/// The functions of the header, one a line.
const FUNCTIONS: &str = include_str!("../tests/golden.txt");

/// Makes the static library of the archive that cargo has built, and returns its bytes.
pub(crate) fn make(archive: &Path) -> io::Result<Vec<u8>> {
    let scratch = Scratch::new()?;
    let at = |name: &str| scratch.0.join(name);
    let mut roots = String::new();
    for function in FUNCTIONS.lines() {
        writeln!(roots, "-Wl,-u,{function}").expect("a string takes all");
    }
    fs::write(at("roots"), roots)?;
    let mut linker = tool("CC", "cc");
    linker
        .args(["-r", "-nostdlib", "-fuse-ld=bfd", "-Wl,--gc-sections", "-Wl,--force-group-allocation"])
        .arg(prefixed("@", &at("roots")))
        .arg(archive)
        .args(unwinder())
        .arg("-o")
        .arg(at("joined.o"));
    run(&mut linker)?;
    run(tool("OBJCOPY", "objcopy")
        .args(["--wildcard", "--keep-global-symbol=msgport_*", "--strip-unneeded"])
        .args(["--remove-section=.llvmbc", "--remove-section=.llvmcmd"]) // bitcode of the standard library
        .arg(at("joined.o"))
        .arg(at("messageport.o")))?;
    run(tool("AR", "ar").arg("rcsD").arg(at("libmessageport.a")).arg(at("messageport.o")))?;
    fs::read(at("libmessageport.a"))
}

/// A private directory, which is removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("messageport-install-{}", process::id()));
        DirBuilder::new().mode(0o700).create(&path).map_err(|error| crate::files::at(&path, error))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The unwinder of static programs with musl, which comes with Rust and is not in the archive of cargo. Elsewhere the C
/// compiler has it.
fn unwinder() -> Option<PathBuf> {
    if !cfg!(all(target_env = "musl", target_feature = "crt-static")) {
        return None;
    }
    let output = tool("RUSTC", "rustc").args(["--print=target-libdir", "--target", env!("TARGET")]).output().ok()?;
    let folder = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    Some(folder.join("self-contained/libunwind.a")).filter(|path| path.exists())
}

/// The tool in an environment variable, or else the default.
fn tool(variable: &str, default: &str) -> Command {
    let named = env::var(variable).unwrap_or_default();
    let mut words = named.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or(default));
    command.args(words);
    command
}

fn prefixed(prefix: &str, path: &Path) -> OsString {
    let mut text = OsString::from(prefix);
    text.push(path);
    text
}

fn run(command: &mut Command) -> io::Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |why: &str| {
        let needed = "the static library needs a C compiler and the binutils of GNU (variables CC, OBJCOPY, AR)";
        io::Error::other(format!("{name}: {why}; {needed}"))
    };
    let output = command.output().map_err(|error| failed(&error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(())
}
