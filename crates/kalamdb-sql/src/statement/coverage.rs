//! Every statement is in `tests/slt`, succeeding and failing, for each type of table that it applies to.
//!
//! A file is read from its beginning: what CREATE TABLE makes tells of which type a name is. A record that is not parsed, or
//! names no table that is there, tells nothing of a type.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use datafusion::sql::sqlparser::ast::Visitor;

use kalamdb_core::GrantChange;

use super::rights_grammar::{WrittenObject, WrittenSubject};
use super::*;
use crate::tree::walk;

use TableKind::{Shared, Stream, System, User};

/// Types of tables.
type Kinds = &'static [TableKind];

const ALL: Kinds = &[Shared, User, Stream, System];
const OWN: Kinds = &[Shared, User, Stream];
const COLD: Kinds = &[Shared, User];
/// It names no table.
const NONE: Kinds = &[];

macro_rules! forms {
    ($($form:ident: $good:expr, $bad:expr;)*) => {
        /// What there is of statements.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        enum Form {
            $($form),*
        }

        /// Each with the types of tables that it succeeds with, and those that it fails with.
        const FORMS: &[(Form, Kinds, Kinds)] = &[$((Form::$form, $good, $bad)),*];
    };
}

forms! {
    Query: ALL, ALL;
    ExplainQuery: ALL, ALL;
    ExplainAnalyze: ALL, NONE;
    ExplainInsert: OWN, &[System];
    ExplainUpdate: OWN, &[System];
    ExplainDelete: OWN, &[System];
    Insert: OWN, ALL;
    InsertDefaults: OWN, OWN;
    InsertReturning: OWN, OWN;
    Update: OWN, ALL;
    UpdateFrom: OWN, OWN;
    UpdateReturning: OWN, OWN;
    Delete: OWN, ALL;
    DeleteUsing: OWN, OWN;
    DeleteReturning: OWN, OWN;
    CreateNamespace: NONE, NONE;
    DropNamespace: NONE, NONE;
    CreateTable: OWN, OWN;
    CreateTableIfNotExists: OWN, NONE;
    CreateOrReplaceTable: OWN, OWN;
    CreateTableAs: OWN, OWN;
    DropTable: OWN, &[System];
    Truncate: OWN, &[System];
    CreateView: ALL, ALL;
    DropView: NONE, OWN;
    CreateStorage: NONE, NONE;
    DropStorage: NONE, NONE;
    CreateUser: NONE, NONE;
    AlterUser: NONE, NONE;
    DropUser: NONE, NONE;
    Grant: OWN, ALL;
    GrantUsage: NONE, NONE;
    Revoke: OWN, &[System];
    RevokeUsage: NONE, NONE;
    SetQuotaOfUser: NONE, NONE;
    SetQuotaOfRole: NONE, NONE;
    ExecuteAsUser: OWN, OWN;
    ExecuteAsAllUsers: OWN, OWN;
    Use: NONE, NONE;
    Set: NONE, NONE;
    Reset: NONE, NONE;
    KillQuery: NONE, NONE;
    KillSession: NONE, NONE;
    KillJob: NONE, NONE;
    ShowNamespaces: NONE, NONE;
    ShowTables: NONE, NONE;
    ShowStorages: NONE, NONE;
    ShowJobs: NONE, NONE;
    ShowSegments: NONE, NONE;
    ShowGrants: NONE, NONE;
    ShowQuotas: NONE, NONE;
    ShowColumns: ALL, NONE;
    Describe: ALL, NONE;
    DescribeHistory: OWN, NONE;
    ShowSetting: NONE, NONE;
    ShowAll: NONE, NONE;
    Flush: COLD, &[Stream, System];
    FlushAll: NONE, NONE;
    Compact: COLD, &[Shared, User, Stream, System];
    CompactAll: NONE, NONE;
    Check: COLD, &[Shared, User, Stream, System];
    CheckAll: NONE, NONE;
}

/// Those that cannot fail but for a mistake in their text or for want of a right that nobody lacks.
const NEVER_FAIL: &[Form] = &[
    Form::ShowNamespaces,
    Form::ShowStorages,
    Form::ShowJobs,
    Form::ShowSegments,
    Form::ShowAll,
    Form::ExplainAnalyze,
    Form::CreateTableIfNotExists,
];

/// Those that succeed only where another one has been found first, whose id no file can know: tests in Rust have them.
const NEEDS_AN_ID: &[Form] = &[Form::KillQuery, Form::KillSession, Form::KillJob];

