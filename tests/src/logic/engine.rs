//! One session over Flight SQL as the runner of DataFusion's files sees it: a statement's text in, its rows as text out.

use std::net::SocketAddr;

use sqllogictest::{AsyncDB, DBOutput};

use super::Pass;
use super::cells::{self, Letter};
use crate::client::{Client, SqlError};

pub(super) struct Engine {
    client: Client,
    pass: Pass,
    /// Something was written, perhaps, since the last flush.
    is_dirty: bool,
}

/// What a statement does to rows, by its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Reads,
    /// Answers with how many rows it wrote.
    Writes,
    /// The same, and it reads the table first.
    Changes,
    Defines,
}

impl Engine {
    pub(super) async fn open(address: SocketAddr, password: &str, pass: Pass) -> Result<Self, SqlError> {
        Ok(Engine {
            client: Client::login(address, "root", password).await?,
            pass,
            is_dirty: false,
        })
    }
}

impl Effect {
    fn of(sql: &str) -> Self {
        let code = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
        let word = code.flat_map(str::split_ascii_whitespace).next().unwrap_or_default();
        match word.to_ascii_lowercase().as_str() {
            "insert" => Effect::Writes,
            "update" | "delete" | "merge" => Effect::Changes,
            "create" | "drop" | "alter" | "truncate" | "copy" | "set" | "reset" | "use" => Effect::Defines,
            _ => Effect::Reads,
        }
    }
}

#[async_trait::async_trait]
impl AsyncDB for Engine {
    type Error = SqlError;
    type ColumnType = Letter;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Letter>, SqlError> {
        let effect = Effect::of(sql);
        if self.pass == Pass::Flushed && self.is_dirty && matches!(effect, Effect::Reads | Effect::Changes) {
            self.client.run("STORAGE FLUSH TABLE ALL").await?;
            self.is_dirty = false;
        }
        self.is_dirty |= effect != Effect::Reads;
        let outcome = self.client.run(sql).await?;
        if !outcome.schema.fields().is_empty() {
            let fields = outcome.schema.fields().iter();
            return Ok(DBOutput::Rows {
                types: fields.map(|field| Letter::of(field.data_type())).collect(),
                rows: cells::rows(&outcome.batches),
            });
        }
        Ok(match effect {
            // DataFusion's INSERT is a query of one row that has the count.
            Effect::Writes | Effect::Changes => DBOutput::Rows {
                types: vec![Letter::Integer],
                rows: vec![vec![outcome.total_records.to_string()]],
            },
            Effect::Reads | Effect::Defines => DBOutput::StatementComplete(0),
        })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        "kalamdb"
    }
}
