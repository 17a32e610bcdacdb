//! GRANT, EXECUTE AS and quotas as statements: who may, what they then see, and what is recorded.

use std::sync::Arc;
use std::task::Poll;

use futures::FutureExt;
use kalamdb_core::ErrorCode;

use crate::parameters::Parameters;
use crate::session::Session;
use crate::testing::{Fixture, Outcome};

/// Four users of four roles with rows of their own, and a table of each access level.
struct People {
    fixture: Fixture,
    ann: Arc<Session>,
    bob: Arc<Session>,
    sue: Arc<Session>,
    dan: Arc<Session>,
}

impl People {
    fn new() -> Self {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE USER 'ann' ROLE user",
            "CREATE USER 'bob' ROLE user",
            "CREATE USER 'sue' ROLE service",
            "CREATE USER 'dan' ROLE dba",
            "CREATE TABLE vault (id BIGINT PRIMARY KEY, v TEXT) WITH (ACCESS_LEVEL = 'restricted')",
            "CREATE TABLE news (id BIGINT PRIMARY KEY) WITH (ACCESS_LEVEL = 'public')",
            "CREATE USER TABLE notes (id BIGINT PRIMARY KEY, v TEXT)",
            "CREATE STREAM TABLE pings (id BIGINT PRIMARY KEY) WITH (TTL_SECONDS = 3600)",
            "CREATE NAMESPACE quiet",
            "INSERT INTO vault VALUES (1, 'gold')",
            "INSERT INTO news VALUES (1)",
            "INSERT INTO notes VALUES (1, 'of root')",
        ]);
        let (ann, bob) = (fixture.session("ann"), fixture.session("bob"));
        let (sue, dan) = (fixture.session("sue"), fixture.session("dan"));
        let people = People {
            fixture,
            ann,
            bob,
            sue,
            dan,
        };
        for (session, name) in [(&people.ann, "ann"), (&people.bob, "bob"), (&people.dan, "dan")] {
            people.ok(
                session,
                &format!("INSERT INTO notes VALUES (1, 'of {name}'), (2, 'more of {name}')"),
            );
        }
        people.ok(&people.ann, "INSERT INTO pings VALUES (7)");
        people
    }

    #[track_caller]
    fn ok(&self, session: &Arc<Session>, sql: &str) -> Vec<String> {
        match self.fixture.execute_as(session, sql, Parameters::none()) {
            Ok(Outcome::Rows(batches)) => batches.iter().flat_map(crate::testing::texts).collect(),
            Ok(Outcome::Done(_)) => Vec::new(),
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    #[track_caller]
    fn code(&self, session: &Arc<Session>, sql: &str) -> ErrorCode {
        match self.fixture.execute_as(session, sql, Parameters::none()) {
            Ok(_) => panic!("{sql}: no error"),
            Err(error) => error.code,
        }
    }
}

use ErrorCode::{InvalidArgument, InvalidStatement, NamespaceNotFound, PermissionDenied, TableNotFound, UserNotFound};

#[test]
fn grants_open_and_revokes_close() {
    let p = People::new();
    let root = &p.fixture.root;
    assert_eq!(p.code(&p.ann, "SELECT * FROM vault"), TableNotFound);
    p.ok(&p.dan, "GRANT INSERT ON vault TO 'ann'");
    p.ok(&p.ann, "INSERT INTO vault VALUES (2, 'silver')");
    assert_eq!(p.code(&p.ann, "SELECT * FROM vault"), PermissionDenied);
    assert_eq!(p.code(&p.ann, "DELETE FROM vault"), PermissionDenied);
    p.ok(&p.dan, "GRANT DELETE ON vault TO 'ann'");
    assert_eq!(
        p.code(&p.ann, "DELETE FROM vault WHERE id = 2"),
        PermissionDenied,
        "finding rows is reading them"
    );
    p.ok(&p.dan, "GRANT ALL PRIVILEGES ON TABLE public.vault TO 'ann', 'sue'");
    assert_eq!(p.ok(&p.ann, "SELECT id FROM vault ORDER BY id"), ["1", "2"]);
    p.ok(&p.ann, "UPDATE vault SET v = 'brass' WHERE id = 2");
    p.ok(&p.sue, "DELETE FROM vault WHERE id = 2");
    for sql in [
        "TRUNCATE vault",
        "DROP TABLE vault",
        "FLUSH TABLE vault",
        "GRANT SELECT ON vault TO 'bob'",
    ] {
        assert_eq!(p.code(&p.ann, sql), PermissionDenied, "{sql}");
    }
    assert_eq!(p.code(&p.bob, "SELECT * FROM vault"), TableNotFound);
    let mine = "SELECT privilege, object_name, granted_by FROM (SHOW GRANTS)";
    assert_eq!(p.code(&p.ann, mine), TableNotFound, "SHOW is a table's name there");
    let shown = |session, sql: &str| -> Vec<String> {
        let rows = p.ok(session, sql).into_iter();
        rows.map(|row| row.rsplit_once('|').expect("a time at the end").0.to_owned())
            .collect()
    };
    let anns = [
        "ann|SELECT|TABLE|public.vault|dan",
        "ann|INSERT|TABLE|public.vault|dan",
        "ann|UPDATE|TABLE|public.vault|dan",
        "ann|DELETE|TABLE|public.vault|dan",
    ];
    assert_eq!(shown(&p.ann, "SHOW GRANTS"), anns);
    assert_eq!(shown(&p.dan, "SHOW GRANTS FOR 'ann'"), anns);
    assert_eq!(shown(root, "SHOW GRANTS").len(), 8);
    assert_eq!(p.code(&p.ann, "SHOW GRANTS FOR 'sue'"), PermissionDenied);
    p.fixture
        .check_error("SHOW GRANTS FOR 'an'", UserNotFound, Some((1, 17)), "did you mean ann");
    let standard = "SELECT grantor, grantee, table_schema, table_name, privilege_type, is_grantable \
                    FROM information_schema.table_privileges WHERE privilege_type = 'SELECT' ORDER BY grantee";
    assert_eq!(p.ok(&p.ann, standard), ["dan|ann|public|vault|SELECT|NO"]);
    assert_eq!(p.ok(root, standard).len(), 2);
    assert!(p.ok(&p.bob, standard).is_empty());
    let stored = "SELECT count(*), count(DISTINCT object_id), min(object_type) FROM system.grants";
    assert_eq!(p.ok(&p.ann, stored), ["4|1|TABLE"]);
    p.ok(&p.dan, "REVOKE ALL ON vault FROM 'ann'");
    assert_eq!(p.code(&p.ann, "SELECT * FROM vault"), TableNotFound);
    assert_eq!(p.ok(&p.sue, "SELECT id FROM vault"), ["1"]);
}

#[test]
fn grants_are_refused_with_the_place_and_the_nearest_name() {
    let p = People::new();
    let check = |session: &Arc<Session>, sql: &str, code, place, part: &str| {
        p.fixture
            .check_error_as(session, sql, Parameters::none(), code, place, part);
    };
    let root = &p.fixture.root;
    check(
        root,
        "GRANT SELECT ON vualt TO 'ann'",
        TableNotFound,
        Some((1, 17)),
        "did you mean public.vault",
    );
    check(
        root,
        "GRANT SELECT ON vault TO 'ann', 'bop'",
        UserNotFound,
        Some((1, 33)),
        "did you mean bob",
    );
    assert!(p.ok(root, "SHOW GRANTS").is_empty(), "all of it or nothing");
    check(
        root,
        "GRANT USAGE ON NAMESPACE quit TO 'ann'",
        NamespaceNotFound,
        Some((1, 26)),
        "did you mean quiet",
    );
    check(
        root,
        "GRANT SELECT ON notes TO 'ann'",
        InvalidArgument,
        Some((1, 17)),
        "their own rows",
    );
    check(
        root,
        "GRANT SELECT ON system.users TO 'ann'",
        InvalidArgument,
        Some((1, 17)),
        "role",
    );
    check(
        root,
        "GRANT EXECUTE AS ALL USERS ON news TO 'ann'",
        InvalidArgument,
        Some((1, 31)),
        "SELECT",
    );
    check(
        &p.dan,
        "GRANT EXECUTE AS ALL USERS ON notes TO 'dan'",
        PermissionDenied,
        Some((1, 31)),
        "notes",
    );
    check(
        &p.sue,
        "GRANT SELECT ON news TO 'ann'",
        PermissionDenied,
        Some((1, 17)),
        "GRANT",
    );
    check(
        &p.ann,
        "GRANT SELECT ON vault TO 'ann'",
        TableNotFound,
        Some((1, 17)),
        "does not exist",
    );
    check(
        &p.ann,
        "GRANT USAGE ON NAMESPACE quiet TO 'ann'",
        PermissionDenied,
        Some((1, 26)),
        "dba",
    );
    check(
        &p.ann,
        "ALTER USER 'ann' SET QUOTA rows = 5",
        PermissionDenied,
        None,
        "dba",
    );
    check(
        root,
        "ALTER USER 'an' SET QUOTA rows = 5",
        UserNotFound,
        Some((1, 12)),
        "did you mean ann",
    );
    check(
        root,
        "INSERT INTO system.grants VALUES (1)",
        InvalidStatement,
        Some((1, 13)),
        "GRANT or REVOKE",
    );
}

#[test]
fn usage_lets_one_know_of_a_namespace() {
    let p = People::new();
    assert_eq!(p.code(&p.ann, "USE quiet"), NamespaceNotFound);
    p.ok(&p.fixture.root, "GRANT USAGE ON NAMESPACE quiet TO 'ann'");
    p.ok(&p.ann, "USE quiet");
    let names = "SELECT namespace_id FROM system.namespaces ORDER BY namespace_id";
    assert_eq!(p.ok(&p.ann, names), ["public", "quiet"]);
    assert_eq!(p.ok(&p.bob, names), ["public"]);
    p.ok(&p.fixture.root, "CREATE TABLE quiet.hidden (a INT)");
    assert_eq!(
        p.code(&p.ann, "SELECT * FROM hidden"),
        TableNotFound,
        "its tables have rights of their own"
    );
    p.ok(&p.fixture.root, "REVOKE USAGE ON SCHEMA quiet FROM 'ann'");
    assert_eq!(p.code(&p.ann, "USE quiet"), NamespaceNotFound);
}

#[test]
fn a_statement_runs_as_another_with_their_scope_and_rights() {
    let p = People::new();
    let as_ann = |sql: &str| format!("EXECUTE AS USER 'ann' ({sql})");
    for actor in [&p.ann, &p.sue, &p.dan, &p.fixture.root] {
        assert_eq!(
            p.ok(actor, &as_ann("SELECT v FROM notes ORDER BY id")),
            ["of ann", "more of ann"]
        );
        assert_eq!(p.ok(actor, &as_ann("SELECT CURRENT_USER, CURRENT_ROLE")), ["ann|user"]);
        assert_eq!(p.code(actor, &as_ann("SELECT * FROM vault")), TableNotFound);
        assert_eq!(p.code(actor, &as_ann("INSERT INTO news VALUES (2)")), PermissionDenied);
        assert_eq!(p.code(actor, &as_ann("CREATE TABLE x (a INT)")), PermissionDenied);
        assert_eq!(p.ok(actor, &as_ann("SELECT count(*) FROM system.users")), ["1"]);
    }
    p.ok(&p.sue, &as_ann("INSERT INTO notes VALUES (3, 'by sue')"));
    p.ok(&p.sue, &as_ann("UPDATE notes SET v = 'changed' WHERE id = 2"));
    p.ok(&p.sue, &as_ann("DELETE FROM notes WHERE id = 1"));
    assert_eq!(p.ok(&p.ann, "SELECT v FROM notes ORDER BY id"), ["changed", "by sue"]);
    assert!(p.ok(&p.sue, "SELECT * FROM notes").is_empty());
    assert_eq!(p.ok(&p.bob, "SELECT count(*) FROM notes"), ["2"]);
    assert!(
        p.ok(&p.dan, &as_ann("SHOW TABLES"))
            .iter()
            .all(|table| !table.contains("vault"))
    );
    assert!(!p.ok(&p.dan, &as_ann("EXPLAIN SELECT * FROM notes")).is_empty());
    // What was granted to ann counts, and what was granted to whoever asks does not.
    p.ok(&p.fixture.root, "GRANT SELECT ON vault TO 'bob'");
    assert_eq!(p.code(&p.sue, &as_ann("SELECT * FROM vault")), TableNotFound);
    assert_eq!(p.ok(&p.sue, "EXECUTE AS USER 'bob' (SELECT v FROM vault)"), ["gold"]);
    assert_eq!(p.code(&p.sue, "SELECT v FROM vault"), TableNotFound);
}

#[test]
fn nobody_acts_as_whom_they_may_not() {
    let p = People::new();
    let root = &p.fixture.root;
    let people = [
        ("ann", &p.ann, 0),
        ("bob", &p.bob, 0),
        ("sue", &p.sue, 1),
        ("dan", &p.dan, 2),
        ("root", root, 3),
    ];
    for (name, actor, role) in people {
        for (other, _, other_role) in people {
            let sql = format!("EXECUTE AS USER '{other}' (SELECT CURRENT_USER)");
            if name == other || (role > 0 && other_role <= role) {
                assert_eq!(p.ok(actor, &sql), [other], "{name} as {other}");
            } else {
                assert_eq!(p.code(actor, &sql), PermissionDenied, "{name} as {other}");
            }
        }
    }
    assert_eq!(
        p.code(&p.ann, "EXECUTE AS USER 'nobody' (SELECT 1)"),
        PermissionDenied,
        "and is not told who there is"
    );
    p.fixture.check_error(
        "EXECUTE AS USER 'an' (SELECT 1)",
        UserNotFound,
        Some((1, 17)),
        "did you mean ann",
    );
    for sql in [
        "USE public",
        "SET time_zone = 'UTC'",
        "KILL QUERY 'x'",
        "CREATE USER 'eve' ROLE user",
        "ALTER USER 'ann' SET PASSWORD 'a long enough secret'",
        "GRANT SELECT ON vault TO 'sue'",
        "ALTER USER 'ann' SET QUOTA rows = 1",
    ] {
        assert_eq!(
            p.code(root, &format!("EXECUTE AS USER 'ann' ({sql})")),
            InvalidStatement,
            "{sql}"
        );
        assert_eq!(
            p.code(root, &format!("EXECUTE AS ALL USERS ({sql})")),
            InvalidStatement,
            "{sql}"
        );
    }
}

#[test]
fn a_query_of_all_users_says_whose_each_row_is() {
    let p = People::new();
    let root = &p.fixture.root;
    let all = |sql: &str| format!("EXECUTE AS ALL USERS ({sql})");
    let everything = [
        "1|of ann|ann",
        "1|of bob|bob",
        "1|of dan|dan",
        "1|of root|root",
        "2|more of ann|ann",
        "2|more of bob|bob",
        "2|more of dan|dan",
    ];
    assert_eq!(p.ok(root, &all("SELECT * FROM notes ORDER BY id, _user")), everything);
    assert_eq!(
        p.ok(
            root,
            &all("SELECT _user, count(*) FROM notes GROUP BY _user ORDER BY _user")
        ),
        ["ann|2", "bob|2", "dan|2", "root|1"]
    );
    assert_eq!(p.ok(root, &all("SELECT count(*) FROM notes")), ["7"]);
    // A row of one table says whose it is, though the list of columns does not name it.
    assert_eq!(
        p.ok(root, &all("SELECT v FROM notes WHERE id = 1 ORDER BY v LIMIT 2")),
        ["of ann|ann", "of bob|bob"]
    );
    assert_eq!(
        p.ok(
            root,
            &all("SELECT v FROM notes WHERE id = 1 ORDER BY _user DESC LIMIT 1")
        ),
        ["of root|root"]
    );
    assert_eq!(
        p.ok(root, &all("SELECT id FROM notes WHERE _user = 'bob' ORDER BY id")),
        ["1|bob", "2|bob"]
    );
    assert_eq!(p.ok(root, &all("SELECT max(id), min(id) FROM notes")), ["2|1"]);
    assert_eq!(
        p.ok(root, &all("SELECT DISTINCT id FROM notes ORDER BY id")),
        ["1", "2"]
    );
    assert_eq!(
        p.ok(
            root,
            &all("SELECT n._user, n.v, p.id FROM notes n JOIN pings p ON n._user = p._user WHERE n.id = 1")
        ),
        ["ann|of ann|7"]
    );
    assert_eq!(
        p.ok(
            root,
            &all("SELECT n.v FROM notes n JOIN news w ON n.id = w.id ORDER BY n.v LIMIT 1")
        ),
        ["of ann|ann"]
    );
    assert_eq!(
        p.ok(
            root,
            &all("SELECT v, _seq > 0 FROM notes WHERE id = 2 ORDER BY v LIMIT 1")
        ),
        ["more of ann|true|ann"]
    );
    // A natural join is by owner, whether `_seq` is beside it or not; any other is as it says.
    p.ok(&p.bob, "INSERT INTO pings VALUES (2)");
    p.ok(&p.ann, "INSERT INTO pings VALUES (2)");
    for seq in ["1", "notes._seq * 0 + pings._seq * 0 + 1"] {
        let natural = format!("SELECT notes._user, id, v, {seq} FROM notes NATURAL JOIN pings ORDER BY 1");
        let own = ["ann|2|more of ann|1", "bob|2|more of bob|1"];
        assert_eq!(p.ok(root, &all(&natural)), own, "{seq}");
    }
    assert_eq!(
        p.ok(
            root,
            &all("SELECT *, pings._seq > 0 FROM notes NATURAL JOIN pings ORDER BY v")
        ),
        ["2|more of ann|ann|true", "2|more of bob|bob|true"]
    );
    assert_eq!(
        p.ok(root, &all("SELECT count(*) FROM notes n JOIN pings p ON n.id = p.id")),
        ["6"]
    );
    assert_eq!(
        p.ok(root, &all("SELECT id FROM news")),
        ["1"],
        "rows of nobody's own are as ever"
    );
    assert_eq!(
        p.ok(root, "SELECT * FROM notes"),
        ["1|of root"],
        "without it nothing changed"
    );
    p.fixture.check_error(
        "SELECT _user FROM notes",
        ErrorCode::ColumnNotFound,
        Some((1, 8)),
        "_user",
    );
    for sql in [
        "INSERT INTO notes VALUES (9, 'x')",
        "DELETE FROM notes",
        "SHOW TABLES",
        "EXPLAIN SELECT * FROM notes",
    ] {
        p.fixture
            .check_error(&all(sql), InvalidStatement, Some((1, 1)), "SELECT");
    }
}

#[test]
fn a_query_of_all_users_needs_the_grant_on_each_of_its_tables() {
    let p = People::new();
    let all = |sql: &str| format!("EXECUTE AS ALL USERS ({sql})");
    let notes = all("SELECT count(*) FROM notes");
    for session in [&p.ann, &p.sue, &p.dan] {
        assert_eq!(p.code(session, &notes), PermissionDenied);
    }
    p.ok(&p.fixture.root, "GRANT EXECUTE AS ALL USERS ON notes TO 'ann'");
    assert_eq!(p.ok(&p.ann, &notes), ["7"]);
    assert_eq!(
        p.code(&p.ann, &all("SELECT count(*) FROM notes, pings")),
        PermissionDenied
    );
    assert_eq!(
        p.code(&p.ann, &all("SELECT 1 FROM news WHERE id IN (SELECT id FROM pings)")),
        PermissionDenied
    );
    assert_eq!(
        p.code(&p.ann, &all("SELECT * FROM vault")),
        TableNotFound,
        "other rights are as ever"
    );
    assert_eq!(p.ok(&p.ann, "SELECT count(*) FROM notes"), ["2"]);
    assert_eq!(
        p.code(
            &p.sue,
            "EXECUTE AS USER 'ann' (EXECUTE AS ALL USERS (SELECT * FROM notes))"
        ),
        InvalidStatement
    );
    p.ok(&p.fixture.root, "REVOKE EXECUTE AS ALL USERS ON notes FROM 'ann'");
    assert_eq!(p.code(&p.ann, &notes), PermissionDenied);
}

#[test]
fn a_query_of_all_users_reads_views_as_it_reads_tables() {
    let p = People::new();
    let root = &p.fixture.root;
    let all = |sql: &str| format!("EXECUTE AS ALL USERS ({sql})");
    p.fixture.run(&[
        "CREATE VIEW said AS SELECT v FROM notes WHERE id = 1",
        "CREATE VIEW loud AS SELECT upper(v) AS word FROM said",
        "CREATE VIEW paired (a, b) AS SELECT n.id, w.id FROM notes n JOIN news w ON n.id = w.id",
        "CREATE VIEW counted AS SELECT count(*) AS how_many FROM notes",
    ]);
    assert_eq!(
        p.ok(root, &all("SELECT * FROM said ORDER BY v")),
        ["of ann|ann", "of bob|bob", "of dan|dan", "of root|root"]
    );
    assert_eq!(
        p.ok(root, &all("SELECT v FROM said ORDER BY v LIMIT 1")),
        ["of ann|ann"]
    );
    assert_eq!(
        p.ok(root, &all("SELECT word FROM loud WHERE _user = 'bob'")),
        ["OF BOB|bob"]
    );
    assert_eq!(
        p.ok(root, &all("SELECT a, b FROM paired ORDER BY _user LIMIT 1")),
        ["1|1|ann"]
    );
    assert_eq!(p.ok(root, &all("SELECT * FROM counted")), ["7"]);
    // No text of a view makes pairs of users.
    p.fixture.run(&[
        "INSERT INTO pings VALUES (1)",
        "CREATE VIEW v_joined AS SELECT n.v FROM notes n JOIN pings p ON n.id = p.id",
        "CREATE VIEW v_beside AS SELECT n.v FROM notes n, pings",
        "CREATE VIEW v_within AS SELECT v FROM notes WHERE id IN (SELECT id FROM pings)",
        "CREATE VIEW v_greatest AS SELECT v FROM notes WHERE id = (SELECT max(id) FROM notes)",
        "CREATE VIEW v_said_and_pinged AS SELECT v FROM said, pings",
        "CREATE VIEW v_listed AS SELECT id FROM notes UNION ALL SELECT id FROM pings",
        "CREATE VIEW by_nature AS SELECT v FROM notes NATURAL JOIN pings",
        "CREATE VIEW v_told AS SELECT id FROM news WHERE id IN (SELECT id FROM notes)",
    ]);
    for view in ["v_joined", "v_beside", "v_within", "v_greatest", "v_said_and_pinged"] {
        let part = format!("view public.{view}: it brings two tables");
        let sql = all(&format!("SELECT * FROM {view}"));
        p.fixture.check_error(&sql, InvalidStatement, Some((1, 37)), &part);
    }
    assert_eq!(
        p.ok(root, "SELECT v FROM v_joined"),
        ["of root"],
        "for one user it is as ever"
    );
    assert_eq!(p.ok(root, &all("SELECT count(*) FROM v_listed")), ["9"]);
    assert_eq!(p.ok(root, &all("SELECT v FROM by_nature")), ["of root"]);
    assert_eq!(p.ok(root, &all("SELECT id FROM v_told")), ["1"]);
    p.fixture.run(&["DELETE FROM pings"]);
    assert_eq!(
        p.ok(root, "SELECT * FROM said"),
        ["of root"],
        "without it nothing changed"
    );
    assert_eq!(p.code(&p.dan, &all("SELECT * FROM counted")), PermissionDenied);
    p.ok(root, "GRANT EXECUTE AS ALL USERS ON notes TO 'ann'");
    assert_eq!(p.ok(&p.ann, &all("SELECT * FROM counted")), ["7"]);
}

#[test]
fn both_names_are_recorded() {
    let p = People::new();
    p.ok(&p.sue, "EXECUTE AS USER 'ann' (SELECT 'marker one')");
    assert_eq!(
        p.code(&p.sue, "EXECUTE AS USER 'dan' (SELECT 'marker two')"),
        PermissionDenied
    );
    // Whom one may not run as, and whom there is not.
    for sql in [
        "EXECUTE AS USER 'bob' (SELECT 'marker three')",
        "EXECUTE AS USER 'nobody' (SELECT 'marker three')",
    ] {
        assert_eq!(p.code(&p.ann, sql), PermissionDenied);
    }
    p.ok(&p.fixture.root, "EXECUTE AS ALL USERS (SELECT count(*) FROM notes)");
    let recorded = "SELECT user_id, executed_as, statement, status, error_code FROM system.queries \
                    WHERE statement LIKE 'EXECUTE AS%' ORDER BY started_at, query_id";
    let mut recorded = p.ok(&p.dan, recorded);
    recorded.sort();
    assert_eq!(
        recorded,
        [
            "ann|bob|EXECUTE AS USER $1 (SELECT $2)|failed|PERMISSION_DENIED",
            "ann|nobody|EXECUTE AS USER $1 (SELECT $2)|failed|PERMISSION_DENIED",
            "root|all users:|EXECUTE AS ALL USERS (SELECT count(*) FROM notes)|finished|NULL",
            "sue|ann|EXECUTE AS USER $1 (SELECT $2)|finished|NULL",
            "sue|dan|EXECUTE AS USER $1 (SELECT $2)|failed|PERMISSION_DENIED",
        ]
    );
    let own = p.ok(
        &p.ann,
        "SELECT count(*) FROM system.queries WHERE statement LIKE 'EXECUTE AS%'",
    );
    assert_eq!(own, ["2"], "they are in the history of whoever asked");
}

#[test]
fn describing_a_statement_of_another_asks_for_the_same_rights() {
    let p = People::new();
    let describe = |session: &Arc<Session>, sql: &str| {
        let described = p.fixture.block_on(p.fixture.database.describe(session, sql));
        described.map(|description| {
            let fields = description.result.fields().iter();
            fields.map(|field| field.name().clone()).collect::<Vec<_>>()
        })
    };
    let sql = "EXECUTE AS USER 'ann' (SELECT id FROM notes)";
    assert_eq!(describe(&p.sue, sql).expect("she may"), ["id"]);
    assert_eq!(describe(&p.bob, sql).expect_err("he may not").code, PermissionDenied);
    let sql = "EXECUTE AS ALL USERS (SELECT id FROM notes)";
    assert_eq!(describe(&p.fixture.root, sql).expect("root may"), ["id", "_user"]);
    assert_eq!(describe(&p.dan, sql).expect_err("dba may not").code, PermissionDenied);
    let sql = "EXECUTE AS USER 'ann' (DELETE FROM notes)";
    assert!(describe(&p.sue, sql).expect("she may").is_empty());
    assert_eq!(
        p.ok(&p.ann, "SELECT count(*) FROM notes"),
        ["2"],
        "describing does nothing"
    );
}

#[test]
fn each_quota_has_its_own_breach_and_harms_nobody_else() {
    let p = People::new();
    let root = &p.fixture.root;
    let set = |quotas: &str| p.ok(root, &format!("ALTER USER 'ann' SET QUOTA {quotas}"));
    let many = "SELECT value, repeat('x', 100) FROM generate_series(1, 100000)";
    let hungry = "SELECT array_agg(value) FROM generate_series(1, 1000000)";
    let endless =
        "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b WHERE a.value + b.value = 1";
    let cases = [
        ("rows = 50000", many, ErrorCode::RowQuotaExceeded),
        ("bytes = '1MB'", many, ErrorCode::ByteQuotaExceeded),
        ("memory = '1MB'", hungry, ErrorCode::MemoryQuotaExceeded),
        ("statement_time = '50ms'", endless, ErrorCode::TimeQuotaExceeded),
    ];
    for (quota, sql, code) in cases {
        set(quota);
        let failed = p.fixture.execute_as(&p.ann, sql, Parameters::none()).expect_err(quota);
        assert_eq!(failed.code, code, "{quota}: {failed}");
        assert!(
            failed.message.contains(quota.split(' ').next().expect("a name")),
            "{failed}"
        );
        if code != ErrorCode::TimeQuotaExceeded {
            p.ok(&p.ann, "SELECT count(*) FROM notes");
            p.ok(&p.bob, sql);
            p.ok(root, &format!("EXECUTE AS USER 'ann' ({sql})"));
        }
        let (name, _) = quota.split_once(' ').expect("a name");
        set(&format!("{name} = DEFAULT"));
    }
    p.ok(&p.ann, many);
    p.ok(root, "ALTER ROLE user SET QUOTA sessions = 1, rows = 7");
    set("rows = 8");
    let shown = ["ann|sessions|1|NULL|role", "ann|rows|8|NULL|user"];
    assert_eq!(p.ok(&p.ann, "SHOW QUOTAS"), shown);
    assert_eq!(p.ok(&p.dan, "SHOW QUOTAS FOR 'ann'"), shown);
    assert_eq!(p.code(&p.bob, "SHOW QUOTAS FOR 'ann'"), PermissionDenied);
    assert!(p.ok(root, "SHOW QUOTAS").is_empty());
    let open = |user_id: &str| {
        let user = p
            .fixture
            .database
            .engine()
            .user(&p.fixture.database.engine().view(), user_id);
        let user = user.expect("readable").expect("there");
        p.fixture
            .database
            .open_session(&user, crate::session::SessionOrigin::default())
            .map(|_| ())
    };
    assert_eq!(
        open("ann").expect_err("one is open").code,
        ErrorCode::SessionQuotaExceeded
    );
    open("sue").expect("another role");
    p.fixture.database.close_session(p.ann.id());
    open("ann").expect("none is open any more");
    p.ok(root, "ALTER USER 'dan' SET QUOTA sessions = 4");
    let opened = (0..10).filter(|_| open("dan").is_ok());
    assert_eq!(opened.count(), 3, "beside the one that was open");
}

#[test]
fn remembered_credentials_pass_by_those_who_wait() {
    let fixture = Fixture::new();
    let password = "a long enough secret";
    fixture.run(&[&format!("CREATE USER 'ann' WITH PASSWORD '{password}' ROLE user")]);
    let database = &fixture.database;
    let authenticate = |user: &'static str| database.authenticate(user, password, "10.0.0.9");
    fixture.block_on(authenticate("ann")).expect("logs in");
    fixture.block_on(async {
        let names = (0..300).map(|number| format!("nobody {number}"));
        let mut strangers: Vec<_> = names
            .map(|name| {
                let login = async move { database.authenticate(&name, password, "10.0.0.9").await };
                Box::pin(login)
            })
            .collect();
        let mut refused = 0;
        for login in &mut strangers {
            // Whoever has a place keeps it until asked again.
            if let Poll::Ready(outcome) = futures::poll!(login) {
                assert_eq!(outcome.err().map(|error| error.code), Some(ErrorCode::TooManyRequests));
                refused += 1;
            }
        }
        assert_eq!(refused, 44);
        let ann = authenticate("ann").now_or_never().expect("at once");
        assert!(ann.is_ok());
    });
}

#[test]
fn a_user_at_the_quota_of_queries_waits_and_others_do_not() {
    let p = People::new();
    p.ok(&p.fixture.root, "ALTER USER 'ann' SET QUOTA queries = 1");
    let database = &p.fixture.database;
    p.fixture.block_on(async {
        // A stream that nobody reads is a statement that runs.
        let rows = database
            .execute(&p.ann, "SELECT * FROM generate_series(1, 10000000)", Parameters::none())
            .await;
        let rows = rows.expect("the first runs");
        let second = database.execute(&p.ann, "SELECT 1", Parameters::none()).await;
        assert_eq!(
            second.err().map(|error| error.code),
            Some(ErrorCode::QueryQuotaExceeded)
        );
        assert!(database.execute(&p.bob, "SELECT 1", Parameters::none()).await.is_ok());
        drop(rows);
    });
    let refused = "SELECT statement, status FROM system.queries WHERE error_code = 'QUERY_QUOTA_EXCEEDED'";
    assert_eq!(p.ok(&p.fixture.root, refused), ["SELECT $1|failed"]);
}

#[test]
fn failed_logins_and_refused_statements_are_recorded() {
    let fixture = Fixture::with(|options| options.statement_text_limit_bytes = 1_000);
    fixture.run(&["CREATE USER 'ann' WITH PASSWORD 'a long enough secret' ROLE user"]);
    let ann = fixture.session("ann");
    let login = |user: &str| {
        let checked = fixture.block_on(
            fixture
                .database
                .authenticate(user, "the wrong password", "10.0.0.9:4711"),
        );
        assert!(checked.is_err());
    };
    login("ann");
    login("a password in the wrong field");
    let long = format!("SELECT '{}'", "x".repeat(1_000));
    for (sql, code) in [
        (long.as_str(), ErrorCode::StatementTooLarge),
        ("CREATE TABLE t (a INT)", PermissionDenied),
        ("SELECT 'marker' FORM marker", ErrorCode::SyntaxError),
    ] {
        let refused = fixture.execute_as(&ann, sql, Parameters::none());
        assert_eq!(refused.err().map(|error| error.code), Some(code), "{sql}");
    }
    let failed = "SELECT user_id, statement, error_code FROM system.queries WHERE status = 'failed'";
    let all = [
        "ann|LOGIN FROM 10.0.0.9|UNAUTHENTICATED",
        "|LOGIN FROM 10.0.0.9|UNAUTHENTICATED",
        "ann|SELECT $1|STATEMENT_TOO_LARGE",
        "ann|CREATE TABLE t (a INT)|PERMISSION_DENIED",
        "ann|SELECT …|SYNTAX_ERROR",
    ];
    assert_eq!(fixture.rows(failed), all);
    let own: Vec<&str> = all.into_iter().filter(|row| row.starts_with("ann")).collect();
    assert_eq!(fixture.rows_as(&ann, failed, Parameters::none()), own);
}
