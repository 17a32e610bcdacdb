//! Errors as HTTP answers: the one table of statuses and the JSON of an error.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kalamdb_core::{Error, ErrorCode};

/// An answer that says no.
pub(crate) struct Refusal {
    status: StatusCode,
    error: Error,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal {
            status: http_status(error.code),
            error,
        }
    }
}

impl Refusal {
    /// The same with a status that no error code has.
    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Refusal { status, ..self }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Document {
            status: "error",
            results: [],
            execution_time_ms: 0,
            error: ErrorDocument::new(&self.error, None),
        };
        let mut response = (self.status, axum::Json(body)).into_response();
        announce_schemes(&mut response);
        response
    }
}

/// A 401 says how to log in.
pub(crate) fn announce_schemes(response: &mut Response) {
    if response.status() == StatusCode::UNAUTHORIZED {
        for scheme in ["Basic realm=\"kalamdb\", charset=\"UTF-8\"", "Bearer realm=\"kalamdb\""] {
            response
                .headers_mut()
                .append(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
        }
    }
}

/// The answer of a request that ran nothing, in the contract's order.
#[derive(serde::Serialize)]
struct Document<'a> {
    status: &'static str,
    results: [(); 0],
    execution_time_ms: u32,
    error: ErrorDocument<'a>,
}

/// `error` of the contract.
#[derive(serde::Serialize)]
pub(crate) struct ErrorDocument<'a> {
    code: &'static str,
    message: &'a str,
    details: Option<Details>,
}

/// Where it happened.
#[derive(serde::Serialize)]
struct Details {
    /// From 1, where several may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    statement: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u64>,
}

impl<'a> ErrorDocument<'a> {
    /// `statement` counts from 1; `None` where none ran.
    pub(crate) fn new(error: &'a Error, statement: Option<usize>) -> Self {
        let (line, column) = (
            error.position.map(|place| place.line),
            error.position.map(|place| place.column),
        );
        let details = Details {
            statement,
            line,
            column,
        };
        let has_details = statement.is_some() || line.is_some();
        ErrorDocument {
            code: error.code.as_str(),
            message: &error.message,
            details: has_details.then_some(details),
        }
    }
}

/// The status of an error.
pub(crate) fn http_status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::SyntaxError
        | ErrorCode::InvalidStatement
        | ErrorCode::InvalidArgument
        | ErrorCode::TypeMismatch
        | ErrorCode::NotNullViolation
        | ErrorCode::Unsupported
        | ErrorCode::InvalidTicket
        | ErrorCode::InvalidRequest => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorCode::NamespaceNotFound
        | ErrorCode::TableNotFound
        | ErrorCode::ColumnNotFound
        | ErrorCode::UserNotFound
        | ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::Timeout | ErrorCode::TimeQuotaExceeded | ErrorCode::Cancelled => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::AlreadyExists
        | ErrorCode::DependentObjects
        | ErrorCode::DuplicateKey
        | ErrorCode::Conflict
        | ErrorCode::SnapshotTooOld => StatusCode::CONFLICT,
        ErrorCode::StatementTooLarge | ErrorCode::RowQuotaExceeded | ErrorCode::ByteQuotaExceeded => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        ErrorCode::TooManyRequests
        | ErrorCode::QueryQuotaExceeded
        | ErrorCode::SessionQuotaExceeded
        | ErrorCode::MemoryQuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::OutOfMemory | ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::UnknownOutcome | ErrorCode::StorageError | ErrorCode::DataCorrupted | ErrorCode::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_core::Position;

    use super::*;

    #[test]
    fn errors_say_where_they_happened() {
        let check = |statement: Option<usize>, position: Option<Position>, details: &str| {
            let error = Error {
                position,
                ..Error::new(ErrorCode::Conflict, "a \"b\"")
            };
            let text = serde_json::to_string(&ErrorDocument::new(&error, statement)).expect("JSON");
            assert_eq!(
                text,
                format!(r#"{{"code":"CONFLICT","message":"a \"b\"","details":{details}}}"#)
            );
        };
        check(None, None, "null");
        check(Some(2), None, r#"{"statement":2}"#);
        check(
            Some(1),
            Some(Position { line: 3, column: 4 }),
            r#"{"statement":1,"line":3,"column":4}"#,
        );
    }

    #[test]
    fn statuses_of_errors_are_those_of_the_contract() {
        let contract = [400, 401, 403, 404, 408, 409, 413, 429, 500, 503];
        for code in ErrorCode::ALL {
            assert!(contract.contains(&http_status(*code).as_u16()), "{}", code.as_str());
        }
    }
}
