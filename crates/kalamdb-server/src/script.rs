//! `POST /api/sql`: runs the statements of one request in order and streams their results as JSON, or one query's as Arrow.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use kalamdb_core::{Error, ErrorCode, Result};
use kalamdb_flight::SessionLease;
use kalamdb_sql::{Database, Execution, Parameters, Report, RowStream, SessionValue, StatementKind};
use serde_json::value::RawValue;

use crate::http::Door;
use crate::json_parameters::parameters;
use crate::json_rows::{write_columns, write_rows, write_string};
use crate::refusal::{ErrorDocument, Refusal, http_status};
use crate::response_body::{Output, respond};

const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

/// Rows rendered in one go: a slice of work short enough for the runtime that serves everyone.
const RENDER_ROWS: usize = 1024;

/// A client has so long for the next part of a body; without an end to it, what came so far would hold a connection and a session for ever.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A body that is too large is read on for so long and thrown away, so that the client gets to read the answer.
const DISCARD_TIME: Duration = Duration::from_secs(10);

/// Memory taken at once for a body; what a client merely announces costs no more.
const EXPECTED_BODY_BYTES: usize = 64 << 10;

/// The body of a request.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct SqlRequest {
    sql: String,
    #[serde(default)]
    params: Option<Vec<Box<RawValue>>>,
    /// As `USE` before the first statement.
    #[serde(default)]
    namespace: Option<String>,
}

/// What a client wants to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    Json,
    Arrow,
}

/// A request that can run.
struct Script {
    lease: Arc<SessionLease>,
    database: Arc<Database>,
    statements: Vec<String>,
    /// Whether these are the statements of the text, and not the whole of one that nobody can take apart.
    is_split: bool,
    params: Vec<Box<RawValue>>,
}

/// Why a script stopped.
enum Stop {
    Failed(Error),
    /// Nobody reads the answer any more.
    Gone,
}

