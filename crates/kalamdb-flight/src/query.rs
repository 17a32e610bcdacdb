//! Statements that are read: FlightInfo for a descriptor, and the stream for a ticket. A query runs at DoGet; a statement that
//! changes something runs exactly once, when its FlightInfo is asked for; if it has rows about what it did, the ticket holds
//! them, or the server if they are many.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, Location, Ticket};
use bytes::Bytes;
use kalamdb_core::{Error, ErrorCode, Result};
use kalamdb_sql::{Completion, Database, Execution, Parameters, Report, RowStream, Session, StatementKind};
use parking_lot::Mutex;

use crate::auth::SessionLease;
use crate::kept::KeptRows;
use crate::plan::{self, Plan};
use crate::ticket::{self, NewQuery, QueryTicket, TicketId};

/// FlightInfo of a statement. A query is only planned; anything else runs now, and its count or that of its rows is
/// `total_records`.
///
/// # Errors
/// Whatever planning and running say.
pub(crate) async fn statement_info(
    database: &Arc<Database>,
    kept: &KeptRows,
    session: &Arc<Session>,
    sql: &str,
    plan: &Plan,
    parameters: Option<RecordBatch>,
) -> Result<FlightInfo> {
    plan.check_parameters(parameters.as_ref())?;
    let clock = database.engine().clock().as_ref();
    let mut schema_message = plan.schema_message.clone();
    let (ticket, total_records) = match plan.kind {
        StatementKind::Query => {
            let query = NewQuery {
                sql,
                schema: schema_message.clone(),
                parameters: parameters.as_ref(),
                session_options: &session.options(),
            };
            (ticket::for_query(clock, session.principal(), query)?, -1)
        }
        StatementKind::Update => {
            let count = run_update(database, session, sql, Parameters { batch: parameters }).await?;
            (ticket::for_finished(clock, session.principal()), count)
        }
        StatementKind::Operation => {
            let rows = run_operation(database, session, sql, Parameters { batch: parameters }).await?;
            // A table of a prepared statement may have other columns since: it is done, and its rows are what they are.
            let rows = if same_columns(&plan.schema, rows.schema_ref()) {
                with_schema(&rows, &plan.schema)?
            } else {
                schema_message = plan::schema_message(rows.schema_ref())?;
                rows
            };
            let count = i64::try_from(rows.num_rows()).unwrap_or(i64::MAX);
            (kept.ticket(clock, session.principal(), rows)?, count)
        }
    };
    Ok(info(schema_message, ticket, total_records))
}

/// A FlightInfo with one endpoint.
pub(crate) fn info(schema_message: Bytes, ticket: Bytes, total_records: i64) -> FlightInfo {
    FlightInfo {
        schema: schema_message,
        flight_descriptor: None,
        endpoint: vec![FlightEndpoint {
            ticket: Some(Ticket { ticket }),
            ..FlightEndpoint::default()
        }],
        total_records,
        total_bytes: -1,
        ordered: false,
        app_metadata: Bytes::new(),
    }
}

/// The info with its descriptor, and the advertised location in each endpoint. Without one the client reuses its connection.
pub(crate) fn addressed(mut info: FlightInfo, descriptor: FlightDescriptor, advertise: Option<&str>) -> FlightInfo {
    info.flight_descriptor = Some(descriptor);
    if let Some(uri) = advertise {
        for endpoint in &mut info.endpoint {
            endpoint.location = vec![Location { uri: uri.to_owned() }];
        }
    }
    info
}

/// Runs a statement that is no query; how many rows it changed, 0 where rows are not the matter. Rows that say what it did are
/// not for whoever asks for a count.
///
/// # Errors
/// Whatever running says; INVALID_STATEMENT for a query.
pub(crate) async fn run_update(
    database: &Arc<Database>,
    session: &Arc<Session>,
    sql: &str,
    parameters: Parameters,
) -> Result<i64> {
    match database.execute(session, sql, parameters).await? {
        Execution::Done(Completion { rows, .. })
        | Execution::Report(Report {
            completion: Completion { rows, .. },
            ..
        }) => Ok(i64::try_from(rows.unwrap_or(0)).unwrap_or(i64::MAX)),
        Execution::Rows(_) => Err(Error::new(
            ErrorCode::InvalidStatement,
            "the statement returns rows; run it as a query (GetFlightInfo), not as an update",
        )),
    }
}

/// Runs a statement whose rows are about what it did; the rows.
async fn run_operation(
    database: &Arc<Database>,
    session: &Arc<Session>,
    sql: &str,
    parameters: Parameters,
) -> Result<RecordBatch> {
    match database.execute(session, sql, parameters).await? {
        Execution::Report(Report { rows, .. }) => Ok(rows),
        Execution::Done(_) | Execution::Rows(_) => Err(Error::new(
            ErrorCode::Internal,
            "the statement gave no rows about itself",
        )),
    }
}

/// The rows with the protocol's metadata.
fn with_schema(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), rows.columns().to_vec(), &options)
        .map_err(|error| Error::new(ErrorCode::Internal, format!("the statement gave other rows: {error}")))
}

/// The rows of a query and the schema they are sent with.
pub(crate) struct Fetch {
    pub(crate) schema: SchemaRef,
    pub(crate) rows: RowStream,
    /// Of the session that the query runs in, when that ends with the stream.
    pub(crate) lease: Arc<SessionLease>,
}

