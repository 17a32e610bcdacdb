//! KILL JOB by each role, of jobs that wait at the disk until everybody has tried.

use kalamdb_tests::{Client, Server, Settings, SqlError};

use super::cells::name_of;
use super::{ROLES, everyone, judge, least, start_with};
use crate::disk_fault::DiskFault;

/// The document's rows that are tried here.
pub(super) const ROWS: [&str; 2] = [
    "KILL JOB, with the right to start such a job",
    "KILL JOB of a table that was dropped",
];

/// The tables that have jobs, as the document calls them.
const OBJECTS: [&str; 4] = ["SHARED public", "SHARED private", "SHARED restricted", "USER"];

/// The document's row of whom a job may start, the statement that does, and the call of its that waits.
const KINDS: [(&str, &str, &str); 3] = [
    ("FLUSH", "FLUSH TABLE", "write .parquet"),
    ("COMPACT, CHECK", "STORAGE COMPACT TABLE", "write .parquet"),
    ("COMPACT, CHECK", "STORAGE CHECK TABLE", "read .parquet"),
];

struct Scene {
    server: Server,
    root: Client,
    clients: Vec<Client>,
    fault: DiskFault,
    _directory: tempfile::TempDir,
}

/// What came of a job that waited.
type Started = tokio::task::JoinHandle<Result<Vec<Vec<String>>, SqlError>>;

impl Scene {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let fault = DiskFault::new(directory.path());
        let settings = Settings {
            env: fault.variables(),
            ..Settings::default()
        };
        let (server, root) = start_with(&directory.path().join("data"), settings).await;
        Scene {
            clients: everyone(&server).await,
            server,
            root,
            fault,
            _directory: directory,
        }
    }

    /// Makes a table with rows in segments and in memory.
    async fn table(&mut self, object: &str, name: &str) {
        let (kind, level) = object.split_once(' ').unwrap_or((object, ""));
        let level = match level {
            "" => String::new(),
            level => format!(", ACCESS_LEVEL = '{level}'"),
        };
        // No job of the schedule's own comes between.
        let options = format!("FLUSH_POLICY = 'interval:86400s'{level}");
        let create = format!("CREATE {kind} TABLE {name} (id BIGINT PRIMARY KEY, v TEXT) WITH ({options})");
        self.root.ok(&create).await;
        for id in [1, 2] {
            self.root.ok(&format!("INSERT INTO {name} VALUES ({id}, 'x')")).await;
            self.root.ok(&format!("FLUSH TABLE {name}")).await;
        }
        self.root.ok(&format!("INSERT INTO {name} VALUES (3, 'x')")).await;
    }

    /// Starts a job and waits until it waits; its id, and what its statement answers in the end.
    async fn held(&mut self, statement: &str, call: &str, name: &str) -> (String, Started) {
        self.fault.holds(call);
        let (mut starter, sql) = (self.root.clone(), format!("{statement} {name}"));
        let started = tokio::spawn(async move { starter.rows(&sql).await });
        self.fault.until_held().await;
        let find = format!(
            "SELECT job_id FROM system.jobs j JOIN system.tables t ON t.table_id = j.table_id \
             WHERE t.table_name = '{name}' AND j.status = 'running'"
        );
        (self.root.value(&find).await, started)
    }

    async fn let_go(&mut self, started: Started) -> Result<Vec<Vec<String>>, SqlError> {
        self.fault.is_good_again();
        started.await.expect("the task does not panic")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_might_have_started_a_job_kills_it_and_nobody_else() {
    let mut scene = Scene::new().await;
    let mut wrong = Vec::new();
    let killing = least("Other statements", ROWS[0], "from role").expect("somebody may");
    let mut killed = 0;
    for object in OBJECTS {
        let seeing = least("Statements about a table", "SELECT", object).expect("somebody may");
        for (number, (row, statement, call)) in KINDS.into_iter().enumerate() {
            let starting = least("Statements about a table", row, object).expect("somebody may");
            for (role, name) in ROLES.into_iter().enumerate() {
                let table = format!("{}_{number}_{name}", name_of(object));
                scene.table(object, &table).await;
                let (job, started) = scene.held(statement, call, &table).await;
                let refusal = match role {
                    // What is another's is not there for whoever may not end it.
                    _ if role < killing || role < seeing => Some("NOT_FOUND"),
                    _ if role < starting => Some("PERMISSION_DENIED"),
                    _ => None,
                };
                let what = format!("{name} kills a {statement} of a {object} table");
                let outcome = scene.clients[role].rows(&format!("KILL JOB '{job}'")).await;
                judge(outcome, refusal, &what, &mut wrong);
                // It was there to be killed, and was by nobody who may not.
                let ended = scene.let_go(started).await;
                killed += usize::from(refusal.is_none());
                match (ended, refusal) {
                    (Ok(_), Some(_)) => {}
                    (Err(error), None) if error.code() == "CANCELLED" && error.message.contains("KILL JOB") => {}
                    (ended, _) => wrong.push(format!("{what}: it ended with {ended:?}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(killed > OBJECTS.len() * KINDS.len(), "{killed} were killed");
    scene.server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_a_table_that_was_dropped_is_killed_by_whom_the_document_says() {
    let mut scene = Scene::new().await;
    let mut wrong = Vec::new();
    let killing = least("Other statements", ROWS[1], "from role").expect("somebody may");
    for object in OBJECTS {
        for (number, (_, statement, call)) in KINDS.into_iter().enumerate() {
            for (role, name) in ROLES.into_iter().enumerate() {
                let table = format!("{}_{number}_{name}", name_of(object));
                scene.table(object, &table).await;
                let (job, started) = scene.held(statement, call, &table).await;
                scene.root.ok(&format!("DROP TABLE {table}")).await;
                let what = format!("{name} kills a {statement} of a dropped {object} table");
                let outcome = scene.clients[role].rows(&format!("KILL JOB '{job}'")).await;
                judge(outcome, (role < killing).then_some("NOT_FOUND"), &what, &mut wrong);
                let ended = scene.let_go(started).await;
                let expected = if role < killing { "TABLE_NOT_FOUND" } else { "CANCELLED" };
                if ended.as_ref().err().map(SqlError::code) != Some(expected) {
                    wrong.push(format!("{what}: it ended with {ended:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    scene.server.terminate();
}
