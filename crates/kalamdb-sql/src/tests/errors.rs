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
