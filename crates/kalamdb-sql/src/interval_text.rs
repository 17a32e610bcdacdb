//! Texts of intervals in the forms that PostgreSQL reads and Arrow does not: with a time of day (`1 day 04:05:06`), of ISO 8601
//! (`P1DT4H`), of the SQL standard (`1-2`, years and months), with a sign or an `@` before it, of a number alone, which are seconds, and
//! turned around by `ago`.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr as PlanExpr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::{self, DateTimeField, Expr, Value, VisitMut, VisitorMut};
use kalamdb_core::Error;

use crate::tree::walk_mut;

/// Writes such literals as Arrow reads them.
pub(crate) fn in_units(node: &mut impl VisitMut) {
    struct Intervals;
    impl VisitorMut for Intervals {
        type Break = Error;

        fn pre_visit_select(&mut self, select: &mut ast::Select) -> ControlFlow<Error> {
            for ast::NamedWindowDefinition(_, window) in &mut select.named_window {
                if let ast::NamedWindowExpr::WindowSpec(window) = window {
                    count_rows(window);
                }
            }
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
            let interval = |data_type: &ast::DataType| matches!(data_type, ast::DataType::Interval { .. });
            match expr {
                Expr::Function(ast::Function {
                    over: Some(ast::WindowType::WindowSpec(window)),
                    ..
                }) => count_rows(window),
                Expr::Interval(ast::Interval {
                    value,
                    leading_field: leading @ Some(_),
                    last_field: last @ Some(_),
                    ..
                }) => {
                    if let Expr::Value(value) = value.as_mut()
                        && let Value::SingleQuotedString(text) = &mut value.value
                        && let (Some(first), Some(end)) = (&*leading, &*last)
                        && let Some(written) = of_fields(text, first, end)
                    {
                        *text = written;
                        (*leading, *last) = (None, None);
                    }
                }
                Expr::Interval(ast::Interval {
                    value,
                    leading_field: None,
                    ..
                }) => {
                    if let Expr::Value(value) = value.as_mut() {
                        rewrite(&mut value.value);
                    }
                }
                Expr::Cast { expr, data_type, .. } if interval(data_type) => {
                    if let Expr::Value(value) = expr.as_mut() {
                        rewrite(&mut value.value);
                    }
                }
                Expr::TypedString(typed) if interval(&typed.data_type) => rewrite(&mut typed.value.value),
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    walk_mut(node, &mut Intervals).expect("this visitor does not break");
}

/// A number in quotes in a frame of ROWS or GROUPS, which the parser takes for an interval, is that number.
fn count_rows(window: &mut ast::WindowSpec) {
    let Some(frame) = &mut window.window_frame else {
        return;
    };
    if frame.units == ast::WindowFrameUnits::Range {
        return;
    }
    for bound in [Some(&mut frame.start_bound), frame.end_bound.as_mut()]
        .into_iter()
        .flatten()
    {
        if let ast::WindowFrameBound::Preceding(Some(offset)) | ast::WindowFrameBound::Following(Some(offset)) = bound
            && let Expr::Interval(ast::Interval {
                value,
                leading_field: None,
                ..
            }) = offset.as_ref()
            && let Expr::Value(value) = value.as_ref()
            && let Value::SingleQuotedString(text) = &value.value
            && !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_digit())
        {
            **offset = Expr::Value(Value::Number(text.clone(), false).with_span(value.span));
        }
    }
}

fn rewrite(value: &mut Value) {
    if let Value::SingleQuotedString(text) = value
        && let Cow::Owned(written) = units(text)
    {
        *text = written;
    }
}

/// The text in numbers and units alone. What is none of these forms is as it was, and Arrow's to read or to refuse.
pub(crate) fn units(text: &str) -> Cow<'_, str> {
    let trimmed = text.trim();
    let written = match trimmed.strip_prefix(['P', 'p']) {
        Some(iso) => of_iso(iso),
        None => of_words(trimmed.strip_prefix('@').unwrap_or(trimmed), trimmed.starts_with('@')),
    };
    written.map_or(Cow::Borrowed(text), Cow::Owned)
}

/// `'1-2' YEAR TO MONTH`, `'1 2:03' DAY TO MINUTE`: a number alone is of the last field. `None` where the text has finer fields than
/// that.
fn of_fields(text: &str, first: &DateTimeField, last: &DateTimeField) -> Option<String> {
    use DateTimeField::{Day, Hour, Minute, Month, Second, Year};
    let unit = match (first, last) {
        (Year, Month) => "months",
        (Day, Hour) => "hours",
        (Day | Hour, Minute) => "minutes",
        (Day | Hour | Minute, Second) => "seconds",
        _ => return None,
    };
    let text = text.trim();
    if is_number(text) {
        return Some(format!("{} {unit}", text.trim_start_matches('+')));
    }
    if *last == Month {
        let (years, months) = years_and_months(text)?;
        return Some(format!("{years} years {months} months"));
    }
    let (days, time) = match text.split_once(char::is_whitespace) {
        Some((days, time)) if *first == Day && is_number(days) => (Some(days.trim_start_matches('+')), time.trim()),
        Some(_) => return None,
        None => (None, text),
    };
    let mut parts: Vec<String> = days.map(|days| format!("{days} days")).into_iter().collect();
    if *last == Hour {
        if !is_number(time) {
            return None;
        }
        parts.push(format!("{} hours", time.trim_start_matches('+')));
        return Some(parts.join(" "));
    }
    let mut of_day = of_time(time)?;
    match (of_day.as_mut_slice(), first, last) {
        // The last field of two is seconds here.
        ([(_, left), (_, right)], Minute, _) => (*left, *right) = ("minutes", "seconds"),
        ([_, _], _, Minute | Second) | ([_, _, _], Day | Hour, Second) => {}
        _ => return None,
    }
    if *last == Minute && of_day.iter().any(|(_, unit)| *unit == "seconds") {
        return None;
    }
    parts.extend(of_day.into_iter().map(|(number, unit)| format!("{number} {unit}")));
    Some(parts.join(" "))
}

/// The expression of a text that is cast to an interval with its texts in numbers and units; `None` if it is no such one, or a literal,
/// which is written so already.
pub(crate) fn read(expr: &PlanExpr, to: &DataType, schema: &DFSchema) -> Option<PlanExpr> {
    let is_written = match expr {
        PlanExpr::Literal(..) => true,
        PlanExpr::ScalarFunction(call) => call.func.name() == IntervalUnits::NAME,
        _ => false,
    };
    if is_written || !matches!(to, DataType::Interval(_)) {
        return None;
    }
    // What has no type here is for other rules to refuse.
    let is_text = expr.get_type(schema).is_ok_and(|data_type| data_type.is_string());
    is_text.then(|| {
        let units = ScalarUDF::from(IntervalUnits::new());
        PlanExpr::ScalarFunction(ScalarFunction::new_udf(Arc::new(units), vec![expr.clone()]))
    })
}

/// Texts of intervals in numbers and units.
#[derive(Debug, PartialEq, Eq, Hash)]
struct IntervalUnits {
    signature: Signature,
}

impl IntervalUnits {
    const NAME: &str = "interval_in_units";

    fn new() -> Self {
        IntervalUnits {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for IntervalUnits {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [texts] = args.args.as_slice() else {
            return Err(DataFusionError::Internal(
                "an interval is read from one text".to_owned(),
            ));
        };
        let is_scalar = matches!(texts, ColumnarValue::Scalar(_));
        let texts = cast(
            &texts.to_array(if is_scalar { 1 } else { args.number_rows })?,
            &DataType::Utf8,
        )?;
        let written: StringArray = texts.as_string::<i32>().iter().map(|text| text.map(units)).collect();
        match is_scalar {
            true => Ok(ColumnarValue::Scalar(datafusion::scalar::ScalarValue::try_from_array(
                &written, 0,
            )?)),
            false => Ok(ColumnarValue::Array(Arc::new(written))),
        }
    }
}

fn of_words(text: &str, has_at: bool) -> Option<String> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let is_ago = words.last().is_some_and(|word| word.eq_ignore_ascii_case("ago"));
    if is_ago {
        words.pop();
    }
    let is_ours = is_ago
        || has_at
        || matches!(words.as_slice(), [only] if is_number(only))
        || words
            .iter()
            .any(|word| word.contains(':') || word.starts_with('+') || years_and_months(word).is_some());
    if !is_ours {
        return None;
    }
    let turned = |number: &str| -> String {
        match (is_ago, number.strip_prefix('-')) {
            (false, _) => number.trim_start_matches('+').to_owned(),
            (true, Some(positive)) => positive.to_owned(),
            (true, None) => format!("-{}", number.trim_start_matches('+')),
        }
    };
    let mut parts: Vec<String> = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        if word.contains(':') {
            for (number, unit) in of_time(word)? {
                parts.push(format!("{} {unit}", turned(&number)));
            }
        } else if let Some((years, months)) = years_and_months(word) {
            parts.push(format!("{} years {} months", turned(&years), turned(&months)));
        } else if is_number(word) {
            // A number right before a time is one of days.
            let unit = match words.peek() {
                Some(next) if next.contains(':') => "days",
                Some(_) => words.next()?,
                None => "seconds",
            };
            parts.push(format!("{} {unit}", turned(word)));
        } else {
            // A number and its unit in one.
            let end = word.find(|c: char| c.is_ascii_alphabetic())?;
            let (number, unit) = word.split_at(end);
            parts.push(format!("{} {unit}", turned(number)));
        }
    }
    Some(parts.join(" "))
}

fn is_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-']);
    text.len() - digits.len() <= 1
        && !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// `[-]h:mm`, `[-]h:mm:ss` with a fraction, or `[-]m:ss.f`.
fn of_time(word: &str) -> Option<Vec<(String, &'static str)>> {
    let (sign, time) = match word.strip_prefix('-') {
        Some(time) => ("-", time),
        None => ("", word.strip_prefix('+').unwrap_or(word)),
    };
    let parts: Vec<&str> = time.split(':').collect();
    let (last, whole) = parts.split_last()?;
    let are_whole = whole
        .iter()
        .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    if !are_whole || !is_number(last) || last.starts_with(['+', '-']) {
        return None;
    }
    let units: &[&'static str] = match parts.len() {
        2 if last.contains('.') => &["minutes", "seconds"],
        2 => &["hours", "minutes"],
        3 => &["hours", "minutes", "seconds"],
        _ => return None,
    };
    // Beyond these PostgreSQL reads no time.
    let is_sexagesimal = |part: &&str| part.parse::<f64>().is_ok_and(|number| number < 60.0);
    if !parts.iter().skip(1).all(is_sexagesimal) {
        return None;
    }
    Some(
        parts
            .iter()
            .zip(units)
            .map(|(part, unit)| (format!("{sign}{part}"), *unit))
            .collect(),
    )
}

/// `[-]y-m`.
fn years_and_months(word: &str) -> Option<(String, String)> {
    let (sign, rest) = match word.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", word.strip_prefix('+').unwrap_or(word)),
    };
    let (years, months) = rest.split_once('-')?;
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let fits = is_digits(years) && is_digits(months) && months.parse::<u8>().is_ok_and(|months| months < 12);
    fits.then(|| (format!("{sign}{years}"), format!("{sign}{months}")))
}

