//! `x op ANY (list)` and `x op ALL (list)`, with NULL where a NULL may decide.
//!
//! Problem: DataFusion 55 makes `array_has` of `= ANY`, and least and greatest elements of the other operators, which pass over NULLs:
//! `NOT 3 = ANY (ARRAY[1, NULL])` is true there. Proper way: a planner that asks NULLs too. Chosen: of elements that are written, `= ANY`
//! is IN and `<> ALL` is NOT IN; anything else becomes a function that compares with each element. Evidence: `plan_any_op` and
//! `plan_all_op` in datafusion-sql 55 `expr/mod.rs`.

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DynComparator, GenericListArray, OffsetSizeTrait, make_comparator,
};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::utils::take_function_args;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::expr::{InList, ScalarFunction};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, and, lit, or,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, BinaryOperator, VisitMut, VisitorMut};
use kalamdb_core::{Error, ErrorCode};

use crate::definition::data_type_name;
use crate::float_order;
use crate::intervals;
use crate::names::first_span;
use crate::tree::walk_mut;

/// Writes comparisons with the elements of lists as what they mean.
pub(crate) fn as_calls(node: &mut impl VisitMut) {
    struct Comparisons;
    impl VisitorMut for Comparisons {
        type Break = Error;
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
            let (left, operator, right, quantifier) = match expr {
                ast::Expr::AnyOp {
                    left,
                    compare_op,
                    right,
                    is_some: _,
                } => (left, compare_op, right, Quantifier::Any),
                ast::Expr::AllOp {
                    left,
                    compare_op,
                    right,
                } => (left, compare_op, right, Quantifier::All),
                _ => return ControlFlow::Continue(()),
            };
            // Queries are compared elsewhere, and the planner refuses other operators.
            if let Some(operator) = operator_of(operator)
                && !matches!(right.as_ref(), ast::Expr::Subquery(_))
            {
                let [left, right] =
                    [left, right].map(|side| std::mem::replace(side.as_mut(), ast::Expr::value(ast::Value::Null)));
                *expr = written(left, operator, right, quantifier);
            }
            ControlFlow::Continue(())
        }
    }
    walk_mut(node, &mut Comparisons).expect("this visitor does not break");
}

fn written(left: ast::Expr, operator: Operator, right: ast::Expr, quantifier: Quantifier) -> ast::Expr {
    let is_list = |element: &ast::Expr| matches!(element, ast::Expr::Array(_));
    match right {
        ast::Expr::Array(array)
            if is_membership(operator, quantifier) && !array.elem.is_empty() && !array.elem.iter().any(is_list) =>
        {
            ast::Expr::InList {
                expr: Box::new(left),
                list: array.elem,
                negated: quantifier == Quantifier::All,
            }
        }
        right => {
            let name = ast::Ident::with_quote_and_span('"', first_span(&left), name(operator, quantifier));
            let unnamed = |argument| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument));
            ast::Expr::Function(ast::Function {
                name: ast::ObjectName::from(vec![name]),
                uses_odbc_syntax: false,
                parameters: ast::FunctionArguments::None,
                args: ast::FunctionArguments::List(ast::FunctionArgumentList {
                    duplicate_treatment: None,
                    args: [right, left].map(unnamed).into(),
                    clauses: Vec::new(),
                }),
                filter: None,
                null_treatment: None,
                over: None,
                within_group: Vec::new(),
            })
        }
    }
}

fn operator_of(operator: &BinaryOperator) -> Option<Operator> {
    Some(match operator {
        BinaryOperator::Eq => Operator::Eq,
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::GtEq => Operator::GtEq,
        _ => return None,
    })
}

/// Whether it is `= ANY`, which is IN, or `<> ALL`, which is NOT IN.
fn is_membership(operator: Operator, quantifier: Quantifier) -> bool {
    matches!(
        (operator, quantifier),
        (Operator::Eq, Quantifier::Any) | (Operator::NotEq, Quantifier::All)
    )
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Quantifier {
    Any,
    All,
}

fn name(operator: Operator, quantifier: Quantifier) -> String {
    match quantifier {
        Quantifier::Any => format!("{operator} ANY"),
        Quantifier::All => format!("{operator} ALL"),
    }
}

/// The function of a list and a value: how the value compares with the elements.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Quantified {
    operator: Operator,
    quantifier: Quantifier,
    name: String,
    signature: Signature,
}