/// Answers `POST /api/sql`.
pub(crate) async fn run(
    State(door): State<Arc<Door>>,
    Extension(lease): Extension<Arc<SessionLease>>,
    request: Request,
) -> Response {
    match answer(&door, lease, request).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

async fn answer(door: &Door, lease: Arc<SessionLease>, request: Request) -> Result<Response, Refusal> {
    let started = Instant::now();
    let form = accepted_form(request.headers())?;
    check_content_type(request.headers())?;
    let body = read_body(request, door.max_request_bytes, BODY_TIMEOUT).await?;
    let request: SqlRequest = serde_json::from_slice(&body).map_err(|error| {
        Error::new(
            ErrorCode::InvalidRequest,
            format!("the body must be {{\"sql\": \"…\", \"params\": […]}}: {error}"),
        )
    })?;
    drop(body);
    // What cannot be taken apart runs as one, which fails alike and is recorded as any statement.
    let split = kalamdb_sql::split(&request.sql);
    let is_split = split.is_ok();
    let statements = split.unwrap_or_else(|_| vec![request.sql]);
    let params = request.params.unwrap_or_default();
    let script = Script {
        lease,
        database: Arc::clone(&door.database),
        statements,
        is_split,
        params,
    };
    if script.statements.is_empty() {
        return Err(Error::new(ErrorCode::InvalidRequest, "sql holds no statement").into());
    }
    if script.statements.len() > 1 && !script.params.is_empty() {
        let message = format!(
            "params need exactly one statement, and sql holds {}",
            script.statements.len()
        );
        return Err(Error::new(ErrorCode::InvalidRequest, message).into());
    }
    if let Some(namespace) = request.namespace {
        let session = script.lease.session();
        door.database
            .set_session_option(session, "schema", Some(SessionValue::String(namespace)))?;
    }
    match form {
        Form::Json => Ok(respond(|output| run_all(script, output, started)).await),
        Form::Arrow => arrow_stream(script).await,
    }
}

/// Runs a script to its end or its first error.
async fn run_all(script: Script, mut output: Output, started: Instant) {
    let mut failure = None;
    for index in 0..script.statements.len() {
        match run_one(&script, index, &mut output).await {
            Ok(()) => {}
            Err(Stop::Failed(error)) => {
                failure = Some((index, error));
                break;
            }
            Err(Stop::Gone) => return,
        }
    }
    let elapsed_ms = started.elapsed().as_micros() as f64 / 1000.0;
    let (status, word, error) = match &failure {
        None => (StatusCode::OK, "success", None),
        Some((index, error)) => (
            http_status(error.code),
            "error",
            Some(ErrorDocument::new(error, script.is_split.then_some(index + 1))),
        ),
    };
    let error = serde_json::to_string(&error).expect("text and numbers always serialise");
    output
        .finish(
            status,
            word,
            &format!("\"execution_time_ms\":{elapsed_ms},\"error\":{error}"),
        )
        .await;
}

/// Runs one statement and writes its result.
async fn run_one(script: &Script, index: usize, output: &mut Output) -> Result<(), Stop> {
    let mut rows = match script.execute(index).await? {
        Execution::Done(done) => {
            let out = output.begin_result();
            out.extend_from_slice(b"{\"columns\":[],\"rows\":[],");
            end_result(done.rows.unwrap_or(0), &done.message, out);
            return output.flush_if_full().await;
        }
        Execution::Report(Report { rows, completion }) => {
            begin_rows(&rows.schema(), output);
            let mut count = 0;
            let failed = write_batch(&rows, &mut count, output).await?;
            let failed = failed.map(|error| Error {
                message: format!("the statement is done ({}), but {}", completion.message, error.message),
                ..error
            });
            return end_rows(count, completion.message, failed, output).await;
        }
        Execution::Rows(rows) => rows,
    };
    // The status of the answer is open until there are rows or their end.
    let mut batch = rows.next().await.transpose()?;
    begin_rows(&rows.schema(), output);
    let mut count = 0;
    let mut failed = None;
    while let Some(rendered) = batch.take() {
        failed = write_batch(&rendered, &mut count, output).await?;
        if failed.is_some() {
            break;
        }
        match rows.next().await.transpose() {
            Ok(next) => batch = next,
            Err(error) => failed = Some(error),
        }
    }
    end_rows(count, counted(count), failed, output).await
}

fn begin_rows(schema: &Schema, output: &mut Output) {
    let out = output.begin_result();
    out.extend_from_slice(b"{\"columns\":");
    write_columns(schema, out);
    out.extend_from_slice(b",\"rows\":[");
}

/// Writes rows, counting them, and lets others have their turn now and then; the error that it ended by, if it did.
async fn write_batch(batch: &RecordBatch, count: &mut u64, output: &mut Output) -> Result<Option<Error>, Stop> {
    for start in (0..batch.num_rows()).step_by(RENDER_ROWS) {
        let part = batch.slice(start, RENDER_ROWS.min(batch.num_rows() - start));
        let whole_bytes = output.buffer().len();
        if let Err(error) = write_rows(&part, *count == 0, output.buffer()) {
            // Half a row would spoil the JSON: the part goes.
            output.buffer().truncate(whole_bytes);
            return Ok(Some(unwritable(&error)));
        }
        *count += part.num_rows() as u64;
        output.flush_if_full::<Stop>().await?;
        tokio::task::yield_now().await;
    }
    Ok(None)
}

async fn end_rows(count: u64, message: String, failed: Option<Error>, output: &mut Output) -> Result<(), Stop> {
    output.buffer().extend_from_slice(b"],");
    let message = match &failed {
        Some(_) => format!("ended by an error after {}", counted(count)),
        None => message,
    };
    end_result(count, &message, output.buffer());
    match failed {
        Some(error) => Err(Stop::Failed(error)),
        None => output.flush_if_full().await,
    }
}

fn counted(count: u64) -> String {
    match count {
        1 => "1 row".to_owned(),
        _ => format!("{count} rows"),
    }
}

fn end_result(row_count: u64, message: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("\"row_count\":{row_count},\"message\":").as_bytes());
    write_string(message, out);
    out.push(b'}');
}

fn unwritable(error: &ArrowError) -> Error {
    Error::new(
        ErrorCode::TypeMismatch,
        format!(
            "a value of the result cannot be written as JSON: {error}; cast the column to TEXT or read it as Arrow"
        ),
    )
}

