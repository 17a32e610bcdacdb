//! Which rows of a segment a scan leaves out: those that bounds of columns rule out, and those that a limit does not reach.

use std::ops::Range;

use crate::deletion_vector::Deleted;
use crate::scan::{Prune, ScanCounters};
use crate::segment::{Bounds, SegmentFile};

/// The parts of these ranges that may hold rows that meet all conditions. `own` are all rows of the scope that the ranges are of:
/// a row group or page that has rows of others as well is never left out, since its bounds tell of theirs, and how much was read
/// is shown to whoever asks.
pub(crate) fn pruned(
    prune: &dyn Prune,
    file: &SegmentFile,
    own: &Range<u32>,
    mut ranges: Vec<Range<u32>>,
    counters: &mut ScanCounters,
) -> Vec<Range<u32>> {
    if mistake!(NothingIsPruned) {
        return ranges;
    }
    for (condition, columns) in prune.conditions().iter().enumerate() {
        let bounds: Vec<_> = columns.iter().map(|&column| file.bounds(column)).collect();
        // Row groups are the same for all columns, pages are each column's own.
        let of_groups: Vec<_> = bounds
            .iter()
            .map(|bounds| bounds.as_ref().map(|bounds| &bounds.row_groups))
            .collect();
        ranges = kept(
            prune,
            condition,
            &of_groups,
            own,
            ranges,
            &mut counters.row_groups_pruned,
        );
        if let [Some(only)] = bounds.as_slice()
            && !ranges.is_empty()
        {
            let pages = &[Some(&only.pages)];
            ranges = kept(prune, condition, pages, own, ranges, &mut counters.pages_pruned);
        }
    }
    ranges
}

fn kept(
    prune: &dyn Prune,
    condition: usize,
    bounds: &[Option<&Bounds>],
    own: &Range<u32>,
    ranges: Vec<Range<u32>>,
    pruned: &mut u64,
) -> Vec<Range<u32>> {
    let Some(parts) = bounds.iter().flatten().next() else {
        return ranges;
    };
    let Some(may_hold) = prune.may_hold(condition, bounds) else {
        return ranges;
    };
    let is_own = |part: &Range<u32>| (own.start <= part.start && part.end <= own.end) || mistake!(BoundsTellOfOthers);
    let wanted_at = |part: &Range<u32>| {
        let range = ranges.get(ranges.partition_point(|range| range.end <= part.start));
        range.is_some_and(|range| range.start < part.end)
    };
    let mut wanted: Vec<Range<u32>> = Vec::new();
    for (part, may_hold) in parts.rows.iter().zip(&may_hold) {
        if !may_hold && is_own(part) {
            *pruned += u64::from(wanted_at(part));
            continue;
        }
        match wanted.last_mut() {
            Some(last) if last.end == part.start => last.end = part.end,
            _ => wanted.push(part.clone()),
        }
    }
    let mut kept = Vec::new();
    let mut from = 0;
    for range in ranges {
        while wanted.get(from).is_some_and(|part| part.end <= range.start) {
            from += 1;
        }
        for part in wanted[from..].iter().take_while(|part| part.start < range.end) {
            kept.push(part.start.max(range.start)..part.end.min(range.end));
        }
    }
    kept
}

/// The beginning of these ranges that holds so many live rows.
pub(crate) fn first_live(ranges: Vec<Range<u32>>, deleted: &Deleted, live: usize) -> Vec<Range<u32>> {
    if live == usize::MAX {
        return ranges;
    }
    let mut wanted = live;
    let mut kept = Vec::new();
    for range in ranges {
        if wanted == 0 {
            break;
        }
        let mut end = range.start;
        while end < range.end && wanted > 0 {
            wanted -= usize::from(counts(deleted, end));
            end += 1;
        }
        kept.push(range.start..end);
    }
    kept
}

/// The end of these ranges that holds so many live rows.
pub(crate) fn last_live(ranges: Vec<Range<u32>>, deleted: &Deleted, live: usize) -> Vec<Range<u32>> {
    if live == usize::MAX {
        return ranges;
    }
    let mut wanted = live;
    let mut kept = Vec::new();
    for range in ranges.into_iter().rev() {
        if wanted == 0 {
            break;
        }
        let mut start = range.end;
        while start > range.start && wanted > 0 {
            start -= 1;
            wanted -= usize::from(counts(deleted, start));
        }
        kept.push(start..range.end);
    }
    kept.reverse();
    kept
}

/// Whether a row counts to a limit.
fn counts(deleted: &Deleted, row: u32) -> bool {
    deleted.is_empty() || !deleted.contains(row) || mistake!(DeadRowsCountToTheLimit)
}
