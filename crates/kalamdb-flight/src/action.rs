//! The actions of the protocol: which there are, and what each does with its body. Flight SQL's actions come wrapped in an Any,
//! Flight's own (sessions, CancelFlightInfo) bare.

use std::sync::Arc;

use arrow_flight::sql::ActionCreatePreparedStatementResult as WithoutIsUpdate;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, Any, Command, ProstMessageExt,
};
use arrow_flight::{Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo};
use bytes::Bytes;
use kalamdb_core::{Error, ErrorCode, Result};
use kalamdb_sql::{Database, StatementKind};
use prost::Message;

use crate::auth::SessionLease;
use crate::command::{Source, not_yet, outside_transactions, source_of_ticket, unwrap_any};
use crate::plan::schema_message;
use crate::prepared::PreparedStatements;
use crate::proto::sql::ActionCreatePreparedStatementResult;
use crate::query::RunningQueries;
use crate::session;
use crate::ticket::{self, Work};

/// Each action that works, and what ListActions says of it.
const ACTIONS: [(&str, &str); 7] = [
    (
        CREATE_PREPARED_STATEMENT,
        "Prepares a statement: ActionCreatePreparedStatementRequest in an Any.",
    ),
    (
        CLOSE_PREPARED_STATEMENT,
        "Forgets a prepared statement: ActionClosePreparedStatementRequest in an Any.",
    ),
    (
        SET_SESSION_OPTIONS,
        "Sets or erases options of the session: SetSessionOptionsRequest.",
    ),
    (
        GET_SESSION_OPTIONS,
        "The options of the session: GetSessionOptionsRequest.",
    ),
    (
        CLOSE_SESSION,
        "Ends the session and what runs in it: CloseSessionRequest.",
    ),
    (
        CANCEL_FLIGHT_INFO,
        "Cancels the query of a FlightInfo: CancelFlightInfoRequest.",
    ),
    (
        CANCEL_QUERY,
        "The older form of CancelFlightInfo: ActionCancelQueryRequest in an Any.",
    ),
];

const CREATE_PREPARED_STATEMENT: &str = "CreatePreparedStatement";
const CLOSE_PREPARED_STATEMENT: &str = "ClosePreparedStatement";
const SET_SESSION_OPTIONS: &str = "SetSessionOptions";
const GET_SESSION_OPTIONS: &str = "GetSessionOptions";
const CLOSE_SESSION: &str = "CloseSession";
const CANCEL_FLIGHT_INFO: &str = "CancelFlightInfo";
const CANCEL_QUERY: &str = "CancelQuery";

/// What the protocol has and a later version will do.
const NOT_YET: [&str; 6] = [
    "BeginTransaction",
    "EndTransaction",
    "BeginSavepoint",
    "EndSavepoint",
    "CreatePreparedSubstraitPlan",
    "RenewFlightEndpoint",
];

/// What actions act on.
pub(crate) struct Scene<'a> {
    pub(crate) database: &'a Arc<Database>,
    pub(crate) prepared: &'a PreparedStatements,
    pub(crate) running: &'a RunningQueries,
    pub(crate) lease: &'a SessionLease,
}

/// Whether an action prepares a text that has parameters, as far as its characters tell.
pub(crate) fn prepares_parameters(action: &Action) -> bool {
    // A body that does not decode is refused when the action runs.
    action.r#type == CREATE_PREPARED_STATEMENT
        && unwrap_any::<ActionCreatePreparedStatementRequest>(&action.body)
            .is_ok_and(|request| request.query.contains(['?', '$']))
}

/// ListActions.
pub(crate) fn list() -> Vec<ActionType> {
    let action = |(name, description): (&str, &str)| ActionType {
        r#type: name.to_owned(),
        description: description.to_owned(),
    };
    ACTIONS.into_iter().map(action).collect()
}

