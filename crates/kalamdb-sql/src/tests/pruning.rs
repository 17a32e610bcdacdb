//! What queries read, by the counters that EXPLAIN ANALYZE shows, and that they answer the same however little that is.

use std::sync::Arc;

use crate::parameters::Parameters;
use crate::session::Session;
use crate::testing::Fixture;

/// What the scans of a query looked at, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Looked {
    keys_read: u64,
    segments_read: u64,
    row_groups_pruned: u64,
    pages_pruned: u64,
}

fn looked(keys_read: u64, segments_read: u64, row_groups_pruned: u64, pages_pruned: u64) -> Looked {
    Looked {
        keys_read,
        segments_read,
        row_groups_pruned,
        pages_pruned,
    }
}

fn analyzed(fixture: &Fixture, session: &Arc<Session>, sql: &str) -> Looked {
    let plan = fixture.rows_as(session, &format!("EXPLAIN ANALYZE {sql}"), Parameters::none());
    let plan = plan.join("\n");
    let sum = |name: &str| -> u64 {
        let name = format!("{name}=");
        let counts = plan.split(&name).skip(1);
        counts.map(|rest| count(rest.split([',', ']']).next())).sum()
    };
    looked(
        sum("keys_read"),
        sum("segments_read"),
        sum("row_groups_pruned"),
        sum("pages_pruned"),
    )
}

/// `7`, or as DataFusion shortens it: `1.02 K`.
fn count(text: Option<&str>) -> u64 {
    let text = text.expect("a count").trim();
    let (number, factor) = match text.split_once(' ') {
        None => (text, 1.0),
        Some((number, "K")) => (number, 1e3),
        Some((number, "M")) => (number, 1e6),
        Some(_) => panic!("no count: {text}"),
    };
    (number.parse::<f64>().expect(text) * factor).round() as u64
}

