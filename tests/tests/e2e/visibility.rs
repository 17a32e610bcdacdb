//! What a user is told of things that are not theirs: nothing, by no command, and no error that differs from "no such table".

use arrow_flight::sql::{
    CommandGetPrimaryKeys, CommandGetTables, ProstMessageExt, TableExistsOption, TableNotExistOption,
};
use arrow_flight::{Criteria, FlightDescriptor};
use futures::TryStreamExt;
use kalamdb_tests::{Client, Http, Server, SqlError, text_rows};
use prost::Message;

use crate::batches::{ingest_command, payload_rows};

const PASSWORD: &str = "a password for the test";

async fn start() -> (tempfile::TempDir, Server, Client, Client) {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    for sql in [
        "CREATE NAMESPACE backoffice",
        "CREATE TABLE backoffice.payroll (wage_cents BIGINT PRIMARY KEY)",
        "CREATE SHARED TABLE ledger (id BIGINT PRIMARY KEY, wage_cents BIGINT) WITH (ACCESS_LEVEL = 'private')",
        "CREATE SHARED TABLE vault (id BIGINT PRIMARY KEY) WITH (ACCESS_LEVEL = 'restricted')",
        "CREATE SHARED TABLE news (id BIGINT PRIMARY KEY, title TEXT) WITH (ACCESS_LEVEL = 'public')",
        "CREATE USER TABLE notes (id BIGINT PRIMARY KEY, body TEXT)",
        "INSERT INTO ledger VALUES (1, 4242424242)",
        "INSERT INTO notes VALUES (1, 'of root 4242424242')",
    ] {
        root.ok(sql).await;
    }
    for user in ["ann", "bob"] {
        root.ok(&format!("CREATE USER '{user}' WITH PASSWORD '{PASSWORD}' ROLE user"))
            .await;
    }
    let mut bob = server.login("bob", PASSWORD).await;
    bob.ok("INSERT INTO notes VALUES (1, 'of bob 4242424242')").await;
    let ann = server.login("ann", PASSWORD).await;
    (directory, server, root, ann)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hidden_table_is_as_one_that_does_not_exist() {
    let (_directory, server, _root, mut ann) = start().await;
    for statement in [
        "SELECT * FROM {}",
        "SELECT n.title FROM news n JOIN {} x ON x.id = n.id",
        "INSERT INTO {} VALUES (7, 7)",
        "UPDATE {} SET wage_cents = 1",
        "DELETE FROM {}",
        "DESCRIBE {}",
        "EXPLAIN SELECT * FROM {}",
        "EXPLAIN DELETE FROM {}",
        "SHOW COLUMNS FROM {}",
        "DROP TABLE {}",
        "TRUNCATE TABLE {}",
        "FLUSH TABLE {}",
        "STORAGE COMPACT TABLE {}",
        "STORAGE CHECK TABLE {}",
    ] {
        let hidden = told(&mut ann, statement, "ledger").await;
        assert_eq!(hidden, told(&mut ann, statement, "absent").await, "{statement}");
        assert_eq!(hidden, told(&mut ann, statement, "vault").await, "{statement}");
    }
    // A mistyped name is not helped along to a hidden one, nor to its columns.
    for sql in [
        "SELECT * FROM ledgr",
        "SELECT * FROM lodger",
        "SELECT * FROM backofice.payroll",
        "SELECT wage_cent FROM news",
        "SELECT * FROM vualt",
    ] {
        let error = ann.error(sql).await;
        for secret in ["ledger", "vault", "backoffice", "wage_cents"] {
            assert!(!error.message.contains(secret), "{sql}: {error}");
        }
    }
    server.terminate();
}

/// The error of a statement over a table, with the table's name taken out.
async fn told(client: &mut Client, statement: &str, table: &str) -> String {
    let error: SqlError = client.error(&statement.replace("{}", table)).await;
    format!("{:?} {}", error.grpc, error.message.replace(table, "…"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_hides_what_queries_hide() {
    let (_directory, server, _root, mut ann) = start().await;
    let mut seen = String::new();
    for sql in [
        "SELECT * FROM system.tables",
        "SELECT * FROM system.table_schemas",
        "SELECT * FROM system.namespaces",
        "SELECT * FROM system.users",
        "SELECT * FROM system.queries",
        "SELECT * FROM system.sessions",
        "SELECT * FROM system.segments",
        "SELECT * FROM system.jobs",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM information_schema.views",
        "SELECT * FROM information_schema.schemata",
        "SHOW TABLES",
        "SHOW NAMESPACES",
        "SHOW SEGMENTS",
        "SHOW JOBS",
        "EXPLAIN ANALYZE SELECT * FROM notes",
        "EXPLAIN VERBOSE SELECT * FROM notes",
    ] {
        match ann.rows(sql).await {
            Ok(rows) => seen.push_str(&format!("{sql}: {rows:?}\n")),
            Err(error) => seen.push_str(&format!("{sql}: {error}\n")),
        }
    }
    let tables = CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: None,
        table_name_filter_pattern: None,
        table_types: vec![],
        include_schema: true,
    };
    let info = ann.flight.get_tables(tables).await.expect("it answers");
    let listed = ann.fetch(info).await.expect("it answers");
    seen.push_str(&format!("GetTables: {:?}\n", text_rows(&listed.batches)));
    for table in ["ledger", "vault", "absent"] {
        let keys = CommandGetPrimaryKeys {
            catalog: None,
            db_schema: None,
            table: table.to_owned(),
        };
        let rows = match ann.flight.get_primary_keys(keys).await {
            Ok(info) => text_rows(&ann.fetch(info).await.expect("it answers").batches),
            Err(_) => vec![],
        };
        assert!(rows.is_empty(), "{table}: {rows:?}");
        let path = FlightDescriptor::new_path(vec!["public".into(), table.into()]);
        let error = ann
            .raw()
            .get_flight_info(ann.authorized(path.clone()))
            .await
            .expect_err(table);
        assert_eq!(SqlError::from(error).code(), "TABLE_NOT_FOUND", "{table}");
        let error = ann.raw().get_schema(ann.authorized(path)).await.expect_err(table);
        assert_eq!(SqlError::from(error).code(), "TABLE_NOT_FOUND", "{table}");
        let append = ingest_command(
            "public",
            table,
            TableNotExistOption::Fail,
            TableExistsOption::Append,
            &[],
        );
        let error = ann
            .ingest(append, futures::stream::iter([Ok(payload_rows(0..1, 5))]))
            .await
            .expect_err(table);
        assert!(
            ["TABLE_NOT_FOUND", "PERMISSION_DENIED"].contains(&error.code()),
            "{table}: {error}"
        );
    }
    let flights = ann
        .raw()
        .list_flights(ann.authorized(Criteria::default()))
        .await
        .expect("it answers")
        .into_inner();
    let flights: Vec<_> = flights.try_collect().await.expect("it answers");
    let paths: Vec<_> = flights
        .iter()
        .filter_map(|info| info.flight_descriptor.as_ref())
        .map(|d| d.path.join("."))
        .collect();
    seen.push_str(&format!("ListFlights: {paths:?}\n"));
    assert!(paths.iter().any(|path| path == "public.news"), "{paths:?}");
    seen.push_str(
        &Http::basic(server.http, "ann", PASSWORD)
            .sql("SELECT * FROM system.tables")
            .text(),
    );
    for secret in [
        "ledger",
        "vault",
        "payroll",
        "wage_cents",
        "4242424242",
        "bob",
        "of root",
    ] {
        // The statements that this test ran are its own.
        let lines: Vec<_> = seen
            .lines()
            .filter(|line| line.contains(secret) && !line.contains("system.queries"))
            .collect();
        assert!(lines.is_empty(), "{secret} shows in:\n{}", lines.join("\n"));
    }
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_one_user_helps_another() {
    let (_directory, server, root, mut ann) = start().await;
    let mut bob = server.login("bob", PASSWORD).await;
    // The key that bob's row has is free for ann, by every way of writing.
    ann.ok("INSERT INTO notes VALUES (1, 'of ann')").await;
    assert_eq!(
        ann.update("UPDATE notes SET body = 'changed'").await.expect("it runs"),
        1
    );
    assert_eq!(bob.ok("SELECT body FROM notes").await, [["of bob 4242424242"]]);
    assert_eq!(ann.update("DELETE FROM notes").await.expect("it runs"), 1);
    assert_eq!(bob.value("SELECT count(*) FROM notes").await, "1");

    // A prepared statement and its handle belong to who made them.
    let prepared = bob
        .flight
        .prepare("SELECT body FROM notes".to_owned(), None)
        .await
        .expect("it prepares");
    assert_eq!(prepared.dataset_schema().expect("it has one").fields().len(), 1);
    let action = arrow_flight::sql::ActionCreatePreparedStatementRequest {
        query: "SELECT body FROM notes".to_owned(),
        transaction_id: None,
    };
    let action = arrow_flight::Action {
        r#type: "CreatePreparedStatement".to_owned(),
        body: action.as_any().encode_to_vec().into(),
    };
    let reply = bob.raw().do_action(bob.authorized(action)).await.expect("it prepares");
    let result = reply
        .into_inner()
        .message()
        .await
        .expect("it prepares")
        .expect("it has a result");
    let any = arrow_flight::sql::Any::decode(result.body).expect("an Any");
    let made: arrow_flight::sql::ActionCreatePreparedStatementResult =
        any.unpack().expect("it decodes").expect("it is a prepared statement");
    let stolen = arrow_flight::sql::CommandPreparedStatementQuery {
        prepared_statement_handle: made.prepared_statement_handle,
    };
    let descriptor = FlightDescriptor::new_cmd(stolen.as_any().encode_to_vec());
    match ann.raw().get_flight_info(ann.authorized(descriptor)).await {
        Err(_) => {}
        // Where a handle is only a text, it runs as whoever uses it.
        Ok(info) => assert!(text_rows(&ann.fetch(info.into_inner()).await.expect("it runs").batches).is_empty()),
    }

    // A ticket is for its principal.
    let info = bob
        .flight
        .execute("SELECT body FROM notes".to_owned(), None)
        .await
        .expect("it plans");
    let ticket = info.endpoint[0].ticket.clone().expect("it has a ticket");
    let stolen = match ann.flight.do_get(ticket).await {
        Ok(stream) => stream.try_collect::<Vec<_>>().await.map(|batches| text_rows(&batches)),
        Err(error) => Err(error),
    };
    assert!(stolen.is_err(), "{stolen:?}");

    // Another's query and session cannot be killed, and do not even exist.
    let mut root = root;
    let session = root
        .value("SELECT min(session_id) FROM system.sessions WHERE user_id = 'bob'")
        .await;
    let error = ann.error(&format!("KILL SESSION '{session}'")).await;
    assert!(["NOT_FOUND", "PERMISSION_DENIED"].contains(&error.code()), "{error}");
    bob.ok("SELECT 1").await;
    server.terminate();
}
