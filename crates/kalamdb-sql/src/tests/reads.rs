//! Queries: system columns, key ranges, metadata, types.

use crate::testing::Fixture;
use kalamdb_core::ErrorCode;

fn chat() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE NAMESPACE chat",
        "CREATE TABLE chat.rooms (id BIGINT PRIMARY KEY, name TEXT NOT NULL)",
        "CREATE TABLE chat.posts (room BIGINT, n INT, body TEXT, PRIMARY KEY (room, n))",
        "INSERT INTO chat.rooms VALUES (1, 'one'), (2, 'two'), (3, 'three')",
        "INSERT INTO chat.posts VALUES (1, 1, 'a'), (1, 2, 'b'), (2, 1, 'c'), (3, 9, NULL)",
        "USE chat",
    ]);
    fixture
}

/// SQL's three values: a NULL in a list makes a miss unknown, also beside another list over the same column.
#[test]
fn nulls_in_lists_are_not_lost() {
    let fixture = chat();
    for (filter, expected) in [
        ("id IN (1, 2) AND id NOT IN (3, NULL)", "0"),
        ("id IN (1, 2) AND id NOT IN (3)", "2"),
        ("NOT (id IN (1) AND id IN (2, NULL))", "2"),
        ("id IN (1, NULL)", "1"),
        ("id NOT IN (NULL)", "0"),
        ("(id IN (9, NULL)) IS NULL", "3"),
    ] {
        fixture.check(&format!("SELECT count(*) FROM rooms WHERE {filter}"), &[expected]);
    }
}

#[test]
fn queries_of_every_form_run() {
    let fixture = chat();
    fixture.check("SELECT 1 + 1", &["2"]);
    fixture.check("VALUES (1, 'a'), (2, 'b')", &["1|a", "2|b"]);
    fixture.check("SELECT * FROM rooms ORDER BY id", &["1|one", "2|two", "3|three"]);
    fixture.check("SELECT name FROM kalam.chat.rooms WHERE id = 2", &["two"]);
    fixture.check(
        "WITH r AS (SELECT id FROM rooms WHERE id > 1) SELECT count(*) FROM r",
        &["2"],
    );
    fixture.check(
        "SELECT r.name, count(p.n) AS posts FROM rooms r LEFT JOIN posts p ON p.room = r.id GROUP BY r.name ORDER BY posts DESC, r.name LIMIT 2",
        &["one|2", "three|1"],
    );
    fixture.check(
        "SELECT id, row_number() OVER (ORDER BY id DESC) FROM rooms ORDER BY id",
        &["1|3", "2|2", "3|1"],
    );
    fixture.check("SELECT count(*) FROM posts", &["4"]);
    fixture.check("SELECT value FROM generate_series(1, 3)", &["1", "2", "3"]);
    fixture.check(
        "SELECT id FROM rooms UNION ALL SELECT n FROM posts WHERE room = 3 ORDER BY 1",
        &["1", "2", "3", "9"],
    );
    fixture.check("SELECT CURRENT_USER", &["root"]);
    fixture.check("SELECT now() = TIMESTAMP '2024-05-01 12:00:00'", &["true"]);
}

