//! The types of a query's parameters. What the query tells of one at any place (by what it is compared or computed with) holds at
//! all places. One of which it tells nothing has the type of the value that is bound; while nothing is bound it is described as
//! what the places where it stands take, and as text where they take anything.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::binary::comparison_coercion;
use datafusion::logical_expr::expr::{BinaryExpr, Cast, Placeholder, TryCast};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use datafusion::sql::sqlparser::ast;
use kalamdb_core::{Error, ErrorCode, Result};

use super::{Distinct, Planner};
use crate::definition::data_type_name;
use crate::parameters::{self, untyped};
use crate::plan_names::PlanNames;
use crate::planned::plain_type;

/// How often a query is planned to learn types: `$1 = $2 AND $2 = id` tells that of `$2`, and then that of `$1`. Of a longer
/// chain the rest is taken for untold.
const MOST_ROUNDS: usize = 8;

/// What is tried for all parameters that nothing is known of, where the query cannot be planned without.
const GUESSES: [DataType; 4] = [DataType::Utf8, DataType::Int64, DataType::Float64, DataType::Boolean];

/// By number, `$1` first; `None` where nothing is known.
type Types = Vec<Option<FieldRef>>;

/// A plan with types for its parameters.
pub(super) struct Typed {
    pub(super) distinct: Distinct,
    pub(super) types: Types,
    /// Whether the query leaves the type of some to what is bound.
    pub(super) follows_bound_types: bool,
}

/// Why there is no plan with these types.
struct Refusal {
    error: DataFusionError,
    types: Types,
    /// Whether it is for a parameter of two types, which no other types make right.
    is_final: bool,
}

impl Refusal {
    fn new(error: DataFusionError, types: Types) -> Self {
        Refusal {
            error,
            types,
            is_final: false,
        }
    }
}

impl Planner {
    /// The plan of a query; `known` are types that something outside it fixes.
    ///
    /// # Errors
    /// What planning says.
    pub(super) fn typed(
        &self,
        names: &PlanNames<'_>,
        statement: &ast::Statement,
        known: &[Option<FieldRef>],
    ) -> Result<Typed> {
        let mut known = known.to_vec();
        known.resize(known.len().max(parameters::count(statement)?), None);
        let refused = |refusal: Refusal| self.refused(names, refusal.error, statement, &refusal.types);
        let mut refusal = None;
        let told = match self.told(names, statement, known.clone()) {
            Ok(told) if is_complete(&told.types) => return Ok(told),
            Ok(told) => Some(told),
            Err(first) => {
                let is_final = first.is_final || is_complete(&known);
                let error = refused(first);
                if is_final || !is_perhaps_of_types(error.code) {
                    return Err(error);
                }
                refusal = Some(error);
                self.told_or_joined(names, statement, known.clone()).ok()
            }
        };
        let types = told.as_ref().map_or(known, |told| told.types.clone());
        let mut unsound = None;
        let mut sound = |typed: Typed| -> Option<Typed> {
            let typed = Typed {
                follows_bound_types: true,
                ..typed
            };
            if self.analyze(typed.distinct.plan.clone()).is_ok() {
                return Some(typed);
            }
            unsound.get_or_insert(typed);
            None
        };
        if let Some(bound) = filled(&types, |index| self.bound.get(index).cloned().flatten()) {
            let bound = self.told_or_joined(names, statement, bound);
            match bound.and_then(|bound| self.completed(names, statement, bound)) {
                Ok(typed) => {
                    if let Some(typed) = sound(typed) {
                        return Ok(typed);
                    }
                }
                Err(error) => refusal = Some(refused(error)),
            }
        }
        if let Some(told) = told {
            match self.completed(names, statement, told) {
                Ok(typed) => {
                    if let Some(typed) = sound(typed) {
                        return Ok(typed);
                    }
                }
                Err(error) => refusal = refusal.or_else(|| Some(refused(error))),
            }
        }
        for guess in &GUESSES {
            let guess: FieldRef = Arc::new(Field::new("", guess.clone(), true));
            let Some(types) = filled(&types, |_| Some(Arc::clone(&guess))) else {
                continue;
            };
            // Why a guess is wrong says nothing of the query.
            if let Ok(typed) = self.told(names, statement, types)
                && let Some(typed) = sound(typed)
            {
                return Ok(typed);
            }
        }
        // A function may take values only of a type that is none of those.
        if let Ok(told) = self.told(names, statement, types)
            && let Some(told) = sound(told)
        {
            return Ok(told);
        }
        match (unsound, refusal) {
            // Whoever runs or describes it gets to know what is wrong.
            (Some(typed), _) => Ok(typed),
            (None, Some(error)) => Err(error),
            (None, None) => Err(Error::new(
                ErrorCode::Internal,
                "a query has no plan and no reason for it",
            )),
        }
    }

