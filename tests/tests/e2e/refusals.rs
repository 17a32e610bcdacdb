//! Bad input: each has its own code, the right status, a message that helps, and leaves the data as it was.

use arrow::array::RecordBatch;
use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, Any, CommandPreparedStatementQuery, CommandStatementQuery, ProstMessageExt,
    TicketStatementQuery,
};
use arrow_flight::sql::{TableExistsOption, TableNotExistOption};
use arrow_flight::{Action, FlightData, FlightDescriptor, Ticket};
use bytes::{Buf, BufMut, Bytes};
use futures::{StreamExt, TryStreamExt};
use kalamdb_tests::{Client, Server, SqlError, eventually};
use prost::Message;
use tonic::Code;

use crate::batches::{batch, ingest_command, int64, payload_rows, text};

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
async fn malformed_tickets() {
    let fixture = Fixture::new().await;
    let mut raw = fixture.root.raw();
    let any = |type_url: &str, value: &[u8]| Any {
        type_url: type_url.into(),
        value: Bytes::copy_from_slice(value),
    };
    let statement = TicketStatementQuery {
        statement_handle: Bytes::from_static(b"not a handle"),
    };
    let tickets = [
        ("empty", Bytes::new()),
        ("text", Bytes::from_static(b"SELECT 1")),
        (
            "random bytes",
            Bytes::from_static(&[0xff, 0xfe, 0x00, 0x80, 0x13, 0x37]),
        ),
        ("a handle of nobody", statement.as_any().encode_to_vec().into()),
        (
            "no protobuf inside",
            any(
                "type.googleapis.com/arrow.flight.protocol.sql.TicketStatementQuery",
                &[0xff; 9],
            )
            .encode_to_vec()
            .into(),
        ),
        (
            "an unknown message",
            any("type.googleapis.com/arrow.flight.protocol.sql.NoSuchTicket", &[])
                .encode_to_vec()
                .into(),
        ),
    ];
    for (name, ticket) in tickets {
        let error = get_error(&fixture.root, &mut raw, ticket).await;
        assert_eq!(error.grpc, Code::InvalidArgument, "{name}: {error}");
        assert!(
            ["INVALID_TICKET", "INVALID_REQUEST"].contains(&error.code()),
            "{name}: {error}"
        );
    }

    // A good ticket, each of its bytes damaged in turn: never an answer, never a crash.
    let descriptor = FlightDescriptor::new_cmd(Bytes::from_static(b"SELECT * FROM items"));
    let info = raw
        .get_flight_info(fixture.root.authorized(descriptor))
        .await
        .expect("a plain descriptor")
        .into_inner();
    let good = info.endpoint[0]
        .ticket
        .clone()
        .expect("an endpoint has a ticket")
        .ticket;
    for at in 0..good.len() {
        let mut damaged = good.to_vec();
        damaged[at] ^= 0x5a;
        let error = get_error(&fixture.root, &mut raw, damaged.into()).await;
        assert!(
            error.grpc != Code::Internal && error.grpc != Code::Unknown,
            "byte {at}: {error}"
        );
    }
    fixture.check_unchanged().await;
}

