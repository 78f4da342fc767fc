//! Sets the soname of the shared library, the name under which programs load it, and gives the target to the installer.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=TARGET={}", std::env::var("TARGET").expect("cargo sets it"));
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libmessageport.so.0");
}
