//! Tables of one last name in several namespaces, and names that no table of FROM has.

use kalamdb_core::ErrorCode;

use crate::testing::Fixture;

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE NAMESPACE arch",
        "CREATE TABLE arch.orders (id BIGINT PRIMARY KEY, v TEXT)",
        "CREATE TABLE orders (id BIGINT PRIMARY KEY, v TEXT, s STRUCT<orders STRUCT<v INT>>)",
        "CREATE TABLE users (user_id TEXT PRIMARY KEY, note TEXT)",
        "INSERT INTO arch.orders VALUES (1, 'a1'), (2, 'a2'), (3, 'a3')",
        "INSERT INTO orders (id, v) VALUES (3, 'p3'), (4, 'p4')",
        "INSERT INTO users VALUES ('root', 'of root'), ('ann', 'of ann')",
    ]);
    fixture
}

#[test]
fn a_whole_name_means_its_table_and_no_other() {
    let fixture = fixture();
    for (sql, expected) in [
        (
            "SELECT arch.orders.id, orders.id FROM orders JOIN arch.orders ON arch.orders.id = orders.id",
            &["3|3"][..],
        ),
        (
            "SELECT public.orders.v, arch.orders.v FROM arch.orders JOIN public.orders ON public.orders.id = arch.orders.id",
            &["p3|a3"],
        ),
        (
            "SELECT arch.orders.id FROM arch.orders LEFT JOIN orders ON orders.id = arch.orders.id \
             WHERE orders.id IS NULL ORDER BY arch.orders.id DESC",
            &["2", "1"],
        ),
        (
            "SELECT kalam.arch.orders.v FROM arch.orders, kalam.public.orders WHERE kalam.arch.orders.id = public.orders.id",
            &["a3"],
        ),
        (
            "SELECT system.users.role, users.note FROM system.users JOIN users ON users.user_id = system.users.user_id",
            &["system|of root"],
        ),
        (
            "SELECT users.note FROM system.users, users WHERE system.users.role = 'dba'",
            &[],
        ),
        (
            "SELECT v FROM arch.orders WHERE EXISTS (SELECT 1 FROM orders WHERE orders.id = arch.orders.id)",
            &["a3"],
        ),
        (
            "SELECT v FROM arch.orders WHERE id IN (SELECT orders.id FROM orders WHERE arch.orders.v = 'a3')",
            &["a3"],
        ),
        (
            "SELECT v, (SELECT max(orders.v) FROM orders WHERE orders.id = arch.orders.id) AS p FROM arch.orders ORDER BY v",
            &["a1|NULL", "a2|NULL", "a3|p3"],
        ),
        // An alias of one query is not a table of another.
        (
            "SELECT v FROM arch.orders WHERE EXISTS (SELECT 1 FROM users orders WHERE orders.note = arch.orders.v)",
            &[],
        ),
        (
            "WITH orders AS (SELECT 3 AS id) SELECT public.orders.v FROM orders JOIN public.orders ON orders.id = public.orders.id",
            &["p3"],
        ),
        // What WITH makes of a table is named like it.
        (
            "WITH orders AS (SELECT orders.id + 1 AS id FROM orders) SELECT orders.id FROM orders ORDER BY orders.id",
            &["4", "5"],
        ),
        (
            "WITH RECURSIVE orders AS (SELECT 1 AS id UNION ALL SELECT orders.id + 1 FROM orders WHERE orders.id < 3) \
             SELECT count(orders.id) FROM orders",
            &["3"],
        ),
        (
            "SELECT orders.* FROM orders JOIN arch.orders ON public.orders.id = arch.orders.id",
            &["3|p3|NULL"],
        ),
        (
            "SELECT arch.orders.* FROM orders JOIN arch.orders ON public.orders.id = arch.orders.id",
            &["3|a3"],
        ),
        (
            "SELECT count(arch.orders.*), max(orders.id) FROM orders LEFT JOIN arch.orders ON orders.id = arch.orders.id",
            &["2|4"],
        ),
        (
            "SELECT arch.orders.v AS v, count(*) FROM arch.orders, orders GROUP BY arch.orders.v \
             HAVING max(orders.v) = 'p4' ORDER BY arch.orders.v",
            &["a1|2", "a2|2", "a3|2"],
        ),
        (
            "SELECT arch.orders.id FROM arch.orders UNION ALL SELECT orders.id FROM orders ORDER BY 1",
            &["1", "2", "3", "3", "4"],
        ),
        (
            "SELECT x.v FROM (SELECT arch.orders.v FROM arch.orders, orders WHERE arch.orders.id = orders.id) x",
            &["a3"],
        ),
        (
            "SELECT arch.orders._seq > 0 FROM arch.orders JOIN orders ON arch.orders.id = orders.id",
            &["true"],
        ),
        (
            "SELECT orders.v FROM (arch.orders JOIN users ON users.note = arch.orders.v)",
            &[],
        ),
    ] {
        fixture.check(sql, expected);
    }
}

