//! Policies on the real control plane: how their objects are loaded and say so, who uses which, and what a bad one can't do.

mod hostile;
mod loading;
mod objects;
mod support;
mod using;
