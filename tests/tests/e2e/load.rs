//! Loads by CommandStatementIngest: what they make, and how they stand beside DDL and other writers.

use arrow_flight::sql::{TableExistsOption, TableNotExistOption};
use futures::StreamExt;
use kalamdb_tests::{Client, Server, SqlError};

use crate::batches::{batch, ingest_command, int64, payload_rows, text};

/// An append that has sent its rows and waits for a word to end its stream.
struct OpenLoad {
    end: tokio::sync::oneshot::Sender<()>,
    call: tokio::task::JoinHandle<Result<i64, SqlError>>,
}

/// Sends `batches` batches of `rows` rows and returns once all of them are on their way.
async fn open_append(root: &Client, table: &str, rows: i64, batches: i64) -> OpenLoad {
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let (reached, was_reached) = tokio::sync::oneshot::channel();
    let mut reached = Some(reached);
    let command = ingest_command(
        "public",
        table,
        TableNotExistOption::Fail,
        TableExistsOption::Append,
        &[],
    );
    let sent = futures::stream::iter(0..batches)
        .map(move |number| {
            if number == batches - 1 {
                reached
                    .take()
                    .expect("there is one last batch")
                    .send(())
                    .expect("the test waits for it");
            }
            Ok(payload_rows(number * rows..(number + 1) * rows, 60))
        })
        .chain(futures::stream::once(ended).filter_map(|_| async { None }));
    let mut client = root.clone();
    let call = tokio::spawn(async move { client.ingest(command, sent).await });
    if was_reached.await.is_err() {
        panic!("the load ended before its stream was read: {:?}", call.await);
    }
    OpenLoad { end, call }
}

impl OpenLoad {
    async fn finish(self) -> Result<i64, SqlError> {
        // A load that has failed already does not listen any more.
        let _ = self.end.send(());
        self.call.await.expect("the call does not panic")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_goes_during_a_load_takes_the_load_with_it() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    for (rows, batches) in [(100, 2), (10_000, 12)] {
        for (name, statements) in [
            ("drop", &["DROP TABLE t"][..]),
            (
                "drop and create",
                &["DROP TABLE t", "CREATE TABLE t (id BIGINT PRIMARY KEY, payload TEXT)"],
            ),
            (
                "replace",
                &["CREATE OR REPLACE TABLE t (id BIGINT PRIMARY KEY, payload TEXT)"],
            ),
            ("truncate", &["TRUNCATE TABLE t"]),
        ] {
            root.ok("CREATE TABLE t (id BIGINT PRIMARY KEY, payload TEXT)").await;
            root.ok("INSERT INTO t VALUES (-1, 'old')").await;
            let load = open_append(&root, "t", rows, batches).await;
            for statement in statements {
                root.ok(statement).await;
            }
            let error = load.finish().await.expect_err(name);
            assert!(
                ["TABLE_NOT_FOUND", "CONFLICT"].contains(&error.code()),
                "{name}, {rows} rows: {error}"
            );
            if name == "drop" {
                assert_eq!(root.error("SELECT * FROM t").await.code(), "TABLE_NOT_FOUND");
            } else {
                assert_eq!(root.value("SELECT count(*) FROM t").await, "0", "{name}, {rows} rows");
            }
            root.ok("DROP TABLE IF EXISTS t").await;
        }
    }
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_beside_a_load_keep_their_rows_and_their_keys() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    let (rows, batches) = (10_000, 12);
    root.ok("CREATE TABLE t (id BIGINT PRIMARY KEY, payload TEXT)").await;
    root.ok("INSERT INTO t VALUES (-1, 'old'), (-2, 'older')").await;
    let load = open_append(&root, "t", rows, batches).await;
    // None of it shows, and others go on.
    assert_eq!(root.value("SELECT count(*) FROM t").await, "2");
    root.ok("INSERT INTO t VALUES (-3, 'meanwhile')").await;
    root.ok("UPDATE t SET payload = 'changed' WHERE id = -1").await;
    root.ok("DELETE FROM t WHERE id = -2").await;
    assert_eq!(load.finish().await.expect("no key is in the way"), rows * batches);
    assert_eq!(
        root.value("SELECT count(*) FROM t").await,
        (rows * batches + 2).to_string()
    );
    assert_eq!(
        root.ok("SELECT * FROM t WHERE id < 0 ORDER BY id").await,
        [["-3", "meanwhile"], ["-1", "changed"]]
    );
    assert_eq!(
        root.value("SELECT count(DISTINCT _seq) FROM t").await,
        (rows * batches + 2).to_string()
    );

    // A key that someone inserts meanwhile is a duplicate at the end, and the load leaves nothing.
    root.ok("TRUNCATE TABLE t").await;
    let load = open_append(&root, "t", rows, batches).await;
    root.ok("INSERT INTO t VALUES (77, 'mine')").await;
    let error = load.finish().await.expect_err("key 77 is taken");
    assert!(["DUPLICATE_KEY", "CONFLICT"].contains(&error.code()), "{error}");
    assert_eq!(root.ok("SELECT * FROM t").await, [["77", "mine"]]);
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_say_what_becomes_of_keys() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    // Small loads go by rows, large ones are staged in bulk: the outcome is the same.
    for (table, count) in [("small", 100_i64), ("large", 150_000)] {
        let create = &[("ingest.primary_key", "id")];
        let rows = |from: i64, to: i64, word: &str| {
            let word = word.to_owned();
            let chunks = (from..to).step_by(10_000).map(move |start| {
                let ids = start..to.min(start + 10_000);
                Ok(batch(vec![
                    ("id", int64(ids.clone())),
                    ("v", text(ids.map(|id| format!("{word} {id}")))),
                ]))
            });
            futures::stream::iter(chunks.collect::<Vec<_>>())
        };
        let command = ingest_command(
            "public",
            table,
            TableNotExistOption::Create,
            TableExistsOption::Fail,
            create,
        );
        assert_eq!(
            root.ingest(command, rows(0, count, "first")).await.expect("it is new"),
            count
        );

        let append = |option: &'static [(&'static str, &'static str)]| {
            ingest_command(
                "public",
                table,
                TableNotExistOption::Fail,
                TableExistsOption::Append,
                option,
            )
        };
        let half = count / 2;
        let error = root
            .ingest(append(&[]), rows(half, count + half, "second"))
            .await
            .expect_err("keys exist");
        assert_eq!(error.code(), "DUPLICATE_KEY", "{error}");
        assert_eq!(
            root.value(&format!("SELECT count(*) FROM {table}")).await,
            count.to_string()
        );

        root.ingest(
            append(&[("ingest.on_conflict", "ignore")]),
            rows(half, count + half, "third"),
        )
        .await
        .expect("ignored");
        check(&mut root, table, count + half, &[("first", count), ("third", half)]).await;
        root.ingest(append(&[("ingest.on_conflict", "replace")]), rows(0, half, "fourth"))
            .await
            .expect("replaced");
        check(
            &mut root,
            table,
            count + half,
            &[("first", count - half), ("fourth", half), ("third", half)],
        )
        .await;
        // The seam between what was kept and what came.
        let sql = format!(
            "SELECT v FROM {table} WHERE id IN ({}, {half}, {count}) ORDER BY id",
            half - 1
        );
        let seam = [
            format!("fourth {}", half - 1),
            format!("first {half}"),
            format!("third {count}"),
        ];
        assert_eq!(root.ok(&sql).await, seam.map(|value| vec![value]));

        let replace = ingest_command(
            "public",
            table,
            TableNotExistOption::Fail,
            TableExistsOption::Replace,
            create,
        );
        root.ingest(replace, rows(0, 10, "fifth"))
            .await
            .expect("the table is replaced");
        check(&mut root, table, 10, &[("fifth", 10)]).await;
        let error = root.error(&format!("INSERT INTO {table} VALUES (3, 'x')")).await;
        assert_eq!(error.code(), "DUPLICATE_KEY", "the replaced table has its key: {error}");
    }

