//! `format(text, …)`: a text with the others in its places, `%s` as they are, `%I` as names, `%L` as literals.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use kalamdb_core::ErrorCode;

use super::{quoting, refused};
use crate::growth::MOST_ADDED_BYTES;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Format {
    signature: Signature,
}

impl Format {
    pub(super) fn new() -> Self {
        Format {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Format {
    fn name(&self) -> &str {
        "format"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if given.is_empty() {
            return Err(super::wrong_count(
                "format",
                "1 or more arguments",
                0,
                "format(text, value, …)",
            ));
        }
        Ok(vec![DataType::Utf8; given.len()])
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        super::by_rows(&args, |arrays| {
            let texts: Vec<&StringArray> = arrays.iter().map(|array| array.as_string::<i32>()).collect();
            let Some((formats, values)) = texts.split_first() else {
                return Err(super::wrong_arguments("format"));
            };
            let mut made = StringBuilder::new();
            let mut bytes = 0;
            for row in 0..formats.len() {
                if formats.is_null(row) {
                    made.append_null();
                    continue;
                }
                let value = |index: usize| -> Option<Option<&str>> {
                    let values = values.get(index)?;
                    Some(values.is_valid(row).then(|| values.value(row)))
                };
                let text = formatted(formats.value(row), &value, MOST_ADDED_BYTES.saturating_sub(bytes))?;
                bytes += text.len() as u64;
                made.append_value(text);
            }
            Ok(Arc::new(made.finish()) as ArrayRef)
        })
    }
}

/// `value` gives the argument of that number, from 0 on, which may be NULL; `None` where there is none.
fn formatted<'a>(format: &str, value: &dyn Fn(usize) -> Option<Option<&'a str>>, most_bytes: u64) -> Result<String> {
    let mut made = String::with_capacity(format.len());
    let mut next = 0;
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        made.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            made.push('%');
            rest = after;
            continue;
        }
        let mut place = Place::read(after)?;
        rest = place.rest;
        if let Width::Argument(number) = place.width {
            let index = number.map_or(next, |number| number - 1);
            next = index + 1;
            place.width = Width::of_argument(value(index).ok_or_else(too_few)?, &mut place.is_left)?;
        }
        let index = place.number.map_or(next, |number| number - 1);
        next = index + 1;
        let text = place.kind.written(value(index).ok_or_else(too_few)?)?;
        let letters = text.chars().count();
        let blanks = match place.width {
            Width::Letters(width) => width.saturating_sub(letters),
            Width::None | Width::Argument(_) => 0,
        };
        if (made.len() + text.len() + blanks) as u64 > most_bytes {
            let message = format!(
                "format: the texts would have more than {} MiB in one batch of rows",
                MOST_ADDED_BYTES >> 20
            );
            return Err(refused(ErrorCode::StatementTooLarge, message));
        }
        // What is written to a text does not fail.
        let _infallible = match place.is_left {
            true => write!(made, "{text}{:blanks$}", ""),
            false => write!(made, "{:blanks$}{text}", ""),
        };
    }
    made.push_str(rest);
    Ok(made)
}

fn too_few() -> datafusion::error::DataFusionError {
    refused(
        ErrorCode::InvalidArgument,
        "format: there are too few arguments for its places",
    )
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Identifier,
    Literal,
}

impl Kind {
    fn written(self, value: Option<&str>) -> Result<Cow<'_, str>> {
        Ok(match (self, value) {
            (Kind::Text, value) => Cow::Borrowed(value.unwrap_or_default()),
            (Kind::Identifier, Some(value)) => quoting::identifier(value),
            (Kind::Identifier, None) => {
                return Err(refused(
                    ErrorCode::InvalidArgument,
                    "format: NULL is no name, as %I writes one",
                ));
            }
            (Kind::Literal, Some(value)) => Cow::Owned(quoting::literal(value)),
            (Kind::Literal, None) => Cow::Borrowed("NULL"),
        })
    }
}

enum Width {
    None,
    Letters(usize),
    /// That of the argument of this number, from 1 on, or of the next.
    Argument(Option<usize>),
}

impl Width {
    fn of_argument(value: Option<&str>, is_left: &mut bool) -> Result<Self> {
        let Some(text) = value else { return Ok(Width::None) };
        let width: i32 = text.trim().parse().map_err(|_| {
            refused(
                ErrorCode::InvalidArgument,
                format!("format: a width is an integer, not '{text}'"),
            )
        })?;
        *is_left |= width < 0;
        let letters = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
        Ok(Width::Letters(letters))
    }
}

/// What stands behind a `%`: `[number$][-][width]kind`.
struct Place<'a> {
    number: Option<usize>,
    is_left: bool,
    width: Width,
    kind: Kind,
    rest: &'a str,
}

impl<'a> Place<'a> {
    fn read(text: &'a str) -> Result<Self> {
        let mut rest = text;
        let number = match number(rest)? {
            Some((number, after)) if after.starts_with('$') => {
                rest = &after[1..];
                Some(position(number)?)
            }
            _ => None,
        };
        let is_left = rest.starts_with('-');
        rest = rest.trim_start_matches('-');
        let width = if let Some(after) = rest.strip_prefix('*') {
            match self::number(after)? {
                Some((number, after)) if after.starts_with('$') => {
                    rest = &after[1..];
                    Width::Argument(Some(position(number)?))
                }
                _ => {
                    rest = after;
                    Width::Argument(None)
                }
            }
        } else if let Some((width, after)) = self::number(rest)? {
            rest = after;
            Width::Letters(width)
        } else {
            Width::None
        };
        let mut letters = rest.chars();
        let kind = match letters.next() {
            Some('s') => Kind::Text,
            Some('I') => Kind::Identifier,
            Some('L') => Kind::Literal,
            other => {
                let found = other.map_or_else(|| "the end".to_owned(), |letter| format!("'{letter}'"));
                let message = format!("format: behind % it takes s, I, L or %, not {found}");
                return Err(refused(ErrorCode::InvalidArgument, message));
            }
        };
        Ok(Place {
            number,
            is_left,
            width,
            kind,
            rest: letters.as_str(),
        })
    }
}

/// The number that a text begins with, and what follows.
fn number(text: &str) -> Result<Option<(usize, &str)>> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if end == 0 {
        return Ok(None);
    }
    match text[..end]
        .parse::<i32>()
        .ok()
        .and_then(|number| usize::try_from(number).ok())
    {
        Some(number) => Ok(Some((number, &text[end..]))),
        None => Err(refused(
            ErrorCode::InvalidArgument,
            "format: a number in it is out of range",
        )),
    }
}

fn position(number: usize) -> Result<usize> {
    match number {
        0 => Err(refused(
            ErrorCode::InvalidArgument,
            "format: argument 0 is the text itself; they are counted from 1",
        )),
        number => Ok(number),
    }
}
