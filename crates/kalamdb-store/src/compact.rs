//! Compaction: segments of several runs, or with many deleted rows, or with rows of users that are gone, become segments of one run
//! without the dead.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::deletion_vector::{self, Deleted};
use crate::error::{CommitError, StoreError};
use crate::flush::publish;
use crate::ids::{SegmentId, StoreId};
use crate::manifest::Segment;
use crate::merge::{Merge, Source, Unopened, runs_at_once};
use crate::mover::{Moved, Progress, SegmentOptions};
use crate::publication::{Inputs, Publication, Resolution, Settle};
use crate::run_writer::RunWriter;
use crate::schema::StoreSchema;
use crate::segment::SegmentShape;
use crate::snapshot::DbState;
use crate::store::Store;
use crate::tuning::{DELETED_PERCENT, RUN_SEGMENT_ROWS, RUNS};
use crate::watch::{Concern, News};

/// Merges what is worth it, `full`y everything.
pub(crate) fn compact<C: Send + Sync + 'static>(
    store: &Arc<Store<C>>,
    target: StoreId,
    schema: &Arc<StoreSchema>,
    options: &SegmentOptions,
    full: bool,
    progress: &dyn Progress,
) -> Result<Moved, StoreError> {
    let _one_at_a_time = store.compactions().enter_blocking(target);
    store.state().check_segments(target)?;
    let mut moved = Moved::default();
    if full {
        // The last pass is of all that is left; more runs than that come together in passes before.
        loop {
            let state = store.state();
            let table = state.table(target).ok_or(StoreError::Retired(target))?;
            let all: Vec<Arc<Segment>> = table.segments.iter().cloned().collect();
            if !is_worth_merging(&state, schema, &all)? {
                return Ok(moved);
            }
            let runs = runs_by_size(&state, target)?;
            let at_once = at_once(&runs);
            let is_last = runs.len() <= at_once;
            let inputs = match is_last {
                true => all,
                false => runs.into_iter().take(at_once).flat_map(|run| run.segments).collect(),
            };
            drop(state);
            moved.add(merge(store, target, schema, options, &inputs, progress)?);
            if is_last {
                return Ok(moved);
            }
        }
    }
    // Each merge makes fewer runs or fewer dead rows, so this ends.
    loop {
        // In a statement of its own, so that the state is not held while they are merged.
        let inputs = next_inputs(&store.state(), target, schema)?;
        let Some(inputs) = inputs else {
            return Ok(moved);
        };
        progress.expect(inputs.iter().map(|segment| u64::from(segment.entry.rows)).sum());
        moved.add(merge(store, target, schema, options, &inputs, progress)?);
    }
}

/// Whether merging all of these changes anything.
fn is_worth_merging<C>(
    state: &DbState<C>,
    schema: &Arc<StoreSchema>,
    all: &[Arc<Segment>],
) -> Result<bool, StoreError> {
    let runs: BTreeSet<u32> = all.iter().map(|segment| segment.entry.run).collect();
    if runs.len() > 1 {
        return Ok(true);
    }
    for segment in all {
        let deleted = deletion_vector::deleted_rows(state.pinned(), segment.entry.segment)?;
        if deleted > 0 || retired_rows(state, schema, segment)? > 0 {
            return Ok(true);
        }
    }
    Ok(all
        .windows(2)
        .any(|pair| pair.iter().all(|segment| segment.entry.rows < RUN_SEGMENT_ROWS / 2)))
}

/// Rows of a segment that are of scopes that are gone. Opens its file if there may be some.
fn retired_rows<C>(state: &DbState<C>, schema: &Arc<StoreSchema>, segment: &Segment) -> Result<u32, StoreError> {
    let retired = state.retired_scopes();
    segment.retired_rows(retired, || {
        let file = state.pinned().engine().opened().get(segment, schema)?;
        let rows = file.scopes().filter(|(scope, _)| retired.contains(scope));
        Ok(rows.map(|(_, rows)| rows.end - rows.start).sum())
    })
}

