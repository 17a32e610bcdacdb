//! Random histories over an engine against a plain model, compared after every step. What they are made of is in
//! `tests/histories`; `KALAMDB_HISTORIES` says how many, or which.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use futures::executor::block_on;
use kalamdb_histories::{
    Duplicates, Filter, History, Kind, LENGTH, Model, Operation, Outcome, Place, Probe, Shape, TABLES, USERS,
    table_name, user_name,
};

use super::filters::{batches, find, request, rows_of};
use super::*;
use crate::jobs::Work;
use crate::testing::{Database, ROOT_PASSWORD, START, batch, memory_directory, new_table};

/// Enough that each kind of step meets each other kind some ten thousand times; long runs set the variable.
const HISTORIES: u64 = 2_000;
/// Readers that go on beside the newest state.
const READERS: usize = 3;
/// How often a statement begins again because others changed its rows. A history has one writer, so that these are flushes and
/// compactions that go on beside it; the layer above tries as often.
const ATTEMPTS: usize = 10;
/// How long what goes on in the background may take on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn random_histories_agree_with_a_plain_model() {
    let template = template();
    kalamdb_histories::run_all(HISTORIES, "random_histories_agree_with_a_plain_model", |seed| {
        run(template.path(), seed);
    });
}

/// A closed database with the users: hashing root's password would cost more than a history.
fn template() -> tempfile::TempDir {
    let db = Database::open(
        memory_directory(),
        Arc::new(DrivenClock::new(START)),
        Some(ROOT_PASSWORD),
    );
    let Database {
        directory,
        engine,
        root,
        ..
    } = db.expect("opens");
    for user in 1..USERS {
        make_user(&engine, &root, user);
    }
    drop(engine);
    directory
}

fn run(template: &Path, seed: u64) {
    let directory = memory_directory();
    copy_directory(template, directory.path());
    let mut history = History::new(Place::Engine, seed, START);
    let mut world = World::open(directory);
    for step in 0..LENGTH {
        let (operation, expected) = history.step();
        assert_eq!(world.run(&operation, history.model()), expected, "{operation:?}");
        let [touched, other] = history.probes(&operation);
        world.now().compare(history.model(), &touched);
        world
            .now()
            .compare_scan(history.model(), other.table, other.user, other.parts);
        if operation == Operation::Restart {
            world.now().compare_everything(&mut history);
        }
        if step.is_multiple_of(4) {
            world.compare_a_reader(&mut history);
        }
    }
    world.release_readers();
    world.db().wait_for_jobs();
    world.now().compare_everything(&mut history);
    world.check_files();
}

fn copy_directory(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            std::fs::create_dir(&target).expect("created");
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copied");
        }
    }
}

/// The database under test.
struct World {
    /// None while it is closed.
    db: Option<Database>,
    people: Vec<Principal>,
    readers: VecDeque<(Reader, Model)>,
}

/// A state of the database and who was there then.
struct Reader {
    view: View,
    people: Vec<Principal>,
}

impl World {
    fn open(directory: tempfile::TempDir) -> Self {
        let db = Database::open(directory, Arc::new(DrivenClock::new(START)), None).expect("opens");
        let mut world = World {
            people: Vec::new(),
            readers: VecDeque::new(),
            db: Some(db),
        };
        world.meet_people();
        world
    }

    fn db(&self) -> &Database {
        self.db.as_ref().expect("open")
    }

    fn now(&self) -> Reader {
        Reader {
            view: self.db().view(),
            people: self.people.clone(),
        }
    }

    fn meet_people(&mut self) {
        let db = self.db();
        let mut people = vec![db.root.clone()];
        for user in 1..USERS {
            let user = db.engine.user(&db.view(), &user_name(user)).expect("reads");
            people.push(user.expect("is there").principal);
        }
        self.people = people;
    }

