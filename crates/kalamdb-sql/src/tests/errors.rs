//! Errors: code, place in the text, and words for people.

use kalamdb_core::{Error, ErrorCode};

use crate::parameters::Parameters;
use crate::testing::Fixture;

#[test]
fn mistakes_are_named_with_their_place() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE NAMESPACE chat",
        "CREATE TABLE chat.messages (id INT PRIMARY KEY, body TEXT, at DATE)",
    ]);
    let check = |sql: &str, code, place, part: &str| fixture.check_error(sql, code, place, part);
    check(
        "SELECT * FROM chat.mesages",
        ErrorCode::TableNotFound,
        Some((1, 15)),
        "did you mean chat.messages?",
    );
    check(
        "SELECT *\nFROM messages",
        ErrorCode::TableNotFound,
        Some((2, 6)),
        "did you mean chat.messages?",
    );
    check(
        "SELECT boddy\nFROM chat.messages",
        ErrorCode::ColumnNotFound,
        Some((1, 8)),
        "did you mean body?",
    );
    check(
        "SELECT id\nFROM chat.messages m\nWHERE m.boddy = 'x'",
        ErrorCode::ColumnNotFound,
        Some((3, 7)),
        "m.boddy",
    );
    check(
        "SELECT id FROM chat.messages a JOIN chat.messages b ON a.id = b.id",
        ErrorCode::InvalidStatement,
        Some((1, 8)),
        "id",
    );
    for (sql, column) in [
        ("DESCRIBE mesages", 10),
        ("DROP TABLE chta.messages", 12),
        ("TRUNCATE chat.mesages", 10),
        ("INSERT INTO mesages VALUES (1)", 13),
    ] {
        check(
            sql,
            ErrorCode::TableNotFound,
            Some((1, column)),
            "did you mean chat.messages?",
        );
    }
    check(
        "CREATE TABLE t (PRIMARY KEY (idd), id INT)",
        ErrorCode::ColumnNotFound,
        Some((1, 30)),
        "did you mean id?",
    );
    check(
        "INSERT INTO chat.messages (id, body) VALUES (1, 'a'), (2, 'b', 3)",
        ErrorCode::InvalidStatement,
        Some((1, 64)),
        "chat.messages has 2 columns but 3 values in row 2",
    );
    check(
        "CREATE TABLE chatt.t (id INT)",
        ErrorCode::NamespaceNotFound,
        Some((1, 14)),
        "did you mean chat?",
    );
    check(
        "DROP NAMESPACE chatt",
        ErrorCode::NamespaceNotFound,
        Some((1, 16)),
        "did you mean chat?",
    );
    fixture.run(&["CREATE USER 'annabel' ROLE user"]);
    for marked in ["DROP USER «'anabel'»", "ALTER USER «'anabel'» SET ROLE dba"] {
        check_marked(&fixture, marked, ErrorCode::UserNotFound);
    }
    check(
        "DROP USER anabel",
        ErrorCode::UserNotFound,
        Some((1, 11)),
        "did you mean annabel?",
    );
    for (marked, code) in [
        ("CREATE USER IF NOT EXISTS eve ROLE user", None),
        ("CREATE USER «eve» ROLE user", Some(ErrorCode::AlreadyExists)),
        ("USE «chatt»", Some(ErrorCode::NamespaceNotFound)),
        ("SET schema = «chatt»", Some(ErrorCode::NamespaceNotFound)),
        ("SET «shema» = chat", Some(ErrorCode::NotFound)),
        ("RESET «shema»", Some(ErrorCode::NotFound)),
        ("SHOW «shema»", Some(ErrorCode::NotFound)),
        ("SHOW TABLES IN «chatt»", Some(ErrorCode::NamespaceNotFound)),
        ("DROP STORAGE «fast»", Some(ErrorCode::NotFound)),
        (
            "CREATE TABLE o (id INT) WITH (ACCESS_LEVEL = 'public', «FLUSH_POLICI» = 'rows:1')",
            Some(ErrorCode::InvalidArgument),
        ),
        (
            "CREATE TABLE o (id INT) WITH («ACCESS_LEVEL» = 'all', COMPRESSION = 'zstd')",
            Some(ErrorCode::InvalidArgument),
        ),
        (
            "CREATE STREAM TABLE o (id INT) WITH (TTL_SECONDS = 60, «MAX_ROWS» = 0)",
            Some(ErrorCode::InvalidArgument),
        ),
        (
            "CREATE TABLE o (id INT) WITH («TYPE» = 'USR')",
            Some(ErrorCode::InvalidArgument),
        ),
        (
            "SELECT id FROM chat.messages m ORDER BY «m.idd»",
            Some(ErrorCode::ColumnNotFound),
        ),
        (
            "SELECT a FROM (SELECT 1 AS a) s ORDER BY «s.zz»",
            Some(ErrorCode::ColumnNotFound),
        ),
        ("KILL SESSION «'x'»", Some(ErrorCode::NotFound)),
        ("SELECT * FROM chat.messages, «nosuch»(1)", Some(ErrorCode::NotFound)),
        (
            "SELECT sum(id) OVER v, sum(id) OVER «w» FROM chat.messages WINDOW v AS ()",
            Some(ErrorCode::InvalidStatement),
        ),
    ] {
        match code {
            Some(code) => check_marked(&fixture, marked, code),
            None => fixture.run(&[marked]),
        }
    }
    check("SELEC 1", ErrorCode::SyntaxError, Some((1, 1)), "");
    check("SELECT (1", ErrorCode::SyntaxError, Some((1, 10)), "");
    check("SELECT 1; SELECT 2", ErrorCode::InvalidStatement, Some((1, 11)), "");
    check(
        "SELECT nosuch(id) FROM chat.messages",
        ErrorCode::InvalidStatement,
        Some((1, 8)),
        "nosuch",
    );
    check(
        "SELECT 1 / 0",
        ErrorCode::InvalidArgument,
        Some((1, 8)),
        "division by zero",
    );
    fixture.run(&["INSERT INTO chat.messages (id, body) VALUES (1, 'a')"]);
    for large in [
        "regexp_replace(body, '(a{1000}){1000}', 'x')",
        "regexp_like(body, '(a{1000}){1000}')",
        "body ~ '(a{1000}){1000}'",
    ] {
        check(
            &format!("SELECT {large} FROM chat.messages"),
            ErrorCode::InvalidArgument,
            None,
            "regular expression",
        );
    }
    check(
        "SELECT regexp_replace(body, '(', 'x') FROM chat.messages",
        ErrorCode::InvalidArgument,
        None,
        "unclosed group",
    );
    for text in ["'12345'::VARCHAR(2)", "CAST(body AS CHAR(3))", "[body]::VARCHAR(2)[]"] {
        let sql = format!("SELECT {text} FROM chat.messages");
        check(&sql, ErrorCode::Unsupported, None, "left(");
    }
    check("SELECT CAST('x' AS INT)", ErrorCode::TypeMismatch, None, "'x'");
    check(
        "SELECT id + DATE '2024-01-01' FROM chat.messages WHERE at = true",
        ErrorCode::TypeMismatch,
        Some((1, 56)),
        "",
    );
    check(
        "SELECT body, count(*) FROM chat.messages",
        ErrorCode::InvalidStatement,
        Some((1, 8)),
        "",
    );
}

