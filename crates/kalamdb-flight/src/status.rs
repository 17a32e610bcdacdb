//! The only home of gRPC status codes: from the product's errors to the wire, and from what the wire says to errors.

use arrow_flight::error::FlightError;
use kalamdb_core::{Error, ErrorCode};
use tonic::body::Body;
use tonic::codegen::http::Response;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// The metadata key that carries the product's own code, for programs.
const CODE_KEY: &str = "kalamdb-error-code";

/// How much of a message goes out, bytes: it travels in an HTTP/2 header, of which common clients take 8 KiB in all, and
/// percent-encoding can triple it.
const MESSAGE_LIMIT_BYTES: usize = 2_000;

/// The status of an error: `CODE: text (line x, column y)`.
pub(crate) fn status(error: Error) -> Status {
    if matches!(
        error.code,
        ErrorCode::Internal | ErrorCode::DataCorrupted | ErrorCode::StorageError
    ) {
        tracing::error!(error = %error.for_log(), "a call failed");
    } else {
        // Its message may hold values of the statement, which are for whoever sent it.
        tracing::debug!(code = error.code.as_str(), "a call failed");
    }
    let mut status = Status::new(grpc_code(error.code), shortened(error.to_string()));
    status
        .metadata_mut()
        .insert(CODE_KEY, MetadataValue::from_static(error.code.as_str()));
    status
}

/// The same for a statement with parameters that is refused while it is prepared.
///
/// Problem: ADBC's DB-API takes UNIMPLEMENTED for a server that prepares nothing and goes on without. A statement without
/// parameters then meets the same refusal, but one with parameters fails for a reason of the driver's ("must set
/// IngestTargetTable"). Proper way: a driver that reads ListActions. Chosen: another status beside the same code and text.
/// Evidence: `_prepare_execute` in adbc_driver_manager's `dbapi.py`; `test_unsupported_statements_say_so` of the Python tests.
pub(crate) fn status_of_preparing(error: Error) -> Status {
    let is_unsupported = error.code == ErrorCode::Unsupported;
    let told = status(error);
    if !is_unsupported {
        return told;
    }
    let mut changed = Status::new(Code::InvalidArgument, told.message());
    *changed.metadata_mut() = told.metadata().clone();
    changed
}

/// The error that a status from the client's side of a call stands for: its stream broke or does not decode.
pub(crate) fn error_of_stream(status: &Status) -> Error {
    transport_failure(status).unwrap_or_else(|| {
        Error::new(
            ErrorCode::Cancelled,
            format!("the client's stream broke off: {}", status.message()),
        )
    })
}

/// What a request stream that was reset ends with.
///
/// Problem: a client that cancels or breaks off resets its stream (RST_STREAM with CANCEL), and tonic gives a handler the
/// orderly end of the stream for it: half of a load would be published. Proper way: tonic passes the error on. Chosen: the
/// layer in front of every RPC changes the code, which tonic then does pass on. Evidence: `poll_frame` in `codec/decode.rs`
/// of tonic 0.14, `Direction::Request && status.code() == Code::Cancelled`; `ingests_that_break_half_way_leave_nothing`.
pub(crate) fn broken_request(status: Status) -> Status {
    match status.code() {
        Code::Cancelled => Status::new(Code::Aborted, format!("the client cancelled it: {}", status.message())),
        _ => status,
    }
}

/// The error of a stream of Arrow data that does not decode.
pub(crate) fn error_of_data(error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => error_of_stream(&status),
        FlightError::Arrow(error) => Error::new(
            ErrorCode::InvalidRequest,
            format!("the Arrow data does not decode: {error}"),
        ),
        FlightError::ProtocolError(reason)
        | FlightError::DecodeError(reason)
        | FlightError::NotYetImplemented(reason) => Error::new(
            ErrorCode::InvalidRequest,
            format!("the Arrow data does not decode: {reason}"),
        ),
        FlightError::ExternalError(error) => match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => Error::new(ErrorCode::Internal, format!("reading the Arrow data failed: {error}")),
        },
    }
}

/// Gives a response that tonic itself refused the product's code.
///
/// Problem: tonic decodes the request before any handler runs and answers INTERNAL for a message that is not protobuf and
/// OUT_OF_RANGE for one over the limit, with its own words. Proper way: a hook in tonic for such failures, which 0.14 lacks.
/// Chosen: the authentication layer passes every response through here; only a status in the *headers* is looked at, which is
/// where a call that failed before its handler has it. Evidence: `decode_failures_get_our_codes` below, and `codec.rs` of
/// tonic-prost 0.14 (`from_decode_error`).
pub(crate) fn with_our_code(response: Response<Body>) -> Response<Body> {
    let Some(status_of_headers) = Status::from_header_map(response.headers()) else {
        return response;
    };
    if status_of_headers.metadata().contains_key(CODE_KEY) {
        return response;
    }
    match transport_failure(&status_of_headers) {
        Some(error) => status(error).into_http(),
        None => response,
    }
}