/// Runs an action; the body of its result, if it has one.
///
/// # Errors
/// INVALID_REQUEST for a body that does not decode, UNSUPPORTED for an action that there is not, and the action's own.
pub(crate) async fn run(scene: Scene<'_>, action: Action) -> Result<Option<Bytes>> {
    let body = &action.body;
    let result = match action.r#type.as_str() {
        CREATE_PREPARED_STATEMENT => create_prepared(&scene, unwrap_any(body)?).await?,
        CLOSE_PREPARED_STATEMENT => {
            let request: ActionClosePreparedStatementRequest = unwrap_any(body)?;
            scene
                .prepared
                .close(scene.lease.session().principal(), &request.prepared_statement_handle)?;
            return Ok(None);
        }
        SET_SESSION_OPTIONS => session::set_options(scene.database, scene.lease, body)?,
        GET_SESSION_OPTIONS => session::options(scene.lease, body)?,
        CLOSE_SESSION => session::close(scene.database, scene.lease, body)?,
        CANCEL_FLIGHT_INFO => {
            let request = CancelFlightInfoRequest::decode(body.clone()).map_err(undecodable)?;
            let info = request.info.ok_or_else(|| {
                invalid("the action's body has no FlightInfo; it is a CancelFlightInfoRequest with that of the query to cancel")
            })?;
            CancelFlightInfoResult {
                status: cancel(&scene, &info)?.into(),
            }
            .encode_to_vec()
        }
        CANCEL_QUERY => {
            let request: ActionCancelQueryRequest = unwrap_any(body)?;
            if request.info.is_empty() {
                return Err(invalid(
                    "the ActionCancelQueryRequest has no FlightInfo; it names the query to cancel by it",
                ));
            }
            let info = FlightInfo::decode(request.info).map_err(undecodable)?;
            // The two enums have the same numbers.
            let result = ActionCancelQueryResult {
                result: cancel(&scene, &info)?.into(),
            };
            Command::ActionCancelQueryResult(result).into_any().encode_to_vec()
        }
        name if NOT_YET.contains(&name) => return Err(not_yet(&format!("{name} is"))),
        name => {
            let name: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
            let message = format!("there is no action '{name}'; ListActions names those there are");
            return Err(Error::new(ErrorCode::Unsupported, message));
        }
    };
    Ok(Some(result.into()))
}

async fn create_prepared(scene: &Scene<'_>, request: ActionCreatePreparedStatementRequest) -> Result<Vec<u8>> {
    outside_transactions(request.transaction_id.as_ref())?;
    let (handle, plan) = scene
        .prepared
        .create(scene.database, scene.lease.session(), &request.query)
        .await?;
    let parameter_schema = if plan.parameters.fields().is_empty() {
        Bytes::new()
    } else {
        schema_message(&plan.parameters)?
    };
    let (dataset_schema, is_update) = match plan.kind {
        // An operation's rows come by FlightInfo, as a query's do.
        StatementKind::Query | StatementKind::Operation => (plan.schema_message.clone(), false),
        StatementKind::Update => (Bytes::new(), true),
    };
    let result = ActionCreatePreparedStatementResult {
        prepared_statement_handle: handle,
        dataset_schema,
        parameter_schema,
        is_update: Some(is_update),
    };
    let any = Any {
        type_url: WithoutIsUpdate::type_url().to_owned(),
        value: result.encode_to_vec().into(),
    };
    Ok(any.encode_to_vec())
}

/// Cancels exactly the queries that run for the tickets of `info`.
fn cancel(scene: &Scene<'_>, info: &FlightInfo) -> Result<CancelStatus> {
    let session = scene.lease.session();
    let mut cancelled = false;
    let mut tickets = info
        .endpoint
        .iter()
        .filter_map(|endpoint| endpoint.ticket.as_ref())
        .peekable();
    if tickets.peek().is_none() {
        return Err(invalid("the FlightInfo has no ticket"));
    }
    for ticket in tickets {
        let Source::Ticket(handle) = source_of_ticket(&ticket.ticket)? else {
            return Ok(CancelStatus::NotCancellable);
        };
        let ticket = ticket::open(&handle, session.principal())?;
        match ticket.work {
            Work::Finished | Work::Report(_) | Work::Kept => return Ok(CancelStatus::NotCancellable),
            Work::Query(_) => {
                for query_id in scene.running.of(&ticket.id) {
                    cancelled |= scene.database.cancel_query(session, &query_id)?;
                }
            }
        }
    }
    if cancelled {
        Ok(CancelStatus::Cancelled)
    } else {
        Err(Error::new(
            ErrorCode::NotFound,
            "no query runs for this FlightInfo: it did not start or is finished",
        ))
    }
}

fn undecodable(error: prost::DecodeError) -> Error {
    invalid(format!("the action's body does not decode: {error}"))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidRequest, message)
}