#[test]
fn a_query_reads_only_what_it_needs_of_segments() {
    let fixture = Fixture::new();
    // A segment of two row groups (131,072 rows each at most), one of one, and three hot rows; pages have 2,048 rows.
    fixture.run(&[
        "CREATE TABLE events (id BIGINT PRIMARY KEY, kind INT NOT NULL, body TEXT)",
        "INSERT INTO events SELECT value, value / 1000, 'body' FROM generate_series(1, 150000)",
        "INSERT INTO events SELECT value, value / 1000, NULL FROM generate_series(150001, 200000)",
        "FLUSH TABLE events",
        "INSERT INTO events VALUES (200001, 200, 'hot'), (200002, 200, 'hot'), (200003, 200, 'hot')",
    ]);
    fixture.check("SELECT count(*) FROM system.segments", &["2"]);
    let check = |sql: &str, expected: Looked| {
        assert_eq!(analyzed(&fixture, &fixture.root, sql), expected, "{sql}");
    };
    // By key.
    check("SELECT * FROM events WHERE id = 130000", looked(1, 1, 0, 0));
    check("SELECT * FROM events WHERE id = 200002", looked(1, 0, 0, 0));
    check("SELECT * FROM events WHERE id = 300000", looked(1, 0, 0, 0));
    check(
        "SELECT * FROM events WHERE id IN (5, 130000, 149999)",
        looked(3, 1, 0, 0),
    );
    check(
        "SELECT * FROM events WHERE id IN (5, 160000, 200001)",
        looked(3, 2, 0, 0),
    );
    check(
        "SELECT * FROM events WHERE id BETWEEN 100001 AND 100100",
        looked(100, 1, 0, 0),
    );
    check(
        "SELECT * FROM events WHERE id > 149990 AND id <= 150010",
        looked(20, 2, 0, 0),
    );
    // By the bounds of another column: row groups, then pages of those that are left. Hot rows have no bounds.
    let by_kind = analyzed(&fixture, &fixture.root, "SELECT * FROM events WHERE kind = 100");
    assert_eq!(
        (by_kind.segments_read, by_kind.row_groups_pruned),
        (1, 2),
        "{by_kind:?}"
    );
    assert!(by_kind.keys_read <= 2 * 2048 + 10, "{by_kind:?}");
    assert!(by_kind.pages_pruned >= 64 - 2, "{by_kind:?}");
    check("SELECT * FROM events WHERE kind > 1000", looked(3, 0, 3, 0));
    check(
        "SELECT * FROM events WHERE body IS NULL AND kind < 150",
        looked(3, 0, 3, 0),
    );
    fixture.check(
        "SELECT count(*), min(kind), max(id) FROM events WHERE kind = 100",
        &["1000|100|100999"],
    );
    // A segment counts once, however many scans of a statement read it.
    for (sql, segments) in [
        (
            "SELECT count(*) FROM events a JOIN events b ON a.id + 1 = b.id WHERE a.id < 10 AND b.id < 10",
            1,
        ),
        (
            "SELECT id FROM events WHERE id = 7 UNION ALL SELECT id FROM events WHERE id BETWEEN 8 AND 9",
            1,
        ),
        (
            "SELECT id FROM events WHERE id = 7 UNION ALL SELECT id FROM events WHERE id BETWEEN 149999 AND 150001",
            2,
        ),
    ] {
        let looked = analyzed(&fixture, &fixture.root, sql);
        assert_eq!(looked.segments_read, segments, "{sql}: {looked:?}");
    }
    // Up to a limit.
    check("SELECT * FROM events LIMIT 5", looked(5, 1, 0, 0));
    check("SELECT * FROM events WHERE id > 50000 LIMIT 5", looked(5, 1, 0, 0));
    // A count looks at no row of a segment.
    check("SELECT count(*) FROM events", looked(3, 2, 0, 0));
    fixture.check("SELECT count(*) FROM events", &["200003"]);
    check("SELECT count(*) FROM events WHERE id <= 130000", looked(0, 1, 0, 0));
    // The ends of the key.
    check("SELECT min(id) FROM events", looked(1, 1, 0, 0));
    check("SELECT min(id), max(id) FROM events", looked(2, 1, 0, 0));
    check(
        "SELECT max(k) - min(k) FROM (SELECT id AS k FROM events)",
        looked(2, 1, 0, 0),
    );
    check("SELECT max(id) FROM events WHERE id < 1000", looked(1, 1, 0, 0));
    fixture.check("SELECT min(id), max(id) FROM events", &["1|200003"]);
    fixture.check("SELECT max(id) FROM events WHERE id < 1000", &["999"]);
    // In key order.
    check("SELECT * FROM events ORDER BY id LIMIT 10", looked(10, 1, 0, 0));
    check(
        "SELECT * FROM events ORDER BY id LIMIT 10 OFFSET 5",
        looked(15, 1, 0, 0),
    );
    check("SELECT body FROM events ORDER BY id DESC LIMIT 10", looked(10, 1, 0, 0));
    check(
        "SELECT body AS text, id FROM events ORDER BY id DESC LIMIT 5",
        looked(5, 1, 0, 0),
    );
    check(
        "SELECT * FROM events WHERE id > 149998 ORDER BY id LIMIT 3",
        looked(3, 2, 0, 0),
    );
    fixture.check(
        "SELECT id + 1, upper(body) FROM events ORDER BY id DESC LIMIT 1",
        &["200004|HOT"],
    );
    fixture.check(
        "SELECT id, kind FROM events ORDER BY id DESC LIMIT 4",
        &["200003|200", "200002|200", "200001|200", "200000|200"],
    );
    fixture.check(
        "SELECT id FROM events ORDER BY id LIMIT 2 OFFSET 149999",
        &["150000", "150001"],
    );
    for sorted in [
        "SELECT id, body FROM events ORDER BY id",
        "SELECT id, body FROM events ORDER BY id DESC, kind",
        "SELECT id, row_number() OVER (ORDER BY id) FROM events",
    ] {
        let plan = fixture.rows(&format!("EXPLAIN {sorted}")).join("\n");
        assert!(
            plan.contains("order=key") && !plan.contains("SortExec"),
            "{sorted}:\n{plan}"
        );
    }
    let unordered = fixture.rows("EXPLAIN SELECT id, body FROM events").join("\n");
    assert!(!unordered.contains("order="), "{unordered}");
}

#[test]
fn a_table_that_is_read_in_two_parts_is_ordered_in_one() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE big (id BIGINT PRIMARY KEY)",
        "INSERT INTO big SELECT 2 * value FROM generate_series(1, 270000)",
        "INSERT INTO big SELECT 2 * value + 1 FROM generate_series(1, 70000)",
        "INSERT INTO big VALUES (1), (-5), (540001)",
    ]);
    let plan = fixture.rows("EXPLAIN SELECT count(id), avg(id) FROM big").join("\n");
    assert!(plan.contains("mode=Partial"), "{plan}");
    let in_order = "SELECT id, lag(id) OVER (ORDER BY id) AS p FROM big";
    fixture.check(
        &format!("SELECT count(*), count(p), sum(CAST(id > p AS INT)) FROM ({in_order})"),
        &["340003|340002|340002"],
    );
    let plan = fixture.rows(&format!("EXPLAIN {in_order}")).join("\n");
    assert!(plan.contains("order=key") && !plan.contains("SortExec"), "{plan}");
    fixture.check("SELECT count(*) FROM system.segments", &["2"]);
    // Each part reads some of both segments.
    let looked = analyzed(&fixture, &fixture.root, "SELECT count(id), avg(id) FROM big");
    assert_eq!(looked.segments_read, 2, "{looked:?}");
    for (sql, most, expected) in [
        ("SELECT id FROM big ORDER BY id LIMIT 3", 7, &["-5", "1", "2"]),
        (
            "SELECT id FROM big ORDER BY id DESC LIMIT 3",
            7,
            &["540001", "540000", "539998"],
        ),
    ] {
        fixture.check(sql, expected);
        let looked = analyzed(&fixture, &fixture.root, sql);
        assert!(looked.keys_read <= most, "{sql}: {looked:?}");
    }
    fixture.check("SELECT min(id), max(id) FROM big", &["-5|540001"]);
}

