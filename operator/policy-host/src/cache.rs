//! Compiled components on local disk, so that a restart doesn't compile them again.
//!
//! A file is native code. Only files are read that this user wrote into a folder that nobody else can write to, and whose bytes
//! are what was written under that name; everything else is compiled again. Nothing that goes wrong here is more than a slow
//! start.

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

/// Bytes of the checksum at the end of a file.
const CHECKSUM: usize = 32;
/// How names of finished files end.
const ENDING: &str = "cwasm";

/// Where compiled components are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// The folder; made when it isn't there.
    pub folder: PathBuf,
    /// Bytes that all files together may have. The ones that were not used for the longest time go first.
    pub max_bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Cache {
    options: CacheOptions,
    /// Who may have written what is read.
    owner: u32,
    temporary: AtomicU64,
}

impl Cache {
    /// Opens the folder, or makes it.
    pub(crate) fn open(options: CacheOptions) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&options.folder)?;
        let about = fs::metadata(&options.folder)?;
        if about.mode() & 0o022 != 0 {
            return Err(io::Error::other(format!("others may write to it: its mode is {:o}", about.mode() & 0o777)));
        }
        // What an earlier process left unfinished.
        let entries = fs::read_dir(&options.folder)?.flatten();
        for left in entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".")) {
            fs::remove_file(left.path())?;
        }
        // Made and removed to learn who we are: whoever may write here becomes the owner.
        let probe = options.folder.join(format!(".probe-{}", std::process::id()));
        let owner = create(&probe)?.metadata()?.uid();
        fs::remove_file(&probe)?;
        if about.uid() != owner {
            return Err(io::Error::other(format!("it belongs to user {}, not to us", about.uid())));
        }
        Ok(Self { options, owner, temporary: AtomicU64::new(0) })
    }

    /// The compiled code of the component with this digest, if it is here and fits this engine.
    pub(crate) fn load(&self, engine: &wasmtime::Engine, digest: &str) -> Option<Component> {
        let path = self.path(engine, digest);
        let code = match self.read(&path) {
            Ok(code) => code,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return self.reject(&path, &error),
        };
        match deserialize(engine, &code) {
            Ok(component) => {
                let touched = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                if let Err(error) = touched {
                    tracing::debug!(path = %path.display(), %error, "the use of compiled code could not be noted");
                }
                Some(component)
            }
            Err(error) => self.reject(&path, &error),
        }
    }

    /// Keeps compiled code. Readers see a whole file or none.
    pub(crate) fn store(&self, engine: &wasmtime::Engine, digest: &str, component: &Component) {
        let path = self.path(engine, digest);
        let written = component.serialize().map_err(io::Error::other).and_then(|code| self.write(&path, &code));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "compiled code could not be kept; it is compiled again after a restart");
        }
        self.evict();
    }

    /// The component's digest and all that decides what it compiles to.
    fn path(&self, engine: &wasmtime::Engine, digest: &str) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let digest = digest.trim_start_matches("sha256:");
        self.options.folder.join(format!("{digest}-{:016x}.{ENDING}", hasher.finish()))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let about = file.metadata()?;
        let mode = about.mode() & 0o777;
        if !about.is_file() || about.uid() != self.owner || mode != 0o600 {
            return Err(io::Error::other(format!("it belongs to user {} with mode {mode:o}, not to us with 600", about.uid())));
        }
        if about.len() > self.options.max_bytes {
            return Err(io::Error::other("it is too large"));
        }
        let mut code = Vec::with_capacity(usize::try_from(about.len()).unwrap_or_default());
        file.read_to_end(&mut code)?;
        let length = code.len().checked_sub(CHECKSUM).ok_or_else(|| io::Error::other("it is too short"))?;
        if checksum(path, &code[..length]).as_slice() != &code[length..] {
            return Err(io::Error::other("its checksum is wrong"));
        }
        code.truncate(length);
        Ok(code)
    }

    fn write(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        if (code.len() + CHECKSUM) as u64 > self.options.max_bytes {
            return Ok(());
        }
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.options.folder.join(format!(".new-{}-{number}", std::process::id()));
        let written = create(&temporary).and_then(|mut file| {
            file.write_all(code)?;
            file.write_all(&checksum(path, code))?;
            file.sync_all()
        });
        let moved = written.and_then(|()| fs::rename(&temporary, path));
        if moved.is_err() {
            // What is left of it is of no use; that it stays is no harm either.
            let _ = fs::remove_file(&temporary);
        }
        moved
    }

    fn reject<T>(&self, path: &Path, error: &dyn std::fmt::Display) -> Option<T> {
        tracing::warn!(path = %path.display(), %error, "kept code can't be used; it is compiled again");
        // Left behind it would be replaced by the next `store` all the same.
        let _ = fs::remove_file(path);
        None
    }

    /// Removes the files that were not used for the longest time until the rest fits.
    fn evict(&self) {
        let entries = fs::read_dir(&self.options.folder).into_iter().flatten().flatten();
        let ours = entries.filter(|entry| entry.path().extension().is_some_and(|ending| ending == ENDING));
        let about = ours.filter_map(|entry| entry.metadata().ok().map(|about| (entry.path(), about)));
        let mut files: Vec<(SystemTime, u64, PathBuf)> =
            about.map(|(path, about)| (about.modified().unwrap_or(SystemTime::UNIX_EPOCH), about.len(), path)).collect();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in files {
            if total <= self.options.max_bytes {
                return;
            }
            if fs::remove_file(&path).is_ok() {
                total -= length;
            }
        }
    }
}