async fn get_error(
    root: &Client,
    raw: &mut arrow_flight::flight_service_client::FlightServiceClient<tonic::transport::Channel>,
    ticket: Bytes,
) -> SqlError {
    let status = match raw.do_get(root.authorized(Ticket { ticket: ticket.clone() })).await {
        Err(status) => status,
        Ok(reply) => {
            let mut stream = reply.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("the ticket {ticket:?} has an answer"),
                    Err(status) => break status,
                }
            }
        }
    };
    SqlError::from(status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_belong_to_their_principal() {
    let mut fixture = Fixture::new().await;
    // On its own server: a user is one of the things that must stay unchanged in the others.
    fixture
        .root
        .ok("CREATE USER 'ann' WITH PASSWORD 'ann has a long password' ROLE user")
        .await;
    let ann = fixture.server.login("ann", "ann has a long password").await;
    let descriptor = FlightDescriptor::new_cmd(Bytes::from_static(b"SELECT * FROM items"));
    let info = fixture
        .root
        .raw()
        .get_flight_info(fixture.root.authorized(descriptor))
        .await
        .expect("root may")
        .into_inner();
    let ticket = info.endpoint[0]
        .ticket
        .clone()
        .expect("an endpoint has a ticket")
        .ticket;
    let error = get_error(&ann, &mut ann.raw(), ticket).await;
    assert!(
        ["INVALID_TICKET", "PERMISSION_DENIED"].contains(&error.code()),
        "{error}"
    );
    fixture.server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_protobuf() {
    let fixture = Fixture::new().await;
    let mut raw = fixture.root.raw();
    let garbage = |name: &str| Any {
        type_url: format!("type.googleapis.com/arrow.flight.protocol.sql.{name}"),
        value: Bytes::from_static(&[0x0a, 0xff, 0xff, 0xff]),
    };
    for name in [
        "CommandStatementQuery",
        "CommandPreparedStatementQuery",
        "CommandGetTables",
        "CommandGetSqlInfo",
        "CommandGetDbSchemas",
        "CommandStatementUpdate",
        "CommandStatementIngest",
        "NoSuchCommand",
    ] {
        let descriptor = FlightDescriptor::new_cmd(garbage(name).encode_to_vec());
        let info = raw.get_flight_info(fixture.root.authorized(descriptor.clone())).await;
        check(&format!("GetFlightInfo({name})"), info.map(|_| ()));
        let put = FlightData {
            flight_descriptor: Some(descriptor),
            ..FlightData::default()
        };
        let result = raw.do_put(fixture.root.authorized(futures::stream::iter([put]))).await;
        let result = match result {
            Ok(reply) => reply.into_inner().message().await.map(|_| ()),
            Err(status) => Err(status),
        };
        check(&format!("DoPut({name})"), result);
    }
    // No descriptor at all, and one that is neither a command nor text.
    let info = raw
        .get_flight_info(fixture.root.authorized(FlightDescriptor::default()))
        .await;
    check("GetFlightInfo()", info.map(|_| ()));
    let descriptor = FlightDescriptor::new_cmd(Bytes::from_static(&[0xff, 0x00, 0xfe]));
    let info = raw.get_flight_info(fixture.root.authorized(descriptor)).await;
    check("GetFlightInfo(bytes)", info.map(|_| ()));

    for name in ["CreatePreparedStatement", "ClosePreparedStatement", "SetSessionOptions"] {
        let body = Bytes::from_static(&[0x0a, 0xff, 0xff, 0xff]);
        let result = raw
            .do_action(fixture.root.authorized(Action {
                r#type: name.to_owned(),
                body,
            }))
            .await;
        let result = match result {
            Ok(reply) => reply.into_inner().message().await.map(|_| ()),
            Err(status) => Err(status),
        };
        check(&format!("DoAction({name})"), result);
    }

    // Handles that were never given out.
    let handle = CommandPreparedStatementQuery {
        prepared_statement_handle: Bytes::from_static(b"none"),
    };
    let descriptor = FlightDescriptor::new_cmd(handle.as_any().encode_to_vec());
    let status = raw
        .get_flight_info(fixture.root.authorized(descriptor))
        .await
        .expect_err("it is unknown");
    let error = SqlError::from(status);
    assert!(
        ["NOT_FOUND", "INVALID_REQUEST", "INVALID_TICKET"].contains(&error.code()),
        "{error}"
    );
    fixture.check_unchanged().await;

    fn check(what: &str, result: Result<(), tonic::Status>) {
        let error = SqlError::from(result.err().unwrap_or_else(|| panic!("{what} was taken")));
        let expected = ["INVALID_REQUEST", "UNSUPPORTED"].contains(&error.code());
        assert!(
            expected && [Code::InvalidArgument, Code::Unimplemented].contains(&error.grpc),
            "{what}: {error}"
        );
    }
}

/// Messages of the service itself that are none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_messages() {
    let fixture = Fixture::new().await;
    let address = format!("http://{}", fixture.server.flight);
    let channel = tonic::transport::Endpoint::from_shared(address).expect("an address");
    let mut grpc = tonic::client::Grpc::new(channel.connect().await.expect("the server listens"));
    for rpc in [
        "ListFlights",
        "GetFlightInfo",
        "PollFlightInfo",
        "GetSchema",
        "DoGet",
        "DoPut",
        "DoExchange",
        "DoAction",
        "ListActions",
    ] {
        let path = format!("/arrow.flight.protocol.FlightService/{rpc}");
        grpc.ready().await.expect("it takes calls");
        let message = fixture
            .root
            .authorized(futures::stream::iter([Bytes::from_static(&[0x0a, 0xff, 0xff, 0xff])]));
        let path = path.parse().expect("a path");
        let status = match grpc.streaming(message, path, RawBytes).await {
            Ok(reply) => reply.into_inner().try_for_each(|_| async { Ok(()) }).await.err(),
            Err(status) => Some(status),
        };
        let error = SqlError::from(status.unwrap_or_else(|| panic!("{rpc} took what is no message")));
        // DoExchange and PollFlightInfo are none of this server's.
        let expected = ["INVALID_REQUEST", "UNSUPPORTED"].contains(&error.code());
        assert!(
            expected && error.message.len() > error.code().len() + 2,
            "{rpc}: {error}"
        );
    }
    fixture.check_unchanged().await;
}

/// Messages as the bytes that they are.
#[derive(Clone, Copy, Default)]
struct RawBytes;

impl tonic::codec::Codec for RawBytes {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawBytes;
    type Decoder = RawBytes;

    fn encoder(&mut self) -> RawBytes {
        RawBytes
    }

    fn decoder(&mut self) -> RawBytes {
        RawBytes
    }
}

impl tonic::codec::Encoder for RawBytes {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: Bytes, out: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), tonic::Status> {
        out.put(item);
        Ok(())
    }
}

