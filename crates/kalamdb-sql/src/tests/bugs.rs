//! Errors of code INTERNAL: the log has where they come from and what statement it was, and none of their words.

use std::io;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use futures::stream;
use kalamdb_core::{Error, ErrorCode};
use parking_lot::Mutex;

use crate::ingest::{IfExists, IfNotExists, IngestRequest};
use crate::testing::Fixture;

const MARKER: &str = "marker-of-a-value-q7";

/// What the process logs at the level of errors.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A load that ends with this error, and what its caller learns.
fn load(fixture: &Fixture, error: Error) -> Error {
    let schema = Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true)]));
    let request = IngestRequest {
        namespace: None,
        table: "made".into(),
        if_not_exists: IfNotExists::Create,
        if_exists: IfExists::Append,
        table_type: None,
        primary_key: None,
        on_conflict: None,
        table_options: std::collections::BTreeMap::new(),
    };
    let batches = Box::pin(stream::iter([Err(error)]));
    let loaded = fixture.block_on(fixture.database.ingest(&fixture.root, request, schema, batches));
    loaded.expect_err("the stream ends with an error")
}

#[test]
fn the_log_has_no_words_of_a_bug() {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::ERROR)
        .with_ansi(false)
        .with_writer(|| Log)
        .init();
    let fixture = Fixture::new();
    let told = load(
        &fixture,
        Error::internal("a library", format!("cannot take '{MARKER}'")),
    );
    assert_eq!(told.code, ErrorCode::Internal);
    assert!(told.message.contains(MARKER), "whoever sent it is told: {told}");
    let (_, id) = told
        .message
        .split_once("the server's log has it as query ")
        .expect("an id");
    let logged = String::from_utf8(LOG.lock().clone()).expect("text");
    let line = logged
        .lines()
        .find(|line| line.contains(id))
        .expect("a line under the id");
    for part in ["INTERNAL of a library at ", "bugs.rs:", "INGEST INTO", "public", "made"] {
        assert!(line.contains(part), "{part} is not in: {line}");
    }
    assert!(!logged.contains(MARKER), "{logged}");
    fixture.check(
        &format!("SELECT status, error_code FROM system.queries WHERE query_id = '{id}'"),
        &["failed|INTERNAL"],
    );
    // What is no bug is told and not logged.
    let told = load(&fixture, Error::new(ErrorCode::InvalidRequest, MARKER));
    assert_eq!(told.message, MARKER);
    assert!(!String::from_utf8(LOG.lock().clone()).expect("text").contains(MARKER));
}
