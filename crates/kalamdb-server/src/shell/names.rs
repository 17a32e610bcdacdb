//! The tables and columns that the user sees, by the protocol's metadata (CommandGetTables).

use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow_flight::IpcMessage;
use arrow_flight::error::FlightError;
use arrow_flight::sql::CommandGetTables;
use bytes::Bytes;
use futures::TryStreamExt;

use crate::shell::connection::{Client, TIDY_TIMEOUT, message};

/// Someone else may have made or dropped a table since.
const FRESH: Duration = Duration::from_secs(60);

/// A table, view or system table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownTable {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// `TABLE`, `VIEW`, `SYSTEM TABLE`.
    pub(crate) table_type: String,
    pub(crate) columns: Vec<String>,
}

/// What completion knows.
#[derive(Debug, Default)]
pub(crate) struct Names {
    tables: Vec<KnownTable>,
    read_at: Option<Instant>,
}

impl Names {
    pub(crate) fn tables(&self) -> &[KnownTable] {
        &self.tables
    }

    /// They may have changed.
    pub(crate) fn forget(&mut self) {
        self.read_at = None;
    }

    /// Reads them if they are not fresh. Where that fails or takes long, the old ones stay: a person waits at the prompt.
    pub(crate) async fn refresh(&mut self, client: &mut Client) {
        if self.read_at.is_some_and(|read_at| read_at.elapsed() < FRESH) {
            return;
        }
        match tokio::time::timeout(TIDY_TIMEOUT, tables(client)).await {
            Ok(Ok(tables)) => {
                self.tables = tables;
                self.read_at = Some(Instant::now());
            }
            Ok(Err(error)) => tracing::debug!(error = message(&error), "the tables' names were not read"),
            Err(_) => tracing::debug!("the tables' names did not come in time"),
        }
    }
}

/// All tables with their columns, by namespace and name.
///
/// # Errors
/// What the server says, or that its answer is not as the protocol has it.
pub(crate) async fn tables(client: &mut Client) -> Result<Vec<KnownTable>, FlightError> {
    let command = CommandGetTables {
        include_schema: true,
        ..CommandGetTables::default()
    };
    let info = client.get_tables(command).await?;
    let mut tables = Vec::new();
    for endpoint in info.endpoint {
        let Some(ticket) = endpoint.ticket else { continue };
        let mut batches = client.do_get(ticket).await?;
        while let Some(batch) = batches.try_next().await? {
            read(&batch, &mut tables)?;
        }
    }
    Ok(tables)
}

fn read(batch: &RecordBatch, tables: &mut Vec<KnownTable>) -> Result<(), FlightError> {
    let column = |name: &str, data_type: DataType| {
        batch
            .column_by_name(name)
            .filter(|column| column.data_type() == &data_type)
            .ok_or_else(|| FlightError::DecodeError(format!("the list of tables has no {name} of type {data_type}")))
    };
    let namespaces = column("db_schema_name", DataType::Utf8)?.as_string::<i32>();
    let names = column("table_name", DataType::Utf8)?.as_string::<i32>();
    let types = column("table_type", DataType::Utf8)?.as_string::<i32>();
    let schemas = column("table_schema", DataType::Binary)?.as_binary::<i32>();
    for row in 0..batch.num_rows() {
        let schema = Schema::try_from(IpcMessage(Bytes::copy_from_slice(schemas.value(row))))?;
        let namespace = if namespaces.is_null(row) {
            ""
        } else {
            namespaces.value(row)
        };
        tables.push(KnownTable {
            namespace: namespace.to_owned(),
            name: names.value(row).to_owned(),
            table_type: types.value(row).to_owned(),
            columns: schema.fields().iter().map(|field| field.name().clone()).collect(),
        });
    }
    Ok(())
}