#[test]
fn a_user_reads_and_counts_no_row_of_another() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE USER TABLE notes (id BIGINT PRIMARY KEY, kind INT, body TEXT)",
        "CREATE USER 'ann' ROLE dba",
        "CREATE USER 'bob' ROLE dba",
        "CREATE USER 'eve' ROLE dba",
    ]);
    let sessions = ["ann", "bob", "eve"].map(|name| fixture.session(name));
    let run = |session: &Arc<Session>, sql: &str| {
        if let Err(error) = fixture.execute_as(session, sql, Parameters::none()) {
            panic!("{sql}: {error}");
        }
    };
    let queries = [
        "SELECT * FROM notes",
        "SELECT count(*) FROM notes",
        "SELECT min(id), max(id) FROM notes",
        "SELECT * FROM notes ORDER BY id DESC LIMIT 3",
        "SELECT * FROM notes WHERE kind < 0",
        "SELECT * FROM notes WHERE kind = 77",
        "SELECT * FROM notes WHERE kind > 1000000",
        "SELECT * FROM notes LIMIT 4",
    ];
    run(
        &sessions[1],
        "INSERT INTO notes SELECT value, 77, 'of bob' FROM generate_series(1, 900)",
    );
    fixture.run(&["FLUSH TABLE notes"]);
    let alone = queries.map(|sql| analyzed(&fixture, &sessions[1], sql));
    assert_eq!(
        alone.map(|looked| looked.keys_read),
        [900, 0, 2, 3, 0, 900, 0, 4],
        "{queries:?}"
    );
    assert_eq!(fixture.rows_as(&sessions[1], queries[2], Parameters::none()), ["1|900"]);
    // The same rows beside those of others, with smaller and larger keys and values in the same pages.
    for (session, from) in [(&sessions[0], -5000), (&sessions[2], 500)] {
        run(
            session,
            &format!("INSERT INTO notes SELECT value + {from}, value - 1000, 'other' FROM generate_series(1, 2000) "),
        );
    }
    fixture.run(&["FLUSH TABLE notes", "STORAGE COMPACT TABLE notes"]);
    fixture.check("SELECT count(*) FROM system.segments", &["1"]);
    for (sql, alone) in queries.iter().zip(alone) {
        let beside = analyzed(&fixture, &sessions[1], sql);
        let filtered = sql.contains("kind <") || sql.contains("kind >");
        // Bounds of pages that are shared are not asked.
        let expected = if filtered { 900 } else { alone.keys_read };
        assert_eq!(beside.keys_read, expected, "{sql}");
        assert!(beside.segments_read <= 1, "{sql}: {beside:?}");
    }
    assert_eq!(fixture.rows_as(&sessions[1], queries[2], Parameters::none()), ["1|900"]);
    assert_eq!(
        fixture.rows_as(&sessions[0], queries[2], Parameters::none()),
        ["-4999|-3000"]
    );
    fixture.check(queries[2], &["NULL|NULL"]);
}

