//! What policies of both worlds need. `muster-placement-sdk` and `muster-startup-sdk` are for writing policies and bring it along.

pub mod duration;
pub mod settings;
