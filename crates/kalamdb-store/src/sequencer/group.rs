//! A group of requests, or a step, in the making: its batch, and what has to follow once that is written.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rocksdb::WriteBatch;

use crate::committer::Committed;
use crate::deletion_vector::{self, CHUNK_ROWS, Chunk};
use crate::engine::Engine;
use crate::error::StoreError;
use crate::ids::{Epoch, SegmentId, Seq, StoreId};
use crate::mover::HotUsage;
use crate::recent::Fingerprint;
use crate::schema::Lifetime;
use crate::snapshot::TableVersion;
use crate::watch::{News, Watch};

/// A batch in the making, with what has to follow if it is written.
pub(super) struct Group {
    pub(super) batch: WriteBatch,
    pub(super) remembered: Vec<(Fingerprint, Option<Seq>)>,
    /// What each of these watches is to hear.
    pub(super) watched: Vec<(Arc<Watch>, News)>,
    /// Chunks of deletion vectors as they are to be, and which rows of a segment were added to them.
    pub(super) chunks: HashMap<(SegmentId, u32), Chunk>,
    pub(super) deleted: HashMap<SegmentId, u32>,
    /// What happens to hot rows.
    pub(super) hot: HashMap<StoreId, HotChange>,
    /// Files come or go with it: it is synced whatever the durability.
    pub(super) moves_files: bool,
    pub(super) last: Committed,
}

/// What a group does to the hot rows of a store. A step first, then rows.
#[derive(Clone, Copy, Default)]
pub(super) struct HotChange {
    pub(super) epochs: EpochChange,
    /// Rows that come to the current epoch, less those that go.
    pub(super) rows: i64,
    /// Bytes of those that come.
    pub(super) bytes: u64,
    /// Rows that go from the sealed one.
    pub(super) sealed_rows_gone: u64,
}

/// What a step does to the epochs of a store.
#[derive(Clone, Copy, Default)]
pub(super) enum EpochChange {
    #[default]
    None,
    /// The current one is sealed, to be flushed.
    Sealed,
    /// The current one is a bucket that goes by itself.
    Rotated,
    /// The sealed one is in segments.
    Flushed,
}

impl Group {
    /// The chunk of a deletion vector as the group leaves it.
    pub(super) fn chunk(&mut self, engine: &Engine, segment: SegmentId, row: u32) -> Result<&mut Chunk, StoreError> {
        let number = row / CHUNK_ROWS;
        if mistake!(GroupsForgetTheirBits) {
            self.chunks.remove(&(segment, number));
        }
        Ok(match self.chunks.entry((segment, number)) {
            Entry::Occupied(chunk) => chunk.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(deletion_vector::committed_chunk(engine, segment, number)?),
        })
    }

    /// What a watch is to hear; a table has a few of them at most.
    pub(super) fn news_of(&mut self, watch: &Arc<Watch>) -> &mut News {
        let known = self.watched.iter().position(|(known, _)| Arc::ptr_eq(known, watch));
        let index = known.unwrap_or_else(|| {
            self.watched.push((watch.clone(), News::default()));
            self.watched.len() - 1
        });
        &mut self.watched[index].1
    }

    /// Counts a hot row that goes.
    pub(super) fn forget_hot_row(&mut self, store: StoreId, table: &TableVersion, epoch: Epoch) {
        let hot = self.hot.entry(store).or_default();
        if epoch == table.current() {
            hot.rows -= 1;
        } else if table.lifetime == Lifetime::Durable {
            hot.sealed_rows_gone += 1;
        }
    }
}

impl HotChange {
    /// What is hot afterwards.
    pub(super) fn applied(&self, before: HotUsage, updated_micros: i64) -> HotUsage {
        let mut after = match self.epochs {
            EpochChange::None => before,
            EpochChange::Sealed if mistake!(SealedRowsAreNotCounted) => HotUsage::default(),
            EpochChange::Sealed => HotUsage {
                sealed_rows: before.rows,
                sealed_bytes: before.bytes,
                ..HotUsage::default()
            },
            EpochChange::Rotated => HotUsage::default(),
            EpochChange::Flushed if mistake!(FlushedRowsAreCounted) => before,
            EpochChange::Flushed => HotUsage {
                sealed_rows: 0,
                sealed_bytes: 0,
                ..before
            },
        };
        after.sealed_rows = after.sealed_rows.saturating_sub(self.sealed_rows_gone);
        if after.sealed_rows == 0 {
            after.sealed_bytes = 0;
        }
        if after.rows == 0 || mistake!(TheLastRowSaysHowOldTheyAre) {
            after.since_micros = updated_micros;
        }
        after.rows = after.rows.saturating_add_signed(self.rows);
        after.bytes = after.bytes.saturating_add(self.bytes);
        if after.rows == 0 {
            (after.bytes, after.since_micros) = (0, 0);
        }
        after
    }
}

/// Tells watches what is in the published state.
pub(super) fn tell(news: Vec<(Arc<Watch>, News)>) {
    for (watch, news) in news {
        watch.hear(news);
    }
}
