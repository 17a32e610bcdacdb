//! What GRANT adds to a role and REVOKE takes away, and that neither outlives its user or table.

use futures::executor::block_on;

use super::*;
use crate::testing::{Database, PASSWORD, found, new_table, system_rows};

fn change(
    db: &Database,
    by: &Principal,
    way: GrantChange,
    privileges: &[Privilege],
    table: &Table,
    to: &str,
) -> Result<usize> {
    let on = GrantedOn::Table(table.name.clone());
    block_on(db.engine.change_grants(by, way, privileges, &on, &[to.to_owned()]))
}

/// The principal as a new statement would have it.
fn now(db: &Database, user_id: &str) -> Principal {
    let user = db.engine.user(&db.view(), user_id).expect("reads");
    user.expect("is there").principal
}

#[test]
fn a_grant_opens_what_it_names_and_nothing_else() {
    let db = Database::new();
    db.user("ann", Role::User);
    db.user("bob", Role::User);
    let vault = db.table("vault", TableKind::Shared, &[("ACCESS_LEVEL", "restricted")]);
    db.insert(&db.root, &vault, &[("a", 1), ("b", 2)]).expect("inserted");
    let steps = [
        Privilege::Select,
        Privilege::Insert,
        Privilege::Update,
        Privilege::Delete,
    ];
    let actions = [Action::Select, Action::Insert, Action::Update, Action::Delete];
    assert!(!now(&db, "ann").sees(&vault));
    for given in 0..=steps.len() {
        let ann = now(&db, "ann");
        for (place, &action) in actions.iter().enumerate() {
            assert_eq!(
                ann.check(action, &vault).is_ok(),
                place < given,
                "{action:?} after {given} grants"
            );
        }
        for never in [
            Action::Define,
            Action::Flush,
            Action::Maintain,
            Action::Grant,
            Action::GrantOfAllUsers,
        ] {
            assert!(ann.check(never, &vault).is_err(), "{never:?} after {given} grants");
        }
        assert!(!now(&db, "bob").sees(&vault), "a grant is for one user");
        if let Some(&privilege) = steps.get(given) {
            assert_eq!(
                change(&db, &db.root, GrantChange::Give, &[privilege], &vault, "ann").expect("granted"),
                1
            );
            assert_eq!(
                change(&db, &db.root, GrantChange::Give, &[privilege], &vault, "ann").expect("again"),
                0
            );
        }
    }
    let ann = now(&db, "ann");
    db.insert(&ann, &vault, &[("c", 3)]).expect("inserted");
    let mut mutator = db.engine.mutate(&db.view(), &ann, &vault).expect("may");
    mutator.delete(&found(&db.view(), &ann, &vault, &[1])).expect("may");
    block_on(mutator.finish()).expect("deleted");
    assert_eq!(db.rows(&ann, &vault), owned(&[("b", 2), ("c", 3)]));

    assert_eq!(
        change(&db, &db.root, GrantChange::Take, &[Privilege::Select], &vault, "ann").expect("revoked"),
        1
    );
    let ann = now(&db, "ann");
    assert!(ann.sees(&vault), "what it may write it may know of");
    refused(ann.check(Action::Select, &vault), ErrorCode::PermissionDenied);
    change(
        &db,
        &db.root,
        GrantChange::Take,
        Privilege::ALL_PRIVILEGES,
        &vault,
        "ann",
    )
    .expect("revoked");
    refused(now(&db, "ann").check(Action::Select, &vault), ErrorCode::TableNotFound);
    assert!(system_rows(&db.view(), &db.root, "grants").is_empty());
}

#[test]
fn grants_are_given_by_those_who_may_on_what_can_be_granted() {
    let db = Database::new();
    let (ann, sue, dan) = (
        db.user("ann", Role::User),
        db.user("sue", Role::Service),
        db.user("dan", Role::Dba),
    );
    let news = db.table("news", TableKind::Shared, &[("ACCESS_LEVEL", "public")]);
    let vault = db.table("vault", TableKind::Shared, &[("ACCESS_LEVEL", "restricted")]);
    let notes = db.table("notes", TableKind::User, &[]);
    let users = SystemTable::Users.table();
    use ErrorCode::{InvalidArgument, PermissionDenied, TableNotFound, UserNotFound};
    use Privilege::{ExecuteAsAllUsers, Select};
    let cases: &[(&Principal, Privilege, &Table, &str, Option<ErrorCode>)] = &[
        (&ann, Select, &news, "ann", Some(PermissionDenied)),
        (&sue, Select, &news, "ann", Some(PermissionDenied)),
        (&ann, Select, &vault, "ann", Some(TableNotFound)),
        (&sue, Select, &vault, "sue", Some(TableNotFound)),
        (&dan, Select, &vault, "sue", None),
        (&dan, Select, &vault, "nobody", Some(UserNotFound)),
        (&dan, Select, &notes, "sue", Some(InvalidArgument)),
        (&dan, ExecuteAsAllUsers, &notes, "dan", Some(PermissionDenied)),
        (&db.root, ExecuteAsAllUsers, &notes, "sue", None),
        (&db.root, ExecuteAsAllUsers, &vault, "sue", Some(InvalidArgument)),
        (&db.root, Select, &users, "sue", Some(InvalidArgument)),
        (&dan, ExecuteAsAllUsers, &users, "sue", Some(InvalidArgument)),
    ];
    for (by, privilege, table, to, expected) in cases {
        let given = change(&db, by, GrantChange::Give, &[*privilege], table, to);
        let code = given.err().map(|error| error.code);
        assert_eq!(
            code, *expected,
            "{} gives {privilege:?} on {} to {to}",
            by.user_id, table.name
        );
    }
    let shown = |by: &Principal| -> Vec<String> {
        let grants = db.view().grants(by).expect("reads");
        grants
            .iter()
            .map(|grant| format!("{} {} {}", grant.user_id, grant.privilege.as_str(), grant.on))
            .collect()
    };
    let all = ["sue EXECUTE AS ALL USERS public.notes", "sue SELECT public.vault"];
    assert_eq!(shown(&dan), all);
    assert_eq!(shown(&sue), all);
    assert!(shown(&ann).is_empty());
}

