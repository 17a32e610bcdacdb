//! DataFusion's and sqlparser's errors into the product's: code, place in the text, nearest name.

mod calls;
pub(crate) mod late;
mod places;
pub(crate) mod subqueries;

use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError, Span};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::VisitMut;
use datafusion::sql::sqlparser::parser::ParserError;
use kalamdb_core::{Error, ErrorCode, Position, Quota};

use crate::definition::data_type_name;
use crate::diagnostics::late::{OF_CONDITIONS, SEVERAL_ROWS};
use crate::diagnostics::places::Text;
use crate::memory_share;
use crate::names::{distance, placed, suggestion};
use crate::ordinals;
use crate::plan_names::NO_TABLE_FUNCTION;
use crate::provider::{SEQ, UPDATED};

/// Translates an error of planning or running. Our own errors that travelled inside come out unchanged.
pub(crate) fn from_datafusion(error: DataFusionError) -> Error {
    translate(&error, None)
}

/// The same for an error of planning a statement, or a part of one. Where planning does not give the place of a name, its text and
/// `plan`, which says what planning another text like it says, do.
pub(crate) fn in_text<N: VisitMut + Clone>(
    error: DataFusionError,
    node: &N,
    plan: impl Fn(N) -> Option<DataFusionError>,
) -> Error {
    translate(&error, Some(&places::Planned { node, plan }))
}

/// An error of an Arrow kernel, as running a query meets it.
pub(crate) fn from_arrow(error: &ArrowError) -> Error {
    match error {
        ArrowError::DivideByZero => Error::new(ErrorCode::InvalidArgument, "division by zero"),
        ArrowError::ArithmeticOverflow(message) => Error::new(
            ErrorCode::InvalidArgument,
            format!("number out of range: {}", tidy(message)),
        ),
        ArrowError::CastError(message) | ArrowError::ParseError(message) => {
            let text = in_sql_words(&tidy(message));
            let quoted = text
                .strip_prefix("Cannot cast string '")
                .and_then(|rest| rest.split('\'').next());
            let hint = quoted.and_then(far_year).unwrap_or_default();
            Error::new(ErrorCode::TypeMismatch, format!("{text}{hint}"))
        }
        ArrowError::InvalidArgumentError(message) if message.contains(" is too large to store in a ") => {
            Error::new(ErrorCode::TypeMismatch, in_sql_words(&tidy(message)))
        }
        ArrowError::InvalidArgumentError(message)
        | ArrowError::ComputeError(message)
        | ArrowError::SchemaError(message)
        | ArrowError::NotYetImplemented(message) => {
            of_pattern(message).unwrap_or_else(|| Error::new(ErrorCode::InvalidArgument, tidy(message)))
        }
        ArrowError::ExternalError(inner) => from_external(inner.as_ref()),
        ArrowError::MemoryError(message) => Error::new(ErrorCode::OutOfMemory, tidy(message)),
        ArrowError::IoError(message, _) => Error::new(ErrorCode::StorageError, tidy(message)),
        other => Error::internal("Arrow", tidy(&other.to_string())),
    }
}

/// A timestamp or date that became one of nanoseconds, for what stands beside it.
fn is_beyond_nanoseconds(message: &str) -> bool {
    message.contains(" to Timestamp(ns") && message.contains("exceeds the representable i64 range")
}

