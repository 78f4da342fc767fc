//! Installs the library, the headers, the manual page, and the files for pkg-config and CMake; or removes them.
//!
//! `cargo run --release -p messageport-ffi -- --prefix /usr/local --destdir STAGING`
#![forbid(unsafe_code)]

mod files;
mod static_library;

use std::env;
use std::path::{Component, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
Installs messageport for C and C++.

usage: messageport-install [--prefix DIR] [--libdir DIR] [--includedir DIR] [--datadir DIR] [--destdir DIR]
                           [--uninstall]

  --prefix DIR      the root of the installed files; default /usr/local
  --libdir DIR      the directory of the libraries below the prefix; default lib
  --includedir DIR  the directory of the headers below the prefix; default include
  --datadir DIR     the directory of the manual page and the licences below the prefix; default share
  --destdir DIR     for packagers: write everything below this directory; default $DESTDIR
  --uninstall       remove what an installation with the same directories has made
";

struct Options {
    prefix: PathBuf,
    libdir: PathBuf,
    includedir: PathBuf,
    datadir: PathBuf,
    destdir: PathBuf,
    uninstall: bool,
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
    let done = if options.uninstall { files::uninstall(&options) } else { files::install(&options) };
    match done {
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
        datadir: "share".into(),
        destdir: env::var_os("DESTDIR").unwrap_or_default().into(),
        uninstall: false,
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
            "--datadir" => &mut options.datadir,
            "--destdir" => &mut options.destdir,
            "--uninstall" if value.is_none() => {
                options.uninstall = true;
                continue;
            }
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("unknown argument {name}")),
        };
        *place = value.or_else(|| arguments.next()).ok_or_else(|| format!("{name} needs a directory"))?.into();
    }
    if !options.prefix.is_absolute() {
        return Err("the prefix must be an absolute path".to_owned());
    }
    for directory in [&mut options.libdir, &mut options.includedir, &mut options.datadir] {
        if let Ok(below) = directory.strip_prefix(&options.prefix) {
            *directory = below.to_owned();
        }
        if directory.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(format!("{} is not below the prefix", directory.display()));
        }
    }
    Ok(Some(options))
}
