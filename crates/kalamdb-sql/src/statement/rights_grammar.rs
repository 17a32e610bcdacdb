//! The grammar of rights: GRANT and REVOKE, quotas, and EXECUTE AS, which stands in front of a whole statement.

use datafusion::sql::sqlparser::tokenizer::Token;
use kalamdb_core::{Error, ErrorCode, GrantChange, Position, Privilege, Quota, Result, Role};

use super::grammar::{namespace_name, role, user_name};
use super::syntax::Source;
use super::{ObjectName, Show, Statement, grammar};
use crate::names::{folded, nearest, placed, suggestion};

/// On whose behalf a statement runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Actor {
    /// Whoever asks.
    Oneself,
    /// EXECUTE AS USER.
    User(UserName),
    /// EXECUTE AS ALL USERS; where it stands in the text.
    AllUsers(Option<Position>),
}

/// A user as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserName {
    pub(crate) name: String,
    pub(crate) position: Option<Position>,
}

/// Statements about rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    ChangeGrants {
        change: GrantChange,
        privileges: Vec<Privilege>,
        on: WrittenObject,
        users: Vec<UserName>,
    },
    /// `None` takes a quota away.
    SetQuotas {
        of: WrittenSubject,
        limits: Vec<(Quota, Option<u64>)>,
    },
}

/// What a grant is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WrittenObject {
    Table(ObjectName),
    Namespace(String, Option<Position>),
}

/// Whose quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WrittenSubject {
    User(UserName),
    Role(Role),
}

/// Takes `EXECUTE AS … (statement)`, or the statement alone.
pub(super) fn whole(source: &mut Source<'_>) -> Result<(Actor, Statement)> {
    let at = source.position();
    if !source.eat(&["EXECUTE", "AS"]) {
        return Ok((Actor::Oneself, grammar::statement(source)?));
    }
    let actor = if source.eat(&["ALL", "USERS"]) {
        Actor::AllUsers(at)
    } else if source.eat(&["USER"]) {
        Actor::User(written_user(source)?)
    } else {
        return Err(source.unexpected("USER and a user's name, or ALL USERS"));
    };
    source.expect_token(&Token::LParen)?;
    let statement = grammar::statement(source)?;
    source.expect_token(&Token::RParen)?;
    Ok((actor, statement))
}

/// The refusal of an EXECUTE AS within a statement, if one comes next.
pub(super) fn nested(source: &Source<'_>) -> Option<Error> {
    const MESSAGE: &str = "EXECUTE AS stands in front of a whole statement, once, and not within another one: \
                           EXECUTE AS USER 'name' (statement)";
    let comes = source.sees(&["EXECUTE", "AS"]);
    comes.then(|| source.here(ErrorCode::InvalidStatement, MESSAGE))
}

/// GRANT and REVOKE.
pub(super) fn change_grants(source: &mut Source<'_>) -> Result<Statement> {
    let change = if source.eat(&["GRANT"]) {
        GrantChange::Give
    } else {
        source.expect(&["REVOKE"])?;
        GrantChange::Take
    };
    if source.sees(&["GRANT", "OPTION"]) || source.sees(&["ADMIN", "OPTION"]) {
        return Err(option_refused(source));
    }
    let (privileges, on) = if source.eat(&["USAGE"]) {
        source.expect(&["ON"])?;
        if !source.eat_one(&["NAMESPACE", "SCHEMA"]) {
            return Err(source.unexpected("NAMESPACE and its name, which USAGE is of"));
        }
        let at = source.position();
        let namespace = namespace_name(source)?;
        (vec![Privilege::Usage], WrittenObject::Namespace(namespace, at))
    } else {
        let privileges = privileges(source)?;
        source.expect(&["ON"])?;
        (privileges, WrittenObject::Table(table(source)?))
    };
    source.expect(&[match change {
        GrantChange::Give => "TO",
        GrantChange::Take => "FROM",
    }])?;
    let mut users = vec![grantee(source)?];
    while source.eat_token(&Token::Comma) {
        users.push(grantee(source)?);
    }
    if source.sees(&["WITH"]) {
        return Err(option_refused(source));
    }
    if source.sees(&["CASCADE"]) || source.sees(&["RESTRICT"]) || source.sees(&["GRANTED"]) {
        let message = "REVOKE takes neither CASCADE nor RESTRICT: whoever was granted a right cannot pass it on";
        return Err(source.here(ErrorCode::Unsupported, message));
    }
    Ok(Statement::Rights(Rights::ChangeGrants {
        change,
        privileges,
        on,
        users,
    }))
}

