//! What is tried as calls of the protocol: another's handles, tickets, queries and sessions, and strings that become part of SQL.

use std::collections::HashMap;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, Any, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetPrimaryKeys,
    CommandGetTables, CommandPreparedStatementQuery, CommandPreparedStatementUpdate, ProstMessageExt,
    TableExistsOption, TableNotExistOption, TicketStatementQuery,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, Criteria, FlightDescriptor, FlightInfo, Ticket,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use kalamdb_tests::{Client, Http, SqlError, text_rows};
use prost::Message;
use tonic::transport::Channel;

use super::{Attacker, MARKER, PASSWORD, Scene, VICTIM, text};
use crate::batches::{batch, ingest_command, int64, text as texts};

/// A ticket's envelope, as `proto/kalamdb_flight.proto` has it.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(bytes = "vec", tag = "2")]
    content: Vec<u8>,
    #[prost(fixed64, tag = "3")]
    checksum: u64,
}

/// What is in it.
#[derive(Clone, PartialEq, prost::Message)]
struct Content {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    user_id: String,
    #[prost(uint64, tag = "3")]
    scope: u64,
    #[prost(bytes = "vec", optional, tag = "4")]
    query: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    finished: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "6")]
    report: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "7")]
    kept: Option<Vec<u8>>,
}

/// SetSessionOptions with texts alone.
#[derive(Clone, PartialEq, prost::Message)]
struct SetOptions {
    #[prost(map = "string, message", tag = "1")]
    session_options: HashMap<String, OptionText>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OptionText {
    #[prost(string, tag = "1")]
    text: String,
}

/// What the victim has open, as an attacker who got hold of all of it would have it.
struct Loot {
    prepared: Bytes,
    prepared_with_parameter: Bytes,
    prepared_update: Bytes,
    /// Of a query that has not run.
    info: FlightInfo,
    /// Of rows that the server keeps.
    kept: FlightInfo,
    /// Of a query that runs.
    running: FlightInfo,
    query_id: String,
    session_id: String,
}

fn ticket_of(info: &FlightInfo) -> Ticket {
    let ticket = info.endpoint.first().and_then(|endpoint| endpoint.ticket.clone());
    ticket.expect("an endpoint has a ticket")
}

/// A ticket of another's that says to be this client's: their names are no secret from them, and it is not signed.
async fn forged(client: &mut Client, ticket: &Ticket) -> Ticket {
    let opened = |ticket: &Ticket| {
        let any = Any::decode(ticket.ticket.clone()).expect("an Any");
        let statement: Option<TicketStatementQuery> = any.unpack().expect("it decodes");
        let handle = statement.expect("a statement's ticket").statement_handle;
        let envelope = Envelope::decode(handle).expect("an envelope");
        let content = Content::decode(envelope.content.as_slice()).expect("it decodes");
        assert_eq!(content.encode_to_vec(), envelope.content, "nothing of it is lost here");
        (envelope, content)
    };
    let info = client
        .flight
        .execute("SELECT 1".to_owned(), None)
        .await
        .expect("it plans");
    let (_, own) = opened(&ticket_of(&info));
    let (mut envelope, mut content) = opened(ticket);
    (content.user_id, content.scope) = (own.user_id, own.scope);
    envelope.content = content.encode_to_vec();
    // FNV-1a.
    envelope.checksum = envelope
        .content
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |state: u64, &byte| {
            (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    let statement = TicketStatementQuery {
        statement_handle: envelope.encode_to_vec().into(),
    };
    Ticket::new(statement.as_any().encode_to_vec())
}

async fn act(client: &Client, name: &str, body: Vec<u8>) -> Result<Bytes, SqlError> {
    let action = Action {
        r#type: name.to_owned(),
        body: body.into(),
    };
    let mut reply = client.raw().do_action(client.authorized(action)).await?.into_inner();
    Ok(reply.message().await?.map(|result| result.body).unwrap_or_default())
}

async fn prepare(client: &Client, sql: &str) -> Bytes {
    let request = ActionCreatePreparedStatementRequest {
        query: sql.to_owned(),
        transaction_id: None,
    };
    let body = act(client, "CreatePreparedStatement", request.as_any().encode_to_vec()).await;
    let any = Any::decode(body.expect("it prepares")).expect("an Any");
    let made: Option<ActionCreatePreparedStatementResult> = any.unpack().expect("it decodes");
    made.expect("a prepared statement").prepared_statement_handle
}

async fn info_of(client: &Client, descriptor: FlightDescriptor) -> Result<FlightInfo, SqlError> {
    Ok(client
        .raw()
        .get_flight_info(client.authorized(descriptor))
        .await?
        .into_inner())
}

/// The rows of a ticket, the first thousand of them.
async fn rows_of(client: &Client, ticket: Ticket) -> Result<String, SqlError> {
    let mut flight = client.flight.clone();
    let mut stream = flight.do_get(ticket).await?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch?.slice(0, 1));
        if batches.len() > 1_000 {
            break;
        }
    }
    Ok(format!("{:?}", text_rows(&batches)))
}

async fn fetched(client: &Client, descriptor: FlightDescriptor) -> Result<String, SqlError> {
    let info = info_of(client, descriptor).await?;
    rows_of(client, ticket_of(&info)).await
}

/// DoPut of a command, with rows or without.
async fn put(client: &Client, command: Vec<u8>, rows: arrow::array::RecordBatch) -> Result<String, SqlError> {
    let descriptor = FlightDescriptor::new_cmd(command);
    let data = arrow_flight::encode::FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(descriptor))
        .build(futures::stream::iter([Ok(rows)]));
    let data: Vec<_> = data.try_collect().await.expect("rows can be encoded");
    let request = client.authorized(futures::stream::iter(data));
    let mut reply = client.raw().do_put(request).await?.into_inner();
    let answer = reply.message().await?;
    Ok(format!("{answer:?}"))
}

