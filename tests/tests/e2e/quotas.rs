//! Quotas: one user at each limit has its own error, over both doors, and meanwhile another works on.

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::{TableExistsOption, TableNotExistOption};
use futures::TryStreamExt;
use kalamdb_tests::{Client, Http, ROOT_PASSWORD, Server, Settings, SqlError};

use crate::batches::{batch, ingest_command, int64};

const PASSWORD: &str = "a password for the test";

/// What the other user does while one is at a limit.
const STATEMENTS: usize = 20;

/// How the limit is reached.
enum Breach {
    /// By one statement.
    By(&'static str),
    /// By one more login.
    Login,
    /// By a statement while another runs.
    Second,
}

struct Limit {
    quota: &'static str,
    breach: Breach,
    code: &'static str,
    http_status: u16,
}

const LIMITS: &[Limit] = &[
    Limit {
        quota: "rows = 1000",
        breach: Breach::By("SELECT value FROM generate_series(1, 1001)"),
        code: "ROW_QUOTA_EXCEEDED",
        http_status: 413,
    },
    Limit {
        quota: "bytes = '1MB'",
        breach: Breach::By("SELECT repeat('x', 1000) FROM generate_series(1, 2000)"),
        code: "BYTE_QUOTA_EXCEEDED",
        http_status: 413,
    },
    Limit {
        quota: "memory = '1MB'",
        breach: Breach::By("SELECT array_agg(value) FROM generate_series(1, 1000000)"),
        code: "MEMORY_QUOTA_EXCEEDED",
        http_status: 429,
    },
    Limit {
        quota: "statement_time = '200ms'",
        breach: Breach::By(
            "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a.value + b.value = 1",
        ),
        code: "TIME_QUOTA_EXCEEDED",
        http_status: 408,
    },
    Limit {
        quota: "queries = 1",
        breach: Breach::Second,
        code: "QUERY_QUOTA_EXCEEDED",
        http_status: 429,
    },
    Limit {
        quota: "sessions = 1",
        breach: Breach::Login,
        code: "SESSION_QUOTA_EXCEEDED",
        http_status: 429,
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user_at_each_limit_and_another_works_on() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE USER TABLE notes (id BIGINT PRIMARY KEY, v TEXT)").await;
    for user in ["ann", "bob"] {
        root.ok(&format!("CREATE USER '{user}' WITH PASSWORD '{PASSWORD}' ROLE user"))
            .await;
    }
    let mut ann = server.login("ann", PASSWORD).await;
    let mut bob = server.login("bob", PASSWORD).await;
    let quotas = root.ok("SELECT count(DISTINCT quota) FROM system.quotas").await;
    assert_eq!(quotas, [["0"]], "none is set");
    for (number, limit) in LIMITS.iter().enumerate() {
        root.ok(&format!("ALTER USER 'ann' SET QUOTA {}", limit.quota)).await;
        let (breaches, ()) = tokio::join!(breach(&server, &mut ann, limit), work(&mut bob, number));
        for (way, error) in ["Flight", "Flight again"].into_iter().zip(breaches) {
            assert_eq!(error.code(), limit.code, "{way}, {}: {error}", limit.quota);
        }
        let (name, _) = limit.quota.split_once(' ').expect("a name comes first");
        root.ok(&format!("ALTER USER 'ann' SET QUOTA {name} = DEFAULT")).await;
        assert_eq!(ann.value("SELECT 1").await, "1", "after {}", limit.quota);
        if let Breach::By(sql) = limit.breach
            && limit.code != "TIME_QUOTA_EXCEEDED"
        {
            ann.ok(sql).await;
        }
    }
    let all = (LIMITS.len() * STATEMENTS).to_string();
    assert_eq!(bob.value("SELECT count(*) FROM notes").await, all);
    let failed = "SELECT DISTINCT user_id FROM system.queries WHERE status <> 'finished' AND user_id <> 'root'";
    assert_eq!(root.ok(failed).await, [["ann"]], "nothing of another's was refused");
    server.terminate();
}

/// A batch that is larger than the quota is refused; as many rows in smaller ones are loaded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_a_load_fits_into_its_users_memory() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok(&format!("CREATE USER 'ann' WITH PASSWORD '{PASSWORD}' ROLE user"))
        .await;
    root.ok("CREATE USER TABLE numbers (id BIGINT)").await;
    root.ok("ALTER USER 'ann' SET QUOTA memory = '6MB'").await;
    let mut ann = server.login("ann", PASSWORD).await;
    let append = || {
        let (missing, there) = (TableNotExistOption::Fail, TableExistsOption::Append);
        ingest_command("public", "numbers", missing, there, &[])
    };
    let whole = || FlightDataEncoderBuilder::new().with_max_flight_data_size(64 << 20);
    let rows = |count: i64| Ok(batch(vec![("id", int64(0..count))]));
    let large = futures::stream::iter([rows(1_000_000)]);
    let refused = ann.ingest_encoded(append(), large, whole()).await;
    assert_eq!(refused.expect_err("8 MB").code(), "MEMORY_QUOTA_EXCEEDED");
    let small = futures::stream::iter((0..10).map(move |_| rows(100_000)));
    assert_eq!(
        ann.ingest_encoded(append(), small, whole()).await.expect("it loads"),
        1_000_000
    );
    assert_eq!(ann.value("SELECT count(*) FROM numbers").await, "1000000");
    server.terminate();
}

/// As many as the quota says and no fewer: one after the other, and all at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_log_in_as_the_quota_says() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok(&format!("CREATE USER 'ann' WITH PASSWORD '{PASSWORD}' ROLE user"))
        .await;
    root.ok("CREATE NAMESPACE here").await;
    root.ok("CREATE TABLE here.t (id BIGINT PRIMARY KEY) WITH (ACCESS_LEVEL = 'public')")
        .await;
    let open = "SELECT count(*) FROM system.sessions WHERE user_id = 'ann'";
    for quota in [1, 2, 3] {
        root.ok(&format!("ALTER USER 'ann' SET QUOTA sessions = {quota}")).await;
        for at_once in [1, 20] {
            assert_eq!(root.value(open).await, "0");
            let login = || Client::login(server.flight, "ann", PASSWORD);
            let mut logged_in = Vec::new();
            for _ in 0..4 {
                for login in futures::future::join_all((0..at_once).map(|_| login())).await {
                    match login {
                        Ok(client) => logged_in.push(client),
                        Err(error) => assert_eq!(error.code(), "SESSION_QUOTA_EXCEEDED", "{error}"),
                    }
                }
            }
            assert_eq!(logged_in.len(), quota, "{at_once} at once");
            // A ticket with options of its own needs no room for another session.
            let ann = &mut logged_in[0];
            ann.ok("USE here").await;
            let info = ann.flight.execute("SELECT count(*) FROM t".to_owned(), None).await;
            let info = info.expect("it plans");
            ann.ok("USE public").await;
            assert_eq!(ann.fetch(info).await.expect("it runs").batches.len(), 1);
            for ann in &mut logged_in {
                close_session(ann).await;
            }
        }
    }
    server.terminate();
}

