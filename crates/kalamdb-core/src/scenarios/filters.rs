//! Reading by the filters of histories: the key constraint and the pruning that come of each.

use std::ops::Bound;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use kalamdb_histories::Filter;

use super::*;

/// The rows that a statement changes: those of each batch as [`Mutator`] wants them, and what is in them.
pub(super) fn find(
    view: &View,
    by: &Principal,
    table: &Arc<Table>,
    filter: &Filter,
) -> Vec<(RecordBatch, Vec<(i64, String)>)> {
    let fields = [
        ScanField::RowKey,
        ScanField::RowLocation,
        ScanField::Seq,
        ScanField::Column(0),
        ScanField::Column(1),
    ];
    let batches = batches(view, by, table, request(table, filter, &fields));
    let found = batches.iter().map(|batch| {
        let rows = rows_of(batch, 3, 4);
        let chosen = rows.iter().map(|(id, text)| Some(filter.matches(*id, text))).collect();
        let found = arrow::compute::filter_record_batch(batch, &chosen).expect("filters");
        let rows = rows
            .into_iter()
            .filter(|(id, text)| filter.matches(*id, text))
            .collect();
        (found, rows)
    });
    found.collect()
}

/// Reads with the constraint and the pruning that come of a filter. What a constraint leaves out is not returned.
pub(super) fn request(table: &Table, filter: &Filter, fields: &[ScanField]) -> ScanRequest {
    let is_keyed = !table.schema.primary_key.is_empty();
    let id = |id: &i64| -> ArrayRef { Arc::new(Int64Array::from(vec![*id])) };
    let (key, prune): (Option<KeyConstraint>, Option<Arc<dyn Prune>>) = match filter {
        Filter::Id(one) if is_keyed => {
            let (lower, upper) = (Bound::Unbounded, Bound::Unbounded);
            let equal = vec![id(one)];
            (Some(KeyConstraint { equal, lower, upper }), None)
        }
        Filter::Ids(from, to) if is_keyed => {
            let (lower, upper) = (Bound::Included(vec![id(from)]), Bound::Included(vec![id(to)]));
            let equal = Vec::new();
            (Some(KeyConstraint { equal, lower, upper }), None)
        }
        Filter::TextFrom(from) => (None, Some(Arc::new(TextsFrom::new(from)))),
        Filter::All | Filter::Id(_) | Filter::Ids(..) => (None, None),
    };
    ScanRequest {
        fields: fields.to_vec(),
        key,
        limit: None,
        order: ScanOrder::Any,
        part: (0, 1),
        prune,
        // Small, so that a scan is of several batches.
        batch_rows: 7,
    }
}

/// Rules out parts of segments without such texts.
#[derive(Debug)]
struct TextsFrom {
    columns: Vec<Vec<usize>>,
    from: String,
}

impl TextsFrom {
    fn new(from: &str) -> Self {
        TextsFrom {
            columns: vec![vec![0]],
            from: from.to_owned(),
        }
    }
}

impl Prune for TextsFrom {
    fn conditions(&self) -> &[Vec<usize>] {
        &self.columns
    }

    fn may_hold(&self, _condition: usize, bounds: &[Option<&Bounds>]) -> Option<Vec<bool>> {
        let most = bounds[0]?.max.as_string_opt::<i32>()?;
        Some(
            most.iter()
                .map(|most| most.is_none_or(|most| most >= self.from.as_str()))
                .collect(),
        )
    }
}

pub(super) fn batches(view: &View, by: &Principal, table: &Arc<Table>, request: ScanRequest) -> Vec<RecordBatch> {
    let mut scan = view.scan(by, table, request).expect("scans");
    let mut batches = Vec::new();
    while let Some(batch) = scan.next_batch().expect("reads") {
        batches.push(batch);
    }
    batches
}

pub(super) fn rows_of(batch: &RecordBatch, text: usize, id: usize) -> Vec<(i64, String)> {
    let (texts, ids) = (
        batch.column(text).as_string::<i32>(),
        batch.column(id).as_primitive::<Int64Type>(),
    );
    (0..batch.num_rows())
        .map(|row| (ids.value(row), texts.value(row).to_owned()))
        .collect()
}
