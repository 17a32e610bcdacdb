//! The HTTP door's contract: JSON and Arrow, several statements, parameters, statuses.

use std::io::Cursor;

use arrow::datatypes::DataType;
use arrow::ipc::reader::StreamReader;
use kalamdb_tests::{Http, Server};
use serde_json::{Value, json};

#[test]
fn values_in_json() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let http = server.http_root();
    let check = |expression: &str, expected: Value| {
        let reply = http.sql(&format!("SELECT {expression} AS v"));
        let body = reply.json();
        assert_eq!(reply.status, 200, "{expression}: {body}");
        assert_eq!(body["results"][0]["rows"], json!([[expected]]), "{expression}: {body}");
        assert_eq!(body["results"][0]["columns"][0]["name"], "v");
        assert_eq!(body["results"][0]["row_count"], 1);
    };
    check("1", json!(1));
    check("9223372036854775807", json!(9_223_372_036_854_775_807_i64));
    check(
        "arrow_cast(18446744073709551615, 'UInt64')",
        json!(18_446_744_073_709_551_615_u64),
    );
    check("1.5::DOUBLE", json!(1.5));
    check(
        "CAST('12345678901234567890.0123456789' AS DECIMAL(38,10))",
        json!("12345678901234567890.0123456789"),
    );
    check("DATE '2026-01-02'", json!("2026-01-02"));
    check("true", json!(true));
    check("NULL", Value::Null);
    check("'żółw \"x\"'", json!("żółw \"x\""));
    check("X'00ff'", json!("AP8="));
    check("[1, 2, NULL]", json!([1, 2, null]));
    check("{'a': 1, 'b': 'x'}", json!({"a": 1, "b": "x"}));
    let body = http
        .sql("SELECT TIMESTAMP '2026-01-02 03:04:05.678' AS v, TIME '03:04:05' AS t")
        .json();
    let row = &body["results"][0]["rows"][0];
    assert!(
        row[0]
            .as_str()
            .is_some_and(|text| text.starts_with("2026-01-02") && text.contains("03:04:05.678")),
        "{body}"
    );
    assert!(
        row[1].as_str().is_some_and(|text| text.starts_with("03:04:05")),
        "{body}"
    );
    server.terminate();
}

#[test]
fn statements_run_in_order_in_one_session_and_stop_at_the_first_error() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let http = server.http_root();
    let reply = http.sql(
        "CREATE NAMESPACE app; USE app; CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT);\n\
         INSERT INTO t VALUES (1, 'a;b'), (2, '--'); -- a comment; with a semicolon\n\
         SELECT * FROM t ORDER BY id;",
    );
    let body = reply.json();
    assert_eq!((reply.status, &body["status"]), (200, &json!("success")), "{body}");
    let results = body["results"].as_array().expect("a list");
    assert_eq!(results.len(), 5, "{body}");
    assert_eq!(results[3]["row_count"], 2);
    assert!(results[3]["message"].is_string(), "{body}");
    assert_eq!(results[4]["rows"], json!([[1, "a;b"], [2, "--"]]));
    assert!(body["execution_time_ms"].is_number());

    let reply = http.sql(
        "INSERT INTO app.t VALUES (3, 'c'); INSERT INTO app.t VALUES (1, 'again'); INSERT INTO app.t VALUES (4, 'd')",
    );
    let body = reply.json();
    assert_eq!((reply.status, &body["status"]), (409, &json!("error")), "{body}");
    assert_eq!(
        body["results"].as_array().map(Vec::len),
        Some(1),
        "the results so far: {body}"
    );
    assert_eq!(body["error"]["code"], "DUPLICATE_KEY");
    let body = http.sql("SELECT id FROM app.t ORDER BY id").json();
    assert_eq!(
        body["results"][0]["rows"],
        json!([[1], [2], [3]]),
        "each statement is atomic for itself: {body}"
    );

    // The session ends with the request.
    let body = http.sql("SELECT count(*) FROM t").json();
    assert_eq!(body["error"]["code"], "TABLE_NOT_FOUND", "{body}");
    server.terminate();
}

