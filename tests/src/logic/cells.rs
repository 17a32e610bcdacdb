//! Column letters, values and rows as DataFusion's files write them, and how those are compared with ours.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, Float16Type, Float32Type,
    Float64Type,
};
use arrow::util::display::{ArrayFormatter, DurationFormat, FormatOptions};
use sqllogictest::{ColumnType, Normalizer};

/// Digits after the point that are compared of a float.
const FLOAT_DIGITS: usize = 12;

/// What stands in an expected row for text that changes from run to run.
const IGNORED: &str = "<slt:ignore>";

/// A column's type as the files write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Letter {
    Boolean,
    DateOrTime,
    Integer,
    Number,
    Text,
    Timestamp,
    Other,
}

impl Letter {
    pub(super) fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Letter::Boolean,
            _ if data_type.is_integer() => Letter::Integer,
            _ if data_type.is_floating() || data_type.is_decimal() => Letter::Number,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Letter::Text,
            DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_) => Letter::DateOrTime,
            DataType::Timestamp(..) => Letter::Timestamp,
            _ => Letter::Other,
        }
    }
}

impl ColumnType for Letter {
    fn from_char(value: char) -> Option<Self> {
        Some(match value {
            'B' => Letter::Boolean,
            'D' => Letter::DateOrTime,
            'I' => Letter::Integer,
            'R' => Letter::Number,
            'T' => Letter::Text,
            'P' => Letter::Timestamp,
            _ => Letter::Other,
        })
    }

    fn to_char(&self) -> char {
        match self {
            Letter::Boolean => 'B',
            Letter::DateOrTime => 'D',
            Letter::Integer => 'I',
            Letter::Number => 'R',
            Letter::Text => 'T',
            Letter::Timestamp => 'P',
            Letter::Other => '?',
        }
    }
}

/// Every row as text. A row whose last value has several lines, as a plan has, is followed by one row for each of them.
///
/// # Panics
/// When arrow cannot show a type.
pub(super) fn rows(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| cell(column, row)).collect();
            push_lines(&mut rows, cells);
        }
    }
    rows
}

fn push_lines(rows: &mut Vec<Vec<String>>, mut cells: Vec<String>) {
    let last = cells.pop().unwrap_or_default();
    if !last.contains('\n') {
        cells.push(last);
        rows.push(cells);
        return;
    }
    rows.push(cells);
    for (index, line) in last.split('\n').enumerate() {
        let text = line.trim_start();
        let depth = "-".repeat(line.len() - text.len());
        rows.push(vec![format!("{:02}){depth}{text}", index + 1)]);
    }
}

fn cell(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    match column.data_type() {
        DataType::Float16 => {
            let value = column.as_primitive::<Float16Type>().value(row);
            float(value.to_f64(), &value.to_string())
        }
        DataType::Float32 => {
            let value = column.as_primitive::<Float32Type>().value(row);
            float(f64::from(value), &value.to_string())
        }
        DataType::Float64 => {
            let value = column.as_primitive::<Float64Type>().value(row);
            float(value, &value.to_string())
        }
        DataType::Decimal32(_, scale) => decimal::<Decimal32Type>(column, row, *scale),
        DataType::Decimal64(_, scale) => decimal::<Decimal64Type>(column, row, *scale),
        DataType::Decimal128(_, scale) => decimal::<Decimal128Type>(column, row, *scale),
        DataType::Decimal256(_, scale) => decimal::<Decimal256Type>(column, row, *scale),
        DataType::Utf8 => text(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => text(column.as_string::<i64>().value(row)),
        _ => {
            let options = FormatOptions::new()
                .with_null("NULL")
                .with_date_format(Some("%Y-%m-%d"))
                .with_datetime_format(Some("%Y-%m-%dT%H:%M:%S%.f"))
                .with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.f"))
                .with_time_format(Some("%H:%M:%S%.f"))
                .with_duration_format(DurationFormat::Pretty);
            let formatter = ArrayFormatter::try_new(column.as_ref(), &options).expect("arrow shows every type");
            formatter.value(row).to_string()
        }
    }
}

fn text(value: &str) -> String {
    if value.is_empty() {
        "(empty)".to_owned()
    } else {
        value.trim_end_matches('\n').replace('\0', "\\0")
    }
}

fn decimal<T: DecimalType>(column: &ArrayRef, row: usize, scale: i8) -> String {
    let value = column.as_primitive::<T>().value(row);
    // The precision matters only to a value that is out of it.
    shortest(&T::format_decimal(value, u8::MAX, scale))
}

/// `written` is the shortest text that reads back as the value; Rust never writes an exponent.
fn float(value: f64, written: &str) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        let sign = if value < 0.0 { "-" } else { "" };
        format!("{sign}Infinity")
    } else {
        shortest(&rounded(written, FLOAT_DIGITS))
    }
}