fn translate(error: &DataFusionError, text: Option<&dyn Text>) -> Error {
    match error {
        DataFusionError::External(inner) => from_external(inner.as_ref()),
        DataFusionError::Shared(inner) => translate(inner, text),
        DataFusionError::Context(_, inner) => translate(inner, text),
        DataFusionError::Diagnostic(diagnostic, inner) => match diagnostic.span.as_ref().and_then(position) {
            Some(place) => placed(translate(inner, None), Some(place)),
            None => translate(inner, text),
        },
        // Each is true by itself; the first that names its place helps most.
        DataFusionError::Collection(errors) => {
            let mut translated = errors.iter().map(|error| translate(error, text));
            match translated.next() {
                Some(first) if first.position.is_none() => {
                    translated.find(|error| error.position.is_some()).unwrap_or(first)
                }
                Some(first) => first,
                None => Error::internal("DataFusion, an empty collection", "the query failed without a reason"),
            }
        }
        DataFusionError::ArrowError(inner, _) => from_arrow(inner),
        DataFusionError::SchemaError(inner, _) => from_schema(inner, text),
        DataFusionError::SQL(inner, _) => from_parser(inner),
        DataFusionError::Plan(message) => from_plan(message, text),
        DataFusionError::NotImplemented(message) => {
            subqueries::of_message(message).unwrap_or_else(|| Error::new(ErrorCode::Unsupported, unsupported(message)))
        }
        DataFusionError::Execution(message) => from_execution(message),
        DataFusionError::ResourcesExhausted(message) => match memory_share::breach(message) {
            Some(breach) => Error::new(Quota::Memory.breach(), tidy(breach)),
            None => Error::new(
                ErrorCode::OutOfMemory,
                format!(
                    "the memory for queries is used up (setting memory_limit): {}",
                    tidy(message)
                ),
            ),
        },
        DataFusionError::Configuration(message) => Error::new(ErrorCode::InvalidArgument, tidy(message)),
        DataFusionError::IoError(inner) => {
            Error::new(ErrorCode::StorageError, format!("spilling to disk failed: {inner}"))
        }
        DataFusionError::ExecutionJoin(inner) if inner.is_cancelled() => {
            Error::new(ErrorCode::Cancelled, "the statement was cancelled")
        }
        DataFusionError::Internal(message) => from_internal(message),
        other => Error::internal(kind(other), tidy(&other.strip_backtrace())),
    }
}

fn from_external(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Error {
    if let Some(ours) = error.downcast_ref::<Error>() {
        ours.clone()
    } else if let Some(inner) = error.downcast_ref::<DataFusionError>() {
        translate(inner, None)
    } else if let Some(inner) = error.downcast_ref::<ArrowError>() {
        from_arrow(inner)
    } else {
        let message = error.to_string();
        of_pattern(&message).unwrap_or_else(|| Error::internal("a library below DataFusion", tidy(&message)))
    }
}

/// What the log calls an error of a kind that DataFusion's planning and running have no use for.
fn kind(error: &DataFusionError) -> &'static str {
    match error {
        DataFusionError::ExecutionJoin(_) => "DataFusion, a task of it",
        DataFusionError::Substrait(_) => "DataFusion, Substrait",
        DataFusionError::Ffi(_) => "DataFusion, FFI",
        _ => "DataFusion",
    }
}

/// A regular expression that does not compile, which functions and operators report in many ways.
fn of_pattern(message: &str) -> Option<Error> {
    const REFUSED: &str = "Regular expression did not compile: ";
    let is_too_large = message.contains("CompiledTooBig(") || message.contains("Compiled regex exceeds size limit");
    let problem = if is_too_large {
        let size = message.rsplit_once("CompiledTooBig(").map_or(message, |(_, size)| size);
        let digits: String = size.chars().filter(char::is_ascii_digit).collect();
        format!("it is too large: compiled it may have {digits} bytes; repeat less in it")
    } else if let Some(problem) = message.lines().find_map(|line| line.trim().strip_prefix("error: ")) {
        problem.to_owned()
    } else {
        message.strip_prefix(REFUSED)?.to_owned()
    };
    let is_pattern = is_too_large || message.contains(REFUSED) || message.contains("regex parse error");
    is_pattern.then(|| {
        Error::new(
            ErrorCode::InvalidArgument,
            format!("the regular expression is wrong: {problem}"),
        )
    })
}

fn from_schema(error: &SchemaError, text: Option<&dyn Text>) -> Error {
    let place = |field: &Column| column_position(field).or_else(|| text.and_then(|text| text.column(field)));
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            if field.relation.is_none()
                && let Some(place) = text.and_then(|text| text.arrow(&field.name))
            {
                let message = format!(
                    "not supported: a lambda, {} -> …; the operator -> takes a value out of JSON; write UNNEST and WHERE",
                    field.name
                );
                return placed(Error::new(ErrorCode::Unsupported, message), Some(place));
            }
            let error = Error::new(
                ErrorCode::ColumnNotFound,
                format!(
                    "column {} does not exist{}",
                    written(field),
                    nearest(field, valid_fields)
                ),
            );
            placed(error, place(field))
        }
        SchemaError::AmbiguousReference { field } => {
            let message = format!(
                "column {} is in more than one of the tables; write table.{}",
                written(field),
                field.name
            );
            placed(Error::new(ErrorCode::InvalidStatement, message), place(field))
        }
        SchemaError::DuplicateQualifiedField { qualifier, name } => Error::new(
            ErrorCode::InvalidStatement,
            format!("column {}.{name} appears twice; give one an alias", qualifier.table()),
        ),
        SchemaError::DuplicateUnqualifiedField { name } => Error::new(
            ErrorCode::InvalidStatement,
            format!("column {name} appears twice; give one an alias"),
        ),
    }
}

