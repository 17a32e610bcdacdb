//! Functions whose time grows with the product of their arguments: bounded for one row, and with pauses between rows.
//!
//! Problem: a call over a batch, or of constants while a plan is simplified, awaits nothing, so that neither a timeout nor KILL
//! QUERY ends it; `levenshtein` of two texts of 70 KB takes 5 seconds. Proper way: functions that look at an interruption as they
//! go. Chosen: the work of each row is worked out from its arguments' lengths; a row beyond the bound is refused, and a batch is
//! handed to the function in slices. Evidence: the loops of the functions named in [`cost_of`], in datafusion-functions 55.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::concat;
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs};
use kalamdb_core::{Error, ErrorCode};

use super::size::{ByRow, ListLengths};
use crate::interruption::{Interruption, aside};
use crate::pattern_operators::is_plain_like;

/// The work of one row, in steps of about a nanosecond: what a statement cannot be interrupted in. Measured on one core it is
/// between half a second and two, and up to seven for a pattern that keeps a thousand of its repetitions open.
const MOST_STEPS_OF_ROW: u64 = 1 << 30;

/// The work between two pauses, unless one row has more.
const STEPS_BETWEEN_PAUSES: u64 = 1 << 24;

/// A regular expression of so few states is within the bound with every text that can be stored.
pub(crate) const FEW_STATES: u64 = 32;

/// How the work of a function depends on its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cost {
    /// Each character of a text with each of another.
    Distance,
    /// A text compared at many places of another, bytes at a time.
    Search,
    /// Characters of a text, each looked for in a set.
    Trim,
    /// Each element of a list with each of another.
    Elements,
    /// Each character of a text with each state of a regular expression.
    Pattern,
    /// The same, unless the pattern is of one piece.
    Like,
}

/// The functions of DataFusion 55 with more than linear work, by name.
pub(super) fn cost_of(name: &str) -> Option<Cost> {
    Some(match name {
        "levenshtein" => Cost::Distance,
        "strpos" => Cost::Search,
        "btrim" | "ltrim" | "rtrim" => Cost::Trim,
        "array_has_all" | "array_has_any" => Cost::Elements,
        "regexp_count"
        | "regexp_instr"
        | "regexp_like"
        | "regexp_match"
        | "regexp_replace"
        | "regexp_split_to_array" => Cost::Pattern,
        "a regular expression" => Cost::Pattern,
        "LIKE" | "ILIKE" => Cost::Like,
        _ => return None,
    })
}

impl Cost {
    /// Steps for so many bytes, characters, elements or states of the one and of the other argument.
    fn steps(self, one: u64, other: u64) -> u64 {
        let product = one.saturating_mul(other);
        match self {
            Cost::Distance | Cost::Pattern | Cost::Like => product.saturating_mul(2),
            Cost::Elements => product.saturating_mul(4),
            Cost::Trim => product / 8,
            Cost::Search => product / 16,
        }
    }

    fn of_rows(self, args: &[ColumnarValue], rows: usize) -> Result<Vec<u64>> {
        let [one, other, ..] = args else {
            // One argument: `trim` of blanks, or too few, which the function says.
            return Ok(vec![0; rows]);
        };
        let by_row = |steps: &dyn Fn(usize) -> u64| (0..rows).map(steps).collect();
        if self == Cost::Elements {
            let (one, other) = (ListLengths::of(one)?, ListLengths::of(other)?);
            return Ok(by_row(&|row| self.steps(one.length(row), other.length(row))));
        }
        let (one, other) = (ByRow::texts(one)?, ByRow::texts(other)?);
        Ok(by_row(&|row| match (one.text(row), other.text(row)) {
            (Some(one), Some(other)) => {
                let other = match self {
                    Cost::Like if is_plain_like(other) => 1,
                    // As its regular expression has them: one for each character.
                    Cost::Pattern => states(other),
                    Cost::Like | Cost::Distance | Cost::Search | Cost::Trim | Cost::Elements => other.len() as u64,
                };
                self.steps(one.len() as u64, other)
            }
            _ => 0,
        }))
    }
}

/// The work of a call, by row.
pub(super) struct Work {
    steps: Vec<u64>,
    /// Without arrays a call has one row, whatever the batch has.
    has_arrays: bool,
}

impl Work {
    /// # Errors
    /// STATEMENT_TOO_LARGE for too much work in one row.
    pub(super) fn of(cost: Cost, name: &str, call: &ScalarFunctionArgs) -> Result<Self> {
        let has_arrays = call.args.iter().any(|arg| matches!(arg, ColumnarValue::Array(_)));
        let steps = cost.of_rows(&call.args, if has_arrays { call.number_rows } else { 1 })?;
        match steps.iter().max() {
            Some(most) if *most > MOST_STEPS_OF_ROW => {
                let message = format!(
                    "{name} would need about {most} steps for one row; the most is {MOST_STEPS_OF_ROW}; give it shorter arguments"
                );
                let error = Error::new(ErrorCode::StatementTooLarge, message);
                Err(DataFusionError::External(Box::new(error)))
            }
            Some(_) | None => Ok(Work { steps, has_arrays }),
        }
    }

