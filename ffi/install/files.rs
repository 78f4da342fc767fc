//! The installed files: what they are, and how they are put in place and removed.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::Options;
use crate::static_library;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The version in the soname. It changes when programs must be rebuilt.
const ABI: &str = "0";
/// Targets on which everything is linked statically, such as musl, have no shared library.
const HAS_SHARED: bool = !cfg!(target_feature = "crt-static");

enum Content {
    Text(String),
    Shared,
    Static,
    Link(String),
}

/// All files of an installation with these options.
fn all(options: &Options) -> Vec<(PathBuf, Content)> {
    let root = root(options);
    let (include, lib, data) =
        (root.join(&options.includedir), root.join(&options.libdir), root.join(&options.datadir));
    let (cmake, doc) = (own_directory(&lib, "cmake"), own_directory(&data, "doc"));
    let (real, soname) = (format!("libmessageport.so.{VERSION}"), format!("libmessageport.so.{ABI}"));
    let up = vec![".."; options.libdir.components().count() + 2].join("/");
    let fill = |template: &str| {
        let text = template
            .replace("@prefix@", &options.prefix.display().to_string())
            .replace("@libdir@", &options.libdir.display().to_string())
            .replace("@includedir@", &options.includedir.display().to_string())
            .replace("@up@", &up)
            .replace("@real@", &real)
            .replace("@soname@", &soname)
            .replace("@has_shared@", if HAS_SHARED { "TRUE" } else { "FALSE" })
            .replace("@version@", VERSION);
        Content::Text(text)
    };
    let text = |text: &str| Content::Text(text.to_owned());
    let mut files = vec![
        (include.join("messageport.h"), text(include_str!("../include/messageport.h"))),
        (include.join("messageport.hpp"), text(include_str!("../include/messageport.hpp"))),
        (lib.join("libmessageport.a"), Content::Static),
        (lib.join("pkgconfig/messageport.pc"), fill(include_str!("templates/messageport.pc"))),
        (cmake.join("messageport-config.cmake"), fill(include_str!("templates/messageport-config.cmake"))),
        (
            cmake.join("messageport-config-version.cmake"),
            fill(include_str!("templates/messageport-config-version.cmake")),
        ),
        (data.join("man/man3/messageport.3"), text(include_str!("templates/messageport.3"))),
        (doc.join("LICENSE-APACHE"), text(include_str!("../LICENSE-APACHE"))),
        (doc.join("LICENSE-MIT"), text(include_str!("../LICENSE-MIT"))),
    ];
    if HAS_SHARED {
        files.push((lib.join(&real), Content::Shared));
        files.push((lib.join(&soname), Content::Link(real.clone())));
        files.push((lib.join("libmessageport.so"), Content::Link(soname.clone())));
    }
    files
}

/// The prefix, below `--destdir`.
fn root(options: &Options) -> PathBuf {
    match options.destdir.as_os_str().is_empty() {
        true => options.prefix.clone(),
        false => options.destdir.join(options.prefix.strip_prefix("/").unwrap_or(&options.prefix)),
    }
}

/// A directory that has files of this library only.
fn own_directory(above: &Path, kind: &str) -> PathBuf {
    above.join(kind).join("messageport")
}

pub(crate) fn install(options: &Options) -> io::Result<()> {
    // First what can fail for another reason than the place of the files.
    let archive = static_library::make(&built("libmessageport_ffi.a")?)?;
    for (path, content) in all(options) {
        match content {
            Content::Text(text) => write(&path, text.as_bytes(), 0o644)?,
            Content::Shared => {
                let built = built("libmessageport_ffi.so")?;
                write(&path, &fs::read(&built).map_err(|error| at(&built, error))?, 0o755)?;
            }
            Content::Static => write(&path, &archive, 0o644)?,
            Content::Link(target) => link(&path, &target)?,
        }
    }
    if HAS_SHARED && options.destdir.as_os_str().is_empty() {
        let lib = root(options).join(&options.libdir);
        println!(
            "\nPrograms find the shared library after `ldconfig`, if the system searches {0}; otherwise link them with\n\
             -Wl,-rpath,{0}",
            lib.display()
        );
    }
    Ok(())
}

/// Removes what [`install`] with the same options has put there. Other files stay, and so do directories that other
/// packages use.
pub(crate) fn uninstall(options: &Options) -> io::Result<()> {
    let mut found = false;
    for (path, content) in all(options) {
        if let Content::Link(target) = content
            && fs::read_link(&path).is_ok_and(|other| other != Path::new(&target))
        {
            continue; // a link of another version
        }
        match fs::remove_file(&path) {
            Ok(()) => {
                println!("removed {}", path.display());
                found = true;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(at(&path, error)),
        }
    }
    let root = root(options);
    if !found {
        return Err(io::Error::other(format!("messageport is not installed below {}", root.display())));
    }
    for own in [own_directory(&root.join(&options.libdir), "cmake"), own_directory(&root.join(&options.datadir), "doc")]
    {
        let _ = fs::remove_dir(own); // stays if it has other files
    }
    Ok(())
}

/// A library that cargo builds together with this program.
fn built(name: &str) -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let folder = program.parent().unwrap_or(Path::new("."));
    let found = [folder.join("deps").join(name), folder.join(name)].into_iter().find(|path| path.exists());
    found.ok_or_else(|| {
        io::Error::other(format!("{name} is not beside {}; run this through `cargo run`", program.display()))
    })
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

/// The error with the path that it is about.
pub(crate) fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
