//! Loads as they are asked for: what they make, match, refuse and leave.

use arrow::array::Int64Array;

use super::*;

#[test]
fn chunks_cover_a_batch_once() {
    let check = |rows: usize| {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![7; rows]));
        let batch = RecordBatch::try_from_iter([("a", values)]).expect("a batch");
        let mut next = 0;
        for (offset, length) in chunks(&batch) {
            assert_eq!(offset, next);
            assert!(length > 0 && length * 8 <= CHUNK_BYTES);
            next += length;
        }
        assert_eq!(next, rows);
    };
    [0, 1, 1_000, 524_288, 524_289, 2_000_000].into_iter().for_each(check);
}

use std::sync::Arc;

use arrow::array::{Decimal128Array, Float64Array, StringArray, StringViewArray, UInt8Array};
use futures::stream;

use crate::parameters::Parameters;
use crate::testing::Fixture;

fn request(table: &str) -> IngestRequest {
    IngestRequest {
        namespace: None,
        table: table.into(),
        if_not_exists: IfNotExists::Create,
        if_exists: IfExists::Append,
        table_type: None,
        primary_key: None,
        on_conflict: None,
        table_options: BTreeMap::new(),
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, values)| (name, values, true)))
        .expect("a batch")
}

fn ints(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

fn texts(values: Vec<&str>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

fn load(
    fixture: &Fixture,
    session: &Arc<Session>,
    request: IngestRequest,
    batches: Vec<Result<RecordBatch>>,
) -> Result<u64> {
    let schema = batches.iter().flatten().next().expect("a batch").schema();
    fixture.block_on(
        fixture
            .database
            .ingest(session, request, schema, Box::pin(stream::iter(batches))),
    )
}

#[track_caller]
fn check_error(outcome: Result<u64>, code: ErrorCode, part: &str) {
    let error = outcome.expect_err("it is refused");
    assert_eq!(error.code, code, "{error}");
    assert!(error.message.contains(part), "{error}");
}

#[test]
fn a_load_makes_adds_and_replaces() {
    let fixture = Fixture::new();
    let root = &fixture.root;
    let keyed = IngestRequest {
        primary_key: Some(vec!["k".into()]),
        ..request("t")
    };
    let rows = |from: i64| {
        Ok(batch(vec![
            ("v", texts(vec!["a", "b"])),
            ("k", ints(vec![from, from + 1])),
        ]))
    };
    let failing = IngestRequest {
        if_not_exists: IfNotExists::Fail,
        ..keyed.clone()
    };
    check_error(
        load(&fixture, root, failing, vec![rows(1)]),
        ErrorCode::TableNotFound,
        "public.t",
    );
    assert_eq!(load(&fixture, root, keyed.clone(), vec![rows(1), rows(3)]), Ok(4));
    fixture.check("DESCRIBE t", &["v|TEXT|true|NULL|NULL", "k|BIGINT|false|NULL|1"]);
    assert_eq!(load(&fixture, root, keyed.clone(), vec![rows(5)]), Ok(2));
    fixture.check("SELECT count(*), max(k) FROM t", &["6|6"]);
    let exists = IngestRequest {
        if_exists: IfExists::Fail,
        ..keyed.clone()
    };
    check_error(
        load(&fixture, root, exists, vec![rows(1)]),
        ErrorCode::AlreadyExists,
        "public.t",
    );
    let other_key = IngestRequest {
        primary_key: Some(vec!["v".into()]),
        ..request("t")
    };
    check_error(
        load(&fixture, root, other_key, vec![rows(7)]),
        ErrorCode::InvalidArgument,
        "primary key",
    );
    let replaced = IngestRequest {
        if_exists: IfExists::Replace,
        ..request("t")
    };
    assert_eq!(
        load(&fixture, root, replaced, vec![Ok(batch(vec![("x", ints(vec![9]))]))]),
        Ok(1)
    );
    fixture.check("SELECT * FROM t", &["9"]);
    let absent = IngestRequest {
        namespace: Some("nowhere".into()),
        ..request("t")
    };
    check_error(
        load(&fixture, root, absent, vec![rows(1)]),
        ErrorCode::NamespaceNotFound,
        "nowhere",
    );
    let unkeyed = IngestRequest {
        primary_key: Some(vec!["kk".into()]),
        ..request("u")
    };
    check_error(
        load(&fixture, root, unkeyed, vec![rows(1)]),
        ErrorCode::ColumnNotFound,
        "did you mean k",
    );
}

#[test]
fn a_time_zone_is_one() {
    let fixture = Fixture::new();
    fixture.run(&["CREATE TABLE there (at TIMESTAMP WITH TIME ZONE)"]);
    let stamps = |zone: &str| {
        let stamps: ArrayRef =
            Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![0]).with_timezone(zone.to_owned()));
        vec![Ok(batch(vec![("at", stamps)]))]
    };
    for table in ["made", "there"] {
        check_error(
            load(&fixture, &fixture.root, request(table), stamps("Mars/Phobos")),
            ErrorCode::InvalidArgument,
            "'Mars/Phobos'",
        );
        for zone in ["UTC", "Europe/Paris", "+02:00"] {
            let table = format!("{table}{}", if table == "there" { "" } else { zone });
            assert_eq!(
                load(&fixture, &fixture.root, request(&table), stamps(zone)),
                Ok(1),
                "{zone}"
            );
        }
    }
    fixture.check("SELECT count(*) FROM there", &["3"]);
}

