//! The installer puts every file where the builds of other projects find it, and such builds work.

mod native;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use native::*;

/// The installer, which cargo builds together with the tests.
fn installer() -> Command {
    Command::new(env!("CARGO_BIN_EXE_messageport-install"))
}

/// An empty directory.
fn fresh(name: &str) -> PathBuf {
    let directory = scratch(name);
    fs::remove_dir_all(&directory).unwrap();
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Installs to an empty prefix.
fn install(name: &str, arguments: &[&str]) -> PathBuf {
    let prefix = fresh(name);
    succeed(installer().arg("--prefix").arg(&prefix).args(arguments).env_remove("DESTDIR"));
    prefix
}

/// pkg-config with the variables that make it search a prefix.
fn pkg_config(prefix: &Path, libdir: &str) -> Command {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", prefix.join(libdir).join("pkgconfig")).env_remove("PKG_CONFIG_SYSROOT_DIR");
    command
}

fn write_outside_project(name: &str) -> PathBuf {
    let project = fresh(name);
    for file in ["echo.c", "echo.cpp"] {
        fs::copy(source("../examples/c").join(file), project.join(file)).unwrap();
    }
    fs::write(
        project.join("CMakeLists.txt"),
        "cmake_minimum_required(VERSION 3.16)\n\
         project(outside LANGUAGES C CXX)\n\
         set(CMAKE_CXX_STANDARD 17)\n\
         find_package(messageport 0.1 REQUIRED)\n\
         add_executable(shared echo.cpp)\n\
         target_link_libraries(shared PRIVATE messageport::messageport)\n\
         add_executable(static echo.cpp)\n\
         target_link_libraries(static PRIVATE messageport::static)\n\
         add_executable(c echo.c)\n\
         target_link_libraries(c PRIVATE messageport::messageport)\n",
    )
    .unwrap();
    project
}

#[test]
fn an_outside_c_program_finds_it_by_pkg_config() {
    if !have("pkg-config", "an outside program by pkg-config") {
        return;
    }
    let prefix = install("prefix-pkg-config", &[]);
    assert_eq!(
        succeed(pkg_config(&prefix, "lib").args(["--modversion", "messageport"])).trim(),
        env!("CARGO_PKG_VERSION")
    );
    let project = write_outside_project("outside-pkg-config");
    for (kind, link) in [("shared", ["--cflags", "--libs"].as_slice()), ("static", &["--cflags", "--libs", "--static"])]
    {
        let flags = succeed(pkg_config(&prefix, "lib").args(link).arg("messageport"));
        let mut cc = compile(&[project.join("echo.c")], &[]);
        cc.arg("-o").arg(project.join(kind));
        if kind == "static" {
            // A directory with only the static library.
            let only = fresh("prefix-only-static");
            fs::copy(prefix.join("lib/libmessageport.a"), only.join("libmessageport.a")).unwrap();
            cc.arg("-L").arg(only);
        }
        succeed(cc.args(flags.split_whitespace()));
        let said = succeed(Command::new(project.join(kind)).env("LD_LIBRARY_PATH", prefix.join("lib")));
        assert_eq!(said, "hello\n");
    }
    let needed = |kind: &str| succeed(Command::new("readelf").arg("-d").arg(project.join(kind)));
    assert!(needed("shared").contains("[libmessageport.so.0]"));
    assert!(!needed("static").contains("libmessageport"));
}

#[test]
fn an_outside_cpp_program_finds_it_by_cmake() {
    if !have("cmake", "an outside program by CMake") {
        return;
    }
    // A libdir of two levels.
    let prefix = install("prefix-cmake", &["--libdir", "lib/x86_64-linux-gnu", "--includedir=include/extra"]);
    // Moved after the installation.
    let moved = fresh("prefix-moved");
    fs::remove_dir(&moved).unwrap();
    fs::rename(&prefix, &moved).unwrap();
    let project = write_outside_project("outside-cmake");
    let build = project.join("build");
    let found = format!("-Dmessageport_DIR={}", moved.join("lib/x86_64-linux-gnu/cmake/messageport").display());
    succeed(Command::new("cmake").arg("-S").arg(&project).arg("-B").arg(&build).arg(found));
    succeed(Command::new("cmake").arg("--build").arg(&build));
    for program in ["shared", "static", "c"] {
        assert_eq!(succeed(&mut Command::new(build.join(program))), "hello\n", "{program}");
    }
    // Requests for other versions.
    let wanted = project.join("CMakeLists.txt");
    for (version, fits) in
        [("0.1", true), ("0.1.0", true), ("0.2", false), ("0.0.9", false), ("0.1.1", false), ("1", false)]
    {
        fs::write(
            &wanted,
            format!("cmake_minimum_required(VERSION 3.16)\nproject(outside LANGUAGES C)\nfind_package(messageport {version} REQUIRED)\n"),
        )
        .unwrap();
        let build = fresh("outside-cmake-version");
        let found = format!("-Dmessageport_DIR={}", moved.join("lib/x86_64-linux-gnu/cmake/messageport").display());
        let output = run(Command::new("cmake").arg("-S").arg(&project).arg("-B").arg(&build).arg(found));
        assert_eq!(output.status.success(), fits, "version {version}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn puts_everything_below_destdir() {
    let staging = fresh("staging");
    for by_argument in [true, false] {
        let mut command = installer();
        command.args(["--prefix", "/opt/messageport", "--libdir=/opt/messageport/lib64"]);
        match by_argument {
            true => command.arg("--destdir").arg(&staging).env_remove("DESTDIR"),
            false => command.env("DESTDIR", &staging),
        };
        succeed(&mut command);
        let root = staging.join("opt/messageport");
        let version = env!("CARGO_PKG_VERSION");
        for file in [
            "include/messageport.h",
            "include/messageport.hpp",
            &format!("lib64/libmessageport.so.{version}"),
            "lib64/libmessageport.a",
            "lib64/pkgconfig/messageport.pc",
            "lib64/cmake/messageport/messageport-config.cmake",
            "lib64/cmake/messageport/messageport-config-version.cmake",
        ] {
            assert!(root.join(file).is_file(), "{file}");
        }
        for (link, target) in [
            ("libmessageport.so", "libmessageport.so.0"),
            ("libmessageport.so.0", &*format!("libmessageport.so.{version}")),
        ] {
            assert_eq!(fs::read_link(root.join("lib64").join(link)).unwrap(), Path::new(target));
        }
        // The files contain the prefix, not the staging directory.
        let text = fs::read_to_string(root.join("lib64/pkgconfig/messageport.pc")).unwrap();
        assert!(
            text.contains("prefix=/opt/messageport\n") && !text.contains("staging") && !text.contains('@'),
            "{text}"
        );
    }
}

#[test]
fn refuses_what_makes_no_sense() {
    for arguments in [
        &["--prefix", "relative"][..],
        &["--prefix"],
        &["--libdir", "/elsewhere"],
        &["--libdir", "../lib"],
        &["--what"],
    ] {
        let output = run(installer().args(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("usage:"));
    }
    assert!(succeed(installer().arg("--help")).starts_with("Installs"));
    // A prefix that is not writable.
    let output = run(installer().args(["--prefix", "/proc/nowhere"]).env_remove("DESTDIR"));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/proc/nowhere"));
}