#[test]
fn a_name_that_is_not_there_has_its_place_wherever_it_is_read() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE items (id BIGINT PRIMARY KEY, name TEXT, s STRUCT<a INT>)",
        "CREATE TABLE n (id BIGINT PRIMARY KEY)",
    ]);
    // The place of what stands between the marks.
    for marked in [
        "SELECT name || «nam» FROM items",
        "SELECT -«nam» FROM items",
        "SELECT id,\n  -«nam» FROM items",
        "SELECT «items.nam» || 'x' FROM items",
        "SELECT -«i.nam» FROM items i",
        "SELECT 1 FROM items WHERE NOT «nam»",
        "SELECT 1 FROM items JOIN n USING («idd»)",
        "SELECT * EXCLUDE («nam») FROM items",
        "SELECT * EXCEPT (id, «nam») FROM items",
        "SELECT items.* EXCLUDE «nam» FROM items",
        "SELECT * REPLACE (1 AS id, 2 AS «nam») FROM items WHERE id = 1 OR name = 'x'",
        "SELECT id FROM (SELECT * REPLACE (2 AS «nam») FROM items) q",
        "SELECT items.* REPLACE (2 AS «nam») FROM items",
        "SELECT «nam»[1] FROM items",
        "SELECT name || 'x' FROM items UNION ALL SELECT «name» || 'x' FROM n",
        "SELECT -id FROM items WHERE id = 1 UNION ALL SELECT id FROM n WHERE -«name» = 'x'",
        "SELECT * EXCLUDE (name) FROM items UNION ALL SELECT * EXCLUDE («name») FROM n",
        "SELECT * FROM items JOIN n USING (id) JOIN n m USING («name»)",
        "SELECT name || 'x' FROM items WHERE id IN (SELECT -id FROM n WHERE -«i.name» = 'x')",
        "WITH c(a) AS (SELECT -id FROM items) SELECT -«id» FROM c",
        "WITH a AS (SELECT -id AS k FROM items), b AS (SELECT «k» || 'x' FROM n) SELECT * FROM a, b ORDER BY k || 'y'",
        "SELECT (SELECT max(name || 'x') FROM items), «name» || 'x' FROM n",
        "INSERT INTO items (id, name) VALUES (5, 'x' || «nam»)",
        "INSERT INTO items (id, name) VALUES (5, 'x'), (-«nam», 'y')",
        "CREATE TABLE t (id BIGINT PRIMARY KEY, b TEXT DEFAULT 'x' || «idd»)",
        "CREATE TABLE t (a, PRIMARY KEY («b»)) AS SELECT id FROM items",
        "CREATE TABLE t (PRIMARY KEY («b»)) AS SELECT id FROM items",
        "UPDATE items SET «bogus.name» = 'x'",
        "UPDATE items i SET «items.name» = 'x'",
        "UPDATE items SET name = «nam» || 'x'",
        "DELETE FROM items WHERE -«nam» = 1",
        "CREATE VIEW v AS SELECT -«nam» FROM items",
        "SELECT id FROM items WHERE id IN (SELECT -«nam» FROM n)",
        "SELECT «s.b» FROM items",
        "SELECT («s»).b FROM items",
        "SELECT «s»['b'] FROM items",
    ] {
        check_marked(&fixture, marked, ErrorCode::ColumnNotFound);
    }
    for good in ["*", "i.*", "n.*"] {
        fixture.check(
            &format!("SELECT {good} REPLACE (5 AS id) FROM items i JOIN n USING (id)"),
            &[],
        );
    }
    check_marked(&fixture, "SELECT 1,\n «x».* FROM items", ErrorCode::TableNotFound);
    check_marked(&fixture, "SELECT * FROM «a».b.c.d.e", ErrorCode::InvalidStatement);
    check_marked(
        &fixture,
        "SELECT id FROM items WHERE -id IN (SELECT -id FROM n) AND name || «nam» = (SELECT max(nam) FROM (VALUES ('x')) v(nam))",
        ErrorCode::ColumnNotFound,
    );
    check_marked(&fixture, "SELECT count(«itmes».*) FROM items", ErrorCode::TableNotFound);
    check_marked(&fixture, "UPDATE items SET «s.a» = 1", ErrorCode::Unsupported);
    // By its table's own name, or alias, a column is set.
    fixture.run(&[
        "UPDATE items SET items.name = 'x'",
        "UPDATE items AS i SET i.name = 'x'",
    ]);
    assert_eq!(fixture.rows("SELECT count(*) FROM items"), ["0"]);
}

