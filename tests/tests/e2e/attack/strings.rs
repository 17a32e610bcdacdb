//! Strings that reach a parser: names, patterns, formats, values and options of every call, as texts that mean more to one who takes them for SQL.

use std::collections::HashMap;
use std::net::SocketAddr;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{
    CommandGetDbSchemas, CommandGetExportedKeys, CommandGetPrimaryKeys, CommandGetTables, ProstMessageExt,
    TableExistsOption, TableNotExistOption,
};
use arrow_flight::{Criteria, FlightDescriptor, FlightInfo, Ticket};
use futures::TryStreamExt;
use kalamdb_tests::{Client, Http, SqlError, text_rows};
use prost::Message;
use tonic::transport::Channel;

use super::calls::{OptionText, SetOptions, act, command, fetched, put, rows_of, ticket_of};
use super::{Attacker, MARKER, PASSWORD, Scene, VICTIM, text};
use crate::batches::{batch, ingest_command, text as texts};

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
    door: SocketAddr,
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
        // Formats, patterns, units, zones, paths.
        format!("SELECT INTERVAL '{literal}'"),
        format!("SELECT CAST('{literal}' AS INTERVAL), now() + CAST('{literal}' AS INTERVAL)"),
        format!("SELECT CAST('{literal}' AS DATE)"),
        format!("SELECT TIMESTAMPTZ '2020-01-01 00:00:00 {literal}'"),
        format!("SELECT now() AT TIME ZONE '{literal}'"),
        format!("SELECT date_trunc('{literal}', now())"),
        format!("SELECT date_part('{literal}', now())"),
        format!("SELECT to_timestamp('2020', '{literal}')"),
        format!("SELECT count(*) FROM {namespace}.mixed WHERE v SIMILAR TO '{literal}'"),
        format!("SELECT count(*) FROM {namespace}.mixed WHERE v LIKE 'x' ESCAPE '{literal}'"),
        format!("SELECT count(*) FROM {namespace}.mixed WHERE v ~ '{literal}' OR regexp_like(v, '{literal}', 'i')"),
        format!("SELECT regexp_replace('x', 'x', '{literal}', 'g'), regexp_match('x', '{literal}')"),
        format!("SELECT '{{\"a\": 1}}'::JSON -> '{literal}', json_get_str('{{\"a\": 1}}', '{literal}')"),
        format!("SELECT CAST('{literal}' AS JSON)"),
        format!("SELECT encode('{literal}', 'hex'), decode('{literal}', 'base64'), digest('x', '{literal}')"),
        format!("SELECT max(\"{name}\".v) FROM {namespace}.facts AS \"{name}\""),
        format!("SELECT CAST(1 AS \"{name}\")"),
        format!("SELECT \"{name}\"(1)"),
        format!("WITH \"{name}\" AS (SELECT 1 AS a) SELECT a FROM \"{name}\""),
        format!("INSERT INTO {namespace}.box (\"{name}\") VALUES ('x')"),
        format!("SHOW TABLES IN {namespace} LIKE '{literal}'"),
        format!("SHOW \"{name}\""),
        format!("KILL JOB '{literal}'"),
        format!("SHOW GRANTS FOR '{literal}'"),
        format!("DROP USER IF EXISTS '{literal}_'"),
        format!("DROP VIEW IF EXISTS {namespace}.\"{name}\""),
        format!("STORAGE CHECK TABLE {namespace}.\"{name}\""),
        format!("CREATE TABLE public.o (id INTEGER) WITH (FLUSH_POLICY = '{literal}')"),
        format!("CREATE TABLE public.o (id INTEGER) WITH (ACCESS_LEVEL = '{literal}')"),
        format!("CREATE STORAGE o PATH '{literal}'"),
        format!("ALTER USER 'mallory_user' SET QUOTA memory = '{literal}'"),
    ] {
        let outcome = client.clone().rows(&sql).await;
        calls.push(("a statement", outcome.map(|rows| format!("{sql}: {rows:?}"))));
    }
    // Names and types that come with rows.
    for (columns, sql) in [
        (string, "SELECT count(*) FROM filled.mixed WHERE v = $1"),
        ("$1", "SELECT count(*) FROM filled.mixed WHERE v = $1"),
    ] {
        let rows = batch(vec![(columns, texts([string]))]);
        let bound = client.clone().query_bound(sql, rows).await;
        calls.push((
            "bound rows",
            bound.map(|outcome| format!("{:?}", text_rows(&outcome.batches))),
        ));
    }
    let append = ingest_command(
        namespace,
        "box",
        TableNotExistOption::Fail,
        TableExistsOption::Append,
        &[],
    );
    let rows = batch(vec![(string, texts(["mine"]))]);
    calls.push((
        "an ingested column",
        put(client, append.as_any().encode_to_vec(), rows).await,
    ));
    calls.push((
        "a ticket",
        rows_of(client, Ticket::new(string.as_bytes().to_vec())).await,
    ));
    calls.push((
        "an action",
        act(client, string, Vec::new()).await.map(|_| String::new()),
    ));
    let login = Client::login(door, string, PASSWORD).await;
    calls.push(("a login", login.map(|_| String::new())));
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
            for (call, outcome) in calls_with(&client, &http, scene.server.flight, string, "filled").await {
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
        for (call, outcome) in calls_with(&client, &http, scene.server.flight, name, "filled").await {
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
