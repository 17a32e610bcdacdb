//! What DoGet's tickets hold and how they are checked. A ticket stands for itself: it needs neither the connection nor the
//! process that made it, and only its principal may redeem it. Running it is not here.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::convert::try_schema_from_ipc_buffer;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow_flight::sql::{ProstMessageExt, TicketStatementQuery};
use bytes::Bytes;
use kalamdb_core::{Clock, Error, ErrorCode, Principal, Result};
use kalamdb_sql::SessionValue;
use prost::Message;

use crate::proto::own;
use crate::session::{decode_value, encode_value};

/// The newest kind of ticket this server knows.
const VERSION: u32 = 1;

/// Names one ticket, so that the query it runs can be found.
pub(crate) type TicketId = Bytes;

/// What a ticket does when it is redeemed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Work {
    /// Runs a query.
    Query(Box<QueryTicket>),
    /// Nothing: the statement ran when FlightInfo was asked for. An empty stream with no columns.
    Finished,
    /// Nothing, likewise; these rows are about what it did.
    Report(RecordBatch),
    /// The same; the server has the rows.
    Kept,
}

/// A query that runs at DoGet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct QueryTicket {
    pub(crate) sql: String,
    /// What FlightInfo promised.
    pub(crate) schema: SchemaRef,
    pub(crate) parameters: Option<RecordBatch>,
    /// The session's options when it was planned.
    pub(crate) session_options: BTreeMap<String, SessionValue>,
}

/// A ticket, checked.
#[derive(Clone, Debug)]
pub(crate) struct StatementTicket {
    pub(crate) id: TicketId,
    pub(crate) work: Work,
}

/// What goes into a query's ticket; the schema is the IPC message of FlightInfo.
pub(crate) struct NewQuery<'a> {
    pub(crate) sql: &'a str,
    pub(crate) schema: Bytes,
    pub(crate) parameters: Option<&'a RecordBatch>,
    pub(crate) session_options: &'a BTreeMap<String, SessionValue>,
}

/// A ticket for a query.
///
/// # Errors
/// INTERNAL when the parameters cannot be encoded.
pub(crate) fn for_query(clock: &dyn Clock, principal: &Principal, query: NewQuery<'_>) -> Result<Bytes> {
    let session_options = query
        .session_options
        .iter()
        .map(|(name, value)| (name.clone(), encode_value(value).encode_to_vec().into()))
        .collect();
    let work = own::statement_ticket::Work::Query(own::Query {
        sql: query.sql.to_owned(),
        schema: query.schema,
        parameters: query.parameters.map(encode_batch).transpose()?.unwrap_or_default(),
        session_options,
    });
    Ok(sealed(clock, principal, work))
}

/// A ticket for a statement that ran already.
pub(crate) fn for_finished(clock: &dyn Clock, principal: &Principal) -> Bytes {
    sealed(
        clock,
        principal,
        own::statement_ticket::Work::Finished(own::Finished {}),
    )
}

/// A ticket for a statement that ran already, with the rows about what it did.
///
/// # Errors
/// INTERNAL when they cannot be encoded.
pub(crate) fn for_report(clock: &dyn Clock, principal: &Principal, rows: &RecordBatch) -> Result<Bytes> {
    let work = own::statement_ticket::Work::Report(own::Report {
        rows: encode_batch(rows)?,
    });
    Ok(sealed(clock, principal, work))
}

/// A ticket for a statement that ran already and whose rows the server keeps, and the ticket's id.
pub(crate) fn for_kept(clock: &dyn Clock, principal: &Principal) -> (Bytes, TicketId) {
    let id = new_id(clock);
    let work = own::statement_ticket::Work::Kept(own::Kept {});
    (sealed_as(id.clone(), principal, work), id)
}