/// What is most like a column that is not there: its table, if that is not there either, or a column of the table.
fn nearest(field: &Column, valid: &[Column]) -> String {
    let table = |column: &Column| column.relation.as_ref().map(|relation| relation.table().to_owned());
    let wanted = table(field);
    let tables: Vec<String> = valid.iter().filter_map(table).collect();
    if let Some(wanted) = &wanted
        && !tables.contains(wanted)
    {
        // What stands before a field of a STRUCT is a column.
        let columns = valid.iter().map(|column| column.name.as_str());
        let hint = suggestion(wanted, tables.iter().map(String::as_str).chain(columns));
        return format!(": FROM has no table {wanted}{hint}");
    }
    let columns = valid
        .iter()
        .filter(|column| wanted.is_none() || table(column) == wanted);
    let is_like = |system: &&str| field.name.starts_with('_') && field.name != **system;
    let system = [SEQ, UPDATED].into_iter().filter(is_like);
    suggestion(&field.name, columns.map(|column| column.name.as_str()).chain(system))
}

/// The column as the statement writes it, without the catalog that planning may have put before it.
fn written(column: &Column) -> String {
    match &column.relation {
        Some(relation) => match relation.schema() {
            Some(schema) => format!("{schema}.{}.{}", relation.table(), column.name),
            None => format!("{}.{}", relation.table(), column.name),
        },
        None => column.name.clone(),
    }
}

fn column_position(column: &Column) -> Option<Position> {
    column.spans.first().as_ref().and_then(position)
}

fn position(span: &Span) -> Option<Position> {
    (span.start.line > 0).then_some(Position {
        line: span.start.line,
        column: span.start.column,
    })
}

/// sqlparser puts the place at the end of its message.
pub(crate) fn from_parser(error: &ParserError) -> Error {
    let message = match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.clone(),
        ParserError::RecursionLimitExceeded => "the statement is nested too deeply".to_owned(),
    };
    let Some((before, place)) = message.rsplit_once(" at Line: ") else {
        return Error::new(ErrorCode::SyntaxError, tidy(&message));
    };
    let numbers = place.split_once(", Column: ").and_then(|(line, column)| {
        Some(Position {
            line: line.trim().parse().ok()?,
            column: column.trim().parse().ok()?,
        }) // Left out if it is no number.
    });
    match numbers {
        Some(position) => Error::new(ErrorCode::SyntaxError, tidy(before)).at(position),
        None => Error::new(ErrorCode::SyntaxError, tidy(&message)),
    }
}