/// Of the code and of the name that it is kept under, so that no file can pass for another.
fn checksum(path: &Path, code: &[u8]) -> [u8; CHECKSUM] {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    Sha256::new().chain_update(name).chain_update([0]).chain_update(code).finalize().into()
}

/// A file that only we can read, and that was not there before.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
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
    use std::os::unix::fs::PermissionsExt as _;

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

        fn cache(&self, max_bytes: u64) -> Cache {
            Cache::open(CacheOptions { folder: self.folder.path().join("cache"), max_bytes }).unwrap()
        }

        /// A cache that has the component, and its file.
        fn filled(&self) -> (Cache, PathBuf) {
            let cache = self.cache(1 << 20);
            cache.store(&self.engine, DIGEST, &self.component);
            let path = cache.path(&self.engine, DIGEST);
            (cache, path)
        }
    }

    #[test]
    fn what_is_kept_is_found_again_and_is_ours_alone() {
        let fixture = Fixture::new();
        let (_, path) = fixture.filled();
        assert!(fixture.cache(1 << 20).load(&fixture.engine, DIGEST).is_some());
        assert!(fixture.cache(1 << 20).load(&fixture.engine, "sha256:00ab").is_none());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
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
        fs::rename(&path, cache.path(&fixture.engine, "sha256:00bb")).unwrap();
        assert!(cache.load(&fixture.engine, "sha256:00bb").is_none());
    }

    #[test]
    fn code_that_another_version_wrote_under_our_name_is_compiled_again() {
        let fixture = Fixture::new();
        let (cache, path) = fixture.filled();
        // Right in everything that is ours to check: only wasmtime can tell that it is not its own.
        let foreign = vec![0x7f; 4096];
        fs::remove_file(&path).unwrap();
        cache.write(&path, &foreign).unwrap();
        assert_eq!(cache.read(&path).unwrap(), foreign);
        assert!(cache.load(&fixture.engine, DIGEST).is_none());
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        let fixture = Fixture::new();
        let (_, path) = fixture.filled();
        let folder = path.parent().unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
        let error = Cache::open(CacheOptions { folder: folder.to_owned(), max_bytes: 1 << 20 }).unwrap_err();
        assert_eq!(error.to_string(), "others may write to it: its mode is 777");
    }

    #[test]
    fn half_a_file_is_compiled_again() {
        let fixture = Fixture::new();
        let (cache, path) = fixture.filled();
        fs::write(&path, b"half").unwrap();
        assert!(cache.load(&fixture.engine, DIGEST).is_none());
    }

    #[test]
    fn a_file_that_others_may_write_to_is_compiled_again() {
        let fixture = Fixture::new();
        let (cache, path) = fixture.filled();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(cache.load(&fixture.engine, DIGEST).is_none());
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
    fn what_was_not_used_for_the_longest_time_makes_room() {
        let fixture = Fixture::new();
        let (cache, path) = fixture.filled();
        let size = fs::metadata(&path).unwrap().len();
        let long_ago = SystemTime::UNIX_EPOCH;
        File::open(&path).unwrap().set_modified(long_ago).unwrap();
        let small = fixture.cache(size + size / 2);
        small.store(&fixture.engine, "sha256:00bb", &fixture.component);
        assert!(small.load(&fixture.engine, DIGEST).is_none());
        assert!(small.load(&fixture.engine, "sha256:00bb").is_some());
        drop(cache);
    }
}