#[test]
fn system_columns_are_there_by_name_only() {
    let fixture = chat();
    let unknown = |sql: &str, place| fixture.check_error(sql, ErrorCode::ColumnNotFound, Some(place), "_seq");
    fixture.check(
        "SELECT * FROM rooms WHERE _seq > 0 ORDER BY id",
        &["1|one", "2|two", "3|three"],
    );
    assert_eq!(fixture.rows("SELECT _seq FROM rooms").len(), 3);
    let seqs: Vec<u64> = fixture
        .rows("SELECT *, _seq FROM rooms ORDER BY id")
        .iter()
        .map(|row| row.split('|').nth(2).expect("three columns").parse().expect("a number"))
        .collect();
    assert!(seqs.is_sorted() && seqs[0] > 0, "{seqs:?}");
    fixture.check(
        "SELECT r.*, date_trunc('second', r._updated) FROM rooms r WHERE r.id = 1",
        &["1|one|2024-05-01T12:00:00Z"],
    );
    fixture.check("SELECT count(DISTINCT chat.rooms._seq) FROM chat.rooms", &["3"]);
    fixture.check("SELECT id FROM rooms ORDER BY _seq DESC", &["3", "2", "1"]);
    fixture.check("SELECT id FROM rooms r WHERE EXISTS (SELECT 1 FROM posts p WHERE p.room = r.id AND p._seq > r._seq) ORDER BY id", &["1", "2", "3"]);
    fixture.check("SELECT count(*) FROM rooms a JOIN rooms b ON a._seq = b._seq", &["3"]);
    // Wildcards stay as they are, whatever else is named.
    fixture.check(
        "SELECT *, r._seq > 0, p._seq > r._seq FROM rooms r JOIN posts p ON p.room = r.id WHERE r.id = 3",
        &["3|three|3|9|NULL|true|true"],
    );
    fixture.check(
        "SELECT p.*, r.* FROM rooms r JOIN posts p ON p.room = r.id WHERE p._seq > 0 AND r.id = 3",
        &["3|9|NULL|3|three"],
    );
    fixture.check("SELECT *, _seq > 0 FROM rooms r JOIN (SELECT room, count(*) AS c FROM posts GROUP BY room) p ON p.room = r.id WHERE id = 1", &["1|one|1|2|true"]);
    fixture.check("SELECT s.*, r._seq > 0 FROM (SELECT _seq AS s FROM rooms WHERE id = 1) s, rooms r WHERE r.id = 2 AND r._seq > s.s", &[&format!("{}|true", seqs[0])]);
    // NATURAL JOIN and USING do not see them.
    fixture.run(&[
        "CREATE TABLE chat.colors (id BIGINT PRIMARY KEY, color TEXT)",
        "INSERT INTO colors VALUES (1, 'red'), (4, 'blue')",
    ]);
    fixture.check("SELECT id, name, color FROM rooms NATURAL JOIN colors", &["1|one|red"]);
    fixture.check(
        "SELECT *, a._seq < b._seq FROM rooms a NATURAL JOIN colors b",
        &["1|one|red|true"],
    );
    fixture.check(
        "SELECT *, a._seq < b._seq FROM rooms a JOIN colors b USING (id)",
        &["1|one|red|true"],
    );
    // Nor does what reads through a subquery, a CTE or another table's name.
    unknown("SELECT _seq FROM (SELECT * FROM rooms) r", (1, 8));
    unknown("WITH r AS (SELECT * FROM rooms) SELECT _seq FROM r", (1, 40));
    unknown("WITH rooms AS (SELECT 1 AS id) SELECT _seq FROM rooms", (1, 39));
    unknown("SELECT _seq FROM system.users", (1, 8));
    fixture.check(
        "SELECT _seq > 0 FROM (SELECT *, _seq FROM rooms) r WHERE id = 1",
        &["true"],
    );
    fixture.check_error(
        "SELECT _row_key FROM rooms",
        ErrorCode::ColumnNotFound,
        Some((1, 8)),
        "_row_key",
    );
    fixture.check(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'rooms' ORDER BY ordinal_position",
        &["id", "name"],
    );
}

#[test]
fn a_scan_counts_what_it_gives() {
    let fixture = chat();
    let plan = fixture.rows("EXPLAIN ANALYZE SELECT * FROM posts").join("\n");
    let scan = plan.lines().find(|line| line.contains("keys_read=")).expect("a scan");
    assert!(scan.contains("output_batches=1"), "{scan}");
    assert!(
        scan.contains("output_bytes=") && !scan.contains("output_bytes=0.0 B"),
        "{scan}"
    );
}

