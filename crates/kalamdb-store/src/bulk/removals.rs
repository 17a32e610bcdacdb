//! Rows that a load removes: what they were when it was planned, and where they are when it comes to look.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;

use crate::bulk::{GiveUp, go_on};
use crate::cold;
use crate::deletion_vector::{CHUNK_ROWS, Deleted};
use crate::error::StoreError;
use crate::ids::{Epoch, ScopeId, SegmentId, Seq, StoreId};
use crate::location::Location;
use crate::manifest::{Segment, SegmentSeqs};
use crate::publication::Resolution;
use crate::schema::StoreSchema;
use crate::segment::SegmentColumn;
use crate::snapshot::{DbState, Found};
use crate::tuning::MOVE_BATCH_ROWS;

/// Rows to remove, where and what they were when they were found: hot ones by key, others a bit each.
#[derive(Default)]
pub(super) struct Removals {
    hot: HashMap<Vec<u8>, (Epoch, Seq)>,
    cold: HashMap<SegmentId, ColdRows>,
    rows: u64,
}

struct ColdRows {
    /// Kept with its file, so that its rows are known by key and number when they are in it no more.
    segment: Arc<Segment>,
    rows: Deleted,
}

/// What the look for the rows is about.
pub(super) struct Table<'a, C> {
    pub(super) state: &'a Arc<DbState<C>>,
    pub(super) schema: &'a Arc<StoreSchema>,
    pub(super) store: StoreId,
    pub(super) scope: ScopeId,
}

impl Removals {
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn hot_rows(&self) -> usize {
        self.hot.len()
    }

    /// Adds a row as it was found in `state`; says whether it was not there already.
    pub(super) fn add<C>(
        &mut self,
        state: &DbState<C>,
        store: StoreId,
        key: &[u8],
        location: Location,
        seq: Seq,
    ) -> Result<bool, StoreError> {
        let is_new = match location {
            Location::Hot(epoch) => self.hot.insert(key.to_vec(), (epoch, seq)).is_none(),
            Location::Cold(segment, row) => {
                let rows = match self.cold.entry(segment) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(vacant) => {
                        let table = state.table(store).ok_or(StoreError::Retired(store))?;
                        let segment = table.segments.get(segment).ok_or(StoreError::Conflict)?.clone();
                        vacant.insert(ColdRows {
                            segment,
                            rows: Deleted::default(),
                        })
                    }
                };
                rows.rows.insert(row)
            }
        };
        self.rows += u64::from(is_new);
        Ok(is_new)
    }

    pub(super) fn contains(&self, key: &[u8], location: Location) -> bool {
        match location {
            Location::Hot(_) => self.hot.contains_key(key),
            Location::Cold(segment, row) => self.cold.get(&segment).is_some_and(|cold| cold.rows.contains(row)),
        }
    }

    /// Where the rows are now. A flush or a compaction may have moved them since they were found; a row that is gone or was
    /// changed is a conflict.
    pub(super) fn locate<C>(&self, table: &Table<'_, C>, give_up: GiveUp<'_>) -> Result<Resolution, StoreError> {
        let version = table.state.table(table.store);
        let segments = &version.ok_or(StoreError::Retired(table.store))?.segments;
        let mut resolution = Resolution::default();
        for (&id, cold) in &self.cold {
            if segments.get(id).is_none() {
                if mistake!(MovedRowsConflictWithLoads) {
                    return Err(StoreError::Conflict);
                }
                follow(cold, Wanted::TheSame, table, give_up, &mut resolution)?;
                continue;
            }
            let gone = Deleted::load(table.state.pinned(), id, &(0..cold.segment.entry.rows))?;
            if cold.rows.meets(&gone) && !mistake!(LoadsRemoveWhatIsGone) {
                return Err(StoreError::Conflict);
            }
            resolution.deleted.entry(id).or_default().union(&cold.rows);
        }
        let hot = self.hot.iter().map(|(key, (_, seq))| (key.clone(), Some(*seq)));
        find(hot, table, give_up, &mut resolution)?;
        Ok(resolution)
    }

    /// Corrects a resolution that was right in `before`: rows that movers took elsewhere since are found where they are in `table`. One
    /// that the load was planned with has to be the same still. Of one that is only replaced it is the key that counts.
    pub(super) fn relocate<C>(
        &self,
        resolution: &mut Resolution,
        before: &DbState<C>,
        table: &Table<'_, C>,
        give_up: GiveUp<'_>,
    ) -> Result<(), StoreError> {
        let retired = || StoreError::Retired(table.store);
        let before = before.table(table.store).ok_or_else(retired)?;
        let now = table.state.table(table.store).ok_or_else(retired)?;
        if mistake!(LoadsForgetWhatMoved) {
            return Ok(());
        }
        // The load's own segments are in neither.
        let moved =
            |id: &SegmentId, _: &mut Deleted| before.segments.get(*id).is_some() && now.segments.get(*id).is_none();
        let cold: Vec<(SegmentId, Deleted)> = resolution.deleted.extract_if(moved).collect();
        let moved = |_: &(ScopeId, Vec<u8>), epoch: &mut Epoch| !now.epochs.contains(epoch);
        let hot: Vec<((ScopeId, Vec<u8>), Epoch)> = resolution.hot.extract_if(moved).collect();
        let wanted = match self.rows {
            0 => Wanted::Whatever,
            _ => Wanted::TheSame,
        };
        for (id, rows) in cold {
            let Some(segment) = before.segments.get(id).cloned() else {
                continue;
            };
            follow(&ColdRows { segment, rows }, wanted, table, give_up, resolution)?;
        }
        let hot = hot.into_iter().map(|((_, key), _)| {
            let seq = self.hot.get(&key).map(|(_, seq)| *seq);
            (key, seq)
        });
        find(hot, table, give_up, resolution)
    }
}

