//! EXECUTE AS: who may act as whom, and by every way in which a statement comes.

use kalamdb_tests::Http;

use super::{PASSWORD, ROLES, everyone, judge, start, table};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_acts_as_whom_the_document_says() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (server, mut root) = start(directory.path()).await;
    for role in ROLES {
        root.ok(&format!("CREATE USER 'b_{role}' ROLE {role}")).await;
    }
    let mut clients = everyone(&server).await;
    let mut wrong = Vec::new();
    let rows = table("EXECUTE AS USER");
    assert_eq!(rows.len(), ROLES.len());
    for (actor, cells) in rows {
        let role = ROLES.iter().position(|role| *role == actor).expect("a role");
        for target in ROLES {
            let allowed = match cells[&format!("as a {target}")].as_str() {
                "yes" => true,
                "no" => false,
                other => panic!("a cell says {other}"),
            };
            let sql = format!("EXECUTE AS USER 'b_{target}' (SELECT CURRENT_USER)");
            let outcome = clients[role].rows(&sql).await;
            if let Ok(rows) = &outcome {
                assert_eq!(rows, &[[format!("b_{target}")]], "{actor}: {sql}");
            }
            let refusal = (!allowed).then_some("PERMISSION_DENIED");
            judge(outcome, refusal, &format!("{actor}: {sql}"), &mut wrong);
        }
        let own = format!("EXECUTE AS USER 'a_{actor}' (SELECT CURRENT_USER)");
        assert_eq!(clients[role].ok(&own).await, [[format!("a_{actor}")]]);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn execute_as_works_by_every_way_a_statement_comes() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (server, mut root) = start(directory.path()).await;
    root.ok("CREATE USER TABLE notes (id BIGINT PRIMARY KEY, v TEXT)").await;
    let mut sue = server.login("a_service", PASSWORD).await;
    let mut ann = server.login("a_user", PASSWORD).await;
    let as_ann = |sql: &str| format!("EXECUTE AS USER 'a_user' ({sql})");

    // Query, update, prepared query, prepared update with bound rows.
    sue.ok(&as_ann("INSERT INTO notes VALUES (1, 'by query')")).await;
    let updated = sue.update(&as_ann("INSERT INTO notes VALUES (2, 'by update')")).await;
    assert_eq!(updated.expect("it runs"), 1);
    let ids = |ids: Vec<i64>| {
        let ids: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Int64Array::from(ids));
        arrow::array::RecordBatch::try_from_iter([("id", ids)]).expect("one column")
    };
    let insert = as_ann("INSERT INTO notes VALUES (?, 'prepared')");
    assert_eq!(sue.update_bound(&insert, ids(vec![3, 4])).await.expect("it runs"), 2);
    let outcome = sue
        .query_bound(&as_ann("SELECT v FROM notes WHERE id = ?"), ids(vec![2]))
        .await;
    let outcome = outcome.expect("it runs");
    assert_eq!(kalamdb_tests::text_rows(&outcome.batches), [["by update"]]);
    assert_eq!(ann.value("SELECT count(*) FROM notes").await, "4");
    assert_eq!(sue.value("SELECT count(*) FROM notes").await, "0");

    // HTTP: rows, counts, refusals.
    let http = Http::basic(server.http, "a_service", PASSWORD);
    let reply = http
        .sql(&as_ann("SELECT id, v FROM notes WHERE id < 3 ORDER BY id"))
        .json();
    assert_eq!(
        reply["results"][0]["rows"],
        serde_json::json!([[1, "by query"], [2, "by update"]])
    );
    let reply = http.sql(&as_ann("DELETE FROM notes WHERE id = 4"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(ann.value("SELECT count(*) FROM notes").await, "3");
    let reply = http.sql("EXECUTE AS USER 'a_dba' (SELECT 1)");
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "PERMISSION_DENIED");
    // What SET does in front of it holds for the one statement of the script after it.
    let script = format!("USE system; {}", as_ann("SELECT count(*) FROM public.notes"));
    assert_eq!(http.sql(&script).json()["results"][1]["rows"][0][0], 3);

    // All users, over both doors.
    root.ok("INSERT INTO notes VALUES (1, 'of root')").await;
    let everything = "EXECUTE AS ALL USERS (SELECT * FROM notes WHERE id = 1 ORDER BY _user)";
    assert_eq!(
        root.ok(everything).await,
        [["1", "by query", "a_user"], ["1", "of root", "root"]]
    );
    let reply = server.http_root().sql(everything).json();
    assert_eq!(
        reply["results"][0]["rows"],
        serde_json::json!([[1, "by query", "a_user"], [1, "of root", "root"]])
    );
    assert_eq!(sue.error(everything).await.code(), "PERMISSION_DENIED");
    root.ok("GRANT EXECUTE AS ALL USERS ON notes TO 'a_service'").await;
    assert_eq!(sue.ok(everything).await.len(), 2);
    // In segments as in hot rows.
    root.ok("FLUSH TABLE notes").await;
    assert_eq!(
        sue.ok(everything).await,
        [["1", "by query", "a_user"], ["1", "of root", "root"]]
    );
    assert_eq!(
        sue.value("EXECUTE AS ALL USERS (SELECT count(*) FROM notes)").await,
        "4"
    );

    // A ticket of another's and a statement that is prepared are judged anew when they run.
    let info = sue
        .flight
        .execute(as_ann("SELECT count(*) FROM notes"), None)
        .await
        .expect("it plans");
    root.ok("ALTER USER 'a_service' SET ROLE user").await;
    let ran = sue.fetch(info).await;
    assert_eq!(ran.expect_err("she may no more").code(), "PERMISSION_DENIED");
    let recorded = "SELECT DISTINCT user_id, executed_as FROM system.queries \
                    WHERE statement LIKE 'EXECUTE AS%' ORDER BY user_id, executed_as";
    let recorded = root.ok(recorded).await;
    for expected in [
        ["a_service", "a_dba"],
        ["a_service", "a_user"],
        ["a_service", "all users:"],
        ["root", "all users:"],
    ] {
        assert!(
            recorded.contains(&expected.map(str::to_owned).to_vec()),
            "{expected:?} in {recorded:?}"
        );
    }
    server.terminate();
}
