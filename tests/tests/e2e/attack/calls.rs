//! What is tried as calls of the protocol: another's handles, tickets, queries and sessions.

use std::collections::HashMap;

use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, Any, CommandPreparedStatementQuery, CommandPreparedStatementUpdate,
    ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{Action, CancelFlightInfoRequest, CancelFlightInfoResult, FlightDescriptor, FlightInfo, Ticket};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use kalamdb_tests::{Client, SqlError, text_rows};
use prost::Message;

use super::{Attacker, FILLED, MARKER, PASSWORD, Scene, VICTIM};
use crate::batches::{batch, int64};

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
pub(super) struct SetOptions {
    #[prost(map = "string, message", tag = "1")]
    pub(super) session_options: HashMap<String, OptionText>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct OptionText {
    #[prost(string, tag = "1")]
    pub(super) text: String,
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

pub(super) fn ticket_of(info: &FlightInfo) -> Ticket {
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

pub(super) async fn act(client: &Client, name: &str, body: Vec<u8>) -> Result<Bytes, SqlError> {
    let action = Action {
        r#type: name.to_owned(),
        body: body.into(),
    };
    let mut reply = client.raw().do_action(client.authorized(action)).await?.into_inner();
    Ok(reply.message().await?.map(|result| result.body).unwrap_or_default())
}

/// The body of a CreatePreparedStatement.
pub(super) fn prepare_request(sql: &str) -> Vec<u8> {
    let request = ActionCreatePreparedStatementRequest {
        query: sql.to_owned(),
        transaction_id: None,
    };
    request.as_any().encode_to_vec()
}

async fn prepare(client: &Client, sql: &str) -> Bytes {
    let body = act(client, "CreatePreparedStatement", prepare_request(sql)).await;
    let any = Any::decode(body.expect("it prepares")).expect("an Any");
    let made: Option<ActionCreatePreparedStatementResult> = any.unpack().expect("it decodes");
    made.expect("a prepared statement").prepared_statement_handle
}

pub(super) async fn info_of(client: &Client, descriptor: FlightDescriptor) -> Result<FlightInfo, SqlError> {
    Ok(client
        .raw()
        .get_flight_info(client.authorized(descriptor))
        .await?
        .into_inner())
}

/// The rows of a ticket, the first thousand of them.
pub(super) async fn rows_of(client: &Client, ticket: Ticket) -> Result<String, SqlError> {
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

pub(super) async fn fetched(client: &Client, descriptor: FlightDescriptor) -> Result<String, SqlError> {
    let info = info_of(client, descriptor).await?;
    rows_of(client, ticket_of(&info)).await
}

/// DoPut of a command, with rows or without.
pub(super) async fn put(
    client: &Client,
    command: Vec<u8>,
    rows: arrow::array::RecordBatch,
) -> Result<String, SqlError> {
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

pub(super) fn command(message: &impl ProstMessageExt) -> FlightDescriptor {
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
    let polled = client.raw().poll_flight_info(client.authorized(command(&handle))).await;
    let polled = match polled.map(|reply| reply.into_inner().info) {
        Ok(info) => rows_of(client, ticket_of(&info.expect("it is complete at once"))).await,
        Err(status) => Err(status.into()),
    };
    note("a prepared query at PollFlightInfo", polled, MARKER, Refused);
    // The text that is in it, as one's own.
    let descriptor = loot.info.flight_descriptor.clone();
    let again = fetched(client, descriptor.expect("a FlightInfo has one")).await;
    note("the descriptor of a FlightInfo", again, MARKER, Own);
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
    let select = "SELECT v FROM filled.mixed WHERE id < 900 UNION ALL SELECT v FROM filled.live \
                  UNION ALL SELECT v FROM filled.hot UNION ALL SELECT v FROM filled.cold";
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
        // Options are one's own session's, and closing closes that.
        let other = scene.server.login(&format!("mallory_{role}"), PASSWORD).await;
        let set = SetOptions {
            session_options: HashMap::from([(
                "schema".to_owned(),
                OptionText {
                    text: FILLED.to_owned(),
                },
            )]),
        };
        act(&other, "SetSessionOptions", set.encode_to_vec())
            .await
            .expect("it sets");
        assert_eq!(other.clone().ok("SHOW schema").await[0][1], FILLED, "the control");
        act(&other, "CloseSession", Vec::new()).await.expect("it closes");
        assert_eq!(
            other.clone().error("SELECT 1").await.code(),
            "UNAUTHENTICATED",
            "the control"
        );
    }
    assert_eq!(victim.ok("SHOW schema").await[0][1], "public");
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
