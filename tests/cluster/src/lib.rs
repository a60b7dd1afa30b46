//! A handle on a real control plane with simulated nodes, for tests and for `cargo xtask up`.
//!
//! ```text
//! Layout ─► ControlPlane (etcd, API server, controllers, scheduler, kwok)
//!               ├─► Fleet      simulated nodes
//!               ├─► Chart      helm upgrade --install, as a user would
//!               └─► Operator   our binary, run exactly as the installed Deployment says
//! Cluster = all of these, started once per test program; Namespace = one test's corner of it
//! ```
//!
//! It is not a framework: it starts things, breaks things and waits for things. What is right and wrong is for tests to say.

mod certs;
mod chart;
mod cluster;
mod control_plane;
mod deployment;
mod fleet;
mod kubelets;
mod layout;
mod namespace;
mod operator;
mod pods;
mod ports;
mod process;
mod recovery;
mod wait;

pub use chart::{NAMESPACE, RELEASE, install_chart, merge};
pub use cluster::{Cluster, Setup};
pub use control_plane::{ControlPlane, Controllers, Ports, remove};
pub use fleet::{Fleet, GPU, HOST, NodeBuilder, POOL, RACK, TPU, ZONE};
pub use layout::{Layout, STATE_FOLDER, root};
pub use namespace::Namespace;
pub use operator::Operator;
pub use pods::{PodBuilder, is_ready};
pub use process::{Process, Program, tail};
pub use wait::{PATIENCE, eventually};