    /// Calls the function with slices of the rows, looking at the statement's interruption before each.
    ///
    /// # Errors
    /// CANCELLED, TIMEOUT; whatever the function says.
    pub(super) fn in_slices(
        &self,
        call: ScalarFunctionArgs,
        invoke: impl Fn(ScalarFunctionArgs) -> Result<ColumnarValue>,
    ) -> Result<ColumnarValue> {
        let all = self.steps.iter().fold(0, |all: u64, row| all.saturating_add(*row));
        if all <= STEPS_BETWEEN_PAUSES {
            return invoke(call);
        }
        aside(|| {
            if !self.has_arrays {
                Interruption::check_options(&call.config_options)?;
                return invoke(call);
            }
            let mut results: Vec<ArrayRef> = Vec::new();
            for (begin, rows) in slices(&self.steps) {
                Interruption::check_options(&call.config_options)?;
                let args = call.args.iter().map(|arg| match arg {
                    ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(begin, rows)),
                    ColumnarValue::Scalar(value) => ColumnarValue::Scalar(value.clone()),
                });
                let result = invoke(ScalarFunctionArgs {
                    args: args.collect(),
                    arg_fields: call.arg_fields.clone(),
                    number_rows: rows,
                    return_field: Arc::clone(&call.return_field),
                    config_options: Arc::clone(&call.config_options),
                })?;
                results.push(result.into_array(rows)?);
            }
            let results: Vec<&dyn Array> = results.iter().map(AsRef::as_ref).collect();
            Ok(ColumnarValue::Array(concat(&results)?))
        })
    }
}

/// Whether a pattern is within the bound with every text that can be stored.
pub(crate) fn has_few_states(pattern: &str) -> bool {
    states(pattern) <= FEW_STATES
}

/// Whether a call may become an operator, which has no bound.
pub(super) fn may_be_operator(cost: Option<Cost>, args: &[Expr]) -> bool {
    match (cost, args) {
        (Some(Cost::Pattern), [_, Expr::Literal(pattern, _), ..]) => {
            pattern.try_as_str().flatten().is_none_or(has_few_states)
        }
        // It knows itself.
        (Some(Cost::Like), [_, Expr::Literal(..), ..]) => true,
        (Some(Cost::Pattern | Cost::Like), _) => false,
        (Some(_) | None, _) => true,
    }
}

/// Runs of rows, as first row and number, each with the work between two pauses.
fn slices(steps: &[u64]) -> Vec<(usize, usize)> {
    let mut slices = Vec::new();
    let (mut begin, mut work) = (0, 0u64);
    for (row, steps) in steps.iter().enumerate() {
        if row > begin && work.saturating_add(*steps) > STEPS_BETWEEN_PAUSES {
            slices.push((begin, row - begin));
            (begin, work) = (row, 0);
        }
        work = work.saturating_add(*steps);
    }
    slices.push((begin, steps.len() - begin));
    slices
}

