//! Which quotas hold for whom.

use futures::executor::block_on;

use super::*;
use crate::testing::{Database, system_rows};

#[test]
fn a_users_own_quota_goes_before_their_roles() {
    let db = Database::new();
    let (ann, bob) = (db.user("ann", Role::User), db.user("bob", Role::User));
    let set = |db: &Database, of: &QuotaOf, limits: &[(Quota, Option<u64>)]| {
        block_on(db.engine.set_quotas(&db.root, of, limits)).expect("set");
    };
    let limits = |db: &Database, of: &Principal| {
        let quotas = db.view().quotas(of);
        (quotas.limit(Quota::Rows), quotas.limit(Quota::Memory))
    };
    assert_eq!(limits(&db, &ann), (None, None));
    set(
        &db,
        &QuotaOf::Role(Role::User),
        &[(Quota::Rows, Some(10)), (Quota::Memory, Some(1_000))],
    );
    set(&db, &QuotaOf::User("ann".to_owned()), &[(Quota::Rows, Some(99))]);
    let db = db.reopen();
    assert_eq!(limits(&db, &ann), (Some(99), Some(1_000)));
    assert_eq!(limits(&db, &bob), (Some(10), Some(1_000)));
    assert_eq!(limits(&db, &db.root), (None, None));
    set(
        &db,
        &QuotaOf::Role(Role::User),
        &[(Quota::Rows, None), (Quota::Memory, None)],
    );
    assert_eq!(limits(&db, &ann), (Some(99), None));
    block_on(db.engine.drop_user(&db.root, "ann", false)).expect("dropped");
    assert!(system_rows(&db.view(), &db.root, "quotas").is_empty());
    let ann = db.user("ann", Role::User);
    assert_eq!(limits(&db, &ann), (None, None));
}

#[test]
fn quotas_are_set_by_those_who_may() {
    let db = Database::new();
    let (sue, dan) = (db.user("sue", Role::Service), db.user("dan", Role::Dba));
    let cases = [
        (
            &sue,
            QuotaOf::User("sue".to_owned()),
            1,
            Some(ErrorCode::PermissionDenied),
        ),
        (&dan, QuotaOf::User("sue".to_owned()), 1, None),
        (
            &dan,
            QuotaOf::User("root".to_owned()),
            1,
            Some(ErrorCode::PermissionDenied),
        ),
        (&dan, QuotaOf::Role(Role::System), 1, Some(ErrorCode::PermissionDenied)),
        (
            &dan,
            QuotaOf::User("nobody".to_owned()),
            1,
            Some(ErrorCode::UserNotFound),
        ),
        (&dan, QuotaOf::Role(Role::Service), 0, Some(ErrorCode::InvalidArgument)),
        (
            &dan,
            QuotaOf::Role(Role::Service),
            u64::MAX,
            Some(ErrorCode::InvalidArgument),
        ),
    ];
    for (by, of, limit, expected) in cases {
        let set = block_on(db.engine.set_quotas(by, &of, &[(Quota::Sessions, Some(limit))]));
        assert_eq!(set.err().map(|error| error.code), expected, "{} for {of:?}", by.user_id);
    }
}