impl Quantified {
    /// One for each operator and quantifier.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        let operators = [Eq, NotEq, Lt, LtEq, Gt, GtEq].into_iter();
        operators.flat_map(|operator| {
            [Quantifier::Any, Quantifier::All].map(|quantifier| Quantified::new(operator, quantifier))
        })
    }

    /// That of IN, or of NOT IN, with a list that is a value.
    pub(crate) fn membership(negated: bool) -> ScalarUDF {
        let (operator, quantifier) = match negated {
            false => (Operator::Eq, Quantifier::Any),
            true => (Operator::NotEq, Quantifier::All),
        };
        ScalarUDF::from(Quantified::new(operator, quantifier))
    }

    fn new(operator: Operator, quantifier: Quantifier) -> Self {
        Quantified {
            operator,
            quantifier,
            name: name(operator, quantifier),
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }

    /// The same for arguments that are brought to one type of elements.
    fn of_one_type(&self) -> Self {
        Quantified {
            name: self.name.clone(),
            signature: Signature::array_and_element(Volatility::Immutable),
            ..*self
        }
    }

    /// Whether a call is of such a function.
    pub(crate) fn is_called(call: &ScalarFunction) -> bool {
        call.func.inner().is::<Quantified>()
    }

    fn holds(&self, order: Ordering) -> bool {
        match self.operator {
            Operator::Eq => order.is_eq(),
            Operator::NotEq => order.is_ne(),
            Operator::Lt => order.is_lt(),
            Operator::LtEq => order.is_le(),
            Operator::Gt => order.is_gt(),
            _ => order.is_ge(),
        }
    }

    /// `x op ANY (list)`, of the names of both.
    fn shown(&self, list: impl std::fmt::Display, value: impl std::fmt::Display) -> String {
        format!("{value} {}({list})", self.name)
    }

    /// For each row what the value's comparisons with the elements come to.
    fn compared<O: OffsetSizeTrait>(
        &self,
        lists: &Side<&GenericListArray<O>>,
        values: &Side<ArrayRef>,
        rows: usize,
    ) -> DataFusionResult<BooleanArray> {
        let elements = comparable(lists.array.values())?;
        let value = comparable(&values.array)?;
        let of_null = elements.data_type().is_null() || value.data_type().is_null();
        let compare = match of_null {
            true => None,
            false => Some(make_comparator(&value, &elements, SortOptions::default())?),
        };
        let offsets = lists.array.value_offsets();
        let all: Vec<usize> = match lists.is_one {
            true if lists.array.is_valid(0) => {
                let all = offsets[0].as_usize()..offsets[1].as_usize();
                match is_membership(self.operator, self.quantifier) {
                    true => all.collect(),
                    false => deciding(&elements, all)?,
                }
            }
            _ => Vec::new(),
        };
        let of_row = |row: usize| {
            if lists.array.is_null(lists.place(row)) {
                return None;
            }
            match lists.is_one {
                true => self.of_elements(&compare, &value, values.place(row), &elements, all.iter().copied()),
                false => {
                    let of_list = offsets[row].as_usize()..offsets[row + 1].as_usize();
                    self.of_elements(&compare, &value, values.place(row), &elements, of_list)
                }
            }
        };
        Ok((0..rows).map(of_row).collect())
    }

    fn of_elements(
        &self,
        compare: &Option<DynComparator>,
        value: &ArrayRef,
        place: usize,
        elements: &ArrayRef,
        of_list: impl Iterator<Item = usize>,
    ) -> Option<bool> {
        let all = self.quantifier == Quantifier::All;
        let mut is_unknown = false;
        for element in of_list {
            match compare {
                Some(compare) if value.is_valid(place) && elements.is_valid(element) => {
                    if self.holds(compare(place, element)) != all {
                        return Some(!all);
                    }
                }
                _ => is_unknown = true,
            }
        }
        (!is_unknown).then_some(all)
    }
}

/// The elements of one list that decide for every value: the least, the greatest, and a NULL. That is not so of `= ANY` and `<> ALL`.
fn deciding(elements: &ArrayRef, of_list: std::ops::Range<usize>) -> DataFusionResult<Vec<usize>> {
    let mut found: Vec<usize> = of_list
        .clone()
        .find(|element| elements.is_null(*element))
        .into_iter()
        .collect();
    if elements.data_type().is_null() {
        return Ok(found);
    }
    let compare = make_comparator(elements, elements, SortOptions::default())?;
    let valid = || of_list.clone().filter(|element| elements.is_valid(*element));
    found.extend(valid().min_by(|left, right| compare(*left, *right)));
    found.extend(valid().max_by(|left, right| compare(*left, *right)));
    Ok(found)
}

/// Values whose order is SQL's.
fn comparable(values: &ArrayRef) -> DataFusionResult<ArrayRef> {
    match values.data_type() {
        data_type if intervals::has_parts(data_type) => Ok(Arc::new(intervals::lengths(values)?)),
        _ => Ok(float_order::ordered(values)),
    }
}

/// An argument: a value for each row, or one for all.
struct Side<A> {
    array: A,
    is_one: bool,
}

impl Side<ArrayRef> {
    fn of(argument: &ColumnarValue) -> DataFusionResult<Self> {
        Ok(match argument {
            ColumnarValue::Array(array) => Side {
                array: Arc::clone(array),
                is_one: false,
            },
            ColumnarValue::Scalar(value) => Side {
                array: value.to_array()?,
                is_one: true,
            },
        })
    }
}

