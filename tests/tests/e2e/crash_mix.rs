//! What goes on beside rows that move when a server is killed: STREAM rows whose buckets begin and go, and storages that are made, filled
//! and dropped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kalamdb_tests::{Client, SqlError};

/// A bucket is a sixteenth of it.
const TTL: Duration = Duration::from_secs(4);

/// STREAM rows, by their ids: when each was sent, and acknowledged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streamed {
    rows: Vec<(Instant, Option<Instant>)>,
}

impl Streamed {
    pub(crate) async fn create(root: &mut Client) {
        let sql = format!(
            "CREATE STREAM TABLE streamed (id BIGINT PRIMARY KEY) WITH (TTL_SECONDS = {})",
            TTL.as_secs()
        );
        root.ok(&sql).await;
    }

    /// Inserts row after row, up to an error.
    pub(crate) async fn write(mut self, mut client: Client) -> (Self, String, SqlError) {
        loop {
            let id = self.rows.len();
            self.rows.push((Instant::now(), None));
            let sql = format!("INSERT INTO streamed VALUES ({id})");
            match client.update(&sql).await {
                Ok(_) => self.rows[id].1 = Some(Instant::now()),
                Err(error) => return (self, sql, error),
            }
        }
    }

    /// What was acknowledged and lives is there, what has expired is not, and nothing is there twice.
    pub(crate) async fn check(&self, root: &mut Client) {
        let before = Instant::now();
        let found = root.ok("SELECT id FROM streamed").await;
        let after = Instant::now();
        let ids: BTreeSet<usize> = found.iter().map(|row| row[0].parse().expect("a number")).collect();
        assert_eq!(ids.len(), found.len(), "a key is there twice");
        assert!(ids.last().is_none_or(|last| *last < self.rows.len()), "{ids:?}");
        for (id, (sent, acknowledged)) in self.rows.iter().enumerate() {
            let Some(acknowledged) = acknowledged else { continue };
            if after < *sent + TTL {
                assert!(ids.contains(&id), "{id} was acknowledged and lives");
            }
            if before > *acknowledged + TTL {
                assert!(!ids.contains(&id), "{id} has expired");
            }
        }
    }
}

/// Storages that are made one after the other, each with a table. Every other one goes again.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    directory: PathBuf,
    /// The number of the storage that is worked on.
    number: usize,
    /// So many statements of it are acknowledged, and perhaps one more is done.
    done: usize,
}

const CREATE_STORAGE: usize = 0;
const CREATE_TABLE: usize = 1;
const INSERT: usize = 2;
const FLUSH: usize = 3;
const DROP_TABLE: usize = 4;
const DROP_STORAGE: usize = 5;

impl Stored {
    pub(crate) fn new(directory: &Path) -> Self {
        Stored {
            directory: directory.to_path_buf(),
            number: 0,
            done: 0,
        }
    }

    fn stays(number: usize) -> bool {
        number.is_multiple_of(2)
    }

    fn sql(&self, step: usize) -> Option<String> {
        let (number, place) = (self.number, self.directory.join(self.number.to_string()));
        Some(match step {
            CREATE_STORAGE => format!("CREATE STORAGE s{number} PATH '{}'", place.display()),
            CREATE_TABLE => format!("CREATE TABLE in_s{number} (id BIGINT PRIMARY KEY) WITH (STORAGE = 's{number}')"),
            INSERT => format!("INSERT INTO in_s{number} VALUES (1), (2)"),
            FLUSH => format!("FLUSH TABLE in_s{number}"),
            DROP_TABLE if !Self::stays(number) => format!("DROP TABLE in_s{number}"),
            DROP_STORAGE if !Self::stays(number) => format!("DROP STORAGE s{number}"),
            _ => return None,
        })
    }

    /// Makes and drops them, up to an error.
    pub(crate) async fn write(mut self, mut client: Client) -> (Self, String, SqlError) {
        loop {
            match self.sql(self.done) {
                None => (self.number, self.done) = (self.number + 1, 0),
                Some(sql) => match client.run(&sql).await {
                    Ok(_) => self.done += 1,
                    Err(error) => return (self, sql, error),
                },
            }
        }
    }

    /// What is there is what was acknowledged, with the statement under way or without it. Then begins with another storage, in the
    /// directory of the one that was under way if that is not one, whatever the crash left there.
    pub(crate) async fn check(&mut self, root: &mut Client) {
        let names = |rows: Vec<Vec<String>>| -> BTreeSet<String> { rows.into_iter().flatten().collect() };
        let storages = names(root.ok("SELECT storage_id FROM system.storages").await);
        for number in 0..self.number {
            assert_eq!(
                storages.contains(&format!("s{number}")),
                Self::stays(number),
                "{number}: {storages:?}"
            );
            if Self::stays(number) {
                let rows = root.ok(&format!("SELECT id FROM in_s{number} ORDER BY id")).await;
                assert_eq!(rows, [["1"], ["2"]], "{number}");
            }
        }
        let (number, done) = (self.number, self.done);
        let has_storage = storages.contains(&format!("s{number}"));
        // `done` or one more.
        let expected: BTreeSet<bool> = [done, done + 1]
            .into_iter()
            .map(|done| done > CREATE_STORAGE && (done <= DROP_STORAGE || Self::stays(number)))
            .collect();
        assert!(expected.contains(&has_storage), "{self:?}: {storages:?}");
        let sql = format!("SELECT table_name FROM system.tables WHERE table_name = 'in_s{number}'");
        let has_table = !root.ok(&sql).await.is_empty();
        let expected: BTreeSet<bool> = [done, done + 1]
            .into_iter()
            .map(|done| done > CREATE_TABLE && (done <= DROP_TABLE || Self::stays(number)))
            .collect();
        assert!(expected.contains(&has_table), "{self:?}");
        if has_table {
            let rows = root.value(&format!("SELECT count(*) FROM in_s{number}")).await;
            let expected = [done, done + 1].map(|done| if done > INSERT { "2" } else { "0" });
            assert!(expected.contains(&rows.as_str()), "{self:?}: {rows} rows");
        }
        root.ok(&format!("DROP TABLE IF EXISTS in_s{number}")).await;
        root.ok(&format!("DROP STORAGE IF EXISTS s{number}")).await;
        self.done = 0;
    }
}