/// The ticket behind the `statement_handle` of a TicketStatementQuery.
///
/// # Errors
/// INVALID_TICKET if it is damaged, of a newer server, or not ours; PERMISSION_DENIED if it is another principal's.
pub(crate) fn open(handle: &[u8], principal: &Principal) -> Result<StatementTicket> {
    let envelope = own::TicketEnvelope::decode(handle).map_err(|_| damaged())?;
    if envelope.version > VERSION {
        return Err(invalid(
            "the ticket was made by a newer server; get a new one from GetFlightInfo",
        ));
    }
    if envelope.version == 0 || checksum(&envelope.content) != envelope.checksum {
        return Err(damaged());
    }
    let ticket = own::StatementTicket::decode(envelope.content).map_err(|_| damaged())?;
    if ticket.user_id != principal.user_id || ticket.scope != principal.scope.0 {
        return Err(Error::new(
            ErrorCode::PermissionDenied,
            "the ticket belongs to another user; get your own from GetFlightInfo",
        ));
    }
    let work = match ticket.work.ok_or_else(damaged)? {
        own::statement_ticket::Work::Finished(own::Finished {}) => Work::Finished,
        own::statement_ticket::Work::Report(report) => Work::Report(decode_batch(&report.rows)?),
        own::statement_ticket::Work::Kept(own::Kept {}) => Work::Kept,
        own::statement_ticket::Work::Query(query) => Work::Query(Box::new(open_query(query)?)),
    };
    Ok(StatementTicket { id: ticket.id, work })
}

fn open_query(query: own::Query) -> Result<QueryTicket> {
    let schema: Schema = try_schema_from_ipc_buffer(&query.schema).map_err(|_| damaged())?;
    let parameters = if query.parameters.is_empty() {
        None
    } else {
        Some(decode_batch(&query.parameters)?)
    };
    let mut session_options = BTreeMap::new();
    for (name, value) in query.session_options {
        let value = decode_value(Message::decode(value).map_err(|_| damaged())?).ok_or_else(damaged)?;
        session_options.insert(name, value);
    }
    Ok(QueryTicket {
        sql: query.sql,
        schema: schema.into(),
        parameters,
        session_options,
    })
}

fn new_id(clock: &dyn Clock) -> TicketId {
    let mut id = [0; 16];
    clock.fill_random(&mut id);
    TicketId::copy_from_slice(&id)
}

fn sealed(clock: &dyn Clock, principal: &Principal, work: own::statement_ticket::Work) -> Bytes {
    sealed_as(new_id(clock), principal, work)
}

/// The bytes of the Flight ticket: a TicketStatementQuery around the envelope.
fn sealed_as(id: TicketId, principal: &Principal, work: own::statement_ticket::Work) -> Bytes {
    let content = own::StatementTicket {
        id,
        user_id: principal.user_id.clone(),
        scope: principal.scope.0,
        work: Some(work),
    }
    .encode_to_vec();
    let envelope = own::TicketEnvelope {
        version: VERSION,
        checksum: checksum(&content),
        content: content.into(),
    };
    TicketStatementQuery {
        statement_handle: envelope.encode_to_vec().into(),
    }
    .as_any()
    .encode_to_vec()
    .into()
}

/// FNV-1a, 64 bits: each step is a bijection of the state, so no change of one byte goes unseen. It guards against damage,
/// not against forgery: whoever forges a ticket gets no rights but their own, as nothing is looked up by a ticket but what is
/// noted as theirs.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |state, &byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn encode_batch(batch: &RecordBatch) -> Result<Bytes> {
    let write = || {
        let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
        writer.write(batch)?;
        writer.into_inner()
    };
    write().map(Bytes::from).map_err(|error| {
        Error::new(
            ErrorCode::Internal,
            format!("rows could not be put into a ticket: {error}"),
        )
    })
}

fn decode_batch(bytes: &[u8]) -> Result<RecordBatch> {
    let mut reader = StreamReader::try_new(bytes, None).map_err(|_| damaged())?;
    reader.next().ok_or_else(damaged)?.map_err(|_| damaged())
}

