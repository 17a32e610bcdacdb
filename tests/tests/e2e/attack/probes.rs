//! What is tried as SQL, and what shows that there was something to find.

use super::MARKER;

/// A statement on table `{t}` of namespace `{n}`.
pub(super) struct Probe {
    pub(super) sql: &'static str,
    pub(super) control: Control,
}

/// Who does find something by the same statement, and a part of what they are told. It is asked of a copy, which it may change.
#[derive(Clone, Copy)]
pub(super) enum Control {
    /// The victim.
    Victim(&'static str),
    /// `root`, by EXECUTE AS ALL USERS of the statement.
    Everyone(&'static str),
    /// `root`, who may do it as it stands.
    Root(&'static str),
}

use Control::{Everyone, Root, Victim};

impl Probe {
    pub(super) fn writes(&self) -> bool {
        ["INSERT", "UPDATE", "DELETE"]
            .iter()
            .any(|word| self.sql.starts_with(word))
    }
}

const fn probe(sql: &'static str, control: Control) -> Probe {
    Probe { sql, control }
}

/// Reads first, then what changes rows, which the controls go through in this order, too.
pub(super) const PROBES: &[Probe] = &[
    // As anyone would.
    probe("SELECT * FROM {n}.{t} ORDER BY id", Victim(MARKER)),
    probe("SELECT * FROM {n}.{t} WHERE id = 1", Victim(MARKER)),
    probe(
        "SELECT v FROM {n}.{t} WHERE id IN (1, 2) OR id > 2 ORDER BY v",
        Victim(MARKER),
    ),
    probe(
        "SELECT v FROM {n}.{t} ORDER BY id DESC LIMIT 1 OFFSET 1",
        Victim(MARKER),
    ),
    probe(
        "SELECT v FROM {n}.{t} WHERE v LIKE '%of-bob%' ORDER BY v",
        Victim(MARKER),
    ),
    probe("SELECT DISTINCT v FROM {n}.{t} ORDER BY v", Victim(MARKER)),
    // By the owner.
    probe(
        "SELECT * FROM {n}.{t} WHERE _user = 'bob-the-' || 'victim'",
        Everyone(MARKER),
    ),
    probe(
        "SELECT v FROM {n}.{t} WHERE CURRENT_USER LIKE '%the-vic%' OR true ORDER BY v",
        Victim(MARKER),
    ),
    probe("EXECUTE AS ALL USERS (SELECT v FROM {n}.{t} ORDER BY id)", Root(MARKER)),
    // By the columns that only the database writes.
    probe(
        "SELECT v FROM {n}.{t} WHERE _seq > 0 AND _updated <= now() ORDER BY id",
        Victim(MARKER),
    ),
    probe(
        "SELECT count(_seq) || ' commits' FROM {n}.{t} WHERE id < 900",
        Victim("3 commits"),
    ),
    // Joins.
    probe(
        "SELECT a.v FROM {n}.{t} a JOIN {n}.facts f ON a.id = f.id ORDER BY 1",
        Victim(MARKER),
    ),
    probe(
        "SELECT f.word, a.v FROM {n}.facts f LEFT JOIN {n}.{t} a ON a.id = f.id ORDER BY 1",
        Victim(MARKER),
    ),
    probe(
        "SELECT a.v, b.v FROM {n}.{t} a FULL JOIN {n}.{t} b ON a.id = b.id + 1 ORDER BY 1, 2",
        Victim(MARKER),
    ),
    probe(
        "SELECT v, word FROM {n}.{t} NATURAL JOIN {n}.facts ORDER BY 1",
        Victim(MARKER),
    ),
    probe("SELECT v FROM {n}.{t}, system.users ORDER BY v LIMIT 3", Victim(MARKER)),
    probe(
        "SELECT word FROM {n}.facts f LEFT ANTI JOIN {n}.{t} a ON a.id = f.id AND f.id > 1 ORDER BY 1",
        Victim("one"),
    ),
    // Subqueries.
    probe("SELECT (SELECT max(v) FROM {n}.{t} WHERE id < 900)", Victim(MARKER)),
    probe(
        "SELECT word FROM {n}.facts WHERE id IN (SELECT id FROM {n}.{t}) ORDER BY 1",
        Victim("three"),
    ),
    probe(
        "SELECT word FROM {n}.facts f WHERE EXISTS (SELECT 1 FROM {n}.{t} a WHERE a.id = f.id AND v LIKE '%two%')",
        Victim("two"),
    ),
    probe(
        "SELECT word, (SELECT v FROM {n}.{t} a WHERE a.id = f.id) FROM {n}.facts f ORDER BY 1",
        Victim(MARKER),
    ),
    probe(
        "WITH x AS (SELECT * FROM {n}.{t}) SELECT x.v FROM x UNION SELECT v FROM {n}.{t} ORDER BY 1",
        Victim(MARKER),
    ),
    probe(
        "SELECT v FROM (SELECT *, row_number() OVER (ORDER BY id) AS n FROM {n}.{t}) WHERE n = 1",
        Victim(MARKER),
    ),
    // Views that another made.
    probe("SELECT * FROM {n}.seen_{t} ORDER BY id", Victim(MARKER)),
    probe("SELECT max(v) FROM {n}.seen_{t} WHERE id < 900", Victim(MARKER)),
    probe("SELECT n FROM {n}.counted_{t}", Victim("rows: 3")),
    // Functions that gather values.
    probe("SELECT string_agg(v, ',' ORDER BY id) FROM {n}.{t}", Victim(MARKER)),
    probe("SELECT array_agg(v ORDER BY id) FROM {n}.{t}", Victim(MARKER)),
    probe(
        "SELECT min(v), max(v), first_value(v ORDER BY id) FROM {n}.{t} WHERE id < 900",
        Victim(MARKER),
    ),
    probe(
        "SELECT lag(v) OVER (ORDER BY id) FROM {n}.{t} ORDER BY 1",
        Victim(MARKER),
    ),
    // Errors that carry values, or come only where there is a row.
    probe("SELECT CAST(v AS BIGINT) FROM {n}.{t} WHERE id < 900", Victim(MARKER)),
    probe(
        "SELECT CAST(v AS TIMESTAMP) FROM {n}.{t} WHERE id < 900",
        Victim(MARKER),
    ),
    probe("SELECT 1 / (amount - 11) FROM {n}.{t}", Victim("INVALID_ARGUMENT")),
    probe(
        "SELECT (SELECT v FROM {n}.{t} WHERE id < 900)",
        Victim("INVALID_STATEMENT"),
    ),
    // Counts and statistics.
    probe(
        "SELECT 'rows: ' || count(*) FROM {n}.{t} WHERE id < 900",
        Victim("rows: 3"),
    ),
    probe(
        "SELECT count(*), count(v), count(DISTINCT amount) FROM {n}.{t}",
        Victim("\"3\", \"3\", \"3\""),
    ),
    probe(
        "SELECT min(id), max(amount) FROM {n}.{t} WHERE id < 900",
        Victim("\"1\", \"33\""),
    ),
    probe("SELECT 'about ' || approx_distinct(v) FROM {n}.{t}", Victim("about 3")),
    probe("SELECT sum(amount), avg(amount) FROM {n}.{t}", Victim("66")),
    // Plans, and what running them counted.
    probe(
        "EXPLAIN SELECT * FROM {n}.{t} WHERE v = 'x' ORDER BY id",
        Victim("ScanExec"),
    ),
    probe("EXPLAIN VERBOSE SELECT count(*) FROM {n}.{t}", Victim("ScanExec")),
    probe("EXPLAIN ANALYZE SELECT * FROM {n}.{t}", Victim("output_rows=3")),
    probe(
        "EXPLAIN ANALYZE SELECT * FROM {n}.{t} WHERE id = 2",
        Victim("output_rows=1"),
    ),
    probe(
        "EXPLAIN ANALYZE SELECT v FROM {n}.{t} WHERE v > 'm' AND amount > 11",
        Victim("output_rows=2"),
    ),
    probe("EXPLAIN ANALYZE SELECT max(id) FROM {n}.{t}", Victim("ScanExec")),
    // Another's keys, when writing.
    probe("INSERT INTO {n}.box SELECT v FROM {n}.{t} RETURNING v", Victim(MARKER)),
    probe("INSERT INTO {n}.{t} VALUES (1, 'mine', 5)", Victim("DUPLICATE_KEY")),
    probe(
        "INSERT INTO {n}.{t} SELECT id + 500, v, amount FROM {n}.{t} WHERE id < 4 RETURNING v",
        Victim(MARKER),
    ),
    probe(
        "UPDATE {n}.{t} SET v = v || '!' WHERE id IN (2, 3) RETURNING v",
        Victim(MARKER),
    ),
    probe("UPDATE {n}.{t} SET id = 2 WHERE id = 1", Victim("DUPLICATE_KEY")),
    probe(
        "UPDATE {n}.{t} SET amount = f.id FROM {n}.facts f WHERE f.id = {t}.id RETURNING v",
        Victim(MARKER),
    ),
    probe(
        "UPDATE {n}.{t} SET amount = CAST(v AS INTEGER) WHERE id < 4",
        Victim(MARKER),
    ),
    probe("DELETE FROM {n}.{t} WHERE id = 3 RETURNING v", Victim(MARKER)),
    probe("DELETE FROM {n}.{t} RETURNING v", Victim(MARKER)),
];

/// What would lead past the scope if it were there: nobody gets through, `root` included.
pub(super) const DOORS: &[&str] = &[
    // Columns and catalogs of the planner's own.
    "SELECT _user FROM filled.mixed",
    "SELECT _scope FROM filled.mixed",
    "SELECT _row_key FROM filled.mixed",
    "SELECT _row_location FROM filled.mixed",
    "SELECT _row_values FROM filled.mixed",
    "UPDATE filled.mixed SET _user = 'x'",
    "INSERT INTO filled.mixed (id, _user) VALUES (77, 'x')",
    "SELECT * FROM \"\u{1}mutation\".filled.mixed",
    "SELECT * FROM \"\u{1}system columns\".filled.mixed",
    "SELECT * FROM other.filled.mixed",
    // Another's name.
    "SET ROLE system",
    "SET SESSION AUTHORIZATION 'bob-the-victim'",
    "SET user = 'bob-the-victim'",
    "SET current_user = 'bob-the-victim'",
    "SET datafusion.catalog.default_schema = 'filled'",
    "EXECUTE AS USER 'bob-the-victim'",
    "EXECUTE AS USER 'root' (EXECUTE AS USER 'bob-the-victim' (SELECT * FROM filled.mixed))",
    "EXECUTE AS USER 'bob-the-victim' (SELECT 1); SELECT * FROM filled.mixed",
    "CREATE VIEW filled.peek AS EXECUTE AS USER 'bob-the-victim' (SELECT * FROM filled.mixed)",
    "CREATE VIEW filled.peek AS EXECUTE AS ALL USERS (SELECT * FROM filled.mixed)",
    "CREATE TABLE filled.taken AS EXECUTE AS ALL USERS (SELECT * FROM filled.mixed)",
    "INSERT INTO filled.box EXECUTE AS ALL USERS (SELECT v FROM filled.mixed)",
    "EXPLAIN EXECUTE AS ALL USERS (SELECT * FROM filled.mixed)",
    "GRANT SELECT ON filled.mixed TO 'mallory_user'",
    // The past.
    "SELECT * FROM filled.mixed FOR SYSTEM_TIME AS OF '2020-01-01'",
    "SELECT * FROM filled.mixed VERSION AS OF 1",
    // Files.
    "SELECT * FROM '{path}'",
    "SELECT * FROM \"{path}\"",
    "SELECT * FROM read_parquet('{path}')",
    "SELECT * FROM parquet_metadata('{path}')",
    "CREATE EXTERNAL TABLE filled.taken STORED AS PARQUET LOCATION '{path}'",
    "COPY filled.mixed TO '{path}.csv'",
    "COPY (SELECT * FROM filled.mixed) TO '{path}.csv'",
];
