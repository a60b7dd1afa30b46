//! Policies on the real control plane: how their objects are loaded and say so, who uses which, and what a bad one can't do.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod adversaries;
mod deciding;
mod hostile;
mod loading;
mod objects;
mod support;
mod using;
