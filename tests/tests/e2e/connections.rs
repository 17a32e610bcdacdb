//! The bound of connections: whoever finds no place is told what the matter is and what to do, over both doors, and has the next that is free.

use kalamdb_tests::{Client, Http, ROOT_PASSWORD, Server, Settings};

/// What is to be done, in the message of a refusal.
const WHAT_TO_DO: [&str; 3] = ["max_connections", "close some of yours", "try again later"];

fn one_connection(directory: &std::path::Path) -> Server {
    Server::start_with(directory, &Settings::with_args(&["--max-connections", "1"]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_a_place_is_told_and_has_the_next_that_is_free() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = one_connection(directory.path());
    let mut root = server.root().await;
    let login = || Client::login(server.flight, "root", ROOT_PASSWORD);
    for error in futures::future::join_all((0..3).map(|_| login())).await {
        let error = error.err().expect("there is no place");
        assert_eq!(error.code(), "TOO_MANY_REQUESTS", "{error}");
        assert_eq!(error.grpc, tonic::Code::ResourceExhausted);
        for words in WHAT_TO_DO {
            assert!(error.message.contains(words), "{error}");
        }
    }
    // Who was in goes on.
    assert_eq!(root.value("SELECT 1").await, "1");
    drop(root);
    // It waits for as long as that takes to be heard of.
    let mut next = login().await.expect("there is a place");
    assert_eq!(next.value("SELECT 2").await, "2");
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_user_does_not_hold_all_places() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start_with(directory.path(), &Settings::with_args(&["--max-connections", "8"]));
    let mut root = server.root().await;
    root.ok("CREATE USER 'ada' WITH PASSWORD 'a password of ada' ROLE user")
        .await;
    drop(root);
    let login = || Client::login(server.flight, "ada", "a password of ada");
    let mut held = Vec::new();
    for _ in 0..7 {
        held.push(login().await.expect("the eighth is for others"));
    }
    let error = login().await.err().expect("there is none for her");
    assert_eq!(error.code(), "TOO_MANY_REQUESTS", "{error}");
    for words in ["7 connections of this user", "max_connections", "close some of yours"] {
        assert!(error.message.contains(words), "{error}");
    }
    let mut root = server.root().await;
    assert_eq!(
        root.value("SELECT count(*) FROM system.sessions WHERE user_id = 'ada'")
            .await,
        "7"
    );
    drop(held.pop());
    // The server hears of it when it does.
    while let Err(error) = login().await {
        assert_eq!(error.code(), "TOO_MANY_REQUESTS", "{error}");
    }
    server.terminate();
}

#[test]
fn so_is_one_of_http() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = one_connection(directory.path());
    // Its connection stays open for the next request.
    let holder = server.http_root();
    assert_eq!(holder.sql("SELECT 1").status, 200);
    for http in [server.http_root(), Http::anonymous(server.http)] {
        let reply = http.sql("SELECT 1");
        assert_eq!(reply.status, 429, "{}", reply.text());
        assert_eq!(reply.json()["error"]["code"], "TOO_MANY_REQUESTS");
        for words in WHAT_TO_DO {
            assert!(reply.text().contains(words), "{}", reply.text());
        }
    }
    // Who was in goes on.
    assert_eq!(holder.sql("SELECT 2").status, 200);
    drop(holder);
    assert_eq!(server.http_root().sql("SELECT 1").status, 200);
    server.terminate();
}