#[test]
fn parameters() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let http = server.http_root();
    http.sql("CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT, d DECIMAL(38,10), b BYTEA, at TIMESTAMP)");
    let reply = http.sql_with(
        "INSERT INTO t VALUES ($1, $2, $3, $4, $5)",
        &json!([
            9_223_372_036_854_775_807_i64,
            "it's; $1 ?",
            "12345678901234567890.0123456789",
            "AP8=",
            "2026-01-02T03:04:05"
        ]),
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
    let reply = http.sql_with("INSERT INTO t (id, v) VALUES (?, ?)", &json!([1, null]));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let body = http
        .sql_with(
            "SELECT id, v, d, b FROM t WHERE id = $1",
            &json!([9_223_372_036_854_775_807_i64]),
        )
        .json();
    let expected = json!([[
        9_223_372_036_854_775_807_i64,
        "it's; $1 ?",
        "12345678901234567890.0123456789",
        "AP8="
    ]]);
    assert_eq!(body["results"][0]["rows"], expected, "{body}");
    // Parameters stay values: text is no SQL.
    let body = http
        .sql_with("SELECT count(*) FROM t WHERE v = $1", &json!(["x' OR '1'='1"]))
        .json();
    assert_eq!(body["results"][0]["rows"], json!([[0]]), "{body}");
    for (sql, params) in [
        ("SELECT $1", json!([])),
        ("SELECT 1", json!([1])),
        ("INSERT INTO t (id) VALUES ($1)", json!(["x"])),
        ("INSERT INTO t (id) VALUES ($1)", json!([1.5])),
    ] {
        let reply = http.sql_with(sql, &params);
        assert_eq!(reply.status, 400, "{sql} {params}: {}", reply.text());
    }
    assert_eq!(
        http.sql("SELECT count(*) FROM t").json()["results"][0]["rows"],
        json!([[2]])
    );
    server.terminate();
}

#[test]
fn arrow_streams() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let http = server.http_root();
    let reply = http.sql_arrow("SELECT value AS id, 'row ' || value AS name FROM generate_series(1, 100000)");
    assert_eq!(
        (reply.status, reply.content_type.as_str()),
        (200, "application/vnd.apache.arrow.stream")
    );
    let reader = StreamReader::try_new(Cursor::new(reply.body), None).expect("an Arrow stream");
    assert_eq!(reader.schema().field(1).data_type(), &DataType::Utf8);
    let rows: usize = reader.map(|batch| batch.expect("a whole stream").num_rows()).sum();
    assert_eq!(rows, 100_000);
    // An empty result has its schema.
    let reply = http.sql_arrow("SELECT 1 AS one WHERE false");
    let reader = StreamReader::try_new(Cursor::new(reply.body), None).expect("an Arrow stream");
    assert_eq!(reader.schema().field(0).name(), "one");
    // An error before the first row is an error, not a stream.
    let reply = http.sql_arrow("SELECT * FROM nothing");
    assert_eq!(reply.status, 404, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "TABLE_NOT_FOUND");
    server.terminate();
}

#[test]
fn requests_that_are_no_statements() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let http = server.http_root();
    for body in [
        "",
        "{",
        "[]",
        "{}",
        "{\"sql\": 1}",
        "{\"sql\": \"SELECT 1\", \"parms\": []}",
        "{\"sql\": \"SELECT 1\", \"params\": 7}",
        "{\"sql\": \"\"}",
    ] {
        let reply = http.post("/api/sql", None, body.as_bytes());
        assert_eq!(reply.status, 400, "{body}: {}", reply.text());
        assert!(reply.json()["error"]["message"].is_string(), "{body}: {}", reply.text());
    }
    assert_eq!(http.get("/api/sql").status, 405);
    assert_eq!(http.get("/nothing").status, 404);
    let metrics = Http::anonymous(server.http).get("/metrics").text();
    for name in [
        "kalamdb_commits_total",
        "kalamdb_log_syncs_total",
        "kalamdb_sessions",
        "kalamdb_queries_running",
        "kalamdb_queries_total{status=\"finished\"}",
        "kalamdb_queries_total{status=\"failed\"}",
        "kalamdb_queries_total{status=\"cancelled\"}",
    ] {
        assert!(metrics.contains(name), "{name} is not in:\n{metrics}");
    }
    server.terminate();
}
