//! Files on local disk that are only believed when this program wrote them.
//!
//! Only files are read that this user wrote into a folder that nobody else can write to, and whose bytes are what was written under
//! that name. Readers see a whole file or none, and all files together stay within a bound.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

/// Bytes of the checksum at the end of a file.
const CHECKSUM: usize = 32;

/// Where files are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// The folder; made when it isn't there.
    pub folder: PathBuf,
    /// Bytes that all files together may have. The ones that were not used for the longest time go first.
    pub max_bytes: u64,
}

/// A folder of our own.
#[derive(Debug)]
pub struct Folder {
    options: CacheOptions,
    /// How names of finished files end.
    ending: &'static str,
    /// Who may have written what is read.
    owner: u32,
    temporary: AtomicU64,
}

impl Folder {
    /// Opens the folder, or makes it, for files whose names end in `.ending`.
    ///
    /// # Errors
    /// When it can't be made or written to, or others may write to it.
    pub fn open(options: CacheOptions, ending: &'static str) -> io::Result<Self> {
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
        Ok(Self { options, ending, owner, temporary: AtomicU64::new(0) })
    }

    /// The file of this name, which has no ending and no slash.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.options.folder.join(format!("{name}.{}", self.ending))
    }

    /// What was written under this name.
    ///
    /// # Errors
    /// `NotFound` when nothing was; anything else says why the file isn't believed.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let path = self.path(name);
        let mut file = File::open(&path)?;
        let about = file.metadata()?;
        let mode = about.mode() & 0o777;
        if !about.is_file() || about.uid() != self.owner || mode != 0o600 {
            return Err(io::Error::other(format!("it belongs to user {} with mode {mode:o}, not to us with 600", about.uid())));
        }
        if about.len() > self.options.max_bytes {
            return Err(io::Error::other("it is too large"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or_default());
        file.read_to_end(&mut bytes)?;
        let length = bytes.len().checked_sub(CHECKSUM).ok_or_else(|| io::Error::other("it is too short"))?;
        if checksum(&path, &bytes[..length]).as_slice() != &bytes[length..] {
            return Err(io::Error::other("its checksum is wrong"));
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Notes that a file was of use, so that others make room before it.
    pub fn touch(&self, name: &str) {
        let path = self.path(name);
        if let Err(error) = File::open(&path).and_then(|file| file.set_modified(SystemTime::now())) {
            tracing::debug!(path = %path.display(), %error, "the use of a kept file could not be noted");
        }
    }

    /// Writes a file as a whole, and makes room for it by removing those that were not used for the longest time. One that is larger
    /// than all files together may be is not written.
    ///
    /// # Errors
    /// When it can't be written; what was there under this name then stays.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if (bytes.len() + CHECKSUM) as u64 > self.options.max_bytes {
            return Ok(());
        }
        let path = self.path(name);
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.options.folder.join(format!(".new-{}-{number}", std::process::id()));
        let written = create(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            file.write_all(&checksum(&path, bytes))?;
            file.sync_all()
        });
        let moved = written.and_then(|()| fs::rename(&temporary, &path));
        if moved.is_err() {
            // What is left of it is of no use; that it stays is no harm either.
            let _ = fs::remove_file(&temporary);
        }
        self.evict();
        moved
    }

    /// Removes a file that isn't believed. Left behind it would be replaced by the next one all the same.
    pub fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    /// Removes the files that were not used for the longest time until the rest fits.
    fn evict(&self) {
        let entries = fs::read_dir(&self.options.folder).into_iter().flatten().flatten();
        let ours = entries.filter(|entry| entry.path().extension().is_some_and(|ending| ending == self.ending));
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

/// Of the bytes and of the name that they are kept under, so that no file can pass for another.
fn checksum(path: &Path, bytes: &[u8]) -> [u8; CHECKSUM] {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    Sha256::new().chain_update(name).chain_update([0]).chain_update(bytes).finalize().into()
}

/// A file that only we can read, and that was not there before.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn open(root: &tempfile::TempDir, max_bytes: u64) -> io::Result<Folder> {
        Folder::open(CacheOptions { folder: root.path().join("kept"), max_bytes }, "part")
    }

    /// A folder with one file, `one`.
    fn filled() -> (tempfile::TempDir, Folder) {
        let root = tempfile::tempdir().unwrap();
        let folder = open(&root, 1 << 20).unwrap();
        folder.write("one", b"some bytes").unwrap();
        (root, folder)
    }

    fn refusal(folder: &Folder, name: &str) -> String {
        folder.read(name).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_again_and_is_ours_alone() {
        let (root, folder) = filled();
        assert_eq!(open(&root, 1 << 20).unwrap().read("one").unwrap(), b"some bytes");
        assert_eq!(folder.read("two").unwrap_err().kind(), io::ErrorKind::NotFound);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder.path("one")), mode(&root.path().join("kept"))), (0o600, 0o700));
    }

    #[test]
    fn changed_bytes_half_a_file_and_another_name_are_not_believed() {
        let (_root, folder) = filled();
        let mut bytes = fs::read(folder.path("one")).unwrap();
        fs::copy(folder.path("one"), folder.path("other")).unwrap();
        bytes[3] ^= 1;
        fs::write(folder.path("one"), &bytes).unwrap();
        assert_eq!(refusal(&folder, "one"), "its checksum is wrong");
        assert_eq!(refusal(&folder, "other"), "its checksum is wrong");
        fs::write(folder.path("one"), b"half").unwrap();
        assert_eq!(refusal(&folder, "one"), "it is too short");
    }

    #[test]
    fn what_others_may_write_to_is_not_believed() {
        let (root, folder) = filled();
        fs::set_permissions(folder.path("one"), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(refusal(&folder, "one").ends_with("with mode 666, not to us with 600"), "{}", refusal(&folder, "one"));
        fs::set_permissions(root.path().join("kept"), fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(open(&root, 1 << 20).unwrap_err().to_string(), "others may write to it: its mode is 777");
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_makes_room() {
        let (root, folder) = filled();
        // Each file has 10 bytes and a checksum of 32.
        let small = open(&root, 90).unwrap();
        folder.write("two", b"some bytes").unwrap();
        File::open(folder.path("two")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        folder.touch("one");
        small.write("new", b"some bytes").unwrap();
        let left = ["one", "two", "new"].map(|name| small.read(name).is_ok());
        assert_eq!(left, [true, false, true]);
        small.write("large", &[0; 59]).unwrap();
        assert_eq!(refusal(&small, "large"), "No such file or directory (os error 2)");
    }
}