impl<A> Side<A> {
    fn place(&self, row: usize) -> usize {
        if self.is_one { 0 } else { row }
    }
}

fn element_of(list: &DataType) -> Option<&DataType> {
    match list {
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            Some(element.data_type())
        }
        _ => None,
    }
}

/// The elements of a list that is a constant, if IN compares them as this does.
fn constant_elements(list: &ScalarValue) -> DataFusionResult<Option<Vec<ScalarValue>>> {
    let elements = match list {
        ScalarValue::List(list) if list.is_valid(0) => list.value(0),
        ScalarValue::LargeList(list) if list.is_valid(0) => list.value(0),
        _ => return Ok(None),
    };
    if intervals::has_parts(elements.data_type()) || elements.data_type().is_nested() {
        return Ok(None);
    }
    let mut found = Vec::with_capacity(elements.len());
    for index in 0..elements.len() {
        let element = ScalarValue::try_from_array(&elements, index)?;
        found.extend(float_order::other_zero(&element));
        found.push(element);
    }
    Ok(Some(found))
}

impl ScalarUDFImpl for Quantified {
    fn name(&self) -> &str {
        &self.name
    }

    fn schema_name(&self, args: &[Expr]) -> DataFusionResult<String> {
        let [list, value] = take_function_args(self.name(), args)?;
        Ok(self.shown(list.schema_name(), value.schema_name()))
    }

    fn display_name(&self, args: &[Expr]) -> DataFusionResult<String> {
        let [list, value] = take_function_args(self.name(), args)?;
        Ok(self.shown(list, value))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn coerce_types(&self, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        let [list, value] = take_function_args(self.name(), given)?;
        // The planner asks before a literal among UUIDs is read as one.
        if value.is_string() && matches!(element_of(list), Some(DataType::FixedSizeBinary(_))) {
            return Ok(given.to_vec());
        }
        let fields = given.iter().map(|given| Arc::new(Field::new("", given.clone(), true)));
        let taken = fields_with_udf(&fields.collect::<Vec<FieldRef>>(), &ScalarUDF::from(self.of_one_type()));
        match taken {
            Ok(taken) => Ok(taken.iter().map(|field| field.data_type().clone()).collect()),
            Err(_) => {
                let types = [value, list].map(data_type_name);
                let message = format!(
                    "{} compares with the elements of a list, and here a {} with {}",
                    self.name, types[0], types[1]
                );
                Err(DataFusionError::External(Box::new(Error::new(
                    ErrorCode::TypeMismatch,
                    message,
                ))))
            }
        }
    }

    /// IN, which knows how to look a value up among many, and which key ranges are made of.
    fn simplify(&self, args: Vec<Expr>, _context: &SimplifyContext) -> DataFusionResult<ExprSimplifyResult> {
        if let [Expr::Literal(list, _), value] = args.as_slice()
            && is_membership(self.operator, self.quantifier)
            && let Some(elements) = constant_elements(list)?
        {
            let negated = self.quantifier == Quantifier::All;
            let unknown = lit(ScalarValue::Boolean(None));
            if elements.is_empty() {
                return Ok(ExprSimplifyResult::Simplified(lit(negated)));
            }
            let has_null = elements.iter().any(ScalarValue::is_null);
            let known = elements.into_iter().filter(|element| !element.is_null());
            let known: Vec<Expr> = known.map(|element| Expr::Literal(element, None)).collect();
            if known.is_empty() {
                return Ok(ExprSimplifyResult::Simplified(unknown));
            }
            let known = Expr::InList(InList::new(Box::new(value.clone()), known, negated));
            // Beside the list, as `null_lists` says.
            return Ok(ExprSimplifyResult::Simplified(match (has_null, negated) {
                (false, _) => known,
                (true, false) => or(known, unknown),
                (true, true) => and(known, unknown),
            }));
        }
        Ok(ExprSimplifyResult::Original(args))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let [list, value] = take_function_args(self.name(), &args.args)?;
        if list.data_type().is_null() {
            return Ok(ColumnarValue::Scalar(ScalarValue::Boolean(None)));
        }
        let (lists, values) = (Side::of(list)?, Side::of(value)?);
        let is_one = lists.is_one && values.is_one;
        let rows = if is_one { 1 } else { args.number_rows };
        let found = match lists.array.data_type() {
            DataType::List(_) => {
                let array = lists.array.as_list::<i32>();
                self.compared(
                    &Side {
                        array,
                        is_one: lists.is_one,
                    },
                    &values,
                    rows,
                )?
            }
            DataType::LargeList(_) => {
                let array = lists.array.as_list::<i64>();
                self.compared(
                    &Side {
                        array,
                        is_one: lists.is_one,
                    },
                    &values,
                    rows,
                )?
            }
            other => {
                let message = format!("{} takes a list, not {other}", self.name);
                return Err(DataFusionError::Plan(message));
            }
        };
        Ok(match is_one {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?),
            false => ColumnarValue::Array(Arc::new(found)),
        })
    }
}
