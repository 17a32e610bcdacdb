//! Subqueries that DataFusion cannot turn into joins, which it says in the words of its plans.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, LogicalPlan};
use kalamdb_core::{Error, ErrorCode, Position};

use super::position;

/// Begins the refusals of subqueries that read the columns of the query around them.
const CORRELATED: &str = "a subquery that uses columns of the query around it is not supported in this form";

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
        return unsupported(
            "IN, EXISTS, ANY and ALL with a subquery are supported in the select list, WHERE, HAVING and ON".to_owned(),
        );
    }
    if message.contains("LATERAL syntax is not supported for") {
        return unsupported("LATERAL is not supported on the right of RIGHT and FULL joins".to_owned());
    }
    let (_, found) = message.split_once("ubquery should only return one column, but found ")?;
    let columns = found.split(':').next().unwrap_or(found);
    Some(Error::new(
        ErrorCode::InvalidStatement,
        format!("the subquery gives {columns} columns where one is compared"),
    ))
}

/// The same error with its place, if it is one of these and there is but one place that it can be about.
pub(crate) fn placed_in(error: Error, place: Option<Position>) -> Error {
    if error.message.starts_with(CORRELATED) {
        crate::names::placed(error, place)
    } else {
        error
    }
}

/// Where the one subquery that uses columns of the query around it names the first of them; `None` if there are several.
///
/// # Errors
/// None of its own.
pub(crate) fn place(plan: &LogicalPlan) -> DataFusionResult<Option<Position>> {
    let mut places = Vec::new();
    let mut add = |outer: &[Expr]| {
        let spans = outer.iter().filter_map(|expr| match expr {
            Expr::OuterReferenceColumn(_, column) => column.spans.first(),
            _ => None,
        });
        if !outer.is_empty() {
            places.push(spans.min().as_ref().and_then(position));
        }
    };
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Subquery(subquery) = node {
            add(&subquery.outer_ref_columns);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(match places.as_slice() {
        [place] => *place,
        _ => None,
    })
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
