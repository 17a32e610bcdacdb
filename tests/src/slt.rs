//! `.slt` files over the wire: each record is one statement of a Flight SQL session.
//!
//! Column letters: I integer, R float, D decimal, T text, B boolean, X binary (shown as hex), P timestamp, A date,
//! ? anything else. NULL shows as `NULL`, an empty text as `(empty)`. A `connection name` line gives the next record a
//! session of its own, of `root` until `\login user password` makes it another's.

use std::net::SocketAddr;
use std::path::Path;

use arrow::datatypes::DataType;
use sqllogictest::{AsyncDB, ColumnType, DBOutput, Runner};

use crate::client::{Client, Outcome, SqlError, text_rows};
use crate::server::{ROOT_PASSWORD, Server};

/// Runs one file against a server of its own.
///
/// # Panics
/// At the first record that does not hold; the message names file and line.
pub async fn run_slt(path: &Path) {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let flight = server.flight;
    let mut runner = Runner::new(move || Session::open(flight, "root", ROOT_PASSWORD));
    runner.with_column_validator(sqllogictest::strict_column_validator);
    if let Err(error) = runner.run_file_async(path).await {
        panic!("{}", error.display(false));
    }
    server.terminate();
}

struct Session {
    address: SocketAddr,
    client: Client,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Letter {
    Integer,
    Float,
    Decimal,
    Text,
    Boolean,
    Binary,
    Timestamp,
    Date,
    Other,
}

impl Session {
    async fn open(address: SocketAddr, user: &str, password: &str) -> Result<Self, SqlError> {
        Ok(Session {
            address,
            client: Client::login(address, user, password).await?,
        })
    }
}

#[async_trait::async_trait]
impl AsyncDB for Session {
    type Error = SqlError;
    type ColumnType = Letter;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Letter>, SqlError> {
        if let Some(login) = sql.strip_prefix("\\login ") {
            let (user, password) = login.split_once(' ').unwrap_or((login, ""));
            *self = Session::open(self.address, user, password).await?;
            return Ok(DBOutput::StatementComplete(0));
        }
        let Outcome {
            schema,
            batches,
            total_records,
        } = self.client.run(sql).await?;
        if schema.fields().is_empty() {
            return Ok(DBOutput::StatementComplete(u64::try_from(total_records).unwrap_or(0)));
        }
        let types = schema
            .fields()
            .iter()
            .map(|field| Letter::of(field.data_type()))
            .collect();
        let mut rows = text_rows(&batches);
        for value in rows.iter_mut().flatten().filter(|value| value.is_empty()) {
            *value = "(empty)".to_owned();
        }
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "kalamdb"
    }
}

impl Letter {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            _ if data_type.is_integer() => Letter::Integer,
            _ if data_type.is_floating() => Letter::Float,
            DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
                Letter::Decimal
            }
            // Aggregates of text make large ones; columns of tables never do.
            DataType::Utf8 | DataType::LargeUtf8 => Letter::Text,
            DataType::Boolean => Letter::Boolean,
            DataType::Binary => Letter::Binary,
            DataType::Timestamp(..) => Letter::Timestamp,
            DataType::Date32 => Letter::Date,
            _ => Letter::Other,
        }
    }
}

impl ColumnType for Letter {
    fn from_char(value: char) -> Option<Self> {
        Some(match value {
            'I' => Letter::Integer,
            'R' => Letter::Float,
            'D' => Letter::Decimal,
            'T' => Letter::Text,
            'B' => Letter::Boolean,
            'X' => Letter::Binary,
            'P' => Letter::Timestamp,
            'A' => Letter::Date,
            '?' => Letter::Other,
            _ => return None,
        })
    }

    fn to_char(&self) -> char {
        match self {
            Letter::Integer => 'I',
            Letter::Float => 'R',
            Letter::Decimal => 'D',
            Letter::Text => 'T',
            Letter::Boolean => 'B',
            Letter::Binary => 'X',
            Letter::Timestamp => 'P',
            Letter::Date => 'A',
            Letter::Other => '?',
        }
    }
}
