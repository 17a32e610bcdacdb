//! The product's errors: few codes, the same over every door, each telling the caller what to do next.

use std::fmt;
use std::panic::Location;

use kalamdb_store::{CommitError, StoreError};

use crate::catalog::{Catalog, Table, TableName};

/// The short code of an error; its SCREAMING_SNAKE_CASE name is part of the outside contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The SQL text does not parse.
    SyntaxError,
    /// The statement parses but means nothing (types, ambiguous or misplaced expressions).
    InvalidStatement,
    /// A value or option is out of its bounds or of the wrong form.
    InvalidArgument,
    /// No such namespace (schema).
    NamespaceNotFound,
    /// No such table.
    TableNotFound,
    /// No such column.
    ColumnNotFound,
    /// No such user.
    UserNotFound,
    /// No such object of another kind (storage, job, session, query, prepared statement, setting).
    NotFound,
    /// A namespace, table or user of that name exists.
    AlreadyExists,
    /// A namespace still holds tables, an object is still in use.
    DependentObjects,
    /// A value does not fit its column's type.
    TypeMismatch,
    /// NULL into a NOT NULL column.
    NotNullViolation,
    /// A row with that primary key exists.
    DuplicateKey,
    /// A concurrent commit changed the same rows; retry.
    Conflict,
    /// What the statement reads was replaced by others' commits so long ago that it is kept no longer; run it again.
    SnapshotTooOld,
    /// Credentials are missing or wrong.
    Unauthenticated,
    /// The principal may not do that.
    PermissionDenied,
    /// Valid, but this version does not do it.
    Unsupported,
    /// The statement, its writes or a value that it makes are larger than a stated limit.
    StatementTooLarge,
    /// A ticket that this server did not make, or that is damaged.
    InvalidTicket,
    /// A protocol message that does not decode or breaks the protocol.
    InvalidRequest,
    /// Too many queries, sessions, failed logins, or rows that wait for a flush; wait.
    TooManyRequests,
    /// A user's quota of queries at once.
    QueryQuotaExceeded,
    /// A user's quota of sessions.
    SessionQuotaExceeded,
    /// A user's quota of memory for their running statements.
    MemoryQuotaExceeded,
    /// A user's quota of time for one statement.
    TimeQuotaExceeded,
    /// A user's quota of rows that one statement returns.
    RowQuotaExceeded,
    /// A user's quota of bytes that one statement returns.
    ByteQuotaExceeded,
    /// Memory for queries is used up.
    OutOfMemory,
    /// The statement ran past its timeout.
    Timeout,
    /// The statement was cancelled.
    Cancelled,
    /// The server is stopping or not ready.
    Unavailable,
    /// A write whose sync failed: it may or may not be durable.
    UnknownOutcome,
    /// Disk trouble.
    StorageError,
    /// Stored bytes do not decode.
    DataCorrupted,
    /// A bug.
    Internal,
}

/// A place in the SQL text, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

/// An error as callers of the product see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind.
    pub code: ErrorCode,
    /// What failed, on which object, and what to do. Never a value of another user's row.
    pub message: String,
    /// Where in the SQL text, when known.
    pub position: Option<Position>,
    /// Where an error of code INTERNAL comes from; `None` for all others.
    pub bug: Option<Bug>,
}

/// What a log has of an error of code INTERNAL, the words of which may hold values of a statement or of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug {
    /// Whose error it was: KalamDB's own, or the kind of another library's.
    pub kind: &'static str,
    /// Where in KalamDB's source it became one of ours.
    pub place: &'static Location<'static>,
}

