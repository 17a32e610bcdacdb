//! Errors as HTTP answers: the one table of statuses and the JSON of an error.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kalamdb_core::{Error, ErrorCode};
use serde_json::{Value, json};

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
        let body = json!({
            "status": "error",
            "results": [],
            "execution_time_ms": 0,
            "error": error_json(&self.error, None),
        });
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

/// `error` of the contract; `statement` counts from 1 where several may run.
pub(crate) fn error_json(error: &Error, statement: Option<usize>) -> Value {
    let mut details = serde_json::Map::new();
    if let Some(statement) = statement {
        details.insert("statement".to_owned(), statement.into());
    }
    if let Some(position) = error.position {
        details.insert("line".to_owned(), position.line.into());
        details.insert("column".to_owned(), position.column.into());
    }
    let details = if details.is_empty() {
        Value::Null
    } else {
        Value::Object(details)
    };
    json!({"code": error.code.as_str(), "message": error.message, "details": details})
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
        ErrorCode::Timeout | ErrorCode::Cancelled => StatusCode::REQUEST_TIMEOUT,
        ErrorCode::AlreadyExists | ErrorCode::DependentObjects | ErrorCode::DuplicateKey | ErrorCode::Conflict => {
            StatusCode::CONFLICT
        }
        ErrorCode::StatementTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::OutOfMemory | ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::UnknownOutcome | ErrorCode::StorageError | ErrorCode::DataCorrupted | ErrorCode::Internal => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_errors_are_those_of_the_contract() {
        let contract = [400, 401, 403, 404, 408, 409, 413, 429, 500, 503];
        for code in ErrorCode::ALL {
            assert!(contract.contains(&http_status(*code).as_u16()), "{}", code.as_str());
        }
    }
}