fn option_refused(source: &Source<'_>) -> Error {
    let message = "GRANT OPTION is not supported: rights are given by dba and system, and not passed on";
    source.here(ErrorCode::Unsupported, message)
}

/// `ALL [PRIVILEGES]`, `EXECUTE AS ALL USERS`, or a list.
fn privileges(source: &mut Source<'_>) -> Result<Vec<Privilege>> {
    if source.eat(&["ALL"]) {
        source.eat(&["PRIVILEGES"]);
        return Ok(Privilege::ALL_PRIVILEGES.to_vec());
    }
    let mut privileges = Vec::new();
    loop {
        let privilege = privilege(source)?;
        if !privileges.contains(&privilege) {
            privileges.push(privilege);
        }
        if *source.token() == Token::LParen {
            let message = "rights on single columns are not supported; grant them on the table";
            return Err(source.here(ErrorCode::Unsupported, message));
        }
        if !source.eat_token(&Token::Comma) {
            return Ok(privileges);
        }
    }
}

fn privilege(source: &mut Source<'_>) -> Result<Privilege> {
    const WORDS: &[(&str, Privilege)] = &[
        ("SELECT", Privilege::Select),
        ("INSERT", Privilege::Insert),
        ("UPDATE", Privilege::Update),
        ("DELETE", Privilege::Delete),
    ];
    if source.eat(&["EXECUTE", "AS", "ALL", "USERS"]) {
        return Ok(Privilege::ExecuteAsAllUsers);
    }
    if let Some((_, privilege)) = WORDS.iter().find(|(word, _)| source.eat(&[word])) {
        return Ok(*privilege);
    }
    if source.sees(&["EXECUTE"]) {
        return Err(source.unexpected("EXECUTE AS ALL USERS, the one right of that name"));
    }
    if source.sees(&["USAGE"]) {
        return Err(source.unexpected("USAGE alone: GRANT USAGE ON NAMESPACE name TO 'user'"));
    }
    let hint = source.word(0).and_then(|word| {
        let words = WORDS.iter().map(|(word, _)| *word);
        nearest(&word, words).map(|word| format!("; did you mean {word}?"))
    });
    let mut error = source.unexpected("SELECT, INSERT, UPDATE, DELETE, ALL, USAGE or EXECUTE AS ALL USERS");
    if let Some(hint) = hint.filter(|_| !error.message.contains("did you mean")) {
        error.message.push_str(&hint);
    }
    Err(error)
}

/// `[TABLE] n.t`; a table `table` is quoted.
fn table(source: &mut Source<'_>) -> Result<ObjectName> {
    for (words, what) in [
        (&["ALL"][..], "ALL TABLES"),
        (&["NAMESPACE"], "NAMESPACE"),
        (&["SCHEMA"], "SCHEMA"),
    ] {
        let named = source.sees(words) && source.word(1).is_some_and(|word| word != "TO" && word != "FROM");
        if named {
            let message = format!("rights on {what} are not supported, but for USAGE; name one table");
            return Err(source.here(ErrorCode::Unsupported, message));
        }
    }
    if source.sees(&["TABLE"]) && source.word(1).is_none_or(|word| word != "TO" && word != "FROM") {
        source.eat(&["TABLE"]);
    }
    let name = source.object_name("the name of a table")?;
    if *source.token() == Token::Comma {
        return Err(source.here(ErrorCode::Unsupported, "one table at a time"));
    }
    Ok(name)
}

