//! Texts and what they parse to: good ones, and refused ones with their place.

use super::*;

/// WITH before a write.
fn names(with: Option<&ast::With>) -> String {
    with.map_or_else(String::new, |with| format!("{with} "))
}

/// A statement in one line.
pub(super) fn shown(statement: &Statement) -> String {
    match statement {
        Statement::Query(query) => format!("query {query}"),
        Statement::Explain {
            analyze,
            verbose,
            format,
            statement,
            original,
        } => {
            let inner = shown(statement);
            assert!(inner.ends_with(&original.to_string()), "{inner} and {original}");
            format!(
                "explain {analyze} {verbose} {} [{inner}]",
                format.as_ref().map_or(String::new(), ToString::to_string)
            )
        }
        Statement::Insert(insert) => format!("insert {insert}"),
        Statement::Update(update) => format!("update {}{}", names(update.with.as_ref()), update.write),
        Statement::Delete(delete) => format!("delete {}{}", names(delete.with.as_ref()), delete.write),
        Statement::Definition(Definition::CreateTable(table)) => {
            let columns = table.columns.iter().map(|column| {
                let null = if column.nullable { "" } else { " not null" };
                let default = column
                    .default
                    .as_ref()
                    .map_or(String::new(), |default| format!(" default {default}"));
                let data_type = column
                    .sql_type
                    .as_ref()
                    .map_or("?".to_owned(), |sql_type| sql_type.data_type.to_string());
                format!("{} {data_type}{null}{default}", column.name)
            });
            let columns = columns.collect::<Vec<_>>().join(", ");
            let query = table
                .query
                .as_ref()
                .map_or(String::new(), |query| format!(" as {query}"));
            let name = name(&table.name);
            let kind = table.kind.as_str();
            let key: Vec<_> = table.primary_key.iter().map(|(column, _)| column).collect();
            format!(
                "{kind} {:?} {name} ({columns}) key {:?} {:?}{query}",
                table.mode, key, table.options
            )
        }
        Statement::Definition(Definition::DropTable {
            names,
            kind: _,
            if_exists,
        }) => {
            format!(
                "drop {if_exists} {}",
                names.iter().map(name).collect::<Vec<_>>().join(" ")
            )
        }
        Statement::Definition(Definition::Truncate { names }) => {
            format!("truncate {}", names.iter().map(name).collect::<Vec<_>>().join(" "))
        }
        Statement::Definition(Definition::CreateView(view)) => {
            assert!(!view.query.to_string().is_empty());
            format!(
                "view {:?} {} {:?} as [{}]",
                view.mode,
                name(&view.name),
                view.columns,
                view.text
            )
        }
        Statement::Definition(Definition::DropView { names, if_exists }) => {
            format!(
                "drop view {if_exists} {}",
                names.iter().map(name).collect::<Vec<_>>().join(" ")
            )
        }
        Statement::Definition(other) => format!("{other:?}"),
        Statement::Rights(rights) => format!("{rights:?}"),
        Statement::Administration(Administration::CreateUser {
            name,
            password,
            role,
            if_not_exists,
        }) => {
            format!("create user {name} {password:?} {role:?} {if_not_exists}")
        }
        Statement::Administration(Administration::AlterUser { name, password, role }) => {
            format!("alter user {name} {password:?} {role:?}")
        }
        Statement::Administration(other) => format!("{other:?}"),
        Statement::Show(Show::Columns { table }) => format!("columns of {}", name(table)),
        Statement::Show(Show::Describe { table, history }) => format!("describe {} {history}", name(table)),
        Statement::Show(other) => format!("{other:?}"),
        Statement::Operation(operation) => {
            let of = |tables: &Tables| match tables {
                Tables::One(table) => name(table),
                Tables::All => "all tables".to_string(),
            };
            match operation {
                Operation::Flush(tables) => format!("flush {}", of(tables)),
                Operation::Compact(tables) => format!("compact {}", of(tables)),
                Operation::Check(tables) => format!("check {}", of(tables)),
            }
        }
    }
}

fn name(name: &ObjectName) -> String {
    match &name.namespace {
        Some(namespace) => format!("{namespace}.{}", name.name),
        None => name.name.clone(),
    }
}

