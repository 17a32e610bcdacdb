//! Who may do what, over the wire: every cell of the tables in `docs/access.md` with real logins, EXECUTE AS by every way a statement
//! comes, what is recorded, and that no secret shows anywhere.

mod acting;
mod cells;
mod jobs;
mod metrics;
mod secrets;
mod statements;

use std::collections::BTreeMap;
use std::path::Path;

use kalamdb_tests::{Client, Server, Settings, SqlError};

const PASSWORD: &str = "a password for the test";
const ROLES: [&str; 4] = ["user", "service", "dba", "system"];

/// The document that people read; another test holds it to the code.
const ACCESS: &str = include_str!("../../../docs/access.md");

/// The rows of the Markdown table under a heading: the first cell, and the others by their column's head.
fn table(heading: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let section = ACCESS
        .split(&format!("## {heading}\n"))
        .nth(1)
        .expect("the heading is there");
    let section = section.split("\n## ").next().expect("a text has a first part");
    let mut lines = section.lines().filter(|line| line.starts_with('|')).map(|line| {
        let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        cells.collect::<Vec<_>>()
    });
    let heads = lines.next().expect("a table has heads");
    lines.next().expect("a table has a rule below its heads");
    lines
        .map(|cells| {
            let named = heads[1..].iter().cloned().zip(cells[1..].iter().cloned());
            (cells[0].clone(), named.collect())
        })
        .collect()
}

/// From which role on a cell allows, `None` for nobody; and whether a grant does, too.
fn cell(text: &str) -> (Option<usize>, bool) {
    let (role, granted) = match text.strip_suffix(" + G") {
        Some(role) => (role, true),
        None => (text, false),
    };
    let role = ROLES.iter().position(|known| *known == role);
    assert!(role.is_some() || role.is_none() && text == "—", "a cell says {text}");
    (role, granted)
}

/// From which role on a cell of a table allows, without a grant.
fn least(heading: &str, row: &str, column: &str) -> Option<usize> {
    let rows = table(heading);
    let row = rows.iter().find(|(name, _)| name == row).expect("the row is there");
    cell(&row.1[column]).0
}

async fn start(directory: &Path) -> (Server, Client) {
    start_with(directory, Settings::default()).await
}

async fn start_with(directory: &Path, mut settings: Settings) -> (Server, Client) {
    settings.args.extend(["--durability", "relaxed"].map(str::to_owned));
    let server = Server::start_with(directory, &settings);
    let mut root = server.root().await;
    for role in ROLES {
        root.ok(&format!(
            "CREATE USER 'a_{role}' WITH PASSWORD '{PASSWORD}' ROLE {role}"
        ))
        .await;
    }
    root.ok("CREATE USER 'somebody' ROLE user").await;
    (server, root)
}

async fn everyone(server: &Server) -> Vec<Client> {
    let mut clients = Vec::new();
    for role in ROLES {
        clients.push(server.login(&format!("a_{role}"), PASSWORD).await);
    }
    clients
}

/// Compares what happened with what a cell says: with which code it is refused, or that it is not.
fn judge(outcome: Result<Vec<Vec<String>>, SqlError>, refusal: Option<&str>, what: &str, wrong: &mut Vec<String>) {
    match (outcome, refusal) {
        (Ok(_), None) => {}
        (Err(error), Some(code)) if error.code() == code => {}
        (Ok(_), Some(code)) => wrong.push(format!("{what}: allowed instead of {code}")),
        (Err(error), expected) => wrong.push(format!("{what}: {error} instead of {expected:?}")),
    }
}