/// Whoever may not know how much others have is shown the same whatever that is, predicates included.
#[test]
fn what_a_user_is_shown_of_a_scan_depends_on_their_own_rows() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE USER 'vic' ROLE user",
        "CREATE USER 'zed' ROLE user",
        "CREATE USER 'dan' ROLE dba",
    ]);
    let [vic, zed, dan] = ["vic", "zed", "dan"].map(|name| fixture.session(name));
    let run = |session: &Arc<Session>, sql: &str| {
        if let Err(error) = fixture.execute_as(session, sql, Parameters::none()) {
            panic!("{sql}: {error}");
        }
    };
    let analyzed = |session: &Arc<Session>, sql: &str| {
        let plan = fixture.rows_as(session, &format!("EXPLAIN ANALYZE {sql}"), Parameters::none());
        let plan = plan.join("\n");
        let timeless = |part: &str| match part.split_once('=') {
            Some((name, value))
                if value.starts_with(|first: char| first.is_ascii_digit())
                    && value.trim_end_matches([',', ']']).ends_with('s') =>
            {
                format!("{name}=a time,")
            }
            Some(_) | None => part.to_owned(),
        };
        plan.split_inclusive([',', '[', ']']).map(timeless).collect::<String>()
    };
    for (of_vic, number) in [(3, 0), (20_000, 1)] {
        let tables = [format!("beside{number}"), format!("single{number}")];
        for (role, reader) in [("user", &zed), ("dba", &dan)] {
            for (table, beside) in tables.iter().zip([true, false]) {
                let table = format!("{table}_{role}");
                fixture.run(&[&format!(
                    "CREATE USER TABLE {table} (id BIGINT PRIMARY KEY, v TEXT, amount INT)"
                )]);
                if beside {
                    let rows = format!("SELECT value, 'bbb', 100 FROM generate_series(1, {of_vic})");
                    run(&vic, &format!("INSERT INTO {table} {rows}"));
                }
                run(
                    reader,
                    &format!("INSERT INTO {table} VALUES (1, 'aaa', 1), (2, 'aaa', 1), (7, 'aaa', 1)"),
                );
                fixture.run(&[&format!("FLUSH TABLE {table}")]);
            }
            let mut differs = false;
            for query in [
                "SELECT * FROM {t} WHERE amount > 50",
                "SELECT count(*) FROM {t} WHERE v = 'bbb'",
                "SELECT * FROM {t} WHERE id > 1 AND amount > 50",
                "SELECT * FROM {t} WHERE id = 3",
                "SELECT * FROM {t} WHERE amount < 50 ORDER BY id LIMIT 2",
            ] {
                let [beside, single] = [0, 1].map(|which| {
                    let table = format!("{}_{role}", tables[which]);
                    analyzed(reader, &query.replace("{t}", &table)).replace(&table, "t")
                });
                if role == "user" {
                    assert_eq!(beside, single, "{query}");
                    assert!(!beside.contains("segments_read"), "{beside}");
                    assert!(beside.contains("keys_read"), "{beside}");
                }
                differs |= beside != single;
            }
            assert_eq!(differs, role == "dba", "the control");
        }
    }
}

/// Asks for the ends and the order of the key twice: by queries that need not read and sort everything, and by ones that have to.
fn check_key(fixture: &Fixture, table: &str) {
    let explained = |sql: &str| fixture.rows(&format!("EXPLAIN {sql}")).join("\n");
    let check = |select: &str, rest: &str| {
        let narrow = format!("SELECT {select} FROM {table} {rest}");
        let filtered = format!("SELECT {select} FROM {table} WHERE v <> -1 {rest}");
        // An order does not pass the limit.
        let wide = format!("SELECT {select} FROM (SELECT * FROM {table} LIMIT 1000000) {rest}");
        let expected = fixture.rows(&wide);
        assert_eq!(fixture.rows(&narrow), expected, "{narrow}");
        assert_eq!(fixture.rows(&filtered), expected, "{filtered}");
        assert!(explained(&narrow).contains("order=key"), "{narrow}");
        assert!(!explained(&wide).contains("order=key"), "{wide}");
        // Without a limit, what a filter leaves is sorted.
        let is_ordered = explained(&filtered).contains("order=key");
        assert_eq!(
            is_ordered,
            !rest.contains("ORDER BY") || rest.contains("LIMIT"),
            "{filtered}"
        );
    };
    for ends in ["min(k)", "max(k)", "min(k), max(k), min(k) AS again"] {
        check(ends, "");
    }
    for order in ["", " DESC", " LIMIT 2", " DESC LIMIT 3", " DESC LIMIT 2 OFFSET 2"] {
        check("*", &format!("ORDER BY k{order}"));
    }
}

#[test]
fn ends_and_order_of_keys_of_every_type() {
    let fixture = Fixture::new();
    for (number, (data_type, values)) in [
        ("BOOLEAN", ["true", "false"].as_slice()),
        ("SMALLINT", &["-300", "0", "7", "256", "-1"]),
        ("BIGINT", &["-9000000000", "255", "-256", "9000000000"]),
        ("TEXT", &["'b'", "''", "'ba'", "'B'", "'é'", "'a'", "'日'"]),
        ("BYTEA", &["'\\x00'", "'\\x'", "'\\x0001'", "'\\xff'"]),
        ("DATE", &["DATE '1969-12-31'", "DATE '2024-02-29'", "DATE '0001-01-01'"]),
        (
            "TIMESTAMP",
            &[
                "TIMESTAMP '1969-12-31 23:59:59'",
                "TIMESTAMP '2024-02-29 00:00:00.000001'",
            ],
        ),
        (
            "TIMESTAMP WITH TIME ZONE",
            &[
                "TIMESTAMP WITH TIME ZONE '2024-01-01 00:00:00Z'",
                "TIMESTAMP WITH TIME ZONE '1901-01-01 00:00:00Z'",
            ],
        ),
        ("TIME", &["TIME '23:59:59'", "TIME '00:00:00'", "TIME '12:00:00'"]),
        ("NUMERIC(12, 2)", &["-1.50", "0.01", "123456.78", "-0.01"]),
        ("NUMERIC(38, 0)", &["-1", "99999999999999999999", "5"]),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("t{number}");
        fixture.run(&[&format!(
            "CREATE TABLE {table} (k {data_type} PRIMARY KEY, v INT NOT NULL DEFAULT 1)"
        )]);
        for (at, value) in values.iter().enumerate() {
            fixture.run(&[&format!("INSERT INTO {table} (k) VALUES ({value})")]);
            if at == values.len() / 2 {
                check_key(&fixture, &table);
                fixture.run(&[&format!("FLUSH TABLE {table}")]);
            }
        }
        check_key(&fixture, &table);
        fixture.run(&[&format!("FLUSH TABLE {table}")]);
        check_key(&fixture, &table);
    }
}