pub(super) const GOOD: &[(&str, &str)] = &[
    (
        "CREATE VIEW n.v AS SELECT a,  'x;y' /* b */ FROM t -- c\n ;",
        "view New n.v [] as [SELECT a,  'x;y' /* b */ FROM t -- c]",
    ),
    (
        "create or replace view \"V\" (a, \"B\") as (values (1, 2))",
        "view OrReplace V [\"a\", \"B\"] as [(values (1, 2))]",
    ),
    (
        "CREATE VIEW IF NOT EXISTS v AS WITH x AS (SELECT 1) SELECT * FROM x",
        "view IfNotExists v [] as [WITH x AS (SELECT 1) SELECT * FROM x]",
    ),
    ("DROP VIEW IF EXISTS a, n.b RESTRICT", "drop view true a n.b"),
    (
        "DELETE FROM t USING u WHERE t.a = u.a RETURNING t.*, u.b AS c",
        "delete DELETE FROM t USING u WHERE t.a = u.a RETURNING t.*, u.b AS c",
    ),
    (
        "INSERT INTO t VALUES (1) RETURNING *",
        "insert INSERT INTO t VALUES (1) RETURNING *",
    ),
    ("SELECT 1", "query SELECT 1"),
    (
        "SELECT user, t.user, user.a, user[1] FROM user WHERE user = CURRENT_USER",
        "query SELECT user, t.user, user.a, user[1] FROM user WHERE user = CURRENT_USER",
    ),
    ("select 1 ;;", "query SELECT 1"),
    (
        "-- a comment; with a semicolon\nSELECT 'a;b' /* ; */",
        "query SELECT 'a;b'",
    ),
    (
        "(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1",
        "query (SELECT 1) UNION ALL (SELECT 2) ORDER BY 1",
    ),
    ("VALUES (1, 'a'), (2, 'b')", "query VALUES (1, 'a'), (2, 'b')"),
    (
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "query WITH a AS (SELECT 1) SELECT * FROM a",
    ),
    (
        "SELECT * FROM t WHERE a = ? AND b = '?' AND c IN (?, ?)",
        "query SELECT * FROM t WHERE a = $1 AND b = '?' AND c IN ($2, $3)",
    ),
    (
        "SELECT ?::BIGINT, \"?\" /* ? */ -- ?\n",
        "query SELECT $1::BIGINT, \"?\"",
    ),
    ("SELECT a FROM t WHERE a=?", "query SELECT a FROM t WHERE a = $1"),
    ("SELECT $2, $01", "query SELECT $2, $1"),
    (
        "SELECT a FROM t FETCH FIRST 3 ROWS ONLY",
        "query SELECT a FROM t LIMIT 3",
    ),
    (
        "SELECT a FROM t OFFSET 2 FETCH NEXT ROW ONLY",
        "query SELECT a FROM t LIMIT 1 OFFSET 2",
    ),
    (
        "SELECT CURRENT_USER, current_role, \"current_role\"",
        "query SELECT CURRENT_USER, current_role, \"current_role\"",
    ),
    (
        "SELECT CURRENT_USER(), current_role(), current_user || 'x'",
        "query SELECT CURRENT_USER(), current_role(), current_user || 'x'",
    ),
    ("SELECT * EXCLUDE (a) FROM t", "query SELECT * EXCLUDE (a) FROM t"),
    (
        "SELECT a[1], [1, 2], {'k': 1} FROM t",
        "query SELECT a[1], [1, 2], {'k': 1} FROM t",
    ),
    (
        "SELECT count(*) FILTER (WHERE a) OVER (PARTITION BY b ORDER BY c)",
        "query SELECT count(*) FILTER (WHERE a) OVER (PARTITION BY b ORDER BY c)",
    ),
    (
        "SELECT a FROM t QUALIFY row_number() OVER () = 1",
        "query SELECT a FROM t QUALIFY row_number() OVER () = 1",
    ),
    (
        "SELECT DATE '2024-01-01' + INTERVAL '1 day'",
        "query SELECT DATE '2024-01-01' + INTERVAL '1 day'",
    ),
    ("EXPLAIN SELECT 1", "explain false false  [query SELECT 1]"),
    (
        "EXPLAIN ANALYZE VERBOSE SELECT 1",
        "explain true true  [query SELECT 1]",
    ),
    (
        "EXPLAIN FORMAT TREE SELECT 1",
        "explain false false tree [query SELECT 1]",
    ),
    (
        "EXPLAIN (ANALYZE, VERBOSE off, FORMAT json) SELECT 1",
        "explain true false pgjson [query SELECT 1]",
    ),
    ("EXPLAIN (SELECT 1)", "explain false false  [query (SELECT 1)]"),
    (
        "EXPLAIN INSERT INTO t VALUES (1)",
        "explain false false  [insert INSERT INTO t VALUES (1)]",
    ),
    ("EXPLAIN DELETE FROM t", "explain false false  [delete DELETE FROM t]"),
    (
        "INSERT INTO a.t (x, y) VALUES (1, DEFAULT)",
        "insert INSERT INTO a.t (x, y) VALUES (1, DEFAULT)",
    ),
    ("INSERT INTO t DEFAULT VALUES", "insert INSERT INTO t DEFAULT VALUES"),
    (
        "INSERT INTO t WITH a AS (SELECT 1) SELECT * FROM a",
        "insert INSERT INTO t WITH a AS (SELECT 1) SELECT * FROM a",
    ),
    (
        "UPDATE t SET a = 1, b = b + 1 WHERE c = 'x'",
        "update UPDATE t SET a = 1, b = b + 1 WHERE c = 'x'",
    ),
    (
        "UPDATE t AS x SET a = u.a FROM u WHERE u.id = x.id",
        "update UPDATE t AS x SET a = u.a FROM u WHERE u.id = x.id",
    ),
    (
        "DELETE FROM t USING u WHERE t.id = u.id",
        "delete DELETE FROM t USING u WHERE t.id = u.id",
    ),
    (
        "CREATE NAMESPACE chat",
        "CreateNamespace { name: \"chat\", if_not_exists: false }",
    ),
    (
        "CREATE SCHEMA IF NOT EXISTS \"Chat\"",
        "CreateNamespace { name: \"Chat\", if_not_exists: true }",
    ),
    (
        "DROP NAMESPACE IF EXISTS Chat CASCADE",
        "DropNamespace { name: \"chat\", if_exists: true, cascade: true }",
    ),
    (
        "DROP SCHEMA kalam.chat RESTRICT",
        "DropNamespace { name: \"chat\", if_exists: false, cascade: false }",
    ),
    (
        "CREATE TABLE chat.t (a BIGINT, B TEXT NOT NULL DEFAULT 'x', PRIMARY KEY (b, a))",
        "SHARED New chat.t (a Int64, b Utf8 not null default 'x') key [\"b\", \"a\"] {}",
    ),
    (
        "CREATE USER TABLE IF NOT EXISTS t (id BIGINT PRIMARY KEY DEFAULT snowflake_id(), v DOUBLE NULL) WITH (flush_policy = 'rows:10')",
        "USER IfNotExists t (id Int64 not null default snowflake_id(), v Float64) key [\"id\"] {\"FLUSH_POLICY\": \"rows:10\"}",
    ),
    (
        "CREATE OR REPLACE STREAM TABLE t (a INT CONSTRAINT k PRIMARY KEY) WITH (TTL_SECONDS = 60, MAX_ROWS = 5)",
        "STREAM OrReplace t (a Int32 not null) key [\"a\"] {\"MAX_ROWS\": \"5\", \"TTL_SECONDS\": \"60\"}",
    ),
    (
        "CREATE TABLE t (a INT) WITH (TYPE = 'user')",
        "USER New t (a Int32) key [] {}",
    ),
    (
        "CREATE USER TABLE t (a INT) WITH (TYPE = USER)",
        "USER New t (a Int32) key [] {}",
    ),
    (
        "CREATE TABLE t (a INT) FLUSH POLICY ROWS 1000 INTERVAL '5 minutes' WITH (ACCESS_LEVEL = 'public')",
        "SHARED New t (a Int32) key [] {\"ACCESS_LEVEL\": \"public\", \"FLUSH_POLICY\": \"rows:1000,interval:300s\"}",
    ),
    (
        "CREATE TABLE t (a INT) FLUSH POLICY INTERVAL '1 hour 30 min'",
        "SHARED New t (a Int32) key [] {\"FLUSH_POLICY\": \"interval:5400s\"}",
    ),
    (
        "CREATE TABLE t (a INT) FLUSH POLICY INTERVAL '2' HOUR",
        "SHARED New t (a Int32) key [] {\"FLUSH_POLICY\": \"interval:7200s\"}",
    ),
    (
        "CREATE TABLE t AS SELECT 1 AS a",
        "SHARED New t () key [] {} as SELECT 1 AS a",
    ),
    (
        "CREATE USER TABLE t WITH (COMPRESSION = 'zstd') AS (SELECT 1 AS a)",
        "USER New t () key [] {\"COMPRESSION\": \"zstd\"} as (SELECT 1 AS a)",
    ),
    (
        "CREATE TABLE t (\"Primary\" INT, check TEXT, key TEXT)",
        "SHARED New t (Primary Int32, check Utf8, key Utf8) key [] {}",
    ),
    (
        "CREATE TABLE t (a INT DEFAULT 1 NOT NULL, b BOOLEAN DEFAULT NOT true)",
        "SHARED New t (a Int32 not null default 1, b Boolean default NOT true) key [] {}",
    ),
    ("DROP TABLE a, b.c", "drop false a b.c"),
    ("DROP TABLE IF EXISTS kalam.b.c", "drop true b.c"),
    ("DROP USER TABLE t", "drop false t"),
    ("TRUNCATE t", "truncate t"),
    ("TRUNCATE TABLE a.t, u", "truncate a.t u"),
    (
        "CREATE USER 'Ann' WITH PASSWORD 'correct horse' ROLE service",
        "create user Ann Some(\"correct horse\") Service false",
    ),
    (
        "CREATE USER ann ROLE 'DBA' IF NOT EXISTS",
        "create user ann None Dba true",
    ),
    (
        "CREATE USER IF NOT EXISTS ann PASSWORD 'p' ROLE user",
        "create user ann Some(\"p\") User true",
    ),
    (
        "ALTER USER 'ann' SET PASSWORD 'new one'",
        "alter user ann Some(Some(\"new one\")) None",
    ),
    ("ALTER USER ann WITH PASSWORD NULL", "alter user ann Some(None) None"),
    ("ALTER USER ann SET ROLE dba", "alter user ann None Some(Dba)"),
    (
        "ALTER USER ann PASSWORD 'x' ROLE user",
        "alter user ann Some(Some(\"x\")) Some(User)",
    ),
    ("DROP USER IF EXISTS 'ann'", "DropUser(ann)"),
    ("USE chat", "Use(chat)"),
    ("USE NAMESPACE chat", "Use(chat)"),
    (
        "SET time_zone = 'Europe/Paris'",
        "Set(time_zone, Some(\"Europe/Paris\"))",
    ),
    ("SET TIME ZONE 'UTC'", "Set(time_zone, Some(\"UTC\"))"),
    ("SET timezone TO 'UTC'", "Set(time_zone, Some(\"UTC\"))"),
    ("SET TIMEZONE = -7", "Set(time_zone, Some(\"-07:00\"))"),
    ("SET TIME ZONE 5.5", "Set(time_zone, Some(\"+05:30\"))"),
    ("SET TIME ZONE LOCAL", "Set(time_zone, None)"),
    (
        "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",
        "Set(time_zone, Some(\"-08:00\"))",
    ),
    (
        "SET SESSION statement_timeout TO 5000",
        "Set(statement_timeout, Some(\"5000\"))",
    ),
    (
        "SET ingest.primary_key = a, b",
        "Set(ingest.primary_key, Some(\"a,b\"))",
    ),
    ("SET schema TO DEFAULT", "Set(schema, None)"),
    ("RESET TIME ZONE", "Set(time_zone, None)"),
    ("RESET ingest.table_type", "Set(ingest.table_type, None)"),
    ("SHOW NAMESPACES", "Namespaces"),
    ("SHOW SCHEMAS", "Namespaces"),
    ("SHOW TABLES", "Tables { namespace: None, like: None }"),
    (
        "SHOW TABLES IN chat LIKE 'm%'",
        "Tables { namespace: Some(\"chat\"), like: Some(\"m%\") }",
    ),
    ("SHOW STORAGES", "Storages"),
    ("SHOW JOBS", "Jobs"),
    ("SHOW SEGMENTS", "Segments"),
    ("SHOW COLUMNS FROM chat.m", "columns of chat.m"),
    ("SHOW ALL", "Setting { name: None }"),
    ("SHOW TIME ZONE", "Setting { name: Some(\"time_zone\") }"),
    ("SHOW timezone", "Setting { name: Some(\"time_zone\") }"),
    (
        "SHOW ingest.table_type",
        "Setting { name: Some(\"ingest.table_type\") }",
    ),
    ("DESCRIBE chat.m", "describe chat.m false"),
    ("DESC TABLE m HISTORY", "describe m true"),
    ("DESCRIBE table", "describe table false"),
    ("KILL QUERY 'abc'", "KillQuery(abc)"),
    ("KILL SESSION 'abc'", "KillSession(abc)"),
    ("KILL JOB 'abc'", "KillJob(abc)"),
    ("FLUSH TABLE chat.m", "flush chat.m"),
    ("STORAGE FLUSH TABLE kalam.chat.m;", "flush chat.m"),
    ("storage flush all", "flush all tables"),
    ("STORAGE FLUSH TABLE ALL", "flush all tables"),
    ("STORAGE FLUSH TABLE \"all\"", "flush all"),
    ("STORAGE COMPACT TABLE m", "compact m"),
    ("STORAGE COMPACT ALL", "compact all tables"),
    ("STORAGE CHECK TABLE m", "check m"),
    ("STORAGE CHECK ALL", "check all tables"),
    (
        "CREATE STORAGE fast PATH '/mnt/fast'",
        "CreateStorage { name: \"fast\", location: \"/mnt/fast\", if_not_exists: false }",
    ),
    (
        "ALTER USER ann SET QUOTA rows = 10",
        "SetQuotas { of: User(UserName { name: \"ann\", position: Some(Position { line: 1, column: 12 }) }), limits: [(Rows, Some(10))] }",
    ),
    (
        "CREATE STORAGE IF NOT EXISTS 'Fast' TYPE 'filesystem' URI '/mnt/fast'",
        "CreateStorage { name: \"Fast\", location: \"/mnt/fast\", if_not_exists: true }",
    ),
    (
        "CREATE STORAGE FAST PATH '/mnt/fast' TYPE filesystem",
        "CreateStorage { name: \"fast\", location: \"/mnt/fast\", if_not_exists: false }",
    ),
    (
        "DROP STORAGE IF EXISTS fast",
        "DropStorage { name: \"fast\", if_exists: true }",
    ),
    (
        "DROP STORAGE 'Fast'",
        "DropStorage { name: \"Fast\", if_exists: false }",
    ),
];

