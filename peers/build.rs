//! Compiles the shims of the C and C++ libraries that are installed. The others are reported as skipped at run time.

use std::process::Command;

/// The file of each shim, the pkg-config name of its library, and a header whose presence shows that it is installed.
const SHIMS: [(&str, Option<&str>, &str); 3] = [
    ("boost.cpp", None, "/usr/include/boost/interprocess/ipc/message_queue.hpp"),
    ("zeromq.c", Some("libzmq"), "/usr/include/zmq.h"),
    ("nng.c", Some("nng"), "/usr/include/nng/nng.h"),
];

fn main() {
    println!("cargo:rerun-if-changed=shims");
    for (shim, package, header) in SHIMS {
        let name = shim.split('.').next().unwrap_or(shim);
        println!("cargo:rustc-check-cfg=cfg({name})");
        println!("cargo:rerun-if-changed={header}");
        if !std::path::Path::new(header).exists() {
            continue;
        }
        let mut build = cc::Build::new();
        build.file(format!("shims/{shim}")).include("shims").opt_level(3).warnings(true);
        if shim.ends_with(".cpp") {
            build.cpp(true).std("c++17");
        }
        if build.try_compile(&format!("shim_{name}")).is_err() {
            println!("cargo:warning={name} is installed, but its shim does not compile");
            continue;
        }
        println!("cargo:rustc-cfg={name}");
        if let Some(package) = package {
            let libraries = Command::new("pkg-config").args(["--libs-only-l", package]).output();
            let libraries = libraries.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            let found: Vec<String> = libraries
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|flag| flag.strip_prefix("-l").map(str::to_owned))
                .collect();
            let fallback = vec![package.trim_start_matches("lib").to_owned()];
            for library in if found.is_empty() { fallback } else { found } {
                println!("cargo:rustc-link-lib=dylib={library}");
            }
        }
    }
    // Boost.Interprocess needs shm_open, which is in librt before glibc 2.34.
    println!("cargo:rustc-link-lib=dylib=rt");
}
