//! The limits: what the machine itself takes for what a port does, with nothing around it.

pub(crate) mod calls;
pub(crate) mod flow;
pub(crate) mod futex;
pub(crate) mod line;
pub(crate) mod ring;
pub(crate) mod shared;
