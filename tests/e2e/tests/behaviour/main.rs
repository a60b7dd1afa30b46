//! What a set does on a real control plane: its objects, admission, startup, placement, the examples, the chart.
//!
//! Everything here runs at the same time against one cluster, so each test has a namespace, and nodes of its own if it needs any.

mod admission;
mod chart;
mod claims;
mod drift;
mod examples;
mod exclusive;
mod interop;
mod labels;
mod lost;
mod ownership;
mod restart;
mod revisions;
mod rollout;
mod scaling;
mod sets;
mod shape;
mod stages;
mod startup;
mod subgroups;
mod templates;
mod tpu;
mod turns;
mod unplaceable;