fn from_plan(message: &str, text: Option<&dyn Text>) -> Error {
    if let Some(error) = subqueries::of_message(message).or_else(|| of_repeated_name(message)) {
        return error;
    }
    let message = in_sql_words(&tidy(message));
    if let Some(table) = message.strip_prefix("Invalid qualifier ") {
        let tables = text.map_or_else(Vec::new, |text| text.tables());
        let hint = suggestion(table, tables.iter().map(String::as_str));
        let error = Error::new(ErrorCode::TableNotFound, format!("FROM has no table {table}{hint}"));
        return placed(error, text.and_then(|text| text.wildcard(table)));
    }
    if let Some((number, columns)) = message
        .strip_prefix("Order by column out of bounds, specified: ")
        .and_then(|rest| rest.split_once(", max: "))
    {
        let error = ordinals::beyond("ORDER BY", number, columns);
        return placed(error, text.and_then(|text| text.sort_ordinal(number)));
    }
    if let Some(rest) = message.strip_prefix(NO_TABLE_FUNCTION) {
        let name = rest.split(';').next().unwrap_or(rest);
        let place = text.and_then(|text| text.table_function(name));
        return placed(Error::new(ErrorCode::NotFound, message.as_str()), place);
    }
    let window = message
        .strip_prefix("The window ")
        .and_then(|rest| rest.strip_suffix(" is not defined!"));
    if let Some(window) = window {
        let error = Error::new(
            ErrorCode::InvalidStatement,
            format!("the window {window} is not defined"),
        );
        return placed(error, text.and_then(|text| text.window(window)));
    }
    let of_membership = message
        .strip_prefix("expr type ")
        .and_then(|rest| rest.strip_suffix(" in InSubquery"))
        .and_then(|types| types.split_once(" can't cast to "));
    if let Some((one, other)) = of_membership {
        let message = format!("IN compares no {one} with {other}; cast one of them");
        return Error::new(ErrorCode::TypeMismatch, message);
    }
    let field = message
        .strip_prefix("Field ")
        .and_then(|rest| rest.strip_suffix(" not found in struct"));
    if let Some(field) = field {
        let error = Error::new(ErrorCode::ColumnNotFound, format!("the STRUCT has no field {field}"));
        return placed(error, text.and_then(|text| text.field(field)));
    }
    let other_type = message
        .strip_prefix("Cannot create filter with non-boolean predicate ")
        .and_then(|rest| rest.rsplit_once(" returning "))
        .map(|(_, data_type)| data_type)
        .or_else(|| message.strip_prefix("Join condition must be boolean type, but got "));
    if let Some(data_type) = other_type {
        let error = Error::new(
            ErrorCode::TypeMismatch,
            format!("{OF_CONDITIONS}, and this one is {data_type}; write a comparison"),
        );
        return placed(error, text.and_then(|text| text.condition()));
    }
    if let Some(error) = of_groups(&message)
        .or_else(|| of_coercion(&message))
        .or_else(|| of_finished_plan(&message))
    {
        return error;
    }
    if let Some((function, error)) = calls::of_message(&message) {
        return placed(error, text.and_then(|text| text.function(&function)));
    }
    let is_type_problem = [
        "Cannot infer common",
        "Cannot coerce",
        "Unsupported CAST",
        "cannot be evaluated because there isn't",
        "There isn't a common type",
        "non-boolean predicate",
        "Unary operator",
        "Incompatible inputs for",
        " to common types in CASE WHEN expression",
        "Can not find compatible types to compare ",
        ", but received ",
    ];
    let code = if is_type_problem.iter().any(|sign| message.contains(sign)) {
        ErrorCode::TypeMismatch
    } else {
        ErrorCode::InvalidStatement
    };
    Error::new(code, message)
}

/// Two expressions of one name, which a SELECT around or a wildcard stands in the way of telling apart.
fn of_repeated_name(message: &str) -> Option<Error> {
    let (_, expressions) = message.split_once("require unique expression names")?;
    let place = |part: &str| -> Option<usize> {
        let digits = part.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse::<usize>().ok() // Left out if it is no number.
    };
    let places: Vec<usize> = expressions.split(" at position ").skip(1).filter_map(place).collect();
    let which = match places.as_slice() {
        [first, second] => format!("columns {} and {} of a SELECT", first + 1, second + 1),
        _ => "two columns of a SELECT".to_owned(),
    };
    let message = format!("{which} have the same name; give one another with AS");
    Some(Error::new(ErrorCode::InvalidStatement, message))
}

/// What a function of ours says of arguments that it does not take.
fn of_coercion(text: &str) -> Option<Error> {
    let (_, ours) = text.rsplit_once("user-defined coercion failed with: External error: ")?;
    let (code, reason) = ours.split_once(": ")?;
    let code = ErrorCode::ALL.iter().find(|known| known.as_str() == code)?;
    let reason = reason.split(". No function matches").next().unwrap_or(reason);
    Some(Error::new(*code, reason))
}

/// What the check of a finished plan says, with the whole of the plan.
fn of_finished_plan(text: &str) -> Option<Error> {
    let is_check = text.contains("does not satisfy order requirements")
        || text.contains("does not satisfy distribution requirements");
    (text.starts_with("Plan: [") && is_check).then(|| {
        Error::internal(
            "DataFusion, the check of a plan",
            "the query cannot be run: the steps of its plan do not fit one another",
        )
    })
}

/// A column beside aggregates that is no group.
fn of_groups(text: &str) -> Option<Error> {
    let (clause, rest) = text
        .strip_prefix("Column in ")?
        .split_once(" must be in GROUP BY or an aggregate function: While expanding wildcard, column \"")?;
    let (column, _) = rest.split_once("\" must appear in the GROUP BY clause")?;
    let message = format!("{column} in {clause} must be in GROUP BY, or in an aggregate function");
    Some(Error::new(ErrorCode::InvalidStatement, message))
}