    // A typed table, and options that do not exist.
    let user = &[("ingest.primary_key", "id"), ("ingest.table_type", "USER")];
    let command = ingest_command(
        "public",
        "mine",
        TableNotExistOption::Create,
        TableExistsOption::Fail,
        user,
    );
    root.ingest(command, futures::stream::iter([Ok(payload_rows(0..5, 10))]))
        .await
        .expect("a USER table");
    assert_eq!(
        root.value("SELECT table_type FROM system.tables WHERE table_name = 'mine'")
            .await,
        "USER"
    );
    for options in [
        &[("ingest.primary_kee", "id")][..],
        &[("ingest.primary_key", "nothing")],
        &[("ingest.table_type", "GLOBAL")],
        &[("ingest.on_conflict", "perhaps")],
    ] {
        let command = ingest_command(
            "public",
            "bad",
            TableNotExistOption::Create,
            TableExistsOption::Fail,
            options,
        );
        let error = root
            .ingest(command, futures::stream::iter([Ok(payload_rows(0..5, 10))]))
            .await
            .expect_err("bad");
        let known = ["INVALID_ARGUMENT", "COLUMN_NOT_FOUND", "NOT_FOUND"].contains(&error.code());
        assert!(
            known && error.message.contains(options[0].0.trim_start_matches("ingest."))
                || error.message.contains(options[0].1),
            "{options:?}: {error}"
        );
    }
    assert_eq!(root.error("SELECT * FROM bad").await.code(), "TABLE_NOT_FOUND");
    server.terminate();
}

async fn check(root: &mut Client, table: &str, count: i64, words: &[(&str, i64)]) {
    assert_eq!(
        root.value(&format!("SELECT count(*) FROM {table}")).await,
        count.to_string(),
        "{table}"
    );
    let sql = format!("SELECT split_part(v, ' ', 1) AS w, count(*) FROM {table} GROUP BY 1 ORDER BY 1");
    let expected: Vec<_> = words
        .iter()
        .map(|(word, count)| vec![(*word).to_owned(), count.to_string()])
        .collect();
    assert_eq!(root.ok(&sql).await, expected, "{table}");
}