#[test]
fn the_nearest_name_is_of_the_table_that_is_meant() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE items (id BIGINT PRIMARY KEY, name TEXT)",
        "CREATE TABLE n (id BIGINT PRIMARY KEY, title TEXT)",
    ]);
    for (sql, words) in [
        (
            "SELECT itms.id FROM items",
            "FROM has no table itms; did you mean items?",
        ),
        (
            "SELECT itmes.* FROM items",
            "FROM has no table itmes; did you mean items?",
        ),
        ("SELECT _sec FROM items", "did you mean _seq?"),
        ("SELECT -_updatd FROM items", "did you mean _updated?"),
        ("SELECT n.titel FROM items, n", "did you mean title?"),
        (
            "SELECT * FROM information_schema.tabels",
            "did you mean information_schema.tables?",
        ),
        (
            "SELECT * FROM information_schema.column",
            "did you mean information_schema.columns?",
        ),
        (
            "INSERT INTO information_schema.tables SELECT 1",
            "information_schema.tables is a view",
        ),
        (
            "CREATE TABLE t (id INT PRIMARY KEY) WITH (ttl = 1)",
            "did you mean TTL_SECONDS?",
        ),
    ] {
        let error = failure(&fixture, sql);
        assert!(error.message.contains(words), "{sql}: {error}");
    }
    for sql in [
        "SELECT -n.name FROM items, n",
        "CREATE TABLE t (id INT PRIMARY KEY) WITH (foo = 1)",
    ] {
        let error = failure(&fixture, sql);
        assert!(!error.message.contains("did you mean"), "{sql}: {error}");
    }
}

