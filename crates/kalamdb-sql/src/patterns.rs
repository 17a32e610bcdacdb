//! Patterns of SIMILAR TO, and those of LIKE with an ESCAPE of their own, as DataFusion takes them.
//!
//! Problem: DataFusion 55 runs the pattern of SIMILAR TO as a regular expression that any part of a text may match, and knows no ESCAPE
//! but the backslash. Proper way: SQL's patterns. Chosen: as in PostgreSQL, a function that translates the pattern, whose calls with
//! literals are done here, where their place is known. Evidence: `similar_to` in datafusion-physical-expr 55, `similar_escape_internal`
//! in PostgreSQL's regexp.c.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::plan_err;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{self, Expr, ValueWithSpan, VisitMut, VisitorMut};
use kalamdb_core::{Error, ErrorCode, Result};

use crate::names::{placed, position_of};
use crate::tree::walk_mut;

/// What escapes where no ESCAPE says otherwise.
const BACKSLASH: char = '\\';

/// Which operator a pattern is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    SimilarTo,
    Like,
}

impl Kind {
    /// PostgreSQL's name of the function that translates.
    fn function(self) -> &'static str {
        match self {
            Kind::SimilarTo => "similar_to_escape",
            Kind::Like => "like_escape",
        }
    }

    fn translated(self, pattern: &str, escape: Option<char>) -> Result<String> {
        match self {
            Kind::SimilarTo => regular_expression(pattern, escape),
            Kind::Like => with_backslashes(pattern, escape),
        }
    }
}

/// Writes such patterns in DataFusion's way.
///
/// # Errors
/// INVALID_ARGUMENT for a pattern that ends with its escape, and for an escape of several characters.
pub(crate) fn translate(node: &mut impl VisitMut) -> Result<()> {
    struct Patterns;
    impl VisitorMut for Patterns {
        type Break = Error;

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
            let written = match expr {
                Expr::SimilarTo {
                    pattern, escape_char, ..
                } => write(Kind::SimilarTo, pattern, escape_char.take()),
                Expr::Like {
                    pattern, escape_char, ..
                }
                | Expr::ILike {
                    pattern, escape_char, ..
                } if escape_char.is_some() => write(Kind::Like, pattern, escape_char.take()),
                _ => Ok(()),
            };
            match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        }
    }
    walk_mut(node, &mut Patterns)
}

fn write(kind: Kind, pattern: &mut Box<Expr>, escape: Option<ValueWithSpan>) -> Result<()> {
    let literal = |value: &ValueWithSpan| value.value.clone().into_string();
    let known_escape = match &escape {
        None => Some(Ok(Some(BACKSLASH))),
        Some(value) => {
            literal(value).map(|text| escape_of(&text).map_err(|error| placed(error, position_of(value.span))))
        }
    };
    if let Expr::Value(value) = pattern.as_mut()
        && let Some(text) = literal(value)
        && let Some(escape) = known_escape
    {
        let at = position_of(value.span);
        let translated = kind.translated(&text, escape?).map_err(|error| placed(error, at))?;
        value.value = ast::Value::SingleQuotedString(translated);
        return Ok(());
    }
    let taken = std::mem::replace(pattern, Box::new(Expr::value(ast::Value::Null)));
    let arguments = [Some(*taken), escape.map(Expr::Value)].into_iter().flatten();
    **pattern = Expr::Function(call(kind, arguments));
    Ok(())
}

fn call(kind: Kind, arguments: impl Iterator<Item = Expr>) -> ast::Function {
    let unnamed = |argument| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument));
    ast::Function {
        name: ast::ObjectName::from(vec![ast::Ident::new(kind.function())]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.map(unnamed).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}

/// The one character of an ESCAPE; an empty one takes its meaning from the backslash, too.
fn escape_of(text: &str) -> Result<Option<char>> {
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (escape, None) => Ok(escape),
        _ => {
            let message = format!("an ESCAPE is one character or none, and '{text}' has several");
            Err(Error::new(ErrorCode::InvalidArgument, message))
        }
    }
}

fn ends_with_escape(pattern: &str) -> Error {
    let message = format!("the pattern '{pattern}' ends with its escape character, which escapes nothing");
    Error::new(ErrorCode::InvalidArgument, message)
}

/// A pattern of SIMILAR TO as a regular expression of a whole text.
fn regular_expression(pattern: &str, escape: Option<char>) -> Result<String> {
    let mut written = String::with_capacity(pattern.len() + 8);
    written.push_str("^(?s:");
    let mut characters = pattern.chars().peekable();
    // How many characters of a bracket expression went by, but for `^`.
    let mut in_brackets: Option<usize> = None;
    while let Some(character) = characters.next() {
        let escaped = if Some(character) == escape {
            Some(characters.next().ok_or_else(|| ends_with_escape(pattern))?)
        } else {
            None
        };
        if let Some(escaped) = escaped {
            push_literal(&mut written, escaped);
            in_brackets = in_brackets.map(|count| count + 1);
            continue;
        }
        if let Some(count) = in_brackets {
            in_brackets = Some(count + 1);
            match character {
                // The first is a member of the class.
                ']' if count > 0 => {
                    written.push(']');
                    in_brackets = None;
                }
                '^' if count == 0 && written.ends_with('[') => {
                    written.push('^');
                    in_brackets = Some(0);
                }
                '[' if characters.peek() == Some(&':') => {
                    written.push('[');
                    for member in characters.by_ref() {
                        written.push(member);
                        if member == ']' {
                            break;
                        }
                    }
                }
                '-' => written.push('-'),
                other => push_literal(&mut written, other),
            }
            continue;
        }
        match character {
            '%' => written.push_str(".*"),
            '_' => written.push('.'),
            '(' => written.push_str("(?:"),
            '[' => {
                written.push('[');
                in_brackets = Some(0);
            }
            ')' | '|' | '*' | '+' | '?' | '{' | '}' => written.push(character),
            other => push_literal(&mut written, other),
        }
    }
    written.push_str(")$");
    Ok(written)
}

