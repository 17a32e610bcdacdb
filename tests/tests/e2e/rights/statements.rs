//! Every row of the document's table of statements that are about no one table.

use super::{PASSWORD, ROLES, cell, everyone, jobs, judge, metrics, start, table};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_other_statement_needs_its_role() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let storages = tempfile::tempdir().expect("a temporary directory can be made");
    let (server, mut root) = start(directory.path()).await;
    root.ok(&format!("CREATE USER 'victim' WITH PASSWORD '{PASSWORD}' ROLE user"))
        .await;
    let mut clients = everyone(&server).await;
    let mut wrong = Vec::new();
    for (row, cells) in table("Other statements") {
        let (least, granted) = cell(&cells["from role"]);
        assert!(!granted);
        for (role, client) in clients.iter_mut().enumerate() {
            let allowed = least.is_some_and(|least| role >= least);
            // What is another's is not there for whoever may not end it.
            let code = match row.as_str() {
                _ if row.starts_with("KILL") => "NOT_FOUND",
                "knowing of a namespace in which one knows of nothing" => "NAMESPACE_NOT_FOUND",
                _ => "PERMISSION_DENIED",
            };
            let refusal = (!allowed).then_some(code);
            let name = format!("n_{role}");
            let place = storages.path().join(&name);
            let sql = match row.as_str() {
                "CREATE NAMESPACE" => format!("CREATE NAMESPACE {name}"),
                "DROP NAMESPACE" => {
                    root.ok(&format!("CREATE NAMESPACE IF NOT EXISTS {name}")).await;
                    format!("DROP NAMESPACE {name}")
                }
                "CREATE TABLE" => format!("CREATE TABLE {name} (a INT)"),
                "CREATE VIEW" => format!("CREATE VIEW v_{role} AS SELECT 1 AS a"),
                "DROP VIEW" => {
                    root.ok(&format!("CREATE OR REPLACE VIEW v_{role} AS SELECT 1 AS a"))
                        .await;
                    format!("DROP VIEW v_{role}")
                }
                "FLUSH ALL" => "STORAGE FLUSH ALL".to_owned(),
                "COMPACT ALL" => "STORAGE COMPACT ALL".to_owned(),
                "CHECK ALL" => "STORAGE CHECK ALL".to_owned(),
                "CREATE STORAGE" => format!("CREATE STORAGE {name} PATH '{}'", place.display()),
                "DROP STORAGE" => {
                    root.ok(&format!(
                        "CREATE STORAGE IF NOT EXISTS {name} PATH '{}'",
                        place.display()
                    ))
                    .await;
                    format!("DROP STORAGE {name}")
                }
                "CREATE USER" => format!("CREATE USER '{name}' ROLE user"),
                "ALTER USER on anything but one's own password" => "ALTER USER 'victim' SET ROLE user".to_owned(),
                "DROP USER" => {
                    root.ok(&format!("CREATE USER IF NOT EXISTS '{name}' ROLE user")).await;
                    format!("DROP USER '{name}'")
                }
                "GRANT USAGE" => "GRANT USAGE ON NAMESPACE public TO 'victim'".to_owned(),
                "SET QUOTA" => "ALTER USER 'victim' SET QUOTA rows = 1000000".to_owned(),
                "KILL QUERY of another's query" => {
                    let mut victim = server.login("victim", PASSWORD).await;
                    // It waits for its reader, and so is running when it is killed.
                    let endless = "SELECT a.value FROM generate_series(1, 1000000000) a";
                    let info = victim.flight.execute(endless.to_owned(), None).await.expect("it plans");
                    let ticket = info.endpoint[0].ticket.clone().expect("it has a ticket");
                    let stream = victim.flight.do_get(ticket).await.expect("it starts");
                    let find =
                        "SELECT max(query_id) FROM system.queries WHERE user_id = 'victim' AND status = 'running'";
                    let query = root.value(find).await;
                    let killed = client.rows(&format!("KILL QUERY '{query}'")).await;
                    judge(killed, refusal, &format!("{} kills a query", ROLES[role]), &mut wrong);
                    drop(stream);
                    continue;
                }
                "KILL SESSION of another's session" => {
                    let victim = server.login("victim", PASSWORD).await;
                    let find = "SELECT session_id FROM system.sessions WHERE user_id = 'victim' \
                                ORDER BY created_at DESC, session_id LIMIT 1";
                    let session = root.value(find).await;
                    drop(victim);
                    format!("KILL SESSION '{session}'")
                }
                "SHOW GRANTS FOR another user" => "SHOW GRANTS FOR 'victim'".to_owned(),
                "SHOW QUOTAS FOR another user" => "SHOW QUOTAS FOR 'victim'".to_owned(),
                "knowing of a namespace in which one knows of nothing" => {
                    root.ok("CREATE NAMESPACE IF NOT EXISTS bare").await;
                    "USE bare".to_owned()
                }
                "EXPLAIN ANALYZE with the segments of a USER table" => {
                    root.ok("CREATE USER TABLE IF NOT EXISTS own (id BIGINT PRIMARY KEY)")
                        .await;
                    // It is not refused, and says less.
                    let told = client.ok("EXPLAIN ANALYZE SELECT * FROM public.own").await;
                    let told = format!("{told:?}");
                    if told.contains("segments_read") != allowed || !told.contains("keys_read") {
                        wrong.push(format!("{}: {told}", ROLES[role]));
                    }
                    continue;
                }
                // They take a job that waits and another machine.
                tried if jobs::ROWS.contains(&tried) || tried == metrics::ROW => continue,
                other => panic!("docs/access.md has a row '{other}' that this test does not try"),
            };
            judge(
                client.rows(&sql).await,
                refusal,
                &format!("{}: {sql}", ROLES[role]),
                &mut wrong,
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    server.terminate();
}
