//! Values for `$1`, `$2`, … and `?`.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, Fields, Schema};
use datafusion::common::metadata::{FieldMetadata, ScalarAndMetadata};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ParamValues};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::Expr;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, Visit, VisitMut, Visitor, VisitorMut};
use kalamdb_core::{Error, ErrorCode, Result};

use crate::assignment::{Target, assign};
use crate::diagnostics;
use crate::planned::plain_type;
use crate::tree::{walk, walk_mut};

/// The parameters of one execution.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    /// Columns by position, whatever their names; cast without loss to the types that the statement tells, or refused with
    /// TYPE_MISMATCH. A parameter of which it tells nothing has the type of its column.
    /// A query takes one row; an INSERT, UPDATE or DELETE with several rows runs for each, atomically as one.
    pub batch: Option<RecordBatch>,
}

impl Parameters {
    /// No parameters.
    pub fn none() -> Self {
        Parameters { batch: None }
    }

    /// Types for parameters of which the statement tells nothing: those of the columns, plainly; `None` for one of NULLs only.
    pub(crate) fn types(&self) -> Vec<Option<FieldRef>> {
        let columns = self.batch.iter().flat_map(|batch| batch.columns());
        let types = columns.map(|column| {
            let data_type = bound_type(column.data_type());
            (data_type != DataType::Null).then(|| Arc::new(Field::new("", data_type, true)))
        });
        types.collect()
    }

    /// The values as columns `$1`, `$2`, … of exactly these types, read in that time zone. A statement without parameters has one row of none.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for too few or too many, TYPE_MISMATCH for a value that does not fit.
    pub(crate) fn columns(&self, fields: &Fields, zone: &Arc<str>) -> Result<RecordBatch> {
        let given = self.check_count(fields.len())?;
        // A batch without columns still says how often to run.
        let rows = match &self.batch {
            Some(batch) if given > 0 => batch.num_rows(),
            Some(_) | None => 1,
        };
        let columns: Vec<ArrayRef> = fields
            .iter()
            .zip(self.batch.iter().flat_map(|batch| batch.columns()))
            .map(|(field, values)| assign(values, &Target::parameter(field, zone)))
            .collect::<Result<_>>()?;
        let schema = Arc::new(Schema::new(fields.clone()));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(schema, columns, &options)
            .map_err(|error| diagnostics::from_datafusion(error.into()))
    }

    /// Their number, which has to be that.
    ///
    /// # Errors
    /// INVALID_ARGUMENT for too few or too many.
    pub(crate) fn check_count(&self, wanted: usize) -> Result<usize> {
        let given = self.batch.as_ref().map_or(0, RecordBatch::num_columns);
        if given == wanted {
            return Ok(given);
        }
        let takes = match wanted {
            0 => "no parameters".to_owned(),
            1 => "1 parameter".to_owned(),
            count => format!("{count} parameters"),
        };
        Err(Error::new(
            ErrorCode::InvalidArgument,
            format!("the statement takes {takes}, {given} given"),
        ))
    }

    /// The one row of values of a query.
    ///
    /// # Errors
    /// As [`Parameters::columns`]; INVALID_ARGUMENT for more or less than one row.
    pub(crate) fn one_row(&self, fields: &Fields, zone: &Arc<str>) -> Result<ParamValues> {
        let columns = self.columns(fields, zone)?;
        if columns.num_rows() != 1 {
            return Err(Error::new(
                ErrorCode::InvalidArgument,
                format!("a query takes one row of parameters, {} given", columns.num_rows()),
            ));
        }
        row(&columns, 0)
    }
}

/// One row of parameter columns as values of a plan.
pub(crate) fn row(columns: &RecordBatch, row: usize) -> Result<ParamValues> {
    let schema = columns.schema();
    let values = columns.columns().iter().zip(schema.fields()).map(|(column, field)| {
        let value = ScalarValue::try_from_array(column, row).map_err(diagnostics::from_datafusion)?;
        Ok(ScalarAndMetadata::new(
            value,
            (!field.metadata().is_empty()).then(|| FieldMetadata::new_from_field(field)),
        ))
    });
    Ok(ParamValues::List(values.collect::<Result<_>>()?))
}