/// What a statement is, and the tables that it is about.
fn forms_of(statement: &Statement) -> Vec<(Form, Vec<ast::ObjectName>)> {
    let written = |name: &ObjectName| {
        let parts = name.namespace.iter().chain([&name.name]);
        ast::ObjectName::from(parts.map(|part| ast::Ident::with_quote('"', part)).collect::<Vec<_>>())
    };
    let all = |names: &[ObjectName]| names.iter().map(written).collect::<Vec<_>>();
    let one = |form, name: &ObjectName| vec![(form, vec![written(name)])];
    let none = |form| vec![(form, Vec::new())];
    match statement {
        Statement::Query(query) => vec![(Form::Query, relations(query))],
        Statement::Explain {
            analyze,
            verbose: _,
            format: _,
            statement,
            original: _,
        } => {
            let of_inner = forms_of(statement).into_iter().map(|(form, tables)| {
                let form = match form {
                    Form::Query if *analyze => Form::ExplainAnalyze,
                    Form::Insert | Form::InsertDefaults | Form::InsertReturning => Form::ExplainInsert,
                    Form::Update | Form::UpdateFrom | Form::UpdateReturning => Form::ExplainUpdate,
                    Form::Delete | Form::DeleteUsing | Form::DeleteReturning => Form::ExplainDelete,
                    _ => Form::ExplainQuery,
                };
                (form, tables)
            });
            of_inner.collect()
        }
        Statement::Insert(insert) => {
            let table = match &insert.table {
                ast::TableObject::TableName(name) => vec![name.clone()],
                _ => Vec::new(),
            };
            let form = match (&insert.returning, &insert.source) {
                (Some(_), _) => Form::InsertReturning,
                (None, None) => Form::InsertDefaults,
                (None, Some(_)) => Form::Insert,
            };
            vec![(form, table)]
        }
        Statement::Update(update) => {
            let update = &update.write;
            let form = match (&update.returning, &update.from) {
                (Some(_), _) => Form::UpdateReturning,
                (None, Some(_)) => Form::UpdateFrom,
                (None, None) => Form::Update,
            };
            vec![(form, factor_name(&update.table.relation))]
        }
        Statement::Delete(delete) => {
            let delete = &delete.write;
            let form = match (&delete.returning, &delete.using) {
                (Some(_), _) => Form::DeleteReturning,
                (None, Some(_)) => Form::DeleteUsing,
                (None, None) => Form::Delete,
            };
            let (ast::FromTable::WithFromKeyword(from) | ast::FromTable::WithoutKeyword(from)) = &delete.from;
            vec![(
                form,
                from.iter().flat_map(|table| factor_name(&table.relation)).collect(),
            )]
        }
        Statement::Definition(definition) => match definition {
            Definition::CreateNamespace { .. } => none(Form::CreateNamespace),
            Definition::DropNamespace { .. } => none(Form::DropNamespace),
            // Its type is in the statement.
            Definition::CreateTable(create) => none(match (&create.query, create.mode) {
                (Some(_), _) => Form::CreateTableAs,
                (None, CreateMode::New) => Form::CreateTable,
                (None, CreateMode::IfNotExists) => Form::CreateTableIfNotExists,
                (None, CreateMode::OrReplace) => Form::CreateOrReplaceTable,
            }),
            Definition::DropTable { names, .. } => vec![(Form::DropTable, all(names))],
            Definition::Truncate { names } => vec![(Form::Truncate, all(names))],
            Definition::CreateView(create) => vec![(Form::CreateView, relations(&create.query))],
            Definition::DropView { names, .. } => vec![(Form::DropView, all(names))],
            Definition::CreateStorage { .. } => none(Form::CreateStorage),
            Definition::DropStorage { .. } => none(Form::DropStorage),
        },
        Statement::Administration(administration) => none(match administration {
            Administration::CreateUser { .. } => Form::CreateUser,
            Administration::AlterUser { .. } => Form::AlterUser,
            Administration::DropUser { .. } => Form::DropUser,
            Administration::Use { .. } => Form::Use,
            Administration::Set { value: Some(_), .. } => Form::Set,
            Administration::Set { value: None, .. } => Form::Reset,
            Administration::KillQuery { .. } => Form::KillQuery,
            Administration::KillSession { .. } => Form::KillSession,
            Administration::KillJob { .. } => Form::KillJob,
        }),
        Statement::Rights(Rights::ChangeGrants {
            change,
            on: WrittenObject::Table(table),
            ..
        }) => match change {
            GrantChange::Give => one(Form::Grant, table),
            GrantChange::Take => one(Form::Revoke, table),
        },
        Statement::Rights(Rights::ChangeGrants {
            change,
            on: WrittenObject::Namespace(..),
            ..
        }) => none(match change {
            GrantChange::Give => Form::GrantUsage,
            GrantChange::Take => Form::RevokeUsage,
        }),
        Statement::Rights(Rights::SetQuotas { of, .. }) => none(match of {
            WrittenSubject::User(_) => Form::SetQuotaOfUser,
            WrittenSubject::Role(_) => Form::SetQuotaOfRole,
        }),
        Statement::Show(show) => match show {
            Show::Namespaces => none(Form::ShowNamespaces),
            Show::Tables { .. } => none(Form::ShowTables),
            Show::Storages => none(Form::ShowStorages),
            Show::Jobs => none(Form::ShowJobs),
            Show::Segments => none(Form::ShowSegments),
            Show::Grants { .. } => none(Form::ShowGrants),
            Show::Quotas { .. } => none(Form::ShowQuotas),
            Show::Columns { table } => one(Form::ShowColumns, table),
            Show::Describe { table, history: false } => one(Form::Describe, table),
            Show::Describe { table, history: true } => one(Form::DescribeHistory, table),
            Show::Setting { name: Some(_) } => none(Form::ShowSetting),
            Show::Setting { name: None } => none(Form::ShowAll),
        },
        Statement::Operation(operation) => {
            let (tables, of_one, of_all) = match operation {
                Operation::Flush(tables) => (tables, Form::Flush, Form::FlushAll),
                Operation::Compact(tables) => (tables, Form::Compact, Form::CompactAll),
                Operation::Check(tables) => (tables, Form::Check, Form::CheckAll),
            };
            match tables {
                Tables::One(name) => one(of_one, name),
                Tables::All => none(of_all),
            }
        }
    }
}

