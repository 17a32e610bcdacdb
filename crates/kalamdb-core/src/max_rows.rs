//! `MAX_ROWS`: when a user's live rows and those of an insert are more than the table keeps, the oldest go in the same commit.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use kalamdb_store::{KeyRange, Location, Put, Removal, ScanColumn, ScanOrder, ScanSpec, ScopeId, Seq};

use crate::catalog::Table;
use crate::engine::View;
use crate::error::Result;

/// Rows looked at in one batch.
const BATCH_ROWS: usize = 8 * 1024;

/// Adds the oldest live rows to `removals`, and drops the first of `puts` if the statement alone brings too many.
pub(crate) fn trim(
    view: &View,
    table: &Arc<Table>,
    scope: ScopeId,
    max_rows: u64,
    removals: &mut Vec<Removal>,
    puts: &mut Vec<Put>,
) -> Result<()> {
    let most = usize::try_from(max_rows).unwrap_or(usize::MAX);
    let mut live = live_rows(view, table, scope)?;
    let removed: HashSet<&[u8]> = removals.iter().map(|removal| removal.key.as_slice()).collect();
    live.retain(|row| !removed.contains(row.key.as_slice()));
    let excess = (live.len() + puts.len()).saturating_sub(most);
    if excess == 0 {
        return Ok(());
    }
    live.sort_unstable_by_key(|row| row.seq);
    if mistake!(MaxRowsTakesTheNewest) {
        live.reverse();
    }
    if !mistake!(OneStatementBringsMoreThanMaxRows) {
        puts.drain(..excess.saturating_sub(live.len()));
    }
    let store = table.store;
    removals.extend(live.into_iter().take(excess).map(|row| Removal {
        store,
        scope,
        key: row.key,
        location: row.location,
        seq: row.seq,
    }));
    Ok(())
}

struct LiveRow {
    key: Vec<u8>,
    location: Location,
    seq: Seq,
}

/// The live rows of a scope, without their values.
fn live_rows(view: &View, table: &Arc<Table>, scope: ScopeId) -> Result<Vec<LiveRow>> {
    let fields = vec![
        Field::new("_row_key", DataType::Binary, false),
        Field::new("_row_location", DataType::UInt64, false),
        Field::new("_seq", DataType::UInt64, false),
    ];
    let spec = ScanSpec {
        store: table.store,
        scope,
        range: KeyRange {
            start: Bound::Unbounded,
            end: Bound::Unbounded,
        },
        columns: vec![ScanColumn::Key, ScanColumn::Location, ScanColumn::Seq],
        schema: Arc::new(Schema::new(fields)),
        now_micros: view.now_micros(),
        limit: None,
        part: (0, 1),
        order: ScanOrder::Any,
        prune: None,
        batch_rows: BATCH_ROWS,
        seen: view.seen.clone(),
    };
    let mut scan = view.state.scan(&table.schema.stored, spec)?;
    let mut live = Vec::new();
    while let Some(batch) = scan.next_batch()? {
        let keys = batch.column(0).as_binary::<i32>();
        let locations = batch.column(1).as_primitive::<UInt64Type>();
        let seqs = batch.column(2).as_primitive::<UInt64Type>();
        live.extend((0..batch.num_rows()).map(|row| LiveRow {
            key: keys.value(row).to_vec(),
            location: Location::from_bits(locations.value(row)),
            seq: Seq(seqs.value(row)),
        }));
    }
    Ok(live)
}
