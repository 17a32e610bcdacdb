//! Random histories over the wire against a plain model, compared after every step: the real binary, SQL and ingest. What they
//! are made of is in `tests/histories`; `KALAMDB_HISTORIES` says how many, or which.
//!
//! Of time the server knows what the test says (`wall_clock.c`), so that rows expire to the microsecond.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::sql::{TableExistsOption, TableNotExistOption};
use futures::TryStreamExt;
use kalamdb_histories::{
    Change, Duplicates, Filter, History, Kind, LENGTH, Model, Operation, Outcome, Place, Probe, Shape, TABLES, USERS,
    table_name, user_name,
};
use kalamdb_tests::{Client, ROOT_PASSWORD, Server, Settings, SqlError, text_rows};

use crate::batches::{batch, ingest_command, int64, text};
use crate::preloaded::library;

const HISTORIES: u64 = 50;
/// Readers that were opened and are read some steps later.
const READERS: usize = 2;
const PASSWORD: &str = "one password for all users";
/// From so many bytes on, a load goes straight into segments: half of what it may hold in memory, and some more.
const BULK_BYTES: usize = 13 << 20;
/// From so many rows on, a DELETE is a large one ...
const BULK_ROWS: usize = 64 * 1024;
/// ... and these go with it, whose ids are not those of any other row.
const BALLAST: i64 = 1_000_000;
/// When the server's clock begins, µs: after all time that passes meanwhile, since RocksDB has its threads wait until times of this clock.
const START: i64 = 2_082_758_400_000_000;

#[test]
fn random_histories_over_the_wire_agree_with_a_plain_model() {
    kalamdb_histories::run_all(
        HISTORIES,
        "random_histories_over_the_wire_agree_with_a_plain_model",
        |seed| {
            // One thread goes on with the connections while the history waits for the server's end.
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(run(seed));
        },
    );
}

async fn run(seed: u64) {
    let directory = memory_directory();
    let mut history = History::new(Place::Wire, seed, 0);
    let mut world = World::start(directory.path(), history.model()).await;
    for step in 0..LENGTH {
        let (operation, expected) = history.step();
        let outcome = world.run(step, &operation, history.model()).await;
        assert_eq!(outcome, expected, "{operation:?}");
        let [touched, other] = history.probes(&operation);
        world.compare(history.model(), &touched).await;
        world.compare_scan(history.model(), other.table, other.user).await;
    }
    world.release_readers().await;
    world.check_files(history.model()).await;
    for (table, user) in (0..TABLES).flat_map(|table| (0..USERS).map(move |user| (table, user))) {
        let probe = history.probe(Some(table), Some(user));
        world.compare(history.model(), &probe).await;
    }
}

/// In memory, where the machine has such a file system.
fn memory_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a temporary directory can be made")
}

/// A wall clock that the test drives.
struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    fn new(directory: &Path) -> Self {
        Clock {
            library: library(directory, "wall_clock", include_str!("wall_clock.c")),
            file: directory.join("wall_clock"),
        }
    }

    /// Shows the model's time.
    fn follow(&self, model: &Model) {
        let micros = START + model.now_micros();
        // In place, since the server has the file in its memory.
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.file);
        let written = std::os::unix::fs::FileExt::write_all_at(&file.expect("opens"), &micros.to_ne_bytes(), 0);
        written.expect("written");
    }

    fn start_server(&self, data_dir: &Path) -> Server {
        let settings = Settings {
            env: [("LD_PRELOAD", &self.library), ("WALL_CLOCK", &self.file)]
                .map(|(name, path)| (name.to_owned(), path.display().to_string()))
                .to_vec(),
            ..Settings::with_args(&["--durability", "relaxed"])
        };
        Server::start_with(data_dir, &settings)
    }
}

/// The server under test.
struct World {
    data_dir: PathBuf,
    clock: Clock,
    /// None while it is stopped.
    server: Option<Server>,
    /// Those that logged in since its start.
    clients: [Option<Client>; USERS],
    readers: VecDeque<Reader>,
}

/// A query under way, and the rows that were there when it began. Such small results may be sent before anybody reads them; what
/// becomes of readers that the server holds back is for the histories over the engine.
struct Reader {
    table: usize,
    user: usize,
    stream: FlightRecordBatchStream,
    expected: Vec<(i64, String)>,
}

impl World {
    async fn start(directory: &Path, model: &Model) -> Self {
        let (data_dir, clock) = (directory.join("data"), Clock::new(directory));
        clock.follow(model);
        let mut world = World {
            server: Some(clock.start_server(&data_dir)),
            data_dir,
            clock,
            clients: [const { None }; USERS],
            readers: VecDeque::new(),
        };
        for user in 1..USERS {
            world.make_user(user).await;
        }
        world
    }