    fn run(&mut self, operation: &Operation, model: &Model) -> Outcome {
        match operation {
            Operation::Insert {
                table,
                user,
                rows,
                duplicates,
                bulk,
            } => {
                let table = self.table(*table);
                self.retried(|| {
                    let (db, by) = (self.db(), &self.people[*user]);
                    let appender = db.engine.append(by, &table, on_conflict(*duplicates))?;
                    append(appender, rows, *bulk)
                })
            }
            Operation::Update {
                table,
                user,
                filter,
                change,
                bulk,
            } => {
                let table = self.table(*table);
                self.retried(|| {
                    let (reader, by) = (self.now(), &self.people[*user]);
                    let mut mutator = self.mutator(&reader.view, by, &table, *bulk)?;
                    for (found, rows) in find(&reader.view, by, &table, filter) {
                        let rows = rows
                            .iter()
                            .map(|(id, text)| change.apply(*id, text))
                            .collect::<Vec<_>>();
                        mutator.update(&found, &batch_of(&rows))?;
                    }
                    block_on(mutator.finish())
                })
            }
            Operation::Delete {
                table,
                user,
                filter,
                bulk,
            } => {
                let table = self.table(*table);
                self.retried(|| {
                    let (reader, by) = (self.now(), &self.people[*user]);
                    let mut mutator = self.mutator(&reader.view, by, &table, *bulk)?;
                    for (found, _) in find(&reader.view, by, &table, filter) {
                        mutator.delete(&found)?;
                    }
                    block_on(mutator.finish())
                })
            }
            Operation::Flush { table, waits } => self.work(Work::Flush, *table, *waits),
            Operation::Compact { table, waits } => self.work(Work::CompactFully, *table, *waits),
            Operation::Truncate { table } => {
                let name = name(*table);
                block_on(self.db().engine.truncate_table(&self.people[0], &name)).expect("truncated");
                Outcome::Done
            }
            Operation::Drop { table } => {
                let name = name(*table);
                assert!(block_on(self.db().engine.drop_table(&self.people[0], &name, false)).expect("dropped"));
                Outcome::Done
            }
            Operation::Create {
                table,
                shape,
                rows,
                bulk,
            } => self.create(*table, shape, rows, *bulk),
            Operation::ReplaceUser { user } => {
                let Database { engine, root, .. } = self.db();
                assert!(block_on(engine.drop_user(root, &user_name(*user), false)).expect("dropped"));
                self.compare_gone(*user, model);
                make_user(engine, root, *user);
                self.meet_people();
                Outcome::Done
            }
            Operation::Restart => {
                self.release_readers();
                self.db = self.db.take().map(Database::reopen);
                self.meet_people();
                Outcome::Done
            }
            Operation::Advance { micros } => {
                self.db().clock.advance_micros(*micros);
                Outcome::Done
            }
            Operation::Tend => {
                self.db().engine.run_due();
                block_on(self.db().engine.sweep_expired()).expect("swept");
                Outcome::Done
            }
            Operation::KeepReader => {
                self.readers.push_back((self.now(), model.clone()));
                if self.readers.len() > READERS {
                    self.readers.pop_front();
                }
                Outcome::Done
            }
        }
    }

    fn table(&self, table: usize) -> Arc<Table> {
        table_in(&self.db().view(), table).expect("is there")
    }

    fn mutator(&self, view: &View, by: &Principal, table: &Arc<Table>, bulk: bool) -> Result<Mutator> {
        let mutator = self.db().engine.mutate(view, by, table)?;
        Ok(if bulk { mutator.bulk_from(1) } else { mutator })
    }

    fn retried(&self, statement: impl Fn() -> Result<u64>) -> Outcome {
        for _ in 1..ATTEMPTS {
            match statement() {
                Err(error) if error.code == ErrorCode::Conflict => {}
                ended => return outcome(ended),
            }
        }
        outcome(statement())
    }

    fn work(&self, work: Work, table: usize, waits: bool) -> Outcome {
        let (engine, root) = (&self.db().engine, &self.people[0]);
        match (work, waits) {
            (Work::Flush, true) => drop(block_on(engine.flush_table(root, &name(table))).expect("flushed")),
            (_, true) => drop(block_on(engine.compact_table(root, &name(table))).expect("compacted")),
            // Nobody waits for how it ends: what comes next may drop its table.
            (_, false) => drop(engine.jobs().submit(work, &self.table(table)).expect("queued")),
        }
        Outcome::Done
    }