#[test]
fn ends_and_order_of_a_key_whose_rows_come_and_go() {
    let fixture = Fixture::new();
    fixture.run(&["CREATE TABLE t (k INT PRIMARY KEY, v INT)"]);
    fixture.check("SELECT min(k), max(k) FROM t", &["NULL|NULL"]);
    for change in [
        "INSERT INTO t SELECT value, 1 FROM generate_series(10, 40)",
        "FLUSH TABLE t",
        "DELETE FROM t WHERE k IN (10, 11, 40, 25)",
        "INSERT INTO t VALUES (5, 2), (25, 2), (50, 2)",
        "FLUSH TABLE t",
        "UPDATE t SET k = k + 100 WHERE k < 8",
        "INSERT INTO t VALUES (11, 3), (60, 3)",
        "DELETE FROM t WHERE k > 100",
        "FLUSH TABLE t",
        "UPDATE t SET v = v + 1 WHERE k % 7 = 3",
        "STORAGE COMPACT TABLE t",
        "DELETE FROM t WHERE k < 30",
        "TRUNCATE TABLE t",
        "INSERT INTO t VALUES (1, 1)",
    ] {
        fixture.run(&[change]);
        check_key(&fixture, "t");
    }
}

#[test]
fn a_key_of_several_columns_is_an_order_by_them() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE posts (room INT, n INT, body TEXT, PRIMARY KEY (room, n))",
        "INSERT INTO posts SELECT value % 10, value, 'x' FROM generate_series(1, 2000)",
        "FLUSH TABLE posts",
        "INSERT INTO posts SELECT value % 10, value, 'y' FROM generate_series(2001, 2100)",
    ]);
    let check = |sql: &str, most: u64, expected: &[&str]| {
        fixture.check(sql, expected);
        let looked = analyzed(&fixture, &fixture.root, sql);
        assert!(looked.keys_read <= most, "{sql}: {looked:?}");
    };
    check("SELECT min(n), max(n) FROM posts WHERE room = 7", 4, &["7|2097"]);
    check("SELECT min(room), max(room) FROM posts WHERE room = 7", 4, &["7|7"]);
    check("SELECT min(room), max(room) FROM posts", 4, &["0|9"]);
    check("SELECT max(n) FROM posts WHERE room = 7 AND n < 100", 1, &["97"]);
    check(
        "SELECT n FROM posts WHERE room = 7 ORDER BY n DESC LIMIT 2",
        4,
        &["2097", "2087"],
    );
    check(
        "SELECT n FROM posts WHERE room = 7 ORDER BY room, n LIMIT 2",
        4,
        &["7", "17"],
    );
    check("SELECT n FROM posts ORDER BY room DESC, n DESC LIMIT 1", 2, &["2099"]);
    check(
        "SELECT body FROM posts WHERE room = 3 AND n = 13 ORDER BY body",
        1,
        &["x"],
    );
    // These are no order of the key.
    let all = 2_100;
    check("SELECT min(n), max(n) FROM posts", all, &["1|2100"]);
    check(
        "SELECT room, n FROM posts ORDER BY room, n DESC LIMIT 1",
        all,
        &["0|2100"],
    );
    check("SELECT n FROM posts ORDER BY n LIMIT 2", all, &["1", "2"]);
    check("SELECT min(n) FROM posts WHERE room IN (3, 2)", 2 * 210, &["2"]);
    check(
        "SELECT room, n FROM posts WHERE room IN (3, 2) ORDER BY n LIMIT 1",
        2 * 210,
        &["2|2"],
    );
    // Ranges of keys that are listed are read in their order, and no more of them than is needed.
    check(
        "SELECT room, n FROM posts WHERE room IN (3, 2) ORDER BY room, n LIMIT 1",
        2,
        &["2|2"],
    );
    check(
        "SELECT room, n FROM posts WHERE room IN (7, 3, 9, 5) ORDER BY room DESC, n DESC LIMIT 2",
        4,
        &["9|2099", "9|2089"],
    );
    check(
        "SELECT room, n FROM posts WHERE room IN (7, 3) AND n > 2090 ORDER BY room, n LIMIT 3",
        4,
        &["3|2093", "7|2097"],
    );
    check(
        "SELECT room, n FROM posts WHERE room = 4 AND n IN (94, 14, 2094, 15, 14) ORDER BY n DESC LIMIT 2",
        3,
        &["4|2094", "4|94"],
    );
    check(
        "SELECT room, n FROM posts WHERE room IN (4, 3, 2) AND n = 13 ORDER BY room, n LIMIT 1",
        2,
        &["3|13"],
    );
    check(
        "SELECT room, n FROM posts WHERE (room = 8 OR room = 1) ORDER BY room OFFSET 209 LIMIT 3",
        240,
        &["1|2091", "8|8", "8|18"],
    );
    check(
        "SELECT min(room), max(room) FROM posts WHERE room IN (8, 11, 3, -1)",
        8,
        &["3|8"],
    );
    check(
        "SELECT room, n FROM posts WHERE room IN (3, 2, 6) AND body = 'y' ORDER BY room, n LIMIT 1",
        230,
        &["2|2002"],
    );
    check("SELECT min(n) FROM posts WHERE room = 3 AND body = 'y'", 210, &["2003"]);
    check("SELECT min(room), count(*) FROM posts", all, &["0|2100"]);
    check("SELECT min(room) FILTER (WHERE n > 2000) FROM posts", all, &["0"]);
    check(
        "SELECT count(*) FROM (SELECT * FROM posts LIMIT 5) ORDER BY 1",
        5,
        &["5"],
    );
    check(
        "SELECT max(room) IS NULL FROM (SELECT room FROM posts LIMIT 0)",
        0,
        &["true"],
    );
    fixture.check(
        "SELECT room, min(n) FROM posts GROUP BY room ORDER BY room LIMIT 2",
        &["0|10", "1|1"],
    );
}