    async fn client(&mut self, user: usize) -> &mut Client {
        if self.clients[user].is_none() {
            let server = self.server.as_ref().expect("it runs");
            let client = if user == 0 {
                server.login("root", ROOT_PASSWORD).await
            } else {
                server.login(&user_name(user), PASSWORD).await
            };
            self.clients[user] = Some(client);
        }
        self.clients[user].as_mut().expect("logged in")
    }

    async fn root(&mut self) -> &mut Client {
        self.client(0).await
    }

    async fn make_user(&mut self, user: usize) {
        let sql = format!(
            "CREATE USER '{}' WITH PASSWORD '{PASSWORD}' ROLE service",
            user_name(user)
        );
        self.root().await.ok(&sql).await;
        self.clients[user] = None;
    }

    async fn run(&mut self, step: usize, operation: &Operation, model: &Model) -> Outcome {
        match operation {
            Operation::Insert {
                table,
                user,
                rows,
                duplicates,
                bulk,
            } => {
                let name = table_name(*table);
                let by = self.client(*user).await;
                // What SQL has no words for goes by ingest, and now and then what it has.
                if *duplicates == Duplicates::Refused && !bulk && !step.is_multiple_of(4) {
                    let rows: Vec<String> = rows.iter().map(|(id, text)| format!("({id}, '{text}')")).collect();
                    outcome(
                        by.update(&format!("INSERT INTO {name} VALUES {}", rows.join(", ")))
                            .await,
                    )
                } else {
                    let options = [("ingest.on_conflict", on_conflict(*duplicates))];
                    let (missing, there) = (TableNotExistOption::Fail, TableExistsOption::Append);
                    let command = ingest_command("public", &name, missing, there, &options);
                    outcome(by.ingest(command, batches(rows, *bulk)).await)
                }
            }
            Operation::Update {
                table,
                user,
                filter,
                change,
                bulk,
            } => {
                let (name, condition) = (table_name(*table), condition(filter));
                let by = self.client(*user).await;
                let blanks = match *bulk && takes_bulk(model, *table) {
                    false => 0,
                    true => {
                        let rows = by.value(&format!("SELECT count(*) FROM {name}{condition}")).await;
                        BULK_BYTES / rows.parse::<usize>().expect("a count").max(1)
                    }
                };
                let sql = format!("UPDATE {name} SET {}{condition}", assignments(change, blanks));
                outcome(by.update(&sql).await)
            }
            Operation::Delete {
                table,
                user,
                filter,
                bulk,
            } => {
                let (name, condition) = (table_name(*table), condition(filter));
                let by = self.client(*user).await;
                if !bulk || !takes_bulk(model, *table) {
                    return outcome(by.update(&format!("DELETE FROM {name}{condition}")).await);
                }
                let last = BALLAST + i64::try_from(BULK_ROWS).expect("a small number");
                let added = format!("INSERT INTO {name} SELECT value, 'b' FROM generate_series({BALLAST}, {last})");
                let added = outcome(by.update(&added).await);
                assert_eq!(added, Outcome::Rows(BULK_ROWS as u64 + 1));
                let condition = match condition.as_str() {
                    "" => String::new(),
                    own => format!("{own} OR id >= {BALLAST}"),
                };
                match outcome(by.update(&format!("DELETE FROM {name}{condition}")).await) {
                    Outcome::Rows(rows) => Outcome::Rows(rows - (BULK_ROWS as u64 + 1)),
                    other => panic!("{other:?}"),
                }
            }
            Operation::Flush { table, waits } => self.work(format!("FLUSH TABLE {}", table_name(*table)), *waits).await,
            Operation::Compact { table, waits } => {
                self.work(format!("STORAGE COMPACT TABLE {}", table_name(*table)), *waits)
                    .await
            }
            Operation::Truncate { table } => self.done(&format!("TRUNCATE TABLE {}", table_name(*table))).await,
            Operation::Drop { table } => self.done(&format!("DROP TABLE {}", table_name(*table))).await,
            Operation::Create { table, shape, rows, .. } => self.create(*table, shape, rows).await,
            Operation::ReplaceUser { user } => {
                // What a dropped user has under way ends.
                self.release_readers().await;
                self.done(&format!("DROP USER '{}'", user_name(*user))).await;
                self.make_user(*user).await;
                Outcome::Done
            }
            Operation::Restart => {
                self.release_readers().await;
                self.clients = [const { None }; USERS];
                let server = self.server.take().expect("it runs");
                if step.is_multiple_of(2) {
                    server.kill();
                } else {
                    server.terminate();
                }
                self.server = Some(self.clock.start_server(&self.data_dir));
                Outcome::Done
            }
            Operation::KeepReader => {
                let (table, user) = (step % TABLES, step % USERS);
                if model.table(table).is_some() {
                    self.keep_reader(table, user, model).await;
                }
                Outcome::Done
            }
            Operation::Advance { .. } => {
                // The model has gone on already.
                self.clock.follow(model);
                Outcome::Done
            }
            Operation::Tend => panic!("the server does that by itself"),
        }
    }

