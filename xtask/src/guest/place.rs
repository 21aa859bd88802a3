//! Where the kit lies, and that only one program at a time builds it.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::tools;

/// The kit's folder: `guest` in the project's cache.
#[derive(Debug, Clone)]
pub(super) struct Place {
    root: PathBuf,
}

impl Place {
    pub(super) fn of_this_user() -> Result<Self> {
        Self::at(tools::cache()?.join("guest"))
    }

    pub(super) fn at(root: PathBuf) -> Result<Self> {
        for folder in [root.clone(), root.join("stamps"), root.join("logs")] {
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        Ok(Self { root })
    }

    /// Waits until no other program builds this kit; the lock ends with the file, or with this program.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.root.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        if file.try_lock().is_err() {
            eprintln!("guest: another program builds the kit; waiting for {}", path.display());
            file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn stamp(&self, step: &str) -> PathBuf {
        self.root.join("stamps").join(step)
    }

    pub(super) fn log(&self, step: &str) -> PathBuf {
        self.root.join("logs").join(format!("{step}.log"))
    }

    /// What the kit holds and where: the file that programs read.
    pub(super) fn manifest(&self) -> PathBuf {
        self.root.join("kit.json")
    }

    /// A link to the products of the versions that are in use.
    pub(super) fn current(&self) -> PathBuf {
        self.root.join("current")
    }

    /// Has `current` lead to the products of one set of versions: for people, and for commands in documents.
    pub(super) fn make_current(&self, key: &str) -> Result<()> {
        let (link, new) = (self.current(), self.root.join("current.new"));
        if std::fs::read_link(&link).is_ok_and(|target| target == Path::new(key)) {
            return Ok(());
        }
        // A link that a killed run left.
        let _ = std::fs::remove_file(&new);
        std::os::unix::fs::symlink(key, &new)
            .and_then(|()| std::fs::rename(&new, &link))
            .with_context(|| format!("cannot link {}", link.display()))
    }

    /// Finished products of one set of versions.
    pub(super) fn products(&self, key: &str) -> Result<PathBuf> {
        let folder = self.root.join(key);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }
}
