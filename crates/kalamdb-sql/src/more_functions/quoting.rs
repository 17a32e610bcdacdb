//! `quote_literal`, `quote_ident` and `quote_nullable`: a value as it is written in SQL.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

/// Words of PostgreSQL 15 that are no names without quotes, or not everywhere.
const RESERVED: &str = "all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case \
    cast char character check coalesce collate collation column concurrently constraint create cross \
    current_catalog current_date current_role current_schema current_time current_timestamp current_user dec \
    decimal default deferrable desc distinct do else end except exists extract false fetch float for foreign \
    freeze from full grant greatest group grouping having ilike in initially inner inout int integer intersect \
    interval into is isnull join lateral leading least left like limit localtime localtimestamp national natural \
    nchar none normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay \
    placing position precision primary real references returning right row select session_user setof similar \
    smallint some substring symmetric table tablesample then time timestamp to trailing treat trim true union \
    unique user using values varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement \
    xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum As {
    Literal,
    Identifier,
    /// A literal, or the word NULL.
    Nullable,
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Quote {
    kind: As,
    signature: Signature,
}

impl Quote {
    fn new(kind: As) -> Self {
        Quote {
            kind,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }

    pub(super) fn literal() -> Self {
        Quote::new(As::Literal)
    }

    pub(super) fn identifier() -> Self {
        Quote::new(As::Identifier)
    }

    pub(super) fn nullable() -> Self {
        Quote::new(As::Nullable)
    }
}

impl ScalarUDFImpl for Quote {
    fn name(&self) -> &str {
        match self.kind {
            As::Literal => "quote_literal",
            As::Identifier => "quote_ident",
            As::Nullable => "quote_nullable",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [_] => Ok(vec![DataType::Utf8]),
            _ => {
                let form = format!("{}(value)", self.name());
                Err(super::wrong_count(self.name(), "1 argument", given.len(), &form))
            }
        }
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn is_strict(&self) -> bool {
        self.kind != As::Nullable
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        super::by_rows(&args, |arrays| {
            let [texts] = arrays else {
                return Err(super::wrong_arguments(self.name()));
            };
            let quoted: StringArray = texts
                .as_string::<i32>()
                .iter()
                .map(|text| match (text, self.kind) {
                    (Some(text), As::Identifier) => Some(identifier(text)),
                    (Some(text), As::Literal | As::Nullable) => Some(Cow::Owned(literal(text))),
                    (None, As::Nullable) => Some(Cow::Borrowed("NULL")),
                    (None, As::Literal | As::Identifier) => None,
                })
                .collect();
            Ok(Arc::new(quoted) as ArrayRef)
        })
    }
}

/// Between quotes, which are doubled inside; with a backslash in it as `E'…'`, as PostgreSQL writes it.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match text.contains('\\') {
        true => format!("E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// As it is if it is read as that, else between double quotes.
pub(super) fn identifier(text: &str) -> Cow<'_, str> {
    let begins = |c: char| c.is_ascii_lowercase() || c == '_';
    let is_plain = text.starts_with(begins) && text.chars().all(|c| begins(c) || c.is_ascii_digit());
    match is_plain && !RESERVED.split(' ').any(|word| word == text) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("\"{}\"", text.replace('"', "\"\""))),
    }
}