/// The type of a parameter for values of that type: without what only their encoding is about.
fn bound_type(data_type: &DataType) -> DataType {
    match plain_type(data_type) {
        DataType::LargeUtf8 => DataType::Utf8,
        DataType::LargeBinary => DataType::Binary,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(precision, scale)
        }
        // Functions take it, and not all of them the longer one.
        DataType::Decimal256(precision, scale) if precision <= DECIMAL128_MAX_PRECISION => {
            DataType::Decimal128(precision, scale)
        }
        other => other,
    }
}

/// The parameters as a description of their statement has them; one without a type is text.
pub(crate) fn fields(types: Vec<Option<FieldRef>>) -> Fields {
    let named = types.into_iter().enumerate().map(|(index, field)| {
        let field = field.unwrap_or_else(untyped);
        let name = format!("${}", index + 1);
        Field::new(name, field.data_type().clone(), true).with_metadata(field.metadata().clone())
    });
    named.collect()
}

/// How many parameters the text has: the highest number of one.
///
/// # Errors
/// INVALID_STATEMENT for a placeholder without a number.
pub(crate) fn count(statement: &ast::Statement) -> Result<usize> {
    struct Highest(usize);
    impl Visitor for Highest {
        type Break = Error;
        fn pre_visit_value(&mut self, value: &ast::ValueWithSpan) -> ControlFlow<Error> {
            if let ast::Value::Placeholder(name) = &value.value {
                match number(name) {
                    Ok(number) => self.0 = self.0.max(number),
                    Err(error) => return ControlFlow::Break(error),
                }
            }
            ControlFlow::Continue(())
        }
    }
    let mut highest = Highest(0);
    walk(statement, &mut highest)?;
    Ok(highest.0)
}

/// The numbers of parameters that `||` joins with others.
pub(crate) fn joined(statement: &ast::Statement) -> HashSet<usize> {
    struct Joined(HashSet<usize>);
    impl Visitor for Joined {
        type Break = Error;
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Error> {
            if let ast::Expr::BinaryOp {
                left,
                op: ast::BinaryOperator::StringConcat,
                right,
            } = expr
            {
                // What is no number is refused when it is planned.
                let parameters = [left, right].map(|operand| placeholder(operand).ok().flatten());
                self.0.extend(parameters.into_iter().flatten());
            }
            ControlFlow::Continue(())
        }
    }
    let mut joined = Joined(HashSet::new());
    walk(statement, &mut joined).expect("this visitor does not break");
    joined.0
}

/// Writes array literals with parameters in them as calls of `make_array`.
///
/// Problem: DataFusion gives parameters in array literals no types, and knows there neither columns of the query around nor WITH
/// queries. Proper way: `sql_array_literal` hands on the context that has them. Chosen: the call means the same and has them.
/// Evidence: `PlannerContext::new()` in datafusion-sql 55's `expr/value.rs`; `an_untold_parameter_has_the_type_of_its_value`.
pub(crate) fn arrays_as_calls(node: &mut (impl Visit + VisitMut)) {
    struct Calls;
    impl VisitorMut for Calls {
        type Break = Error;
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
            if let ast::Expr::Array(array) = expr
                && needs_context(array)
            {
                let elements = std::mem::take(&mut array.elem);
                *expr = ast::Expr::Function(call_of("make_array", elements));
            }
            ControlFlow::Continue(())
        }
    }
    walk_mut(node, &mut Calls).expect("this visitor does not break");
}

/// Whether parameters, columns or queries stand somewhere in a list.
fn needs_context(list: &ast::Array) -> bool {
    struct Any(bool);
    impl Visitor for Any {
        type Break = Error;
        fn pre_visit_value(&mut self, value: &ast::ValueWithSpan) -> ControlFlow<Error> {
            self.0 |= matches!(value.value, ast::Value::Placeholder(_));
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Error> {
            self.0 |= matches!(expr, ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_));
            ControlFlow::Continue(())
        }

        fn pre_visit_query(&mut self, _: &ast::Query) -> ControlFlow<Error> {
            self.0 = true;
            ControlFlow::Continue(())
        }
    }
    let mut any = Any(false);
    walk(list, &mut any).expect("this visitor does not break");
    any.0
}

