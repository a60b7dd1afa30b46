//! Copies of what registries gave, on disk: read again, and judged again, while a registry can't be reached.

use std::io;
use std::sync::Arc;

use muster_policy_host::Folder;
use muster_policy_oci::{Copy, Reference};

/// The copies of this replica.
#[derive(Debug, Clone)]
pub(crate) struct Kept(Option<Arc<Folder>>);

impl Kept {
    /// Copies in a folder; without one nothing is kept.
    pub(crate) fn new(folder: Option<Folder>) -> Self {
        Self(folder.map(Arc::new))
    }

    /// Keeps a copy of what `reference` stands for, in place of the last one. Failing costs only the copy.
    pub(crate) async fn keep(&self, reference: &Reference, copy: Copy) {
        let name = Copy::name(reference);
        let said = reference.whole();
        self.blocking(move |folder| {
            if let Err(error) = folder.write(&name, &copy.encode()) {
                tracing::warn!(reference = said, %error, "no copy could be kept; the policy can't be loaded while its registry is down");
            }
        })
        .await;
    }

    /// The copy of what `reference` stands for; `None` when there is none. One that was changed is removed.
    pub(crate) async fn find(&self, reference: &Reference) -> Option<Result<Copy, String>> {
        let reference = reference.clone();
        let found = self.blocking(move |folder| {
            let name = Copy::name(&reference);
            let read = match folder.read(&name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                Err(error) => Err(error.to_string()),
                Ok(bytes) => Copy::decode(&bytes, &reference).map_err(|error| error.to_string()),
            };
            match &read {
                Ok(_) => folder.touch(&name),
                Err(error) => reject(folder, &reference, error),
            }
            Some(read)
        });
        found.await.flatten()
    }

    /// Removes the copy of what `reference` stands for, which turned out not to be what the registry gave.
    pub(crate) async fn discard(&self, reference: &Reference, why: String) {
        let reference = reference.clone();
        self.blocking(move |folder| reject(folder, &reference, &why)).await;
    }

    async fn blocking<T: Send + 'static>(&self, task: impl FnOnce(&Folder) -> T + Send + 'static) -> Option<T> {
        let folder = self.0.clone()?;
        tokio::task::spawn_blocking(move || task(&folder)).await.ok()
    }
}

fn reject(folder: &Folder, reference: &Reference, why: &str) {
    tracing::warn!(reference = reference.whole(), why, "the kept copy of a policy was changed; it is removed");
    folder.remove(&Copy::name(reference));
}