/// Which row is looked for at a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The very row that it was.
    TheSame,
    /// Whichever is there, if any.
    Whatever,
}

/// Finds rows of a segment that the table has no more.
fn follow<C>(
    cold: &ColdRows,
    wanted: Wanted,
    table: &Table<'_, C>,
    give_up: GiveUp<'_>,
    resolution: &mut Resolution,
) -> Result<(), StoreError> {
    let entry = &cold.segment.entry;
    let mut columns = Vec::new();
    let keys_at = cold::has_keys(entry).then(|| {
        columns.push(SegmentColumn::Key);
        columns.len() - 1
    });
    let seqs_at = matches!(entry.seqs, SegmentSeqs::Stored { .. }).then(|| {
        columns.push(SegmentColumn::Seq);
        columns.len() - 1
    });
    let chunks = cold::ranges_of(cold.rows.chunks().map(|(number, _)| number));
    let ranges = chunks
        .into_iter()
        .map(|chunks| chunks.start * CHUNK_ROWS..chunks.end.saturating_mul(CHUNK_ROWS).min(entry.rows));
    let file = table
        .state
        .pinned()
        .engine()
        .opened()
        .get(&cold.segment, table.schema)?;
    let mut read = file.read(&columns, ranges.collect(), MOVE_BATCH_ROWS)?;
    while let Some((numbers, arrays, _)) = read.next()? {
        let mut rows = Vec::new();
        for (index, row) in numbers.iter().enumerate().filter(|(_, row)| cold.rows.contains(*row)) {
            let based = cold::based(entry, row).0;
            let key = match keys_at {
                Some(at) => arrays[at].as_binary::<i32>().value(index).to_vec(),
                None => based.0.to_be_bytes().to_vec(),
            };
            let seq = seqs_at.map_or(based, |at| Seq(arrays[at].as_primitive::<UInt64Type>().value(index)));
            rows.push((key, (wanted == Wanted::TheSame).then_some(seq)));
        }
        find(rows.into_iter(), table, give_up, resolution)?;
    }
    Ok(())
}

/// Finds rows by key: the very same that they were, where it is said which number that row had.
fn find<C>(
    mut rows: impl Iterator<Item = (Vec<u8>, Option<Seq>)>,
    table: &Table<'_, C>,
    give_up: GiveUp<'_>,
    resolution: &mut Resolution,
) -> Result<(), StoreError> {
    loop {
        let (keys, seqs): (Vec<Vec<u8>>, Vec<Option<Seq>>) = rows.by_ref().take(MOVE_BATCH_ROWS).unzip();
        if keys.is_empty() {
            return Ok(());
        }
        go_on(give_up)?;
        let found = table.state.find_all(table.schema, table.store, table.scope, &keys)?;
        for ((key, seq), found) in keys.into_iter().zip(seqs).zip(found) {
            let is_wanted =
                |found: &Found| seq.is_none_or(|seq| found.row.seq == seq) || mistake!(LoadsRemoveWhateverIsThere);
            match found.filter(is_wanted).map(|found| found.location) {
                Some(Location::Hot(epoch)) => {
                    resolution.hot.insert((table.scope, key), epoch);
                }
                Some(Location::Cold(segment, row)) => {
                    resolution.deleted.entry(segment).or_default().insert(row);
                }
                None if seq.is_none() => {}
                None => return Err(StoreError::Conflict),
            }
        }
    }
}