fn command(message: &impl ProstMessageExt) -> FlightDescriptor {
    FlightDescriptor::new_cmd(message.as_any().encode_to_vec())
}

fn prepared_query(handle: &Bytes) -> CommandPreparedStatementQuery {
    CommandPreparedStatementQuery {
        prepared_statement_handle: handle.clone(),
    }
}

/// What an attacker may be told when they use what is another's.
#[derive(Clone, Copy, PartialEq)]
enum Attack {
    Refused,
    /// It runs as the attacker, over what is theirs.
    Own,
    /// What the table of rights gives this role is no attack.
    Right,
}

struct Try {
    name: &'static str,
    outcome: Result<String, SqlError>,
    /// What the victim is told.
    shows: &'static str,
    attack: Attack,
}

/// Uses everything. What ends something comes last, as the victim goes through it, too.
async fn use_all(client: &mut Client, loot: &Loot, is_dba: bool) -> Vec<Try> {
    let mut tries = Vec::new();
    let mut note = |name, outcome, shows, attack| {
        tries.push(Try {
            name,
            outcome,
            shows,
            attack,
        });
    };
    use Attack::{Own, Refused, Right};
    let killing = if is_dba { Right } else { Refused };
    let handle = prepared_query(&loot.prepared);
    note(
        "a prepared query",
        fetched(client, command(&handle)).await,
        MARKER,
        Refused,
    );
    let direct = Ticket::new(handle.as_any().encode_to_vec());
    note(
        "a prepared query at DoGet",
        rows_of(client, direct).await,
        MARKER,
        Refused,
    );
    let schema = client.raw().get_schema(client.authorized(command(&handle))).await;
    let schema = schema.map_err(SqlError::from).map(|reply| {
        let schema = arrow::datatypes::Schema::try_from(&reply.into_inner());
        format!("{:?}", schema.expect("a schema").fields())
    });
    note("its schema", schema, "\"v\"", Refused);
    let parameter = prepared_query(&loot.prepared_with_parameter).as_any().encode_to_vec();
    let bound = put(client, parameter, batch(vec![("$1", int64([1]))])).await;
    note("parameters for a prepared query", bound, "app_metadata", Refused);
    let update = CommandPreparedStatementUpdate {
        prepared_statement_handle: loot.prepared_update.clone(),
    };
    let nothing = arrow::array::RecordBatch::new_empty(arrow::datatypes::Schema::empty().into());
    let updated = put(client, update.as_any().encode_to_vec(), nothing).await;
    note("a prepared update", updated, "app_metadata", Refused);
    note(
        "a ticket",
        rows_of(client, ticket_of(&loot.info)).await,
        MARKER,
        Refused,
    );
    let own = forged(client, &ticket_of(&loot.info)).await;
    note("a forged ticket", rows_of(client, own).await, MARKER, Own);
    note(
        "kept rows",
        rows_of(client, ticket_of(&loot.kept)).await,
        MARKER,
        Refused,
    );
    let own = forged(client, &ticket_of(&loot.kept)).await;
    note(
        "a forged ticket for kept rows",
        rows_of(client, own).await,
        MARKER,
        Refused,
    );

    let cancel = |info: FlightInfo| CancelFlightInfoRequest { info: Some(info) }.encode_to_vec();
    let status = |body: Bytes| {
        format!(
            "{:?}",
            CancelFlightInfoResult::decode(body).map(|result| result.status())
        )
    };
    if !is_dba {
        let mut own = loot.running.clone();
        own.endpoint[0].ticket = Some(forged(client, &ticket_of(&loot.running)).await);
        let cancelled = act(client, "CancelFlightInfo", cancel(own)).await.map(status);
        note("cancelling by a forged ticket", cancelled, "Cancelled", Refused);
    }
    let cancelled = act(client, "CancelFlightInfo", cancel(loot.running.clone())).await;
    note("cancelling", cancelled.map(status), "", Refused);
    let older = ActionCancelQueryRequest {
        info: loot.running.encode_to_vec().into(),
    };
    let cancelled = act(client, "CancelQuery", older.as_any().encode_to_vec()).await;
    note("cancelling as it was", cancelled.map(|_| String::new()), "", Refused);
    if killing == Refused {
        let killed = client.rows(&format!("KILL QUERY '{}'", loot.query_id)).await;
        note("KILL QUERY", killed.map(|rows| format!("{rows:?}")), "", Refused);
    }
    for handle in [&loot.prepared, &loot.prepared_with_parameter, &loot.prepared_update] {
        let close = ActionClosePreparedStatementRequest {
            prepared_statement_handle: handle.clone(),
        };
        let closed = act(client, "ClosePreparedStatement", close.as_any().encode_to_vec()).await;
        note(
            "closing a prepared statement",
            closed.map(|_| String::new()),
            "",
            Refused,
        );
    }
    if killing == Refused {
        let killed = client.rows(&format!("KILL SESSION '{}'", loot.session_id)).await;
        note("KILL SESSION", killed.map(|rows| format!("{rows:?}")), "", Refused);
    }
    tries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anothers_handles_tickets_queries_and_sessions_are_of_no_use() {
    let mut scene = Scene::new().await;
    let before = scene.rows_of_victim().await;
    // One of the victim's sessions has all of it; it is the one that the controls end.
    let mut victim = scene.server.login(VICTIM, PASSWORD).await;
    let session_id = victim
        .value("SELECT session_id FROM system.queries WHERE status = 'running'")
        .await;
    let select = "SELECT v FROM filled.mixed WHERE id < 900 ORDER BY id";
    let endless = format!("SELECT '{MARKER} ' || a.value FROM generate_series(1, 1000000000) a");
    let kept = format!(
        "INSERT INTO filled.box SELECT '{MARKER}' || repeat('x', 100000) FROM generate_series(1, 20) RETURNING v"
    );
    let running = victim.flight.execute(endless, None).await.expect("it plans");
    let mut stream = victim.flight.do_get(ticket_of(&running)).await.expect("it starts");
    stream.next().await.expect("it has rows").expect("it has rows");
    let loot = Loot {
        prepared: prepare(&victim, select).await,
        prepared_with_parameter: prepare(&victim, "SELECT v FROM filled.mixed WHERE id = $1").await,
        prepared_update: prepare(&victim, "UPDATE copied.mixed SET v = v || '?' WHERE id = 1").await,
        info: victim.flight.execute(select.to_owned(), None).await.expect("it plans"),
        kept: victim.flight.execute(kept, None).await.expect("it runs"),
        running,
        query_id: scene
            .victim
            .value("SELECT max(query_id) FROM system.queries WHERE status = 'running' AND statement LIKE '%generate_series%'")
            .await,
        session_id,
    };
    let mut wrong = Vec::new();
    for Attacker { role, client } in &mut scene.attackers {
        for Try {
            name, outcome, attack, ..
        } in use_all(client, &loot, *role == "dba").await
        {
            let told = outcome.as_ref().map_or_else(ToString::to_string, String::clone);
            let harmless = match attack {
                Attack::Refused => outcome.is_err(),
                Attack::Own | Attack::Right => true,
            };
            if !harmless || told.contains(MARKER) || told.contains("INTERNAL") {
                wrong.push(format!("{role}, {name}: {told}"));
            }
        }
        // Closing closes one's own session.
        let other = scene.server.login(&format!("mallory_{role}"), PASSWORD).await;
        act(&other, "CloseSession", Vec::new()).await.expect("it closes");
    }
    assert!(wrong.is_empty(), "{} findings:\n{}", wrong.len(), wrong.join("\n"));
    // What runs goes on, and all of it is of use to the victim.
    for _ in 0..3 {
        stream.next().await.expect("it goes on").expect("it goes on");
    }
    for Try {
        name, outcome, shows, ..
    } in use_all(&mut victim, &loot, false).await
    {
        match (name, outcome) {
            // It was cancelled before.
            ("cancelling" | "cancelling as it was" | "KILL QUERY", _) => {}
            // What comes of it is asked for in a session that is no more.
            ("KILL SESSION", Err(error)) => assert!(error.message.contains("the session ended"), "{error}"),
            (_, Ok(told)) if told.contains(shows) => {}
            (_, outcome) => panic!("the control of {name} shows no {shows}: {outcome:?}"),
        }
    }
    while let Some(batch) = stream.next().await {
        if let Err(error) = batch {
            let error = SqlError::from(error);
            assert_eq!(error.code(), "CANCELLED", "{error}");
            break;
        }
    }
    assert_eq!(
        victim.error("SELECT 1").await.code(),
        "UNAUTHENTICATED",
        "its own KILL SESSION ended it"
    );
    scene.check_undisturbed(&before).await;
}

/// Texts that mean something to a parser, and names that are none.
const STRINGS: &[&str] = &[
    "x' OR '1'='1",
    "mixed\"; SELECT v FROM filled.mixed; --",
    "mixed\" UNION SELECT v FROM filled.mixed --",
    "%' UNION ALL SELECT v FROM filled.mixed --",
    "'; DELETE FROM filled.mixed; --",
    "\"; DROP TABLE filled.mixed; --",
    "'); DROP USER 'bob-the-victim'; --",
    "(SELECT v FROM filled.mixed)",
    "EXECUTE AS USER 'bob-the-victim' (SELECT v FROM filled.mixed)",
    "EXECUTE AS ALL USERS (SELECT v FROM filled.mixed)",
    "filled.mixed",
    "\"filled\".\"mixed\"",
    "\u{1}mutation",
    "mixed\\' OR true --",
    "$1",
    "*",
    "%",
    "\0",
];

/// Every string of a call that the server takes for a name, a pattern or a value, as `string`; what came back, by call.
async fn calls_with(
    client: &Client,
    http: &Http,
    string: &str,
    namespace: &str,
) -> Vec<(String, Result<String, SqlError>)> {
    let mut calls = Vec::new();
    let owned = || Some(string.to_owned());
    for (catalog, pattern) in [(None, owned()), (owned(), None)] {
        let schemas = CommandGetDbSchemas {
            catalog,
            db_schema_filter_pattern: pattern,
        };
        calls.push(("GetDbSchemas", fetched(client, command(&schemas)).await));
    }
    let all = CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: None,
        table_name_filter_pattern: None,
        table_types: Vec::new(),
        include_schema: true,
    };
    for tables in [
        CommandGetTables {
            catalog: owned(),
            ..all.clone()
        },
        CommandGetTables {
            db_schema_filter_pattern: owned(),
            ..all.clone()
        },
        CommandGetTables {
            db_schema_filter_pattern: Some(namespace.to_owned()),
            table_name_filter_pattern: owned(),
            ..all.clone()
        },
        CommandGetTables {
            table_types: vec![string.to_owned()],
            ..all.clone()
        },
    ] {
        calls.push(("GetTables", fetched(client, command(&tables)).await));
    }
    for (catalog, db_schema, table) in [
        (None, Some(namespace.to_owned()), string.to_owned()),
        (None, owned(), "mixed".to_owned()),
        (owned(), Some(namespace.to_owned()), "mixed".to_owned()),
    ] {
        let keys = CommandGetPrimaryKeys {
            catalog: catalog.clone(),
            db_schema: db_schema.clone(),
            table: table.clone(),
        };
        calls.push(("GetPrimaryKeys", fetched(client, command(&keys)).await));
        let keys = CommandGetExportedKeys {
            catalog,
            db_schema,
            table,
        };
        calls.push(("GetExportedKeys", fetched(client, command(&keys)).await));
    }
    for path in [
        vec![namespace.to_owned(), string.to_owned()],
        vec![string.to_owned(), "mixed".to_owned()],
        vec![string.to_owned()],
        vec![string.to_owned(), namespace.to_owned(), "mixed".to_owned()],
    ] {
        let descriptor = FlightDescriptor::new_path(path);
        let schema = client.raw().get_schema(client.authorized(descriptor.clone())).await;
        calls.push(("GetSchema", schema.map_err(SqlError::from).map(|_| String::new())));
        calls.push(("a path", fetched(client, descriptor).await));
    }
    calls.push(("ListFlights", flights(&mut client.raw(), client, string).await));
    for (schema, table, options) in [
        (namespace, string, &[][..]),
        (string, "box", &[]),
        (
            namespace,
            "box",
            &[("primary_key", string), ("on_conflict", string), ("table_type", string)],
        ),
        (namespace, "box", &[("ingest.primary_key", string), (string, string)]),
    ] {
        let ingest = ingest_command(
            schema,
            table,
            TableNotExistOption::Fail,
            TableExistsOption::Append,
            options,
        );
        let rows = batch(vec![("v", texts(["mine"]))]);
        let loaded = put(client, ingest.as_any().encode_to_vec(), rows).await;
        calls.push(("an ingest", loaded));
    }
    for option in [
        "catalog",
        "schema",
        "time_zone",
        "statement_timeout",
        "ingest.table_type",
        "ingest.primary_key",
        "ingest.on_conflict",
        "ingest.with.STORAGE",
        string,
    ] {
        let value = OptionText {
            text: string.to_owned(),
        };
        let set = SetOptions {
            session_options: HashMap::from([(option.to_owned(), value)]),
        };
        let answer = act(client, "SetSessionOptions", set.encode_to_vec()).await;
        calls.push((
            "SetSessionOptions",
            answer.map(|body| String::from_utf8_lossy(&body).into_owned()),
        ));
        // What was set is used.
        calls.push((
            "a query after it",
            client
                .clone()
                .rows("SELECT v FROM mixed")
                .await
                .map(|rows| format!("{rows:?}")),
        ));
        let unset = SetOptions {
            session_options: HashMap::from([(option.to_owned(), OptionText::default())]),
        };
        // Some cannot be empty; the session's end forgets those.
        calls.push((
            "unsetting it",
            act(client, "SetSessionOptions", unset.encode_to_vec())
                .await
                .map(|_| String::new()),
        ));
    }
    let (literal, name) = (string.replace('\'', "''"), string.replace('"', "\"\""));
    for sql in [
        format!("USE \"{name}\""),
        format!("SET time_zone = '{literal}'"),
        format!("SET schema = '{literal}'"),
        format!("SELECT * FROM {namespace}.\"{name}\""),
        format!("SELECT \"{name}\" FROM {namespace}.mixed"),
        format!("SELECT '{literal}' AS \"{name}\""),
        format!(
            "SELECT count(*) FROM {namespace}.mixed WHERE v = '{literal}' OR v LIKE '{literal}_' OR v ~ '[{literal}'"
        ),
        format!("SELECT arrow_cast('1', '{literal}')"),
        format!("SELECT to_char(now(), '{literal}')"),
        format!("DESCRIBE {namespace}.\"{name}\""),
        format!("SHOW TABLES FROM \"{name}\""),
        format!("KILL QUERY '{literal}'"),
        format!("KILL SESSION '{literal}'"),
        format!("EXECUTE AS USER '{literal}' (SELECT 1)"),
        format!("GRANT SELECT ON {namespace}.\"{name}\" TO '{literal}'"),
        format!("FLUSH TABLE {namespace}.\"{name}\""),
        format!("DROP TABLE IF EXISTS \"{name}\".\"{name}\""),
        format!("CREATE TABLE public.o (id INTEGER) WITH (STORAGE = '{literal}', COMPRESSION = '{literal}')"),
        format!("ALTER USER '{literal}' SET QUOTA rows = 1"),
    ] {
        let outcome = client.clone().rows(&sql).await;
        calls.push(("a statement", outcome.map(|rows| format!("{sql}: {rows:?}"))));
    }
    let reply = http.sql_with(
        &format!("SELECT count(*) FROM {namespace}.mixed WHERE v = $1"),
        &serde_json::json!([string]),
    );
    calls.push(("HTTP parameters", Ok(reply.text())));
    let body = serde_json::json!({"sql": "SELECT CURRENT_USER", "user": string, "as": string, "session": string});
    calls.push((
        "HTTP",
        Ok(http
            .post(
                "/api/sql",
                Some(string).filter(|text| text.is_ascii() && !text.contains(char::is_control)),
                body.to_string().as_bytes(),
            )
            .text()),
    ));
    calls
        .into_iter()
        .map(|(name, outcome)| (name.to_owned(), outcome))
        .collect()
}

