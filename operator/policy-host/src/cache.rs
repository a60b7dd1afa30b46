//! Compiled components on local disk, so that a restart doesn't compile them again.
//!
//! A file is native code, so only files are read that [`Folder`] believes; everything else is compiled again. Nothing that goes
//! wrong here is more than a slow start.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;

use wasmtime::component::Component;

use crate::folder::{CacheOptions, Folder};

#[derive(Debug)]
pub(crate) struct Cache(Folder);

impl Cache {
    /// Opens the folder, or makes it.
    pub(crate) fn open(options: CacheOptions) -> io::Result<Self> {
        Folder::open(options, "cwasm").map(Self)
    }

    /// The compiled code of the component with this digest, if it is here and fits this engine.
    pub(crate) fn load(&self, engine: &wasmtime::Engine, digest: &str) -> Option<Component> {
        let name = name(engine, digest);
        let code = match self.0.read(&name) {
            Ok(code) => code,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return self.reject(&name, &error),
        };
        match deserialize(engine, &code) {
            Ok(component) => {
                self.0.touch(&name);
                Some(component)
            }
            Err(error) => self.reject(&name, &error),
        }
    }

    /// Keeps compiled code.
    pub(crate) fn store(&self, engine: &wasmtime::Engine, digest: &str, component: &Component) {
        let name = name(engine, digest);
        let written = component.serialize().map_err(io::Error::other).and_then(|code| self.0.write(&name, &code));
        if let Err(error) = written {
            let path = self.0.path(&name);
            tracing::warn!(path = %path.display(), %error, "compiled code could not be kept; it is compiled again after a restart");
        }
    }

    fn reject<T>(&self, name: &str, error: &dyn std::fmt::Display) -> Option<T> {
        tracing::warn!(path = %self.0.path(name).display(), %error, "kept code can't be used; it is compiled again");
        self.0.remove(name);
        None
    }
}

/// The component's digest and all that decides what it compiles to.
fn name(engine: &wasmtime::Engine, digest: &str) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{}-{:016x}", digest.trim_start_matches("sha256:"), hasher.finish())
}

/// Makes code that was compiled before executable.
#[expect(unsafe_code, reason = "wasmtime can't know who wrote the code; the cache does")]
fn deserialize(engine: &wasmtime::Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes must be what `Component::serialize` gave, unchanged. They were read from a file that belongs to us, that
    // nobody else may read or write, and whose checksum is right for their name, so this program wrote them from a component
    // it had accepted and compiled; they were copied out of the file before they were checked, so that nobody changes them afterwards. wasmtime
    // itself refuses code of another version of it, another configuration or another processor.
    unsafe { Component::deserialize(engine, code) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    const DIGEST: &str = "sha256:00aa";

    struct Fixture {
        folder: tempfile::TempDir,
        engine: wasmtime::Engine,
        component: Component,
    }

    impl Fixture {
        fn new() -> Self {
            let engine = wasmtime::Engine::default();
            let component = Component::new(&engine, wat::parse_str("(component)").unwrap()).unwrap();
            Self { folder: tempfile::tempdir().unwrap(), engine, component }
        }

        fn cache(&self) -> Cache {
            Cache::open(CacheOptions { folder: self.folder.path().join("cache"), max_bytes: 1 << 20 }).unwrap()
        }

        /// A cache that has the component, and its file.
        fn filled(&self) -> (Cache, PathBuf) {
            let cache = self.cache();
            cache.store(&self.engine, DIGEST, &self.component);
            let path = cache.0.path(&name(&self.engine, DIGEST));
            (cache, path)
        }
    }

    #[test]
    fn what_is_kept_is_found_again() {
        let fixture = Fixture::new();
        fixture.filled();
        assert!(fixture.cache().load(&fixture.engine, DIGEST).is_some());
        assert!(fixture.cache().load(&fixture.engine, "sha256:00ab").is_none());
    }

    #[test]
    fn changed_bytes_are_compiled_again() {
        let fixture = Fixture::new();
        let (cache, path) = fixture.filled();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(cache.load(&fixture.engine, DIGEST).is_none());
        assert!(!path.exists());
    }

    #[test]
    fn code_of_one_component_does_not_pass_for_anothers() {
        let fixture = Fixture::new();
        let (cache, path) = fixture.filled();
        fs::rename(&path, cache.0.path(&name(&fixture.engine, "sha256:00bb"))).unwrap();
        assert!(cache.load(&fixture.engine, "sha256:00bb").is_none());
    }

    #[test]
    fn code_that_another_version_wrote_under_our_name_is_compiled_again() {
        let fixture = Fixture::new();
        let (cache, path) = fixture.filled();
        // Right in everything that is ours to check: only wasmtime can tell that it is not its own.
        let (name, foreign) = (name(&fixture.engine, DIGEST), vec![0x7f; 4096]);
        cache.0.write(&name, &foreign).unwrap();
        assert_eq!(cache.0.read(&name).unwrap(), foreign);
        assert!(cache.load(&fixture.engine, DIGEST).is_none());
        assert!(!path.exists());
    }

    #[test]
    fn code_for_another_engine_is_not_found() {
        let fixture = Fixture::new();
        let (cache, _) = fixture.filled();
        let mut config = wasmtime::Config::new();
        config.cranelift_nan_canonicalization(true);
        assert!(cache.load(&wasmtime::Engine::new(&config).unwrap(), DIGEST).is_none());
    }

    #[test]
    fn code_that_counts_and_code_that_does_not_are_kept_side_by_side() {
        let engine = |counts| wasmtime::Engine::new(&crate::engine::config(None, counts)).unwrap();
        let (folder, wat) = (tempfile::tempdir().unwrap(), wat::parse_str("(component)").unwrap());
        let cache = Cache::open(CacheOptions { folder: folder.path().join("cache"), max_bytes: 1 << 20 }).unwrap();
        cache.store(&engine(true), DIGEST, &Component::new(&engine(true), &wat).unwrap());
        assert!(cache.load(&engine(false), DIGEST).is_none());
        cache.store(&engine(false), DIGEST, &Component::new(&engine(false), &wat).unwrap());
        assert!(cache.load(&engine(true), DIGEST).is_some() && cache.load(&engine(false), DIGEST).is_some());
    }
}
