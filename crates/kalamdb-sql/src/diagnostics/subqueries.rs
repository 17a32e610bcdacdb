//! Subqueries that DataFusion cannot turn into joins, which it says in the words of its plans.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, LogicalPlan};
use kalamdb_core::{Error, ErrorCode, Position};

use super::position;

/// Begins the refusals of subqueries that read the columns of the query around them.
pub(crate) const CORRELATED: &str = "a subquery that uses columns of the query around it is not supported in this form";

/// Refuses other subqueries where they stand.
const PREDICATES: &str = "IN, EXISTS, ANY and ALL with a subquery are not supported in this place; they may stand in WHERE, HAVING and \
                          ON; write a JOIN";

/// What DataFusion says, and what that means.
const SIGNS: &[(&str, &str)] = &[
    (
        "Correlated scalar subquery must be aggregated",
        "it may give several rows; aggregate it, or write a JOIN",
    ),
    (
        "A GROUP BY clause in a scalar correlated subquery",
        "it may give several rows; group by the columns that it compares, or write a JOIN",
    ),
    (
        "Correlated scalar subquery in the GROUP BY clause",
        "write it in the select list alone, or a JOIN",
    ),
    (
        "Correlated scalar subquery can only be used in",
        "as a value it may stand in the select list, in WHERE and in HAVING; write a JOIN",
    ),
    ("Window expressions should not contain", "write a JOIN"),
    (
        "Accessing outer reference columns is not allowed",
        "it may compare them in its WHERE, outside of its own outer joins; write a JOIN",
    ),
    (
        "Nested identifiers are not yet supported for OuterReferenceColumn",
        "write a JOIN",
    ),
    ("undecorrelated Subquery", "write the LATERAL subquery as a JOIN"),
    (
        "Physical plan does not support logical expression OuterReferenceColumn",
        "write a JOIN",
    ),
    (
        "Physical plan does not support logical expression ScalarSubquery",
        "write a JOIN",
    ),
    (
        "Physical plan does not support logical expression InSubquery",
        "write a JOIN",
    ),
    (
        "Physical plan does not support logical expression Exists",
        "write a JOIN",
    ),
    (
        "Physical plan does not support logical expression SetComparison",
        "write a JOIN",
    ),
];

/// The refusal that a message of the planner means, if it is one of these.
pub(super) fn of_message(message: &str) -> Option<Error> {
    let unsupported = |message: String| Some(Error::new(ErrorCode::Unsupported, message));
    if let Some((_, advice)) = SIGNS.iter().find(|(sign, _)| message.contains(sign)) {
        return unsupported(format!("{CORRELATED}: {advice}"));
    }
    if message.contains("In/Exist/SetComparison subquery can only be used in") {
        return unsupported(PREDICATES.to_owned());
    }
    if message.contains("LATERAL syntax is not supported for") {
        return unsupported("LATERAL is not supported on the right of RIGHT and FULL joins".to_owned());
    }
    let invalid = |message: String| Some(Error::new(ErrorCode::InvalidStatement, message));
    if message.contains("got Column(Column {") {
        return invalid("functions in FROM take constants and parameters, no columns of other tables".to_owned());
    }
    if message.contains("Unsupported LIMIT expression") || message.contains("Unsupported OFFSET expression") {
        return unsupported("LIMIT and OFFSET take a number, a parameter or a constant expression".to_owned());
    }
    let columns = match message.split_once("ubquery should only return one column") {
        None => return None,
        Some((_, found)) => match found.strip_prefix(", but found ") {
            Some(counted) => counted.split(':').next().unwrap_or(counted).to_owned(),
            None => found.split(',').count().to_string(),
        },
    };
    invalid(format!(
        "the subquery gives {columns} columns where one value is needed"
    ))
}

/// The subqueries of a statement that use columns of the query around them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Correlation {
    any: bool,
    /// Where the one such subquery names the first of these columns; `None` if there are several.
    place: Option<Position>,
}

impl Correlation {
    /// Of a plan as it comes from the text.
    ///
    /// # Errors
    /// None of its own.
    pub(crate) fn of(plan: &LogicalPlan) -> DataFusionResult<Self> {
        let mut places = Vec::new();
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::Subquery(subquery) = node
                && !subquery.outer_ref_columns.is_empty()
            {
                let outer = subquery.outer_ref_columns.iter();
                let spans = outer.filter_map(|expr| match expr {
                    Expr::OuterReferenceColumn(_, column) => column.spans.first(),
                    _ => None,
                });
                places.push(spans.min().as_ref().and_then(position));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(Correlation {
            any: !places.is_empty(),
            place: match places.as_slice() {
                [place] => *place,
                _ => None,
            },
        })
    }

    pub(crate) fn forget_place(&mut self) {
        self.place = None;
    }

    /// An error of the rules, which turn subqueries into joins, with its place where it is about one.
    pub(crate) fn explain(self, error: Error) -> Error {
        let is_refused = error.message.starts_with(CORRELATED);
        if !self.any {
            return match is_refused {
                true => Error::new(ErrorCode::Unsupported, PREDICATES),
                false => error,
            };
        }
        if is_refused {
            return crate::names::placed(error, self.place);
        }
        match error.code {
            // The text's own columns are all found by then: one that is lost was in a subquery.
            ErrorCode::ColumnNotFound => {
                let error = Error::new(ErrorCode::Unsupported, format!("{CORRELATED}: write a JOIN"));
                crate::names::placed(error, self.place)
            }
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_to_write() {
        let check = |message: &str, code: ErrorCode, part: &str| {
            let error = of_message(message).expect("one of these");
            assert_eq!(error.code, code, "{message}");
            assert!(error.message.contains(part), "{error}");
        };
        check(
            "Physical plan does not support undecorrelated Subquery",
            ErrorCode::Unsupported,
            "LATERAL",
        );
        check(
            "InSubquery should only return one column, but found 2: a, b",
            ErrorCode::InvalidStatement,
            "gives 2 columns",
        );
        assert_eq!(
            of_message("Physical plan does not support logical expression Wildcard"),
            None
        );
    }
}