/// A decimal number rounded to so many digits after the point; a half goes to the even digit.
fn rounded(number: &str, digits: usize) -> String {
    let Some((whole, fraction)) = number.split_once('.') else {
        return number.to_owned();
    };
    let Some(dropped) = fraction.get(digits..).filter(|dropped| !dropped.is_empty()) else {
        return number.to_owned();
    };
    let mut kept = format!("{whole}.{}", &fraction[..digits]).into_bytes();
    let half = format!("{:0<width$}", "5", width = dropped.len());
    let last_is_odd = kept.last().is_some_and(|digit| digit % 2 == 1);
    if dropped > half.as_str() || dropped == half && last_is_odd {
        let mut carry = true;
        for digit in kept.iter_mut().rev().filter(|byte| byte.is_ascii_digit()) {
            if *digit == b'9' {
                *digit = b'0';
            } else {
                *digit += 1;
                carry = false;
                break;
            }
        }
        if carry {
            let at = usize::from(kept[0] == b'-');
            kept.insert(at, b'1');
        }
    }
    String::from_utf8(kept).expect("digits, a point and a sign")
}

/// Without zeros at the end of the fraction, and without a sign before zero.
fn shortest(number: &str) -> String {
    let short = if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    };
    match short.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|byte| byte == b'0' || byte == b'.') => digits.to_owned(),
        _ => short.to_owned(),
    }
}

/// The files' editors may have cut trailing space.
#[expect(clippy::ptr_arg, reason = "the runner's type of a normalizer")]
pub(super) fn without_trailing_space(line: &String) -> String {
    line.trim_end().to_owned()
}

/// Whether the rows are the expected lines, values separated by one space. What stands for [`IGNORED`] may be anything,
/// and so may what follows the last expected piece.
pub(super) fn rows_agree(normalizer: Normalizer, actual: &[Vec<String>], expected: &[String]) -> bool {
    let expected: Vec<String> = expected.iter().map(normalizer).collect();
    let actual: Vec<String> = actual.iter().map(|row| normalizer(&row.join(" "))).collect();
    if !expected.iter().any(|line| line.contains(IGNORED)) {
        return expected == actual;
    }
    let (expected, actual) = (expected.join("\n"), actual.join("\n"));
    let mut rest = actual.as_str();
    for (index, piece) in expected.split(IGNORED).enumerate() {
        match rest.find(piece) {
            Some(at) if index > 0 || at == 0 => rest = &rest[at + piece.len()..],
            _ => return false,
        }
    }
    true
}

/// The same for rows that may come in any order.
pub(super) fn rows_agree_in_any_order(normalizer: Normalizer, actual: &[Vec<String>], expected: &[String]) -> bool {
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    rows_agree(normalizer, actual, expected)
        || sorted(actual.iter().map(|row| normalizer(&row.join(" "))).collect())
            == sorted(expected.iter().map(normalizer).collect())
}

/// The same for rows of which any may be chosen: there are as many, or the query is wrong.
pub(super) fn rows_agree_in_number(normalizer: Normalizer, actual: &[Vec<String>], expected: &[String]) -> bool {
    rows_agree_in_any_order(normalizer, actual, expected) || actual.len() == expected.len()
}

/// What a query leaves open of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freedom {
    /// It says in which order they come. What EXPLAIN and SHOW print has an order of its own.
    Nothing,
    /// It has no ORDER BY that is in no parentheses and no quotes.
    Order,
    /// It has a LIMIT as well, over rows that several tasks find, so that the first to come are others each time.
    Choice,
}

impl Freedom {
    pub(super) fn of(sql: &str) -> Self {
        let code = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
        let code = code.collect::<Vec<_>>().join(" ").to_ascii_lowercase();
        if !["select", "with", "values", "from", "("]
            .iter()
            .any(|first| code.trim_start().starts_with(first))
        {
            return Freedom::Nothing;
        }
        let outermost = outermost(&code);
        let has = |words: &str| outermost.contains(words);
        if has("order by") {
            return Freedom::Nothing;
        }
        let of_many = [
            " join ",
            " where ",
            " group by ",
            " distinct ",
            " union ",
            " intersect ",
            " except ",
        ];
        match has(" limit ") && of_many.into_iter().any(has) {
            true => Freedom::Choice,
            false => Freedom::Order,
        }
    }
}

