//! The account of a batch that a client sends, while it is decoded and written, against its user's quota of memory.

use std::sync::Arc;

use kalamdb_core::Result;

use crate::database::Database;
use crate::diagnostics;
use crate::memory_share::MemoryShare;
use crate::session::Session;

/// A batch of so many bytes is never refused: in such batches a load goes through, whatever its user's other statements and the rows
/// that it gathers hold.
const SMALL_BYTES: usize = 4 << 20;

/// What one batch of an upload holds; dropped, it holds nothing.
pub struct BatchMemory {
    /// Of a user who has a quota.
    share: Option<MemoryShare>,
    held_bytes: usize,
}

impl Database {
    /// An account for the batches of an upload, one at a time.
    ///
    /// # Errors
    /// STORAGE_ERROR.
    pub fn batch_memory(self: &Arc<Self>, session: &Session) -> Result<BatchMemory> {
        Ok(BatchMemory {
            share: self.memory_share(session)?,
            held_bytes: 0,
        })
    }
}

impl BatchMemory {
    /// The next batch, in the place of the one before: so many bytes, its message and what is decompressed of it.
    ///
    /// # Errors
    /// MEMORY_QUOTA_EXCEEDED.
    pub fn hold(&mut self, bytes: u64) -> Result<()> {
        let Some(share) = &self.share else {
            return Ok(());
        };
        share.give_back(std::mem::take(&mut self.held_bytes));
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes <= SMALL_BYTES {
            share.take(bytes);
        } else {
            share.try_take(bytes).map_err(diagnostics::from_datafusion)?;
        }
        self.held_bytes = bytes;
        Ok(())
    }
}

impl Drop for BatchMemory {
    fn drop(&mut self) {
        if let Some(share) = &self.share {
            share.give_back(self.held_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    #[test]
    fn a_batch_counts_against_its_users_quota() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE USER 'ann' ROLE user",
            "ALTER USER 'ann' SET QUOTA memory = '10MB'",
        ]);
        let ann = fixture.session("ann");
        let account = || fixture.database.batch_memory(&ann).expect("an account");
        let (mut one, mut other) = (account(), account());
        for _ in 0..3 {
            one.hold(8_000_000).expect("each in the place of the one before");
        }
        let refused = other.hold(8_000_000).map_err(|error| error.code);
        assert_eq!(refused, Err(ErrorCode::MemoryQuotaExceeded));
        other.hold(4_000_000).expect("a small one");
        drop(one);
        other.hold(8_000_000).expect("there is room again");
        let mut of_root = fixture.database.batch_memory(&fixture.root).expect("an account");
        of_root.hold(u64::MAX).expect("without a quota there is none");
    }
}
