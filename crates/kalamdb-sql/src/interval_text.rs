//! Texts of intervals in the forms that PostgreSQL reads and Arrow does not: with a time of day (`1 day 04:05:06`), of ISO 8601
//! (`P1DT4H`), of the SQL standard (`1-2`, years and months), and turned around by `ago`.

use std::borrow::Cow;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Expr, Value, VisitMut, VisitorMut};
use kalamdb_core::Error;

use crate::tree::walk_mut;

/// Writes such literals as Arrow reads them.
pub(crate) fn in_units(node: &mut impl VisitMut) {
    struct Intervals;
    impl VisitorMut for Intervals {
        type Break = Error;

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
            let interval = |data_type: &ast::DataType| matches!(data_type, ast::DataType::Interval { .. });
            match expr {
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
        None => of_words(trimmed.strip_prefix('@').unwrap_or(trimmed)),
    };
    written.map_or(Cow::Borrowed(text), Cow::Owned)
}

fn of_words(text: &str) -> Option<String> {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let is_ago = words.last().is_some_and(|word| word.eq_ignore_ascii_case("ago"));
    if is_ago {
        words.pop();
    }
    let is_ours = is_ago
        || words
            .iter()
            .any(|word| word.contains(':') || years_and_months(word).is_some());
    if !is_ours {
        return None;
    }
    let turned = |number: &str| -> String {
        match (is_ago, number.strip_prefix('-')) {
            (false, _) => number.to_owned(),
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
        if !is_number(number) {
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
        }
        for text in ["01:75", "1:2:3:4", "P", "P1X", "PT", "one day", "1:-2", "P1H"] {
            fixture.check_error_part(&format!("SELECT INTERVAL '{text}'"), ErrorCode::TypeMismatch, text);
            fixture.check_error_part(
                &format!("INSERT INTO t VALUES (99, '{text}')"),
                ErrorCode::TypeMismatch,
                text,
            );
        }
    }
}