/// What of a text is in no parentheses and no quotes, its words one space apart.
fn outermost(code: &str) -> String {
    let (mut depth, mut quote) = (0_i32, None);
    let mut outermost = String::with_capacity(code.len());
    for letter in code.split_ascii_whitespace().collect::<Vec<_>>().join(" ").chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(letter),
            (None, '(') => depth += 1,
            (None, ')') => depth -= 1,
            (None, _) if depth == 0 => outermost.push(letter),
            (None, _) => {}
        }
    }
    outermost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_said_outside_parentheses_and_quotes() {
        for (sql, freedom) in [
            ("SELECT a FROM t", Freedom::Order),
            ("SELECT a FROM t\nORDER\n  BY a", Freedom::Nothing),
            ("SELECT rank() OVER (ORDER BY a) FROM t", Freedom::Order),
            (
                "-- order by\nSELECT 'order by' FROM (SELECT 1 ORDER BY 1)",
                Freedom::Order,
            ),
            ("EXPLAIN SELECT a FROM t", Freedom::Nothing),
            ("SELECT a FROM t LIMIT 1", Freedom::Order),
            ("SELECT a FROM t\nWHERE a > 0\nLIMIT 1", Freedom::Choice),
            ("SELECT a FROM t JOIN u USING (a) ORDER BY a LIMIT 1", Freedom::Nothing),
            ("SELECT a FROM (SELECT a FROM t WHERE a > 0 LIMIT 1)", Freedom::Order),
        ] {
            assert_eq!(Freedom::of(sql), freedom, "{sql}");
        }
    }

    #[test]
    fn rows_that_may_be_chosen_agree_in_number() {
        let agree = |lines: &[&str]| {
            let expected: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            rows_agree_in_number(without_trailing_space, &[vec!["a".to_owned()]], &expected)
        };
        assert!(agree(&["b"]));
        assert!(!agree(&["a", "b"]));
    }

    #[test]
    fn rows_without_an_order_agree_in_any() {
        let actual = [vec!["b".to_owned()], vec!["a ".to_owned()]];
        let agree =
            |lines: [&str; 2]| rows_agree_in_any_order(without_trailing_space, &actual, &lines.map(str::to_owned));
        assert!(agree(["a", "b"]));
        assert!(!agree(["a", "a"]));
    }

    #[test]
    fn floats_are_rounded_to_twelve_digits() {
        for (value, shown) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.5, "1.5"),
            (100.0, "100"),
            (-0.1, "-0.1"),
            (1.0 / 3.0, "0.333333333333"),
            (2.0 / 3.0, "0.666666666667"),
            (9.999_999_999_999_9, "10"),
            (-9.999_999_999_999_9, "-10"),
            (1e-13, "0"),
            (1e20, "100000000000000000000"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(float(value, &value.to_string()), shown, "{value:?}");
        }
        assert_eq!(rounded("1.25", 1), "1.2");
        assert_eq!(rounded("1.35", 1), "1.4");
        assert_eq!(rounded("1.251", 1), "1.3");
    }

    #[test]
    fn a_plan_is_shown_by_line() {
        let mut rows = Vec::new();
        push_lines(
            &mut rows,
            vec!["logical_plan".into(), "Sort: a\n  Projection: b".into()],
        );
        assert_eq!(
            rows,
            [vec!["logical_plan"], vec!["01)Sort: a"], vec!["02)--Projection: b"]]
        );
    }

    #[test]
    fn rows_agree_but_for_what_is_ignored() {
        let agree = |actual: &[&str], expected: &[&str]| {
            let actual: Vec<Vec<String>> = actual.iter().map(|cell| vec![(*cell).to_owned()]).collect();
            let expected: Vec<String> = expected.iter().map(|line| (*line).to_owned()).collect();
            rows_agree(without_trailing_space, &actual, &expected)
        };
        assert!(agree(&["a "], &["a"]));
        assert!(!agree(&["a", "b"], &["b", "a"]));
        assert!(!agree(&["a", "b"], &["a"]));
        assert!(agree(&["took 3 ms", "b"], &["took <slt:ignore> ms", "b"]));
        assert!(!agree(&["it took 3 ms"], &["took <slt:ignore>"]));
    }
}
