//! How large a plan is once everything it mentions more than once is put in as often, and the bounds of that.
//!
//! A text of a few hundred bytes can double a plan at each of its WITH queries, and an expression at each level of some functions
//! and operators, which rules write out with an operand twice. Both are counted before they are made.

use std::collections::{HashMap, HashSet};
use std::ops::AddAssign;

use datafusion::common::ParamValues;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{BinaryExpr, GroupingSet, ScalarFunction};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Error, ErrorCode};

use crate::plan_expressions::is_comparison;

/// Tables, joins, projections and the like. Planning takes about 100 µs and 10 KB for one.
pub(crate) const MOST_NODES: u64 = 10_000;

/// Columns of all nodes together: each is looked at by most rules.
pub(crate) const MOST_COLUMNS: u64 = 200_000;

/// Operators, function calls and mentions of columns; literals have a bound of their own, since a long list of them is cheap.
pub(crate) const MOST_EXPRESSIONS: u64 = 100_000;

/// Memory of all literals together.
pub(crate) const MOST_LITERAL_BYTES: u64 = 512 << 20;

/// What a plan, or a part of one, consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlanSize {
    nodes: u64,
    columns: u64,
    expressions: u64,
    literal_bytes: u64,
}

impl PlanSize {
    /// Of a whole plan, subqueries included. What is shared is counted each time, but looked at once.
    ///
    /// # Errors
    /// Whatever walking the plan says.
    pub(crate) fn of(plan: &LogicalPlan) -> Result<Self> {
        let mut measure = Measure::default();
        plan.visit_with_subqueries(&mut measure)?;
        Ok(measure.sizes.pop().unwrap_or_default())
    }

    /// Of the topmost node and those right below it.
    ///
    /// # Errors
    /// Whatever walking the expressions says.
    pub(crate) fn of_top(plan: &LogicalPlan) -> Result<Self> {
        let mut size = PlanSize::of_node(plan)?;
        for input in plan.inputs() {
            size += PlanSize::of_node(input)?;
        }
        Ok(size)
    }

