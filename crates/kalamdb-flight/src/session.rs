//! The session actions of the protocol: setting, reading and closing, and the wire form of option values. Which options there
//! are is for `kalamdb-sql` to say.

use std::sync::Arc;

use bytes::Bytes;
use kalamdb_core::{Error, ErrorCode, Result};
use kalamdb_sql::{Database, SessionValue};
use prost::Message;

use crate::auth::SessionLease;
use crate::proto::session::session_option_value::{OptionValue, StringListValue};
use crate::proto::session::set_session_options_result::{Error as OptionError, ErrorValue};
use crate::proto::session::{
    CloseSessionRequest, CloseSessionResult, GetSessionOptionsRequest, GetSessionOptionsResult, SessionOptionValue,
    SetSessionOptionsRequest, SetSessionOptionsResult, close_session_result,
};

/// SetSessionOptions: sets each option by itself; the result names those that could not be set, and why.
///
/// # Errors
/// INVALID_REQUEST for a body that does not decode, or in a session that would forget the options at once.
pub(crate) fn set_options(database: &Arc<Database>, lease: &SessionLease, body: &[u8]) -> Result<Vec<u8>> {
    let request: SetSessionOptionsRequest = decode_body(body)?;
    if lease.is_for_one_call() {
        return Err(Error::new(
            ErrorCode::InvalidRequest,
            "this call has a session of its own, which ends with it; log in by handshake and use the token, so that options last",
        ));
    }
    let mut result = SetSessionOptionsResult::default();
    for (name, value) in request.session_options {
        if let Err(error) = database.set_session_option(lease.session(), &name, decode_value(value)) {
            tracing::debug!(
                option = name,
                code = error.code.as_str(),
                "a session option was refused"
            );
            result.errors.insert(
                name,
                OptionError {
                    value: error_value(error.code).into(),
                },
            );
        }
    }
    Ok(result.encode_to_vec())
}

/// GetSessionOptions: all that have a value.
///
/// # Errors
/// INVALID_REQUEST for a body that does not decode.
pub(crate) fn options(lease: &SessionLease, body: &[u8]) -> Result<Vec<u8>> {
    let _: GetSessionOptionsRequest = decode_body(body)?;
    let session_options = lease
        .session()
        .options()
        .into_iter()
        .map(|(name, value)| (name, encode_value(&value)))
        .collect();
    Ok(GetSessionOptionsResult { session_options }.encode_to_vec())
}

/// CloseSession: ends the caller's session. Its token is of no use any more.
///
/// # Errors
/// INVALID_REQUEST for a body that does not decode.
pub(crate) fn close(database: &Arc<Database>, lease: &SessionLease, body: &[u8]) -> Result<Vec<u8>> {
    let _: CloseSessionRequest = decode_body(body)?;
    // A concurrent CloseSession may have been faster: it is closed either way.
    database.close_session(lease.session().id());
    Ok(CloseSessionResult {
        status: close_session_result::Status::Closed.into(),
    }
    .encode_to_vec())
}

/// A value as the protocol has it.
pub(crate) fn encode_value(value: &SessionValue) -> SessionOptionValue {
    let option_value = match value {
        SessionValue::String(value) => OptionValue::StringValue(value.clone()),
        SessionValue::Bool(value) => OptionValue::BoolValue(*value),
        SessionValue::Int64(value) => OptionValue::Int64Value(*value),
        SessionValue::Double(value) => OptionValue::DoubleValue(*value),
        SessionValue::StringList(values) => OptionValue::StringListValue(StringListValue { values: values.clone() }),
    };
    SessionOptionValue {
        option_value: Some(option_value),
    }
}

/// A value from the protocol's; `None` erases.
pub(crate) fn decode_value(value: SessionOptionValue) -> Option<SessionValue> {
    Some(match value.option_value? {
        OptionValue::StringValue(value) => SessionValue::String(value),
        OptionValue::BoolValue(value) => SessionValue::Bool(value),
        OptionValue::Int64Value(value) => SessionValue::Int64(value),
        OptionValue::DoubleValue(value) => SessionValue::Double(value),
        OptionValue::StringListValue(list) => SessionValue::StringList(list.values),
    })
}

/// The bodies of session actions are bare messages, without an Any around them.
fn decode_body<M: Message + Default>(body: &[u8]) -> Result<M> {
    M::decode(Bytes::copy_from_slice(body)).map_err(|error| {
        Error::new(
            ErrorCode::InvalidRequest,
            format!("the action's body does not decode: {error}"),
        )
    })
}

fn error_value(code: ErrorCode) -> ErrorValue {
    match code {
        ErrorCode::NotFound => ErrorValue::InvalidName,
        ErrorCode::InvalidArgument | ErrorCode::TypeMismatch | ErrorCode::NamespaceNotFound => ErrorValue::InvalidValue,
        _ => ErrorValue::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_of_value_makes_the_round_trip() {
        let check = |value: SessionValue| {
            let bytes = encode_value(&value).encode_to_vec();
            let decoded = SessionOptionValue::decode(&bytes[..]).expect("decodes");
            assert_eq!(decode_value(decoded), Some(value));
        };
        check(SessionValue::String("chat".to_owned()));
        check(SessionValue::Bool(true));
        check(SessionValue::Int64(-5));
        check(SessionValue::Double(0.5));
        check(SessionValue::StringList(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(decode_value(SessionOptionValue { option_value: None }), None);
    }
}