    /// The plan with what it tells of its parameters; they have the same type wherever they stand.
    fn told(&self, names: &PlanNames<'_>, statement: &ast::Statement, types: Types) -> Result<Typed, Refusal> {
        let mut types = types;
        let mut round = 1;
        loop {
            let distinct = match self.distinct(names, statement.clone(), &types) {
                Ok(distinct) => distinct,
                Err(error) => return Err(Refusal::new(error, types)),
            };
            let mut learned = types.clone();
            let stands_otherwise = match learn(&distinct.plan, &mut learned) {
                Ok(stands_otherwise) => stands_otherwise,
                Err(error) => {
                    let refusal = Refusal::new(error, types);
                    return Err(Refusal {
                        is_final: true,
                        ..refusal
                    });
                }
            };
            // A plan made with all that it tells is as good as it gets.
            let is_done = !stands_otherwise || learned == types || round == MOST_ROUNDS;
            types = learned;
            if is_done {
                return Ok(Typed {
                    distinct,
                    types,
                    follows_bound_types: false,
                });
            }
            round += 1;
        }
    }

    /// The same where a plan may be refused because two parameters are joined by `||`, which DataFusion has no type for.
    fn told_or_joined(
        &self,
        names: &PlanNames<'_>,
        statement: &ast::Statement,
        types: Types,
    ) -> Result<Typed, Refusal> {
        let refusal = match self.told(names, statement, types.clone()) {
            Err(refusal) if !refusal.is_final => refusal,
            outcome => return outcome,
        };
        let joined = parameters::joined(statement);
        match filled(&types, |index| joined.contains(&(index + 1)).then(untyped)) {
            Some(types) => self.told(names, statement, types).map_err(|_| refusal),
            None => Err(refusal),
        }
    }

    /// The same with a type for each parameter.
    fn completed(&self, names: &PlanNames<'_>, statement: &ast::Statement, told: Typed) -> Result<Typed, Refusal> {
        if is_complete(&told.types) {
            return Ok(told);
        }
        // What cannot be coerced without types wants none.
        let wanted = self.analyze(told.distinct.plan.clone()).ok();
        let wanted = wanted.and_then(|plan| wanted_types(&plan).ok()).unwrap_or_default();
        let told = match filled(&told.types, |index| wanted.get(&(index + 1)).cloned()) {
            Some(types) => self.told(names, statement, types)?,
            None => told,
        };
        match filled(&told.types, |_| Some(untyped())) {
            Some(types) => self.told(names, statement, types),
            None => Ok(told),
        }
    }
}

/// Whether an error may go away with other types of parameters.
fn is_perhaps_of_types(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::InvalidStatement
            | ErrorCode::InvalidArgument
            | ErrorCode::TypeMismatch
            | ErrorCode::Unsupported
            | ErrorCode::Internal
    )
}

fn is_complete(types: &[Option<FieldRef>]) -> bool {
    types.iter().all(Option::is_some)
}

/// The types with more of them, by index; `None` if there are no more.
fn filled(types: &[Option<FieldRef>], more: impl Fn(usize) -> Option<FieldRef>) -> Option<Types> {
    let mut any = false;
    let mut filled = types.to_vec();
    for (index, slot) in filled.iter_mut().enumerate().filter(|(_, slot)| slot.is_none()) {
        *slot = more(index);
        any |= slot.is_some();
    }
    any.then_some(filled)
}