#[test]
fn nothing_that_a_function_would_pass_over_is_taken() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE up (id BIGINT PRIMARY KEY, v INT)",
        "INSERT INTO up VALUES (1, -2)",
    ]);
    for marked in [
        "DELETE FROM up WHERE «abs»(v) OVER (ORDER BY zzz) = 2",
        "UPDATE up SET v = «abs»(v) OVER (ORDER BY zzz)",
        "INSERT INTO up (id, v) VALUES (50, «abs»(3) FILTER (WHERE nosuch))",
        "INSERT INTO up (id, v) SELECT 50, «abs»(3) FILTER (WHERE false)",
        "CREATE TABLE t (id INT PRIMARY KEY, v INT DEFAULT «abs»(3) OVER (ORDER BY nosuch))",
        "CREATE VIEW w AS SELECT «abs»(v) OVER (ORDER BY nosuch) AS a FROM up",
        "SELECT «lower»('A' ORDER BY nosuch)",
        "SELECT «lower»('A') WITHIN GROUP (ORDER BY nosuch)",
        "SELECT «lower»('A') IGNORE NULLS",
        "SELECT «abs»(DISTINCT v) FROM up",
    ] {
        check_marked(&fixture, marked, ErrorCode::InvalidStatement);
    }
    fixture.check("SELECT * FROM up", &["1|-2"]);
    fixture.check(
        "SELECT sum(DISTINCT v) FILTER (WHERE v < 0), array_agg(v ORDER BY id), row_number() OVER (ORDER BY count(*)) FROM up",
        &["-2|[-2]|1"],
    );
}

#[test]
fn no_message_prints_a_tree() {
    let fixture = Fixture::new();
    fixture.run(&["CREATE TABLE items (id BIGINT PRIMARY KEY, name TEXT)"]);
    for sql in [
        "SELECT name COLLATE \"C\" FROM items",
        "SELECT CONVERT(id, TEXT) FROM items",
        "SELECT name IS NORMALIZED FROM items",
        "SELECT 1 FROM items SEMI JOIN items n ON true",
        "SELECT id FROM items WHERE row_number() OVER () = 1",
    ] {
        let error = failure(&fixture, sql);
        assert_eq!(error.code, ErrorCode::Unsupported, "{sql}: {error}");
        assert!(!error.message.contains(['{', '(']), "{sql}: {error}");
    }
}

#[track_caller]
fn failure(fixture: &Fixture, sql: &str) -> Error {
    match fixture.execute_as(&fixture.root, sql, Parameters::none()) {
        Ok(_) => panic!("{sql}: no error"),
        Err(error) => error,
    }
}

fn check_marked(fixture: &Fixture, marked: &str, code: ErrorCode) {
    let before = marked.split('«').next().unwrap_or_default();
    let line = before.lines().count();
    let column = before.lines().last().map_or(0, |line| line.chars().count()) + 1;
    let place = Some((line as u64, column as u64));
    fixture.check_error(&marked.replace(['«', '»'], ""), code, place, "");
}