/// The text with Arrow's names of simple types as SQL names them.
fn in_sql_words(text: &str) -> String {
    let text = text
        .replace("FixedSizeBinary(16)", "UUID")
        .replace("Interval(MonthDayNano)", "INTERVAL")
        .replace(" and else (None) to common", " to common");
    let mut words = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let is_letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c| !is_letter(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match word.parse::<DataType>() {
            // `Utf8(…)` and the like are values, 'Date32' may be a name, and these two are English.
            Ok(data_type) if !after.starts_with(['(', '\'', '"']) && !["Binary", "Null"].contains(&word) => {
                words.push_str(&data_type_name(&data_type));
            }
            Ok(_) | Err(_) => words.push_str(word),
        }
        let next = after.find(is_letter).unwrap_or(after.len());
        words.push_str(&after[..next]);
        rest = &after[next..];
    }
    words
}

fn from_execution(message: &str) -> Error {
    if let Some(error) = of_coercion(message) {
        return error;
    }
    if message.contains("Scalar subquery returned more than one row") {
        return Error::new(ErrorCode::InvalidStatement, SEVERAL_ROWS);
    }
    if is_beyond_nanoseconds(message) {
        let message = "a time is of a year that nanoseconds do not hold (1677 to 2262 they do): cast what has nanoseconds beside it \
                       to TIMESTAMP(6)";
        return Error::new(ErrorCode::TypeMismatch, message);
    }
    let text = in_sql_words(&tidy(message));
    let code = if text.contains("Cannot cast") || text.contains("cast") && text.contains("fail") {
        ErrorCode::TypeMismatch
    } else {
        ErrorCode::InvalidArgument
    };
    Error::new(code, text)
}

/// How a date of a year beyond 9999 is written, if this text would be one with a sign.
pub(crate) fn far_year(text: &str) -> Option<String> {
    let (year, rest) = text.split_once('-')?;
    let is_far = year.len() > 4
        && year
            .bytes()
            .chain(rest.bytes().take(2))
            .all(|byte| byte.is_ascii_digit());
    is_far.then(|| format!("; a year beyond 9999 has a sign: '+{text}'"))
}

/// What DataFusion calls a bug of its own, and is a value that a function does not take.
const OF_ARGUMENTS: &[&str] = &["array_resize: failed to convert size to usize"];

/// DataFusion reports a few mistakes in statements as its own bugs.
fn from_internal(message: &str) -> Error {
    if let Some(error) = of_pattern(message).or_else(|| subqueries::of_message(message)) {
        return error;
    }
    let of_call = calls::of_message(&in_sql_words(&tidy(message))).map(|(_, error)| error);
    if let Some(error) = of_call.or_else(|| of_coercion(message)) {
        return error;
    }
    let text = tidy(message);
    let of_between = text
        .strip_prefix("Failed to coerce types ")
        .and_then(|rest| rest.strip_suffix(" in BETWEEN expression"))
        .and_then(|types| types.split_once(" and "));
    if let Some((one, other)) = of_between {
        let message = format!("BETWEEN compares no {one} with {other}; cast one of them");
        return Error::new(ErrorCode::TypeMismatch, in_sql_words(&message));
    }
    if OF_ARGUMENTS.contains(&text.as_str()) {
        return Error::new(ErrorCode::InvalidArgument, text);
    }
    Error::internal(
        "DataFusion, a bug by its own words",
        format!("the query cannot be run: {text}"),
    )
}

fn unsupported(message: &str) -> String {
    if message.contains("logical expression WindowFunction(") {
        return "a window function is not supported here, but in the SELECT list, ORDER BY and QUALIFY".to_owned();
    }
    let text = tidy(message);
    let operator = text
        .strip_prefix("Binary operator '")
        .and_then(|rest| rest.strip_suffix("' is not supported in the physical expr"))
        .and_then(|name| OPERATORS.iter().find(|(known, _)| *known == name));
    if let Some((_, operator)) = operator {
        return format!("the operator {operator} is not supported; those for JSON are ->, ->>, #>, #>> and ?");
    }
    let text = without_tree(&text);
    let text = text.replace("Unsupported ast node in sqltorel: ", "not supported: ");
    if text.contains("support") {
        text
    } else {
        format!("not supported: {text}")
    }
}

/// Operators that the planner takes and nothing computes, by DataFusion's names of them.
const OPERATORS: &[(&str, &str)] = &[
    ("AtArrow", "@>"),
    ("ArrowAt", "<@"),
    ("HashMinus", "#-"),
    ("AtAt", "@@"),
    ("AtQuestion", "@?"),
    ("QuestionAnd", "?&"),
    ("QuestionPipe", "?|"),
];