/// What follows the P: numbers with their letters, or `y-m-dTh:m:s`.
fn of_iso(text: &str) -> Option<String> {
    let (date, time) = match text.split_once(['T', 't']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    if text.contains(':') || date.matches('-').count() == 2 && !date.contains(|c: char| c.is_ascii_alphabetic()) {
        let mut parts = Vec::new();
        if !date.is_empty() {
            let numbers: Vec<&str> = date.split('-').collect();
            let [years, months, days] = numbers.as_slice() else {
                return None;
            };
            if ![years, months, days].into_iter().all(|number| is_number(number)) {
                return None;
            }
            parts.push(format!("{years} years {months} months {days} days"));
        }
        if let Some(time) = time {
            parts.extend(
                of_time(time)?
                    .into_iter()
                    .map(|(number, unit)| format!("{number} {unit}")),
            );
        }
        return Some(parts.join(" "));
    }
    let mut parts = lettered(date, &[('Y', "years"), ('M', "months"), ('W', "weeks"), ('D', "days")])?;
    if let Some(time) = time {
        parts.extend(lettered(time, &[('H', "hours"), ('M', "minutes"), ('S', "seconds")])?);
    }
    (!parts.is_empty()).then(|| parts.join(" "))
}

fn lettered(text: &str, letters: &[(char, &str)]) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(|c: char| c.is_ascii_alphabetic()) {
        let (number, after) = rest.split_at(end);
        let letter = after.chars().next()?.to_ascii_uppercase();
        let (_, unit) = letters.iter().find(|(known, _)| *known == letter)?;
        let is_said = parts.iter().any(|part: &String| part.ends_with(&format!(" {unit}")));
        if is_said || !is_number(number) {
            return None;
        }
        parts.push(format!("{number} {unit}"));
        rest = &after[1..];
    }
    rest.is_empty().then_some(parts)
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    #[test]
    fn intervals_are_read_as_postgresql_does() {
        let fixture = Fixture::new();
        fixture.run(&["CREATE TABLE t (id INT PRIMARY KEY, iv INTERVAL)"]);
        // What PostgreSQL 15 reads, in units.
        for (id, (text, expected)) in [
            (
                "1 year 2 mons 3 days 04:05:06",
                "14 mons 3 days 4 hours 5 mins 6.000000000 secs",
            ),
            ("01:30:00", "1 hours 30 mins"),
            ("01:30", "1 hours 30 mins"),
            ("1:02.5", "1 mins 2.500000000 secs"),
            ("-01:30:00.25", "-1 hours -30 mins -0.250000000 secs"),
            ("-1 days", "-1 days"),
            ("-1 days +02:00", "-1 days 2 hours"),
            ("P1Y2M3DT4H5M6S", "14 mons 3 days 4 hours 5 mins 6.000000000 secs"),
            ("PT0.5S", "0.500000000 secs"),
            ("P-1DT-2H", "-1 days -2 hours"),
            ("P2W", "14 days"),
            ("P0001-02-03T04:05:06", "14 mons 3 days 4 hours 5 mins 6.000000000 secs"),
            ("1 week", "7 days"),
            ("1-2", "14 mons"),
            ("-1-2 3 04:05", "-14 mons 3 days 4 hours 5 mins"),
            ("3 04:05:06", "3 days 4 hours 5 mins 6.000000000 secs"),
            ("@ 1 minute ago", "-1 mins"),
            ("2 days 03:00 ago", "-2 days -3 hours"),
            ("3days 04:00", "3 days 4 hours"),
            ("100:00:00", "100 hours"),
            ("+1 day", "1 days"),
            ("@ 1 minute", "1 mins"),
            ("@ +2 hours 3 mins", "2 hours 3 mins"),
            ("90", "1 mins 30.000000000 secs"),
            ("+1-2 -3 +4:05", "14 mons -3 days 4 hours 5 mins"),
        ]
        .into_iter()
        .enumerate()
        {
            for sql in [
                format!("SELECT INTERVAL '{text}'"),
                format!("SELECT '{text}'::INTERVAL"),
                format!("SELECT CAST('{text}' AS INTERVAL)"),
            ] {
                fixture.check(&sql, &[expected]);
            }
            fixture.run(&[&format!("INSERT INTO t VALUES ({id}, '{text}')")]);
            fixture.check(&format!("SELECT iv FROM t WHERE id = {id}"), &[expected]);
            fixture.check(
                &format!("SELECT x::INTERVAL, TRY_CAST(x || '' AS INTERVAL) FROM (VALUES ('{text}')) AS v (x)"),
                &[&format!("{expected}|{expected}")],
            );
        }
        for text in [
            "P1Y1Y", "++1 day", "01:75", "1:2:3:4", "P", "P1X", "PT", "one day", "1:-2", "P1H",
        ] {
            fixture.check_error_part(&format!("SELECT INTERVAL '{text}'"), ErrorCode::TypeMismatch, text);
            fixture.check_error_part(
                &format!("INSERT INTO t VALUES (99, '{text}')"),
                ErrorCode::TypeMismatch,
                text,
            );
        }
    }

    #[test]
    fn fields_say_what_the_parts_of_a_text_are() {
        let fixture = Fixture::new();
        for (sql, expected) in [
            ("SELECT INTERVAL '1-2' YEAR TO MONTH", "14 mons"),
            ("SELECT INTERVAL '-1-2' YEAR TO MONTH", "-14 mons"),
            ("SELECT INTERVAL '3' YEAR TO MONTH", "3 mons"),
            ("SELECT INTERVAL '1 2' DAY TO HOUR", "1 days 2 hours"),
            ("SELECT INTERVAL '1 2:03' DAY TO MINUTE", "1 days 2 hours 3 mins"),
            (
                "SELECT INTERVAL '1 2:03:04' DAY TO SECOND",
                "1 days 2 hours 3 mins 4.000000000 secs",
            ),
            ("SELECT INTERVAL '2:03' HOUR TO MINUTE", "2 hours 3 mins"),
            (
                "SELECT INTERVAL '2:03:04.5' HOUR TO SECOND",
                "2 hours 3 mins 4.500000000 secs",
            ),
            ("SELECT INTERVAL '2:03' MINUTE TO SECOND", "2 mins 3.000000000 secs"),
            ("SELECT INTERVAL '5' DAY TO SECOND", "5.000000000 secs"),
        ] {
            fixture.check(sql, &[expected]);
        }
        fixture.check_error_part(
            "SELECT INTERVAL '1 2:03:04' DAY TO MINUTE",
            ErrorCode::Unsupported,
            "Interval",
        );
    }

    #[test]
    fn a_text_beside_an_interval_is_one() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, iv INTERVAL)",
            "INSERT INTO t VALUES (1, '1 day'), (2, '2 hours'), (3, NULL)",
        ]);
        for (sql, expected) in [
            ("SELECT iv > '01:29' FROM t ORDER BY id", &["true", "true", "NULL"][..]),
            ("SELECT id FROM t WHERE iv = '24:00'", &["1"]),
            ("SELECT id FROM t WHERE '3:00' > iv", &["2"]),
            ("SELECT id FROM t WHERE iv IN ('1 day', 'PT3H')", &["1"]),
            ("SELECT id FROM t WHERE iv NOT IN ('24:00')", &["2"]),
            ("SELECT id FROM t WHERE iv BETWEEN '1 hour' AND '+3 hours'", &["2"]),
            (
                "SELECT id FROM t WHERE iv IS DISTINCT FROM '@ 1 day' ORDER BY id",
                &["2", "3"],
            ),
            (
                "SELECT CASE iv WHEN '1 day' THEN 'd' WHEN '2:00' THEN 'h' END FROM t ORDER BY id",
                &["d", "h", "NULL"],
            ),
            ("SELECT id FROM t WHERE now() - now() < '1:00' AND iv > '3:00'", &["1"]),
        ] {
            fixture.check(sql, expected);
        }
        for sql in [
            "SELECT iv > 'abc' FROM t",
            "SELECT id FROM t WHERE iv IN ('1 day', 'abc')",
        ] {
            fixture.check_error_part(sql, ErrorCode::TypeMismatch, "abc");
        }
    }
}