#[test]
fn types_have_sql_names_in_messages() {
    let fixture = Fixture::new();
    fixture.run(&["CREATE TABLE items (id BIGINT PRIMARY KEY, name TEXT, s STRUCT<a INT>, l STRUCT<b INT>[])"]);
    for (sql, part) in [
        (
            "SELECT sum(name) FROM items",
            "sum does not take an argument of type TEXT",
        ),
        (
            "SELECT id FROM items WHERE name",
            "a condition is BOOLEAN, and this one is TEXT",
        ),
        ("SELECT NOT 5", "BIGINT"),
        ("SELECT -true", "Unary operator"),
        ("SELECT id FROM items WHERE id LIKE 'x'", "BIGINT and TEXT"),
        ("SELECT power('x', 2)", "power takes DOUBLE, and not TEXT"),
        ("SELECT DATE '2020-01-01' UNION SELECT true", "DATE"),
        ("SELECT CAST('1234567' AS DECIMAL(3,1))", "too large"),
        ("SELECT CAST('x' AS INT)", "value of INTEGER type"),
        (
            "INSERT INTO items (id, s) VALUES (2, {b: 1})",
            "column s (STRUCT(a INTEGER)) takes no STRUCT(b BIGINT)",
        ),
        (
            "INSERT INTO items (id, s) VALUES (2, {a: 1, b: 2})",
            "takes no STRUCT(a BIGINT, b BIGINT)",
        ),
    ] {
        fixture.check_error_part(sql, ErrorCode::TypeMismatch, part);
    }
    fixture.check_error(
        "SELECT name + 1 FROM items",
        ErrorCode::TypeMismatch,
        Some((1, 8)),
        "TEXT + BIGINT",
    );
    fixture.run(&["INSERT INTO items VALUES (1, 'one', {a: 5}, [{b: 6}, {b: 7}])"]);
    fixture.check("SELECT (s).a, l[2].b, (l[1]).b, s.a FROM items", &["5|7|6|5"]);
    fixture.run(&[
        "INSERT INTO items (id, name, s) VALUES (([{b: 6}])[1].b, ({a: 'x'}).a, struct(7))",
        "CREATE TABLE d (id BIGINT PRIMARY KEY, v INT DEFAULT ({a: 8}).a)",
        "INSERT INTO d (id) VALUES (1)",
    ]);
    fixture.check(
        "SELECT i.id, i.name, i.s.a, d.v FROM items i, d WHERE i.id = 6",
        &["6|x|7|8"],
    );
}

#[test]
fn limits_say_which_setting_they_are() {
    let fixture = Fixture::with(|options| options.statement_text_limit_bytes = 100);
    let long = format!("SELECT '{}'", "x".repeat(200));
    fixture.check_error(&long, ErrorCode::StatementTooLarge, None, "statement_text_limit");
    let fixture = Fixture::with(|options| options.max_queries_per_user = 0);
    fixture.check_error("SELECT 1", ErrorCode::TooManyRequests, None, "max_queries_per_user");
    let fixture = Fixture::with(|options| options.statement_timeout_ms = 50);
    let endless =
        "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b WHERE a.value + b.value = 1";
    fixture.check_error(endless, ErrorCode::Timeout, None, "statement_timeout");
    let fixture = Fixture::with(|options| options.memory_limit_bytes = 1 << 20);
    let hungry = "SELECT array_agg(value) FROM generate_series(1, 1000000)";
    fixture.check_error(hungry, ErrorCode::OutOfMemory, None, "memory_limit");
}

#[test]
fn values_that_do_not_fit_are_shown_where_they_stand() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE k (id INT DEFAULT 1 PRIMARY KEY, v TEXT, b INTEGER, e INT, n INT NOT NULL DEFAULT 0, j JSON, d DATE)",
        "INSERT INTO k (v, b) VALUES ('max', 1)",
    ]);
    use ErrorCode::{InvalidArgument, InvalidStatement, NotNullViolation, TypeMismatch};
    for (sql, code, column, part) in [
        (
            "INSERT INTO k (v, b) VALUES ('max', 2147483648)",
            TypeMismatch,
            37,
            "2147483648 (row 1) does not fit column b",
        ),
        (
            "INSERT INTO k (id, b) VALUES (2, 1), (3, 2), (4, 'abc'), (5, 'x')",
            TypeMismatch,
            50,
            "'abc' (row 3) does not fit",
        ),
        (
            "INSERT INTO k (id, j) VALUES (2, '{}'), (3, '{')",
            TypeMismatch,
            45,
            "row 2: column j",
        ),
        (
            "INSERT INTO k (id, n) VALUES (2, 1), (3, NULL)",
            NotNullViolation,
            42,
            "row 2: column n",
        ),
        (
            "INSERT INTO k (id, b) VALUES (2, 1 / 0)",
            InvalidArgument,
            34,
            "division by zero",
        ),
        (
            "INSERT INTO k (id, b) VALUES (2, true)",
            TypeMismatch,
            34,
            "true (row 1)",
        ),
        (
            "INSERT INTO k (id, d) VALUES (2, '10000-01-01')",
            TypeMismatch,
            34,
            "'+10000-01-01'",
        ),
        ("UPDATE k SET b = 'abc'", TypeMismatch, 18, "'abc' (row 1) does not fit"),
        (
            "UPDATE k SET v = 'x', b = b + 2147483647.5",
            TypeMismatch,
            27,
            "does not fit column b",
        ),
        (
            "UPDATE k SET v = 'x', e = 1 / 0",
            InvalidArgument,
            27,
            "division by zero",
        ),
        ("UPDATE k SET n = NULL", NotNullViolation, 18, "column n"),
        ("UPDATE k SET j = '{'", TypeMismatch, 18, "JSON"),
        ("UPDATE k SET e = count(*)", InvalidStatement, 18, "aggregate"),
        (
            "DELETE FROM k WHERE id",
            TypeMismatch,
            21,
            "a condition is BOOLEAN, and this one is INTEGER",
        ),
        (
            "CREATE TABLE m AS SELECT id, b, v AS id FROM k",
            InvalidStatement,
            33,
            "two columns 'id'",
        ),
        (
            "CREATE TABLE m AS SELECT id, NULL AS z FROM k",
            TypeMismatch,
            30,
            "no type",
        ),
    ] {
        fixture.check_error(sql, code, Some((1, column)), part);
    }
    // What fits no row need not fit; the place in a default's text is none in the statement's.
    fixture.check_count("UPDATE k SET n = NULL, b = 'abc' WHERE false", Parameters::none(), 0);
    fixture.check("SELECT id, v, b, e, n, j FROM k", &["1|max|1|NULL|0|NULL"]);
}

