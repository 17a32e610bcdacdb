//! Bad input: each has its own code, the right status, a message that helps, and leaves the data as it was.

use kalamdb_tests::{Client, Server, SqlError};
use tonic::Code;

use crate::batches::{batch, int64, text};

mod ingests;
mod messages;
mod writes;

struct Fixture {
    server: Server,
    root: Client,
    before: Vec<Vec<Vec<String>>>,
    _directory: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let server = Server::start(directory.path());
        let mut root = server.root().await;
        root.ok("CREATE TABLE items (id BIGINT PRIMARY KEY, name TEXT NOT NULL, amount INTEGER)")
            .await;
        root.ok("INSERT INTO items VALUES (1, 'one', 10), (2, 'two', 20)").await;
        let before = everything(&mut root).await;
        Fixture {
            server,
            root,
            before,
            _directory: directory,
        }
    }

    /// Nothing has changed, and the server is in order.
    async fn check_unchanged(mut self) {
        assert_eq!(everything(&mut self.root).await, self.before);
        self.server.terminate();
    }
}

async fn everything(root: &mut Client) -> Vec<Vec<Vec<String>>> {
    let mut found = Vec::new();
    for sql in [
        "SELECT *, _seq FROM items ORDER BY id",
        "SELECT table_id, table_name, schema_version, updated_at FROM system.tables ORDER BY table_id",
        "SELECT * FROM system.users ORDER BY user_id",
        "SELECT * FROM system.namespaces ORDER BY namespace_id",
    ] {
        found.push(root.ok(sql).await);
    }
    found
}

