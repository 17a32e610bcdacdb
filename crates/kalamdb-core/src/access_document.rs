//! Keeps `docs/access.md` equal to the table of rights.

use std::fmt::Write as _;

use crate::access::Role;
use crate::rights::{Action, Object, Task, grantable, least_role, may_act_as};
use crate::table_kind::TableKind;

/// What stands between the words of people and what is written here.
const MARK: &str = "<!-- generated -->\n";

/// The table for people, as Markdown.
fn document() -> String {
    let mut text = String::new();
    let mut line = |line: &str| writeln!(text, "{line}").expect("a String takes any text");
    line("## Statements about a table\n");
    line(
        "Each cell says from which role on the statement is allowed, in the order `user`, `service`, `dba`, `system`; `—` is nobody. What",
    );
    line("is marked `+ G` is allowed to whom it was granted, too.\n");
    let heads: Vec<String> = Object::ALL.iter().map(|&object| object_name(object)).collect();
    line(&format!("| statement | {} |", heads.join(" | ")));
    line(&format!("|---|{}", "---|".repeat(heads.len())));
    for &action in Action::ALL {
        let cells: Vec<String> = Object::ALL.iter().map(|&object| cell(action, object)).collect();
        line(&format!("| {} | {} |", statements(action), cells.join(" | ")));
    }
    line("\n## Other statements\n");
    line("| statement | from role |\n|---|---|");
    for &task in Task::ALL {
        line(&format!("| {} | {} |", task.as_str(), task.least_role().as_str()));
    }
    line("\n## EXECUTE AS USER\n");
    line("Everyone may run a statement as themselves.\n");
    let heads: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
    line(&format!("| who | as a {} |", heads.join(" | as a ")));
    line(&format!("|---|{}", "---|".repeat(heads.len())));
    for &actor in Role::ALL {
        let may = |&target: &Role| if may_act_as(actor, target) { "yes" } else { "no" };
        let cells: Vec<&str> = Role::ALL.iter().map(may).collect();
        line(&format!("| {} | {} |", actor.as_str(), cells.join(" | ")));
    }
    text
}

fn cell(action: Action, object: Object) -> String {
    let granted = if grantable(action, object) { " + G" } else { "" };
    match least_role(action, object) {
        Some(role) => format!("{}{granted}", role.as_str()),
        None => "—".to_owned(),
    }
}

fn statements(action: Action) -> &'static str {
    match action {
        Action::Define => "DROP, TRUNCATE",
        Action::Maintain => "COMPACT, CHECK",
        Action::Grant => "GRANT, REVOKE",
        Action::Select
        | Action::Insert
        | Action::Update
        | Action::Delete
        | Action::Flush
        | Action::SelectOfAllUsers
        | Action::GrantOfAllUsers => action.as_str(),
    }
}

fn object_name(object: Object) -> String {
    let kind = match object {
        Object::System => TableKind::System,
        Object::User => TableKind::User,
        Object::Stream => TableKind::Stream,
        Object::Shared(level) => return format!("{} {}", TableKind::Shared.as_str(), level.as_str()),
    };
    kind.as_str().to_owned()
}

#[test]
fn the_document_is_up_to_date() {
    let kept = include_str!("../../../docs/access.md");
    let (opening, written) = kept.split_once(MARK).expect("docs/access.md has its mark");
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/access.md");
        std::fs::write(path, format!("{opening}{MARK}{}", document())).expect("it can be written");
        return;
    }
    assert_eq!(
        written,
        document(),
        "docs/access.md is out of date; run UPDATE_DOCUMENTS=1 cargo test -p kalamdb-core"
    );
}