#[test]
fn what_is_not_there_is_named() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE k (id INT PRIMARY KEY, j JSON)",
        "INSERT INTO k VALUES (0, '{}')",
        "CREATE VIEW w AS SELECT id FROM k",
    ]);
    use ErrorCode::{ColumnNotFound, InvalidStatement, SyntaxError, TypeMismatch, Unsupported};
    for (sql, code, part) in [
        (
            "SELECT array_filter([1, 2], v -> v > 2)",
            Unsupported,
            "a lambda, v -> …",
        ),
        ("SELECT array_transform([1], (v, i) -> v + i)", Unsupported, "a lambda"),
        (
            "SELECT json_length(dok -> 'a') FROM k",
            ColumnNotFound,
            "column dok does not exist",
        ),
        (
            "SELECT j @> '{}' FROM k",
            Unsupported,
            "the operator @> is not supported",
        ),
        (
            "CREATE TABLE m (a INT PRIMARY KEY, b INT DEFAULT count(*))",
            InvalidStatement,
            "DEFAULT of column 'b': aggregate and window functions",
        ),
        (
            "INSERT INTO k (id) VALUES (sum(1))",
            InvalidStatement,
            "aggregate and window functions",
        ),
        (
            "INSERT INTO k (id) VALUES (1) ON DUPLICATE KEY UPDATE id = 2",
            Unsupported,
            "ON DUPLICATE KEY UPDATE",
        ),
        ("CHECK TABLE k", SyntaxError, "did you mean STORAGE CHECK?"),
        (
            "DROP NAMESPACE public CASCADE",
            InvalidStatement,
            "where every session begins",
        ),
        ("SELECT DATE '10000-01-01'", TypeMismatch, "'+10000-01-01'"),
    ] {
        fixture.check_error_part(sql, code, part);
    }
    let sql = "SELECT _seq FROM w";
    let error = fixture
        .execute_as(&fixture.root, sql, Parameters::none())
        .expect_err(sql);
    assert_eq!(error.message, "column _seq does not exist");
    fixture.run(&[
        "CREATE TABLE x (id INT PRIMARY KEY, v TEXT)",
        "INSERT INTO x VALUES (1, 'dat')",
    ]);
    fixture.check("SELECT id FROM x WHERE v = U&'d\\0061t' AND v = N'dat'", &["1"]);
    fixture.run(&["CREATE USER TABLE u (id INT PRIMARY KEY)"]);
    let shown = fixture.rows("SHOW TABLES");
    let level = |table: &str| {
        let row = shown
            .iter()
            .find(|row| row.contains(&format!("|{table}|")))
            .expect(table);
        row.split('|').nth(3).expect("a level").to_owned()
    };
    assert_eq!((level("u"), level("k")), ("NULL".to_owned(), "private".to_owned()));
}

