//! Without credentials nothing opens: every RPC, every metadata command, every route but those that the contract opens.

use arrow_flight::sql::{
    Any, CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys,
    CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandGetXdbcTypeInfo, CommandPreparedStatementQuery, CommandStatementIngest, CommandStatementQuery,
    CommandStatementUpdate, ProstMessageExt,
};
use arrow_flight::{Action, Criteria, Empty, FlightData, FlightDescriptor, HandshakeRequest, Ticket};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use kalamdb_tests::{Client, Http, ROOT_PASSWORD, Server, SqlError};
use prost::Message;
use tonic::{Request, Status};

/// Headers that open nothing.
const USELESS: &[Option<&str>] = &[
    None,
    Some(""),
    Some("Bearer "),
    Some("Bearer nonsense"),
    // A well-formed token with algorithm `none`.
    Some("Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0."),
    Some("Basic !!!"),
    Some("Basic cm9vdA=="),
    Some("Basic cm9vdDp3cm9uZw=="),
    Some("Digest root"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_rpc_answers_without_credentials() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    server.root().await.ok("CREATE TABLE t (id BIGINT PRIMARY KEY)").await;
    for (number, &header) in USELESS.iter().enumerate() {
        // Wrong passwords make the next attempt wait; the first is enough to see each RPC refuse one.
        let wrong_password = number == 7;
        for (rpc, result) in call_every_rpc(&server, header).await {
            let error = result
                .err()
                .unwrap_or_else(|| panic!("{rpc} answered with authorization {header:?}"));
            let refused = match error.grpc {
                tonic::Code::Unauthenticated => error.code() == "UNAUTHENTICATED",
                tonic::Code::ResourceExhausted => wrong_password && error.code() == "TOO_MANY_REQUESTS",
                _ => false,
            };
            assert!(refused, "{rpc} with authorization {header:?}: {error}");
            assert!(
                error.message.len() > "UNAUTHENTICATED: ".len(),
                "{rpc}: the message helps"
            );
        }
    }
    server.terminate();
}

/// Every RPC of the Flight service, and every command and action of Flight SQL.
async fn call_every_rpc(server: &Server, header: Option<&str>) -> Vec<(String, Result<(), SqlError>)> {
    let mut client = Client::anonymous(server.flight).await;
    let mut results: Vec<(String, Result<(), Status>)> = Vec::new();
    macro_rules! unary {
        ($name:expr, $call:ident($message:expr)) => {
            results.push((
                $name.to_owned(),
                client.$call(with(header, $message)).await.map(|_| ()),
            ));
        };
    }
    // A refusal of a streaming call may come with the headers or as the stream's only item.
    macro_rules! streaming {
        ($name:expr, $call:ident($message:expr)) => {
            let result = match client.$call(with(header, $message)).await {
                Ok(reply) => drain(reply.into_inner()).await,
                Err(status) => Err(status),
            };
            results.push(($name.to_owned(), result));
        };
    }
    let sql = CommandStatementQuery {
        query: "SELECT 1".to_owned(),
        transaction_id: None,
    }
    .as_any();
    let update = CommandStatementUpdate {
        query: "INSERT INTO t VALUES (1)".to_owned(),
        transaction_id: None,
    }
    .as_any();
    let descriptor = |any: &Any| FlightDescriptor::new_cmd(any.encode_to_vec());
    streaming!(
        "Handshake",
        handshake(futures::stream::iter([HandshakeRequest::default()]))
    );
    streaming!("ListFlights", list_flights(Criteria::default()));
    unary!(
        "GetFlightInfo(path)",
        get_flight_info(FlightDescriptor::new_path(vec!["public".into(), "t".into()]))
    );
    unary!("PollFlightInfo", poll_flight_info(descriptor(&sql)));
    unary!("GetSchema", get_schema(descriptor(&sql)));
    streaming!("DoGet", do_get(Ticket::new("anything")));
    let put = FlightData {
        flight_descriptor: Some(descriptor(&update)),
        ..FlightData::default()
    };
    streaming!("DoPut", do_put(futures::stream::iter([put])));
    let ingest = CommandStatementIngest {
        table: "t".to_owned(),
        ..Default::default()
    };
    let put = FlightData {
        flight_descriptor: Some(descriptor(&ingest.as_any())),
        ..FlightData::default()
    };
    streaming!("DoPut(CommandStatementIngest)", do_put(futures::stream::iter([put])));
    streaming!(
        "DoExchange",
        do_exchange(futures::stream::iter([FlightData::default()]))
    );
    streaming!("ListActions", list_actions(Empty {}));
    for action in [
        "CreatePreparedStatement",
        "ClosePreparedStatement",
        "CreatePreparedSubstraitPlan",
        "BeginTransaction",
        "EndTransaction",
        "BeginSavepoint",
        "EndSavepoint",
        "SetSessionOptions",
        "GetSessionOptions",
        "CloseSession",
        "CancelFlightInfo",
        "RenewFlightEndpoint",
        "CancelQuery",
        "NoSuchAction",
    ] {
        let message = Action {
            r#type: action.to_owned(),
            body: bytes::Bytes::new(),
        };
        streaming!(format!("DoAction({action})"), do_action(message));
    }
    for any in metadata_commands().into_iter().chain([sql.clone(), update.clone()]) {
        let name = any.type_url.rsplit('.').next().unwrap_or_default().to_owned();
        unary!(format!("GetFlightInfo({name})"), get_flight_info(descriptor(&any)));
        unary!(format!("GetSchema({name})"), get_schema(descriptor(&any)));
    }
    results
        .into_iter()
        .map(|(name, result)| (name, result.map_err(SqlError::from)))
        .collect()
}

fn metadata_commands() -> Vec<Any> {
    vec![
        CommandGetCatalogs::default().as_any(),
        CommandGetDbSchemas::default().as_any(),
        CommandGetTables::default().as_any(),
        CommandGetTableTypes::default().as_any(),
        CommandGetPrimaryKeys {
            table: "t".to_owned(),
            ..Default::default()
        }
        .as_any(),
        CommandGetExportedKeys {
            table: "t".to_owned(),
            ..Default::default()
        }
        .as_any(),
        CommandGetImportedKeys {
            table: "t".to_owned(),
            ..Default::default()
        }
        .as_any(),
        CommandGetCrossReference {
            pk_table: "t".into(),
            fk_table: "t".into(),
            ..Default::default()
        }
        .as_any(),
        CommandGetXdbcTypeInfo::default().as_any(),
        CommandGetSqlInfo::default().as_any(),
        CommandPreparedStatementQuery {
            prepared_statement_handle: "handle".into(),
        }
        .as_any(),
    ]
}

fn with<T>(header: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(value) = header {
        request
            .metadata_mut()
            .insert("authorization", value.parse().expect("the header is ASCII"));
    }
    request
}

async fn drain<T>(mut stream: tonic::Streaming<T>) -> Result<(), Status> {
    while stream.message().await?.is_some() {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_route_answers_without_credentials_but_the_open_ones() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let anonymous = Http::anonymous(server.http);
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(anonymous.get(path).status, 200, "{path}");
    }
    let reply = anonymous.sql("SELECT 1");
    assert_eq!(reply.status, 401, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "UNAUTHENTICATED");
    assert_eq!(anonymous.sql_arrow("SELECT 1").status, 401);
    // What does not exist does not tell so to strangers either.
    for path in ["/", "/api/sql", "/api", "/api/users", "/admin", "/metrics/x"] {
        let status = anonymous.get(path).status;
        assert_eq!(status, 401, "{path}");
    }
    for http in [
        Http::basic(server.http, "root", "wrong"),
        Http::basic(server.http, "nobody", ROOT_PASSWORD),
        Http::bearer(server.http, "nonsense"),
    ] {
        let reply = http.sql("CREATE TABLE t (id BIGINT PRIMARY KEY)");
        assert_eq!(reply.status, 401, "{}", reply.text());
    }
    assert_eq!(
        server
            .http_root()
            .sql("SELECT count(*) FROM system.tables WHERE table_name = 't'")
            .json()["results"][0]["rows"][0][0],
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn basic_and_bearer_open_both_doors() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let root = server.root().await;
    // The token of a handshake works over HTTP too.
    assert_eq!(Http::bearer(server.http, root.token()).sql("SELECT 1").status, 200);

    // Basic on any call, padded or not, with no handshake.
    let mut anonymous = Client::anonymous(server.flight).await;
    for encoded in [
        BASE64_STANDARD.encode(format!("root:{ROOT_PASSWORD}")),
        BASE64_STANDARD_NO_PAD.encode(format!("root:{ROOT_PASSWORD}")),
    ] {
        let descriptor = FlightDescriptor::new_cmd(bytes::Bytes::from_static(b"SELECT 1"));
        let request = with(Some(&format!("Basic {encoded}")), descriptor);
        anonymous
            .get_flight_info(request)
            .await
            .unwrap_or_else(|status| panic!("Basic {encoded}: {status}"));
    }
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_logins_lock_nobody_else_out() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE USER 'ann' WITH PASSWORD 'ann has a long password' ROLE user")
        .await;
    let mut codes = Vec::new();
    for _ in 0..30 {
        let error = Client::login(server.flight, "ann", "wrong")
            .await
            .err()
            .expect("a wrong password");
        codes.push(error.code().to_owned());
        if error.code() == "TOO_MANY_REQUESTS" {
            break;
        }
        assert_eq!(error.code(), "UNAUTHENTICATED", "{error}");
        assert!(
            !error.message.contains("ann"),
            "it does not say whether the user exists: {error}"
        );
    }
    assert_eq!(
        codes.last().map(String::as_str),
        Some("TOO_MANY_REQUESTS"),
        "failed logins back off: {codes:?}"
    );
    // Others from the same address, and sessions that are open, take no harm.
    server.login("root", ROOT_PASSWORD).await.ok("SELECT 1").await;
    root.ok("SELECT 1").await;
    // The same for a user that does not exist: nothing tells the two apart.
    let unknown = Client::login(server.flight, "nobody", "wrong")
        .await
        .err()
        .expect("an unknown user");
    assert_eq!(unknown.code(), "UNAUTHENTICATED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_end_with_what_they_stand_for() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE USER 'ann' WITH PASSWORD 'ann has a long password' ROLE user")
        .await;
    root.ok("CREATE USER TABLE notes (id BIGINT PRIMARY KEY, v TEXT)").await;
    let mut ann = server.login("ann", "ann has a long password").await;
    ann.ok("INSERT INTO notes VALUES (1, 'of the first ann')").await;
    assert_eq!(ann.value("SELECT count(*) FROM notes").await, "1");

    // A changed password ends earlier tokens.
    root.ok("ALTER USER 'ann' SET PASSWORD 'ann has another password'")
        .await;
    assert_eq!(ann.error("SELECT * FROM notes").await.code(), "UNAUTHENTICATED");
    let mut ann = server.login("ann", "ann has another password").await;
    assert_eq!(ann.value("SELECT count(*) FROM notes").await, "1");

    // A user dropped and made again is another one: no token, no row of the first.
    root.ok("DROP USER 'ann'").await;
    root.ok("CREATE USER 'ann' WITH PASSWORD 'ann has another password' ROLE user")
        .await;
    assert_eq!(ann.error("SELECT * FROM notes").await.code(), "UNAUTHENTICATED");
    assert_eq!(
        ann.error("INSERT INTO notes VALUES (2, 'x')").await.code(),
        "UNAUTHENTICATED"
    );
    let mut ann = server.login("ann", "ann has another password").await;
    assert_eq!(ann.value("SELECT count(*) FROM notes").await, "0");
    ann.ok("INSERT INTO notes VALUES (1, 'of the second ann')").await;
    server.terminate();

    let server = Server::start(directory.path());
    let mut ann = server.login("ann", "ann has another password").await;
    assert_eq!(ann.ok("SELECT v FROM notes").await, [["of the second ann"]]);
}

/// Somebody at the user's own address guesses without end, and the user, known lately or not, logs in.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn guesses_lock_nobody_out() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    let password = "a password for the test";
    root.ok(&format!("CREATE USER 'ann' WITH PASSWORD '{password}' ROLE user"))
        .await;
    let guess = |user: &'static str| {
        let login = Client::login(server.flight, user, "not the password");
        async move { login.await.err().map(|error| error.code().to_owned()) }
    };
    let count =
        |codes: &[Option<String>], wanted: &str| codes.iter().flatten().filter(|code| code.as_str() == wanted).count();
    // All at once no more are checked than one after the other: five, and one after each wait.
    let codes = futures::future::join_all((0..100).map(|_| guess("ann"))).await;
    let checked = count(&codes, "UNAUTHENTICATED");
    assert!((5..12).contains(&checked), "{checked}");
    assert_eq!(checked + count(&codes, "TOO_MANY_REQUESTS"), codes.len());

    let mut codes = Vec::new();
    for _ in 0..12 {
        codes.push(guess("root").await);
    }
    assert!(count(&codes, "TOO_MANY_REQUESTS") > 0, "{codes:?}");
    // It was right at the start of the test.
    server.root().await;

    // Ann never logged in before: between two guesses she is let in.
    let mut number = 0;
    kalamdb_tests::eventually("ann logs in", || {
        number += 1;
        async move {
            let login = Client::login(server.flight, "ann", password).await;
            if number % 20 == 0 {
                guess("ann").await;
            }
            login.ok()
        }
    })
    .await;
    server.terminate();
}
