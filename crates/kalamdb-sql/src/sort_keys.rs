//! Expressions that rows are sorted by, or windows are made and ordered by, computed once beneath.
//!
//! Problem: DataFusion 55 asks each part of such an expression for its range of values, and where one answers with an error (`sqrt` of
//! numbers that may be negative, a comparison with a CASE), it knows no order of the expression at all: the check of the finished plan
//! then finds rows unsorted that a sort right beneath has sorted. Proper way: a part whose range is not known has an unknown one. Chosen:
//! such expressions become columns of a projection beneath, where nobody asks. Evidence: `get_expr_properties` of datafusion-physical-expr
//! 55 `equivalence/properties/mod.rs`, `sqrt_order` of datafusion-functions 55 `math/monotonicity.rs`.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Sort, Window};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::float_order;
use crate::intervals;

/// The rule; it comes when the expressions are what they are going to be.
#[derive(Debug)]
pub(crate) struct SortKeys;

impl OptimizerRule for SortKeys {
    fn name(&self) -> &str {
        "sort_keys"
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_up_with_subqueries(|plan| match plan {
            LogicalPlan::Sort(sort) => of_sort(sort),
            LogicalPlan::Window(window) => of_window(window),
            other => Ok(Transformed::no(other)),
        })
    }
}

fn of_sort(sort: Sort) -> Result<Transformed<LogicalPlan>> {
    if !sort.expr.iter().any(|key| is_computed(&key.expr)) {
        return Ok(Transformed::no(LogicalPlan::Sort(sort)));
    }
    let mut keys = Keys::default();
    let mut expr = sort.expr;
    for key in &mut expr {
        keys.take(&mut key.expr);
    }
    let sorted = LogicalPlan::Sort(Sort {
        expr,
        input: Arc::new(keys.beneath(&sort.input)?),
        fetch: sort.fetch,
    });
    Ok(Transformed::yes(columns_of(&sort.input, sorted)?))
}

fn of_window(window: Window) -> Result<Transformed<LogicalPlan>> {
    if !window.window_expr.iter().any(|expr| keys_of(expr).any(is_computed)) {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    }
    let mut keys = Keys::default();
    let exprs = window.window_expr.iter().map(|expr| {
        let (relation, name) = expr.qualified_name();
        let mut inner = expr.clone().unalias();
        if let Expr::WindowFunction(function) = &mut inner {
            let params = &mut function.params;
            let order = params.order_by.iter_mut().map(|key| &mut key.expr);
            params
                .partition_by
                .iter_mut()
                .chain(order)
                .for_each(|key| keys.take(key));
        }
        inner.alias_qualified(relation, name)
    });
    let exprs = exprs.collect::<Vec<_>>();
    let beneath = keys.beneath(&window.input)?;
    let made = LogicalPlan::Window(Window::try_new(exprs, Arc::new(beneath))?);
    let columns = window.schema.columns().into_iter().map(Expr::Column).collect();
    let plan = Projection::try_new(columns, Arc::new(made))?;
    Ok(Transformed::yes(LogicalPlan::Projection(plan)))
}

fn keys_of(expr: &Expr) -> Box<dyn Iterator<Item = &Expr> + '_> {
    match expr {
        Expr::Alias(alias) => keys_of(&alias.expr),
        Expr::WindowFunction(function) => {
            let params = &function.params;
            Box::new(
                params
                    .partition_by
                    .iter()
                    .chain(params.order_by.iter().map(|key| &key.expr)),
            )
        }
        _ => Box::new(std::iter::empty()),
    }
}

/// Whether some part of it may not tell its range: all do of which columns, literals and operators alone are made.
fn is_computed(expr: &Expr) -> bool {
    expr.exists(|part| {
        Ok(match part {
            Expr::Column(_) | Expr::Literal(..) | Expr::Alias(_) | Expr::BinaryExpr(_) | Expr::Negative(_) => false,
            Expr::ScalarFunction(call) => !float_order::is_order(call) && !intervals::is_length(call),
            _ => true,
        })
    })
    .unwrap_or(true) // This question does not fail.
}

/// What became columns, each by its name.
#[derive(Default)]
struct Keys(Vec<(Expr, String)>);

impl Keys {
    fn take(&mut self, key: &mut Expr) {
        if !is_computed(key) {
            return;
        }
        let known = self
            .0
            .iter()
            .find(|(expr, _)| expr == key)
            .map(|(_, name)| name.clone());
        let name = known.unwrap_or_else(|| {
            let name = format!("?key {}?", self.0.len() + 1);
            self.0.push((key.clone(), name.clone()));
            name
        });
        *key = Expr::Column(Column::new_unqualified(name));
    }

    fn beneath(self, input: &Arc<LogicalPlan>) -> Result<LogicalPlan> {
        let own = input.schema().columns().into_iter().map(Expr::Column);
        let added = self.0.into_iter().map(|(expr, name)| expr.unalias().alias(name));
        let made = Projection::try_new(own.chain(added).collect(), Arc::clone(input))?;
        Ok(LogicalPlan::Projection(made))
    }
}

/// The columns of `of` alone.
fn columns_of(of: &Arc<LogicalPlan>, plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns = of.schema().columns().into_iter().map(Expr::Column).collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}

#[cfg(test)]
mod tests {
    use crate::testing::Fixture;

    #[test]
    fn rows_are_sorted_and_parted_by_any_expression() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, n INT, x DOUBLE, s8 TINYINT, dec DECIMAL(10, 2), v TEXT)",
            "INSERT INTO t SELECT i, i % 3, (i % 4)::DOUBLE, (i % 5)::TINYINT, i, 'v' || (i % 2)::TEXT \
             FROM (SELECT value::INT AS i FROM generate_series(1, 12)) AS g",
        ]);
        for key in [
            "sqrt(x)",
            "ln(x + 1)",
            "ln(ln(x + 2) + 2)",
            "greatest(1, x)",
            "CASE WHEN coalesce(s8, n) = s8 THEN x ELSE x END",
            "CASE WHEN x BETWEEN CASE WHEN n > 100 THEN dec ELSE 0 END AND 7 THEN x ELSE -1 END",
            "round(x::DECIMAL(4, 2), 1)",
        ] {
            // Of x = 0, 1, 2 and 3 there are three rows each.
            fixture.check(
                &format!("SELECT DISTINCT x, sum(id) OVER (PARTITION BY {key}) FROM t WHERE x > 0 ORDER BY x"),
                &["1.0|15", "2.0|18", "3.0|21"],
            );
            fixture.check(
                &format!("SELECT id, rank() OVER (PARTITION BY v, {key} ORDER BY id) FROM t WHERE x = 1 ORDER BY id"),
                &["1|1", "5|2", "9|3"],
            );
            fixture.check(
                &format!("SELECT id, row_number() OVER (ORDER BY {key} DESC, id) FROM t WHERE x > 0 ORDER BY {key}, id LIMIT 2"),
                &["1|7", "5|8"],
            );
            fixture.check(
                &format!("SELECT id FROM (SELECT id, x, n, s8, dec FROM t UNION ALL SELECT id + 20, x, n, s8, dec FROM t) AS u ORDER BY {key} DESC, id LIMIT 3"),
                &["3", "7", "11"],
            );
        }
        // Columns that share a name.
        fixture.check(
            "SELECT a.id, b.id FROM t a JOIN t b ON a.id = b.id ORDER BY sqrt(a.x) DESC, b.id LIMIT 1",
            &["3|3"],
        );
    }
}
