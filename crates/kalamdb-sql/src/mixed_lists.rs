//! Members of an IN list that are no literals: compared beside the list, so that DataFusion cannot merge them with another list's.
//!
//! Problem: DataFusion 55's simplifier merges two IN lists over one expression as sets of what is written in them: members
//! that are written differently are different to it, so that `a IN (b, 7) AND a IN (d, 9)` is false though `a`, `b` and `d` be equal. Proper way: the simplifier compares literals alone. Chosen: `x IN (1, 2, b)` is written as
//! `x IN (1, 2) OR x = b`, `x NOT IN (1, 2, b)` as `x NOT IN (1, 2) AND x <> b`, which is what they mean, before the simplifier sees
//! them. A value that must not be written more than once is compared with a list, `x = ANY (ARRAY[b, c])`. Lists of literals, which
//! key ranges and pruning are made of, stay as they are. Evidence: `inlist_union`, `inlist_intersection` and `inlist_except` of
//! datafusion-optimizer 55 `simplify_expressions/expr_simplifier.rs`.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::functions_nested::expr_fn::make_array;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Expr, Operator, binary_expr};

use crate::quantified::Quantified;

/// How many members are compared one by one. More are a list, since each is a part of the plan.
const MOST_COMPARED: usize = 16;

/// The same expression, without other members than literals in its IN lists. All members have the type of the value already.
///
/// # Errors
/// None but those of walking the expression.
pub(crate) fn apart(expr: Expr) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        Ok(match expr {
            Expr::InList(list) if !list.list.iter().all(is_literal) => Transformed::yes(separated(list)),
            other => Transformed::no(other),
        })
    })
}

fn separated(list: InList) -> Expr {
    let InList { expr, list, negated } = list;
    let (literals, computed): (Vec<Expr>, Vec<Expr>) = list.into_iter().partition(is_literal);
    let (equality, connective) = match negated {
        false => (Operator::Eq, Operator::Or),
        true => (Operator::NotEq, Operator::And),
    };
    let is_single = literals.is_empty() && computed.len() == 1;
    if !is_single && (!is_plain(&expr) || computed.len() > MOST_COMPARED) {
        let members = literals.into_iter().chain(computed).collect();
        return Quantified::membership(negated).call(vec![make_array(members), *expr]);
    }
    let known = (!literals.is_empty()).then(|| Expr::InList(InList::new(expr.clone(), literals, negated)));
    let compared = computed
        .into_iter()
        .map(|member| binary_expr(expr.as_ref().clone(), equality, member));
    let parts = known.into_iter().chain(compared);
    // An IN list without members is none that SQL can write.
    parts
        .reduce(|all, part| binary_expr(all, connective, part))
        .unwrap_or_default()
}

/// Whether it is the same literal wherever it is written the same. NULL is none: the simplifier forgets what it means.
fn is_literal(member: &Expr) -> bool {
    match member {
        Expr::Literal(value, _) => !value.is_null(),
        Expr::Cast(cast) => is_literal(&cast.expr),
        Expr::Negative(operand) => is_literal(operand),
        // Its value is there before anything is simplified.
        Expr::Placeholder(_) => true,
        _ => false,
    }
}