/// The product's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a position.
    #[track_caller]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let bug = (code == ErrorCode::Internal).then(|| Bug {
            kind: "KalamDB",
            place: Location::caller(),
        });
        Error {
            code,
            message: message.into(),
            position: None,
            bug,
        }
    }

    /// An error of code INTERNAL that a library reports as one of such a kind.
    #[track_caller]
    pub fn internal(kind: &'static str, message: impl Into<String>) -> Self {
        Error {
            bug: Some(Bug {
                kind,
                place: Location::caller(),
            }),
            ..Error::new(ErrorCode::Internal, message)
        }
    }

    /// The error as a log may have it: as it is, but an INTERNAL one without its words, which may hold values of a statement or of
    /// rows.
    pub fn for_log(&self) -> impl fmt::Display {
        fmt::from_fn(move |f| match self.bug {
            Some(Bug { kind, place }) => {
                let code = self.code.as_str();
                write!(f, "{code} of {kind} at {}:{}", place.file(), place.line())
            }
            None => write!(f, "{self}"),
        })
    }

    /// TABLE_NOT_FOUND, worded alike for a table that does not exist and for one that the principal may not know of.
    pub fn table_not_found(name: &TableName) -> Self {
        Error::new(ErrorCode::TableNotFound, format!("table {name} does not exist"))
    }

    /// The error of a commit that `table` was the target of. `catalog` is the newest one: it tells a dropped table from a
    /// truncated one.
    pub(crate) fn of_commit(error: CommitError, table: &Table, catalog: &Catalog) -> Self {
        let name = &table.name;
        match error {
            CommitError::Retired(_) => Error::gone(table, catalog),
            CommitError::Conflict | CommitError::Stale => Error::new(
                ErrorCode::Conflict,
                format!("a concurrent commit changed the same rows or the schema of {name}; run the statement again"),
            ),
            CommitError::DuplicateKey { .. } => Error::new(
                ErrorCode::DuplicateKey,
                format!("another statement inserted a row with a primary key of this load into {name} meanwhile"),
            ),
            other => Error::from(other),
        }
    }

    /// The error for a table whose incarnation is gone.
    pub(crate) fn gone(table: &Table, catalog: &Catalog) -> Self {
        let name = &table.name;
        if catalog.tables.values().any(|other| other.table_id == table.table_id) {
            Error::new(
                ErrorCode::Conflict,
                format!("table {name} was truncated or replaced meanwhile; run the statement again"),
            )
        } else {
            Error::new(ErrorCode::TableNotFound, format!("table {name} was dropped meanwhile"))
        }
    }

    /// An error of the store about a table. What is damaged has the name of a file, which tells nobody of which table it is.
    pub(crate) fn in_table(error: StoreError, table: &Table) -> Self {
        let mut error = Error::from(error);
        if error.code == ErrorCode::DataCorrupted {
            error.message = format!("table {}: {}", table.name, error.message);
        }
        error
    }

    /// The same with a position.
    #[must_use]
    pub fn at(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)?;
        if let Some(Position { line, column }) = self.position {
            write!(f, " (line {line}, column {column})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Locked { .. }
            | StoreError::NewerFormat { .. }
            | StoreError::Storage(_)
            | StoreError::Away { .. } => ErrorCode::StorageError,
            StoreError::Corrupt { .. } => ErrorCode::DataCorrupted,
            StoreError::Damaged { .. } => {
                return Error::new(
                    ErrorCode::DataCorrupted,
                    format!(
                        "{error}; its table is refused, after a restart too, until the file is as it was written (put it back from \
                         a copy) and STORAGE CHECK TABLE has found it so, or until the table is truncated or dropped"
                    ),
                );
            }
            StoreError::HotDamaged { .. } => {
                return Error::new(
                    ErrorCode::DataCorrupted,
                    format!(
                        "{error}; its table is refused until that file of RocksDB is as it was written (put it back from a copy of the \
                         same state while kalamdb is stopped), or until the table is truncated or dropped"
                    ),
                );
            }
            StoreError::SnapshotTooOld => {
                return Error::new(
                    ErrorCode::SnapshotTooOld,
                    "the statement still reads the database as it was before commits that others made longer than snapshot_life \
                     ago, which is kept no longer; run it again, and if its rows are read slowly, in parts or with a longer \
                     snapshot_life",
                );
            }
            StoreError::Taken { .. } => ErrorCode::InvalidArgument,
            StoreError::Unsupported(_) => ErrorCode::Unsupported,
            StoreError::DuplicateKey { .. } => ErrorCode::DuplicateKey,
            StoreError::Cancelled => ErrorCode::Cancelled,
            StoreError::Conflict => return CommitError::Conflict.into(),
            StoreError::Retired(_) => {
                return Error::new(
                    ErrorCode::Conflict,
                    "a table of this statement was dropped or truncated meanwhile; run the statement again",
                );
            }
        };
        Error::new(code, error.to_string())
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict | CommitError::Stale => Error::new(
                ErrorCode::Conflict,
                "a concurrent commit changed the same rows; run the statement again",
            ),
            CommitError::Retired(_) => Error::new(
                ErrorCode::Conflict,
                "a table of this statement was dropped or truncated meanwhile; run the statement again",
            ),
            CommitError::ScopeRetired(_) => Error::new(
                ErrorCode::Unauthenticated,
                "the user who runs this statement was dropped meanwhile",
            ),
            CommitError::DuplicateKey { .. } => {
                Error::new(ErrorCode::DuplicateKey, "a row with the same primary key exists")
            }
            CommitError::UnknownOutcome(reason) => Error::new(
                ErrorCode::UnknownOutcome,
                format!("the write failed under way, and may or may not survive a restart: {reason}"),
            ),
            CommitError::Storage(reason) => Error::new(ErrorCode::StorageError, format!("storage failed: {reason}")),
        }
    }
}