#[test]
fn a_load_is_exact_as_any_write() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (p DECIMAL(10, 2), r REAL, at TIMESTAMP WITH TIME ZONE)",
        "SET time_zone = 'Europe/Warsaw'",
    ]);
    let one = |name: &str, values: ArrayRef| {
        load(
            &fixture,
            &fixture.root,
            request("t"),
            vec![Ok(batch(vec![(name, values)]))],
        )
    };
    let decimal = |value: i128| -> ArrayRef {
        let array = Decimal128Array::from(vec![value]).with_precision_and_scale(10, 3);
        Arc::new(array.expect("valid"))
    };
    let double = |value: f64| -> ArrayRef { Arc::new(Float64Array::from(vec![value])) };
    for (name, values, part) in [
        ("p", decimal(1_005), "1.005"),
        ("p", double(1.005), "1.005"),
        ("p", texts(vec!["1.005"]), "1.005"),
        ("r", double(1e300), "column r (REAL)"),
        ("at", texts(vec!["2026-10-25 02:30:00"]), "2026-10-25 02:30:00"),
    ] {
        check_error(one(name, values), ErrorCode::TypeMismatch, part);
    }
    for (name, values) in [
        ("p", decimal(1_250)),
        ("p", double(1.25)),
        ("r", double(f64::INFINITY)),
        ("at", texts(vec!["2026-01-01 12:00:00"])),
    ] {
        assert_eq!(one(name, values), Ok(1), "{name}");
    }
    fixture.check(
        "SELECT sum(p), max(r), max(at) FROM t",
        &["2.50|inf|2026-01-01T11:00:00Z"],
    );
}

#[test]
fn a_load_fits_the_columns_that_are_there() {
    let fixture = Fixture::new();
    let root = &fixture.root;
    fixture.run(&["CREATE TABLE t (k BIGINT PRIMARY KEY, \"Name\" TEXT, n TINYINT DEFAULT 7, u TEXT DEFAULT CURRENT_USER, must INT NOT NULL DEFAULT 1)"]);
    let views: ArrayRef = Arc::new(StringViewArray::from(vec!["a long text that is no inline view", "b"]));
    let small: ArrayRef = Arc::new(UInt8Array::from(vec![1, 2]));
    assert_eq!(
        load(
            &fixture,
            root,
            request("t"),
            vec![Ok(batch(vec![("NAME", views), ("K", small)]))]
        ),
        Ok(2)
    );
    fixture.check(
        "SELECT * FROM t ORDER BY k",
        &["1|a long text that is no inline view|7|root|1", "2|b|7|root|1"],
    );
    let one = |name, values: ArrayRef| {
        load(
            &fixture,
            root,
            request("t"),
            vec![Ok(batch(vec![("k", ints(vec![10])), (name, values)]))],
        )
    };
    check_error(
        one("nam", texts(vec!["x"])),
        ErrorCode::ColumnNotFound,
        "did you mean Name",
    );
    check_error(one("n", ints(vec![1_000])), ErrorCode::TypeMismatch, "1000");
    check_error(
        one("K", ints(vec![1])),
        ErrorCode::InvalidArgument,
        "both for column 'k'",
    );
    let null: ArrayRef = Arc::new(Int64Array::from(vec![None::<i64>]));
    check_error(one("must", null), ErrorCode::NotNullViolation, "must");
    let keyless = load(
        &fixture,
        root,
        request("t"),
        vec![Ok(batch(vec![("n", ints(vec![1]))]))],
    );
    check_error(keyless, ErrorCode::NotNullViolation, "'k'");
    fixture.check("SELECT count(*) FROM t", &["2"]);
}