/// Rows of several kinds: two segments whose keys are mixed, with dead rows, and hot rows among them.
fn mixed_rows(fixture: &Fixture, table: &str, create: &str) {
    fixture.run(&[
        &format!("CREATE {create} {table} (a INT, b BIGINT, d INT, v TEXT, PRIMARY KEY (a, b))"),
        &format!(
            "INSERT INTO {table} SELECT value / 100, value % 100, value % 10, 'x' FROM generate_series(0, 29999) \
             WHERE value % 3 <> 0"
        ),
        &format!("FLUSH TABLE {table}"),
        &format!(
            "INSERT INTO {table} SELECT value / 100, value % 100, value % 10, NULL FROM generate_series(0, 29999) \
             WHERE value % 6 = 0"
        ),
        &format!("FLUSH TABLE {table}"),
        &format!("DELETE FROM {table} WHERE b BETWEEN 40 AND 49"),
        &format!(
            "INSERT INTO {table} SELECT value / 100, value % 100, value % 10, 'hot' FROM generate_series(0, 29999) \
             WHERE value % 300 = 3"
        ),
    ]);
    fixture.check(&format!("SELECT count(*) > 20000 FROM {table}"), &["true"]);
}

/// What comes in key order through filters is what a sort would give, and little is read for it.
#[test]
fn an_order_by_key_with_a_limit_passes_filters() {
    let fixture = Fixture::new();
    mixed_rows(&fixture, "p", "TABLE");
    // An order does not pass the limit.
    let everything = "(SELECT * FROM p LIMIT 1000000)";
    let mut found = 0;
    for (filter, most) in [
        ("d >= 0", 600),
        ("d % 2 = 0", 600),
        ("a >= 50 AND d >= 0", 600),
        ("(a, b) > (50, 98)", 60),
        ("(a, b) >= (50, 98) AND d < 8", 600),
        ("(a, b) < (50, 2)", 60),
        ("(a, b) <= (50, 40) AND (a, b) > (49, 97)", 90),
        ("(a, b) BETWEEN (3, 97) AND (4, 2) AND a >= 2", 20),
        ("a = 70 AND b > 30 AND d <> 4", 110),
        ("a = 70 AND d >= 0 AND v IS NULL", 110),
        ("v = 'hot'", 30_000),
        ("v IS NULL AND a > 3", 3_000),
        ("b > 97", 3_000),
        ("d > 100", 30_000),
        ("a = 1 AND a = 2", 0),
        ("(a, b) > (1, NULL)", 30_000),
        ("a IN (7, 3) AND (a, b) > (3, 50)", 200),
        ("a IN (71, 7, 250, 3, 300) AND d >= 0", 110),
        ("a IN (7, 3) AND b IN (3, 2, 1, 66)", 200),
    ] {
        for (order, is_of_key) in [
            ("a, b", true),
            ("a DESC, b DESC", true),
            ("a, b, d DESC, v", true),
            ("a NULLS FIRST, b NULLS FIRST", true),
            ("a, b DESC", false),
            ("b, a", false),
        ] {
            for limit in ["LIMIT 1", "LIMIT 7", "LIMIT 5 OFFSET 3", "LIMIT 0", "LIMIT 100000"] {
                let rest = format!("WHERE {filter} ORDER BY {order} {limit}");
                let narrow = format!("SELECT d, b, a FROM p {rest}");
                let expected = fixture.rows(&format!("SELECT d, b, a FROM {everything} {rest}"));
                assert_eq!(fixture.rows(&narrow), expected, "{narrow}");
                found += expected.len();
                let is_short = limit != "LIMIT 100000";
                if is_of_key && is_short {
                    let looked = analyzed(&fixture, &fixture.root, &narrow);
                    assert!(looked.keys_read <= most, "{narrow}: {looked:?}");
                }
            }
        }
        for edges in ["min(a)", "max(a)", "max(a), min(a)", "min(a) + 1"] {
            let narrow = format!("SELECT {edges} FROM p WHERE {filter}");
            fixture.check(
                &narrow,
                &[&fixture.rows(&format!("SELECT {edges} FROM {everything} WHERE {filter}"))[0]],
            );
            let looked = analyzed(&fixture, &fixture.root, &narrow);
            assert!(looked.keys_read <= 2 * most, "{narrow}: {looked:?}");
        }
    }
    assert!(found > 100_000, "{found}");
    // Ties of what is no whole key, and windows, subqueries and expressions above.
    fixture.check("SELECT a FROM p WHERE d = 1 ORDER BY a LIMIT 3", &["0", "0", "0"]);
    fixture.check(
        "SELECT a + 1, n FROM (SELECT a, b, row_number() OVER (ORDER BY a, b) AS n FROM p WHERE d = 1) ORDER BY n LIMIT 2",
        &["1|1", "1|2"],
    );
    fixture.check(
        "SELECT count(*), max(b) FROM (SELECT * FROM p WHERE d >= 0 ORDER BY a DESC, b DESC LIMIT 10)",
        &["10|99"],
    );
    // A limit below the filter is not one above it.
    fixture.check(
        "SELECT a, b FROM (SELECT * FROM p WHERE d >= 0 LIMIT 0) WHERE b > 3 ORDER BY a, b LIMIT 2",
        &[],
    );
}

