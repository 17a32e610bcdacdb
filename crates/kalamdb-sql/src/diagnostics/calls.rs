//! What DataFusion says of a call that it does not plan, without the lists of its functions' signatures.

use kalamdb_core::{Error, ErrorCode};

use super::late::OF_ARGUMENTS;

/// What stands where the types of a call's arguments are told.
const OF_TYPES: &str = "No function matches the given name and argument types '";
const OF_COERCION: &str = "user-defined coercion failed with: ";

/// The function, and what is wrong with its arguments.
pub(super) fn of_message(text: &str) -> Option<(String, Error)> {
    of_signatures(text).or_else(|| of_types(text)).or_else(|| of_map(text))
}

/// Arguments of no type that a function takes: DataFusion lists what each of its signatures wants.
fn of_signatures(text: &str) -> Option<(String, Error)> {
    let (function, reasons) = text.split_once(" failed to match any signature, errors: ")?;
    let function = function.trim_start_matches("Function ").trim_matches('\'');
    let Some((_, received)) = reasons.split_once("(DataType: ") else {
        let reason = reasons.split(",Error during planning: ").next().unwrap_or(reasons);
        let error = Error::new(ErrorCode::InvalidStatement, super::tidy(reason));
        return Some((function.to_owned(), error));
    };
    let message = format!("{function}{OF_ARGUMENTS}{}", up_to_end(received));
    Some((function.to_owned(), Error::new(ErrorCode::TypeMismatch, message)))
}

fn of_types(text: &str) -> Option<(String, Error)> {
    let (reason, rest) = text.split_once(OF_TYPES)?;
    let (function, types) = rest.split_once('(')?;
    let types = up_to_end(types);
    let is_count = [
        " expects ",
        "expects at least",
        "zero arguments",
        "without any arguments",
        "at least one argument",
    ]
    .iter()
    .any(|sign| reason.contains(sign))
        && !reason.contains(" but received ")
        || reason.contains(" arguments but received ");
    let error = if types.is_empty() {
        let message = match function {
            "concat_ws" => "concat_ws takes at least 2 arguments, and none is given".to_owned(),
            "nullif" => "nullif takes 2 arguments, and none is given".to_owned(),
            _ => format!("{function} takes at least one argument, and none is given"),
        };
        Error::new(ErrorCode::InvalidStatement, message)
    } else if let Some((_, counts)) = reason.rsplit_once(" expects ")
        && let Some((wanted, given)) = counts.split_once(" arguments but received ")
    {
        let given = given.trim_end_matches(['.', ' ']);
        let are = if given == "1" { "is" } else { "are" };
        let message = format!("{function} takes {wanted} arguments, and {given} {are} given");
        Error::new(ErrorCode::InvalidStatement, message)
    } else if let Some((_, wanted)) = reason.rsplit_once(" requires ")
        && let Some((wanted, given)) = wanted.split_once(", but received ")
    {
        let in_sql = |name| if name == "String" { "TEXT" } else { name };
        let (wanted, given) = (
            in_sql(wanted),
            in_sql(given.split(" (DataType: ").next().unwrap_or(given)),
        );
        let message = format!("{function} takes {wanted}, and not {given}; cast it");
        Error::new(ErrorCode::TypeMismatch, message)
    } else if is_count {
        let message = format!("{function} takes another number of arguments than are given: {types}");
        Error::new(ErrorCode::InvalidStatement, message)
    } else {
        let wanted = match function {
            "to_char" | "date_format" => "; it takes a date, a time or a timestamp, and a pattern",
            _ if types.contains(", ") => "; cast them",
            _ => "; cast it",
        };
        let several = if types.contains(", ") {
            "arguments of types"
        } else {
            "an argument of type"
        };
        let message = format!("{function} does not take {several} {types}{wanted}");
        Error::new(ErrorCode::TypeMismatch, message)
    };
    Some((function.to_owned(), error))
}