/// One query's rows as an Arrow IPC stream. An error after the first batch cuts the stream off, which its reader notices.
async fn arrow_stream(script: Script) -> Result<Response, Refusal> {
    let refuse = |message: String| {
        Refusal::from(Error::new(ErrorCode::InvalidRequest, message)).with_status(StatusCode::NOT_ACCEPTABLE)
    };
    if script.statements.len() > 1 {
        let count = script.statements.len();
        return Err(refuse(format!(
            "an Arrow stream holds one query's rows, and sql holds {count} statements"
        )));
    }
    let description = script
        .database
        .describe(script.lease.session(), &script.statements[0])
        .await?;
    match description.kind {
        StatementKind::Query | StatementKind::Operation => {}
        StatementKind::Update => {
            return Err(refuse(
                "the statement returns no rows; ask for application/json".to_owned(),
            ));
        }
    }
    let mut rows = match script.execute(0).await? {
        Execution::Rows(rows) => rows,
        Execution::Report(Report { rows, .. }) => {
            let mut writer =
                StreamWriter::try_new(Vec::new(), &rows.schema()).map_err(|error| arrow_failure(&error))?;
            writer.write(&rows).map_err(|error| arrow_failure(&error))?;
            let bytes = writer.into_inner().map_err(|error| arrow_failure(&error))?;
            return Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(ARROW_STREAM))], bytes).into_response());
        }
        Execution::Done(_) => {
            return Err(refuse(
                "the statement returned no rows; ask for application/json".to_owned(),
            ));
        }
    };
    let first = rows.next().await.transpose()?;
    let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema()).map_err(|error| arrow_failure(&error))?;
    let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(ARROW_STREAM));
    let Some(first) = first else {
        writer.finish().map_err(|error| arrow_failure(&error))?;
        let bytes = writer.into_inner().map_err(|error| arrow_failure(&error))?;
        return Ok(([content_type], bytes).into_response());
    };
    let body = Body::from_stream(arrow_chunks(writer, first, rows, script));
    Ok(([content_type], body).into_response())
}

/// Takes the script along: its session stays open until the stream ends.
fn arrow_chunks(
    writer: StreamWriter<Vec<u8>>,
    first: RecordBatch,
    rows: RowStream,
    script: Script,
) -> impl Stream<Item = io::Result<Bytes>> {
    let state = Some((writer, Some(first), rows, script));
    stream::try_unfold(state, |state| async move {
        let Some((mut writer, first, mut rows, script)) = state else {
            return Ok(None);
        };
        let batch = match first {
            Some(batch) => Some(batch),
            None => rows.next().await.transpose().map_err(io::Error::other)?,
        };
        let Some(batch) = batch else {
            writer.finish().map_err(io::Error::other)?;
            let rest = writer.into_inner().map_err(io::Error::other)?;
            return Ok(Some((Bytes::from(rest), None)));
        };
        writer.write(&batch).map_err(io::Error::other)?;
        let chunk = Bytes::from(std::mem::take(writer.get_mut()));
        Ok(Some((chunk, Some((writer, None, rows, script)))))
    })
}

fn arrow_failure(error: &ArrowError) -> Error {
    Error::new(
        ErrorCode::Internal,
        format!("the result cannot be written as Arrow: {error}"),
    )
}

impl Script {
    async fn execute(&self, index: usize) -> Result<Execution> {
        let session = self.lease.session();
        let sql = &self.statements[index];
        let parameters = if self.params.is_empty() {
            Parameters::none()
        } else {
            // JSON has fewer types than SQL: what a string or a number means is known once the statement's types are.
            let expected = self.database.describe(session, sql).await?.parameters;
            parameters(&self.params, &expected, &session.time_zone())?
        };
        self.database.execute(session, sql, parameters).await
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

impl From<crate::response_body::Gone> for Stop {
    fn from(_: crate::response_body::Gone) -> Self {
        Stop::Gone
    }
}

/// JSON unless the client asks for Arrow.
fn accepted_form(headers: &HeaderMap) -> Result<Form, Refusal> {
    let mut asked = false;
    let mut json = false;
    for value in headers.get_all(header::ACCEPT) {
        for range in value.to_str().unwrap_or_default().split(',') {
            asked = true;
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
            let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32)));
            match media_type.as_str() {
                _ if refused => {}
                ARROW_STREAM => return Ok(Form::Arrow),
                "application/json" | "application/*" | "*/*" => json = true,
                _ => {}
            }
        }
    }
    if json || !asked {
        return Ok(Form::Json);
    }
    let message = format!("/api/sql answers with application/json or {ARROW_STREAM}; the Accept header allows neither");
    Err(Refusal::from(Error::new(ErrorCode::InvalidRequest, message)).with_status(StatusCode::NOT_ACCEPTABLE))
}