#[test]
fn a_filter_on_key_columns_stands_once() {
    let fixture = Fixture::new();
    fixture.run(&["CREATE TABLE p (a INT, b BIGINT, c TEXT, d INT, PRIMARY KEY (a, b, c))"]);
    for (filter, filters, key) in [
        ("(a, b) > (500, 98)", 0, "key=[(a, b) in a range]"),
        ("(a, b, c) >= (500, 98, 'k')", 0, "key=[(a, b, c) in a range]"),
        ("a = 5 AND (b, c) < (98, 'k')", 0, "key=[a =, (b, c) in a range]"),
        (
            "a IN (1, 2) AND (b, c) < (98, 'k')",
            0,
            "key=[a =, (b, c) in a range, 2 ranges]",
        ),
        (
            "(a, b) > (1, 2) AND (a, b, c) <= (7, 3, 'z') AND a > 0",
            0,
            "key=[(a, b, c) in a range]",
        ),
        (
            "a > 5 OR (a = 5 AND b > 3) OR (a = 5 AND b = 3 AND c >= 'x')",
            0,
            "key=[(a, b, c) in a range]",
        ),
        ("(3 < b AND 5 = a) OR 5 < a", 0, "key=[(a, b) in a range]"),
        ("a >= 1 AND a > 7 AND a < 9", 0, "key=[a in a range]"),
        // These are no bounds of the key.
        ("a > 5 OR (a = 6 AND b > 3)", 1, "key=[all]"),
        ("a > 5 OR (a = 5 AND b < 3)", 1, "key=[all]"),
        ("a >= 5 OR (a = 5 AND b > 3)", 1, "key=[all]"),
        ("a > 5 OR b > 3", 1, "key=[all]"),
        ("a > 5 OR (a = 5 AND c > 'x')", 1, "key=[all]"),
        ("a > 5 OR (a = 5 AND b > 3 AND d > 1)", 1, "key=[all]"),
        ("(b, a) > (1, 2)", 1, "key=[all]"),
        ("b > 3", 1, "key=[all]"),
        ("a >= 500 AND b > 7", 1, "key=[a in a range]"),
        ("a < 5 AND (b, c) > (3, 'x')", 1, "key=[a in a range]"),
    ] {
        let plan = fixture
            .rows(&format!("EXPLAIN SELECT * FROM p WHERE {filter}"))
            .join("\n");
        assert_eq!(plan.matches("FilterExec").count(), filters, "{filter}:\n{plan}");
        assert!(plan.contains(key), "{filter}:\n{plan}");
    }
}