/// The message up to the name of the node whose whole tree it prints, as in `Collate { expr: Identifier(Ident { …`.
fn without_tree(text: &str) -> &str {
    if !["Span(", "span: ", "Ident {"].iter().any(|sign| text.contains(sign)) {
        return text;
    }
    let end = text.find(" { ").into_iter().chain(text.find('(')).min();
    text[..end.unwrap_or(text.len())].trim_end()
}

/// The message without DataFusion's prefixes, footers and backtraces.
fn tidy(message: &str) -> String {
    const PREFIXES: &[&str] = &[
        "External error: ",
        "Error during planning: ",
        "Execution error: ",
        "Arrow error: ",
        "Internal error: ",
        "Optimizer rule failed: ",
        "Schema error: ",
        "SQL error: ",
        "This feature is not implemented: ",
        "Cast error: ",
        "Parser error: ",
        "Invalid argument error: ",
        "Compute error: ",
        "sql parser error: ",
    ];
    let mut text = message;
    for end in [
        "\n\nbacktrace:",
        "\nThis issue was likely caused by",
        ".\nThis issue was likely caused by",
        "\n\nbacktrace",
    ] {
        text = text.split(end).next().unwrap_or(text);
    }
    let mut text = text.trim();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest.trim_start();
    }
    without_far_name(text.trim_end_matches('.'))
        .replace(".\nDid you mean ", "; did you mean ")
        .replace(".\n\tCandidate functions:\n\t", "; candidates: ")
        .replace("\n\t", ", ")
}

/// "Invalid function 'sumn'.\nDid you mean 'sum'?": DataFusion names the nearest function however far it is.
fn without_far_name(text: &str) -> &str {
    let quoted = |text: &str| text.split('\'').nth(1).map(str::to_owned);
    match text.split_once(".\nDid you mean ") {
        Some((before, after)) => match (quoted(before), quoted(after)) {
            (Some(wanted), Some(known)) if distance(&wanted, &known).is_none() => before,
            _ => text,
        },
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: DataFusionError, code: ErrorCode, message: &str) {
        let error = from_datafusion(error);
        assert_eq!((error.code, error.message.as_str()), (code, message));
    }

    #[test]
    fn messages_are_for_people() {
        let ours = Error::new(ErrorCode::NotNullViolation, "column a may not be NULL");
        let wrapped = || {
            DataFusionError::Context(
                "deep".into(),
                Box::new(DataFusionError::External(Box::new(ours.clone()))),
            )
        };
        check(wrapped(), ErrorCode::NotNullViolation, "column a may not be NULL");
        check(
            DataFusionError::Shared(std::sync::Arc::new(wrapped())),
            ErrorCode::NotNullViolation,
            "column a may not be NULL",
        );
        check(
            DataFusionError::Plan("Error during planning: Invalid function 'flor'.\nDid you mean 'floor'?".into()),
            ErrorCode::InvalidStatement,
            "Invalid function 'flor'; did you mean 'floor'?",
        );
        check(
            DataFusionError::Plan("Invalid function 'nosuch'.\nDid you mean 'cosh'?".into()),
            ErrorCode::InvalidStatement,
            "Invalid function 'nosuch'",
        );
        check(
            DataFusionError::Plan(
                "Projections require unique expression names but the expression \"t.v\" at position 0 and \"t.v\" at position 2 \
                 have the same name. Consider aliasing (\"AS\") one of them."
                    .into(),
            ),
            ErrorCode::InvalidStatement,
            "columns 1 and 3 of a SELECT have the same name; give one another with AS",
        );
        check(
            ArrowError::DivideByZero.into(),
            ErrorCode::InvalidArgument,
            "division by zero",
        );
        check(
            DataFusionError::Internal(
                "x is wrong.\nThis issue was likely caused by a bug in DataFusion's code.".into(),
            ),
            ErrorCode::Internal,
            "the query cannot be run: x is wrong",
        );
        check(
            DataFusionError::Internal("array_resize: failed to convert size to usize".into()),
            ErrorCode::InvalidArgument,
            "array_resize: failed to convert size to usize",
        );
    }

    #[test]
    fn a_parser_message_gives_its_place() {
        let error = from_parser(&ParserError::ParserError(
            "Expected: identifier, found: EOF at Line: 2, Column: 7".into(),
        ));
        assert_eq!(error.position, Some(Position { line: 2, column: 7 }));
        assert_eq!(error.message, "Expected: identifier, found: EOF");
    }
}
