//! Principals: what they may do and see, and how they log in.

use arrow::array::{ArrayRef, StringArray};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::FutureExt;
use futures::executor::block_on;
use std::ops::Bound;
use std::sync::Arc;

use super::*;
use crate::testing::{Database, PASSWORD, SECOND, START, many, new_table, system_rows};

#[test]
fn roles_bound_ddl_and_writes() {
    let db = Database::new();
    let (user, service, dba) = (
        db.user("u", Role::User),
        db.user("s", Role::Service),
        db.user("d", Role::Dba),
    );
    let private = db.table("p", TableKind::Shared, &[]);
    let public = db.table("o", TableKind::Shared, &[("ACCESS_LEVEL", "public")]);
    for by in [&user, &service] {
        refused(
            block_on(db.engine.create_namespace(by, "n", false)),
            ErrorCode::PermissionDenied,
        );
        let new = new_table("n", TableKind::User, &[]);
        refused(
            block_on(db.engine.create_table(by, new, CreateMode::New)),
            ErrorCode::PermissionDenied,
        );
        refused(
            block_on(db.engine.truncate_table(by, &public.name)),
            ErrorCode::PermissionDenied,
        );
    }
    let hidden = refused(
        block_on(db.engine.drop_table(&user, &private.name, false)),
        ErrorCode::TableNotFound,
    );
    assert_eq!(hidden, Error::table_not_found(&private.name));
    assert!(!block_on(db.engine.drop_table(&user, &private.name, true)).expect("as if it were not there"));
    refused(db.insert(&user, &private, &[("a", 1)]), ErrorCode::TableNotFound);
    refused(db.insert(&user, &public, &[("a", 1)]), ErrorCode::PermissionDenied);
    db.insert(&service, &private, &[("a", 1)]).expect("inserted");
    block_on(db.engine.truncate_table(&dba, &private.name)).expect("truncated");
    let users = db
        .view()
        .catalog()
        .table(&TableName::new("system", "users"))
        .expect("is there")
        .clone();
    let error = refused(
        db.engine.append(&dba, &users, OnConflict::Error).map(|_| ()),
        ErrorCode::InvalidStatement,
    );
    assert!(error.message.contains("CREATE USER"), "{error}");
    refused(
        db.engine.mutate(&db.view(), &dba, &users).map(|_| ()),
        ErrorCode::InvalidStatement,
    );
    refused(
        block_on(db.engine.drop_table(&db.root, &users.name, false)),
        ErrorCode::InvalidStatement,
    );
}

#[test]
fn system_tables_show_what_the_role_may_see() {
    let db = Database::new();
    let (user, service, dba) = (
        db.user("u", Role::User),
        db.user("s", Role::Service),
        db.user("d", Role::Dba),
    );
    db.table("private", TableKind::Shared, &[]);
    db.table("public", TableKind::Shared, &[("ACCESS_LEVEL", "public")]);
    db.table("restricted", TableKind::Shared, &[("ACCESS_LEVEL", "restricted")]);
    db.table("own", TableKind::User, &[]);
    let view = db.view();
    let names = |by: &Principal, table: &str, column: usize| -> Vec<String> {
        let mut names: Vec<String> = system_rows(&view, by, table)
            .iter()
            .map(|row| row.split('|').nth(column).unwrap_or_default().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&user, "users", 0), ["u"]);
    assert_eq!(names(&service, "users", 0), ["d", "root", "s", "u"]);
    assert_eq!(names(&service, "users", 2), ["NULL", "NULL", "NULL", "service"]);
    assert_eq!(names(&dba, "users", 2), ["dba", "service", "system", "user"]);
    assert_eq!(names(&user, "tables", 2), ["own", "public"]);
    assert_eq!(names(&service, "tables", 2), ["own", "private", "public"]);
    assert_eq!(names(&dba, "tables", 2), ["own", "private", "public", "restricted"]);
    assert_eq!(names(&user, "table_schemas", 0).len(), 2);
    assert_eq!(names(&user, "namespaces", 3), ["2"]);
    assert_eq!(names(&service, "namespaces", 3), ["3"]);
    assert_eq!(names(&dba, "namespaces", 3), ["4"]);
    assert!(names(&user, "storages", 0).is_empty());
    assert_eq!(names(&dba, "storages", 0), ["local"]);

    // A key range does not open what the rule hides, and a limit counts what is seen.
    let users = view
        .catalog()
        .table(&TableName::new("system", "users"))
        .expect("is there")
        .clone();
    let name: ArrayRef = Arc::new(StringArray::from(vec!["root"]));
    let key = KeyConstraint {
        equal: vec![name],
        lower: Bound::Unbounded,
        upper: Bound::Unbounded,
    };
    let read = |by: &Principal, key, fields: &[ScanField], limit| {
        let request = ScanRequest {
            fields: fields.to_vec(),
            key,
            limit,
            part: (0, 1),
            order: ScanOrder::Any,
            prune: None,
            batch_rows: 10,
        };
        let mut scan = view.scan(by, &users, request).expect("scans");
        std::iter::from_fn(|| scan.next_batch().expect("reads"))
            .map(|batch| batch.num_rows())
            .sum::<usize>()
    };
    assert_eq!(read(&user, Some(key.clone()), &[ScanField::Column(0)], None), 0);
    assert_eq!(read(&service, Some(key), &[], None), 1);
    assert_eq!(
        read(&service, None, &[ScanField::Column(1), ScanField::Column(2)], Some(2)),
        2
    );
    // Internal columns cannot be asked for.
    for (index, column) in users
        .schema
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.internal)
    {
        let request = ScanRequest {
            fields: vec![ScanField::Column(index)],
            key: None,
            limit: None,
            part: (0, 1),
            order: ScanOrder::Any,
            prune: None,
            batch_rows: 1,
        };
        refused(view.scan(&db.root, &users, request).map(|_| ()), ErrorCode::Internal);
        assert!(users.schema.index_of(&column.name).is_none());
    }
}

