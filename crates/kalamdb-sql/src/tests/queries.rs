//! Running queries: their registry, cancellation, sessions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use futures::StreamExt;
use futures::stream::{self, poll_fn};
use kalamdb_core::ErrorCode;

use crate::execution::Execution;
use crate::ingest::{IfExists, IfNotExists, IngestRequest};
use crate::parameters::Parameters;
use crate::queries::{QuerySnapshot, QueryStatus};
use crate::session::{SessionOrigin, SessionValue};
use crate::testing::Fixture;

/// Never ends by itself, and streams.
const ENDLESS: &str = "SELECT a.value FROM generate_series(1, 1000000000) a";

fn finished(fixture: &Fixture, query_id: &str) -> QuerySnapshot {
    fixture.block_on(async {
        loop {
            let found = fixture
                .database
                .queries()
                .into_iter()
                .find(|query| query.query_id == query_id);
            match found {
                Some(query) if query.status != QueryStatus::Running => return query,
                _ => tokio::task::yield_now().await,
            }
        }
    })
}

fn start(fixture: &Fixture) -> crate::RowStream {
    match fixture.block_on(fixture.database.execute(&fixture.root, ENDLESS, Parameters::none())) {
        Ok(Execution::Rows(stream)) => stream,
        Ok(Execution::Done(_) | Execution::Report(_)) => panic!("no rows"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_query_is_remembered_without_its_literals() {
    let fixture = Fixture::new();
    fixture.check("SELECT 'secret' AS a, 2 AS b", &["secret|2"]);
    fixture.check_error(
        "SELECT x FROM nowhere WHERE y = 'secret'",
        ErrorCode::TableNotFound,
        Some((1, 15)),
        "nowhere",
    );
    let queries = fixture.database.queries();
    let [first, second] = queries.as_slice() else {
        panic!("{queries:?}")
    };
    assert_eq!(
        (first.statement.as_str(), first.status, first.rows),
        ("SELECT $1 AS a, $2 AS b", QueryStatus::Finished, 1)
    );
    assert_eq!(
        (second.statement.as_str(), second.status),
        ("SELECT x FROM nowhere WHERE y = $1", QueryStatus::Failed)
    );
    assert_eq!((first.error_code, second.error_code), (None, Some("TABLE_NOT_FOUND")));
    assert!(first.plan_micros.is_some() && first.finished_at_micros.is_some() && first.bytes > 0);
    assert_eq!(first.user_id, "root");
    fixture.check(
        "SELECT statement, status FROM system.queries WHERE status = 'running'",
        &["SELECT statement, status FROM system.queries WHERE status = $1|running"],
    );
}

#[test]
fn dropping_the_rows_cancels_the_query() {
    let fixture = Fixture::new();
    let mut stream = start(&fixture);
    let query_id = stream.query_id().to_owned();
    fixture.block_on(stream.next()).expect("a batch").expect("of rows");
    assert_eq!(fixture.database.running_queries(), 1);
    drop(stream);
    let query = finished(&fixture, &query_id);
    assert_eq!(
        (query.status, query.error_code),
        (QueryStatus::Cancelled, Some("CANCELLED"))
    );
    assert_eq!(fixture.database.running_queries(), 0);
}

#[test]
fn a_cancelled_query_says_so_to_its_reader() {
    let fixture = Fixture::new();
    fixture.run(&["CREATE USER 'ann' ROLE user"]);
    let ann = fixture.session("ann");
    let outcome = |stream: crate::RowStream| {
        let last = fixture.block_on(stream.filter_map(|batch| std::future::ready(batch.err())).next());
        last.map(|error| error.code)
    };
    let stream = start(&fixture);
    let cancel = |session, query_id: &str| fixture.database.cancel_query(session, query_id);
    assert_eq!(cancel(&ann, stream.query_id()), Ok(false), "another's query");
    assert_eq!(cancel(&fixture.root, "no such query"), Ok(false));
    assert_eq!(cancel(&fixture.root, stream.query_id()), Ok(true));
    assert_eq!(outcome(stream), Some(ErrorCode::Cancelled));
    let stream = start(&fixture);
    fixture.database.cancel_all();
    assert_eq!(outcome(stream), Some(ErrorCode::Cancelled));
    let stream = start(&fixture);
    assert!(fixture.database.close_session(fixture.root.id()));
    assert_eq!(outcome(stream), Some(ErrorCode::Cancelled));
}

#[test]
fn a_load_ends_when_it_is_cancelled_until_its_commit_is_submitted() {
    let fixture = Fixture::new();
    fixture.run(&["CREATE TABLE t (id BIGINT PRIMARY KEY)", "INSERT INTO t VALUES (-1)"]);
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
    // So many, and out of order, that they are merged and looked up when all of them are there.
    let parts = (0..8).rev().map({
        let schema = Arc::clone(&schema);
        move |part| {
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(part * 10_000..(part + 1) * 10_000));
            Ok(RecordBatch::try_new(Arc::clone(&schema), vec![ids]).expect("fits"))
        }
    });
    let request = || IngestRequest {
        namespace: None,
        table: "t".to_owned(),
        if_not_exists: IfNotExists::Fail,
        if_exists: IfExists::Append,
        table_type: None,
        primary_key: None,
        on_conflict: None,
        table_options: BTreeMap::new(),
    };
    let database = Arc::clone(&fixture.database);
    let cancelled = poll_fn(move |_| {
        database.cancel_all();
        Poll::Ready(None)
    });
    let load = |batches| {
        fixture
            .database
            .ingest(&fixture.root, request(), Arc::clone(&schema), batches)
    };
    let outcome = fixture.block_on(load(stream::iter(parts.clone()).chain(cancelled).boxed()));
    assert_eq!(outcome.map_err(|error| error.code), Err(ErrorCode::Cancelled));
    fixture.check("SELECT count(*) FROM t", &["1"]);
    assert_eq!(fixture.block_on(load(stream::iter(parts).boxed())), Ok(80_000));
    fixture.check("SELECT count(*) FROM t", &["80001"]);
}

#[test]
fn the_role_of_now_decides_who_cancels() {
    let fixture = Fixture::new();
    fixture.run(&["CREATE USER 'ann' ROLE user", "CREATE USER 'dan' ROLE dba"]);
    let (ann, dan) = (fixture.session("ann"), fixture.session("dan"));
    fixture.run(&["ALTER USER 'ann' SET ROLE dba", "ALTER USER 'dan' SET ROLE user"]);
    let stream = start(&fixture);
    let kill = format!("KILL QUERY '{}'", stream.query_id());
    fixture.check_error_as(
        &dan,
        &kill,
        Parameters::none(),
        ErrorCode::NotFound,
        Some((1, 12)),
        "system.queries",
    );
    let killed = fixture.execute_as(&ann, &kill, Parameters::none());
    assert!(killed.is_ok(), "{killed:?}");
}

#[test]
fn queries_are_counted_by_how_they_ended() {
    let fixture = Fixture::new();
    fixture.run(&["SELECT 1", "SELECT 2"]);
    fixture.check_error("SELECT nothing", ErrorCode::ColumnNotFound, Some((1, 8)), "nothing");
    let stream = start(&fixture);
    let query_id = stream.query_id().to_owned();
    drop(stream);
    finished(&fixture, &query_id);
    assert_eq!(
        fixture.database.ended_queries(),
        [("finished", 2), ("failed", 1), ("cancelled", 1)]
    );
}

#[test]
fn sessions_are_counted_found_and_expire() {
    let fixture = Fixture::with(|options| {
        options.max_sessions = 2;
        options.session_idle_seconds = 60;
    });
    let second = fixture.session("root");
    let view = fixture.database.engine().view();
    let user = fixture
        .database
        .engine()
        .user(&view, "root")
        .expect("readable")
        .expect("there");
    let third = fixture.database.open_session(&user, SessionOrigin::default());
    assert_eq!(third.err().map(|error| error.code), Some(ErrorCode::TooManyRequests));
    assert_eq!(fixture.database.session_count(), 2);
    fixture.clock.advance_micros(59_000_000);
    assert!(fixture.database.find_session(second.id()).is_some());
    fixture.clock.advance_micros(2_000_000);
    fixture.block_on(fixture.database.tend()).expect("nothing fails");
    assert!(fixture.database.find_session(second.id()).is_some(), "active 2 s ago");
    assert!(
        fixture.database.find_session(fixture.root.id()).is_none(),
        "idle for 61 s"
    );
    assert!(fixture.database.close_session(second.id()) && !fixture.database.close_session(second.id()));
}

#[test]
fn who_takes_all_sessions_keeps_nobody_out_who_can_end_them() {
    let fixture = Fixture::with(|options| options.max_sessions = 20);
    fixture.run(&["CREATE USER 'ann' ROLE service", "CREATE USER 'dan' ROLE dba"]);
    let view = fixture.database.engine().view();
    let open = |name: &str| {
        let user = fixture.database.engine().user(&view, name).expect("readable");
        fixture
            .database
            .open_session(&user.expect("there"), SessionOrigin::default())
    };
    // One is the fixture's own.
    let taken: Vec<_> = (0..17).map(|_| open("ann").expect("there is room")).collect();
    let refused = open("ann").err().expect("the last two are kept");
    assert_eq!(refused.code, ErrorCode::TooManyRequests);
    for words in ["18 sessions are open", "max_sessions", "but for 2 that are kept"] {
        assert!(refused.message.contains(words), "{refused}");
    }
    let dan = open("dan").expect("it is kept for him");
    open("root").expect("one more");
    let refused = open("root").err().expect("that was the last").message;
    assert!(
        refused.contains("20 sessions are open") && !refused.contains("kept"),
        "{refused}"
    );
    let kill = format!("KILL SESSION '{}'", taken[0].id());
    fixture.execute_as(&dan, &kill, Parameters::none()).expect("he may");
    open("root").expect("there is room again");
}

#[test]
fn session_settings_hold_for_its_statements() {
    let fixture = Fixture::new();
    fixture.run(&["CREATE NAMESPACE chat", "CREATE TABLE chat.t (id INT PRIMARY KEY)"]);
    fixture.check_error("SELECT * FROM t", ErrorCode::TableNotFound, Some((1, 15)), "public.t");
    fixture
        .root
        .set_option("schema", Some(SessionValue::String("chat".into())))
        .expect("any text");
    fixture.check("SELECT * FROM t", &[]);
    // Without a zone of the session's own it is that of a column.
    fixture.check(
        "SELECT arrow_typeof(at), at FROM (SELECT TIMESTAMPTZ '2024-01-01 00:00:00+02' AS at)",
        &["Timestamp(ns, \"UTC\")|2023-12-31T22:00:00Z"],
    );
    fixture
        .root
        .set_option("time_zone", Some(SessionValue::String("+02:00".into())))
        .expect("a zone");
    fixture.check(
        "SELECT TIMESTAMP WITH TIME ZONE '2024-01-01 00:00:00'",
        &["2023-12-31T22:00:00Z"],
    );
    fixture
        .root
        .set_option("statement_timeout", Some(SessionValue::Int64(50)))
        .expect("a number");
    let endless =
        "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b WHERE a.value + b.value = 1";
    fixture.check_error(endless, ErrorCode::Timeout, None, "50 ms");
    let other = Arc::clone(&fixture.session("root"));
    assert_eq!(
        fixture.rows_as(&other, "SELECT count(*) FROM chat.t", Parameters::none()),
        ["0"]
    );
}
