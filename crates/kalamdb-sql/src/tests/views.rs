//! Views: what they show, to whom, and what becomes of them when their tables change.

use kalamdb_core::ErrorCode;

use crate::metadata::TableFilter;
use crate::parameters::Parameters;
use crate::testing::Fixture;

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE NAMESPACE chat",
        "CREATE TABLE chat.rooms (id INT PRIMARY KEY, title TEXT) WITH (ACCESS_LEVEL = 'public')",
        "INSERT INTO chat.rooms VALUES (1, 'kitchen'), (2, 'hall')",
        "CREATE USER TABLE chat.notes (id INT PRIMARY KEY, room INT, body TEXT)",
        "INSERT INTO chat.notes VALUES (1, 1, 'of root'), (2, 2, 'of root, too')",
        "CREATE STREAM TABLE chat.pings (id INT PRIMARY KEY, room INT) WITH (TTL_SECONDS = 60)",
        "INSERT INTO chat.pings VALUES (1, 2)",
    ]);
    fixture
}

#[test]
fn a_view_is_a_query_under_a_name() {
    let fixture = fixture();
    fixture.run(&[
        "USE chat",
        "CREATE VIEW noted (room, how_many) AS \
         SELECT title, count(*) FROM rooms JOIN notes ON notes.room = rooms.id GROUP BY title ORDER BY title",
        // Names are looked up where the view was made.
        "USE public",
        "CREATE VIEW loud AS SELECT upper(room) AS room, how_many + 1 AS more FROM chat.noted",
        "CREATE VIEW pinged AS SELECT * FROM chat.pings",
    ]);
    fixture.check("SELECT * FROM chat.noted ORDER BY room", &["hall|1", "kitchen|1"]);
    fixture.check(
        "SELECT room FROM chat.noted WHERE how_many > 0 ORDER BY room LIMIT 1",
        &["hall"],
    );
    fixture.check(
        "SELECT l.room, r.id FROM loud l JOIN chat.rooms r ON upper(r.title) = l.room ORDER BY r.id",
        &["KITCHEN|1", "HALL|2"],
    );
    fixture.check("SELECT loud.more FROM public.loud WHERE room = 'HALL'", &["2"]);
    fixture.check("SELECT * FROM pinged", &["1|2"]);
    // What a view reads is of the statement's own state and time.
    fixture.run(&["INSERT INTO chat.notes VALUES (3, 1, 'more')"]);
    fixture.check("SELECT how_many FROM chat.noted ORDER BY room", &["1", "2"]);
    fixture.clock.advance_micros(60_000_000);
    fixture.check("SELECT * FROM pinged", &[]);
    fixture.run(&[
        "CREATE TABLE kept AS SELECT * FROM loud",
        "INSERT INTO chat.rooms SELECT 10, room FROM loud WHERE more = 3",
        "DELETE FROM chat.rooms WHERE title IN (SELECT room FROM loud)",
    ]);
    fixture.check("SELECT count(*) FROM kept", &["2"]);
    fixture.check("SELECT count(*) FROM chat.rooms", &["2"]);
}

#[test]
fn a_view_has_the_rights_of_whoever_reads_it() {
    let fixture = fixture();
    fixture.run(&[
        "CREATE USER 'ann' ROLE user",
        "CREATE TABLE secret (a INT)",
        "CREATE VIEW mine AS SELECT n.body, r.title, CURRENT_USER AS who FROM chat.notes n JOIN chat.rooms r ON r.id = n.room",
        "CREATE VIEW hidden AS SELECT a FROM secret",
        "CREATE VIEW deeper AS SELECT * FROM hidden",
        "CREATE VIEW inside AS SELECT (SELECT max(a) FROM secret) AS most",
    ]);
    let ann = fixture.session("ann");
    let rows = |sql: &str| fixture.rows_as(&ann, sql, Parameters::none());
    assert!(rows("SELECT * FROM mine").is_empty());
    fixture
        .execute_as(
            &ann,
            "INSERT INTO chat.notes VALUES (7, 1, 'of ann')",
            Parameters::none(),
        )
        .expect("hers");
    assert_eq!(rows("SELECT * FROM mine"), ["of ann|kitchen|ann"]);
    fixture.check("SELECT body FROM mine ORDER BY body", &["of root", "of root, too"]);
    // A view of what one may not see is not there.
    for view in ["hidden", "deeper", "inside"] {
        for sql in [
            format!("SELECT * FROM {view}"),
            format!("DESCRIBE {view}"),
            format!("INSERT INTO {view} VALUES (1)"),
        ] {
            let error = fixture.execute_as(&ann, &sql, Parameters::none()).expect_err(&sql);
            assert_eq!(error.code, ErrorCode::TableNotFound, "{sql}: {error}");
            assert!(!error.message.contains("secret"), "{sql}: {error}");
        }
    }
    for sql in [
        "SELECT table_name FROM system.tables WHERE table_type = 'VIEW'",
        "SELECT table_name FROM information_schema.views WHERE table_schema = 'public'",
        "SELECT DISTINCT table_name FROM information_schema.columns WHERE table_schema = 'public'",
    ] {
        assert_eq!(rows(sql), ["mine"], "{sql}");
    }
    assert_eq!(rows("SHOW TABLES IN public").len(), 1);
    for sql in [
        "CREATE VIEW x AS SELECT 1 AS a",
        "DROP VIEW mine",
        "CREATE OR REPLACE VIEW mine AS SELECT 1 AS a",
    ] {
        let error = fixture.execute_as(&ann, sql, Parameters::none()).expect_err(sql);
        assert_eq!(error.code, ErrorCode::PermissionDenied, "{sql}: {error}");
    }
    // With the table the view goes out of hiding.
    fixture.run(&[
        "CREATE OR REPLACE TABLE secret (a INT) WITH (ACCESS_LEVEL = 'public')",
        "INSERT INTO secret VALUES (5)",
    ]);
    assert_eq!(rows("SELECT d.a, i.most FROM deeper d, inside i"), ["5|5"]);
}