/// The last session that there is room for is one to log in with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_one_session_lets_one_log_in() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start_with(directory.path(), &Settings::with_args(&["--max-sessions", "1"]));
    for _ in 0..2 {
        let mut root = server.root().await;
        assert_eq!(root.value("SELECT 1").await, "1");
        let second = Client::login(server.flight, "root", ROOT_PASSWORD).await;
        assert_eq!(second.err().expect("one is open").code(), "TOO_MANY_REQUESTS");
        close_session(&mut root).await;
    }
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_hold_over_both_doors_and_for_one_user_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    for (user, role) in [("ann", "user"), ("sue", "service")] {
        root.ok(&format!("CREATE USER '{user}' WITH PASSWORD '{PASSWORD}' ROLE {role}"))
            .await;
    }
    let mut ann = server.login("ann", PASSWORD).await;
    let mut sue = server.login("sue", PASSWORD).await;
    let many = "SELECT value FROM generate_series(1, 100000)";
    root.ok("ALTER USER 'ann' SET QUOTA rows = 50000").await;
    let error = ann.error(many).await;
    assert_eq!(error.code(), "ROW_QUOTA_EXCEEDED", "{error}");
    assert_eq!(error.grpc, tonic::Code::ResourceExhausted);
    root.ok("ALTER USER 'ann' SET QUOTA rows = 10").await;
    let reply = Http::basic(server.http, "ann", PASSWORD).sql("SELECT value FROM generate_series(1, 20)");
    assert_eq!(reply.status, 413, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "ROW_QUOTA_EXCEEDED");
    assert_eq!(sue.ok(many).await.len(), 100_000);
    assert_eq!(
        ann.value("SELECT count(*) FROM generate_series(1, 100000)").await,
        "100000"
    );

    root.ok("ALTER USER 'ann' SET QUOTA rows = DEFAULT, sessions = 1").await;
    let refused = Client::login(server.flight, "ann", PASSWORD).await.err();
    assert_eq!(refused.expect("one is open").code(), "SESSION_QUOTA_EXCEEDED");
    ann.ok("SELECT 1").await;
    server.login("sue", PASSWORD).await.ok("SELECT 1").await;

    root.ok("ALTER USER 'ann' SET QUOTA sessions = DEFAULT, queries = 1")
        .await;
    let mut second = server.login("ann", PASSWORD).await;
    let info = ann
        .flight
        .execute("SELECT value FROM generate_series(1, 1000000000)".to_owned(), None)
        .await;
    let ticket = info.expect("it plans").endpoint[0]
        .ticket
        .clone()
        .expect("it has a ticket");
    let unread = ann.flight.do_get(ticket).await.expect("it starts");
    let error = second.error("SELECT 1").await;
    assert_eq!(error.code(), "QUERY_QUOTA_EXCEEDED", "{error}");
    assert_eq!(Http::basic(server.http, "ann", PASSWORD).sql("SELECT 1").status, 429);
    sue.ok("SELECT 1").await;
    drop(unread);
    server.terminate();
}