#[test]
fn a_user_dropped_and_made_again_sees_nothing_of_before() {
    let db = Database::new();
    let before = db.user("a", Role::User);
    let tables = [
        db.table("u", TableKind::User, &[]),
        db.table("e", TableKind::Stream, &[("TTL_SECONDS", "60")]),
    ];
    for table in &tables {
        db.insert(&before, table, &[("old", 1)]).expect("inserted");
    }
    let mut appender = db
        .engine
        .append(&before, &tables[0], OnConflict::Error)
        .expect("starts");
    appender.push(&many(10, 70_000)).expect("taken");
    assert!(block_on(db.engine.drop_user(&db.root, "a", false)).expect("dropped"));
    assert!(!block_on(db.engine.drop_user(&db.root, "a", true)).expect("gone"));
    refused(
        block_on(db.engine.drop_user(&db.root, "a", false)),
        ErrorCode::UserNotFound,
    );
    refused(block_on(appender.finish()), ErrorCode::Unauthenticated);
    refused(
        db.insert(&before, &tables[0], &[("late", 9)]),
        ErrorCode::Unauthenticated,
    );
    refused(db.engine.authenticate("a", PASSWORD, "p"), ErrorCode::Unauthenticated);

    let after = db.user("a", Role::User);
    assert_ne!(after.scope, before.scope);
    for table in &tables {
        assert!(db.rows(&after, table).is_empty());
        assert!(db.rows(&before, table).is_empty());
        db.insert(&after, table, &[("new", 1)]).expect("the key is free");
        assert_eq!(db.rows(&after, table), owned(&[("new", 1)]));
    }
}