#[test]
fn metadata_shows_views() {
    let fixture = fixture();
    fixture.run(&["CREATE VIEW chat.v AS SELECT id, title AS \"T\", 1.5 AS x FROM chat.rooms"]);
    let columns = [
        "id|INTEGER|true|NULL|NULL",
        "T|TEXT|true|NULL|NULL",
        "x|DOUBLE|true|NULL|NULL",
    ];
    fixture.check("DESCRIBE chat.v", &columns);
    fixture.check("SHOW COLUMNS FROM chat.v", &columns);
    fixture.check(
        "SELECT namespace_id, table_name, table_type, schema_version, access_level, storage_id, options FROM system.tables \
         WHERE table_type = 'VIEW'",
        &["chat|v|VIEW|1|NULL|NULL|{}"],
    );
    fixture.check(
        "SELECT table_name, view_definition FROM information_schema.views WHERE table_schema = 'chat'",
        &["v|SELECT id, title AS \"T\", 1.5 AS x FROM chat.rooms"],
    );
    fixture.check(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'v' ORDER BY ordinal_position",
        &["id|INTEGER", "T|TEXT", "x|DOUBLE"],
    );
    fixture.run(&["CREATE OR REPLACE VIEW chat.v AS SELECT 1 AS one"]);
    let history = fixture.rows("DESCRIBE chat.v HISTORY");
    assert_eq!(history.len(), 2);
    assert!(history[0].starts_with("1|CREATE VIEW|") && history[1].starts_with("2|CREATE OR REPLACE VIEW|"));
    let shown = fixture.rows("SHOW TABLES IN chat");
    assert!(
        shown.iter().any(|row| row.starts_with("chat|v|VIEW|NULL|{}|")),
        "{shown:?}"
    );
    let filter = TableFilter {
        namespace: Some("chat".into()),
        table_types: vec!["VIEW".into()],
        ..TableFilter::default()
    };
    let tables = fixture
        .block_on(fixture.database.tables(&fixture.root, &filter))
        .expect("readable");
    let [view] = tables.as_slice() else {
        panic!("{tables:?}")
    };
    assert_eq!((view.name.as_str(), view.table_type.as_str()), ("v", "VIEW"));
    assert_eq!(view.schema.field(0).name(), "one");
    fixture.run(&["DROP VIEW chat.v"]);
    fixture.check("SELECT count(*) FROM system.tables WHERE table_type = 'VIEW'", &["0"]);
    fixture.check(
        "SELECT count(*) FROM system.table_schemas WHERE change LIKE '%VIEW'",
        &["0"],
    );
}

