//! Every cell of the document's table of statements about a table.

use super::{ROLES, cell, everyone, judge, start, table};

/// What a statement that is not allowed is refused with: a table that one may not know of is none; a missing right is one where
/// there is somebody who has it, else the statement makes no sense on such a table.
fn refusal(row: &str, sees: bool, least: Option<usize>) -> &'static str {
    match least {
        _ if !sees => "TABLE_NOT_FOUND",
        Some(_) => "PERMISSION_DENIED",
        None if row.starts_with("GRANT") => "INVALID_ARGUMENT",
        None => "INVALID_STATEMENT",
    }
}

/// What may be granted for a row's statements, and whether that is enough, given that one may read by one's role or not.
fn grants(row: &str, object: &str, reads: bool) -> Vec<(String, bool)> {
    let one = |privilege: &str, enough: bool| (privilege.to_owned(), enough);
    match row {
        "UPDATE" | "DELETE" => vec![
            one(&format!("SELECT, {row}"), true),
            one(row, reads),
            one("SELECT", false),
            one("INSERT", false),
        ],
        "SELECT" => vec![one("SELECT", true), one("INSERT, UPDATE, DELETE", false)],
        "INSERT" => vec![one("INSERT", true), one("SELECT, UPDATE, DELETE", false)],
        "EXECUTE AS ALL USERS" if object.starts_with("SHARED") => vec![one("SELECT", true), one("INSERT", false)],
        other => vec![one(other, true)],
    }
}

/// The table that stands for a column of the document.
pub(super) fn name_of(object: &str) -> String {
    match object {
        "SYSTEM" => "system.users".to_owned(),
        other => other.to_lowercase().replace(' ', "_").replace("user", "own"),
    }
}

fn create(object: &str, name: &str) -> String {
    let (kind, options) = match object.split_once(' ') {
        Some((kind, level)) => (kind, format!(" WITH (ACCESS_LEVEL = '{level}')")),
        None if object == "STREAM" => (object, " WITH (TTL_SECONDS = 3600)".to_owned()),
        None => (object, String::new()),
    };
    format!("CREATE {kind} TABLE {name} (id BIGINT PRIMARY KEY, v TEXT){options}")
}

/// The statements of a row of the document on a table.
fn statements(row: &str, table: &str, number: usize) -> Vec<String> {
    let is_system = table.starts_with("system.");
    match row {
        "SELECT" => vec![format!("SELECT count(*) FROM {table}")],
        "INSERT" if is_system => vec![format!("INSERT INTO {table} (user_id) VALUES ('x')")],
        "INSERT" => vec![format!("INSERT INTO {table} VALUES ({number}, 'x')")],
        "UPDATE" if is_system => vec![format!("UPDATE {table} SET role = 'dba'")],
        "UPDATE" => vec![format!("UPDATE {table} SET v = 'y'")],
        "DELETE" => vec![format!("DELETE FROM {table}")],
        "DROP, TRUNCATE" => vec![format!("TRUNCATE {table}"), format!("DROP TABLE {table}")],
        "FLUSH" => vec![format!("FLUSH TABLE {table}")],
        "COMPACT, CHECK" => vec![
            format!("STORAGE COMPACT TABLE {table}"),
            format!("STORAGE CHECK TABLE {table}"),
        ],
        "GRANT, REVOKE" => vec![
            format!("GRANT SELECT ON {table} TO 'somebody'"),
            format!("REVOKE SELECT ON {table} FROM 'somebody'"),
        ],
        "EXECUTE AS ALL USERS" => vec![format!("EXECUTE AS ALL USERS (SELECT count(*) FROM {table})")],
        "GRANT EXECUTE AS ALL USERS" => vec![
            format!("GRANT EXECUTE AS ALL USERS ON {table} TO 'somebody'"),
            format!("REVOKE EXECUTE AS ALL USERS ON {table} FROM 'somebody'"),
        ],
        other => panic!("docs/access.md has a row '{other}' that this test does not try"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_about_tables_holds() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let (server, mut root) = start(directory.path()).await;
    let mut clients = everyone(&server).await;
    let rows = table("Statements about a table");
    assert_eq!(rows.len(), 10, "every kind of statement");
    let (mut wrong, mut number) = (Vec::new(), 0);
    let reads = &rows.iter().find(|(row, _)| row == "SELECT").expect("a row of SELECT").1;
    for (row, cells) in &rows {
        assert_eq!(cells.len(), 6, "every kind of table");
        for (object, text) in cells {
            let (least, grantable) = cell(text);
            for (role, client) in clients.iter_mut().enumerate() {
                let by_role = least.is_some_and(|least| role >= least);
                let (reading, _) = cell(&reads[object]);
                let reads = reading.is_some_and(|least| role >= least);
                let grants = if grantable {
                    grants(row, object, reads)
                } else {
                    Vec::new()
                };
                for granted in std::iter::once(None).chain(grants.iter().map(Some)) {
                    number += 1;
                    let is_system = object == "SYSTEM";
                    let name = match is_system {
                        true => name_of(object),
                        // A table of its own for each try: some are dropped, and what one was granted goes with it.
                        false => format!("{}_{number}", name_of(object)),
                    };
                    if !is_system {
                        root.ok(&create(object, &name)).await;
                    }
                    if let Some((privilege, _)) = granted {
                        root.ok(&format!("GRANT {privilege} ON {name} TO 'a_{}'", ROLES[role]))
                            .await;
                    }
                    let allowed = by_role || granted.is_some_and(|(_, enough)| *enough);
                    // Whoever was granted anything knows of the table.
                    let sees = reads || granted.is_some();
                    let expected = (!allowed).then(|| refusal(row, sees, least));
                    for sql in statements(row, &name, number) {
                        let what = format!("{} (granted: {granted:?}): {sql}", ROLES[role]);
                        judge(client.rows(&sql).await, expected, &what, &mut wrong);
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} cells are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    server.terminate();
}