#[test]
fn good_texts_parse() {
    let mut wrong = Vec::new();
    for (sql, expected) in GOOD {
        let outcome = parse(sql).map_or_else(|error| error.to_string(), |statement| shown(&statement));
        if outcome != *expected {
            wrong.push(format!("{sql}: {outcome}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

use ErrorCode::{InvalidArgument, InvalidStatement, SyntaxError, TableNotFound, Unsupported};

/// Text, code, a part of the message, line and column.
pub(super) const BAD: &[(&str, ErrorCode, &str, (u64, u64))] = &[
    ("", SyntaxError, "no statement", (0, 0)),
    ("  ;", SyntaxError, "expected a statement", (1, 3)),
    ("SELEC 1", SyntaxError, "did you mean SELECT", (1, 1)),
    (
        "CREATE TABLE t (a INT, current_date DATE)",
        SyntaxError,
        "a column may be called \"current_date\"",
        (1, 24),
    ),
    (
        "SELECT *\nFORM t",
        SyntaxError,
        "syntax error at 'FORM': expected the end of the statement; did you mean FROM instead of FORM?",
        (2, 1),
    ),
    (
        "SELECT a FORM t",
        SyntaxError,
        "did you mean FROM instead of FORM?",
        (1, 15),
    ),
    ("SELECT (1", SyntaxError, "at the end of the text", (1, 10)),
    ("SELECT 'abc", SyntaxError, "nterminated", (1, 8)),
    (
        "SELECT 1; SELECT 2",
        InvalidStatement,
        "one statement at a time",
        (1, 11),
    ),
    ("SELECT ?, $1", SyntaxError, "all as ?", (1, 11)),
    ("SELECT $1, ?", SyntaxError, "all as ?", (1, 12)),
    ("SELECT $0", SyntaxError, "numbered from $1", (1, 8)),
    ("SELECT $70000", SyntaxError, "numbered from $1", (1, 8)),
    ("SELECT $name", SyntaxError, "write ? or $1", (1, 8)),
    ("SELECT :name", SyntaxError, "write ? or $1", (1, 8)),
    ("SELECT FROM t", SyntaxError, "", (1, 8)),
    ("SELECT a INTO b FROM t", Unsupported, "SELECT INTO", (1, 10)),
    ("SELECT a FROM t FOR UPDATE", Unsupported, "FOR UPDATE", (1, 17)),
    (
        "SELECT a FROM (SELECT b FROM u FOR SHARE) x",
        Unsupported,
        "FOR UPDATE or FOR SHARE",
        (1, 32),
    ),
    (
        "SELECT a FROM t TABLESAMPLE BERNOULLI (1)",
        Unsupported,
        "TABLESAMPLE",
        (1, 17),
    ),
    (
        "WITH a AS MATERIALIZED (SELECT 1) SELECT * FROM a",
        Unsupported,
        "MATERIALIZED",
        (1, 11),
    ),
    (
        "WITH a AS (SELECT 1) INSERT INTO t DEFAULT VALUES",
        Unsupported,
        "WITH before INSERT",
        (1, 22),
    ),
    (
        "SELECT a FROM t FETCH FIRST 3 ROWS WITH TIES",
        Unsupported,
        "WITH TIES",
        (1, 17),
    ),
    (
        "EXPLAIN ANALYZE DELETE FROM t",
        Unsupported,
        "EXPLAIN ANALYZE runs the statement",
        (1, 17),
    ),
    (
        "EXPLAIN ANALYZE FORMAT TREE SELECT 1",
        Unsupported,
        "the formats INDENT and PGJSON",
        (1, 29),
    ),
    (
        "EXPLAIN (ANALYZE, FORMAT GRAPHVIZ) SELECT 1",
        Unsupported,
        "EXPLAIN alone has TREE and GRAPHVIZ",
        (1, 36),
    ),
    ("EXPLAIN EXPLAIN SELECT 1", SyntaxError, "expected SELECT", (1, 9)),
    ("EXPLAIN CREATE TABLE t (a INT)", SyntaxError, "to explain", (1, 9)),
    ("EXPLAIN FORMAT xml SELECT 1", SyntaxError, "INDENT, TREE", (1, 16)),
    (
        "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
        Unsupported,
        "ON CONFLICT is not supported yet",
        (1, 26),
    ),
    (
        "UPDATE t JOIN u ON t.a = u.a SET b = 1",
        Unsupported,
        "UPDATE of a join",
        (1, 10),
    ),
    ("UPDATE t SET (a, b) = (1, 2)", Unsupported, "SET (a, b)", (1, 15)),
    ("DELETE FROM t, u", Unsupported, "several tables", (1, 8)),
    ("INSERT OVERWRITE TABLE t SELECT 1", Unsupported, "OVERWRITE", (1, 8)),
    ("CREATE TABLE t", SyntaxError, "the columns", (1, 15)),
    (
        "CREATE TABLE shop.bad ()",
        SyntaxError,
        "syntax error at ')': expected a column or PRIMARY KEY (…)",
        (1, 24),
    ),
    ("SELECT a FROM t WERE b = 1", SyntaxError, "did you mean WHERE", (1, 22)),
    (
        "CREATE TABLE t (a INT UNIQUE)",
        InvalidStatement,
        "UNIQUE is not supported",
        (1, 23),
    ),
    (
        "CREATE TABLE t (a INT,\n  UNIQUE (a))",
        InvalidStatement,
        "UNIQUE is not supported",
        (2, 3),
    ),
    (
        "CREATE TABLE t (a INT CHECK (a > 0))",
        InvalidStatement,
        "CHECK is not supported",
        (1, 23),
    ),
    (
        "CREATE TABLE t (a INT, CONSTRAINT c CHECK (a > 0))",
        InvalidStatement,
        "CHECK is not supported",
        (1, 37),
    ),
    (
        "CREATE TABLE t (a INT REFERENCES u (a))",
        InvalidStatement,
        "REFERENCES is not supported",
        (1, 23),
    ),
    (
        "CREATE TABLE t (a INT, FOREIGN KEY (a) REFERENCES u (a))",
        InvalidStatement,
        "FOREIGN is not supported",
        (1, 24),
    ),
    (
        "CREATE TABLE t (a TEXT COLLATE \"C\")",
        InvalidStatement,
        "COLLATE is not supported",
        (1, 24),
    ),
    (
        "CREATE TABLE t (a INT GENERATED ALWAYS AS IDENTITY)",
        InvalidStatement,
        "GENERATED is not supported",
        (1, 23),
    ),
    (
        "CREATE TABLE t (a INT AUTO_INCREMENT PRIMARY KEY)",
        InvalidStatement,
        "use BIGINT DEFAULT SNOWFLAKE_ID()",
        (1, 23),
    ),
    (
        "CREATE TABLE t (a INT DEFAULT 1 DEFAULT 2)",
        InvalidStatement,
        "twice",
        (1, 33),
    ),
    (
        "CREATE TABLE t (a INT, a TEXT)",
        InvalidStatement,
        "there twice",
        (1, 24),
    ),
    (
        "CREATE TABLE t (a INT NULL PRIMARY KEY)",
        InvalidStatement,
        "cannot be NULL",
        (1, 28),
    ),
    (
        "CREATE TABLE t (a INT PRIMARY KEY, b INT PRIMARY KEY)",
        InvalidStatement,
        "two primary keys",
        (1, 42),
    ),
    (
        "CREATE TABLE t (a INT, PRIMARY KEY (a, a))",
        InvalidStatement,
        "named twice",
        (1, 40),
    ),
    (
        "CREATE TABLE t (a INT PRIMARY KEY DEFERRABLE)",
        Unsupported,
        "DEFERRABLE",
        (1, 35),
    ),
    ("CREATE TABLE t (a VARCHAR(10))", Unsupported, "write TEXT", (1, 19)),
    (
        "CREATE TABLE t (a BIGIN)",
        InvalidStatement,
        "did you mean BIGINT",
        (1, 19),
    ),
    ("CREATE TABLE t (a)", SyntaxError, "the type of column 'a'", (1, 18)),
    (
        "CREATE TABLE t (a INT) PARTITION BY (a)",
        Unsupported,
        "PARTITION",
        (1, 24),
    ),
    (
        "CREATE TABLE t (a INT) TABLESPACE x",
        Unsupported,
        "TABLESPACE",
        (1, 24),
    ),
    (
        "CREATE TABLE t (a INT) WITH (a = 1, A = 2)",
        InvalidStatement,
        "A is given twice",
        (1, 37),
    ),
    (
        "CREATE TABLE t (a INT) FLUSH POLICY ROWS 1 WITH (FLUSH_POLICY = 'rows:1')",
        InvalidStatement,
        "given twice",
        (1, 50),
    ),
    (
        "CREATE TABLE t (a INT) FLUSH POLICY INTERVAL 'soon'",
        InvalidArgument,
        "'5 minutes'",
        (1, 46),
    ),
    ("CREATE TABLE t (a INT) FLUSH POLICY", SyntaxError, "ROWS", (1, 36)),
    (
        "CREATE USER TABLE t (a INT) WITH (TYPE = 'STREAM')",
        InvalidArgument,
        "disagree",
        (1, 35),
    ),
    (
        "CREATE TABLE t (a INT) WITH (TYPE = 'x')",
        InvalidArgument,
        "not a table type",
        (1, 30),
    ),
    (
        "CREATE SYSTEM TABLE t (a INT)",
        InvalidStatement,
        "the database's own",
        (1, 8),
    ),
    (
        "CREATE OR REPLACE TABLE IF NOT EXISTS t (a INT)",
        InvalidStatement,
        "exclude",
        (1, 39),
    ),
    (
        "CREATE TABLE t AS SELECT ? AS a",
        Unsupported,
        "a parameter ($1) in CREATE TABLE",
        (1, 26),
    ),
    ("CREATE TABLE a.b.c (a INT)", TableNotFound, "no catalog 'a'", (1, 14)),
    ("CREATE TABLE t LIKE u", Unsupported, "LIKE", (1, 16)),
    ("DROP TABLE t CASCADE", Unsupported, "CASCADE", (1, 14)),
    ("TRUNCATE t RESTART IDENTITY", Unsupported, "RESTART", (1, 12)),
    ("CREATE USER 'a'", SyntaxError, "expected ROLE", (1, 16)),
    ("CREATE USER 'a' ROLE king", InvalidArgument, "not a role", (1, 22)),
    ("ALTER USER 'a'", SyntaxError, "PASSWORD, ROLE or SET QUOTA", (1, 15)),
    ("SET LOCAL x = 1", Unsupported, "SET LOCAL", (1, 5)),
    ("SET x", SyntaxError, "= or TO", (1, 6)),
    ("SHOW CREATE TABLE t", Unsupported, "SHOW CREATE", (1, 6)),
    ("DESCRIBE SELECT 1", Unsupported, "takes a table", (1, 10)),
    ("KILL 'x'", SyntaxError, "QUERY, SESSION or JOB", (1, 6)),
    ("KILL JOB x", SyntaxError, "the job's id", (1, 10)),
    ("FLUSH t", SyntaxError, "expected TABLE", (1, 7)),
    ("FLUSH TABLE", SyntaxError, "the name of a table", (1, 12)),
    ("STORAGE t", SyntaxError, "FLUSH, COMPACT or CHECK", (1, 9)),
    ("STORAGE FLUSH t", SyntaxError, "or ALL", (1, 15)),
    (
        "STORAGE FLUSH ALL TABLES",
        SyntaxError,
        "the end of the statement",
        (1, 19),
    ),
    ("STORAGE CHECK t", SyntaxError, "or ALL", (1, 15)),
    ("COMPACT TABLE t", Unsupported, "STORAGE COMPACT TABLE", (1, 1)),
    ("CREATE STORAGE", SyntaxError, "the name of a storage", (1, 15)),
    ("CREATE STORAGE fast", SyntaxError, "expected PATH", (1, 20)),
    ("CREATE STORAGE fast PATH /mnt", SyntaxError, "text literal", (1, 26)),
    (
        "CREATE STORAGE fast PATH '/a' URI '/b'",
        SyntaxError,
        "the end of the statement",
        (1, 31),
    ),
    (
        "CREATE STORAGE fast TYPE 's3' URI 's3://bucket'",
        Unsupported,
        "not supported yet",
        (1, 26),
    ),
    (
        "CREATE STORAGE fast TYPE floppy PATH '/a'",
        InvalidArgument,
        "'floppy' is not a type of storage",
        (1, 26),
    ),
    ("DROP STORAGE", SyntaxError, "the name of a storage", (1, 13)),
    (
        "DROP STORAGE fast CASCADE",
        SyntaxError,
        "the end of the statement",
        (1, 19),
    ),
    (
        "ALTER STORAGE fast SET PATH '/b'",
        Unsupported,
        "CREATE STORAGE makes another",
        (1, 7),
    ),
    // Later versions.
    (
        "ALTER TABLE t ADD COLUMN a INT",
        Unsupported,
        "ALTER TABLE is not supported yet",
        (1, 1),
    ),
    ("ALTER NAMESPACE n SET x", Unsupported, "not supported yet", (1, 1)),
    ("CREATE VIEW v", SyntaxError, "expected AS", (1, 14)),
    ("CREATE VIEW v AS", SyntaxError, "", (1, 17)),
    (
        "CREATE VIEW v AS DELETE FROM t",
        SyntaxError,
        "expected SELECT",
        (1, 18),
    ),
    (
        "CREATE VIEW v (a, a) AS SELECT 1, 2",
        InvalidStatement,
        "twice",
        (1, 19),
    ),
    (
        "CREATE VIEW v AS SELECT $1",
        Unsupported,
        "parameter ($1) in a view",
        (1, 25),
    ),
    (
        "CREATE VIEW v WITH (x = 1) AS SELECT 1",
        Unsupported,
        "has no options",
        (1, 15),
    ),
    (
        "CREATE VIEW v AS SELECT 1 WITH CHECK OPTION",
        Unsupported,
        "WITH CHECK OPTION",
        (1, 27),
    ),
    (
        "CREATE OR REPLACE VIEW IF NOT EXISTS v AS SELECT 1",
        InvalidStatement,
        "exclude each other",
        (1, 38),
    ),
    (
        "CREATE MATERIALIZED VIEW v AS SELECT 1",
        Unsupported,
        "keeps a query's rows",
        (1, 1),
    ),
    ("DROP VIEW v CASCADE", Unsupported, "CASCADE", (1, 13)),
    ("ALTER VIEW v AS SELECT 1", Unsupported, "not supported yet", (1, 1)),
    ("BEGIN", Unsupported, "BEGIN is not supported yet", (1, 1)),
    ("START TRANSACTION", Unsupported, "not supported yet", (1, 1)),
    ("COMMIT", Unsupported, "not supported yet", (1, 1)),
    ("ROLLBACK TO s", Unsupported, "not supported yet", (1, 1)),
    ("SAVEPOINT s", Unsupported, "not supported yet", (1, 1)),
    (
        "MERGE INTO t USING u ON a = b WHEN MATCHED THEN DELETE",
        Unsupported,
        "not supported yet",
        (1, 1),
    ),
    ("SUBSCRIBE TO t", Unsupported, "not supported yet", (1, 1)),
    // Never.
    (
        "COPY t TO '/tmp/x'",
        Unsupported,
        "no SQL reads or writes the server's files",
        (1, 1),
    ),
    (
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        Unsupported,
        "no SQL reaches the server's files",
        (1, 1),
    ),
    (
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        Unsupported,
        "not part of",
        (1, 1),
    ),
    (
        "CREATE TEMPORARY TABLE t (a INT)",
        Unsupported,
        "CREATE TEMPORARY",
        (1, 1),
    ),
    ("LOAD 'x'", Unsupported, "not part of", (1, 1)),
    ("PREPARE p AS SELECT 1", Unsupported, "over the protocol", (1, 1)),
    ("EXECUTE p", Unsupported, "over the protocol", (1, 1)),
    ("DEALLOCATE p", Unsupported, "over the protocol", (1, 1)),
    ("ATTACH 'x' AS y", Unsupported, "files", (1, 1)),
    ("PRAGMA x", Unsupported, "not part of", (1, 1)),
];

#[test]
fn refusals_say_what_and_where() {
    let mut wrong = Vec::new();
    for (sql, code, part, (line, column)) in BAD {
        match parse(sql) {
            Ok(statement) => wrong.push(format!("{sql}: parses as {statement:?}")),
            Err(error) => {
                let place = error
                    .position
                    .map_or((0, 0), |position| (position.line, position.column));
                if error.code != *code || !error.message.contains(part) || place != (*line, *column) {
                    wrong.push(format!("{sql}: {error}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn scripts_split_at_their_semicolons() {
    let check = |sql: &str, expected: &[&str]| assert_eq!(split(sql).expect("it tokenizes"), expected, "{sql}");
    check("", &[]);
    check(" ;; -- nothing\n;", &[]);
    check("SELECT 1", &["SELECT 1"]);
    check("SELECT 1;", &["SELECT 1"]);
    check(
        "SELECT ';' ; -- a;b\nSELECT \"x;y\" /* ; */;",
        &["SELECT ';'", "-- a;b\nSELECT \"x;y\" /* ; */"],
    );
    check(
        "SELECT 'ä;'; SELECT $$;$$; SELECT E'\\';'",
        &["SELECT 'ä;'", "SELECT $$;$$", "SELECT E'\\';'"],
    );
    check(
        "INSERT INTO t VALUES (?);\r\nSELECT ?",
        &["INSERT INTO t VALUES (?)", "SELECT ?"],
    );
    assert_eq!(split("SELECT 'x").expect_err("it does not tokenize").code, SyntaxError);
}

#[test]
fn defaults_parse_alone() {
    assert_eq!(parse_expression("1 + 2").expect("it parses").to_string(), "1 + 2");
    for bad in ["", "1;2", "1 2", ":a", "(", "1 FORM"] {
        let error = parse_expression(bad).expect_err(bad);
        assert!(matches!(error.code, SyntaxError | InvalidStatement), "{bad}: {error}");
    }
}
