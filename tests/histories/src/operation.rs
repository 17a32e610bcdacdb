//! What a step of a history does, and how it ends.

/// One of the table types that take rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rows of everyone.
    Shared,
    /// Each row is one user's own.
    User,
    /// Likewise, for a time.
    Stream,
}

/// How a table is made: `id` and `v`, the one a number and the other text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Its type.
    pub kind: Kind,
    /// Whether `id` is its primary key; otherwise it has none.
    pub keyed: bool,
    /// How long rows live; STREAM tables only.
    pub ttl_seconds: Option<i64>,
    /// How many a user keeps; STREAM tables only.
    pub max_rows: Option<usize>,
    /// After how many hot rows it is flushed by itself; not STREAM tables.
    pub flush_rows: Option<u64>,
}

impl Shape {
    /// Whether its rows move into segments.
    pub fn flushes(&self) -> bool {
        self.kind != Kind::Stream
    }
}

/// What becomes of a row whose key exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// The statement fails.
    Refused,
    /// The new row takes its place.
    Replace,
    /// The new row is dropped.
    Ignore,
}

/// Which rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All.
    All,
    /// Those with this id.
    Id(i64),
    /// Those with ids from the first to the second, both included.
    Ids(i64, i64),
    /// Those whose text is this or sorts after it.
    TextFrom(String),
}

impl Filter {
    /// Whether a row is among them.
    pub fn matches(&self, id: i64, text: &str) -> bool {
        match self {
            Filter::All => true,
            Filter::Id(one) => id == *one,
            Filter::Ids(from, to) => (*from..=*to).contains(&id),
            Filter::TextFrom(from) => text >= from.as_str(),
        }
    }
}

/// What an update makes of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Is added to the id.
    pub shift: i64,
    /// The new text; `None`: it keeps its own.
    pub text: Option<String>,
}

impl Change {
    /// The row after it.
    pub fn apply(&self, id: i64, text: &str) -> (i64, String) {
        (id + self.shift, self.text.as_deref().unwrap_or(text).to_owned())
    }
}

/// What a step does. Tables and users are numbers below [`crate::TABLES`] and [`crate::USERS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Adds rows by one statement.
    Insert {
        /// To which table.
        table: usize,
        /// By whom.
        user: usize,
        /// Ids and texts.
        rows: Vec<(i64, String)>,
        /// What becomes of keys that exist.
        duplicates: Duplicates,
        /// As a bulk load, where the table takes one.
        bulk: bool,
    },
    /// Changes rows by one statement.
    Update {
        /// Of which table.
        table: usize,
        /// By whom.
        user: usize,
        /// Which of them.
        filter: Filter,
        /// To what.
        change: Change,
        /// As a large statement, where the table takes one.
        bulk: bool,
    },
    /// Removes rows by one statement.
    Delete {
        /// From which table.
        table: usize,
        /// By whom.
        user: usize,
        /// Which of them.
        filter: Filter,
        /// As a large statement, where the table takes one.
        bulk: bool,
    },
    /// Moves hot rows into segments.
    Flush {
        /// Of which table.
        table: usize,
        /// Whether the next step begins after it; otherwise it may run on beside those that follow.
        waits: bool,
    },
    /// Merges segments.
    Compact {
        /// Of which table.
        table: usize,
        /// As for a flush.
        waits: bool,
    },
    /// Removes the rows of everyone.
    Truncate {
        /// From which table.
        table: usize,
    },
    /// Removes the table.
    Drop {
        /// Which.
        table: usize,
    },
    /// Makes a table; one that exists is replaced.
    Create {
        /// Which.
        table: usize,
        /// How.
        shape: Shape,
        /// The rows that come with it, of the first user; none: it is made by a statement that brings none.
        rows: Vec<(i64, String)>,
        /// Whether they come as a bulk load, where the table takes one.
        bulk: bool,
    },
    /// Drops a user, whose rows go, and makes one of the same name.
    ReplaceUser {
        /// Not the first.
        user: usize,
    },
    /// Closes the database and opens it again.
    Restart,
    /// Lets time pass.
    Advance {
        /// So much.
        micros: i64,
    },
    /// What the server does every second: flushes and compactions that are due, and the end of expired rows.
    Tend,
    /// Begins to read, and goes on to see the same for some steps.
    KeepReader,
}

impl Operation {
    /// Which table it is about; `None`: it may be all.
    pub fn table(&self) -> Option<usize> {
        match self {
            Operation::Insert { table, .. }
            | Operation::Update { table, .. }
            | Operation::Delete { table, .. }
            | Operation::Flush { table, .. }
            | Operation::Compact { table, .. }
            | Operation::Truncate { table }
            | Operation::Drop { table }
            | Operation::Create { table, .. } => Some(*table),
            Operation::ReplaceUser { .. }
            | Operation::Restart
            | Operation::Advance { .. }
            | Operation::Tend
            | Operation::KeepReader => None,
        }
    }

    /// Whose rows it is about; `None`: they may be everyone's.
    pub fn user(&self) -> Option<usize> {
        match self {
            Operation::Insert { user, .. } | Operation::Update { user, .. } | Operation::Delete { user, .. } => {
                Some(*user)
            }
            Operation::Flush { .. }
            | Operation::Compact { .. }
            | Operation::Truncate { .. }
            | Operation::Drop { .. }
            | Operation::Create { .. }
            | Operation::ReplaceUser { .. }
            | Operation::Restart
            | Operation::Advance { .. }
            | Operation::Tend
            | Operation::KeepReader => None,
        }
    }
}

/// How a step ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done, and rows are not the matter.
    Done,
    /// It wrote, changed or removed so many rows.
    Rows(u64),
    /// It failed for a key that exists, and changed nothing.
    DuplicateKey,
}