/// SQL, the product's code, the gRPC status, the HTTP status, words of the message.
const STATEMENTS: &[(&str, &str, Code, u16, &[&str])] = &[
    (
        "SELEC 1",
        "SYNTAX_ERROR",
        Code::InvalidArgument,
        400,
        &["line 1, column 1"],
    ),
    (
        "SELECT *\n  FROM items WHERE",
        "SYNTAX_ERROR",
        Code::InvalidArgument,
        400,
        &["line 2, column 19"],
    ),
    (
        "SELECT * FROM itemz",
        "TABLE_NOT_FOUND",
        Code::NotFound,
        404,
        &["itemz", "items", "line 1, column 15"],
    ),
    (
        "SELECT * FROM nowhere.items",
        "NOT_FOUND",
        Code::NotFound,
        404,
        &["nowhere"],
    ),
    (
        "SELECT nam FROM items",
        "COLUMN_NOT_FOUND",
        Code::NotFound,
        404,
        &["nam", "name", "line 1, column 8"],
    ),
    (
        "SELECT id\nFROM items\nWHERE amuont > 1",
        "COLUMN_NOT_FOUND",
        Code::NotFound,
        404,
        &["amuont", "amount", "line 3, column 7"],
    ),
    (
        "SELECT name || nam FROM items",
        "COLUMN_NOT_FOUND",
        Code::NotFound,
        404,
        &["nam", "name", "line 1, column 16"],
    ),
    (
        "SELECT id\nFROM items\nWHERE -amuont > 1",
        "COLUMN_NOT_FOUND",
        Code::NotFound,
        404,
        &["amuont", "amount", "line 3, column 8"],
    ),
    (
        "SELECT * EXCLUDE (nam) FROM items",
        "COLUMN_NOT_FOUND",
        Code::NotFound,
        404,
        &["nam", "name", "line 1, column 19"],
    ),
    (
        "DELETE FROM items WHERE NOT nam",
        "COLUMN_NOT_FOUND",
        Code::NotFound,
        404,
        &["nam", "name", "line 1, column 29"],
    ),
    (
        "INSERT INTO items VALUES (3, 'x', 'many')",
        "TYPE_MISMATCH",
        Code::InvalidArgument,
        400,
        &["amount"],
    ),
    (
        "INSERT INTO items VALUES (3, 'x', 3000000000)",
        "TYPE_MISMATCH",
        Code::InvalidArgument,
        400,
        &["amount"],
    ),
    (
        "INSERT INTO items VALUES (3, NULL, 1)",
        "NOT_NULL_VIOLATION",
        Code::InvalidArgument,
        400,
        &["name"],
    ),
    (
        "INSERT INTO items VALUES (3, 'x', 1), (2, 'x', 1), (4, 'x', 1)",
        "DUPLICATE_KEY",
        Code::AlreadyExists,
        409,
        &["items", "id"],
    ),
    (
        "UPDATE items SET id = 2 WHERE id = 1",
        "DUPLICATE_KEY",
        Code::AlreadyExists,
        409,
        &["items"],
    ),
    (
        "CREATE TABLE items (id BIGINT PRIMARY KEY)",
        "ALREADY_EXISTS",
        Code::AlreadyExists,
        409,
        &["items"],
    ),
    (
        "DROP NAMESPACE public",
        "DEPENDENT_OBJECTS",
        Code::FailedPrecondition,
        409,
        &["public"],
    ),
    ("DROP USER 'nobody'", "USER_NOT_FOUND", Code::NotFound, 404, &["nobody"]),
    (
        "CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT UNIQUE)",
        "INVALID_STATEMENT",
        Code::InvalidArgument,
        400,
        &["UNIQUE"],
    ),
    (
        "CREATE TABLE t (id BIGINT PRIMARY KEY, v INT CHECK (v > 0))",
        "INVALID_STATEMENT",
        Code::InvalidArgument,
        400,
        &["CHECK"],
    ),
    (
        "CREATE TABLE t (id BIGINT PRIMARY KEY) WITH (ACCESLEVEL = 'public')",
        "INVALID_ARGUMENT",
        Code::InvalidArgument,
        400,
        &["ACCESLEVEL", "ACCESS_LEVEL"],
    ),
    (
        "MERGE INTO items USING items AS s ON items.id = s.id WHEN MATCHED THEN DELETE",
        "UNSUPPORTED",
        Code::Unimplemented,
        400,
        &["MERGE"],
    ),
    (
        "COPY items TO '/tmp/x.csv'",
        "UNSUPPORTED",
        Code::Unimplemented,
        400,
        &["COPY"],
    ),
    (
        "KILL QUERY 'no-such-query'",
        "NOT_FOUND",
        Code::NotFound,
        404,
        &["no-such-query"],
    ),
    ("SELECT 1 / 0", "INVALID_ARGUMENT", Code::InvalidArgument, 400, &["ivi"]),
    (
        "SELECT CAST('abc' AS INTEGER)",
        "TYPE_MISMATCH",
        Code::InvalidArgument,
        400,
        &["abc"],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_statements_have_their_code_on_every_way_in() {
    let mut fixture = Fixture::new().await;
    let http = fixture.server.http_root();
    let mut wrong = Vec::new();
    for &(sql, code, grpc, status, words) in STATEMENTS {
        let check = |wrong: &mut Vec<String>, way: &str, error: SqlError| {
            let found = error.code() == code || (code == "NOT_FOUND" && error.code().ends_with("_NOT_FOUND"));
            let missing: Vec<_> = words.iter().filter(|word| !error.message.contains(**word)).collect();
            if !found || error.grpc != grpc || !missing.is_empty() {
                wrong.push(format!(
                    "{way}: {sql}\n   want {code}, {grpc:?}, {words:?}\n   got  {error}"
                ));
            }
        };
        check(&mut wrong, "query", fixture.root.error(sql).await);
        match fixture.root.update(sql).await {
            Ok(count) => wrong.push(format!("update: {sql}\n   ran, {count} rows")),
            // DoPut of a query is an error of its own kind.
            Err(_) if sql.starts_with("SELECT") => {}
            Err(error) => check(&mut wrong, "update", error),
        }
        match fixture.root.flight.prepare(sql.to_owned(), None).await {
            // What only shows when it runs may be prepared.
            Ok(prepared) => prepared.close().await.expect("it can be closed"),
            Err(error) => check(&mut wrong, "prepare", SqlError::from(error)),
        }
        let reply = http.sql(sql);
        let body = reply.json();
        let message = body["error"]["message"].as_str().unwrap_or_default();
        let http_code = body["error"]["code"].as_str().unwrap_or_default();
        let found = http_code == code || (code == "NOT_FOUND" && http_code.ends_with("_NOT_FOUND"));
        let details = &body["error"]["details"];
        let place = format!("line {}, column {}", details["line"], details["column"]);
        let missing = words
            .iter()
            .any(|word| !(message.contains(*word) || word.starts_with("line ") && place == *word));
        if reply.status != status || !found || missing || body["status"] != "error" {
            wrong.push(format!(
                "HTTP: {sql}\n   want {status}, {code}, {words:?}\n   got  {} {body}",
                reply.status
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    fixture.check_unchanged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_passwords() {
    let fixture = Fixture::new().await;
    for (user, password) in [("root", "wrong"), ("nobody", "wrong"), ("root", ""), ("", "")] {
        let error = Client::login(fixture.server.flight, user, password)
            .await
            .err()
            .expect("it is wrong");
        assert_eq!(
            (error.grpc, error.code()),
            (Code::Unauthenticated, "UNAUTHENTICATED"),
            "{user:?}: {error}"
        );
    }
    fixture.check_unchanged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_in_the_middle_leaves_nothing_in_any_type_of_table() {
    let mut fixture = Fixture::new().await;
    for (name, kind) in [
        (
            "shared_items",
            "SHARED TABLE shared_items (id BIGINT PRIMARY KEY, name TEXT)",
        ),
        ("own_items", "USER TABLE own_items (id BIGINT PRIMARY KEY, name TEXT)"),
        (
            "live_items",
            "STREAM TABLE live_items (id BIGINT PRIMARY KEY, name TEXT) WITH (TTL_SECONDS = 3600)",
        ),
    ] {
        fixture.root.ok(&format!("CREATE {kind}")).await;
        fixture.root.ok(&format!("INSERT INTO {name} VALUES (2, 'two')")).await;
        for rows in ["(1, 'a'), (2, 'b'), (3, 'c')", "(4, 'a'), (5, 'b'), (4, 'c'), (6, 'd')"] {
            let error = fixture.root.error(&format!("INSERT INTO {name} VALUES {rows}")).await;
            assert_eq!(error.code(), "DUPLICATE_KEY", "{name}, {rows}: {error}");
            assert!(error.message.contains(name), "{error}");
        }
        let found = fixture.root.ok(&format!("SELECT id, name FROM {name}")).await;
        assert_eq!(found, [["2", "two"]], "{name}");
        fixture.root.ok(&format!("DROP TABLE {name}")).await;
    }
    fixture.check_unchanged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_are_too_large() {
    let mut fixture = Fixture::new().await;
    let statement = |bytes: usize| format!("INSERT INTO items VALUES (3, '{}', 1)", "x".repeat(bytes));
    for size in [17 << 20, 100_000_000] {
        let sql = statement(size);
        for (way, error) in [
            ("query", fixture.root.run(&sql).await.err()),
            ("update", fixture.root.update(&sql).await.err()),
            (
                "prepare",
                fixture
                    .root
                    .flight
                    .prepare(sql.clone(), None)
                    .await
                    .err()
                    .map(SqlError::from),
            ),
        ] {
            let error = error.unwrap_or_else(|| panic!("{way}: a statement of {size} bytes ran"));
            let (grpc, code) = (error.grpc, error.code());
            assert_eq!(
                (grpc, code),
                (Code::ResourceExhausted, "STATEMENT_TOO_LARGE"),
                "{way}, {size}: {error}"
            );
        }
        let reply = fixture.server.http_root().sql(&sql);
        assert_eq!(reply.status, 413, "{size}: {}", reply.text());
        assert_eq!(reply.json()["error"]["code"], "STATEMENT_TOO_LARGE", "{size}");
    }
    fixture.check_unchanged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_that_do_not_fit() {
    let mut fixture = Fixture::new().await;
    let insert = "INSERT INTO items VALUES ($1, $2, $3)";
    let cases = [
        (
            "too few",
            batch(vec![("1", int64([3]))]),
            &["INVALID_ARGUMENT", "INVALID_STATEMENT"][..],
        ),
        (
            "too many",
            batch(vec![
                ("1", int64([3])),
                ("2", text(["x"])),
                ("3", int64([1])),
                ("4", int64([1])),
            ]),
            &["INVALID_ARGUMENT", "INVALID_STATEMENT"],
        ),
        (
            "text for a number",
            batch(vec![("1", text(["three"])), ("2", text(["x"])), ("3", int64([1]))]),
            &["TYPE_MISMATCH"],
        ),
        (
            "out of range in the second row",
            batch(vec![
                ("1", int64([3, 4])),
                ("2", text(["x", "y"])),
                ("3", int64([1, 3_000_000_000])),
            ]),
            &["TYPE_MISMATCH"],
        ),
        (
            "a duplicate in the middle",
            batch(vec![
                ("1", int64([3, 2, 4])),
                ("2", text(["x", "y", "z"])),
                ("3", int64([1, 1, 1])),
            ]),
            &["DUPLICATE_KEY"],
        ),
    ];
    for (name, rows, codes) in cases {
        let error = fixture.root.update_bound(insert, rows).await.expect_err(name);
        assert!(codes.contains(&error.code()), "{name}: {error}");
    }
    let prepared = fixture
        .root
        .flight
        .prepare(insert.to_owned(), None)
        .await
        .expect("it can be prepared");
    let types: Vec<_> = prepared
        .parameter_schema()
        .expect("it has one")
        .fields()
        .iter()
        .map(|f| f.data_type().clone())
        .collect();
    use arrow::datatypes::DataType;
    assert_eq!(types, [DataType::Int64, DataType::Utf8, DataType::Int32]);
    fixture.check_unchanged().await;
}
