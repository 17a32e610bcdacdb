//! What running a statement gives: a stream of batches that crosses runtimes, or a completion.

use std::pin::Pin;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::Stream;
use kalamdb_core::Result;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The outcome of a statement.
pub enum Execution {
    /// Rows, while they are made.
    Rows(RowStream),
    /// Done and durable.
    Done(Completion),
    /// Done and durable, with rows about what was done.
    Report(Report),
}

/// A finished statement without rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Rows inserted, changed or removed; `None` where rows are not the matter (DDL).
    pub rows: Option<u64>,
    /// What happened, for people: `3 rows inserted`, `table chat.messages created`.
    pub message: String,
}

/// A finished statement whose rows are about what it did: those that say so, or those of RETURNING.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Some megabytes at most.
    pub rows: RecordBatch,
    /// The same in short.
    pub completion: Completion,
}

/// The rows of a query. Dropping it cancels the query.
pub struct RowStream {
    schema: SchemaRef,
    query_id: String,
    batches: mpsc::Receiver<Result<RecordBatch>>,
    _cancel: DropGuard,
}

impl RowStream {
    /// A stream fed by a task on the query runtime, which `cancel` stops.
    pub(crate) fn new(
        schema: SchemaRef,
        query_id: String,
        batches: mpsc::Receiver<Result<RecordBatch>>,
        cancel: CancellationToken,
    ) -> Self {
        RowStream {
            schema,
            query_id,
            batches,
            _cancel: cancel.drop_guard(),
        }
    }

    /// Schema of every batch: plain types (no views, no dictionaries).
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Its id in `system.queries`.
    pub fn query_id(&self) -> &str {
        &self.query_id
    }
}

impl Stream for RowStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_recv(cx)
    }
}
