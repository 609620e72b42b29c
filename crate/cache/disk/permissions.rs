//! Which users can have written to the folder and to its files: owners and modes on Unix, nothing elsewhere.

pub use platform::*;

#[cfg(unix)]
mod platform {
    use std::{
        fs::{DirBuilder, Metadata},
        io,
        os::unix::fs::{DirBuilderExt, MetadataExt},
        path::Path,
    };

    use crate::cache::disk::DiskCacheError;

    const ROOT: u32 = 0;

    pub fn create_folder(folder: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)
    }

    /// Whether both describe the same file. While one of them is open, no other file can take its inode number.
    pub fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
        (one.dev(), one.ino()) == (other.dev(), other.ino())
    }

    /// The user that owns the files this process creates.
    #[derive(Debug)]
    pub struct User(u32);

    impl User {
        pub fn of(made: &Metadata) -> Self {
            Self(made.uid())
        }

        fn trusts(&self, owner: u32) -> bool {
            owner == self.0 || owner == ROOT
        }

        pub fn check_folder(&self, folder: &Path, metadata: &Metadata) -> Result<(), DiskCacheError> {
            let (folder, owner, mode) = (folder.to_owned(), metadata.uid(), metadata.mode() & 0o7777);
            if !self.trusts(owner) {
                Err(DiskCacheError::OtherOwner { folder, owner, user: self.0 })
            } else if mode & 0o002 != 0 {
                Err(DiskCacheError::WritableByAll { folder, mode })
            } else {
                Ok(())
            }
        }

        /// Whether only this user and root can have written the file.
        pub fn trusts_file(&self, metadata: &Metadata) -> bool {
            metadata.is_file() && self.trusts(metadata.uid()) && metadata.mode() & 0o022 == 0
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use std::{
        fs::{self, Metadata},
        io,
        path::Path,
    };

    use crate::cache::disk::DiskCacheError;

    pub fn create_folder(folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
    }

    /// Whether both look like the same file; std offers no file number here.
    pub fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
        let look = |file: &Metadata| (file.len(), file.modified().ok(), file.created().ok());
        look(one) == look(other)
    }

    /// Owners and modes are not available here, so every file is trusted.
    #[derive(Debug)]
    pub struct User;

    impl User {
        pub fn of(_made: &Metadata) -> Self {
            Self
        }

        pub fn check_folder(&self, _folder: &Path, _metadata: &Metadata) -> Result<(), DiskCacheError> {
            Ok(())
        }

        pub fn trusts_file(&self, metadata: &Metadata) -> bool {
            metadata.is_file()
        }
    }
}