#[test]
fn users_are_made_and_changed_within_the_role_of_whoever_asks() {
    let db = Database::new();
    let (user, dba) = (db.user("u", Role::User), db.user("d", Role::Dba));
    let create = |by: &Principal, name: &str, password: Option<&str>, role| {
        let password = password.map(str::to_owned);
        block_on(db.engine.create_user(
            by,
            NewUser {
                user_id: name.to_owned(),
                password,
                role,
                if_not_exists: false,
            },
        ))
    };
    let alter = |by: &Principal, name: &str, password, role| {
        block_on(db.engine.alter_user(
            by,
            UserChange {
                user_id: name.to_owned(),
                password,
                role,
            },
        ))
    };
    refused(create(&user, "x", None, Role::User), ErrorCode::PermissionDenied);
    refused(create(&dba, "x", None, Role::System), ErrorCode::PermissionDenied);
    refused(create(&dba, "u", None, Role::User), ErrorCode::AlreadyExists);
    for (name, password) in [
        ("", None),
        ("a:b", None),
        ("x", Some("short")),
        ("x", Some("password1234")),
    ] {
        refused(create(&dba, name, password, Role::User), ErrorCode::InvalidArgument);
    }
    assert!(create(&dba, "x", None, Role::Dba).expect("made"));
    refused(db.engine.authenticate("x", "", "p"), ErrorCode::Unauthenticated);

    let new = || PasswordChange::Set("another long one".to_owned());
    refused(alter(&user, "x", new(), None), ErrorCode::PermissionDenied);
    refused(
        alter(&user, "u", PasswordChange::Keep, Some(Role::System)),
        ErrorCode::PermissionDenied,
    );
    refused(alter(&dba, "root", new(), None), ErrorCode::PermissionDenied);
    refused(alter(&dba, "nobody", new(), None), ErrorCode::UserNotFound);
    refused(
        alter(&dba, "u", PasswordChange::Keep, Some(Role::System)),
        ErrorCode::PermissionDenied,
    );
    refused(
        alter(&db.root, "root", PasswordChange::Remove, None),
        ErrorCode::InvalidArgument,
    );
    refused(
        alter(&db.root, "root", PasswordChange::Keep, Some(Role::User)),
        ErrorCode::InvalidArgument,
    );
    refused(
        block_on(db.engine.drop_user(&dba, "root", false)),
        ErrorCode::InvalidArgument,
    );
    refused(
        block_on(db.engine.drop_user(&dba, "d", false)),
        ErrorCode::InvalidArgument,
    );

    let before = db.engine.authenticate("u", PASSWORD, "p").expect("logs in");
    alter(&user, "u", new(), None).expect("one's own password");
    refused(db.engine.authenticate("u", PASSWORD, "p"), ErrorCode::Unauthenticated);
    let after = db.engine.authenticate("u", "another long one", "p").expect("logs in");
    assert_eq!(after.principal, before.principal);
    assert!(after.credential_version > before.credential_version);
    alter(&dba, "u", PasswordChange::Remove, Some(Role::Service)).expect("changed");
    refused(
        db.engine.authenticate("u", "another long one", "p"),
        ErrorCode::Unauthenticated,
    );
    let record = db.engine.user(&db.view(), "u").expect("reads").expect("is there");
    assert_eq!(
        (record.principal.role, record.principal.scope),
        (Role::Service, before.principal.scope)
    );
}

#[test]
fn failed_logins_back_off_by_user_and_peer() {
    let db = Database::new();
    let a = db.user("a", Role::User);
    let (service, dba) = (db.user("s", Role::Service), db.user("d", Role::Dba));
    for port in 0..5 {
        refused(
            db.engine
                .authenticate("a", "wrong wrong wrong", &format!("10.0.0.1:{port}")),
            ErrorCode::Unauthenticated,
        );
    }
    let error = refused(
        db.engine.authenticate("a", PASSWORD, "10.0.0.1:9"),
        ErrorCode::TooManyRequests,
    );
    assert!(error.message.ends_with("try again in 1 s"), "{error}");
    let locked = |viewer: &Principal| {
        let rows = system_rows(&db.view(), viewer, "users");
        let row = rows.iter().find(|row| row.starts_with("a|")).expect("the user").clone();
        row.rsplit_once('|').expect("columns").1.to_owned()
    };
    for viewer in [&db.root, &dba, &a] {
        assert!(locked(viewer).starts_with("20"), "{}", locked(viewer));
    }
    assert_eq!(
        locked(&service),
        "NULL",
        "a service sees no more of others than their names"
    );
    db.clock.advance_micros(2 * SECOND);
    assert_eq!(locked(&db.root), "NULL");
    db.engine
        .authenticate("a", PASSWORD, "10.0.0.1:9")
        .expect("after the wait");
    let unknown = refused(
        db.engine.authenticate("nobody", PASSWORD, "p"),
        ErrorCode::Unauthenticated,
    );
    let wrong = refused(
        db.engine.authenticate("a", "wrong wrong wrong", "p"),
        ErrorCode::Unauthenticated,
    );
    assert_eq!(unknown, wrong);
}

