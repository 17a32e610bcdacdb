//! What calls tell beside rows: FlightInfos, schemas, counts of updates, headers. They may not depend on another's rows either.

use arrow_flight::sql::{CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, CommandStatementQuery};
use arrow_flight::{Criteria, FlightDescriptor, FlightInfo};
use futures::TryStreamExt;
use kalamdb_tests::{Client, Http, SqlError};

use super::calls::{act, command, fetched, info_of, prepare_request};
use super::{Attacker, COPY, FILLED, MARKER, Scene, TABLES, TWIN, VICTIM, comparable, text};

/// What a FlightInfo says, but for what is in a ticket, which has the time and a random id.
fn said(info: &FlightInfo) -> String {
    let endpoints: Vec<_> = info
        .endpoint
        .iter()
        .map(|endpoint| {
            let ticket = endpoint.ticket.as_ref().map(|ticket| ticket.ticket.len());
            format!(
                "{:?} {:?} {:?} ticket of {ticket:?}",
                endpoint.location, endpoint.expiration_time, endpoint.app_metadata
            )
        })
        .collect();
    format!(
        "{} records, {} bytes, ordered: {}, {:?}, schema {:?}, {endpoints:?}",
        info.total_records, info.total_bytes, info.ordered, info.app_metadata, info.schema
    )
}

