//! UUID and JSON through expressions: what CASE, `coalesce` and the like, lists and structs make of them has their type.
//!
//! Problem: DataFusion 55 gives such expressions the Arrow type of their operands, without the metadata that names an extension
//! type, so that a UUID would leave them as 16 bytes. Proper way: the functions' own fields keep it. Chosen: before type coercion,
//! such an expression becomes the argument of a function that changes nothing but the field. What aggregates do is in
//! `kept_aggregates`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, StructArray, new_null_array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_null as is_null_row, nullif};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::tree_node::Transformed;
use datafusion::common::utils::{normalize_float_zero, normalize_float_zero_scalar};
use datafusion::common::{Column, DFSchema};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExprSchemable, LogicalPlan, Projection, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Error, ErrorCode};

use crate::definition::data_type_name;
use crate::extension_types::{ExtensionType, OnMisfit, UUID_BYTES, check_json, conversion};
use crate::intervals::{INTERVAL, has_parts, lengths};
use crate::time_units;

/// Functions that give one of their arguments.
const CHOOSING: &[&str] = &["coalesce", "nullif", "nvl", "greatest", "least"];

/// Those of them that are to take texts beside UUIDs.
pub(crate) const CHOOSING_WITH_TEXTS: &[&str] = &["coalesce", "nullif", "greatest", "least"];

/// Functions of lists whose text is none of the elements.
const MAKING_TEXT: &[&str] = &["array_to_string", "array_dims"];

/// A CASE whose results have an extension type, or NULL, has it. Text among UUIDs is read as one.
///
/// # Errors
/// Whatever the types of the expression say.
pub(crate) fn of_case(case: Case, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut case = case;
    let results = case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut());
    let mut results: Vec<&mut Expr> = results.chain(case.else_expr.as_deref_mut()).collect();
    let common = common_type(&mut results, schema)?;
    Ok(match common {
        Some(extension) => Transformed::yes(typed(Expr::Case(case), extension.field(""))),
        None => Transformed::no(Expr::Case(case)),
    })
}

/// The same for a call of a function that chooses one of its arguments, or makes a list or a struct of them.
///
/// # Errors
/// Whatever the types of the expression say.
pub(crate) fn of_call(mut call: ScalarFunction, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let name = call.func.name();
    let field = if CHOOSING.contains(&name) {
        let mut arguments: Vec<&mut Expr> = call.args.iter_mut().collect();
        common_type(&mut arguments, schema)?.map(|extension| extension.field(""))
    } else {
        match name {
            "make_array" => {
                let mut arguments: Vec<&mut Expr> = call.args.iter_mut().collect();
                let item = common_type(&mut arguments, schema)?
                    .map(|extension| extension.field(Field::LIST_FIELD_DEFAULT_NAME));
                item.map(|item| Arc::new(Field::new("", DataType::List(item), true)))
            }
            "struct" => structure(&call, call.args.iter(), schema),
            // Names and values by turns.
            "named_struct" => structure(&call, call.args.iter().skip(1).step_by(2), schema),
            _ => of_lists(&call, schema),
        }
    };
    let call = Expr::ScalarFunction(call);
    Ok(match field {
        Some(field) => Transformed::yes(typed(call, field)),
        None => Transformed::no(call),
    })
}

/// The extension type that expressions have which become of one type.
fn common_type(operands: &mut [&mut Expr], schema: &DFSchema) -> Result<Option<ExtensionType>> {
    let Some(extension) = operands.iter().find_map(|operand| extension_of(operand, schema)) else {
        return Ok(None);
    };
    let mut converted = Vec::with_capacity(operands.len());
    for operand in operands.iter() {
        if extension_of(operand, schema) == Some(extension) || is_null(operand) {
            converted.push(None);
            continue;
        }
        let is_text = operand.get_type(schema).is_ok_and(|data_type| data_type.is_string());
        match extension {
            ExtensionType::Uuid if is_text => {
                let uuid = conversion(operand, &ExtensionType::Uuid.field(""), schema, OnMisfit::Fail)?;
                converted.push(uuid);
            }
            // Any other text may be no JSON.
            ExtensionType::Json if is_json_literal(operand) => converted.push(None),
            ExtensionType::Uuid | ExtensionType::Json => return Ok(None),
        }
    }
    for (operand, converted) in operands.iter_mut().zip(converted) {
        if let Some(converted) = converted {
            **operand = converted;
        }
    }
    Ok(Some(extension))
}