/// `element_at` and the like of what is no MAP.
fn of_map(text: &str) -> Option<(String, Error)> {
    let (function, reason) = text.split_once(OF_COERCION)?;
    let (_, given) = reason.split_once("Expected a Map type, got ")?;
    let function = function.trim().trim_start_matches("Function ").trim_matches('\'');
    let message = format!("{function} takes a MAP, and not {}", given.trim_end_matches(['.', ' ']));
    Some((function.to_owned(), Error::new(ErrorCode::TypeMismatch, message)))
}

/// What stands before the bracket that closes one that was open before.
fn up_to_end(text: &str) -> &str {
    let mut open = 0_usize;
    let end = text.char_indices().find(|(_, c)| match c {
        '(' => {
            open += 1;
            false
        }
        ')' if open > 0 => {
            open -= 1;
            false
        }
        ')' => true,
        _ => false,
    });
    end.map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode::{self, InvalidStatement, TypeMismatch};

    use crate::testing::Fixture;

    #[test]
    fn a_call_is_refused_in_plain_words() {
        let fixture = Fixture::new();
        fixture.run(&["CREATE TABLE t (id INT PRIMARY KEY, v TEXT, n INT, iv INTERVAL)"]);
        let cases: &[(&str, ErrorCode, Option<u64>, &str)] = &[
            (
                "SELECT coalesce()",
                InvalidStatement,
                Some(8),
                "coalesce takes at least one argument, and none is given",
            ),
            (
                "SELECT greatest()",
                InvalidStatement,
                Some(8),
                "greatest takes at least one argument, and none is given",
            ),
            (
                "SELECT concat()",
                InvalidStatement,
                Some(8),
                "concat takes at least one argument, and none is given",
            ),
            (
                "SELECT nullif(1)",
                InvalidStatement,
                Some(8),
                "nullif takes 2 arguments, and 1 is given",
            ),
            (
                "SELECT 1, to_char(n, 'YYYY') FROM t",
                TypeMismatch,
                Some(11),
                "to_char does not take arguments of types INTEGER, TEXT; it takes a date, a time or a timestamp, and a pattern",
            ),
            (
                "SELECT lower(n) FROM t",
                TypeMismatch,
                Some(8),
                "lower takes TEXT, and not INTEGER; cast it",
            ),
            (
                "SELECT abs(v) FROM t",
                TypeMismatch,
                Some(8),
                "abs does not take an argument of type TEXT",
            ),
            (
                "SELECT element_at(1, 2)",
                TypeMismatch,
                None,
                "takes a MAP, and not BIGINT",
            ),
            (
                "SELECT avg(iv) FROM t",
                TypeMismatch,
                Some(8),
                "avg does not take an argument of type INTERVAL",
            ),
            (
                "SELECT sum(v) FROM t",
                TypeMismatch,
                Some(8),
                "sum does not take an argument of type TEXT",
            ),
        ];
        for (sql, code, column, part) in cases {
            let place = column.map(|column| (1, column));
            fixture.check_error(sql, *code, place, part);
        }
    }

    #[test]
    fn a_column_that_is_no_group_is_named_alone() {
        let fixture = Fixture::new();
        fixture.run(&["CREATE TABLE t (id INT PRIMARY KEY, v TEXT, n INT)"]);
        for (sql, place, message) in [
            (
                "SELECT id, count(*) FROM t",
                Some((1, 8)),
                "t.id in SELECT must be in GROUP BY, or in an aggregate function",
            ),
            (
                "SELECT v, count(*) FROM t GROUP BY v HAVING n > 1",
                Some((1, 45)),
                "t.n in HAVING must be in GROUP BY, or in an aggregate function",
            ),
            (
                "SELECT *, count(*) FROM t GROUP BY v",
                None,
                "t.id in SELECT must be in GROUP BY, or in an aggregate function",
            ),
        ] {
            fixture.check_error(sql, InvalidStatement, place, message);
        }
    }
}