/// A call of a function, whose name is taken as it is, with these arguments.
pub(crate) fn call_of(function: &str, arguments: Vec<ast::Expr>) -> ast::Function {
    let unnamed = |argument| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument));
    ast::Function {
        name: ast::ObjectName::from(vec![ast::Ident::with_quote('"', function)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.into_iter().map(unnamed).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}

/// The type of a parameter that nothing says anything about.
pub(crate) fn untyped() -> FieldRef {
    Arc::new(Field::new("", DataType::Utf8, true))
}

/// The number of a placeholder, from 1.
///
/// # Errors
/// INVALID_STATEMENT for a name instead of a number.
pub(crate) fn number(placeholder: &str) -> Result<usize> {
    /// As many as the PostgreSQL protocol can count.
    const MOST: usize = 65_535;
    let number = placeholder.strip_prefix('$').and_then(|digits| digits.parse().ok());
    number.filter(|number| (1..=MOST).contains(number)).ok_or_else(|| {
        Error::new(
            ErrorCode::InvalidStatement,
            format!("'{placeholder}' is no parameter: write ?, or $1 to ${MOST}"),
        )
    })
}

/// The known types, and BIGINT for what is a LIMIT or OFFSET.
///
/// # Errors
/// INVALID_STATEMENT for a placeholder without a number.
pub(crate) fn of_limits(statement: &ast::Statement, known: &[Option<FieldRef>]) -> Result<Vec<Option<FieldRef>>> {
    struct Limits(Vec<Option<FieldRef>>);
    impl Limits {
        fn note(&mut self, expr: &ast::Expr) -> Result<()> {
            if let Some(number) = placeholder(expr)? {
                if self.0.len() < number {
                    self.0.resize(number, None);
                }
                let slot = &mut self.0[number - 1];
                slot.get_or_insert_with(|| Arc::new(Field::new("", DataType::Int64, true)));
            }
            Ok(())
        }
    }
    impl Visitor for Limits {
        type Break = Error;
        fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<Error> {
            let (limit, offset) = match &query.limit_clause {
                Some(ast::LimitClause::LimitOffset { limit, offset, .. }) => {
                    (limit.as_ref(), offset.as_ref().map(|offset| &offset.value))
                }
                Some(ast::LimitClause::OffsetCommaLimit { offset, limit }) => (Some(limit), Some(offset)),
                None => (None, None),
            };
            match limit.into_iter().chain(offset).try_for_each(|expr| self.note(expr)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        }
    }
    let mut limits = Limits(known.to_vec());
    match statement.visit(&mut limits) {
        ControlFlow::Continue(()) => Ok(limits.0),
        ControlFlow::Break(error) => Err(error),
    }
}

/// The number of the parameter that an expression is, from 1.
///
/// # Errors
/// INVALID_STATEMENT for a placeholder without a number.
pub(crate) fn placeholder(expr: &ast::Expr) -> Result<Option<usize>> {
    match expr {
        ast::Expr::Nested(inner) => placeholder(inner),
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Placeholder(name) => number(name).map(Some),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

/// The same expression over columns `$1`, `$2`, ….
///
/// # Errors
/// What walking the expression says.
pub(crate) fn placeholders_to_columns(expr: Expr) -> DataFusionResult<Expr> {
    let bound = expr.transform_up(|expr| {
        Ok(match expr {
            Expr::Placeholder(placeholder) => Transformed::yes(Expr::Column(Column::new_unqualified(placeholder.id))),
            other => Transformed::no(other),
        })
    })?;
    Ok(bound.data)
}

/// The placeholders of an expression with their types, as far as inferred.
///
/// # Errors
/// What walking the expression says.
pub(crate) fn placeholder_types(expr: &Expr) -> DataFusionResult<HashMap<String, Option<FieldRef>>> {
    let mut types: HashMap<String, Option<FieldRef>> = HashMap::new();
    expr.apply(|expr| {
        if let Expr::Placeholder(placeholder) = expr {
            let known = types.entry(placeholder.id.clone()).or_default();
            if known.is_none() {
                // Beside another parameter it has the type of nothing.
                *known = placeholder
                    .field
                    .clone()
                    .filter(|field| *field.data_type() != DataType::Null);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(types)
}