impl tonic::codec::Decoder for RawBytes {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
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
async fn bytes_that_are_not_grpc() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let fixture = Fixture::new().await;
    for (port, bytes) in [
        (fixture.server.flight, &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..]),
        (fixture.server.flight, &[0xff; 4096][..]),
        (fixture.server.http, &[0xff; 4096][..]),
        (
            fixture.server.http,
            &b"POST /api/sql HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n{"[..],
        ),
    ] {
        let mut socket = tokio::net::TcpStream::connect(port).await.expect("the server listens");
        socket.write_all(bytes).await.expect("the bytes can be sent");
        socket.shutdown().await.expect("the half can be closed");
        let mut reply = Vec::new();
        // Whatever comes back, or a reset: the server only has to live on.
        let _ = socket.read_to_end(&mut reply).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingests_that_break_half_way_leave_nothing() {
    let mut fixture = Fixture::new().await;
    let create = |table: &str| {
        let options = &[("ingest.primary_key", "id")];
        ingest_command(
            "public",
            table,
            TableNotExistOption::Create,
            TableExistsOption::Fail,
            options,
        )
    };
    let append = || {
        ingest_command(
            "public",
            "items",
            TableNotExistOption::Fail,
            TableExistsOption::Append,
            &[],
        )
    };
    let items = |ids: std::ops::Range<i64>| {
        batch(vec![
            ("id", int64(ids.clone())),
            ("name", text(ids.map(|id| format!("n{id}")))),
        ])
    };

    // The client's stream breaks: it drops the call when it has sent some, small or large.
    for (name, rows, batches) in [("small", 10, 3), ("large", 20_000, 10)] {
        let (reached, was_reached) = tokio::sync::oneshot::channel();
        let mut reached = Some(reached);
        let stream = futures::stream::iter(0..=batches).map(move |number| {
            if number == batches {
                reached
                    .take()
                    .expect("there is one last batch")
                    .send(())
                    .expect("the test waits for it");
            }
            Ok(payload_rows(number * rows..(number + 1) * rows, 100))
        });
        let stream = stream.chain(futures::stream::pending());
        let mut client = fixture.server.root().await;
        let command = create("broken");
        let call = tokio::spawn(async move { client.ingest(command, stream).await });
        if was_reached.await.is_err() {
            panic!("{name}: the load ended before its stream was read: {:?}", call.await);
        }
        call.abort();
        assert!(call.await.is_err(), "{name}: it was cut off");
        assert_eq!(
            fixture.root.error("SELECT * FROM broken").await.code(),
            "TABLE_NOT_FOUND",
            "{name}"
        );
    }

    // A batch half-way that does not fit: of another schema, with a NULL, with a key twice.
    let nulls = batch(vec![
        ("id", int64([120])),
        (
            "name",
            std::sync::Arc::new(arrow::array::StringArray::from(vec![None::<&str>])),
        ),
    ]);
    let with_null = futures::stream::iter([Ok(items(100..110)), Ok(nulls)]);
    let with_duplicate = futures::stream::iter([Ok(items(100..110)), Ok(items(109..112))]);
    let with_existing = futures::stream::iter([Ok(items(100..110)), Ok(items(2..3))]);
    // Of another schema, which is announced or is not.
    let other = || batch(vec![("id", text(["x"]))]);
    let descriptor = FlightDescriptor::new_cmd(append().as_any().encode_to_vec());
    for (name, announced) in [("announced", true), ("not announced", false)] {
        let mut messages = encoded(items(100..110)).await;
        messages[0].flight_descriptor = Some(descriptor.clone());
        messages.extend(encoded(other()).await.into_iter().skip(usize::from(!announced)));
        let put = fixture.root.authorized(futures::stream::iter(messages));
        let error = match fixture.root.raw().do_put(put).await {
            Ok(reply) => reply.into_inner().message().await.err(),
            Err(status) => Some(status),
        };
        let error = SqlError::from(error.unwrap_or_else(|| panic!("{name}: it was taken")));
        assert_eq!(error.grpc, Code::InvalidArgument, "{name}: {error}");
        assert_eq!(error.code(), "INVALID_REQUEST", "{name}: {error}");
    }
    let error = fixture.root.ingest(append(), with_null).await.expect_err("a NULL");
    assert_eq!(error.code(), "NOT_NULL_VIOLATION", "{error}");
    let error = fixture
        .root
        .ingest(append(), with_duplicate)
        .await
        .expect_err("a key twice");
    assert_eq!(error.code(), "DUPLICATE_KEY", "{error}");
    let error = fixture
        .root
        .ingest(append(), with_existing)
        .await
        .expect_err("an existing key");
    assert_eq!(error.code(), "DUPLICATE_KEY", "{error}");
    // The same beyond the size at which rows are staged in bulk.
    let large_duplicate =
        futures::stream::iter((0..10).map(move |n| Ok(items(1_000 + n * 20_000..21_001 + n * 20_000))));
    let error = fixture
        .root
        .ingest(append(), large_duplicate)
        .await
        .expect_err("a key twice");
    assert_eq!(error.code(), "DUPLICATE_KEY", "{error}");
    let large_existing =
        futures::stream::iter((0..10).map(move |n| Ok(items(200_002 - (n + 1) * 20_000..200_002 - n * 20_000))));
    let error = fixture
        .root
        .ingest(append(), large_existing)
        .await
        .expect_err("an existing key");
    assert_eq!(error.code(), "DUPLICATE_KEY", "{error}");

    // Columns that are missing or unknown, tables that are or are not there.
    let unknown_column = || futures::stream::iter([Ok(batch(vec![("id", int64([3])), ("nam", text(["x"]))]))]);
    let error = fixture
        .root
        .ingest(append(), unknown_column())
        .await
        .expect_err("an unknown column");
    assert_eq!(error.code(), "COLUMN_NOT_FOUND", "{error}");
    let error = fixture
        .root
        .ingest(create("items"), unknown_column())
        .await
        .expect_err("the table exists");
    assert_eq!(error.code(), "ALREADY_EXISTS", "{error}");
    let mut elsewhere = append();
    elsewhere.table = "nothing".to_owned();
    let error = fixture
        .root
        .ingest(elsewhere, unknown_column())
        .await
        .expect_err("no such table");
    assert_eq!(error.code(), "TABLE_NOT_FOUND", "{error}");
    let mut unspecified = append();
    unspecified.table_definition_options = None;
    let error = fixture
        .root
        .ingest(unspecified, unknown_column())
        .await
        .expect_err("no options");
    assert!(
        ["INVALID_REQUEST", "INVALID_ARGUMENT"].contains(&error.code()),
        "{error}"
    );

    // An open ingest holds no name and blocks no DDL, and no reader.
    eventually("nothing of the broken loads is open", || {
        let mut root = fixture.root.clone();
        async move {
            let running = "SELECT count(*) FROM system.queries WHERE status = 'running'";
            (root.value(running).await == "1").then_some(())
        }
    })
    .await;
    fixture.check_unchanged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_damaged_inside_an_ingest() {
    use arrow_flight::encode::FlightDataEncoderBuilder;
    let fixture = Fixture::new().await;
    let command = ingest_command(
        "public",
        "damaged",
        TableNotExistOption::Create,
        TableExistsOption::Fail,
        &[],
    );
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let rows = futures::stream::iter((0..3).map(|n| Ok(payload_rows(n * 10..(n + 1) * 10, 50))));
    let messages: Vec<_> = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(descriptor))
        .build(rows)
        .collect()
        .await;
    let mut messages: Vec<FlightData> = messages
        .into_iter()
        .map(|message| message.expect("it encodes"))
        .collect();
    let last = messages.last_mut().expect("there are several");
    last.data_header = Bytes::from_static(&[0xff; 64]);
    let mut raw = fixture.root.raw();
    let result = match raw
        .do_put(fixture.root.authorized(futures::stream::iter(messages)))
        .await
    {
        Ok(reply) => reply.into_inner().message().await.map(|_| ()),
        Err(status) => Err(status),
    };
    let error = SqlError::from(result.expect_err("it does not decode"));
    assert_eq!(
        (error.grpc, error.code()),
        (Code::InvalidArgument, "INVALID_REQUEST"),
        "{error}"
    );
    fixture.check_unchanged().await;
}

/// The schema, and then the rows.
async fn encoded(rows: RecordBatch) -> Vec<FlightData> {
    let rows = futures::stream::iter([Ok(rows)]);
    let messages = arrow_flight::encode::FlightDataEncoderBuilder::new().build(rows);
    messages.try_collect().await.expect("it encodes")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn describing_a_write_runs_nothing() {
    let mut fixture = Fixture::new().await;
    for sql in [
        "INSERT INTO items VALUES (9, 'x', 1)",
        "DELETE FROM items",
        "UPDATE items SET amount = 0",
        "DROP TABLE items",
    ] {
        let any = CommandStatementQuery {
            query: sql.to_owned(),
            transaction_id: None,
        }
        .as_any();
        let descriptor = FlightDescriptor::new_cmd(any.encode_to_vec());
        // GetSchema may refuse or answer with no columns; it may not run anything.
        if let Ok(reply) = fixture.root.raw().get_schema(fixture.root.authorized(descriptor)).await {
            let schema = arrow::datatypes::Schema::try_from(&reply.into_inner()).expect("a schema");
            assert!(schema.fields().is_empty(), "{sql}: {schema}");
        }
        let request = ActionCreatePreparedStatementRequest {
            query: sql.to_owned(),
            transaction_id: None,
        };
        let action = Action {
            r#type: "CreatePreparedStatement".to_owned(),
            body: request.as_any().encode_to_vec().into(),
        };
        let reply = fixture.root.raw().do_action(fixture.root.authorized(action)).await;
        let mut stream = reply.unwrap_or_else(|status| panic!("{sql}: {status}")).into_inner();
        while stream.message().await.expect("it can be prepared").is_some() {}
        if !sql.starts_with("DROP") {
            fixture.root.ok(&format!("EXPLAIN {sql}")).await;
        }
    }
    fixture.check_unchanged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_on_the_query_path_runs_once_at_get_flight_info() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE TABLE log (v TEXT)").await;
    // Nothing is ever fetched.
    let info = root
        .flight
        .execute("INSERT INTO log VALUES ('a'), ('b')".to_owned(), None)
        .await
        .expect("it runs");
    assert_eq!(info.total_records, 2);
    assert_eq!(root.value("SELECT count(*) FROM log").await, "2");
    // Fetched, and fetched again.
    root.fetch(info.clone()).await.expect("an empty result");
    // A second fetch may be refused, but runs nothing.
    let _ = root.fetch(info).await;
    assert_eq!(root.value("SELECT count(*) FROM log").await, "2");
    // Prepared: once an execution.
    let mut prepared = root
        .flight
        .prepare("INSERT INTO log VALUES ('c')".to_owned(), None)
        .await
        .expect("it prepares");
    assert_eq!(root.value("SELECT count(*) FROM log").await, "2");
    let info = prepared.execute().await.expect("it runs");
    assert_eq!(info.total_records, 1);
    assert_eq!(root.value("SELECT count(*) FROM log").await, "3");
    root.fetch(info).await.expect("an empty result");
    assert_eq!(root.value("SELECT count(*) FROM log").await, "3");
    prepared.close().await.expect("it closes");
    server.terminate();
}
