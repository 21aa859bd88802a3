//! Fingerprints of what a step depends on: equal inputs, equal fingerprint, whatever compiler built this program.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// FNV-1a over length-prefixed pieces: it tells changes apart and resists nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    /// With one piece of text or data more.
    #[must_use]
    pub(super) fn with(self, piece: impl AsRef<[u8]>) -> Self {
        let piece = piece.as_ref();
        let length = (piece.len() as u64).to_le_bytes();
        let bytes = length.iter().chain(piece);
        Self(bytes.fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
    }

    /// With a file, or every file below a folder, by name and content.
    pub(super) fn with_path(self, path: &Path) -> Result<Self> {
        let mut files = files_below(path)?;
        files.sort();
        files.iter().try_fold(self, |sum, file| {
            let name = file.strip_prefix(path).unwrap_or(file);
            let data = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            Ok(sum.with(name.to_string_lossy().as_bytes()).with(data))
        })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        files.append(&mut files_below(&entry?.path())?);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_the_same_for_every_compiler() {
        assert_eq!(Fingerprint::EMPTY.to_string(), "cbf29ce484222325");
        assert_eq!(Fingerprint::EMPTY.with("a").to_string(), "529a4ddc8ff56bbf");
    }

    #[test]
    fn pieces_do_not_run_together() {
        assert_ne!(Fingerprint::EMPTY.with("ab").with("c"), Fingerprint::EMPTY.with("a").with("bc"));
    }

    #[test]
    fn a_folder_changes_with_the_name_and_the_content_of_any_file_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let sum = || Fingerprint::EMPTY.with_path(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("sub/a"), "1").unwrap();
        let first = sum();
        assert_eq!(sum(), first);
        std::fs::write(folder.path().join("sub/a"), "2").unwrap();
        let second = sum();
        std::fs::rename(folder.path().join("sub/a"), folder.path().join("sub/b")).unwrap();
        assert!(first != second && second != sum());
    }

    #[test]
    fn a_missing_input_is_named() {
        let error = Fingerprint::EMPTY.with_path(Path::new("/nonexistent/uml.config")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/uml.config"), "{error}");
    }
}
