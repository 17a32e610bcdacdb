//! What DoPut does with an upload: statements, prepared statements with their parameters, and loads.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_flight::PutResult;
use arrow_flight::sql::{DoPutPreparedStatementResult, DoPutUpdateResult};
use bytes::Bytes;
use kalamdb_core::{Error, ErrorCode, Result};
use kalamdb_sql::{Database, IngestRequest, Parameters, Session, StatementKind, split};
use prost::Message;

use crate::command::{Sink, sink_of};
use crate::ingest;
use crate::prepared::PreparedStatements;
use crate::query::run_update;
use crate::upload::{Batches, Upload};

/// What an upload goes to.
pub(crate) struct Scene<'a> {
    pub(crate) database: &'a Arc<Database>,
    pub(crate) prepared: &'a PreparedStatements,
    pub(crate) session: &'a Arc<Session>,
    /// The largest batch of parameters, bytes.
    pub(crate) parameters_limit_bytes: usize,
}

/// Does what the upload's descriptor asks for.
///
/// # Errors
/// Whatever the statement or load says; INVALID_REQUEST for an upload that breaks the protocol. Nothing is changed then.
pub(crate) async fn put(scene: Scene<'_>, upload: Upload) -> Result<PutResult> {
    match sink_of(&upload.descriptor)? {
        Sink::Update(sql) => count(run_script(scene.database, scene.session, sql).await?),
        Sink::PreparedUpdate(handle) => count(prepared_update(&scene, &handle, upload).await?),
        Sink::Bind(handle) => bind(&scene, handle, upload).await,
        Sink::Ingest(command) => count(load(&scene, ingest::request(*command)?, upload).await?),
        Sink::Append { namespace, table } => count(load(&scene, ingest::append(namespace, table), upload).await?),
    }
}

/// A statement, or several in order: each is atomic by itself, and the first that fails ends the script. How many rows they
/// changed together.
async fn run_script(database: &Arc<Database>, session: &Arc<Session>, sql: String) -> Result<i64> {
    let is_script = sql.trim_end().trim_end_matches(';').contains(';');
    // A text over the limit is refused by running it, rather than taken apart.
    if !is_script || sql.len() > database.options().statement_text_limit_bytes {
        return run_update(database, session, &sql, Parameters::none()).await;
    }
    let (sql, statements) = tokio::task::spawn_blocking(move || {
        let statements = split(&sql);
        (sql, statements)
    })
    .await
    .map_err(|error| {
        Error::new(
            ErrorCode::Internal,
            format!("the script could not be taken apart: {error}"),
        )
    })?;
    let statements = statements?;
    if statements.len() <= 1 {
        // Whole, so that the places of errors are those of the text as sent.
        return run_update(database, session, &sql, Parameters::none()).await;
    }
    let mut changed: i64 = 0;
    for (index, statement) in statements.iter().enumerate() {
        let ran = run_update(database, session, statement, Parameters::none()).await;
        changed = changed.saturating_add(ran.map_err(|error| Error {
            message: format!("statement {} of {}: {}", index + 1, statements.len(), error.message),
            ..error
        })?);
    }
    Ok(changed)
}

/// Runs a prepared statement with the rows sent, or with those bound before if none are sent; no rows at all run it zero times.
async fn prepared_update(scene: &Scene<'_>, handle: &[u8], upload: Upload) -> Result<i64> {
    let sent = upload.parameters(scene.parameters_limit_bytes).await?;
    let prepared = scene.prepared.find(scene.database, scene.session, handle, sent).await?;
    match prepared.plan.kind {
        StatementKind::Update | StatementKind::Operation => {}
        StatementKind::Query => {
            return Err(Error::new(
                ErrorCode::InvalidStatement,
                "the prepared statement returns rows; run it as a query (CommandPreparedStatementQuery)",
            ));
        }
    }
    let parameters = prepared.parameters;
    prepared.plan.check_parameters(parameters.as_ref())?;
    if parameters.as_ref().map(RecordBatch::num_rows) == Some(0) {
        return Ok(0);
    }
    run_update(
        scene.database,
        scene.session,
        &prepared.sql,
        Parameters { batch: parameters },
    )
    .await
}

async fn bind(scene: &Scene<'_>, handle: Bytes, upload: Upload) -> Result<PutResult> {
    let parameters = upload.parameters(scene.parameters_limit_bytes).await?;
    let bound = parameters.clone();
    let prepared = scene.prepared.find(scene.database, scene.session, &handle, bound);
    // Planned for these types now, so that what cannot run with them is refused before it is bound.
    let prepared = prepared.await?;
    if parameters.is_some() {
        prepared.plan.check_parameters(parameters.as_ref())?;
    }
    scene.prepared.bind(scene.session.principal(), &handle, parameters)?;
    // The JDBC driver takes over whatever handle is here, so it must be.
    Ok(answer(&DoPutPreparedStatementResult {
        prepared_statement_handle: Some(handle),
    }))
}

async fn load(scene: &Scene<'_>, request: IngestRequest, upload: Upload) -> Result<i64> {
    let memory = scene.database.batch_memory(scene.session)?;
    let Some(Batches { schema, stream }) = upload.batches(Some(memory)).await? else {
        return Err(Error::new(
            ErrorCode::InvalidRequest,
            "the load has no schema, so it is not known what to load",
        ));
    };
    let rows = scene.database.ingest(scene.session, request, schema, stream).await?;
    Ok(i64::try_from(rows).unwrap_or(i64::MAX))
}

fn count(record_count: i64) -> Result<PutResult> {
    Ok(answer(&DoPutUpdateResult { record_count }))
}

/// Results of DoPut are bare messages.
fn answer(message: &impl Message) -> PutResult {
    PutResult {
        app_metadata: message.encode_to_vec().into(),
    }
}