#[test]
fn key_ranges_and_limits_read_only_their_keys() {
    let fixture = chat();
    let keys_read = |sql: &str| -> u64 {
        let plan = fixture.rows(&format!("EXPLAIN ANALYZE {sql}")).join("\n");
        plan.split("keys_read=")
            .skip(1)
            .map(|rest| {
                rest.split([',', ']', ' '])
                    .next()
                    .expect("a number")
                    .parse::<u64>()
                    .expect("a number")
            })
            .sum()
    };
    fixture.run(&["INSERT INTO posts SELECT 7, value::INT, 'x' FROM generate_series(1, 1000)"]);
    let check = |sql: &str, most: u64| {
        let read = keys_read(sql);
        assert!(read <= most, "{sql} read {read} keys");
    };
    check("SELECT * FROM posts WHERE room = 7 AND n = 500", 1);
    check("SELECT * FROM posts WHERE 500 = n AND room = 7 AND body = 'x'", 1);
    check("SELECT * FROM posts WHERE room = 7 AND n BETWEEN 11 AND 20", 11);
    check("SELECT * FROM posts WHERE room = 7 AND n >= 11 AND n < 21", 11);
    check("SELECT * FROM posts WHERE room < 3", 4);
    check(
        "SELECT * FROM posts WHERE room = 7 AND n IN (3, 500, 7, 3, 2000, 900, NULL)",
        5,
    );
    check("SELECT * FROM posts WHERE room IN (1, 2)", 5);
    check(
        "SELECT * FROM posts WHERE room = 7 AND n IN (3, 500, 7, 900, 901) LIMIT 2",
        2,
    );
    check("SELECT * FROM posts LIMIT 5", 6);
    check("SELECT * FROM posts WHERE room = 7 LIMIT 5", 6);
    fixture.check(
        "SELECT count(*) FROM posts WHERE room = 7 AND n BETWEEN 11 AND 20",
        &["10"],
    );
    fixture.check(
        "SELECT count(*) FROM posts WHERE room = 7 AND n > 990 AND n > 995",
        &["5"],
    );
    fixture.check("SELECT count(*) FROM posts WHERE room = 1 AND room = 7", &["0"]);
    fixture.check("SELECT count(*) FROM posts WHERE room = 7 AND n = NULL", &["0"]);
    fixture.check(
        "SELECT n FROM posts WHERE room = 7 AND n IN (900, 3, 500, 3, 2000, 7, NULL) ORDER BY n",
        &["3", "7", "500", "900"],
    );
    fixture.check(
        "SELECT count(*) FROM posts WHERE room IN (1, 2, 9) AND n IN (1, 2, 3, 4)",
        &["3"],
    );
    fixture.check("SELECT count(*) FROM posts WHERE room NOT IN (7)", &["4"]);
    fixture.check("SELECT count(*) FROM posts WHERE room = 7.0 AND n < 3.5", &["3"]);
    fixture.check(
        "SELECT count(*) FROM (SELECT * FROM posts WHERE room > 1) p WHERE room = 7 AND n > 998",
        &["2"],
    );
    fixture.check(
        "SELECT count(*) FROM (SELECT * FROM posts WHERE n > 500) p JOIN rooms r ON r.id = p.room",
        &["0"],
    );
    let plan = fixture
        .rows("EXPLAIN SELECT body FROM posts WHERE room = 7 AND n > 3 LIMIT 2")
        .join("\n");
    assert!(
        plan.contains("key=[room =, n in a range]") && plan.contains("limit=2"),
        "{plan}"
    );
    assert!(plan.contains("columns=[body]"), "{plan}");
}