#[test]
fn a_user_pages_through_their_own_rows() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE USER TABLE notes (a INT, b INT, d INT, PRIMARY KEY (a, b))",
        "CREATE USER 'ann' ROLE user",
        "CREATE USER 'bob' ROLE user",
    ]);
    let [ann, bob] = ["ann", "bob"].map(|name| fixture.session(name));
    for (session, from, flush) in [(&ann, 0, true), (&bob, 1, true), (&ann, 2, false), (&bob, 3, false)] {
        let rows = format!(
            "SELECT (4 * value + {from}) / 50, (4 * value + {from}) % 50, value % 2 FROM generate_series(0, 2499)"
        );
        if let Err(error) = fixture.execute_as(session, &format!("INSERT INTO notes {rows}"), Parameters::none()) {
            panic!("{error}");
        }
        if flush {
            fixture.run(&["FLUSH TABLE notes"]);
        }
    }
    fixture.run(&["STORAGE COMPACT TABLE notes"]);
    for (order, expected) in [
        ("", ["100|2", "100|4", "100|6"]),
        (" DESC", ["199|48", "199|46", "199|44"]),
    ] {
        let sql =
            format!("SELECT a, b FROM notes WHERE (a, b) > (100, 0) AND d >= 0 ORDER BY a{order}, b{order} LIMIT 3");
        assert_eq!(fixture.rows_as(&ann, &sql, Parameters::none()), expected, "{sql}");
        let looked = analyzed(&fixture, &ann, &sql);
        assert!(looked.keys_read <= 128, "{sql}: {looked:?}");
    }
    // All pages together are all rows, each once.
    let (mut a, mut b, mut seen) = (-1, -1, 0);
    loop {
        let sql = format!("SELECT a, b FROM notes WHERE (a, b) > ({a}, {b}) ORDER BY a, b LIMIT 700");
        let rows = fixture.rows_as(&bob, &sql, Parameters::none());
        seen += rows.len();
        let Some((last_a, last_b)) = rows.last().and_then(|row| row.split_once('|')) else {
            break;
        };
        let last = [last_a, last_b].map(|value| value.parse::<i32>().expect(value));
        assert!(last > [a, b], "{sql}");
        [a, b] = last;
    }
    assert_eq!(seen, 5_000);
    fixture.check("SELECT a FROM notes WHERE d >= 0 ORDER BY a, b LIMIT 3", &[]);
}

#[test]
fn a_large_key_range_is_read_in_two_parts() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE big (a INT, b INT, d INT, PRIMARY KEY (a, b))",
        "INSERT INTO big SELECT value / 100000, value % 100000, value % 7 FROM generate_series(0, 399999)",
        "INSERT INTO big SELECT 4, value, value % 7 FROM generate_series(0, 99)",
        "INSERT INTO big VALUES (-1, 5, 1), (5, 5, 1)",
        "DELETE FROM big WHERE a = 1 AND b < 1000",
    ]);
    fixture.check("SELECT sum(rows) FROM system.segments", &["400000"]);
    for (filter, is_split) in [
        ("a >= 0", true),
        ("(a, b) > (0, 50000)", true),
        ("(a, b) > (1, 40000)", false),
        ("(a, b) >= (1, 37856)", true),
        ("(a, b) > (1, 37856)", false),
        ("a IN (0, 1, 3)", true),
        ("a IN (0, 3)", false),
        ("a = 2", false),
        ("a = 2 AND b = 7", false),
        ("a = 2 AND b IN (7, 9, 11)", false),
        ("a > 3", false),
    ] {
        let sql = format!("SELECT count(*), sum(d), min(b), max(a) FROM big WHERE {filter} AND d >= 0");
        let plan = fixture.rows(&format!("EXPLAIN {sql}")).join("\n");
        assert_eq!(!plan.contains("RoundRobin"), is_split, "{filter}:\n{plan}");
        let everything = "(SELECT * FROM big LIMIT 1000000)";
        assert_eq!(
            fixture.rows(&sql),
            fixture.rows(&sql.replace("big", everything)),
            "{filter}"
        );
    }
    // In order it is one part again.
    for (order, rising) in [("a, b", 349_097), ("a DESC, b DESC", 0)] {
        let lag = format!(
            "SELECT a, b, lag(b) OVER (ORDER BY {order}) AS p, lag(a) OVER (ORDER BY {order}) AS q FROM big \
             WHERE (a, b) > (0, 50000) AND (a, b) < (4, 99)"
        );
        let plan = fixture.rows(&format!("EXPLAIN {lag}")).join("\n");
        assert!(plan.contains("order=key") && !plan.contains("SortExec"), "{plan}");
        fixture.check(
            &format!("SELECT count(*), sum(CAST((a, b) > (q, p) AS INT)) FROM ({lag})"),
            &[&format!("349098|{rising}")],
        );
    }
}