#[test]
fn views_and_tables_share_their_names() {
    let fixture = fixture();
    fixture.run(&[
        "CREATE VIEW v AS SELECT 1 AS a",
        "CREATE VIEW IF NOT EXISTS v AS SELECT 2 AS b",
    ]);
    fixture.check("SELECT a FROM v", &["1"]);
    let check = |sql: &str, code: ErrorCode, place: u64, part: &str| {
        fixture.check_error(sql, code, Some((1, place)), part);
    };
    check(
        "CREATE VIEW v AS SELECT 2 AS b",
        ErrorCode::AlreadyExists,
        13,
        "view public.v",
    );
    check(
        "CREATE VIEW chat.rooms AS SELECT 2 AS b",
        ErrorCode::AlreadyExists,
        13,
        "as a table",
    );
    check(
        "CREATE OR REPLACE VIEW chat.rooms AS SELECT 2 AS b",
        ErrorCode::AlreadyExists,
        24,
        "as a table",
    );
    check("CREATE TABLE v (a INT)", ErrorCode::AlreadyExists, 14, "as a view");
    check(
        "CREATE TABLE IF NOT EXISTS v (a INT)",
        ErrorCode::AlreadyExists,
        28,
        "as a view",
    );
    check(
        "CREATE OR REPLACE TABLE v AS SELECT 1 AS a",
        ErrorCode::AlreadyExists,
        25,
        "as a view",
    );
    check(
        "CREATE VIEW nowhere.v AS SELECT 1 AS a",
        ErrorCode::NamespaceNotFound,
        13,
        "nowhere",
    );
    check("DROP TABLE v", ErrorCode::InvalidStatement, 12, "is a view");
    check("DROP TABLE IF EXISTS v", ErrorCode::InvalidStatement, 22, "is a view");
    check("TRUNCATE v", ErrorCode::InvalidStatement, 10, "is a view");
    check("DROP VIEW chat.rooms", ErrorCode::InvalidStatement, 11, "DROP TABLE");
    check("DROP VIEW chat.room", ErrorCode::TableNotFound, 11, "chat.room");
    check("INSERT INTO v VALUES (1)", ErrorCode::InvalidStatement, 13, "is a view");
    check("UPDATE v SET a = 1", ErrorCode::InvalidStatement, 8, "is a view");
    check("DELETE FROM v", ErrorCode::InvalidStatement, 13, "is a view");
    check("FLUSH TABLE v", ErrorCode::InvalidStatement, 13, "is a view");
    fixture.check_error(
        "DROP NAMESPACE public",
        ErrorCode::DependentObjects,
        None,
        "holds 1 view;",
    );
    fixture.run(&["DROP VIEW IF EXISTS v, w", "CREATE TABLE v (a INT)", "DROP TABLE v"]);
    fixture.run(&[
        "CREATE NAMESPACE n",
        "CREATE VIEW n.v AS SELECT 1 AS a",
        "CREATE TABLE n.t (a INT)",
        "DROP NAMESPACE n CASCADE",
        "CREATE NAMESPACE n",
    ]);
    check("SELECT * FROM n.v", ErrorCode::TableNotFound, 15, "n.v");
}

#[test]
fn a_bad_query_makes_no_view() {
    let fixture = fixture();
    fixture.check_error(
        "CREATE VIEW v AS SELECT nothing FROM chat.rooms",
        ErrorCode::ColumnNotFound,
        Some((1, 25)),
        "nothing",
    );
    fixture.check_error(
        "CREATE VIEW v AS SELECT * FROM chat.room",
        ErrorCode::TableNotFound,
        Some((1, 32)),
        "chat.rooms",
    );
    fixture.check_error(
        "CREATE VIEW v AS SELECT 1 AS a, 2 AS a",
        ErrorCode::InvalidStatement,
        None,
        "two columns 'a'",
    );
    fixture.check_error(
        "CREATE VIEW v AS SELECT NULL AS a",
        ErrorCode::TypeMismatch,
        None,
        "no type",
    );
    fixture.check_error(
        "CREATE VIEW v (a, b) AS SELECT 1",
        ErrorCode::InvalidStatement,
        Some((1, 13)),
        "names 2 columns",
    );
    fixture.check_error("SELECT * FROM v", ErrorCode::TableNotFound, Some((1, 15)), "v");
    fixture.run(&[
        "CREATE VIEW v (a, b) AS SELECT r.id, s.id FROM chat.rooms r, chat.rooms s WHERE r.id = 1 AND s.id = 2",
    ]);
    fixture.check("SELECT * FROM v", &["1|2"]);
}

