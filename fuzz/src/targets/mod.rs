//! The targets over the whole library, and the planted faults that they must find.

mod ports;
mod decode;
mod lane;
mod ring;
mod descriptors;

use crate::runs::Target;

/// The targets by name.
pub const TARGETS: &[(&str, Target)] =
    &[("ring", ring::run), ("lane", lane::run), ("ports", ports::run), ("decode", decode::run)];

/// A target with a planted fault, which must fail with a message that contains the symptom.
pub struct Control {
    pub fault: &'static str,
    pub target: &'static str,
    pub symptom: &'static str,
    pub run: Target,
}

macro_rules! control {
    ($target:ident, $fault:ident, $symptom:literal) => {
        Control {
            fault: stringify!($fault),
            target: stringify!($target),
            symptom: $symptom,
            run: |input| $target::run_with(input, $target::Fault::$fault),
        }
    };
}

/// The planted faults.
pub const CONTROLS: &[Control] = &[
    control!(ring, LengthTrusted, "differs from the format"),
    control!(ring, SequenceIgnored, "differs from the format"),
    control!(lane, DescriptorLost, "descriptors"),
    control!(ports, MessageLost, "the model"),
    control!(ports, PortsSwapped, "the model"),
];