    fn create(&self, table: usize, shape: &Shape, rows: &[(i64, String)], bulk: bool) -> Outcome {
        let (kind, mut options) = match shape.kind {
            Kind::Shared => (TableKind::Shared, Vec::new()),
            Kind::User => (TableKind::User, Vec::new()),
            Kind::Stream => (TableKind::Stream, Vec::new()),
        };
        options.extend(shape.ttl_seconds.map(|seconds| ("TTL_SECONDS", seconds.to_string())));
        options.extend(shape.max_rows.map(|rows| ("MAX_ROWS", rows.to_string())));
        options.extend(shape.flush_rows.map(|rows| ("FLUSH_POLICY", format!("rows:{rows}"))));
        let options: Vec<(&str, &str)> = options.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut new = new_table(&table_name(table), kind, &options);
        if !shape.keyed {
            new.primary_key.clear();
        }
        let (engine, root) = (&self.db().engine, &self.people[0]);
        let mode = match table_in(&self.db().view(), table) {
            Some(_) => CreateMode::OrReplace,
            None => CreateMode::New,
        };
        if rows.is_empty() {
            let (_, created) = block_on(engine.create_table(root, new, mode)).expect("made");
            assert!(created);
            return Outcome::Done;
        }
        let appender = engine.create_table_with_rows(root, new, mode, OnConflict::Error);
        outcome(append(appender.expect("starts"), rows, bulk))
    }

    /// Whoever is still around as a dropped user sees no row of their own.
    fn compare_gone(&self, user: usize, model: &Model) {
        let reader = self.now();
        for table in 0..TABLES {
            let own = model
                .table(table)
                .is_some_and(|table| table.shape().kind != Kind::Shared);
            assert!(
                !own || reader.read(table, user, &Filter::All, 1).is_empty(),
                "rows of {table} by {user}"
            );
        }
    }

    /// Compares the oldest of the readers that go on.
    fn compare_a_reader(&self, history: &mut History) {
        if let Some((reader, model)) = self.readers.front() {
            let probe = history.probe(None, None);
            reader.compare(model, &probe);
        }
    }

    /// Lets the readers go: at the end each sees what it saw first.
    fn release_readers(&mut self) {
        for (reader, model) in self.readers.drain(..) {
            for (table, user) in everything() {
                reader.compare_scan(&model, table, user, 1);
            }
        }
    }

    fn check_files(&self) {
        let db = self.db();
        let tables: Vec<Arc<Table>> = db.view().catalog().tables.values().cloned().collect();
        for table in tables.iter().filter(|table| table.kind.flushes()) {
            let report = block_on(db.engine.check_table(&db.root, &table.name)).expect("checked");
            assert_eq!(report.problems, Vec::new(), "{}", table.name);
        }
        // What is dead is erased in the background.
        let root = db.directory.path().join("segments");
        let asked = Instant::now();
        loop {
            let segments = db.view().segments().expect("reads");
            let named: BTreeSet<PathBuf> = segments.iter().map(|segment| root.join(&segment.path)).collect();
            let there = files_under(&root);
            if there == named {
                break;
            }
            assert!(
                asked.elapsed() < DEADLINE,
                "{there:?} are there, and {named:?} in the tables"
            );
            std::thread::yield_now();
        }
    }
}

/// All but the file that says whose they are. They may go while they are listed: then they are not there.
fn files_under(directory: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(files_under(&entry.path())),
            Ok(_) if entry.file_name().to_string_lossy().starts_with("KALAMDB-STORAGE") => {}
            Ok(_) => drop(files.insert(entry.path())),
            Err(_) => {}
        }
    }
    files
}

impl Reader {
    fn compare_everything(&self, history: &mut History) {
        for (table, user) in everything() {
            let probe = history.probe(Some(table), Some(user));
            self.compare(history.model(), &probe);
        }
    }

    /// Compares every way of reading: all rows, in parts and by LIMIT, their count, one row, a range of keys, and a filter that
    /// rules out parts of segments.
    fn compare(&self, model: &Model, probe: &Probe) {
        let (table, user) = (probe.table, probe.user);
        if !self.compare_scan(model, table, user, probe.parts) {
            return;
        }
        for filter in [&probe.point, &probe.range, &probe.texts] {
            let found = self.read(table, user, filter, 1);
            assert_eq!(
                found,
                model.rows(table, user, filter),
                "{filter:?} of {table} by {user}"
            );
        }
        let all = model.rows(table, user, &Filter::All).len();
        assert_eq!(self.count(table, user, None), all, "count of {table} by {user}");
        assert_eq!(
            self.count(table, user, Some(probe.limit)),
            all.min(probe.limit),
            "LIMIT {} of {table} by {user}",
            probe.limit
        );
    }