    async fn done(&mut self, sql: &str) -> Outcome {
        self.root().await.ok(sql).await;
        Outcome::Done
    }

    async fn work(&mut self, sql: String, waits: bool) -> Outcome {
        if waits {
            return self.done(&sql).await;
        }
        let mut root = self.root().await.clone();
        // Nobody waits for how it ends: what comes next may drop its table, or stop the server.
        drop(tokio::spawn(async move { root.run(&sql).await }));
        Outcome::Done
    }

    async fn create(&mut self, table: usize, shape: &Shape, rows: &[(i64, String)]) -> Outcome {
        let name = table_name(table);
        let kind = match shape.kind {
            Kind::Shared => "SHARED",
            Kind::User => "USER",
            Kind::Stream => "STREAM",
        };
        let mut options = Vec::new();
        options.extend(shape.ttl_seconds.map(|seconds| ("ttl_seconds", seconds.to_string())));
        options.extend(shape.max_rows.map(|rows| ("max_rows", rows.to_string())));
        options.extend(shape.flush_rows.map(|rows| ("flush_policy", format!("rows:{rows}"))));
        if rows.is_empty() {
            let key = if shape.keyed { " PRIMARY KEY" } else { "" };
            let options: Vec<String> = options
                .iter()
                .map(|(name, value)| format!("{name} = '{value}'"))
                .collect();
            let with = if options.is_empty() {
                String::new()
            } else {
                format!(" WITH ({})", options.join(", "))
            };
            return self
                .done(&format!(
                    "CREATE OR REPLACE {kind} TABLE {name} (id BIGINT{key}, v TEXT){with}"
                ))
                .await;
        }
        let mut all = vec![("ingest.table_type".to_owned(), kind.to_owned())];
        if shape.keyed {
            all.push(("ingest.primary_key".to_owned(), "id".to_owned()));
        }
        all.extend(
            options
                .into_iter()
                .map(|(name, value)| (format!("ingest.with.{name}"), value)),
        );
        let options: Vec<(&str, &str)> = all
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let (missing, there) = (TableNotExistOption::Create, TableExistsOption::Replace);
        let command = ingest_command("public", &name, missing, there, &options);
        outcome(self.root().await.ingest(command, batches(rows, false)).await)
    }

    /// The answer to DoGet comes when the query has taken its state.
    async fn keep_reader(&mut self, table: usize, user: usize, model: &Model) {
        let by = self.client(user).await;
        let info = by
            .flight
            .execute(select(table, &Filter::All), None)
            .await
            .expect("it is planned");
        let ticket = info.endpoint[0].ticket.clone().expect("it has a ticket");
        let stream = by.flight.do_get(ticket).await.expect("it begins");
        self.readers.push_back(Reader {
            table,
            user,
            stream,
            expected: model.rows(table, user, &Filter::All),
        });
        if self.readers.len() > READERS
            && let Some(reader) = self.readers.pop_front()
        {
            reader.compare().await;
        }
    }

    async fn release_readers(&mut self) {
        for reader in self.readers.drain(..) {
            reader.compare().await;
        }
    }

    /// Compares every way of reading: all rows, their count, one row, a range of keys, and a filter by text.
    async fn compare(&mut self, model: &Model, probe: &Probe) {
        let (table, user) = (probe.table, probe.user);
        if !self.compare_scan(model, table, user).await {
            return;
        }
        let by = self.client(user).await;
        for filter in [&probe.point, &probe.range, &probe.texts] {
            let sql = select(table, filter);
            let found = rows(
                &by.run(&sql)
                    .await
                    .unwrap_or_else(|error| panic!("{sql}: {error}"))
                    .batches,
            );
            assert_eq!(
                found,
                model.rows(table, user, filter),
                "{filter:?} of {table} by {user}"
            );
        }
        let count = by.value(&format!("SELECT count(*) FROM {}", table_name(table))).await;
        let all = model.rows(table, user, &Filter::All).len();
        assert_eq!(count, all.to_string(), "count of {table} by {user}");
    }

