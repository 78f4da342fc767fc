//! Every target on its corpus and on random inputs, and every planted fault found.

use std::sync::{Mutex, MutexGuard, PoisonError};

use messageport_fuzz::runs::{caught, replay};
use messageport_fuzz::{CONTROLS, TARGETS};

/// Held by a test, so that no other test opens descriptors while the targets check for leaks.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

macro_rules! replays {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            let _alone = alone();
            let (name, run) = TARGETS.iter().find(|(name, _)| *name == stringify!($target)).expect("a target");
            replay(name, *run);
        })*
    };
}

replays! { ring lane ports decode }

macro_rules! controls {
    ($($test:ident: $fault:literal;)*) => {
        $(#[test]
        fn $test() {
            let _alone = alone();
            let control = CONTROLS.iter().find(|control| control.fault == $fault).expect("a planted fault");
            caught(control.target, control.symptom, control.run);
        })*

        #[test]
        fn every_control_is_tested() {
            let tested = [$($fault),*];
            assert!(CONTROLS.iter().all(|control| tested.contains(&control.fault)));
        }
    };
}

controls! {
    a_length_that_is_trusted: "LengthTrusted";
    a_sequence_number_that_is_not_checked: "SequenceIgnored";
    a_descriptor_that_is_lost: "DescriptorLost";
    a_message_that_is_lost: "MessageLost";
    ports_that_are_mixed_up: "PortsSwapped";
}
