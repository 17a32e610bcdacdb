//! Joins without a condition, which DataFusion takes for CROSS JOIN, whatever they are: `a LEFT JOIN b`.

use datafusion::sql::sqlparser::ast::{JoinConstraint, JoinOperator as Of, Spanned, TableFactor};
use kalamdb_core::{Error, ErrorCode, Result};

use super::syntax::position;
use crate::names::placed;

/// Refuses a join that needs a condition and has none, at what it joins.
///
/// # Errors
/// SYNTAX_ERROR.
pub(super) fn check(operator: &Of, joined: &TableFactor) -> Result<()> {
    if !lacks_condition(operator) {
        return Ok(());
    }
    let message = "a JOIN needs a condition, ON or USING; CROSS JOIN is the one without";
    let error = Error::new(ErrorCode::SyntaxError, message);
    Err(placed(error, position(joined.span().start)))
}

fn lacks_condition(operator: &Of) -> bool {
    match operator {
        Of::Join(constraint)
        | Of::Inner(constraint)
        | Of::Left(constraint)
        | Of::LeftOuter(constraint)
        | Of::Right(constraint)
        | Of::RightOuter(constraint)
        | Of::FullOuter(constraint)
        | Of::Semi(constraint)
        | Of::LeftSemi(constraint)
        | Of::RightSemi(constraint)
        | Of::Anti(constraint)
        | Of::LeftAnti(constraint)
        | Of::RightAnti(constraint) => matches!(constraint, JoinConstraint::None),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    #[test]
    fn a_join_without_a_condition_is_no_cross_join() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE a (id INT PRIMARY KEY)",
            "CREATE TABLE b (id INT PRIMARY KEY)",
            "INSERT INTO a VALUES (1), (2)",
        ]);
        for (sql, column) in [
            ("SELECT * FROM a JOIN b", 22),
            ("SELECT * FROM a INNER JOIN b", 28),
            ("SELECT * FROM a LEFT JOIN b WHERE b.id = a.id", 27),
            ("SELECT * FROM a RIGHT OUTER JOIN b", 34),
            ("SELECT * FROM a FULL JOIN b", 27),
            ("SELECT * FROM a JOIN b JOIN b AS c ON c.id = a.id", 22),
            ("SELECT (SELECT count(*) FROM a JOIN b)", 37),
            ("UPDATE a SET id = 3 FROM b JOIN b AS c WHERE a.id = b.id", 33),
            ("DELETE FROM a USING b LEFT JOIN b AS c WHERE a.id = b.id", 33),
        ] {
            fixture.check_error(sql, ErrorCode::SyntaxError, Some((1, column)), "CROSS JOIN");
        }
        fixture.check("SELECT count(*) FROM a CROSS JOIN a AS b", &["4"]);
        fixture.check("SELECT count(*) FROM a NATURAL JOIN b", &["0"]);
        fixture.check("SELECT count(*) FROM a, a AS b", &["4"]);
        fixture.check("SELECT count(*) FROM a LEFT JOIN b USING (id)", &["2"]);
    }
}