    /// Compares all rows; false if there is no such table.
    async fn compare_scan(&mut self, model: &Model, table: usize, user: usize) -> bool {
        let sql = select(table, &Filter::All);
        let found = self.client(user).await.run(&sql).await;
        if model.table(table).is_none() {
            let error = found.expect_err("it was dropped");
            assert_eq!(error.code(), "TABLE_NOT_FOUND", "{error}");
            return false;
        }
        let found = rows(&found.unwrap_or_else(|error| panic!("{sql}: {error}")).batches);
        let expected = model.rows(table, user, &Filter::All);
        assert_eq!(found, expected, "rows of {table} by {user}");
        true
    }

    async fn check_files(&mut self, model: &Model) {
        for table in 0..TABLES {
            if model.table(table).is_some_and(|table| table.shape().flushes()) {
                let checked = self
                    .root()
                    .await
                    .ok(&format!("STORAGE CHECK TABLE {}", table_name(table)))
                    .await;
                assert!(checked.iter().all(|row| row[3] == "ok"), "{checked:?}");
            }
        }
    }
}

impl Reader {
    async fn compare(self) {
        let Reader {
            table,
            user,
            stream,
            expected,
        } = self;
        let batches: Vec<RecordBatch> = stream
            .try_collect()
            .await
            .unwrap_or_else(|error| panic!("a reader of {table} by {user}: {error}"));
        assert_eq!(rows(&batches), expected, "a reader of {table} by {user}");
    }
}

fn outcome(ended: Result<i64, SqlError>) -> Outcome {
    match ended {
        Ok(rows) => Outcome::Rows(u64::try_from(rows).expect("a count")),
        Err(error) if error.code() == "DUPLICATE_KEY" => Outcome::DuplicateKey,
        Err(error) => panic!("{error}"),
    }
}

fn on_conflict(duplicates: Duplicates) -> &'static str {
    match duplicates {
        Duplicates::Refused => "error",
        Duplicates::Replace => "replace",
        Duplicates::Ignore => "ignore",
    }
}

/// A batch a row. Texts of a bulk load are filled up with blanks, which no query returns.
fn batches(
    rows: &[(i64, String)],
    bulk: bool,
) -> impl futures::Stream<Item = Result<RecordBatch, arrow_flight::error::FlightError>> + Send + 'static {
    let blanks = " ".repeat(if bulk { BULK_BYTES / rows.len() } else { 0 });
    let rows = rows.to_vec();
    futures::stream::iter(rows.into_iter().map(move |(id, value)| {
        let value = value + &blanks;
        Ok(batch(vec![("id", int64([id])), ("v", text([value]))]))
    }))
}

/// The rows that a filter leaves, in no order, without the blanks of bulk loads.
fn select(table: usize, filter: &Filter) -> String {
    format!(
        "SELECT id, rtrim(v) AS v FROM {}{}",
        table_name(table),
        condition(filter)
    )
}

fn condition(filter: &Filter) -> String {
    match filter {
        Filter::All => String::new(),
        Filter::Id(id) => format!(" WHERE id = {id}"),
        Filter::Ids(from, to) => format!(" WHERE id BETWEEN {from} AND {to}"),
        // Blanks sort before everything that follows a text's first letter.
        Filter::TextFrom(from) => format!(" WHERE v >= '{from}'"),
    }
}

/// Whether large statements on it are more than many rows.
fn takes_bulk(model: &Model, table: usize) -> bool {
    model.table(table).is_some_and(|table| table.shape().flushes())
}

/// Texts are filled up with so many blanks.
fn assignments(change: &Change, blanks: usize) -> String {
    let mut assignments = Vec::new();
    if change.shift != 0 {
        assignments.push(format!("id = id + {}", change.shift));
    }
    let text = change.text.as_ref().map(|text| format!("'{text}'"));
    match (text, blanks) {
        (Some(text), 0) => assignments.push(format!("v = {text}")),
        (None, 0) => {}
        (text, blanks) => {
            let text = text.unwrap_or_else(|| "rtrim(v)".to_owned());
            assignments.push(format!("v = {text} || repeat(' ', {blanks})"));
        }
    }
    assignments.join(", ")
}

fn rows(batches: &[RecordBatch]) -> Vec<(i64, String)> {
    let rows = text_rows(batches).into_iter();
    let mut rows: Vec<(i64, String)> = rows
        .map(|mut row| {
            let text = row.pop().expect("two columns");
            (row[0].parse().expect("a number"), text)
        })
        .collect();
    rows.sort();
    rows
}