fn extension_of(expr: &Expr, schema: &DFSchema) -> Option<ExtensionType> {
    // What has no type here is for other rules to refuse.
    let (_, field) = expr.to_field(schema).ok()?;
    ExtensionType::of(field.metadata())
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

fn is_json_literal(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value
            .try_as_str()
            .flatten()
            .is_some_and(|text| check_json(text).is_ok()),
        _ => false,
    }
}

/// A field of the struct that a call makes of these values, with the extension types that they have, if any.
fn structure<'a>(call: &ScalarFunction, values: impl Iterator<Item = &'a Expr>, schema: &DFSchema) -> Option<FieldRef> {
    let extensions: Vec<Option<ExtensionType>> = values.map(|value| extension_of(value, schema)).collect();
    if extensions.iter().all(Option::is_none) {
        return None;
    }
    // As above.
    let DataType::Struct(fields) = Expr::ScalarFunction(call.clone()).get_type(schema).ok()? else {
        return None;
    };
    let named = fields.iter().zip(extensions).map(|(field, extension)| match extension {
        Some(extension) => Arc::new(field.as_ref().clone().with_metadata(extension.metadata())),
        None => Arc::clone(field),
    });
    Some(Arc::new(Field::new(
        "",
        DataType::Struct(named.collect::<Fields>()),
        true,
    )))
}

/// What a function makes of lists whose elements have an extension type: one of them, or a list of them.
fn of_lists(call: &ScalarFunction, schema: &DFSchema) -> Option<FieldRef> {
    let name = call.func.name();
    if !name.starts_with("array_") || MAKING_TEXT.contains(&name) {
        return None;
    }
    let extension = call.args.iter().find_map(|arg| {
        // As above.
        let (_, field) = arg.to_field(schema).ok()?;
        ExtensionType::of(field.metadata()).or_else(|| of_items(field.data_type()))
    })?;
    match Expr::ScalarFunction(call.clone()).get_type(schema).ok()? {
        DataType::List(item) if *item.data_type() == extension.storage() => {
            let item = extension.field(item.name());
            Some(Arc::new(Field::new("", DataType::List(item), true)))
        }
        element if element == extension.storage() => Some(extension.field("")),
        _ => None,
    }
}

/// The extension type of a list's elements.
fn of_items(data_type: &DataType) -> Option<ExtensionType> {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            ExtensionType::of(item.metadata())
        }
        _ => None,
    }
}

/// Rows that `unnest` makes of lists whose elements have an extension type have it, too.
///
/// # Errors
/// None for a plan that is valid.
pub(crate) fn of_unnest(plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Unnest(unnest) = &plan else {
        return Ok(plan);
    };
    let given = unnest.input.schema();
    let elements = unnest.list_type_columns.iter().filter(|(_, list)| list.depth == 1);
    let elements: Vec<(&Column, ExtensionType)> = elements
        .filter_map(|(index, list)| Some((&list.output_column, of_items(given.field(*index).data_type())?)))
        .collect();
    if elements.is_empty() {
        return Ok(plan);
    }
    let columns = unnest.schema.columns().into_iter().map(|column| {
        match elements.iter().find(|(element, _)| **element == column) {
            Some((_, extension)) => {
                let typed = typed(Expr::Column(column.clone()), extension.field(""));
                typed.alias_qualified(column.relation, column.name)
            }
            None => Expr::Column(column),
        }
    });
    let columns: Vec<Expr> = columns.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}

/// The expression as of a field whose type it has but for metadata.
pub(crate) fn typed(expr: Expr, field: FieldRef) -> Expr {
    let function = Typed {
        field,
        signature: Signature::any(1, Volatility::Immutable),
    };
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::from(function)), vec![expr]))
}

/// The same values in a type that differs in the metadata of fields only.
///
/// # Errors
/// None for such a type.
pub(crate) fn retyped(values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if values.data_type() == to {
        return Ok(Arc::clone(values));
    }
    Ok(match (values.data_type(), to) {
        (DataType::List(_), DataType::List(item)) => {
            let lists = values.as_list::<i32>();
            let items = retyped(lists.values(), item.data_type())?;
            let (offsets, nulls) = (lists.offsets().clone(), lists.nulls().cloned());
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, nulls)?)
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let structs = values.as_struct();
            let columns = structs.columns().iter().zip(fields);
            let columns = columns.map(|(column, field)| retyped(column, field.data_type()));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let nulls = structs.nulls().cloned();
            Arc::new(StructArray::try_new_with_length(
                fields.clone(),
                columns,
                nulls,
                structs.len(),
            )?)
        }
        _ => arrow::compute::cast(values, to)?,
    })
}