#[test]
fn errors_of_rules_and_of_running_have_their_place() {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE t (id INT PRIMARY KEY, s TEXT, b BOOLEAN, a INT[], u UUID)",
        "INSERT INTO t (id, s) VALUES (1, 'x'), (2, 'y')",
    ]);
    use ErrorCode::{InvalidStatement, SyntaxError, TypeMismatch, Unsupported};
    for (sql, code, column, part) in [
        ("SELECT (SELECT id FROM t)", InvalidStatement, 9, "more than one row"),
        (
            "SELECT id FROM t WHERE id = (SELECT id FROM t)",
            InvalidStatement,
            30,
            "more than one row",
        ),
        (
            "UPDATE t SET s = (SELECT s FROM t)",
            InvalidStatement,
            19,
            "more than one row",
        ),
        (
            "INSERT INTO t (id, b) SELECT 7, s FROM t",
            TypeMismatch,
            33,
            "does not fit column b",
        ),
        (
            "INSERT INTO t (id, b) SELECT id + 7, 7 FROM t",
            TypeMismatch,
            38,
            "column b",
        ),
        (
            "INSERT INTO t (s, id) SELECT s, 3000000000 FROM t",
            TypeMismatch,
            33,
            "does not fit column id",
        ),
        ("SELECT 1 FROM t p JOIN t q ON p.id = q.a", TypeMismatch, 31, "INTEGER"),
        (
            "SELECT 1 FROM t p JOIN t q ON p.id",
            TypeMismatch,
            31,
            "a condition is BOOLEAN",
        ),
        (
            "SELECT 1 FROM t p JOIN t q ON p.u > q.id WHERE p.id = 1",
            TypeMismatch,
            31,
            "INTEGER",
        ),
        ("SELECT id FROM t WHERE id > b", TypeMismatch, 24, "BOOLEAN"),
        (
            "SELECT id, (SELECT max(q.id) FROM t q WHERE q.id < t.id) FROM t",
            Unsupported,
            13,
            "write a JOIN",
        ),
        (
            "SELECT t.id, z.id FROM t, LATERAL (SELECT q.id FROM t q WHERE q.id < t.id ORDER BY q.id LIMIT 1) AS z",
            Unsupported,
            36,
            "write a JOIN",
        ),
        ("SELECT 1\0", SyntaxError, 9, "U+0000 (a NUL byte)"),
    ] {
        fixture.check_error(sql, code, Some((1, column)), part);
    }
    // Of two it could be either.
    fixture.check_error(
        "SELECT (SELECT id FROM t), (SELECT id FROM t WHERE id = 1)",
        InvalidStatement,
        None,
        "more than one row",
    );
    fixture.check("SELECT octet_length('1\0')", &["2"]);
}

#[test]
fn arguments_of_a_wrong_type_are_that_wherever_they_stand() {
    let fixture = Fixture::new();
    fixture.run(&["CREATE TABLE t (id INT PRIMARY KEY)"]);
    for (sql, place) in [
        ("SELECT CASE WHEN date_part('year', 5) > 1 THEN 1 END", Some((1, 18))),
        ("SELECT id FROM t ORDER BY round(now(), 1)", Some((1, 27))),
        (
            "SELECT x.id FROM t x JOIN t y ON round(DATE '2024-01-01', 1) = x.id",
            Some((1, 34)),
        ),
        ("SELECT 1 FROM t WHERE EXTRACT(epoch FROM 1) LIKE 'x'", Some((1, 42))),
        ("SELECT 1 FROM t WHERE date_part('year', 5) IN (1, id)", Some((1, 23))),
        (
            "SELECT 1 FROM t WHERE date_part('year', 5) BETWEEN 1 AND 2",
            Some((1, 23)),
        ),
        // One of two.
        (
            "SELECT 1 FROM t WHERE date_part('year', now()) IN (date_part('year', id))",
            None,
        ),
    ] {
        let part = "does not take an argument of type";
        fixture.check_error(sql, ErrorCode::TypeMismatch, place, part);
    }
    for sql in [
        "SELECT count(*) FROM t GROUP BY date_part('year', id)",
        "DELETE FROM t WHERE CASE WHEN date_part('year', id) > 1 THEN true END",
    ] {
        fixture.check_error_part(sql, ErrorCode::TypeMismatch, "does not take an argument of type");
    }
}