/// Whoever guesses sits at the address of the user, and never stops.
#[test]
fn guesses_lock_nobody_out() {
    let db = Database::new();
    db.user("a", Role::User);
    let here = "10.0.0.1:9";
    let guess = || {
        db.engine
            .authenticate("a", "wrong wrong wrong", here)
            .map(|_| ())
            .expect_err("wrong")
            .code
    };
    for _ in 0..30 {
        guess();
        db.clock.advance_micros(SECOND);
    }
    // The guesses go on; the user tries as often and is in after the longest wait.
    guess();
    let waits = (0..).take_while(|_| {
        db.clock.advance_micros(SECOND);
        let refused = db.engine.authenticate("a", PASSWORD, here).is_err();
        if refused {
            guess();
        }
        refused
    });
    assert!(waits.count() < 4);

    // What was right lately is right at once, here and after a success elsewhere.
    for _ in 0..8 {
        guess();
    }
    assert_eq!(guess(), ErrorCode::TooManyRequests);
    db.engine
        .authenticate("a", PASSWORD, here)
        .expect("as it was a moment ago");
    db.engine
        .authenticate("a", PASSWORD, "10.0.0.2:9")
        .expect("another peer");
    // Guesses at that are bounded too: without a bound, as many as the wire takes would be compared.
    for _ in 0..10 {
        guess();
    }
    refused(db.engine.authenticate("a", PASSWORD, here), ErrorCode::TooManyRequests);
    db.clock.advance_micros(SECOND);
    db.engine.authenticate("a", PASSWORD, here).expect("in the next second");
    // A password that was replaced is no longer one that was right lately.
    db.clock.advance_micros(SECOND);
    let change = UserChange {
        user_id: "a".to_owned(),
        password: PasswordChange::Set("another long one".to_owned()),
        role: None,
    };
    block_on(db.engine.alter_user(&db.root, change)).expect("altered");
    assert!(db.engine.authenticate("a", PASSWORD, here).is_err());
}

/// Asked all at once, as many passwords are checked as one after the other.
#[test]
fn attempts_under_way_are_counted() {
    let db = Database::new();
    db.user("a", Role::User);
    let begin = |peer: &str| {
        db.engine
            .begin_login("a", "wrong wrong wrong", peer)
            .expect("no wait yet")
    };
    let begun: Vec<Login> = (0..100).map(|_| begin("10.0.0.1:9")).collect();
    let (unchecked, busy): (Vec<Login>, Vec<Login>) = begun
        .into_iter()
        .partition(|login| matches!(login, Login::Unchecked(_)));
    assert_eq!((unchecked.len(), busy.len()), (5, 95));
    assert!(matches!(begin("10.0.0.2:9"), Login::Unchecked(_)), "another address");
    let ended = |login: &mut Login| match login {
        Login::Busy(busy) => busy.ended().now_or_never().is_some(),
        Login::Known(_) | Login::Unchecked(_) => false,
    };
    let mut busy = busy;
    assert!(!busy.iter_mut().any(ended), "none has ended");
    for login in unchecked {
        let Login::Unchecked(attempt) = login else { continue };
        refused(
            db.engine.check_password(attempt, "wrong wrong wrong"),
            ErrorCode::Unauthenticated,
        );
    }
    assert!(busy.iter_mut().all(ended), "they may begin again");
    let again = db.engine.begin_login("a", "wrong wrong wrong", "10.0.0.1:9");
    assert_eq!(again.err().map(|error| error.code), Some(ErrorCode::TooManyRequests));
}

#[test]
fn tokens_are_of_this_database_and_end() {
    let db = Database::new();
    let exp = u64::try_from(START / SECOND).expect("positive") + 10;
    let claims = Claims {
        sub: "a".to_owned(),
        scope: 1,
        session: "s".to_owned(),
        credential_version: 1,
        exp,
    };
    let token = db.engine.sign_token(&claims).expect("signed");
    assert_eq!(db.engine.verify_token(&token).expect("good"), claims);

    let parts: Vec<&str> = token.split('.').collect();
    let forged = URL_SAFE_NO_PAD.encode(
        serde_json::to_vec(&Claims {
            sub: "root".to_owned(),
            ..claims.clone()
        })
        .expect("json"),
    );
    let none = URL_SAFE_NO_PAD.encode(br#"{"typ":"JWT","alg":"none"}"#);
    let other = Database::new().engine.sign_token(&claims).expect("signed");
    for bad in [
        format!("{}.{forged}.{}", parts[0], parts[2]),
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.", parts[0], parts[1]),
        other,
        "x".to_owned(),
        String::new(),
    ] {
        refused(db.engine.verify_token(&bad), ErrorCode::Unauthenticated);
    }
    db.clock.advance_micros(10 * SECOND - 1);
    db.engine.verify_token(&token).expect("to the last microsecond");
    db.clock.advance_micros(1);
    let error = refused(db.engine.verify_token(&token), ErrorCode::Unauthenticated);
    assert!(error.message.contains("expired"), "{error}");
}
