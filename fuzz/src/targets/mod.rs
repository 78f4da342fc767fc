//! The targets over the whole library, and the planted faults that they must find.

mod ports;
mod decode;
mod lane;
mod ring;
mod descriptors;

use crate::runs::Target;

pub const TARGETS: &[(&str, Target)] =
    &[("ring", ring::run), ("lane", lane::run), ("ports", ports::run), ("decode", decode::run)];

#[cfg(test)]
mod tests {
    use crate::runs::{caught, replay};

    macro_rules! replays {
        ($($target:ident)*) => {
            $(#[test]
            fn $target() {
                let _alone = super::descriptors::alone();
                replay(stringify!($target), super::$target::run);
            })*
        };
    }

    replays! { ring lane ports decode }

    macro_rules! controls {
        ($($name:ident: $target:ident, $fault:ident, $symptom:literal;)*) => {
            $(#[test]
            fn $name() {
                let _alone = super::descriptors::alone();
                caught(stringify!($target), $symptom, |input| {
                    super::$target::run_with(input, super::$target::Fault::$fault);
                });
            })*
        };
    }

    controls! {
        a_length_that_is_trusted: ring, LengthTrusted, "differs from the format";
        a_sequence_number_that_is_not_checked: ring, SequenceIgnored, "differs from the format";
        a_descriptor_that_is_lost: lane, DescriptorLost, "descriptors";
        a_message_that_is_lost: ports, MessageLost, "the model";
        ports_that_are_mixed_up: ports, PortsSwapped, "the model";
    }
}
