//! Counters that never give out a value twice: each block of values is persisted before the first of it is used.

use parking_lot::Mutex;
use rocksdb::WriteBatch;

use crate::engine::{Engine, storage};
use crate::error::StoreError;
use crate::meta;
use crate::store::Counter;
use crate::tuning::COUNTER_BLOCK;

/// The blocks in use.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    store: Mutex<Block>,
    scope: Mutex<Block>,
    table: Mutex<Block>,
    segment: Mutex<Block>,
}

/// Values from `next` up to `end` may be given out.
#[derive(Debug, Default)]
struct Block {
    next: u64,
    end: u64,
}

impl Counters {
    /// The next value, from 1 on.
    pub(crate) fn next(&self, engine: &Engine, counter: Counter) -> Result<u64, StoreError> {
        let mut block = match counter {
            Counter::Store => &self.store,
            Counter::Scope => &self.scope,
            Counter::Table => &self.table,
            Counter::Segment => &self.segment,
        }
        .lock();
        if block.next == block.end {
            *block = next_block(engine, counter)?;
        }
        let value = block.next;
        block.next += 1;
        Ok(value)
    }
}

fn next_block(engine: &Engine, counter: Counter) -> Result<Block, StoreError> {
    let name = meta::counter(counter);
    let next = match engine
        .db()
        .get_cf(engine.meta(), &name)
        .map_err(|error| storage(&error))?
    {
        None => 1,
        Some(value) => u64::from_le_bytes(value.as_slice().try_into().map_err(|_| StoreError::Corrupt {
            object: String::from_utf8_lossy(&name).into_owned(),
            problem: "a counter has 8 bytes".to_string(),
        })?),
    };
    let end = next.saturating_add(COUNTER_BLOCK);
    let mut batch = WriteBatch::default();
    if !mistake!(CountersStartAgain) {
        batch.put_cf(engine.meta(), &name, end.to_le_bytes());
    }
    crate::crash::point("counter-writing");
    engine.write_synced(batch)?;
    crate::crash::point("counter-written");
    Ok(Block { next, end })
}
