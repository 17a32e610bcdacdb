//! Joins without a condition, which DataFusion takes for CROSS JOIN, whatever they are: `a LEFT JOIN b`; and those whose condition comes
//! after that of a join within.

use datafusion::sql::sqlparser::ast::{JoinConstraint, JoinOperator as Of, Spanned, TableFactor};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
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

/// As many joins may wait for their conditions.
const MOST_OPEN: usize = 64;

/// Whether the parser may read `a JOIN b JOIN c ON … ON …` as PostgreSQL does.
///
/// Problem: sqlparser 0.62 then reads `a NATURAL JOIN b JOIN c ON …` so, too, whose first join waits for nothing, and goes one call
/// deeper for each join that waits. Chosen: only in a text without NATURAL, in which no more wait than it is sure to hold. Evidence:
/// `parse_joins` of its `parser/mod.rs`.
pub(super) fn may_nest(tokens: &[TokenWithSpan]) -> bool {
    let (mut open, mut most) = (vec![0_usize], 0);
    let mut before = Keyword::NoKeyword;
    for token in tokens {
        let word = match &token.token {
            Token::Whitespace(_) => continue,
            Token::LParen => {
                open.push(0);
                Keyword::NoKeyword
            }
            Token::RParen => {
                if open.len() > 1 {
                    open.pop();
                }
                Keyword::NoKeyword
            }
            Token::Word(word) if word.quote_style.is_none() => word.keyword,
            _ => Keyword::NoKeyword,
        };
        if let Some(last) = open.last_mut() {
            match word {
                Keyword::NATURAL => return false,
                Keyword::JOIN if before != Keyword::CROSS => *last += 1,
                Keyword::ON if before != Keyword::DISTINCT => *last = last.saturating_sub(1),
                Keyword::USING => *last = last.saturating_sub(1),
                _ => {}
            }
        }
        most = most.max(open.iter().sum());
        before = word;
    }
    most <= MOST_OPEN
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

    #[test]
    fn a_condition_may_come_after_that_of_a_join_within() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE a (id INT PRIMARY KEY)",
            "CREATE TABLE b (id INT PRIMARY KEY)",
            "INSERT INTO a VALUES (1), (2), (3)",
            "INSERT INTO b VALUES (2), (3), (4)",
        ]);
        for (sql, expected) in [
            (
                "SELECT a.id, c.id FROM a JOIN b JOIN b AS c ON b.id = c.id - 1 ON a.id = b.id ORDER BY 1",
                &["2|3", "3|4"][..],
            ),
            (
                "SELECT a.id, b.id, c.id FROM a LEFT JOIN b JOIN b AS c ON b.id = c.id - 1 ON a.id = b.id ORDER BY 1",
                &["1|NULL|NULL", "2|2|3", "3|3|4"],
            ),
            (
                "SELECT count(*) FROM a JOIN b LEFT JOIN b AS c INNER JOIN a AS d ON c.id = d.id ON b.id = c.id ON a.id = b.id",
                &["2"],
            ),
            (
                "SELECT count(*) FROM a JOIN b JOIN b AS c USING (id) ON a.id = b.id",
                &["2"],
            ),
            (
                "SELECT count(*) FROM a JOIN b ON a.id = b.id JOIN b AS c ON c.id = a.id",
                &["2"],
            ),
            (
                "SELECT count(*) FROM a NATURAL JOIN b JOIN b AS c ON c.id = a.id",
                &["2"],
            ),
            ("SELECT count(*) FROM a CROSS JOIN b JOIN b AS c ON c.id = a.id", &["6"]),
        ] {
            fixture.check(sql, expected);
        }
        let many = "JOIN b ".repeat(400);
        fixture.check_error_part(
            &format!("SELECT 1 FROM a {many}"),
            ErrorCode::SyntaxError,
            "a JOIN needs a condition",
        );
    }
}