#[test]
fn a_view_that_reads_itself_is_refused() {
    let fixture = fixture();
    fixture.run(&[
        "CREATE VIEW a AS SELECT id FROM chat.rooms",
        "CREATE VIEW b AS SELECT id FROM a",
        "CREATE VIEW c AS SELECT id FROM b",
    ]);
    for sql in [
        "CREATE OR REPLACE VIEW a AS SELECT id FROM a",
        "CREATE OR REPLACE VIEW a AS SELECT id FROM c",
        "CREATE OR REPLACE VIEW a AS SELECT id FROM chat.rooms WHERE id IN (SELECT id FROM b)",
    ] {
        fixture.check_error_part(sql, ErrorCode::InvalidStatement, "reads itself");
    }
    fixture.check("SELECT count(*) FROM c", &["2"]);
    // By way of a name that was a table's.
    fixture.run(&[
        "CREATE TABLE t (id INT)",
        "CREATE VIEW of_t AS SELECT id FROM t",
        "DROP TABLE t",
    ]);
    fixture.check_error_part(
        "CREATE VIEW t AS SELECT id FROM of_t",
        ErrorCode::InvalidStatement,
        "reads itself",
    );
    for depth in 0..20 {
        let (inner, outer) = (format!("deep{depth}"), format!("deep{}", depth + 1));
        let first = if depth == 0 { "chat.rooms".to_owned() } else { inner };
        let sql = format!("CREATE VIEW {outer} AS SELECT id FROM {first}");
        match fixture.execute_as(&fixture.root, &sql, Parameters::none()) {
            Ok(_) => assert!(depth < 17, "{sql}"),
            Err(error) => {
                assert_eq!(error.code, ErrorCode::InvalidStatement, "{error}");
                assert!(error.message.contains("through more than 16 views"), "{error}");
                assert!(depth >= 15, "{sql}");
                return;
            }
        }
    }
    panic!("views nest without end");
}

#[test]
fn a_view_outlives_its_tables_and_says_what_it_lacks() {
    let fixture = fixture();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, a TEXT)",
        "INSERT INTO t VALUES (1, 'x')",
        "CREATE VIEW v AS SELECT * FROM t",
        "CREATE VIEW w AS SELECT a || '!' AS a FROM v",
    ]);
    // Other columns do not change what the view shows, nor do they in another order.
    fixture.run(&[
        "CREATE OR REPLACE TABLE t (b INT, a TEXT, id INT PRIMARY KEY)",
        "INSERT INTO t VALUES (7, 'y', 2)",
    ]);
    fixture.check("SELECT * FROM v", &["2|y"]);
    fixture.run(&["CREATE OR REPLACE TABLE t (id INT PRIMARY KEY)"]);
    fixture.check_error_part(
        "SELECT * FROM v",
        ErrorCode::ColumnNotFound,
        "view public.v: its query now has no column 'a'",
    );
    fixture.run(&["CREATE OR REPLACE TABLE t (id BIGINT PRIMARY KEY, a TEXT)"]);
    fixture.check_error_part(
        "SELECT * FROM w",
        ErrorCode::TypeMismatch,
        "'id' as Int64, no longer as Int32",
    );
    fixture.run(&["DROP TABLE t"]);
    fixture.check_error_part(
        "SELECT * FROM v",
        ErrorCode::TableNotFound,
        "view public.v: table public.t does not exist",
    );
    fixture.check_error_part("SELECT * FROM w", ErrorCode::TableNotFound, "public.t does not exist");
    fixture.check("DESCRIBE v", &["id|INTEGER|true|NULL|NULL", "a|TEXT|true|NULL|NULL"]);
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, a TEXT)",
        "INSERT INTO t VALUES (3, 'z')",
    ]);
    fixture.check("SELECT a FROM w", &["z!"]);
    fixture.run(&["DROP VIEW v", "DROP TABLE t"]);
    fixture.check_error_part(
        "SELECT * FROM w",
        ErrorCode::TableNotFound,
        "view public.w: table public.v does not exist",
    );
    fixture.run(&["DROP VIEW w"]);
}

#[test]
fn system_columns_and_parameters_work_through_views() {
    let fixture = fixture();
    fixture.run(&[
        "CREATE VIEW latest AS SELECT id, _seq AS at FROM chat.rooms",
        "CREATE VIEW plain AS SELECT * FROM chat.rooms",
    ]);
    fixture.check("SELECT count(*) FROM latest WHERE at > 0", &["2"]);
    fixture.check("SELECT id FROM plain ORDER BY id", &["1", "2"]);
    fixture.check_error_part("SELECT _seq FROM plain", ErrorCode::ColumnNotFound, "_seq");
    let one = crate::testing::parameters(vec![std::sync::Arc::new(arrow::array::Int32Array::from(vec![2]))]);
    assert_eq!(
        fixture.rows_as(&fixture.root, "SELECT title FROM plain WHERE id = $1", one),
        ["hall"]
    );
    fixture.check(
        "SELECT title, _seq > 0 FROM plain JOIN chat.notes ON notes.id = plain.id ORDER BY 1",
        &["hall|true", "kitchen|true"],
    );
}