fn grantee(source: &mut Source<'_>) -> Result<UserName> {
    if source.sees(&["PUBLIC"]) {
        let message = "PUBLIC is not a user; ACCESS_LEVEL = 'public' lets everyone read a table";
        return Err(source.here(ErrorCode::Unsupported, message));
    }
    if source.sees(&["ROLE"]) || source.sees(&["GROUP"]) {
        let message = "rights are granted to users; what a role may do is fixed";
        return Err(source.here(ErrorCode::Unsupported, message));
    }
    written_user(source)
}

/// A user's name with its place.
pub(super) fn written_user(source: &mut Source<'_>) -> Result<UserName> {
    let position = source.position();
    let name = user_name(source)?;
    Ok(UserName { name, position })
}

/// `ALTER ROLE role SET QUOTA …`.
pub(super) fn alter_role(source: &mut Source<'_>) -> Result<Statement> {
    source.expect(&["ALTER", "ROLE"])?;
    let role = role(source)?;
    if !source.sees(&["SET", "QUOTA"]) {
        return Err(source.unexpected("SET QUOTA"));
    }
    set_quotas(source, WrittenSubject::Role(role))
}

/// `SET QUOTA name = value [, …]`.
pub(super) fn set_quotas(source: &mut Source<'_>, of: WrittenSubject) -> Result<Statement> {
    source.expect(&["SET", "QUOTA"])?;
    let mut limits: Vec<(Quota, Option<u64>)> = Vec::new();
    loop {
        let at = source.position();
        let name = folded(&source.identifier("the name of a quota")?);
        let Some(quota) = Quota::by_name(&name) else {
            let names = Quota::ALL.iter().map(|quota| quota.as_str());
            let known: Vec<&str> = names.clone().collect();
            let hint = suggestion(&name, names);
            let message = format!("there is no quota '{name}'{hint}; there are {}", known.join(", "));
            return Err(placed(Error::new(ErrorCode::NotFound, message), at));
        };
        if limits.iter().any(|(other, _)| *other == quota) {
            let message = format!("quota {name} is set twice");
            return Err(placed(Error::new(ErrorCode::InvalidStatement, message), at));
        }
        if !source.eat_token(&Token::Eq) && !source.eat(&["TO"]) {
            return Err(source.unexpected("="));
        }
        limits.push((quota, limit(source, quota)?));
        if !source.eat_token(&Token::Comma) {
            return Ok(Statement::Rights(Rights::SetQuotas { of, limits }));
        }
    }
}

fn limit(source: &mut Source<'_>, quota: Quota) -> Result<Option<u64>> {
    if source.eat(&["DEFAULT"]) {
        return Ok(None);
    }
    let at = source.position();
    let text = match source.eat_number() {
        Some(digits) => digits,
        None => source.string("a number, a text such as '100MB' or '30s', or DEFAULT for no quota")?,
    };
    let units: &[(&str, u64)] = match quota {
        Quota::Queries | Quota::Sessions | Quota::Rows => &[("", 1)],
        Quota::StatementTime => &[("", 1), ("ms", 1), ("s", 1_000), ("min", 60_000), ("h", 3_600_000)],
        Quota::Memory | Quota::Bytes => &[
            ("", 1),
            ("kB", 1_000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("TB", 1_000_000_000_000),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
        ],
    };
    let number_end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (&text[..number_end], text[number_end..].trim());
    let unit = units.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name));
    let value = number
        .parse()
        .ok()
        .zip(unit)
        .and_then(|(number, (_, factor)): (u64, _)| number.checked_mul(*factor));
    let Some(value) = value.filter(|value| *value > 0) else {
        let names: Vec<&str> = units
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| !name.is_empty())
            .collect();
        let units = match names.as_slice() {
            [] => String::new(),
            names => format!(", or a text of a whole number and one of {}", names.join(", ")),
        };
        let message = format!("quota {} takes a whole number from 1 on{units}", quota.as_str());
        return Err(placed(Error::new(ErrorCode::InvalidArgument, message), at));
    };
    Ok(Some(value))
}