/// What a compaction would take next: too many runs, the smallest of them; or a segment with many deleted rows. Whose user was
/// dropped was told that they are erased: a segment with any row of theirs is rewritten, however few those are. Each drop costs
/// at most a segment or two of each run, and drops that come in quick succession share them.
pub(crate) fn next_inputs<C>(
    state: &DbState<C>,
    target: StoreId,
    schema: &Arc<StoreSchema>,
) -> Result<Option<Vec<Arc<Segment>>>, StoreError> {
    let table = state.table(target).ok_or(StoreError::Retired(target))?;
    if table.schema_version != schema.version {
        return Err(StoreError::Retired(target));
    }
    let by_size = runs_by_size(state, target)?;
    if by_size.len() > RUNS {
        let at_once = at_once(&by_size);
        // Half of the bound at least, and on while the next is no larger than what is merged already: a row is written
        // about once for each doubling of the table.
        let mut taken: Vec<Arc<Segment>> = Vec::new();
        let mut sum = 0;
        for (index, run) in by_size.into_iter().enumerate() {
            let enough = index >= RUNS / 2 && run.rows > sum;
            if enough || index >= at_once {
                break;
            }
            sum += run.rows;
            taken.extend(run.segments);
        }
        return Ok(Some(taken));
    }
    for segment in table.segments.iter() {
        let deleted = deletion_vector::deleted_rows(state.pinned(), segment.entry.segment)?;
        let many = u64::from(deleted) * 100 > u64::from(segment.entry.rows) * DELETED_PERCENT;
        // What cannot be read cannot be rewritten either, and is no reason to leave the others as they are.
        let retired = retired_rows(state, schema, segment).unwrap_or(0);
        if many || (retired > 0 && !mistake!(RetiredRowsAreNotWorthACompaction)) {
            return Ok(Some(vec![segment.clone()]));
        }
    }
    Ok(None)
}

/// A run, and the rows of it.
struct Run {
    rows: u64,
    segments: Vec<Arc<Segment>>,
}

/// How many of these are merged at once.
fn at_once(runs: &[Run]) -> usize {
    let segments = runs.iter().flat_map(|run| &run.segments);
    let row_bytes = segments.map(|segment| segment.entry.memory_bytes / u64::from(segment.entry.rows).max(1));
    runs_at_once(row_bytes.max().unwrap_or(0))
}

/// The runs of a table, the smallest first.
fn runs_by_size<C>(state: &DbState<C>, target: StoreId) -> Result<Vec<Run>, StoreError> {
    let table = state.table(target).ok_or(StoreError::Retired(target))?;
    let runs = table.segments.runs().iter().map(|segments| Run {
        rows: segments.iter().map(|segment| u64::from(segment.entry.rows)).sum(),
        segments: segments.clone(),
    });
    let mut by_size: Vec<Run> = runs.collect();
    by_size.sort_by_key(|run| run.rows);
    Ok(by_size)
}