async fn close_session(client: &mut Client) {
    let close = client.authorized(arrow_flight::Action::new("CloseSession", Vec::new()));
    let closed = client.raw().do_action(close).await.expect("it is open").into_inner();
    closed.try_collect::<Vec<_>>().await.expect("it closes");
}

/// Reaches the limit twice over Flight, and over HTTP where a session is not what is limited.
async fn breach(server: &Server, ann: &mut Client, limit: &Limit) -> Vec<SqlError> {
    let http = Http::bearer(server.http, ann.token());
    let check_http = |sql: &str| {
        let reply = http.sql(sql);
        assert_eq!(reply.status, limit.http_status, "{}: {}", limit.quota, reply.text());
        assert_eq!(reply.json()["error"]["code"], limit.code, "{}", reply.text());
    };
    match limit.breach {
        Breach::By(sql) => {
            let errors = vec![ann.error(sql).await, ann.error(sql).await];
            tokio::task::block_in_place(|| check_http(sql));
            errors
        }
        Breach::Login => {
            let mut errors = Vec::new();
            for _ in 0..2 {
                let refused = Client::login(server.flight, "ann", PASSWORD).await;
                errors.push(refused.err().expect("one is open"));
            }
            ann.ok("SELECT 1").await;
            errors
        }
        Breach::Second => {
            // It waits for its reader, and so runs.
            let endless = "SELECT value FROM generate_series(1, 10000000000)".to_owned();
            let info = ann.flight.execute(endless, None).await.expect("it plans");
            let ticket = info.endpoint[0].ticket.clone().expect("it has a ticket");
            let unread = ann.flight.do_get(ticket).await.expect("it starts");
            let errors = vec![ann.error("SELECT 1").await, ann.error("SELECT 2").await];
            tokio::task::block_in_place(|| check_http("SELECT 3"));
            drop(unread);
            kalamdb_tests::eventually("the statement that nobody reads ends", || {
                let mut ann = ann.clone();
                async move { ann.rows("SELECT 1").await.ok() }
            })
            .await;
            errors
        }
    }
}

/// Statements of all kinds, each of which has to succeed.
async fn work(bob: &mut Client, number: usize) {
    for statement in 0..STATEMENTS {
        let id = number * STATEMENTS + statement;
        bob.ok(&format!("INSERT INTO notes VALUES ({id}, repeat('x', 1000))"))
            .await;
        let found = bob.value(&format!("SELECT count(*) FROM notes WHERE id <= {id}")).await;
        assert_eq!(found, (id + 1).to_string());
        assert_eq!(bob.ok("SELECT value FROM generate_series(1, 2000)").await.len(), 2_000);
    }
}