/// What every such call says, by its name; what changes rows comes last.
async fn calls(client: &Client, namespace: &str, table: &str) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    let mut note = |name, outcome: Result<String, SqlError>| {
        let told = text(outcome.map(|told| vec![vec![told]]));
        all.push((name, told.replace(namespace, "n")));
    };
    let path = || FlightDescriptor::new_path(vec![namespace.to_owned(), table.to_owned()]);
    let query = |sql: &str| {
        command(&CommandStatementQuery {
            query: sql.replace("{n}", namespace).replace("{t}", table),
            transaction_id: None,
        })
    };
    let info = async |descriptor| info_of(client, descriptor).await.map(|info| said(&info));
    note("GetFlightInfo of a path", info(path()).await);
    note("GetFlightInfo of a query", info(query("SELECT * FROM {n}.{t}")).await);
    note(
        "GetFlightInfo of a count",
        info(query("SELECT count(*) FROM {n}.{t}")).await,
    );
    let poll = client.raw().poll_flight_info(client.authorized(path())).await;
    let poll = poll.map(|reply| {
        let poll = reply.into_inner();
        let info = poll.info.as_ref().map(said);
        format!("{:?} {:?} {info:?}", poll.progress, poll.expiration_time)
    });
    note("PollFlightInfo", poll.map_err(SqlError::from));
    let schema = client.raw().get_schema(client.authorized(path())).await;
    note(
        "GetSchema",
        schema
            .map(|reply| format!("{:?}", reply.into_inner()))
            .map_err(SqlError::from),
    );
    let criteria = Criteria {
        expression: namespace.as_bytes().to_vec().into(),
    };
    let flights = async {
        let flights = client
            .raw()
            .list_flights(client.authorized(criteria))
            .await?
            .into_inner();
        let flights: Vec<FlightInfo> = flights.try_collect().await?;
        let flights: Vec<String> = flights
            .iter()
            .map(|info| format!("{:?} {}", info.flight_descriptor, said(info)))
            .collect();
        Ok(flights.join("\n"))
    };
    note("ListFlights", flights.await);
    let schemas = CommandGetDbSchemas {
        catalog: None,
        db_schema_filter_pattern: Some(namespace.to_owned()),
    };
    note("GetDbSchemas", fetched(client, command(&schemas)).await);
    let tables = CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: Some(namespace.to_owned()),
        table_name_filter_pattern: Some(table.to_owned()),
        table_types: Vec::new(),
        include_schema: false,
    };
    note("GetTables", fetched(client, command(&tables)).await);
    note("GetFlightInfo of GetTables", info(command(&tables)).await);
    let keys = CommandGetPrimaryKeys {
        catalog: None,
        db_schema: Some(namespace.to_owned()),
        table: table.to_owned(),
    };
    note("GetPrimaryKeys", fetched(client, command(&keys)).await);
    let prepare = prepare_request(&format!("SELECT * FROM {namespace}.{table} WHERE id = $1"));
    let prepared = act(client, "CreatePreparedStatement", prepare).await;
    // All but the handle, which is random.
    let prepared = prepared.map(|body| {
        let body = String::from_utf8_lossy(&body).into_owned();
        format!("a prepared statement of {} bytes", body.matches("amount").count())
    });
    note("CreatePreparedStatement", prepared);
    let update = format!("UPDATE {namespace}.{table} SET amount = amount WHERE id < 900");
    let updated = client.clone().update(&update).await;
    note("DoPut of an update", updated.map(|count| format!("{count} rows")));
    note(
        "GetFlightInfo of an update",
        info(query("UPDATE {n}.{t} SET amount = amount WHERE id < 900")).await,
    );
    note(
        "GetFlightInfo of RETURNING",
        info(query("UPDATE {n}.{t} SET amount = amount WHERE id < 900 RETURNING v")).await,
    );
    note(
        "GetFlightInfo of a delete",
        info(query("DELETE FROM {n}.{t} WHERE id < 3")).await,
    );
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_tells_of_anothers_rows_beside_rows() {
    let mut scene = Scene::new().await;
    let before = scene.rows_of_victim().await;
    let mut wrong = Vec::new();
    for table in TABLES {
        let mut nobodys = Vec::new();
        for Attacker { role, client } in &scene.attackers {
            let twin = calls(client, TWIN, table).await;
            for ((name, told), (_, twin)) in calls(client, FILLED, table).await.into_iter().zip(&twin) {
                if &told != twin || told.contains(MARKER) || told.contains(VICTIM) {
                    wrong.push(format!(
                        "{role}, {name} of {table}: {told}\n   without the victim's rows: {twin}"
                    ));
                }
            }
            nobodys = twin;
        }
        // To the victim they tell of the table, and what there is to count differs.
        for ((name, told), (_, nobodys)) in calls(&scene.victim, COPY, table).await.into_iter().zip(&nobodys) {
            let shows = match name {
                "DoPut of an update" => "3 rows",
                "GetFlightInfo of an update" => "3 records",
                "GetFlightInfo of a delete" => "2 records",
                "GetFlightInfo of RETURNING" => "ticket of",
                "CreatePreparedStatement" => "a prepared statement",
                _ => "",
            };
            let counts = ["update", "RETURNING", "delete"]
                .iter()
                .any(|word| name.ends_with(word));
            if told.contains("Error") || !told.contains(shows) || counts && &told == nobodys {
                wrong.push(format!("the control of {name} of {table} shows no {shows}: {told}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} findings:\n{}", wrong.len(), wrong.join("\n"));
    scene.check_undisturbed(&before).await;
}

/// Status, type and headers of what HTTP answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_header_of_http_does_either() {
    let mut scene = Scene::new().await;
    let before = scene.rows_of_victim().await;
    let mut wrong = Vec::new();
    let answer = |client: &Client, sql: &str| {
        let http = Http::bearer(scene.server.http, client.token());
        let mut replies = vec![http.sql(sql)];
        // Rows in Arrow that end with an error are a reply that breaks off.
        if !sql.contains('/') {
            replies.push(http.sql_arrow(sql));
        }
        let mut told = String::new();
        for reply in replies {
            // Of the length of an answer the number of milliseconds is a part.
            let headers = reply.headers.iter();
            let headers: Vec<_> = headers
                .filter(|(name, _)| name != "date" && name != "content-length")
                .collect();
            told.push_str(&format!("{} {headers:?}\n", reply.status));
        }
        told
    };
    let mut seen = false;
    for table in TABLES {
        for sql in [
            "SELECT * FROM {n}.{t} WHERE id < 900",
            "SELECT v FROM {n}.{t} WHERE 1 / (amount - 11) > 5",
        ] {
            let of = |namespace: &str| sql.replace("{n}", namespace).replace("{t}", table);
            for Attacker { role, client } in &scene.attackers {
                let told = comparable(&answer(client, &of(FILLED)), FILLED);
                let twin = comparable(&answer(client, &of(TWIN)), TWIN);
                if told != twin {
                    wrong.push(format!(
                        "{role}: {sql}\n   with the victim's rows: {told}\n   without: {twin}"
                    ));
                }
            }
            seen |=
                answer(&scene.victim, &of(COPY)).contains("400") != answer(&scene.victim, &of(TWIN)).contains("400");
        }
    }
    assert!(seen, "the control: an error shows in the status");
    assert!(wrong.is_empty(), "{} findings:\n{}", wrong.len(), wrong.join("\n"));
    scene.check_undisturbed(&before).await;
}
