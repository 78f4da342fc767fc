//! Installs the library, the headers, the pkg-config file and the CMake package.
//!
//! `cargo run --release -p messageport-ffi -- --prefix /usr/local --destdir STAGING`
#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The version in the soname. It changes when programs must be rebuilt.
const ABI: &str = "0";

const USAGE: &str = "\
Installs messageport for C and C++.

usage: messageport-install [--prefix DIR] [--libdir DIR] [--includedir DIR] [--destdir DIR]

  --prefix DIR      the root of the installed files; default /usr/local
  --libdir DIR      the directory of the libraries below the prefix; default lib
  --includedir DIR  the directory of the headers below the prefix; default include
  --destdir DIR     for packagers: write everything below this directory; default $DESTDIR
";

struct Options {
    prefix: PathBuf,
    libdir: PathBuf,
    includedir: PathBuf,
    destdir: PathBuf,
}

fn main() -> ExitCode {
    let options = match options(env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprint!("messageport-install: {wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match install(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("messageport-install: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `None` for `--help`.
fn options(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options {
        prefix: "/usr/local".into(),
        libdir: "lib".into(),
        includedir: "include".into(),
        destdir: env::var_os("DESTDIR").unwrap_or_default().into(),
    };
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        let place = match name.as_str() {
            "--prefix" => &mut options.prefix,
            "--libdir" => &mut options.libdir,
            "--includedir" => &mut options.includedir,
            "--destdir" => &mut options.destdir,
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("unknown argument {name}")),
        };
        *place = value.or_else(|| arguments.next()).ok_or_else(|| format!("{name} needs a directory"))?.into();
    }
    if !options.prefix.is_absolute() {
        return Err("the prefix must be an absolute path".to_owned());
    }
    for directory in [&mut options.libdir, &mut options.includedir] {
        if let Ok(below) = directory.strip_prefix(&options.prefix) {
            *directory = below.to_owned();
        }
        if directory.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(format!("{} is not below the prefix", directory.display()));
        }
    }
    Ok(Some(options))
}

fn install(options: &Options) -> io::Result<()> {
    let root = match options.destdir.as_os_str().is_empty() {
        true => options.prefix.clone(),
        false => options.destdir.join(options.prefix.strip_prefix("/").unwrap_or(&options.prefix)),
    };
    let (include, lib) = (root.join(&options.includedir), root.join(&options.libdir));
    let real = format!("libmessageport.so.{VERSION}");
    let soname = format!("libmessageport.so.{ABI}");

    write(&include.join("messageport.h"), include_bytes!("../include/messageport.h"), 0o644)?;
    write(&include.join("messageport.hpp"), include_bytes!("../include/messageport.hpp"), 0o644)?;
    write(&lib.join(&real), &built("libmessageport_ffi.so")?, 0o755)?;
    link(&lib.join(&soname), &real)?;
    link(&lib.join("libmessageport.so"), &soname)?;
    write(&lib.join("libmessageport.a"), &built("libmessageport_ffi.a")?, 0o644)?;
    let fill = |template: &str| {
        let up = vec![".."; options.libdir.components().count() + 2].join("/");
        template
            .replace("@prefix@", &options.prefix.display().to_string())
            .replace("@libdir@", &options.libdir.display().to_string())
            .replace("@includedir@", &options.includedir.display().to_string())
            .replace("@up@", &up)
            .replace("@real@", &real)
            .replace("@soname@", &soname)
            .replace("@version@", VERSION)
    };
    let pkg_config = fill(include_str!("templates/messageport.pc"));
    write(&lib.join("pkgconfig/messageport.pc"), pkg_config.as_bytes(), 0o644)?;
    let cmake = lib.join("cmake/messageport");
    let config = fill(include_str!("templates/messageport-config.cmake"));
    write(&cmake.join("messageport-config.cmake"), config.as_bytes(), 0o644)?;
    let version = fill(include_str!("templates/messageport-config-version.cmake"));
    write(&cmake.join("messageport-config-version.cmake"), version.as_bytes(), 0o644)
}

/// A library that cargo builds together with this program.
fn built(name: &str) -> io::Result<Vec<u8>> {
    let program = env::current_exe()?;
    let folder = program.parent().unwrap_or(Path::new("."));
    let found = [folder.join("deps").join(name), folder.join(name)].into_iter().find(|path| path.exists());
    let path = found.ok_or_else(|| {
        io::Error::other(format!("{name} is not beside {}; run this through `cargo run`", program.display()))
    })?;
    fs::read(&path).map_err(|error| at(&path, error))
}

fn write(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(|error| at(folder, error))?;
    // Replaces an old file instead of overwriting it: a running program may have mapped it.
    let fresh = path.with_extension("messageport-new");
    let put = || {
        fs::write(&fresh, contents)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(mode))?;
        fs::rename(&fresh, path)
    };
    put().map_err(|error| at(path, error))?;
    println!("{}", path.display());
    Ok(())
}

fn link(path: &Path, target: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(path, error)),
        _ => {}
    }
    symlink(target, path).map_err(|error| at(path, error))?;
    println!("{} -> {target}", path.display());
    Ok(())
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