#[test]
fn results_are_of_plain_types() {
    let fixture = chat();
    let describe = |sql: &str| {
        fixture
            .block_on(fixture.database.describe(&fixture.root, sql))
            .expect(sql)
    };
    for sql in [
        "SELECT id, name, upper(name), substr(name, 2), split_part(name, 'o', 1), concat(name, 'x') FROM rooms",
        "SELECT arrow_cast(name, 'Utf8View'), arrow_cast(name, 'Dictionary(Int32, Utf8)') FROM rooms",
        "SELECT array_agg(name), struct(id, name) FROM rooms GROUP BY id, name",
        "EXPLAIN SELECT * FROM rooms",
        "SHOW TABLES",
    ] {
        let result = describe(sql).result;
        for field in result.fields() {
            let shown = field.data_type().to_string();
            assert!(
                ["View", "Dictionary", "LargeUtf8"]
                    .iter()
                    .all(|other| !shown.contains(other)),
                "{sql}: {shown}"
            );
        }
        let execution = fixture
            .block_on(fixture.database.execute(&fixture.root, sql, crate::Parameters::none()))
            .expect(sql);
        let crate::Execution::Rows(stream) = execution else {
            panic!("{sql}")
        };
        assert_eq!(stream.schema(), result, "{sql}");
        fixture.block_on(crate::testing::collect(stream)).expect(sql);
    }
    let description = describe("SELECT r.id, p.n + 1, body FROM rooms r JOIN posts p ON p.room = r.id");
    let origins: Vec<Option<String>> = description
        .origins
        .iter()
        .map(|name| name.as_ref().map(ToString::to_string))
        .collect();
    assert_eq!(
        origins,
        [Some("chat.rooms".to_owned()), None, Some("chat.posts".to_owned())]
    );
}

#[test]
fn nothing_reaches_the_host() {
    let fixture = chat();
    for (sql, code) in [
        ("SELECT * FROM '/etc/passwd'", ErrorCode::TableNotFound),
        ("SELECT * FROM \"/etc/passwd\"", ErrorCode::TableNotFound),
        ("SELECT * FROM \"file:///etc/passwd\"", ErrorCode::TableNotFound),
        ("SELECT * FROM information_schema.df_settings", ErrorCode::TableNotFound),
        ("SELECT * FROM read_csv('/etc/passwd')", ErrorCode::NotFound),
        ("SELECT * FROM \"\u{1}mutation\".chat.rooms", ErrorCode::TableNotFound),
        ("SELECT * FROM other.chat.rooms", ErrorCode::TableNotFound),
    ] {
        let error = fixture
            .execute_as(&fixture.root, sql, crate::Parameters::none())
            .expect_err(sql);
        assert_eq!(error.code, code, "{sql}: {error}");
    }
}

#[test]
fn everyone_reads_their_own_rows_with_the_same_text() {
    let fixture = chat();
    fixture.run(&[
        "CREATE USER TABLE chat.notes (id INT PRIMARY KEY, body TEXT)",
        "CREATE TABLE chat.secrets (id INT PRIMARY KEY)",
        "CREATE USER 'ann' ROLE user",
        "CREATE USER 'bob' ROLE user",
    ]);
    let (ann, bob) = (fixture.session("ann"), fixture.session("bob"));
    let none = crate::Parameters::none;
    for (session, body) in [(&ann, "of ann"), (&bob, "of bob")] {
        fixture
            .execute_as(session, &format!("INSERT INTO chat.notes VALUES (1, '{body}')"), none())
            .expect("own rows");
    }
    let all = "SELECT id, body FROM chat.notes";
    assert_eq!(fixture.rows_as(&ann, all, none()), ["1|of ann"]);
    assert_eq!(fixture.rows_as(&bob, all, none()), ["1|of bob"]);
    fixture.check(all, &[]);
    fixture.check_error_as(
        &ann,
        "SELECT * FROM chat.secrets",
        none(),
        ErrorCode::TableNotFound,
        Some((1, 15)),
        "chat.secrets",
    );
    fixture.check_error_as(
        &ann,
        "SELECT * FROM chat.secret",
        none(),
        ErrorCode::TableNotFound,
        Some((1, 15)),
        "does not exist",
    );
    let hint = fixture
        .execute_as(&ann, "SELECT * FROM chat.secret", none())
        .expect_err("not there");
    assert!(!hint.message.contains("secrets"), "{hint}");
    let seen = fixture.rows_as(
        &ann,
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'chat'",
        none(),
    );
    assert_eq!(seen, ["notes"]);
    fixture.run(&["DROP USER 'ann'"]);
    fixture.check_error_as(&ann, all, none(), ErrorCode::Unauthenticated, None, "ann");
}