#[test]
fn everyones_rows_are_for_system_and_whom_it_was_granted() {
    let db = Database::new();
    let (ann, sue, dan) = (
        db.user("ann", Role::User),
        db.user("sue", Role::Service),
        db.user("dan", Role::Dba),
    );
    let notes = db.table("notes", TableKind::User, &[]);
    let other = db.table("other", TableKind::Stream, &[("TTL_SECONDS", "60")]);
    db.insert(&ann, &notes, &[("of ann", 1)]).expect("inserted");
    db.insert(&dan, &notes, &[("of dan", 1)]).expect("inserted");
    for by in [&ann, &sue, &dan] {
        refused(db.engine.all_users(&db.view(), by, &notes), ErrorCode::PermissionDenied);
    }
    change(
        &db,
        &db.root,
        GrantChange::Give,
        &[Privilege::ExecuteAsAllUsers],
        &notes,
        "sue",
    )
    .expect("granted");
    let sue = now(&db, "sue");
    refused(
        db.engine.all_users(&db.view(), &sue, &other),
        ErrorCode::PermissionDenied,
    );
    let everyone = db.engine.all_users(&db.view(), &sue, &notes).expect("granted");
    let names: Vec<&str> = everyone.iter().map(|user| user.user_id.as_str()).collect();
    assert_eq!(names, ["ann", "dan", "root", "sue"]);
    let rows: Vec<_> = everyone.iter().flat_map(|user| db.rows(user, &notes)).collect();
    assert_eq!(rows, owned(&[("of ann", 1), ("of dan", 1)]));
    assert!(db.rows(&sue, &notes).is_empty(), "her own statements see her own rows");
}

#[test]
fn what_is_made_again_inherits_no_grant() {
    let db = Database::new();
    db.user("ann", Role::User);
    block_on(db.engine.create_namespace(&db.root, "n", false)).expect("made");
    let vault = db.table("vault", TableKind::Shared, &[]);
    let usage = GrantedOn::Namespace("n".to_owned());
    let grant = |db: &Database, vault: &Table| {
        change(db, &db.root, GrantChange::Give, Privilege::ALL_PRIVILEGES, vault, "ann").expect("granted");
        let to = ["ann".to_owned()];
        let give = db
            .engine
            .change_grants(&db.root, GrantChange::Give, &[Privilege::Usage], &usage, &to);
        block_on(give).expect("granted");
        assert_eq!(db.view().grants(&db.root).expect("reads").len(), 5);
    };
    grant(&db, &vault);
    assert!(now(&db, "ann").grants.namespaces().contains("n"));
    block_on(db.engine.truncate_table(&db.root, &vault.name)).expect("truncated");
    assert!(now(&db, "ann").sees(&db.find(&vault)), "TRUNCATE is about rows");

    let db = db.reopen();
    let ann = now(&db, "ann");
    assert!(
        ann.check(Action::Delete, &db.find(&vault)).is_ok(),
        "grants outlive a restart"
    );
    assert!(ann.grants.namespaces().contains("n"));

    block_on(db.engine.drop_namespace(&db.root, "n", false, false)).expect("dropped");
    block_on(db.engine.create_namespace(&db.root, "n", false)).expect("made");
    assert!(now(&db, "ann").grants.namespaces().is_empty());
    block_on(db.engine.drop_table(&db.root, &vault.name, false)).expect("dropped");
    assert!(system_rows(&db.view(), &db.root, "grants").is_empty());
    let vault = db.table("vault", TableKind::Shared, &[]);
    assert!(!now(&db, "ann").sees(&vault));

    grant(&db, &vault);
    let again = new_table("vault", TableKind::Shared, &[]);
    let (vault, _) = block_on(db.engine.create_table(&db.root, again, CreateMode::OrReplace)).expect("replaced");
    assert!(
        !now(&db, "ann").sees(&vault),
        "a table that replaces another is a new one"
    );

    change(&db, &db.root, GrantChange::Give, &[Privilege::Select], &vault, "ann").expect("granted");
    let old = now(&db, "ann");
    block_on(db.engine.drop_user(&db.root, "ann", false)).expect("dropped");
    assert!(system_rows(&db.view(), &db.root, "grants").is_empty());
    let new = NewUser {
        user_id: "ann".to_owned(),
        password: Some(PASSWORD.to_owned()),
        role: Role::User,
        if_not_exists: false,
    };
    block_on(db.engine.create_user(&db.root, new)).expect("made");
    let db = db.reopen();
    assert_ne!(now(&db, "ann").scope, old.scope);
    assert!(
        !now(&db, "ann").sees(&db.find(&vault)),
        "nor does a user of the same name"
    );
}