fn merge<C: Send + Sync + 'static>(
    store: &Arc<Store<C>>,
    target: StoreId,
    schema: &Arc<StoreSchema>,
    options: &SegmentOptions,
    inputs: &[Arc<Segment>],
    progress: &dyn Progress,
) -> Result<Moved, StoreError> {
    // Before the state: what is deleted afterwards is heard of.
    let merged = || Concern::Segments(inputs.iter().map(|segment| segment.entry.segment).collect());
    let watch = store.watch(target, merged())?;
    let state = store.state();
    let _exempt = state.exempt();
    store.engine().moment("compaction-begun");
    let watch = match mistake!(CompactionsWatchTooLate) {
        true => store.watch(target, merged())?,
        false => watch,
    };
    let version = state.table(target).ok_or(StoreError::Retired(target))?.clone();
    if version.schema_version != schema.version {
        return Err(StoreError::Retired(target));
    }
    let shape = SegmentShape {
        row_ids: schema.key.is_empty(),
        seqs: true,
    };
    let mut sources = Vec::with_capacity(inputs.len());
    let mut moves = Moves::default();
    for segment in inputs {
        moves.expect(segment);
        let state = &state;
        sources.push(Unopened::new(&segment.entry, move || {
            let file = store.engine().opened().get(segment, schema)?;
            let deleted = Deleted::load(state.pinned(), segment.entry.segment, &(0..segment.entry.rows))?;
            let retired = state.retired_scopes();
            Ok(Source::new(&segment.entry, &file, deleted, schema, shape, |scope| {
                !retired.contains(&scope) || mistake!(CompactionsKeepRetiredScopes)
            }))
        }));
    }
    let runs: BTreeSet<u32> = inputs.iter().map(|segment| segment.entry.run).collect();
    let mut merge = Merge::new(sources, runs.len());
    let mut writer = RunWriter::new(store, target, schema, options, shape);
    let mut rows = 0;
    while let Some(merged) = merge.next()? {
        if progress.cancelled() {
            return Err(StoreError::Cancelled);
        }
        let count = merged.origins.len();
        let placed = writer.write(merged.scope, Some(&merged.keys), &merged.columns, count)?;
        for part in placed {
            for index in part.rows {
                moves.add(merged.origins[index], part.segment)?;
            }
        }
        rows += count as u64;
        progress.advance(count as u64, 0);
    }
    let outputs = writer.finish()?;
    crate::crash::point("compact-written");
    let publication = Publication {
        store: target,
        schema_version: schema.version,
        rows,
        scopes: BTreeSet::new(),
        outputs,
        inputs: Inputs {
            epoch: None,
            hot_keys: None,
            segments: inputs.iter().map(|segment| segment.entry.segment).collect(),
        },
        resolution: Mutex::new(Resolution::default()),
        watch: Some(watch),
        settle: moves.settle(),
        _gate: None,
    };
    let moved = publish(store, publication, progress)?;
    crate::crash::point("compact-published");
    Ok(moved)
}

/// Where rows of the inputs went: four bytes for each of them, because a full compaction is one of all rows of a table.
#[derive(Default)]
struct Moves {
    /// The new segments, each with how many rows are in those before it.
    outputs: Vec<(SegmentId, u32)>,
    /// Rows in all of them.
    rows: u32,
    /// By source, for each row its place among the rows of all outputs.
    sources: Vec<(SegmentId, Vec<u32>)>,
}

/// The place of a row that was dead.
const NOWHERE: u32 = u32::MAX;

impl Moves {
    fn expect(&mut self, segment: &Segment) {
        self.sources
            .push((segment.entry.segment, vec![NOWHERE; segment.entry.rows as usize]));
    }

    /// The next row, in the order of the outputs.
    fn add(&mut self, (source, row): (usize, u32), output: SegmentId) -> Result<(), StoreError> {
        if self.outputs.last().is_none_or(|(last, _)| *last != output) {
            self.outputs.push((output, self.rows));
        }
        if self.rows == NOWHERE {
            return Err(StoreError::Unsupported(format!(
                "more than {NOWHERE} rows cannot be merged at once"
            )));
        }
        self.sources[source].1[row as usize] = self.rows;
        self.rows += 1;
        Ok(())
    }

    /// Marks rows that were deleted since.
    fn settle(self) -> Settle {
        let outputs = self.outputs;
        let sources: HashMap<SegmentId, Vec<u32>> = self.sources.into_iter().collect();
        Box::new(move |news: &News, resolution: &mut Resolution| {
            let removed = news
                .deleted
                .iter()
                .flat_map(|(segment, rows)| rows.rows().map(move |row| (segment, row)));
            for (segment, row) in removed.filter(|_| !mistake!(CompactionsForgetRemovals)) {
                let place = sources.get(segment).and_then(|rows| rows.get(row as usize).copied());
                let Some(place) = place.filter(|place| *place != NOWHERE) else {
                    continue;
                };
                let output = outputs.partition_point(|(_, before)| *before <= place);
                if let Some((output, before)) = output.checked_sub(1).and_then(|index| outputs.get(index)) {
                    let before = if mistake!(RowsAreCountedFromTheFirstSegment) {
                        0
                    } else {
                        *before
                    };
                    resolution.deleted.entry(*output).or_default().insert(place - before);
                }
            }
            Ok::<(), CommitError>(())
        })
    }
}