/// Adds what a plan tells to the types that it was made with; whether some parameter stands in it with another type than it has.
fn learn(plan: &LogicalPlan, types: &mut Types) -> DataFusionResult<bool> {
    let before = types.clone();
    let mut places: Vec<(usize, Option<FieldRef>)> = Vec::new();
    for_each_expression(plan, |expr| {
        if let Expr::Placeholder(Placeholder { id, field }) = expr {
            let number = parameters::number(id).map_err(|error| DataFusionError::External(Box::new(error)))?;
            let field = field.as_ref().filter(|field| *field.data_type() != DataType::Null);
            places.push((number, field.map(|field| parameter_field(field))));
        }
        Ok(())
    })?;
    for (number, field) in &places {
        let index = number - 1;
        if types.len() <= index {
            types.resize(index + 1, None);
        }
        let (Some(field), true) = (field, before.get(index).is_none_or(Option::is_none)) else {
            continue;
        };
        types[index] = Some(match &types[index] {
            None => Arc::clone(field),
            Some(known) => common(known, field).ok_or_else(|| {
                let message = format!(
                    "parameter ${number} is {} at one place and {} at another; write CAST(${number} AS …) at one of them",
                    data_type_name(known.data_type()),
                    data_type_name(field.data_type())
                );
                DataFusionError::External(Box::new(Error::new(ErrorCode::InvalidStatement, message)))
            })?,
        });
    }
    Ok(places.iter().any(|(number, field)| {
        let known = &types[number - 1];
        known.is_some() && known != field
    }))
}

/// The type of a parameter that stands where such a field does.
fn parameter_field(field: &Field) -> FieldRef {
    Arc::new(Field::new("", plain_type(field.data_type()), true).with_metadata(field.metadata().clone()))
}

/// A type that takes the values of both.
fn common(one: &FieldRef, other: &FieldRef) -> Option<FieldRef> {
    if one == other {
        return Some(Arc::clone(one));
    }
    let (a, b) = (one.data_type(), other.data_type());
    let is_alike = a == b || a.is_numeric() && b.is_numeric() || a.is_temporal() && b.is_temporal();
    let data_type = is_alike.then(|| comparison_coercion(a, b)).flatten()?;
    Some(Arc::new(Field::new("", plain_type(&data_type), true)))
}

/// For parameters without a type, by number, what the places where they stand in an analyzed plan want: what is cast there, by
/// the text or by coercion, and BOOLEAN for conditions.
fn wanted_types(plan: &LogicalPlan) -> DataFusionResult<HashMap<usize, FieldRef>> {
    let mut wanted: HashMap<usize, FieldRef> = HashMap::new();
    let mut note = |expr: &Expr, data_type: &DataType| {
        if let Expr::Placeholder(Placeholder { id, field }) = expr
            && field.as_ref().is_none_or(|field| *field.data_type() == DataType::Null)
            && *data_type != DataType::Null
            && let Ok(number) = parameters::number(id)
        {
            let field = || Arc::new(Field::new("", plain_type(data_type), true));
            wanted.entry(number).or_insert_with(field);
        }
    };
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Filter(filter) => note(&filter.predicate, &DataType::Boolean),
            LogicalPlan::Join(join) => join.filter.iter().for_each(|filter| note(filter, &DataType::Boolean)),
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    for_each_expression(plan, |expr| {
        match expr {
            Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => note(expr, field.data_type()),
            Expr::Not(inner) => note(inner, &DataType::Boolean),
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::And | Operator::Or,
                right,
            }) => {
                note(left, &DataType::Boolean);
                note(right, &DataType::Boolean);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(wanted)
}

/// Looks at all expressions of a plan, at any depth.
fn for_each_expression(
    plan: &LogicalPlan,
    mut look: impl FnMut(&Expr) -> DataFusionResult<()>,
) -> DataFusionResult<()> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                look(part)?;
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}
