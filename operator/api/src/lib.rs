//! The Kubernetes API types that Muster serves.