macro_rules! codes {
    ($($code:ident => $name:literal),* $(,)?) => {
        impl ErrorCode {
            /// Its name in the contract.
            pub fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$code => $name),* }
            }

            /// Every code.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$code),*];
        }
    };
}

codes! {
    SyntaxError => "SYNTAX_ERROR",
    InvalidStatement => "INVALID_STATEMENT",
    InvalidArgument => "INVALID_ARGUMENT",
    NamespaceNotFound => "NAMESPACE_NOT_FOUND",
    TableNotFound => "TABLE_NOT_FOUND",
    ColumnNotFound => "COLUMN_NOT_FOUND",
    UserNotFound => "USER_NOT_FOUND",
    NotFound => "NOT_FOUND",
    AlreadyExists => "ALREADY_EXISTS",
    DependentObjects => "DEPENDENT_OBJECTS",
    TypeMismatch => "TYPE_MISMATCH",
    NotNullViolation => "NOT_NULL_VIOLATION",
    DuplicateKey => "DUPLICATE_KEY",
    Conflict => "CONFLICT",
    SnapshotTooOld => "SNAPSHOT_TOO_OLD",
    Unauthenticated => "UNAUTHENTICATED",
    PermissionDenied => "PERMISSION_DENIED",
    Unsupported => "UNSUPPORTED",
    StatementTooLarge => "STATEMENT_TOO_LARGE",
    InvalidTicket => "INVALID_TICKET",
    InvalidRequest => "INVALID_REQUEST",
    TooManyRequests => "TOO_MANY_REQUESTS",
    QueryQuotaExceeded => "QUERY_QUOTA_EXCEEDED",
    SessionQuotaExceeded => "SESSION_QUOTA_EXCEEDED",
    MemoryQuotaExceeded => "MEMORY_QUOTA_EXCEEDED",
    TimeQuotaExceeded => "TIME_QUOTA_EXCEEDED",
    RowQuotaExceeded => "ROW_QUOTA_EXCEEDED",
    ByteQuotaExceeded => "BYTE_QUOTA_EXCEEDED",
    OutOfMemory => "OUT_OF_MEMORY",
    Timeout => "TIMEOUT",
    Cancelled => "CANCELLED",
    Unavailable => "UNAVAILABLE",
    UnknownOutcome => "UNKNOWN_OUTCOME",
    StorageError => "STORAGE_ERROR",
    DataCorrupted => "DATA_CORRUPTED",
    Internal => "INTERNAL",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_the_place_of_a_bug_and_no_words_of_it() {
        let check = |error: Error, expected: &[&str]| {
            let logged = error.for_log().to_string();
            assert!(!logged.contains("secret"), "{logged}");
            for part in expected {
                assert!(logged.contains(part), "{logged}");
            }
        };
        check(
            Error::new(ErrorCode::Internal, "the secret"),
            &["INTERNAL of KalamDB at ", "error.rs:"],
        );
        check(
            Error::internal("a library", "the secret").at(Position { line: 1, column: 1 }),
            &["INTERNAL of a library at ", "error.rs:"],
        );
        let other = Error::new(ErrorCode::StorageError, "no space in file 7");
        assert_eq!(other.for_log().to_string(), "STORAGE_ERROR: no space in file 7");
    }
}
