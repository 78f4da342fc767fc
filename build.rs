//! Refuses targets on which the library cannot work, in one sentence in place of the errors of its modules.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |property: &str| std::env::var(format!("CARGO_CFG_TARGET_{property}")).unwrap_or_default();
    if target("OS") != "linux" {
        println!("cargo::error=messageport runs on Linux only: it uses memory files, futexes and SEQPACKET sockets");
    } else if target("POINTER_WIDTH") != "64" {
        println!("cargo::error=messageport needs a 64-bit target: its positions in shared memory have 64 bits");
    }
}
