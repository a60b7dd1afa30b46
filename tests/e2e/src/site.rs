//! A test's corner of the shared cluster.

use std::ops::Deref;

use anyhow::Result;
use muster_cluster::{Cluster, Fleet, GPU, Namespace, NodeBuilder, POOL};

/// Key of the taint that keeps other tests' pods off a site's nodes: a site takes its nodes along when it goes.
pub const TAINT: &str = "test.muster.dev/site";

/// A namespace, and nodes that only pods made with [`crate::Set::on`] go to. Their domains are values of [`Site::key`], a label that no
/// other node has, so that what a test says about all domains holds whatever runs beside it. (They are also node pools, `<namespace>-<domain>`.)
#[derive(Debug)]
pub struct Site {
    namespace: Namespace,
    key: String,
}

impl Site {
    /// A new namespace without nodes, its name beginning with `prefix`.
    ///
    /// # Errors
    /// When the API server refuses the namespace.
    pub async fn new(prefix: &str) -> Result<Self> {
        let namespace = Cluster::shared().await.namespace(prefix).await?;
        let key = format!("{}.test.muster.dev/pool", namespace.name());
        Ok(Self { namespace, key })
    }

    /// Adds a domain called `pool` of so many nodes with eight GPUs each.
    ///
    /// # Errors
    /// When the nodes don't become ready.
    pub async fn pool(&mut self, pool: &str, nodes: usize) -> Result<()> {
        let fleet = (0..nodes).fold(Fleet::new(), |fleet, index| fleet.node(self.node(pool, index)));
        self.namespace.add_nodes(&fleet).await
    }

    /// Label key of the racks that [`Site::racks`] makes.
    #[must_use]
    pub fn rack_key(&self) -> String {
        format!("{}.test.muster.dev/rack", self.name())
    }

    /// Adds a domain of racks, given by name and number of nodes.
    ///
    /// # Errors
    /// When the nodes don't become ready.
    pub async fn racks(&mut self, pool: &str, racks: &[(&str, usize)]) -> Result<()> {
        let key = self.rack_key();
        let all = racks.iter().flat_map(|(rack, nodes)| std::iter::repeat_n(*rack, *nodes));
        let fleet =
            all.enumerate().fold(Fleet::new(), |fleet, (index, rack)| fleet.node(self.node(pool, index).label(&key, rack)));
        self.namespace.add_nodes(&fleet).await
    }

    /// A node of a pool, for tests that want it different; [`Site::add`] creates it.
    #[must_use]
    pub fn node(&self, pool: &str, index: usize) -> NodeBuilder {
        NodeBuilder::new(&format!("{}-{pool}-{index}", self.name()))
            .label(&self.key, pool)
            .label(POOL, &format!("{}-{pool}", self.name()))
            .taint(TAINT, self.name(), "NoSchedule")
            .resource("cpu", "64")
            .resource("memory", "512Gi")
            .resource(GPU, "8")
    }

    /// Adds nodes made by hand.
    ///
    /// # Errors
    /// When the nodes don't become ready.
    pub async fn add(&mut self, fleet: &Fleet) -> Result<()> {
        self.namespace.add_nodes(fleet).await
    }

    /// The label key whose values are the site's domains.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl Deref for Site {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}
