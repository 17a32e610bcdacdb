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
    // Views by what cannot be computed of another's values, or of a system table beside them.
    probe(
        "SELECT CAST(v AS BIGINT) FROM {n}.seen_{t} WHERE id < 900",
        Victim(MARKER),
    ),
    probe(
        "SELECT CAST(a.v AS DATE) FROM {n}.seen_{t} a JOIN system.users u ON u.user_id <> a.v WHERE a.id < 900",
        Victim(MARKER),
    ),
    probe(
        "SELECT json_get_str(v, 'a'), v -> 'a', CAST(v AS JSON) FROM {n}.{t} WHERE id < 900",
        Victim(MARKER),
    ),
    probe(
        "SELECT table_name, (SELECT max(v) FROM {n}.seen_{t} WHERE id < 900) FROM information_schema.tables \
         WHERE table_schema = '{n}' AND table_name = '{t}'",
        Victim(MARKER),
    ),
    probe(
        "SELECT u.user_id, a.v FROM system.users u JOIN {n}.{t} a ON u.user_id = CURRENT_USER ORDER BY a.id",
        Victim(MARKER),
    ),
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
    probe(
        "SELECT median(amount), stddev(amount), approx_percentile_cont(amount, 0.5) FROM {n}.{t} WHERE id < 900",
        Victim("22"),
    ),
    probe(
        "SELECT count(*) || ' kinds' FROM (SELECT amount FROM {n}.{t} WHERE id < 900 GROUP BY amount HAVING count(*) > 0)",
        Victim("3 kinds"),
    ),
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
    probe(
        "EXPLAIN ANALYZE SELECT * FROM {n}.seen_{t} ORDER BY id LIMIT 2",
        Victim("output_rows=2"),
    ),
    probe(
        "EXPLAIN ANALYZE SELECT f.word FROM {n}.facts f JOIN {n}.{t} a ON a.id = f.id",
        Victim("output_rows=3"),
    ),
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