/// The only value of an array. (`ScalarValue::try_from_array` forgets the metadata of a list's field.)
///
/// # Errors
/// None for an array of one value.
pub(crate) fn only_value(values: &ArrayRef) -> Result<ScalarValue> {
    match values.data_type() {
        DataType::List(_) => Ok(ScalarValue::List(Arc::new(values.as_list::<i32>().clone()))),
        DataType::Struct(_) => Ok(ScalarValue::Struct(Arc::new(values.as_struct().clone()))),
        _ => ScalarValue::try_from_array(values, 0),
    }
}

/// Its argument, as of a field.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Typed {
    field: FieldRef,
    signature: Signature,
}

impl ScalarUDFImpl for Typed {
    fn name(&self) -> &str {
        "typed"
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|arg| arg.schema_name().to_string()).collect())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.field.data_type().clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        let field = self.field.as_ref().clone().with_name(self.name());
        Ok(Arc::new(field.with_nullable(nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let to = self.field.data_type();
        match args.args.into_iter().next() {
            Some(ColumnarValue::Array(values)) => Ok(ColumnarValue::Array(retyped(&values, to)?)),
            Some(ColumnarValue::Scalar(value)) => {
                let values = retyped(&value.to_array()?, to)?;
                only_value(&values).map(ColumnarValue::Scalar)
            }
            None => datafusion::common::plan_err!("a type is of one value"),
        }
    }
}

/// The one type of arguments that are intervals, texts and NULLs.
///
/// # Errors
/// TYPE_MISMATCH for other arguments.
fn intervals_alone(name: &str, given: &[DataType]) -> Result<Vec<DataType>> {
    let is_other = |given: &&DataType| !matches!(given, DataType::Interval(_) | DataType::Null) && !given.is_string();
    match given.iter().find(is_other) {
        None => Ok(vec![INTERVAL; given.len()]),
        Some(other) => {
            let message = format!(
                "{name} takes no {} beside an INTERVAL; cast one of them",
                data_type_name(other)
            );
            let error = Error::new(ErrorCode::TypeMismatch, message);
            Err(DataFusionError::External(Box::new(error)))
        }
    }
}

/// The interval that lasts longest, or shortest, of each row, NULLs aside. Of equal ones it is the first.
fn extreme_interval(args: &ScalarFunctionArgs, is_greatest: bool) -> Result<ColumnarValue> {
    let are_constants = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    let rows = if are_constants { 1 } else { args.number_rows };
    let mut best = new_null_array(args.return_field.data_type(), rows);
    let mut best_length = lengths(&best)?;
    for arg in &args.args {
        let other = arg.to_array(rows)?;
        let length = lengths(&other)?;
        let beats: BooleanArray = length
            .iter()
            .zip(&best_length)
            .map(|(other, best)| {
                Some(match (other, best) {
                    (None, _) => false,
                    (Some(_), None) => true,
                    (Some(other), Some(best)) if is_greatest => other > best,
                    (Some(other), Some(best)) => other < best,
                })
            })
            .collect();
        best = zip(&beats, &other, &best)?;
        best_length = lengths(&best)?;
    }
    Ok(match are_constants {
        true => ColumnarValue::Scalar(ScalarValue::try_from_array(&best, 0)?),
        false => ColumnarValue::Array(best),
    })
}

/// NULLIF of floats as their `=` is, and with the first one as it is.
fn null_if_equal(inner: &ScalarUDF, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
    let rows = args.number_rows;
    let Some(given) = args.args.first().cloned() else {
        return inner.invoke_with_args(args);
    };
    for arg in &mut args.args {
        *arg = match arg {
            ColumnarValue::Array(values) => ColumnarValue::Array(normalize_float_zero(values)),
            ColumnarValue::Scalar(value) => ColumnarValue::Scalar(normalize_float_zero_scalar(value.clone())),
        };
    }
    match inner.invoke_with_args(args)? {
        ColumnarValue::Scalar(value) if value.is_null() => Ok(ColumnarValue::Scalar(value)),
        ColumnarValue::Scalar(_) => Ok(given),
        ColumnarValue::Array(chosen) => {
            let given = given.into_array(rows)?;
            Ok(ColumnarValue::Array(nullif(&given, &is_null_row(&chosen)?)?))
        }
    }
}

/// A function that chooses one of its arguments and takes texts beside UUIDs: they are read as UUIDs before the arguments are
/// coerced. Of intervals, and of zeros, it chooses as SQL orders them.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Choosing {
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

impl Choosing {
    pub(crate) fn over(inner: Arc<ScalarUDF>) -> Self {
        Choosing {
            signature: Signature::user_defined(inner.signature().volatility),
            inner,
        }
    }
}

impl ScalarUDFImpl for Choosing {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        self.inner.return_type(given)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if matches!(self.name(), "greatest" | "least") && has_parts(args.return_field.data_type()) {
            return extreme_interval(&args, self.name() == "greatest");
        }
        if self.name() == "nullif" && args.return_field.data_type().is_floating() {
            return null_if_equal(self.inner.as_ref(), args);
        }
        self.inner.invoke_with_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let uuid = DataType::FixedSizeBinary(UUID_BYTES);
        let may_be_uuids = given.contains(&uuid)
            && given
                .iter()
                .all(|data_type| *data_type == uuid || data_type.is_string() || data_type.is_null());
        if may_be_uuids {
            let has_texts = given.iter().any(DataType::is_string);
            // What both can be cast to: it is asked for before the texts are read, too.
            let common = if has_texts { DataType::Binary } else { uuid };
            return Ok(vec![common; given.len()]);
        }
        if matches!(self.name(), "greatest" | "least") && given.iter().any(has_parts) {
            return intervals_alone(self.name(), given);
        }
        if let Some(common) = time_units::common_time_of_day(given).or_else(|| common_with_texts(given)) {
            return Ok(vec![common; given.len()]);
        }
        let fields = given.iter().map(|given| Arc::new(Field::new("", given.clone(), true)));
        let taken = fields_with_udf(&fields.collect::<Vec<FieldRef>>(), self.inner.as_ref());
        let taken = taken.map_err(|error| if_of_several_types(self.name(), given).unwrap_or(error))?;
        Ok(taken.iter().map(|field| field.data_type().clone()).collect())
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// The type of times, dates, intervals or BOOLEANs among which there are texts; `None` for other types.
fn common_with_texts(given: &[DataType]) -> Option<DataType> {
    let mut others = given
        .iter()
        .filter(|data_type| !data_type.is_string() && !data_type.is_null());
    let first = others.next()?;
    let takes_texts = first.is_temporal() || *first == DataType::Boolean;
    let has_texts = given.iter().any(DataType::is_string);
    (takes_texts && has_texts && others.all(|other| other == first)).then(|| first.clone())
}

/// Refuses a text that is no literal among values of another type, of which literals alone are read as such.
///
/// # Errors
/// TYPE_MISMATCH.
pub(crate) fn check_texts(call: &ScalarFunction, schema: &DFSchema) -> Result<()> {
    if !CHOOSING_WITH_TEXTS.contains(&call.func.name()) {
        return Ok(());
    }
    let types = call.args.iter().map(|arg| arg.get_type(schema));
    // What has no type here is for other rules to refuse.
    let Ok(types) = types.collect::<Result<Vec<DataType>>>() else {
        return Ok(());
    };
    let is_misplaced =
        |(arg, data_type): (&Expr, &DataType)| data_type.is_string() && !matches!(arg, Expr::Literal(..));
    if common_with_texts(&types).is_some() && call.args.iter().zip(&types).any(is_misplaced) {
        return Err(if_of_several_types(call.func.name(), &types)
            .unwrap_or_else(|| DataFusionError::Internal("texts and other values are of several types".to_owned())));
    }
    Ok(())
}

/// The refusal of arguments that are not brought to one type; `None` if they are of one.
fn if_of_several_types(name: &str, given: &[DataType]) -> Option<DataFusionError> {
    let mut types: Vec<String> = given
        .iter()
        .filter(|data_type| !data_type.is_null())
        .map(data_type_name)
        .collect();
    types.dedup();
    if types.len() < 2 {
        return None;
    }
    let message = format!(
        "{name} takes values of one type, and not {}; cast them",
        types.join(" and ")
    );
    let error = Error::new(ErrorCode::TypeMismatch, message);
    Some(DataFusionError::External(Box::new(error)))
}
