//! Writes that the store refuses until it is opened anew: whether it is so, and whether an opening would help. Who opens it is the server.

use std::path::Path;

use kalamdb_store::Store;

use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::error::Result;

impl Engine {
    /// Why no write is possible, if one failed and one that is tried now does, too. Where only the disk was full, the store goes on by
    /// itself within seconds of its having room; otherwise the engine has to be opened anew, once [`Engine::try_disk`] succeeds. Costs
    /// nothing while nothing has failed.
    pub async fn why_no_writes(&self) -> Option<String> {
        self.store().why_no_writes().await
    }

    /// Whether the disk takes writes. Blocks for as long as the disk does.
    ///
    /// # Errors
    /// STORAGE_ERROR with the operating system's words.
    pub fn try_disk(&self) -> Result<()> {
        Ok(self.store().try_disk()?)
    }

    /// Whether there is a database, which [`Engine::open`] would open and not create.
    pub fn is_at(data_dir: &Path) -> bool {
        Store::<Catalog>::is_at(data_dir)
    }
}