    /// Compares all rows; false if there is no such table.
    fn compare_scan(&self, model: &Model, table: usize, user: usize, parts: usize) -> bool {
        let exists = table_in(&self.view, table).is_some();
        assert_eq!(exists, model.table(table).is_some(), "whether there is a table {table}");
        if exists {
            let found = self.read(table, user, &Filter::All, parts);
            let expected = model.rows(table, user, &Filter::All);
            assert_eq!(found, expected, "rows of {table} by {user}");
        }
        exists
    }

    fn read(&self, table: usize, user: usize, filter: &Filter, parts: usize) -> Vec<(i64, String)> {
        let by = &self.people[user];
        let table = table_in(&self.view, table).expect("is there");
        let mut rows = Vec::new();
        let mut seqs = HashSet::new();
        for part in 0..parts {
            let request = ScanRequest {
                part: (part, parts),
                ..request(
                    &table,
                    filter,
                    &[ScanField::Column(0), ScanField::Column(1), ScanField::Seq],
                )
            };
            let is_exact = request.key.is_some();
            for batch in batches(&self.view, by, &table, request) {
                let found = rows_of(&batch, 0, 1).into_iter();
                rows.extend(found.filter(|(id, text)| is_exact || filter.matches(*id, text)));
                for seq in batch.column(2).as_primitive::<UInt64Type>().values() {
                    assert!(seqs.insert(*seq), "{seq} is that of two rows");
                }
            }
        }
        rows.sort();
        rows
    }

    fn count(&self, table: usize, user: usize, limit: Option<usize>) -> usize {
        let table = table_in(&self.view, table).expect("is there");
        let request = ScanRequest {
            limit,
            ..request(&table, &Filter::All, &[])
        };
        let batches = batches(&self.view, &self.people[user], &table, request);
        batches.iter().map(RecordBatch::num_rows).sum()
    }
}

fn everything() -> impl Iterator<Item = (usize, usize)> {
    (0..TABLES).flat_map(|table| (0..USERS).map(move |user| (table, user)))
}

fn make_user(engine: &Engine, root: &Principal, user: usize) {
    let new = NewUser {
        user_id: user_name(user),
        password: None,
        role: Role::Service,
        if_not_exists: false,
    };
    assert!(block_on(engine.create_user(root, new)).expect("made"));
}

fn name(table: usize) -> TableName {
    TableName::new("public", table_name(table))
}

fn table_in(view: &View, table: usize) -> Option<Arc<Table>> {
    view.catalog().table(&name(table)).cloned()
}

fn on_conflict(duplicates: Duplicates) -> OnConflict {
    match duplicates {
        Duplicates::Refused => OnConflict::Error,
        Duplicates::Replace => OnConflict::Replace,
        Duplicates::Ignore => OnConflict::Ignore,
    }
}

fn outcome(ended: Result<u64>) -> Outcome {
    match ended {
        Ok(rows) => Outcome::Rows(rows),
        Err(error) if error.code == ErrorCode::DuplicateKey => Outcome::DuplicateKey,
        Err(error) => panic!("{} {error}", error.code.as_str()),
    }
}

/// Adds rows in two batches and commits.
pub(super) fn append(appender: Appender, rows: &[(i64, String)], bulk: bool) -> Result<u64> {
    let mut appender = if bulk { appender.bulk_from(1) } else { appender };
    let (first, second) = rows.split_at(rows.len() / 2);
    for rows in [first, second] {
        appender.push(&batch_of(rows))?;
    }
    block_on(appender.finish())
}

fn batch_of(rows: &[(i64, String)]) -> RecordBatch {
    let rows: Vec<(&str, i64)> = rows.iter().map(|(id, text)| (text.as_str(), *id)).collect();
    batch(&rows)
}