#[test]
fn changes_are_of_the_rows_that_are_meant() {
    let changed = |sql: &str, then: &str, expected: &[&str]| {
        let fixture = fixture();
        fixture.run(&[sql]);
        assert_eq!(fixture.rows(then), expected, "{sql}");
    };
    let (archived, public) = (
        "SELECT id, v FROM arch.orders ORDER BY id",
        "SELECT id, v FROM orders ORDER BY id",
    );
    changed(
        "DELETE FROM arch.orders WHERE EXISTS (SELECT 1 FROM orders WHERE orders.id = arch.orders.id)",
        archived,
        &["1|a1", "2|a2"],
    );
    changed(
        "DELETE FROM arch.orders USING orders WHERE arch.orders.id = orders.id",
        archived,
        &["1|a1", "2|a2"],
    );
    changed(
        "UPDATE arch.orders SET v = 'new' FROM orders WHERE arch.orders.id = orders.id",
        archived,
        &["1|a1", "2|a2", "3|new"],
    );
    changed(
        "UPDATE arch.orders SET orders.v = (SELECT max(orders.v) FROM orders WHERE orders.id = arch.orders.id)",
        archived,
        &["1|NULL", "2|NULL", "3|p3"],
    );
    changed(
        "UPDATE orders SET v = arch.orders.v FROM arch.orders WHERE arch.orders.id = orders.id",
        public,
        &["3|a3", "4|p4"],
    );
    let fixture = fixture();
    for (sql, expected) in [
        (
            "UPDATE orders SET v = 'x' FROM arch.orders WHERE arch.orders.id = orders.id RETURNING orders.v, arch.orders.v",
            &["x|a3"][..],
        ),
        (
            "UPDATE orders SET v = 'y' FROM arch.orders WHERE arch.orders.id = orders.id RETURNING arch.orders.*",
            &["3|a3"],
        ),
        (
            "INSERT INTO arch.orders VALUES (4, 'a4') \
             RETURNING (SELECT max(orders.v) FROM orders WHERE orders.id = arch.orders.id), arch.orders.v, orders.id",
            &["p4|a4|4"],
        ),
        (
            "DELETE FROM arch.orders USING orders WHERE arch.orders.id = orders.id RETURNING orders.v, arch.orders.id",
            &["y|3", "p4|4"],
        ),
        (
            "DELETE FROM arch.orders WHERE arch.orders.id = 1 RETURNING arch.orders.*",
            &["1|a1"],
        ),
    ] {
        let mut rows = fixture.rows(sql);
        rows.sort();
        let mut expected: Vec<&str> = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(rows, expected, "{sql}");
    }
}

#[test]
fn what_no_table_of_from_is_called_is_refused() {
    let fixture = fixture();
    use ErrorCode::{ColumnNotFound, InvalidStatement, TableNotFound};
    for (sql, code, place) in [
        ("SELECT nowhere.orders.v FROM orders", ColumnNotFound, (1, 8)),
        ("SELECT nowhere.o.v FROM orders o", ColumnNotFound, (1, 8)),
        ("SELECT kalm.public.orders.v FROM orders", ColumnNotFound, (1, 8)),
        (
            "SELECT id FROM orders GROUP BY id, nowhere.orders.v",
            ColumnNotFound,
            (1, 36),
        ),
        (
            "SELECT id FROM orders ORDER BY nowhere.orders.v",
            ColumnNotFound,
            (1, 32),
        ),
        (
            "WITH c AS (SELECT 1 AS a) SELECT nowhere.c.a FROM c",
            ColumnNotFound,
            (1, 34),
        ),
        ("UPDATE orders SET v = nowhere.orders.v || 'x'", ColumnNotFound, (1, 23)),
        ("DELETE FROM orders WHERE arch.orders.id = 3", ColumnNotFound, (1, 26)),
        (
            "DELETE FROM orders WHERE id = 3 RETURNING arch.orders.id",
            ColumnNotFound,
            (1, 43),
        ),
        (
            "INSERT INTO orders (id) VALUES (9) RETURNING arch.orders.id",
            ColumnNotFound,
            (1, 46),
        ),
        (
            "CREATE VIEW v AS SELECT nowhere.orders.v FROM orders",
            ColumnNotFound,
            (1, 25),
        ),
        ("SELECT arch.orders.* FROM orders", TableNotFound, (1, 8)),
        ("SELECT count(arch.orders.*) FROM orders", TableNotFound, (1, 14)),
        ("SELECT arch.order.* FROM arch.orders", TableNotFound, (1, 8)),
        ("DELETE FROM orders RETURNING arch.orders.*", TableNotFound, (1, 30)),
        (
            "SELECT orders.v FROM arch.orders, public.orders",
            InvalidStatement,
            (1, 8),
        ),
        (
            "SELECT orders.* FROM arch.orders, public.orders",
            InvalidStatement,
            (1, 8),
        ),
    ] {
        fixture.check_error(sql, code, Some(place), "");
    }
    assert_eq!(fixture.rows(COUNTS), ["2|3"]);
    fixture.check_error(
        "SELECT arch.order.* FROM arch.orders",
        TableNotFound,
        Some((1, 8)),
        "did you mean arch.orders?",
    );
    // A path into a value may look like a table.
    fixture.run(&["INSERT INTO orders (id, s) VALUES (7, named_struct('orders', named_struct('v', 7)))"]);
    fixture.check("SELECT s.orders.v FROM orders WHERE id = 7", &["7"]);
    fixture.check("SELECT orders.s.orders.v FROM orders WHERE id = 7", &["7"]);
    fixture.check("SELECT public.orders.s.orders.v FROM orders WHERE id = 7", &["7"]);
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM arch.orders)";
