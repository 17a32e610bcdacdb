//! No password, token or literal of one shows anywhere.

use kalamdb_tests::{Client, Http, ROOT_PASSWORD, Server, Settings};

/// What must show nowhere.
const MARKERS: &[&str] = &[
    "marker-create-q7",
    "marker-alter-q7",
    "marker-bare-q7",
    "marker-insert-q7",
    "marker-where-q7",
    "marker-as-q7",
    "marker-login-q7",
    "marker-http-q7",
    "marker-typo-q7",
    "marker-token-q7",
    "marker-told-q7",
    "marker-usr-q7",
    "marker-set-q7",
    "marker-role-q7",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_no_table_and_no_error_shows_a_secret() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start_with(
        directory.path(),
        &Settings::with_args(&["--log", "trace,sqlparser::parser=trace,datafusion_sql=trace"]),
    );
    let mut root = server.root().await;
    let mut seen = String::new();
    for sql in [
        "CREATE USER 'ann' WITH PASSWORD 'marker-create-q7 and more' ROLE service",
        "ALTER USER 'ann' SET PASSWORD 'marker-alter-q7 and more'",
        "CREATE USER 'eve' WITH PASSWORD marker-bare-q7 ROLE user",
        "CREATE USER 'eve' WITH PASSWORD \"marker-bare-q7\" ROLE user",
        "CREATE USER 'eve' WITH PASWORD 'marker-typo-q7' ROLE user",
        "ALTER USER 'ann' SET PASSWORD = 'marker-typo-q7'",
        "CREATE USER 'ann' WITH PASSWORD 'marker-create-q7 and more' ROLE user",
        "CREATE USR zed PASSWORD \"marker-usr-q7\"",
        "SET PASSWORD = \"marker-set-q7\"",
        "CREATE ROLE zed LOGIN PASSWORD \"marker-role-q7\"",
        "CREATE TABLE t (id BIGINT PRIMARY KEY, v TEXT)",
        "INSERT INTO t VALUES (1, 'marker-insert-q7')",
        "SELECT id FROM t WHERE v = 'marker-where-q7'",
        "SELECT nothing FROM t WHERE v = 'marker-where-q7'",
        "DELETE FROM t WHERE v = 'marker-where-q7' AND nothing",
        "EXECUTE AS USER 'ann' (SELECT id FROM t WHERE v = 'marker-as-q7')",
        "EXECUTE AS USER 'nobody' (SELECT 'marker-as-q7')",
        "EXECUTE AS USER 'ann' (ALTER USER 'ann' SET PASSWORD 'marker-as-q7 and more')",
        "EXECUTE AS ALL USERS (SELECT id FROM t WHERE v = 'marker-as-q7')",
    ] {
        match root.run(sql).await {
            // The rows of t are what was asked for; no statement here returns them.
            Ok(outcome) => seen.push_str(&format!("{:?}\n", kalamdb_tests::text_rows(&outcome.batches))),
            Err(error) => seen.push_str(&format!("{error}\n")),
        }
        if let Err(error) = root.flight.prepare(sql.to_owned(), None).await {
            seen.push_str(&format!("{error}\n"));
        }
        seen.push_str(&server.http_root().sql(sql).text());
    }
    // Whoever sends a value is told what is wrong with it; nobody else is.
    let told = root.error("INSERT INTO t VALUES ('marker-told-q7', 'x')").await;
    assert!(told.message.contains("marker-told-q7"), "{told}");
    for (user, password) in [
        ("ann", "marker-login-q7"),
        ("marker-login-q7", "x"),
        ("root", "marker-http-q7"),
    ] {
        let refused = Client::login(server.flight, user, password).await.err();
        seen.push_str(&format!("{}\n", refused.expect("a wrong password")));
        seen.push_str(&Http::basic(server.http, user, password).sql("SELECT 1").text());
    }
    seen.push_str(&Http::bearer(server.http, "marker-token-q7.x.y").sql("SELECT 1").text());
    let mut ann = server.login("ann", "marker-alter-q7 and more").await;
    ann.ok("SELECT 1").await;
    let token = ann.token().to_owned();
    let tables = root
        .ok("SELECT table_schema, table_name FROM information_schema.tables")
        .await;
    let mut read = 0;
    for table in tables {
        let name = format!("{}.{}", table[0], table[1]);
        if name == "public.t" {
            continue;
        }
        read += 1;
        seen.push_str(&format!(
            "{name}: {:?}\n",
            root.ok(&format!("SELECT * FROM {name}")).await
        ));
    }
    assert!(read > 15, "every table was read");
    for sql in [
        "SHOW ALL",
        "SHOW GRANTS",
        "SHOW QUOTAS",
        "SHOW TABLES",
        "SHOW JOBS",
        "SHOW STORAGES",
    ] {
        seen.push_str(&format!("{sql}: {:?}\n", root.ok(sql).await));
    }
    seen.push_str(&server.http_root().get("/metrics").text());
    seen.push_str(&server.terminate());
    assert!(seen.contains("LOGIN FROM 127.0.0.1"), "failed logins are in a table");
    assert!(
        seen.contains("DELETE FROM t WHERE v = $1"),
        "refused statements are in a table"
    );
    let secrets = MARKERS.iter().copied().chain([token.as_str(), ROOT_PASSWORD]);
    for secret in secrets {
        let lines: Vec<&str> = seen.lines().filter(|line| line.contains(secret)).collect();
        let shown: Vec<String> = lines.iter().map(|line| line.chars().take(400).collect()).collect();
        assert!(shown.is_empty(), "{secret} shows in:\n{}", shown.join("\n"));
    }
}