fn damaged() -> Error {
    invalid("the ticket is damaged or not of this server; get a new one from GetFlightInfo")
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorCode::InvalidTicket, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::{DataType, Field};
    use arrow_flight::sql::Any;
    use kalamdb_core::{Role, SystemClock};
    use kalamdb_store::ScopeId;

    use crate::plan::schema_message;

    fn principal(user_id: &str, scope: u64) -> Principal {
        Principal {
            user_id: user_id.to_owned(),
            role: Role::User,
            scope: ScopeId(scope),
            grants: Default::default(),
        }
    }

    fn query() -> QueryTicket {
        let metadata = [("k".to_owned(), "v".to_owned())].into();
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, false).with_metadata(metadata)]);
        let column: ArrayRef = Arc::new(Int64Array::from(vec![7]));
        QueryTicket {
            sql: "SELECT n FROM t WHERE n = $1".to_owned(),
            schema: Arc::new(schema),
            parameters: Some(RecordBatch::try_from_iter([("$1", column)]).expect("a batch")),
            session_options: BTreeMap::from([
                ("schema".to_owned(), SessionValue::String("chat".to_owned())),
                ("statement_timeout".to_owned(), SessionValue::Int64(5)),
            ]),
        }
    }

    /// The statement_handle inside the bytes of a Flight ticket.
    fn handle_of(ticket: &[u8]) -> Bytes {
        let any = Any::decode(ticket).expect("an Any");
        any.unpack::<TicketStatementQuery>()
            .expect("decodes")
            .expect("a statement's ticket")
            .statement_handle
    }

    fn query_handle(query: &QueryTicket) -> Bytes {
        let new = NewQuery {
            sql: &query.sql,
            schema: schema_message(&query.schema).expect("encodes"),
            parameters: query.parameters.as_ref(),
            session_options: &query.session_options,
        };
        handle_of(&for_query(&SystemClock, &principal("a", 1), new).expect("a ticket"))
    }

    #[test]
    fn tickets_make_the_round_trip() {
        let opened = open(&query_handle(&query()), &principal("a", 1)).expect("opens");
        assert_eq!(opened.work, Work::Query(Box::new(query())));
        assert_eq!(opened.id.len(), 16);
        let bare = QueryTicket {
            parameters: None,
            session_options: BTreeMap::new(),
            ..query()
        };
        let opened = open(&query_handle(&bare), &principal("a", 1)).expect("opens");
        assert_eq!(opened.work, Work::Query(Box::new(bare)));
        let finished = handle_of(&for_finished(&SystemClock, &principal("a", 1)));
        assert_eq!(open(&finished, &principal("a", 1)).expect("opens").work, Work::Finished);
        let rows = query().parameters.expect("a batch");
        let report = for_report(&SystemClock, &principal("a", 1), &rows).expect("a ticket");
        let opened = open(&handle_of(&report), &principal("a", 1)).expect("opens");
        assert_eq!(opened.work, Work::Report(rows.clone()));
        let (kept, id) = for_kept(&SystemClock, &principal("a", 1));
        let opened = open(&handle_of(&kept), &principal("a", 1)).expect("opens");
        assert_eq!((opened.work, opened.id), (Work::Kept, id));
        // However few they are, their columns are there.
        let none = rows.slice(0, 0);
        let report = for_report(&SystemClock, &principal("a", 1), &none).expect("a ticket");
        let opened = open(&handle_of(&report), &principal("a", 1)).expect("opens");
        assert_eq!(opened.work, Work::Report(none));
    }

    #[test]
    fn only_the_same_incarnation_of_the_user_may_redeem() {
        for other in [principal("b", 1), principal("a", 2), principal("b", 2)] {
            let refused = open(&query_handle(&query()), &other).map_err(|error| error.code);
            assert_eq!(refused.map(|_| ()), Err(ErrorCode::PermissionDenied));
        }
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let good = query_handle(&query());
        for index in 0..good.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = good.to_vec();
                damaged[index] ^= flip;
                let refused = open(&damaged, &principal("a", 1))
                    .map_err(|error| error.code)
                    .map(|_| ());
                assert_eq!(refused, Err(ErrorCode::InvalidTicket), "byte {index}");
            }
        }
        for length in 0..good.len() {
            let refused = open(&good[..length], &principal("a", 1))
                .map_err(|error| error.code)
                .map(|_| ());
            assert_eq!(refused, Err(ErrorCode::InvalidTicket), "cut to {length}");
        }
    }

    #[test]
    fn a_ticket_of_a_newer_server_is_refused_by_name() {
        let envelope = own::TicketEnvelope::decode(query_handle(&query())).expect("decodes");
        let newer = own::TicketEnvelope {
            version: VERSION + 1,
            ..envelope
        }
        .encode_to_vec();
        let refused = open(&newer, &principal("a", 1)).expect_err("refused");
        assert_eq!(refused.code, ErrorCode::InvalidTicket);
        assert!(refused.message.contains("newer server"));
    }
}