fn push_literal(written: &mut String, character: char) {
    let is_special = character.is_ascii_punctuation() && !matches!(character, '<' | '>' | '_' | ',' | '\'' | '"' | '`');
    if is_special {
        written.push(BACKSLASH);
    }
    written.push(character);
}

/// A pattern of LIKE with backslashes for its escapes.
fn with_backslashes(pattern: &str, escape: Option<char>) -> Result<String> {
    let mut written = String::with_capacity(pattern.len() + 8);
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let is_escape = Some(character) == escape;
        let character = if is_escape {
            characters.next().ok_or_else(|| ends_with_escape(pattern))?
        } else {
            character
        };
        if character == BACKSLASH || is_escape && matches!(character, '%' | '_') {
            written.push(BACKSLASH);
        }
        written.push(character);
    }
    Ok(written)
}

/// Translates patterns that are no literals: `similar_to_escape(pattern [, escape])` and `like_escape(pattern, escape)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct PatternFunction {
    kind: Kind,
    signature: Signature,
}

impl PatternFunction {
    pub(crate) fn all() -> [Self; 2] {
        [Kind::SimilarTo, Kind::Like].map(|kind| PatternFunction {
            kind,
            signature: Signature::user_defined(Volatility::Immutable),
        })
    }
}

impl ScalarUDFImpl for PatternFunction {
    fn name(&self) -> &str {
        self.kind.function()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        fn is_text(data_type: &DataType) -> bool {
            match data_type {
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
                DataType::Dictionary(_, values) => is_text(values),
                _ => false,
            }
        }
        if !(1..=2).contains(&given.len()) {
            return plan_err!("{} takes a pattern and an escape character", self.name());
        }
        match given.iter().find(|data_type| !is_text(data_type)) {
            Some(other) => plan_err!("a pattern and its ESCAPE are text, not {other}"),
            None => Ok(vec![DataType::Utf8; given.len()]),
        }
    }

    fn return_type(&self, _given: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let are_scalars = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if are_scalars { 1 } else { args.number_rows };
        let texts = args.args.iter().map(|arg| {
            let texts = arg.to_array(rows)?;
            Ok(cast(&texts, &DataType::Utf8)?)
        });
        let texts: Vec<ArrayRef> = texts.collect::<DataFusionResult<_>>()?;
        let translated = (0..rows).map(|row| {
            let text = |index: usize| {
                texts.get(index).map(|texts| {
                    let texts = texts.as_string::<i32>();
                    texts.is_valid(row).then(|| texts.value(row))
                })
            };
            let escape = match text(1) {
                None => Some(BACKSLASH),
                Some(None) => return Ok(None),
                Some(Some(escape)) => escape_of(escape)?,
            };
            text(0)
                .flatten()
                .map(|pattern| self.kind.translated(pattern, escape))
                .transpose()
        });
        let translated: Result<StringArray> = translated.collect();
        let translated = translated.map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(if are_scalars {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&translated, 0)?)
        } else {
            ColumnarValue::Array(Arc::new(translated))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_regular_expressions_of_whole_texts() {
        let check = |pattern: &str, escape: Option<char>, expected: &str| {
            let written = regular_expression(pattern, escape).expect("a pattern");
            assert_eq!(written, format!("^(?s:{expected})$"), "{pattern}");
        };
        check("a%", Some('\\'), "a.*");
        check("_b|c", Some('\\'), ".b|c");
        check("(ab)+c*d?e{2,3}", Some('\\'), "(?:ab)+c*d?e{2,3}");
        check("a.b^$", Some('\\'), r"a\.b\^\$");
        check(r"50\%\\", Some('\\'), r"50\%\\");
        check("50#%#_", Some('#'), r"50\%_");
        check(r"a\b", None, r"a\\b");
        check(r"a\b", Some('#'), r"a\\b");
        check("[a-c%_.]x", Some('\\'), r"[a-c\%_\.]x");
        check("[^]a]", Some('\\'), r"[^\]a]");
        check("[[:digit:]x&&y]", Some('\\'), r"[[:digit:]x\&\&y]");
        check("#é", Some('x'), r"\#é");
        assert!(regular_expression("a#", Some('#')).is_err());
    }

    #[test]
    fn escapes_of_like_become_backslashes() {
        let check = |pattern: &str, escape: Option<char>, expected: &str| {
            assert_eq!(
                with_backslashes(pattern, escape).expect("a pattern"),
                expected,
                "{pattern}"
            );
        };
        check("a!%b!_c%", Some('!'), r"a\%b\_c%");
        check("a!!b!c", Some('!'), "a!bc");
        check(r"a\b", Some('!'), r"a\\b");
        check(r"a\%", None, r"a\\%");
        check(r"a\%\\\b", Some('\\'), r"a\%\\b");
        assert!(with_backslashes("a!", Some('!')).is_err());
        assert!(escape_of("ab").is_err());
    }
}