async fn flights(raw: &mut FlightServiceClient<Channel>, client: &Client, criteria: &str) -> Result<String, SqlError> {
    let criteria = Criteria {
        expression: criteria.as_bytes().to_vec().into(),
    };
    let flights = raw.list_flights(client.authorized(criteria)).await?.into_inner();
    let flights: Vec<FlightInfo> = flights.try_collect().await?;
    let mut told = String::new();
    for info in flights {
        let path = info
            .flight_descriptor
            .as_ref()
            .map(|descriptor| descriptor.path.join("."));
        told.push_str(&format!("{path:?}: {}\n", rows_of(client, ticket_of(&info)).await?));
    }
    Ok(told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_string_that_reaches_a_parser_is_more_than_a_name_or_a_value() {
    let mut scene = Scene::new().await;
    let before = scene.rows_of_victim().await;
    let objects = "SELECT table_id, namespace_id, table_name FROM system.tables ORDER BY table_id";
    let users = "SELECT user_id, role FROM system.users ORDER BY user_id";
    let there = (scene.root.ok(objects).await, scene.root.ok(users).await);
    let mut wrong = Vec::new();
    let mut tried = 0;
    for string in STRINGS {
        for Attacker { role, .. } in &scene.attackers {
            // A session for each string: what cannot be unset ends with it.
            let client = scene.server.login(&format!("mallory_{role}"), PASSWORD).await;
            let http = Http::bearer(scene.server.http, client.token());
            for (call, outcome) in calls_with(&client, &http, string, "filled").await {
                tried += 1;
                let told = text(outcome.map(|told| vec![vec![told]]));
                let breaks = told.contains(MARKER) || told.contains("INTERNAL:") || told.contains("Unknown ");
                // What was sent comes back in a message about it.
                let knows = *role == "user" && told.replace(string, "").contains(VICTIM) && !string.contains(VICTIM);
                if breaks || knows {
                    wrong.push(format!("{role}, {call} with {string:?}: {told}"));
                }
            }
        }
    }
    assert!(tried > 1_000, "{tried}");
    assert!(wrong.is_empty(), "{} findings:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!((scene.root.ok(objects).await, scene.root.ok(users).await), there);
    // The same calls with a name that is one do find it.
    let client = scene.server.login(VICTIM, PASSWORD).await;
    let http = Http::bearer(scene.server.http, client.token());
    let mut found = String::new();
    for name in ["filled", "mixed"] {
        for (call, outcome) in calls_with(&client, &http, name, "filled").await {
            if let Ok(told) = outcome {
                found.push_str(&format!("{call} with {name}: {told}\n"));
            }
        }
    }
    for expected in [
        "GetDbSchemas with filled: [[\"kalam\", \"filled\"]]",
        "GetPrimaryKeys with mixed: [[\"kalam\", \"filled\", \"mixed\", \"id\"",
        "GetTables with mixed: [[\"kalam\", \"filled\", \"mixed\"",
        "a path with mixed: [[\"1\"",
        "ListFlights with filled: Some(\"filled.box\")",
        "a query after it with filled: [[",
        "a statement with mixed: SELECT * FROM filled.\"mixed\"",
    ] {
        assert!(found.contains(expected), "no {expected} in:\n{found}");
    }
    assert!(found.contains(MARKER));
    scene.check_undisturbed(&before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_stands_for_another_than_it_was_made_for() {
    let mut scene = Scene::new().await;
    let before = scene.rows_of_victim().await;
    let parts = |token: &str| -> Vec<String> { token.split('.').map(str::to_owned).collect() };
    let claims = |part: &str| -> serde_json::Value {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64");
        serde_json::from_slice(&bytes).expect("claims")
    };
    let encoded = |value: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let theirs = parts(scene.victim.token());
    let select = "SELECT max(v) FROM filled.mixed WHERE id < 900";
    for Attacker { role, client } in &scene.attackers {
        let own = parts(client.token());
        let named = encoded(&serde_json::json!({"typ": "JWT", "alg": "none"}));
        // The victim's claims and each of them by itself in the attacker's.
        let mut said: Vec<String> = vec![theirs[1].clone()];
        let victims = claims(&theirs[1]);
        for (name, value) in victims.as_object().expect("claims") {
            let mut changed = claims(&own[1]);
            if changed[name] != *value {
                changed[name] = value.clone();
                said.push(encoded(&changed));
            }
        }
        assert!(said.len() >= 4, "user, scope and session differ: {victims}");
        for said in said {
            for token in [
                format!("{}.{said}.{}", own[0], own[2]),
                format!("{}.{said}.{}", own[0], theirs[2]),
                format!("{named}.{said}."),
                format!("{named}.{said}.{}", own[2]),
                format!("{}.{said}.", own[0]),
            ] {
                if token == scene.victim.token() {
                    continue;
                }
                let reply = Http::bearer(scene.server.http, &token).sql(select);
                assert_eq!(reply.status, 401, "{role}: {}", reply.text());
                let mut flight = client.flight.clone();
                flight.set_token(token);
                let refused = flight.execute(select.to_owned(), None).await;
                let error = SqlError::from(refused.expect_err("the token is no good"));
                assert_eq!(error.code(), "UNAUTHENTICATED", "{role}: {error}");
            }
        }
        let http = Http::basic(scene.server.http, VICTIM, "a password for the tesT");
        assert_eq!(http.sql(select).status, 401, "{role}");
    }
    // As it was made, it is good.
    let reply = Http::bearer(scene.server.http, scene.victim.token()).sql(select);
    assert!(reply.text().contains(MARKER), "{}", reply.text());
    scene.check_undisturbed(&before).await;
}