fn check_content_type(headers: &HeaderMap) -> Result<()> {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let found = if media_type.is_empty() {
        "none".to_owned()
    } else {
        format!("'{media_type}'")
    };
    let message = format!("the body must be JSON with the header Content-Type: application/json; it has {found}");
    Err(Error::new(ErrorCode::InvalidRequest, message))
}

/// The body, if it is not too large and goes on coming.
async fn read_body(request: Request, limit_bytes: usize, timeout: Duration) -> Result<Vec<u8>> {
    let stalled = |_| {
        let seconds = timeout.as_secs();
        Error::new(
            ErrorCode::InvalidRequest,
            format!("the body is not whole, and nothing more of it came for {seconds} seconds"),
        )
    };
    let too_large = || {
        let message =
            format!("the body is larger than max_request, {limit_bytes} bytes; load rows through Flight instead");
        Error::new(ErrorCode::StatementTooLarge, message)
    };
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let announced: usize = announced.unwrap_or(0);
    if announced > limit_bytes && request.headers().contains_key(header::EXPECT) {
        // The client asks before it sends.
        return Err(too_large());
    }
    let mut chunks = request.into_body().into_data_stream();
    let mut body = Vec::with_capacity(announced.min(limit_bytes).min(EXPECTED_BODY_BYTES));
    while let Some(chunk) = tokio::time::timeout(timeout, chunks.next()).await.map_err(stalled)? {
        let chunk =
            chunk.map_err(|error| Error::new(ErrorCode::InvalidRequest, format!("the body broke off: {error}")))?;
        if body.len() + chunk.len() > limit_bytes {
            drop(body);
            let rest = async { while let Some(Ok(_)) = chunks.next().await {} };
            if tokio::time::timeout(DISCARD_TIME, rest).await.is_err() {
                tracing::debug!("a client still sends a body that is too large");
            }
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream::BoxStream;

    use super::*;

    #[tokio::test]
    async fn a_body_that_stops_coming_is_given_up() {
        let begun = stream::iter([Ok::<_, Infallible>("{\"sql\"")]);
        let body = |rest: BoxStream<'static, _>| Request::new(Body::from_stream(begun.clone().chain(rest)));
        let never = body(stream::pending().boxed());
        let error = read_body(never, 100, Duration::from_millis(1)).await.err();
        let error = error.expect("it has no end");
        assert_eq!(error.code, ErrorCode::InvalidRequest);
        assert!(error.message.contains("nothing more of it came"), "{error}");
        let whole = body(stream::iter([Ok(": 1}")]).boxed());
        let read = read_body(whole, 100, Duration::from_secs(3_600)).await;
        assert_eq!(read.expect("it is whole"), b"{\"sql\": 1}");
    }

    #[test]
    fn the_form_is_negotiated() {
        let check = |accept: &[&'static str], expected: Option<Form>| {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(header::ACCEPT, HeaderValue::from_static(value));
            }
            assert_eq!(accepted_form(&headers).ok(), expected, "{accept:?}");
        };
        check(&[], Some(Form::Json));
        check(&["*/*"], Some(Form::Json));
        check(&["text/html, application/json;q=0.5"], Some(Form::Json));
        check(&["application/vnd.apache.arrow.stream"], Some(Form::Arrow));
        check(
            &["application/json", "application/vnd.apache.arrow.stream; q=0.9"],
            Some(Form::Arrow),
        );
        check(&["application/vnd.apache.arrow.stream;q=0, */*"], Some(Form::Json));
        check(&["text/html"], None);
    }

    #[tokio::test]
    async fn bodies_have_a_limit() {
        let check = async |body: &'static str, limit: usize, expected: Option<ErrorCode>| {
            let request = Request::builder().body(Body::from(body)).expect("a request");
            assert_eq!(
                read_body(request, limit, BODY_TIMEOUT)
                    .await
                    .err()
                    .map(|error| error.code),
                expected
            );
        };
        check("12345", 5, None).await;
        check("123456", 5, Some(ErrorCode::StatementTooLarge)).await;
    }

    #[test]
    fn requests_say_what_is_wrong_with_them() {
        let check = |body: &str, part: &str| {
            let error = serde_json::from_str::<SqlRequest>(body).err().expect(body).to_string();
            assert!(error.contains(part), "'{error}' lacks '{part}'");
        };
        check("{", "EOF");
        check("{}", "missing field `sql`");
        check(r#"{"sql":"SELECT 1","parms":[]}"#, "unknown field `parms`");
        check(r#"{"sql":1}"#, "invalid type");
    }
}
