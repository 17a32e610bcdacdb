//! The columns of WITH RECURSIVE: of the types that its first query gives them, which the recursive one may not cut.
//!
//! Problem: DataFusion 55 casts what the recursive query gives to the type of the first one, so that 1.5 beside a 1 is 1. Proper way,
//! as in PostgreSQL: to refuse that. Chosen: the recursive query is planned as a derived table, so that such a cast is none of the
//! query's own, and after type coercion each of them must keep every value, or fail. Evidence: `to_recursive_query` of
//! datafusion-expr 55 `logical_plan/builder.rs`.

use std::any::Any;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalUnit, Schema, TimeUnit};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::{DefaultTableSource, provider_as_source};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr_rewriter::coerce_plan_expr_for_schema;
use datafusion::logical_expr::{
    Cast, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Projection, RecursiveQuery,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::sqlparser::ast::{
    self, Ident, ObjectName, SelectItem, SetExpr, TableAlias, TableAliasColumnDef, TableFactor, TableWithJoins,
    Visitor, VisitorMut,
};
use kalamdb_core::{Error, ErrorCode};

use crate::definition::data_type_name;
use crate::mixed_numbers;
use crate::names::folded;
use crate::planned::plain_type;
use crate::tree::{walk, walk_mut};
use crate::values;

/// The name of the derived table; no statement has it.
const TERM: &str = "?recursive term?";

/// Begins what is said of such a column.
pub(crate) const OF_RECURSIVE_TERMS: &str = "recursive query ";

/// Makes derived tables of the recursive queries of a statement.
pub(crate) fn as_derived(statement: &mut ast::Statement) {
    struct Terms;
    impl VisitorMut for Terms {
        type Break = Error;

        fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Error> {
            for cte in query
                .with
                .iter_mut()
                .filter(|with| with.recursive)
                .flat_map(|with| &mut with.cte_tables)
            {
                if let SetExpr::SetOperation {
                    op: ast::SetOperator::Union,
                    left,
                    right,
                    ..
                } = cte.query.body.as_mut()
                    && reads(right, &cte.alias.name)
                    && let named = Some(cte.alias.columns.len()).filter(|named| *named > 0)
                    && let Some(width) = width(right).or(named).or_else(|| width(left))
                {
                    give_nulls_a_type(left);
                    let nothing = SetExpr::Select(Box::new(values::select(Vec::new(), Vec::new(), None)));
                    let term = std::mem::replace(right.as_mut(), nothing);
                    **right = derived(term, width);
                }
            }
            ControlFlow::Continue(())
        }
    }
    walk_mut(statement, &mut Terms).expect("this visitor does not break");
}

/// Whether a query reads from that name.
fn reads(body: &SetExpr, name: &Ident) -> bool {
    struct Reads(String);
    impl Visitor for Reads {
        type Break = Error;

        fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Error> {
            match relation.0.as_slice() {
                [part] if part.as_ident().map(folded).as_ref() == Some(&self.0) => {
                    ControlFlow::Break(Error::new(ErrorCode::Internal, "a name ends the search for it"))
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    walk(body, &mut Reads(folded(name))).is_err()
}

/// How many columns a query has, if its text says.
fn width(body: &SetExpr) -> Option<usize> {
    match body {
        SetExpr::Select(select) => {
            let is_one =
                |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
            select.projection.iter().all(is_one).then_some(select.projection.len())
        }
        SetExpr::Values(values) => values.rows.first().map(|row| row.content.len()),
        SetExpr::Query(query) => width(&query.body),
        SetExpr::SetOperation { left, right, .. } => width(left).or_else(|| width(right)),
        _ => None,
    }
}

/// A NULL of the first query is TEXT, as in PostgreSQL; to DataFusion it has no type, and what the recursive one gives is cast to that.
fn give_nulls_a_type(first: &mut SetExpr) {
    let is_null = |expr: &ast::Expr| matches!(expr, ast::Expr::Value(value) if matches!(value.value, ast::Value::Null));
    let type_it = |expr: &mut ast::Expr| {
        *expr = ast::Expr::Cast {
            kind: ast::CastKind::Cast,
            expr: Box::new(expr.clone()),
            data_type: ast::DataType::Text,
            array: false,
            format: None,
        };
    };
    match first {
        SetExpr::Select(select) => {
            for item in &mut select.projection {
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item
                    && is_null(expr)
                {
                    type_it(expr);
                }
            }
        }
        SetExpr::Values(values) => {
            let width = values.rows.iter().map(|row| row.content.len()).min().unwrap_or(0);
            for column in 0..width {
                if values.rows.iter().all(|row| is_null(&row.content[column])) {
                    type_it(&mut values.rows[0].content[column]);
                }
            }
        }
        SetExpr::Query(query) => give_nulls_a_type(&mut query.body),
        _ => {}
    }
}

/// `SELECT "?1?", … FROM (term) AS "?recursive term?" ("?1?", …)`.
fn derived(term: SetExpr, width: usize) -> SetExpr {
    let names: Vec<Ident> = (1..=width)
        .map(|number| Ident::with_quote('"', format!("?{number}?")))
        .collect();
    let items = names
        .iter()
        .cloned()
        .map(|name| SelectItem::UnnamedExpr(ast::Expr::Identifier(name)));
    let items = items.collect();
    let columns = names
        .into_iter()
        .map(|name| TableAliasColumnDef { name, data_type: None });
    let from = TableWithJoins {
        relation: TableFactor::Derived {
            lateral: false,
            subquery: values::query(term),
            alias: Some(TableAlias {
                explicit: true,
                name: Ident::with_quote('"', TERM),
                columns: columns.collect(),
                at: None,
            }),
            sample: None,
        },
        joins: Vec::new(),
    };
    SetExpr::Select(Box::new(values::select(items, vec![from], None)))
}

/// The recursive query as it is of columns of the types that the first one has, now that the numbers in that are read.
///
/// # Errors
/// What rebuilding the plan says.
pub(crate) fn of_first_types(
    query: RecursiveQuery,
    typed: impl Fn(LogicalPlan) -> Result<LogicalPlan>,
) -> Result<RecursiveQuery> {
    let first = query.static_term.schema();
    let are_first = |work: &CteWorkTable| {
        let schema = work.schema();
        let types = schema.fields().iter().map(|field| field.data_type());
        types.eq(first.fields().iter().map(|field| field.data_type()))
    };
    let is_other = query
        .recursive_term
        .exists(|part| Ok(work_table(part, &query.name).is_some_and(|work| !are_first(work))))?;
    if !is_other {
        return Ok(query);
    }
    let fields = first
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let work = provider_as_source(Arc::new(CteWorkTable::new(&query.name, schema)));
    let term = Arc::unwrap_or_clone(query.recursive_term);
    let term = term.transform_up_with_subqueries(|part| match &part {
        LogicalPlan::TableScan(scan) if work_table(&part, &query.name).is_some() => {
            let scan = LogicalPlanBuilder::scan(scan.table_name.clone(), Arc::clone(&work), scan.projection.clone())?;
            Ok(Transformed::yes(scan.build()?))
        }
        _ => Ok(Transformed::no(part)),
    })?;
    let term = match term.data {
        LogicalPlan::Projection(projection) if is_term(&projection.input) => {
            let columns = projection
                .expr
                .into_iter()
                .map(|expr| match expr.unalias_nested().data {
                    Expr::Cast(cast) => *cast.expr,
                    column => column,
                });
            LogicalPlan::Projection(Projection::try_new(columns.collect(), projection.input)?)
        }
        other => other,
    };
    let term = coerce_plan_expr_for_schema(typed(term)?, first)?;
    RecursiveQuery::try_new(query.name, query.static_term, Arc::new(term), query.is_distinct)
}

fn work_table<'a>(plan: &'a LogicalPlan, name: &str) -> Option<&'a CteWorkTable> {
    let LogicalPlan::TableScan(scan) = plan else {
        return None;
    };
    let source = (scan.source.as_ref() as &dyn Any).downcast_ref::<DefaultTableSource>()?;
    let provider = source.table_provider.as_ref() as &dyn Any;
    provider
        .downcast_ref::<CteWorkTable>()
        .filter(|work| work.name() == name)
}

/// Whether it is the derived table.
fn is_term(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::SubqueryAlias(alias) if alias.alias.table() == TERM)
}

/// The rule; it comes after type coercion.
#[derive(Debug)]
pub(crate) struct RecursiveTerms;

impl AnalyzerRule for RecursiveTerms {
    fn name(&self) -> &str {
        "recursive_terms"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.apply_with_subqueries(|part| {
            if let LogicalPlan::RecursiveQuery(query) = part {
                check(query)?;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(plan)
    }
}

fn check(query: &RecursiveQuery) -> Result<()> {
    let LogicalPlan::Projection(projection) = query.recursive_term.as_ref() else {
        return Ok(());
    };
    if !is_term(&projection.input) {
        return Ok(());
    }
    for (index, expr) in projection.expr.iter().enumerate() {
        let Expr::Cast(Cast { expr: term, field }) = expr.clone().unalias_nested().data else {
            continue;
        };
        let given = mixed_numbers::shown(&term).get_type(projection.input.schema())?;
        if keeps(&plain_type(&given), &plain_type(field.data_type())) {
            continue;
        }
        let (given, first) = (data_type_name(&given), data_type_name(field.data_type()));
        let message = format!(
            "{OF_RECURSIVE_TERMS}\"{}\" column {} has type {first} in its non-recursive term but type {given} overall; cast the output of \
             the non-recursive term to that, or of the recursive one to {first}",
            query.name,
            index + 1,
        );
        let error = Error::new(ErrorCode::TypeMismatch, message);
        return Err(DataFusionError::External(Box::new(error)));
    }
    Ok(())
}

/// Whether a cast gives each value as it is, or fails.
fn keeps(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Date32, Date64, Decimal32, Decimal64, Decimal128, Decimal256, Duration, FixedSizeList, Float16, Float32,
        Float64, Interval, LargeList, List, Null, Struct, Time32, Time64, Timestamp,
    };
    match (from, to) {
        _ if from == to => true,
        (Null, _) => true,
        (_, Null) => false,
        (
            Decimal32(_, given) | Decimal64(_, given) | Decimal128(_, given) | Decimal256(_, given),
            Decimal32(_, taken) | Decimal64(_, taken) | Decimal128(_, taken) | Decimal256(_, taken),
        ) => given <= taken,
        (Decimal32(_, scale) | Decimal64(_, scale) | Decimal128(_, scale) | Decimal256(_, scale), to)
            if to.is_integer() =>
        {
            *scale <= 0
        }
        // A float is the nearest one, as anywhere.
        (from, to) if to.is_floating() => {
            !from.is_floating() && from.is_numeric()
                || matches!((from, to), (Float16, Float32) | (Float16 | Float32, Float64))
                || from.is_string()
        }
        (from, to) if from.is_integer() => to.is_numeric() || to.is_string(),
        (_, to) if to.is_string() => true,
        (from, to) if from.is_string() => to.is_integer() || matches!(to, DataType::Boolean),
        (Timestamp(given, _), Timestamp(taken, _))
        | (Time32(given) | Time64(given), Time32(taken) | Time64(taken))
        | (Duration(given), Duration(taken)) => rank(*given) <= rank(*taken),
        (Date32, Date64 | Timestamp(..)) => true,
        (Interval(_) | Duration(_), Interval(IntervalUnit::MonthDayNano)) => true,
        (from, to) if is_binary(from) => is_binary(to),
        (
            List(given) | LargeList(given) | FixedSizeList(given, _),
            List(taken) | LargeList(taken) | FixedSizeList(taken, _),
        ) => keeps(given.data_type(), taken.data_type()),
        (Struct(given), Struct(taken)) => {
            given.len() == taken.len()
                && given
                    .iter()
                    .zip(taken)
                    .all(|(given, taken)| keeps(given.data_type(), taken.data_type()))
        }
        _ => false,
    }
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_)
    )
}

/// The finest last.
fn rank(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    }
}