fn factor_name(factor: &ast::TableFactor) -> Vec<ast::ObjectName> {
    match factor {
        ast::TableFactor::Table { name, .. } => vec![name.clone()],
        _ => Vec::new(),
    }
}

fn relations(part: &impl ast::Visit) -> Vec<ast::ObjectName> {
    struct Relations(Vec<ast::ObjectName>);
    impl Visitor for Relations {
        type Break = Error;
        fn pre_visit_relation(&mut self, relation: &ast::ObjectName) -> ControlFlow<Error> {
            self.0.push(relation.clone());
            ControlFlow::Continue(())
        }
    }
    let mut relations = Relations(Vec::new());
    walk(part, &mut relations).expect("this visitor does not break");
    relations.0
}

/// How a record of a file is meant to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Good,
    Bad,
}

/// The records of a file.
fn records(content: &str) -> Vec<(Outcome, String)> {
    let mut records = Vec::new();
    for record in content.split("\n\n") {
        let mut lines = record
            .lines()
            .skip_while(|line| line.is_empty() || line.starts_with('#') || line.starts_with("connection"));
        let outcome = match lines.next() {
            Some(line) if line.starts_with("statement error") || line.starts_with("query error") => Outcome::Bad,
            Some(line) if line.starts_with("statement") || line.starts_with("query") => Outcome::Good,
            _ => continue,
        };
        let sql: Vec<&str> = lines.take_while(|line| *line != "----").collect();
        records.push((outcome, sql.join("\n")));
    }
    records
}

/// Of which types the tables are that a file makes, by the last part of their names.
#[derive(Default)]
struct Made(BTreeMap<String, TableKind>);

impl Made {
    fn note(&mut self, outcome: Outcome, statement: &Statement) {
        if let (Outcome::Good, Statement::Definition(Definition::CreateTable(create))) = (outcome, statement) {
            self.0.insert(create.name.name.clone(), create.kind);
        }
    }

    fn kind(&self, name: &ast::ObjectName) -> Option<TableKind> {
        let name = object_name(name).ok()?; // Such a name is no table's.
        if name.namespace.as_deref() == Some("system") {
            return Some(System);
        }
        self.0.get(&name.name).copied()
    }
}

#[test]
fn every_statement_is_tried_with_every_type_of_table() {
    let mut met: BTreeSet<(Form, Outcome, Option<&'static str>)> = BTreeSet::new();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/slt");
    for file in std::fs::read_dir(&directory).expect("the directory is there") {
        let path = file.expect("an entry can be read").path();
        let content = std::fs::read_to_string(&path).expect("the file can be read");
        let mut made = Made::default();
        for (outcome, sql) in records(&content) {
            // What is not parsed is about no statement in particular.
            let Ok(Parsed { actor, statement, .. }) = parse_whole(&sql) else {
                continue;
            };
            made.note(outcome, &statement);
            let mut forms = forms_of(&statement);
            let behalf = match actor {
                Actor::Oneself => None,
                Actor::User(_) => Some(Form::ExecuteAsUser),
                Actor::AllUsers(_) => Some(Form::ExecuteAsAllUsers),
            };
            if let Some(behalf) = behalf {
                forms = forms.into_iter().map(|(_, tables)| (behalf, tables)).collect();
            }
            for (form, tables) in forms {
                met.insert((form, outcome, None));
                let mut kinds: Vec<TableKind> = tables.iter().filter_map(|name| made.kind(name)).collect();
                if let Statement::Definition(Definition::CreateTable(create)) = &statement {
                    kinds.push(create.kind);
                }
                met.extend(kinds.into_iter().map(|kind| (form, outcome, Some(kind.as_str()))));
            }
        }
    }
    let mut missing = Vec::new();
    for (form, good, bad) in FORMS {
        let mut want = |outcome, kind: Option<TableKind>| {
            if !met.contains(&(*form, outcome, kind.map(TableKind::as_str))) {
                missing.push(format!("{form:?}, {outcome:?}, {kind:?}"));
            }
        };
        if !NEEDS_AN_ID.contains(form) {
            want(Outcome::Good, None);
        }
        if !NEVER_FAIL.contains(form) {
            want(Outcome::Bad, None);
        }
        good.iter().for_each(|kind| want(Outcome::Good, Some(*kind)));
        bad.iter().for_each(|kind| want(Outcome::Bad, Some(*kind)));
    }
    assert!(missing.is_empty(), "no record of tests/slt has\n{}", missing.join("\n"));
}