    fn of_node(plan: &LogicalPlan) -> Result<Self> {
        let mut size = PlanSize {
            nodes: 1,
            columns: plan.schema().fields().len() as u64,
            ..PlanSize::default()
        };
        plan.apply_expressions(|expr| {
            size += PlanSize::of_expression(expr)?;
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(size)
    }

    /// Of an expression, as large as rules may make it.
    ///
    /// # Errors
    /// Whatever walking it says.
    pub(crate) fn of_expression(expr: &Expr) -> Result<Self> {
        let mut measure = ExpressionMeasure::default();
        expr.visit(&mut measure)?;
        Ok(measure.sizes.pop().unwrap_or_default())
    }

    /// Of a literal.
    pub(crate) fn of_literal(value: &ScalarValue) -> Self {
        PlanSize {
            literal_bytes: value.size() as u64,
            ..PlanSize::default()
        }
    }

    /// Whether it may be planned.
    ///
    /// # Errors
    /// STATEMENT_TOO_LARGE says what there is too much of, and what to do.
    pub(crate) fn check(self) -> Result<()> {
        let counts = [
            (
                self.nodes,
                MOST_NODES,
                "parts (tables, joins, filters, …), counting a WITH query for each mention",
                "write what is used often into a table first",
            ),
            (
                self.columns,
                MOST_COLUMNS,
                "columns in all its parts together, counting a WITH query for each mention",
                "name the columns that are needed in place of *, or write what is used often into a table first",
            ),
            (
                self.expressions,
                MOST_EXPRESSIONS,
                "operators and functions, counting an operand for each time it is needed",
                "compute what is used often in a table of its own first",
            ),
            (
                self.literal_bytes,
                MOST_LITERAL_BYTES,
                "bytes of literals, counting each for every time it is needed",
                "load them into a table first",
            ),
        ];
        match counts.into_iter().find(|(count, most, ..)| count > most) {
            None => Ok(()),
            Some((count, most, what, advice)) => {
                let message = format!("written out, the statement has {count} {what}; the most is {most}; {advice}");
                let error = Error::new(ErrorCode::StatementTooLarge, message);
                Err(DataFusionError::External(Box::new(error)))
            }
        }
    }

    /// Of a plan with values in the place of its parameters.
    ///
    /// # Errors
    /// Whatever walking the plan says.
    pub(crate) fn of_bound(plan: &LogicalPlan, values: &ParamValues) -> Result<Self> {
        let mut size = PlanSize::of(plan)?;
        plan.apply_with_subqueries(|node| {
            node.apply_expressions(|expr| {
                expr.apply(|expr| {
                    // What has no value is reported when the values are put in.
                    if let Expr::Placeholder(parameter) = expr
                        && let Ok(value) = values.get_placeholders_with_values(&parameter.id)
                    {
                        size += PlanSize::of_literal(&value.value);
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(size)
    }

    fn times(self, copies: u64) -> Self {
        PlanSize {
            nodes: self.nodes.saturating_mul(copies),
            columns: self.columns.saturating_mul(copies),
            expressions: self.expressions.saturating_mul(copies),
            literal_bytes: self.literal_bytes.saturating_mul(copies),
        }
    }
}

impl AddAssign for PlanSize {
    fn add_assign(&mut self, other: Self) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.columns = self.columns.saturating_add(other.columns);
        self.expressions = self.expressions.saturating_add(other.expressions);
        self.literal_bytes = self.literal_bytes.saturating_add(other.literal_bytes);
    }
}

/// A walk over a plan: the sizes of finished parts, and where among them those of an open node begin.
#[derive(Default)]
struct Measure {
    sizes: Vec<PlanSize>,
    begins: Vec<usize>,
    /// By [`address`].
    known: HashMap<*const LogicalPlan, PlanSize>,
}

impl<'n> TreeNodeVisitor<'n> for Measure {
    type Node = LogicalPlan;

    fn f_down(&mut self, plan: &'n LogicalPlan) -> Result<TreeNodeRecursion> {
        self.begins.push(self.sizes.len());
        Ok(match address(plan) {
            Some(address) if self.known.contains_key(&address) => TreeNodeRecursion::Jump,
            Some(_) | None => TreeNodeRecursion::Continue,
        })
    }

    fn f_up(&mut self, plan: &'n LogicalPlan) -> Result<TreeNodeRecursion> {
        let begin = self.begins.pop().unwrap_or_default();
        let address = address(plan);
        let size = match address.and_then(|address| self.known.get(&address)) {
            Some(size) => *size,
            None => {
                let mut size = PlanSize::of_node(plan)?;
                for part in &self.sizes[begin..] {
                    size += *part;
                }
                if let Some(address) = address {
                    self.known.insert(address, size);
                }
                size
            }
        };
        self.sizes.truncate(begin);
        self.sizes.push(size);
        Ok(TreeNodeRecursion::Continue)
    }
}

/// Where a node stays while the plan is walked. A subquery's is made for the visit; what it holds stays.
fn address(plan: &LogicalPlan) -> Option<*const LogicalPlan> {
    match plan {
        LogicalPlan::Subquery(_) => None,
        other => Some(std::ptr::from_ref(other)),
    }
}

/// A walk over an expression, as [`Measure`].
#[derive(Default)]
struct ExpressionMeasure {
    sizes: Vec<PlanSize>,
    begins: Vec<usize>,
    /// CASEs that stand where a truth value is wanted, by address.
    truths: HashSet<*const Expr>,
}

impl ExpressionMeasure {
    fn wants_truth(&mut self, expr: &Expr) {
        if matches!(expr, Expr::Case(_)) {
            self.truths.insert(std::ptr::from_ref(expr));
        }
    }
}

impl<'n> TreeNodeVisitor<'n> for ExpressionMeasure {
    type Node = Expr;

    fn f_down(&mut self, expr: &'n Expr) -> Result<TreeNodeRecursion> {
        self.begins.push(self.sizes.len());
        match expr {
            Expr::Case(case) if case.expr.is_none() => {
                for (when, _) in &case.when_then_expr {
                    self.wants_truth(when);
                }
                if case.when_then_expr.iter().any(|(_, then)| is_truth(then)) {
                    self.wants_truth(expr);
                }
                if self.truths.contains(&std::ptr::from_ref(expr)) {
                    let results = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
                    results.for_each(|result| self.wants_truth(result));
                }
            }
            Expr::Not(operand) => self.wants_truth(operand),
            Expr::BinaryExpr(binary) if matches!(binary.op, Operator::And | Operator::Or) => {
                self.wants_truth(&binary.left);
                self.wants_truth(&binary.right);
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn f_up(&mut self, expr: &'n Expr) -> Result<TreeNodeRecursion> {
        let begin = self.begins.pop().unwrap_or_default();
        let is_truth = self.truths.contains(&std::ptr::from_ref(expr));
        let size = match expr {
            Expr::Literal(value, _) => PlanSize::of_literal(value),
            _ => {
                let mut size = PlanSize {
                    expressions: 1,
                    ..PlanSize::default()
                };
                let operands = self.sizes.len() - begin;
                for (index, operand) in self.sizes[begin..].iter().enumerate() {
                    size += operand.times(copies(expr, is_truth, index, operands));
                }
                size
            }
        };
        self.sizes.truncate(begin);
        self.sizes.push(size);
        Ok(TreeNodeRecursion::Continue)
    }
}

/// How often an operand stands in what rules may write for an expression; see `simplify_expressions/expr_simplifier.rs` of
/// datafusion-optimizer 55, and `simplify` and `preimage` of the functions.
fn copies(expr: &Expr, is_truth: bool, index: usize, operands: usize) -> u64 {
    match expr {
        // a >= low AND a <= high
        Expr::Between(_) if index == 0 => 2,
        // CASE WHEN a IS NOT NULL THEN a ELSE …
        Expr::ScalarFunction(call)
            if matches!(call.func.name(), "coalesce" | "nvl" | "ifnull") && index + 1 < operands =>
        {
            2
        }
        // x >= 2 AND x < 3
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => {
            let operand = if index == 0 { left } else { right };
            if has_preimage(operand) { 2 } else { 1 }
        }
        // (a AND x) OR (b AND NOT a AND y) OR (NOT (a OR b) AND z)
        Expr::Case(case) if is_truth && index < 2 * case.when_then_expr.len() && index.is_multiple_of(2) => {
            let whens = case.when_then_expr.len();
            let becomes_logic = whens < 3
                || case.when_then_expr.iter().all(|(_, then)| match then.as_ref() {
                    Expr::Literal(..) => true,
                    // It may come down to a literal.
                    other => !other.any_column_refs(),
                });
            if becomes_logic {
                (whens - index / 2 + 1) as u64
            } else {
                1
            }
        }
        Expr::GroupingSet(GroupingSet::Cube(columns)) => 1 << columns.len().min(40),
        Expr::GroupingSet(GroupingSet::Rollup(columns)) => columns.len() as u64,
        _ => 1,
    }
}

/// Whether an expression is a truth value by its looks.
fn is_truth(mut expr: &Expr) -> bool {
    while let Expr::Case(case) = expr {
        match case.when_then_expr.first() {
            Some((_, then)) => expr = then,
            None => return false,
        }
    }
    match expr {
        Expr::Literal(ScalarValue::Boolean(_), _)
        | Expr::Not(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Between(_)
        | Expr::Like(_)
        | Expr::SimilarTo(_)
        | Expr::InList(_) => true,
        Expr::BinaryExpr(binary) => is_comparison(binary.op) || matches!(binary.op, Operator::And | Operator::Or),
        _ => false,
    }
}

/// Whether a comparison of a value of this function may become one of the function's argument with a range.
fn has_preimage(mut expr: &Expr) -> bool {
    while let Expr::Cast(_) | Expr::TryCast(_) = expr {
        expr = match expr {
            Expr::Cast(cast) => &cast.expr,
            Expr::TryCast(cast) => &cast.expr,
            _ => return false,
        };
    }
    matches!(expr, Expr::ScalarFunction(ScalarFunction { func, .. })
        if matches!(func.name(), "floor" | "ceil" | "date_part" | "date_trunc"))
}