/// The error behind one of tonic's own failures to read a message.
fn transport_failure(status: &Status) -> Option<Error> {
    let message = status.message();
    match status.code() {
        Code::Internal
            if message.starts_with("failed to decode Protobuf message") || message == "Missing request message." =>
        {
            Some(Error::new(
                ErrorCode::InvalidRequest,
                format!("the request is not a valid Flight message: {message}"),
            ))
        }
        Code::OutOfRange if message.contains("decoded message length too large") => Some(Error::new(
            ErrorCode::StatementTooLarge,
            format!(
                "the message is larger than the server takes ({message}); send less at once, or raise the server's limit"
            ),
        )),
        _ => None,
    }
}

fn shortened(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT_BYTES {
        let end = (0..=MESSAGE_LIMIT_BYTES)
            .rev()
            .find(|&index| message.is_char_boundary(index))
            .unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

fn grpc_code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::SyntaxError
        | ErrorCode::InvalidStatement
        | ErrorCode::InvalidArgument
        | ErrorCode::TypeMismatch
        | ErrorCode::NotNullViolation
        | ErrorCode::InvalidTicket
        | ErrorCode::InvalidRequest => Code::InvalidArgument,
        ErrorCode::NamespaceNotFound
        | ErrorCode::TableNotFound
        | ErrorCode::ColumnNotFound
        | ErrorCode::UserNotFound
        | ErrorCode::NotFound => Code::NotFound,
        ErrorCode::AlreadyExists | ErrorCode::DuplicateKey => Code::AlreadyExists,
        ErrorCode::DependentObjects => Code::FailedPrecondition,
        ErrorCode::Conflict | ErrorCode::SnapshotTooOld => Code::Aborted,
        ErrorCode::Unauthenticated => Code::Unauthenticated,
        ErrorCode::PermissionDenied => Code::PermissionDenied,
        ErrorCode::Unsupported => Code::Unimplemented,
        ErrorCode::StatementTooLarge
        | ErrorCode::TooManyRequests
        | ErrorCode::QueryQuotaExceeded
        | ErrorCode::SessionQuotaExceeded
        | ErrorCode::MemoryQuotaExceeded
        | ErrorCode::RowQuotaExceeded
        | ErrorCode::ByteQuotaExceeded
        | ErrorCode::OutOfMemory => Code::ResourceExhausted,
        ErrorCode::Timeout | ErrorCode::TimeQuotaExceeded => Code::DeadlineExceeded,
        ErrorCode::Cancelled => Code::Cancelled,
        ErrorCode::Unavailable => Code::Unavailable,
        ErrorCode::UnknownOutcome => Code::Unknown,
        ErrorCode::StorageError | ErrorCode::Internal => Code::Internal,
        ErrorCode::DataCorrupted => Code::DataLoss,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kalamdb_core::Position;

    #[test]
    fn a_status_says_code_text_and_place() {
        let error =
            Error::new(ErrorCode::TableNotFound, "table public.a does not exist").at(Position { line: 2, column: 5 });
        let status = status(error);
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(
            status.message(),
            "TABLE_NOT_FOUND: table public.a does not exist (line 2, column 5)"
        );
        assert_eq!(
            status.metadata().get(CODE_KEY).and_then(|value| value.to_str().ok()),
            Some("TABLE_NOT_FOUND")
        );
    }

    #[test]
    fn preparing_is_never_unimplemented() {
        let check = |code: ErrorCode, expected: Code| {
            let status = status_of_preparing(Error::new(code, "no"));
            assert_eq!(status.code(), expected);
            assert_eq!(status.message(), format!("{}: no", code.as_str()));
            assert_eq!(
                status.metadata().get(CODE_KEY).and_then(|value| value.to_str().ok()),
                Some(code.as_str())
            );
        };
        check(ErrorCode::Unsupported, Code::InvalidArgument);
        check(ErrorCode::TableNotFound, Code::NotFound);
    }

    #[test]
    fn every_code_has_a_status_that_is_not_ok() {
        for &code in ErrorCode::ALL {
            assert_ne!(status(Error::new(code, "x")).code(), Code::Ok, "{}", code.as_str());
        }
    }

    #[test]
    fn long_messages_end_at_a_character() {
        let status = status(Error::new(ErrorCode::SyntaxError, "ä".repeat(5_000)));
        assert!(status.message().len() <= MESSAGE_LIMIT_BYTES + '…'.len_utf8());
        assert!(status.message().ends_with('…'));
    }

    #[test]
    fn decode_failures_get_our_codes() {
        let check = |given: Status, expected: Option<&str>| {
            let response = with_our_code(given.into_http());
            let code = response.headers().get(CODE_KEY).and_then(|value| value.to_str().ok());
            assert_eq!(code, expected);
        };
        let decode =
            <arrow_flight::FlightDescriptor as prost::Message>::decode(&[0xff_u8][..]).expect_err("not protobuf");
        check(Status::internal(decode.to_string()), Some("INVALID_REQUEST"));
        check(
            Status::out_of_range("Error, decoded message length too large: found 9 bytes, the limit is: 4 bytes"),
            Some("STATEMENT_TOO_LARGE"),
        );
        check(Status::internal("anything else"), None);
        check(
            status(Error::new(ErrorCode::Internal, "failed to decode Protobuf message")),
            Some("INTERNAL"),
        );
    }
}
