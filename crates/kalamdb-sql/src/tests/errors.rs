//! Errors: code, place in the text, and words for people.

use kalamdb_core::ErrorCode;

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
        None,
        "did you mean chat?",
    );
    fixture.run(&["CREATE USER 'annabel' ROLE user"]);
    for sql in ["DROP USER 'anabel'", "ALTER USER 'anabel' SET ROLE dba"] {
        check(sql, ErrorCode::UserNotFound, None, "did you mean annabel?");
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
    check("SELECT 1 / 0", ErrorCode::InvalidArgument, None, "division by zero");
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
        None,
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
        "SELECT «nam»[1] FROM items",
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
    check_marked(&fixture, "SELECT 1,\n «x».* FROM items", ErrorCode::TableNotFound);
    check_marked(&fixture, "SELECT * FROM «a».b.c.d.e", ErrorCode::InvalidStatement);
    // Which of the two is not there, the planner does not say.
    fixture.check_error(
        "SELECT id FROM items WHERE -id IN (SELECT -id FROM n) AND name || nam = (SELECT max(nam) FROM (VALUES ('x')) v(nam))",
        ErrorCode::ColumnNotFound,
        None,
        "did you mean name?",
    );
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
    let check = |sql: &str, part: &str| fixture.check_error(sql, ErrorCode::TypeMismatch, None, part);
    check(
        "SELECT sum(name) FROM items",
        "sum does not take an argument of type TEXT",
    );
    fixture.check_error(
        "SELECT name + 1 FROM items",
        ErrorCode::TypeMismatch,
        Some((1, 8)),
        "TEXT + BIGINT",
    );
    fixture.run(&["INSERT INTO items VALUES (1, 'one', {a: 5}, [{b: 6}, {b: 7}])"]);
    fixture.check("SELECT (s).a, l[2].b, (l[1]).b, s.a FROM items", &["5|7|6|5"]);
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
