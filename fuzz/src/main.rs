//! The targets over the whole library. `MESSAGEPORT_FUZZ_TARGET` names the target that libFuzzer runs.
#![cfg_attr(feature = "libfuzzer", no_main)]

#[cfg(feature = "libfuzzer")]
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    static TARGET: std::sync::LazyLock<messageport_fuzz::Target> = std::sync::LazyLock::new(|| {
        let name = std::env::var("MESSAGEPORT_FUZZ_TARGET").expect("MESSAGEPORT_FUZZ_TARGET names a target");
        messageport_fuzz::TARGETS.iter().find(|(target, _)| *target == name).expect("a target of this program").1
    });
    TARGET(data);
});

#[cfg(not(feature = "libfuzzer"))]
fn main() {
    messageport_fuzz::runs::main(messageport_fuzz::TARGETS);
}
