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

/// True if the system can link programs statically: some systems have no static C library.
fn can_link_statically(test: &str) -> bool {
    let project = fresh("static-probe");
    fs::write(project.join("probe.c"), "int main(void) { return 0; }\n").unwrap();
    let mut cc = compile(&[project.join("probe.c")], &["-static"]);
    let can = run(cc.arg("-o").arg(project.join("probe"))).status.success();
    can || skip(test, "there is no static C library here")
}

#[test]
fn a_c_program_and_a_cpp_program_link_statically() {
    if !have("pkg-config", "a static program") || !can_link_statically("a static program") {
        return;
    }
    let prefix = install("prefix-static", &[]);
    let project = write_outside_project("outside-static");
    let flags = succeed(pkg_config(&prefix, "lib").args(["--cflags", "--libs", "--static", "messageport"]));
    for file in ["echo.c", "echo.cpp"] {
        let program = project.join(file).with_extension("static");
        let mut cc = compile(&[project.join(file)], &["-static"]);
        succeed(cc.arg("-o").arg(&program).args(flags.split_whitespace()));
        assert_eq!(succeed(&mut Command::new(&program)), "hello\n", "{file}");
        let dynamic = succeed(Command::new("readelf").arg("-d").arg(&program));
        assert!(dynamic.contains("no dynamic section"), "{dynamic}");
    }
}

#[test]
fn the_static_library_defines_the_functions_of_the_header_and_nothing_else() {
    let prefix = install("prefix-symbols", &[]);
    let nm = succeed(Command::new("nm").args(["-g", "--defined-only"]).arg(prefix.join("lib/libmessageport.a")));
    let mut defined: Vec<&str> = nm.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    defined.sort_unstable();
    assert_eq!(defined, include_str!("golden.txt").lines().collect::<Vec<_>>());
}

#[test]
fn a_program_can_have_the_static_library_of_another_rust_library_too() {
    let prefix = install("prefix-two", &[]);
    let project = fresh("two-libraries");
    fs::write(
        project.join("other.rs"),
        "#[unsafe(no_mangle)]\n\
         pub extern \"C\" fn caught() -> i32 {\n\
             std::panic::set_hook(Box::new(|_| {}));\n\
             i32::from(std::panic::catch_unwind(|| panic!(\"{}\", std::process::id())).is_err())\n\
         }\n",
    )
    .unwrap();
    fs::write(
        project.join("both.c"),
        "#include <messageport.h>\n\
         int caught(void);\n\
         int main(void) {\n\
             msgport_port *one, *two;\n\
             if (msgport_channel_new(NULL, &one, &two) != MSGPORT_OK || caught() != 1) return 1;\n\
             msgport_port_free(one);\n\
             msgport_port_free(two);\n\
             return 0;\n\
         }\n",
    )
    .unwrap();
    // Optimised at link time, the other library has its standard library in the object of its own code, so that the
    // linker takes all of it.
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut other = Command::new(rustc);
    other.args(["--crate-type=staticlib", "--edition=2024", "-Clto=fat", "-Copt-level=0"]);
    succeed(other.arg(project.join("other.rs")).arg("-o").arg(project.join("libother.a")));
    let mut cc = compile(&[project.join("both.c")], &[]);
    cc.args([project.join("libother.a"), prefix.join("lib/libmessageport.a")]);
    succeed(cc.args(["-lpthread", "-lm", "-ldl", "-o"]).arg(project.join("both")));
    succeed(&mut Command::new(project.join("both")));
}

/// Every file below a directory.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() && !path.is_symlink() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}

#[test]
fn uninstalling_removes_what_installing_made_and_nothing_else() {
    let prefix = install("prefix-uninstalled", &["--libdir=lib64"]);
    assert!(files_below(&prefix).len() > 10);
    let foreign = [prefix.join("lib64/other.a"), prefix.join("include/other.h"), prefix.join("share/man/man3/other.3")];
    for file in &foreign {
        fs::write(file, "").unwrap();
    }
    let uninstall =
        || run(installer().arg("--prefix").arg(&prefix).args(["--libdir=lib64", "--uninstall"]).env_remove("DESTDIR"));
    assert!(uninstall().status.success());
    let mut left = files_below(&prefix);
    left.sort();
    assert_eq!(left, {
        let mut expected = foreign.to_vec();
        expected.sort();
        expected
    });
    assert!(!prefix.join("lib64/cmake/messageport").exists() && !prefix.join("share/doc/messageport").exists());
    let again = uninstall();
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not installed below"));
}

#[test]
fn installing_says_how_programs_find_the_shared_library() {
    let prefix = fresh("prefix-found");
    let said = succeed(installer().arg("--prefix").arg(&prefix).env_remove("DESTDIR"));
    assert!(said.contains("ldconfig") && said.contains(&format!("-Wl,-rpath,{}/lib", prefix.display())), "{said}");
    // A packager's system is not the user's.
    let said = succeed(installer().args(["--prefix", "/usr", "--destdir"]).arg(&prefix));
    assert!(!said.contains("ldconfig"), "{said}");
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
            "share/man/man3/messageport.3",
            "share/doc/messageport/LICENSE-APACHE",
            "share/doc/messageport/LICENSE-MIT",
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
        &["--datadir=/elsewhere"],
        &["--uninstall=yes"],
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