/// What follows SHOW, if it is GRANTS or QUOTAS.
pub(super) fn show(source: &mut Source<'_>) -> Result<Option<Show>> {
    let show: fn(Option<UserName>) -> Show = if source.eat(&["GRANTS"]) {
        |user| Show::Grants { user }
    } else if source.eat(&["QUOTAS"]) {
        |user| Show::Quotas { user }
    } else {
        return Ok(None);
    };
    let user = match source.eat(&["FOR"]) {
        true => Some(written_user(source)?),
        false => None,
    };
    Ok(Some(show(user)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse_whole;

    /// A statement about rights in short.
    fn shown(sql: &str) -> String {
        let names = |users: &[UserName]| users.iter().map(|user| user.name.clone()).collect::<Vec<_>>().join("+");
        match parse_whole(sql).map(|parsed| (parsed.actor, parsed.statement)) {
            Ok((
                Actor::Oneself,
                Statement::Rights(Rights::ChangeGrants {
                    change,
                    privileges,
                    on,
                    users,
                }),
            )) => {
                let on = match on {
                    WrittenObject::Table(name) => format!("{}.{}", name.namespace.unwrap_or_default(), name.name),
                    WrittenObject::Namespace(name, _) => format!("namespace {name}"),
                };
                format!("{change:?} {privileges:?} on {on}: {}", names(&users))
            }
            Ok((Actor::Oneself, Statement::Rights(Rights::SetQuotas { of, limits }))) => match of {
                WrittenSubject::User(user) => format!("{} {limits:?}", user.name),
                WrittenSubject::Role(role) => format!("role {} {limits:?}", role.as_str()),
            },
            Ok((Actor::Oneself, Statement::Show(Show::Grants { user }))) => format!("grants of {user:?}"),
            Ok((Actor::User(user), statement)) => format!("as {}: {statement:?}", user.name),
            Ok((Actor::AllUsers(_), statement)) => format!("as all: {statement:?}"),
            Ok((Actor::Oneself, statement)) => panic!("{sql}: {statement:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn good_texts_parse() {
        let check = |sql: &str, expected: &str| assert_eq!(shown(sql), expected, "{sql}");
        check("GRANT SELECT ON t TO 'a'", "Give [Select] on .t: a");
        check(
            "grant select, Insert,update, DELETE on table n.\"T\" to 'A', b;",
            "Give [Select, Insert, Update, Delete] on n.T: A+b",
        );
        check("GRANT SELECT, SELECT ON kalam.n.t TO a", "Give [Select] on n.t: a");
        let all = "[Select, Insert, Update, Delete]";
        check("GRANT ALL ON n.t TO 'a'", &format!("Give {all} on n.t: a"));
        check(
            "GRANT ALL PRIVILEGES ON TABLE t TO 'a'",
            &format!("Give {all} on .t: a"),
        );
        check("GRANT SELECT ON table TO 'a'", "Give [Select] on .table: a");
        check("GRANT USAGE ON NAMESPACE n TO 'a'", "Give [Usage] on namespace n: a");
        check(
            "REVOKE USAGE ON SCHEMA kalam.n FROM 'a'",
            "Take [Usage] on namespace n: a",
        );
        check(
            "GRANT EXECUTE AS ALL USERS ON n.t TO 'a'",
            "Give [ExecuteAsAllUsers] on n.t: a",
        );
        check(
            "REVOKE EXECUTE AS ALL USERS ON n.t FROM 'a'",
            "Take [ExecuteAsAllUsers] on n.t: a",
        );
        check("REVOKE ALL ON t FROM 'a', 'b'", &format!("Take {all} on .t: a+b"));
        check("SHOW GRANTS", "grants of None");
        check(
            "ALTER ROLE service SET QUOTA memory = '100MB', statement_time = '30s', rows = DEFAULT",
            "role service [(Memory, Some(100000000)), (StatementTime, Some(30000)), (Rows, None)]",
        );
        check(
            "ALTER USER 'a' SET QUOTA bytes = '1 GiB', queries = 4, sessions TO '2'",
            "a [(Bytes, Some(1073741824)), (Queries, Some(4)), (Sessions, Some(2))]",
        );
        assert!(shown("EXECUTE AS USER 'a' (SELECT (1))").starts_with("as a: Query("));
        assert!(shown("EXECUTE AS USER a (DROP TABLE t);").starts_with("as a: Definition(DropTable"));
        assert!(shown("execute as all users (SELECT 1 UNION SELECT 2)").starts_with("as all: Query("));
        assert!(shown("EXECUTE AS ALL USERS (VALUES (?))").starts_with("as all: Query("));
    }

    #[test]
    fn bad_texts_are_refused_with_their_place() {
        use ErrorCode::{InvalidArgument, InvalidStatement, NotFound, SyntaxError, Unsupported};
        let cases: &[(&str, ErrorCode, &str, (u64, u64))] = &[
            ("GRANT", SyntaxError, "expected SELECT, INSERT", (1, 6)),
            ("GRANT SELEC ON t TO 'a'", SyntaxError, "did you mean SELECT", (1, 7)),
            ("GRANT SELECT t TO 'a'", SyntaxError, "expected ON", (1, 14)),
            ("GRANT SELECT ON TO 'a'", SyntaxError, "", (1, 20)),
            ("GRANT SELECT ON t FROM 'a'", SyntaxError, "expected TO", (1, 19)),
            ("REVOKE SELECT ON t TO 'a'", SyntaxError, "expected FROM", (1, 20)),
            ("GRANT SELECT ON t TO", SyntaxError, "the name of a user", (1, 21)),
            (
                "GRANT SELECT ON t TO 'a' 'b'",
                SyntaxError,
                "the end of the statement",
                (1, 26),
            ),
            ("GRANT SELECT (a) ON t TO 'a'", Unsupported, "single columns", (1, 14)),
            ("GRANT SELECT ON t, u TO 'a'", Unsupported, "one table", (1, 18)),
            (
                "GRANT SELECT ON ALL TABLES IN SCHEMA n TO 'a'",
                Unsupported,
                "ALL TABLES",
                (1, 17),
            ),
            ("GRANT SELECT ON NAMESPACE n TO 'a'", Unsupported, "NAMESPACE", (1, 17)),
            ("GRANT USAGE ON t TO 'a'", SyntaxError, "NAMESPACE", (1, 16)),
            ("GRANT USAGE, SELECT ON t TO 'a'", SyntaxError, "expected ON", (1, 12)),
            ("GRANT SELECT, USAGE ON t TO 'a'", SyntaxError, "USAGE alone", (1, 15)),
            ("GRANT EXECUTE ON t TO 'a'", SyntaxError, "EXECUTE AS ALL USERS", (1, 7)),
            ("GRANT SELECT ON t TO PUBLIC", Unsupported, "ACCESS_LEVEL", (1, 22)),
            (
                "GRANT SELECT ON t TO 'a' WITH GRANT OPTION",
                Unsupported,
                "GRANT OPTION",
                (1, 26),
            ),
            (
                "REVOKE GRANT OPTION FOR SELECT ON t FROM 'a'",
                Unsupported,
                "GRANT OPTION",
                (1, 8),
            ),
            ("REVOKE SELECT ON t FROM 'a' CASCADE", Unsupported, "CASCADE", (1, 29)),
            ("GRANT TRUNCATE ON t TO 'a'", SyntaxError, "expected SELECT", (1, 7)),
            (
                "ALTER ROLE king SET QUOTA rows = 1",
                InvalidArgument,
                "not a role",
                (1, 12),
            ),
            ("ALTER ROLE user", SyntaxError, "SET QUOTA", (1, 16)),
            (
                "ALTER USER 'a' SET QUOTA row = 1",
                NotFound,
                "did you mean rows",
                (1, 26),
            ),
            ("ALTER USER 'a' SET QUOTA rows 1", SyntaxError, "expected =", (1, 31)),
            (
                "ALTER USER 'a' SET QUOTA rows = 0",
                InvalidArgument,
                "from 1 on",
                (1, 33),
            ),
            (
                "ALTER USER 'a' SET QUOTA rows = 1.5",
                InvalidArgument,
                "whole number",
                (1, 33),
            ),
            (
                "ALTER USER 'a' SET QUOTA rows = '5MB'",
                InvalidArgument,
                "whole number",
                (1, 33),
            ),
            (
                "ALTER USER 'a' SET QUOTA memory = '5 apples'",
                InvalidArgument,
                "GiB",
                (1, 35),
            ),
            (
                "ALTER USER 'a' SET QUOTA rows = 1, rows = 2",
                InvalidStatement,
                "twice",
                (1, 36),
            ),
            ("EXECUTE AS 'a' (SELECT 1)", SyntaxError, "expected USER", (1, 12)),
            ("EXECUTE AS USER 'a' SELECT 1", SyntaxError, "expected '('", (1, 21)),
            (
                "EXECUTE AS USER 'a' (SELECT 1",
                SyntaxError,
                "at the end of the text",
                (1, 30),
            ),
            (
                "EXECUTE AS USER 'a' (SELECT 1; SELECT 2)",
                SyntaxError,
                "expected ')'",
                (1, 30),
            ),
            ("EXECUTE AS USER 'a' ()", SyntaxError, "a statement", (1, 22)),
            (
                "EXECUTE AS USER 'a' (EXECUTE AS USER 'b' (SELECT 1))",
                InvalidStatement,
                "once",
                (1, 22),
            ),
            (
                "EXPLAIN EXECUTE AS USER 'a' (SELECT 1)",
                InvalidStatement,
                "whole statement",
                (1, 9),
            ),
        ];
        let mut wrong = Vec::new();
        for (sql, code, part, place) in cases {
            let Err(error) = parse_whole(sql) else {
                wrong.push(format!("{sql}: parses"));
                continue;
            };
            let at = error
                .position
                .map_or((0, 0), |position| (position.line, position.column));
            if error.code != *code || !error.message.contains(part) || at != *place {
                wrong.push(format!("{sql}: {error}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn no_error_shows_what_may_be_a_password() {
        for sql in [
            "CREATE USER 'a' PASSWORD hunter2 ROLE user",
            "CREATE USER 'a' WITH PASWORD 'hunter2' ROLE user",
            "CREATE USER 'a' 'hunter2' ROLE user",
            "CREATE USER 'a' hunter2",
            "CREATE USER 'a' PASSWORD \"hunter2\" ROLE user",
            "ALTER USER 'a' SET PASSWORD = 'hunter2'",
            "ALTER USER 'a' PASSWORD 'x' 'hunter2'",
            "ALTER USER 'a' hunter2",
            "EXECUTE AS USER 'b' (ALTER USER 'a' hunter2)",
            "EXPLAIN ALTER USER 'a' PASSWORD hunter2",
        ] {
            let error = parse_whole(sql).expect_err(sql);
            assert_eq!(error.code, ErrorCode::SyntaxError, "{sql}: {error}");
            assert!(!error.message.contains("hunter2"), "{sql}: {error}");
        }
    }
}
