//! Small record batches for tests that bind or ingest.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_flight::sql::{CommandStatementIngest, TableDefinitionOptions};
use arrow_flight::sql::{TableExistsOption, TableNotExistOption};

/// Columns by name, nullable.
pub(crate) fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("columns are of one length")
}

/// BIGINT values.
pub(crate) fn int64(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// TEXT values.
pub(crate) fn text<S: AsRef<str>>(values: impl IntoIterator<Item = S>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// Rows `(id, payload)` with these ids, each payload of so many bytes and different from the others'.
pub(crate) fn payload_rows(ids: std::ops::Range<i64>, payload_bytes: usize) -> RecordBatch {
    let payloads: Vec<String> = ids
        .clone()
        .map(|id| {
            // A multiplicative hash, so that no compression makes the rows smaller than they are.
            let mut state = (id as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut payload = String::with_capacity(payload_bytes + 16);
            while payload.len() < payload_bytes {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                payload.push_str(&format!("{:016x}", state ^ (state >> 29)));
            }
            payload.truncate(payload_bytes);
            payload
        })
        .collect();
    batch(vec![("id", int64(ids)), ("payload", text(payloads))])
}

/// An ingest command with the options that decide what happens to the table.
pub(crate) fn ingest_command(
    namespace: &str,
    table: &str,
    if_not_exist: TableNotExistOption,
    if_exists: TableExistsOption,
    options: &[(&str, &str)],
) -> CommandStatementIngest {
    CommandStatementIngest {
        table_definition_options: Some(TableDefinitionOptions {
            if_not_exist: if_not_exist.into(),
            if_exists: if_exists.into(),
        }),
        table: table.to_owned(),
        schema: Some(namespace.to_owned()),
        catalog: None,
        temporary: false,
        transaction_id: None,
        options: options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    }
}
