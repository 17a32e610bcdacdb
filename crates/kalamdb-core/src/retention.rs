//! The rotation of STREAM tables' buckets: a bucket is erased as a whole once all of its rows have expired. Reads never see
//! expired rows in any case.

use kalamdb_store::{CommitError, TableChange};

use crate::catalog::Table;
use crate::engine::Engine;
use crate::error::Result;
use crate::table_kind::TableKind;

/// A bucket takes rows for this part of the table's TTL, so that at most one more than this is erased late, and a look-up asks
/// at most one bucket more.
const BUCKETS: u64 = 16;

/// Erases buckets that are over and begins new ones, table by table; says how many were erased.
pub(crate) async fn sweep_expired(engine: &Engine) -> Result<u64> {
    let mut erased = 0;
    let catalog = engine.view().catalog().clone();
    for table in catalog.tables.values().filter(|table| table.kind == TableKind::Stream) {
        erased += rotate(engine, table).await?;
    }
    Ok(erased)
}

async fn rotate(engine: &Engine, table: &Table) -> Result<u64> {
    let Some(ttl_micros) = ttl_micros(table) else {
        return Ok(0);
    };
    let state = engine.view().state;
    let Some(version) = state.table(table.store) else {
        return Ok(0);
    };
    // Rows that come before the step have a time before this one, and expire before this time and their TTL.
    let now_micros = engine.now_micros();
    let usage = engine.store().hot_usage(table.store);
    let width_micros = ttl_micros / i64::try_from(BUCKETS).unwrap_or(1);
    let is_full = usage.rows > 0 && now_micros.saturating_sub(usage.since_micros) >= width_micros;
    let (buckets, first_over) = version.buckets();
    if mistake!(BucketsStay) || !is_full && first_over.is_none_or(|expiry| expiry > now_micros) {
        return Ok(0);
    }
    let change = TableChange::Rotate {
        store: table.store,
        seals: is_full.then(|| match mistake!(BucketsGoBeforeTheirRows) {
            true => now_micros,
            false => now_micros.saturating_add(ttl_micros),
        }),
        now_micros,
    };
    match engine.change_stores(vec![change]).await {
        Ok(()) => {}
        // Dropped or truncated meanwhile: its rows are gone.
        Err(CommitError::Retired(_)) => return Ok(0),
        Err(error) => return Err(error.into()),
    }
    let after = engine
        .view()
        .state
        .table(table.store)
        .map_or(0, |version| version.buckets().0);
    Ok((buckets + usize::from(is_full)).saturating_sub(after) as u64)
}

fn ttl_micros(table: &Table) -> Option<i64> {
    let ttl_seconds = table.options.ttl_seconds?;
    Some(i64::try_from(ttl_seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000))
}
