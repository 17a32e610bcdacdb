//! A write on the query path: describing it runs nothing, and asking for its result runs it once.

use arrow_flight::sql::{ActionCreatePreparedStatementRequest, CommandStatementQuery, ProstMessageExt};
use arrow_flight::{Action, FlightDescriptor};
use kalamdb_tests::Server;
use prost::Message;

use super::Fixture;

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