/// About how many states a regular expression has: one for each character, class or escape, as often as it is repeated.
fn states(pattern: &str) -> u64 {
    /// A group: what is complete, and the last piece, which a repetition multiplies.
    #[derive(Default)]
    struct Group {
        before: u64,
        last: u64,
    }
    impl Group {
        fn push(&mut self, piece: u64) {
            self.before = self.before.saturating_add(self.last);
            self.last = piece;
        }
        fn states(&self) -> u64 {
            self.before.saturating_add(self.last)
        }
    }
    let mut groups = vec![Group::default()];
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        let depth = groups.len();
        let Some(group) = groups.last_mut() else { break };
        match character {
            '\\' => {
                if let Some('p' | 'P' | 'x' | 'u' | 'U') = characters.next()
                    && characters.peek() == Some(&'{')
                {
                    characters.by_ref().find(|character| *character == '}');
                }
                group.push(1);
            }
            '[' => {
                // A bracket right at the beginning stands for itself.
                let mut is_first = true;
                while let Some(character) = characters.next() {
                    match character {
                        '\\' => {
                            characters.next();
                        }
                        ']' if !is_first => break,
                        '^' if is_first => continue,
                        _ => {}
                    }
                    is_first = false;
                }
                group.push(1);
            }
            '(' => groups.push(Group::default()),
            ')' if depth > 1 => {
                let closed = groups.pop().map_or(1, |group| group.states().max(1));
                if let Some(outer) = groups.last_mut() {
                    outer.push(closed);
                }
            }
            '{' => {
                let counts: String = characters.by_ref().take_while(|character| *character != '}').collect();
                let most = counts
                    .split(',')
                    .filter_map(|count| count.trim().parse::<u64>().ok())
                    .max();
                group.last = group.last.saturating_mul(most.unwrap_or(1).max(1));
            }
            '*' | '+' | '?' | '|' => {}
            _ => group.push(1),
        }
    }
    groups.iter().fold(0, |all, group| all.saturating_add(group.states()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use arrow::array::StringArray;
    use arrow::datatypes::{DataType, Field};
    use datafusion::common::config::ConfigOptions;
    use datafusion::scalar::ScalarValue;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn a_row_of_too_much_work_is_refused() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT)",
            "INSERT INTO t VALUES (1, 60000), (2, NULL)",
        ]);
        for (expression, function) in [
            ("levenshtein(repeat('a', 70000), repeat('b', 70000))", "levenshtein"),
            ("levenshtein(repeat('a', n), repeat('b', n))", "levenshtein"),
            ("strpos(repeat('a', 50 * n), repeat('a', n) || 'b')", "strpos"),
            ("ltrim(repeat('a', 50 * n), repeat('b', n) || 'a')", "ltrim"),
            ("trim(TRAILING repeat('b', n) || 'a' FROM repeat('a', 50 * n))", "rtrim"),
            ("array_has_all(range(0, n), range(0, n))", "array_has_all"),
            ("array_has_any(range(0, n), range(n, 2 * n))", "array_has_any"),
            ("regexp_count(repeat('a', 20 * n), '[ab]*a[ab]{1000}c')", "regexp_count"),
            (
                "regexp_like(repeat('a', 20 * n), '(?:a(?:b|c){30}){30}')",
                "regexp_like",
            ),
        ] {
            let sql = format!("SELECT {expression} FROM t");
            fixture.check_error(&sql, ErrorCode::StatementTooLarge, None, function);
        }
    }

    #[test]
    fn what_is_no_trouble_is_as_before() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id BIGINT PRIMARY KEY, a TEXT, b TEXT)",
            "INSERT INTO t VALUES (1, 'kitten', 'sitting'), (2, NULL, 'x'), (3, 'xxabxx', 'x')",
        ]);
        fixture.check(
            "SELECT levenshtein(a, b), strpos(a, b), trim(a), ltrim(a, b), regexp_like(a, '^[kx]{1,2}.') FROM t ORDER BY id",
            &["3|0|kitten|kitten|true", "NULL|NULL|NULL|NULL|NULL", "5|1|xxabxx|abxx|true"],
        );
        fixture.check(
            "SELECT array_has_any([1, 2], [2, 3]), array_has_all(['a', 'b'], ['b', 'c'])",
            &["true|false"],
        );
        // Much work in all, in many slices.
        fixture.check(
            "SELECT count(*), min(d), max(d) FROM \
             (SELECT levenshtein(repeat('a', 500 + value), repeat('b', 600)) AS d FROM generate_series(1, 100))",
            &["100|600|600"],
        );
    }

    #[test]
    fn a_call_stops_between_two_slices() {
        let cancel = CancellationToken::new();
        let mut options = ConfigOptions::new();
        options.extensions.insert(Interruption::new(cancel.clone(), None));
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a".repeat(2_000); 20]));
        let field = |data_type| Arc::new(Field::new("", data_type, true));
        let call = ScalarFunctionArgs {
            args: vec![
                ColumnarValue::Array(texts),
                ColumnarValue::Scalar(ScalarValue::from("b".repeat(2_000))),
            ],
            arg_fields: vec![field(DataType::Utf8), field(DataType::Utf8)],
            number_rows: 20,
            return_field: field(DataType::Utf8),
            config_options: Arc::new(options),
        };
        let calls = Cell::new(0);
        let work = Work::of(Cost::Distance, "f", &call).expect("each row is within the bound");
        let outcome = work.in_slices(call, |slice| {
            calls.set(calls.get() + 1);
            if calls.get() == 2 {
                cancel.cancel();
            }
            Ok(slice.args[0].clone())
        });
        assert!(outcome.is_err());
        assert_eq!(calls.get(), 2);
    }

    #[test]
    fn slices_have_all_rows_once() {
        let half = STEPS_BETWEEN_PAUSES / 2;
        let check = |steps: &[u64], expected: &[(usize, usize)]| assert_eq!(slices(steps), expected);
        check(&[half, half, 1, half], &[(0, 2), (2, 2)]);
        check(&[4 * half, 0, 4 * half], &[(0, 1), (1, 1), (2, 1)]);
        check(&[0, 0], &[(0, 2)]);
    }

    #[test]
    fn repetitions_multiply_the_states_of_a_pattern() {
        let check = |pattern: &str, expected: u64| assert_eq!(states(pattern), expected, "{pattern}");
        check("abc", 3);
        check("a{3}b", 4);
        check("(ab){2,5}c", 11);
        check("((a{10}){10}){10}", 1_000);
        check("[^]ab]{7}\\d{2}\\p{Greek}", 10);
        check("a|b*)", 3);
        check("x{,}", 1);
    }
}