/// Whether it may be written once for each member.
fn is_plain(value: &Expr) -> bool {
    match value {
        Expr::Column(_) | Expr::OuterReferenceColumn(..) | Expr::Literal(..) | Expr::Placeholder(_) => true,
        Expr::Cast(cast) => is_plain(&cast.expr),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Fixture;

    fn fixture() -> Fixture {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE m (id INT PRIMARY KEY, a INT, b INT, d INT)",
            "INSERT INTO m VALUES (1, 2, 2, 2), (2, 5, 6, 5), (3, NULL, 1, 1), (4, 3, NULL, 3), (5, 7, 0, 9), (6, 9, 0, NULL)",
        ]);
        fixture
    }

    const CASES: &[(&str, &[&str])] = &[
        ("a NOT IN (b, 7) AND a IN (d, 9)", &["2", "6"]),
        ("a IN (d, 9) AND a NOT IN (b, 7)", &["2", "6"]),
        ("a IN (b, 7) AND a IN (d, 9)", &["1"]),
        ("a NOT IN (b, 9) OR a NOT IN (d, 7)", &["2", "5"]),
        ("a NOT IN (b) AND a IN (d)", &["2"]),
        ("a NOT IN (b, 9) AND a NOT IN (d, 7)", &[]),
        ("a IN (b, 7) OR a IN (d, 9)", &["1", "2", "4", "5", "6"]),
        ("a + 0 IN (b, 7) AND a + 0 IN (d, 9)", &["1"]),
        ("a + 0 NOT IN (b, 7) AND a + 0 IN (d, 9)", &["2", "6"]),
        ("2 IN (a, b) AND 2 IN (d, b)", &["1"]),
        ("NOT (a IN (b, 7) AND a IN (d, 9))", &["2", "5", "6"]),
        // NULL, as the simplifier comes to know.
        ("a IN (0, 2, 5, 7) AND a NOT IN (1, 4, 6, nullif(1, 1))", &[]),
    ];

    #[test]
    fn members_that_are_no_literals_are_compared_by_value() {
        let fixture = fixture();
        for (condition, expected) in CASES {
            fixture.check(&format!("SELECT id FROM m WHERE {condition} ORDER BY id"), expected);
            fixture.check(
                &format!("SELECT id FROM (SELECT id, ({condition}) AS found FROM m) AS q WHERE found ORDER BY id"),
                expected,
            );
            fixture.check(
                &format!("SELECT id FROM m WHERE CASE WHEN {condition} THEN 1 END = 1 ORDER BY id"),
                expected,
            );
            fixture.check(
                &format!("SELECT m.id FROM m JOIN (SELECT 1 AS one) AS o ON {condition} ORDER BY id"),
                expected,
            );
            fixture.check(
                &format!("SELECT id FROM m GROUP BY id, a, b, d HAVING {condition} ORDER BY id"),
                expected,
            );
        }
        fixture.check(
            "SELECT id, a IN (b, 7) AND a IN (d, 9) AS f, a NOT IN (b, 9) OR a NOT IN (d, 7) AS g FROM m ORDER BY id",
            &[
                "1|true|false",
                "2|false|true",
                "3|NULL|NULL",
                "4|NULL|NULL",
                "5|false|true",
                "6|false|NULL",
            ],
        );
        // Many, and of a value that is computed once.
        let many: Vec<String> = (0..40).map(|number| format!("b + {number}")).collect();
        let many = many.join(", ");
        fixture.check(
            &format!("SELECT id FROM m WHERE a IN ({many}) AND a IN (d, 9) ORDER BY id"),
            &["1", "6"],
        );
        fixture.check(
            "SELECT count(*) FROM m WHERE (random() * 0 + a) IN (b, 7) AND (random() * 0 + a) IN (d, 9)",
            &["1"],
        );
        fixture.check(
            "SELECT id FROM m WHERE (SELECT max(n.a) FROM m n WHERE n.id = m.id) IN (b, d) ORDER BY id",
            &["1", "2", "4"],
        );
    }

    #[test]
    fn writes_find_the_same_rows() {
        for (condition, expected) in CASES {
            let written = fixture();
            written.run(&[&format!("UPDATE m SET d = -1 WHERE {condition}")]);
            written.check("SELECT id FROM m WHERE d = -1 ORDER BY id", expected);
            let written = fixture();
            written.run(&[&format!("DELETE FROM m WHERE {condition}")]);
            let rest: Vec<String> = (1..=6)
                .map(|id| id.to_string())
                .filter(|id| !expected.contains(&id.as_str()))
                .collect();
            let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
            written.check("SELECT id FROM m ORDER BY id", &rest);
        }
    }
}
