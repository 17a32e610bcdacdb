//! Fifty users at once: the same SQL text, the same keys, and each sees exactly their own.

use arrow::array::RecordBatch;
use kalamdb_tests::{Client, Http, Server};

use crate::batches::{batch, int64, text};

const USERS: usize = 50;
const SINGLE_ROWS: i64 = 10;
const BOUND_ROWS: i64 = 20;
const PASSWORD: &str = "one password for all fifty";

const MESSAGES: &str = "SELECT id, user_id, body FROM chat.messages ORDER BY id";
const PRESENCE: &str = "SELECT id, status FROM chat.presence ORDER BY id";
const FOUR_KINDS: &str = "\
    SELECT m.id, m.body, t.title, p.status, u.username \
    FROM chat.messages m \
    JOIN chat.topics t ON t.topic_id = m.id % 2 \
    JOIN chat.presence p ON p.id = m.id \
    JOIN system.users u ON u.user_id = m.user_id \
    ORDER BY m.id";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_users_see_exactly_their_own() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE NAMESPACE chat").await;
    root.ok("CREATE USER TABLE chat.messages (id BIGINT PRIMARY KEY, user_id TEXT NOT NULL, body TEXT)")
        .await;
    root.ok("CREATE STREAM TABLE chat.presence (id BIGINT PRIMARY KEY, status TEXT) WITH (TTL_SECONDS = 86400)")
        .await;
    root.ok("CREATE SHARED TABLE chat.topics (topic_id BIGINT PRIMARY KEY, title TEXT) WITH (ACCESS_LEVEL = 'public')")
        .await;
    root.ok("INSERT INTO chat.topics VALUES (0, 'even'), (1, 'odd')").await;
    for user in 0..USERS {
        root.ok(&format!(
            "CREATE USER '{}' WITH PASSWORD '{PASSWORD}' ROLE user",
            name(user)
        ))
        .await;
    }

    let tasks: Vec<_> = (0..USERS)
        .map(|user| {
            let flight = server.flight;
            tokio::spawn(async move {
                let name = name(user);
                let mut client = Client::login(flight, &name, PASSWORD)
                    .await
                    .expect("the user can log in");
                write_rows(&mut client, &name).await;
                check_rows(&mut client, &name).await;
                client
            })
        })
        .collect();
    let mut clients = Vec::new();
    for task in tasks {
        clients.push(task.await.expect("no user's task panics"));
    }

    // Again, now that everyone has written.
    for (user, client) in clients.iter_mut().enumerate() {
        let name = name(user);
        check_rows(client, &name).await;
        assert_eq!(
            client.ok("SELECT title FROM chat.topics ORDER BY 1").await,
            [["even"], ["odd"]]
        );
        let joined = client.ok(FOUR_KINDS).await;
        assert_eq!(
            joined.len(),
            usize::try_from(SINGLE_ROWS + BOUND_ROWS).expect("a small number"),
            "{name}"
        );
        for (id, row) in joined.iter().enumerate() {
            let title = if id % 2 == 0 { "even" } else { "odd" };
            let expected = [
                id.to_string(),
                body(&name, id as i64),
                title.into(),
                status(&name, id as i64),
                name.clone(),
            ];
            assert_eq!(row, &expected);
        }
    }
    // Over HTTP it is the very same.
    let http = Http::basic(server.http, &name(7), PASSWORD);
    let reply = http
        .sql("SELECT count(*), min(user_id), max(user_id) FROM chat.messages")
        .json();
    assert_eq!(
        reply["results"][0]["rows"],
        serde_json::json!([[SINGLE_ROWS + BOUND_ROWS, name(7), name(7)]]),
        "{reply}"
    );

    // No role sees the rows of others implicitly.
    assert_eq!(root.value("SELECT count(*) FROM chat.messages").await, "0");
    assert_eq!(root.value("SELECT count(*) FROM chat.presence").await, "0");
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_with_system_users_names_the_author() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE NAMESPACE prod").await;
    root.ok("CREATE USER TABLE prod.messages (id BIGINT PRIMARY KEY, user_id TEXT, body TEXT)")
        .await;
    root.ok("INSERT INTO prod.messages VALUES (1, CURRENT_USER, 'hi'), (2, 'nobody', 'lost')")
        .await;
    let rows = root
        .ok("SELECT m.*, u.username FROM prod.messages m JOIN system.users u ON m.user_id = u.user_id")
        .await;
    assert_eq!(rows, [["1", "root", "hi", "root"]]);
}

async fn write_rows(client: &mut Client, name: &str) {
    for id in 0..SINGLE_ROWS {
        let (body, status) = (body(name, id), status(name, id));
        client
            .ok(&format!("INSERT INTO chat.messages VALUES ({id}, '{name}', '{body}')"))
            .await;
        client
            .ok(&format!("INSERT INTO chat.presence VALUES ({id}, '{status}')"))
            .await;
    }
    let ids = SINGLE_ROWS..SINGLE_ROWS + BOUND_ROWS;
    let messages = batch(vec![
        ("1", int64(ids.clone())),
        ("2", text(ids.clone().map(|_| name))),
        ("3", text(ids.clone().map(|id| body(name, id)))),
    ]);
    let presence = batch(vec![
        ("1", int64(ids.clone())),
        ("2", text(ids.map(|id| status(name, id)))),
    ]);
    bound(client, "INSERT INTO chat.messages VALUES ($1, $2, $3)", messages).await;
    bound(client, "INSERT INTO chat.presence VALUES (?, ?)", presence).await;
}

/// executemany: all rows bound at once, one atomic execution.
async fn bound(client: &mut Client, sql: &str, rows: RecordBatch) {
    let count = client
        .update_bound(sql, rows)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(count, BOUND_ROWS, "{sql}");
}

async fn check_rows(client: &mut Client, name: &str) {
    let ids = 0..SINGLE_ROWS + BOUND_ROWS;
    let messages: Vec<_> = ids
        .clone()
        .map(|id| vec![id.to_string(), name.to_owned(), body(name, id)])
        .collect();
    let presence: Vec<_> = ids.map(|id| vec![id.to_string(), status(name, id)]).collect();
    assert_eq!(client.ok(MESSAGES).await, messages, "{name}");
    assert_eq!(client.ok(PRESENCE).await, presence, "{name}");
}

fn name(user: usize) -> String {
    format!("user{user:02}")
}

fn body(name: &str, id: i64) -> String {
    format!("message {id} of {name}")
}

fn status(name: &str, id: i64) -> String {
    format!("status {id} of {name}")
}