#[test]
fn a_load_that_fails_leaves_nothing() {
    let fixture = Fixture::new();
    let root = &fixture.root;
    let rows = |from: i64| Ok(batch(vec![("k", ints(vec![from, from + 1]))]));
    let keyed = |on_conflict| IngestRequest {
        primary_key: Some(vec!["k".into()]),
        on_conflict,
        ..request("t")
    };
    let broken = || Err(Error::new(ErrorCode::InvalidRequest, "the client went away"));
    check_error(
        load(&fixture, root, keyed(None), vec![rows(1), broken()]),
        ErrorCode::InvalidRequest,
        "went away",
    );
    fixture.check_error("DESCRIBE t", ErrorCode::TableNotFound, Some((1, 10)), "public.t");
    assert_eq!(load(&fixture, root, keyed(None), vec![rows(1)]), Ok(2));
    check_error(
        load(&fixture, root, keyed(None), vec![rows(10), rows(2)]),
        ErrorCode::DuplicateKey,
        "k",
    );
    check_error(
        load(&fixture, root, keyed(None), vec![rows(20), broken()]),
        ErrorCode::InvalidRequest,
        "went away",
    );
    fixture.check("SELECT k FROM t ORDER BY k", &["1", "2"]);
    load(&fixture, root, keyed(Some(OnConflict::Ignore)), vec![rows(2)]).expect("what is there stays");
    fixture.run(&["SET ingest.on_conflict = 'replace'"]);
    load(&fixture, root, keyed(None), vec![rows(3)]).expect("the session's option stands in");
    fixture.check("SELECT k FROM t ORDER BY k", &["1", "2", "3", "4"]);
}

#[test]
fn no_load_writes_system_tables() {
    let fixture = Fixture::new();
    for if_exists in [IfExists::Append, IfExists::Replace] {
        for (namespace, table) in [
            ("system", "users"),
            ("system", "queries"),
            ("information_schema", "tables"),
        ] {
            let request = IngestRequest {
                namespace: Some(namespace.into()),
                if_exists,
                ..request(table)
            };
            let rows = vec![Ok(batch(vec![("nothing", ints(vec![1]))]))];
            let refused = load(&fixture, &fixture.root, request, rows).expect_err("it is refused");
            assert!(
                [ErrorCode::InvalidStatement, ErrorCode::InvalidArgument].contains(&refused.code),
                "{namespace}.{table}: {refused}"
            );
            assert!(
                refused.message.contains(table) || refused.message.contains(namespace),
                "{refused}"
            );
        }
    }
}

#[test]
fn a_load_needs_its_rights_and_stays_in_its_scope() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE USER 'ann' ROLE user",
        "CREATE TABLE shared (k BIGINT)",
        "SET ingest.table_type = 'USER'",
    ]);
    let ann = fixture.session("ann");
    let rows = || vec![Ok(batch(vec![("k", ints(vec![1]))]))];
    assert_eq!(load(&fixture, &fixture.root, request("own"), rows()), Ok(1));
    assert_eq!(load(&fixture, &ann, request("own"), rows()), Ok(1));
    assert_eq!(load(&fixture, &ann, request("own"), rows()), Ok(1));
    assert_eq!(
        fixture.rows_as(&ann, "SELECT count(*) FROM own", Parameters::none()),
        ["2"]
    );
    fixture.check("SELECT count(*) FROM own", &["1"]);
    check_error(
        load(&fixture, &ann, request("new"), rows()),
        ErrorCode::PermissionDenied,
        "",
    );
    assert!(load(&fixture, &ann, request("shared"), rows()).is_err());
    fixture.check("SELECT count(*) FROM shared", &["0"]);
    let stream = IngestRequest {
        table_type: Some(TableKind::Stream),
        ..request("s")
    };
    check_error(
        load(&fixture, &fixture.root, stream.clone(), rows()),
        ErrorCode::InvalidArgument,
        "TTL_SECONDS",
    );
    let options = BTreeMap::from([("ttl_seconds".to_string(), "60".to_string())]);
    assert_eq!(
        load(
            &fixture,
            &fixture.root,
            IngestRequest {
                table_options: options,
                ..stream
            },
            rows()
        ),
        Ok(1)
    );
}