/// Runs the query of a ticket, with the session options of the time it was made.
///
/// # Errors
/// Whatever running says; CONFLICT when the columns are no longer those that FlightInfo stated.
pub(crate) async fn redeem(database: &Arc<Database>, lease: &Arc<SessionLease>, query: QueryTicket) -> Result<Fetch> {
    let lease = session_with(lease, &query)?;
    let parameters = Parameters {
        batch: query.parameters,
    };
    fetch(database, lease, &query.sql, query.schema, parameters).await
}

/// Runs a query whose columns are known.
///
/// # Errors
/// As for [`redeem`].
pub(crate) async fn fetch(
    database: &Arc<Database>,
    lease: Arc<SessionLease>,
    sql: &str,
    schema: SchemaRef,
    parameters: Parameters,
) -> Result<Fetch> {
    match database.execute(lease.session(), sql, parameters).await? {
        Execution::Rows(rows) if same_columns(&schema, &rows.schema()) => Ok(Fetch { schema, rows, lease }),
        Execution::Rows(_) => Err(Error::new(
            ErrorCode::Conflict,
            "a table of the query changed its columns since the query was planned; run it again",
        )),
        Execution::Done(_) | Execution::Report(_) => {
            Err(Error::new(ErrorCode::InvalidTicket, "the ticket is not of a query"))
        }
    }
}

/// The caller's session if its options are those of the ticket, else the same with those: the same ticket gives the
/// same rows whatever the caller set since, and over whichever connection.
fn session_with(lease: &Arc<SessionLease>, query: &QueryTicket) -> Result<Arc<SessionLease>> {
    if lease.session().options() == query.session_options {
        return Ok(Arc::clone(lease));
    }
    Ok(Arc::new(lease.with_options(&query.session_options)?))
}

/// Whether rows of `found` can go out as `stated`: equal but for the protocol's metadata.
fn same_columns(stated: &Schema, found: &Schema) -> bool {
    stated.fields().len() == found.fields().len()
        && stated.fields().iter().zip(found.fields()).all(|(stated, found)| {
            stated.name() == found.name()
                && stated.data_type() == found.data_type()
                && (stated.is_nullable() || !found.is_nullable())
        })
}

/// Which queries run for which ticket, so that exactly those can be cancelled.
#[derive(Default)]
pub(crate) struct RunningQueries {
    by_ticket: Mutex<HashMap<TicketId, Vec<String>>>,
}

impl RunningQueries {
    /// Notes a query until the guard is dropped.
    pub(crate) fn note(self: &Arc<Self>, ticket: TicketId, query_id: &str) -> RunningQuery {
        self.by_ticket
            .lock()
            .entry(ticket.clone())
            .or_default()
            .push(query_id.to_owned());
        RunningQuery {
            queries: Arc::clone(self),
            ticket,
            query_id: query_id.to_owned(),
        }
    }

    /// The ids of the queries that run for a ticket.
    pub(crate) fn of(&self, ticket: &TicketId) -> Vec<String> {
        self.by_ticket.lock().get(ticket).cloned().unwrap_or_default()
    }
}

/// A query that runs for a ticket.
pub(crate) struct RunningQuery {
    queries: Arc<RunningQueries>,
    ticket: TicketId,
    query_id: String,
}

impl Drop for RunningQuery {
    fn drop(&mut self) {
        let mut by_ticket = self.queries.by_ticket.lock();
        if let Some(ids) = by_ticket.get_mut(&self.ticket) {
            ids.retain(|id| *id != self.query_id);
            if ids.is_empty() {
                by_ticket.remove(&self.ticket);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field};

    #[test]
    fn a_running_query_is_found_by_its_ticket_until_it_ends() {
        let running = Arc::new(RunningQueries::default());
        let ticket = TicketId::from_static(b"t");
        let first = running.note(ticket.clone(), "q1");
        let second = running.note(ticket.clone(), "q2");
        assert_eq!(running.of(&ticket), ["q1", "q2"]);
        drop(first);
        assert_eq!(running.of(&ticket), ["q2"]);
        assert!(running.of(&TicketId::from_static(b"u")).is_empty());
        drop(second);
        assert!(running.by_ticket.lock().is_empty());
    }

    #[test]
    fn only_metadata_may_differ_from_what_was_stated() {
        let field = |name: &str, data_type, nullable| Schema::new(vec![Field::new(name, data_type, nullable)]);
        let check = |stated: Schema, found: Schema, same: bool| assert_eq!(same_columns(&stated, &found), same);
        check(
            field("a", DataType::Int64, true),
            field("a", DataType::Int64, true),
            true,
        );
        check(
            field("a", DataType::Int64, true),
            field("a", DataType::Int64, false),
            true,
        );
        check(
            field("a", DataType::Int64, false),
            field("a", DataType::Int64, true),
            false,
        );
        check(
            field("a", DataType::Int64, true),
            field("b", DataType::Int64, true),
            false,
        );
        check(
            field("a", DataType::Int64, true),
            field("a", DataType::Utf8, true),
            false,
        );
        check(field("a", DataType::Int64, true), Schema::empty(), false);
    }
}
