//! `regexp_split_to_array(text, pattern [, flags])`: the parts of a text between the matches of a pattern.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use kalamdb_core::ErrorCode;
use regex::{Regex, RegexBuilder};

use super::refused;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Split {
    signature: Signature,
}

impl Split {
    pub(super) fn new() -> Self {
        let forms = [2, 3].map(|count| TypeSignature::Exact(vec![DataType::Utf8; count]));
        Split {
            signature: Signature::one_of(forms.into(), Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Split {
    fn name(&self) -> &str {
        "regexp_split_to_array"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        super::by_rows(&args, |arrays| {
            let texts: Vec<&StringArray> = arrays.iter().map(|array| array.as_string::<i32>()).collect();
            let [text, pattern, flags @ ..] = texts.as_slice() else {
                return Err(super::wrong_arguments("regexp_split_to_array"));
            };
            let mut compiled: HashMap<(&str, &str), Regex> = HashMap::new();
            let mut made = ListBuilder::new(StringBuilder::new());
            for row in 0..text.len() {
                if texts.iter().any(|array| array.is_null(row)) {
                    made.append_null();
                    continue;
                }
                let key = (pattern.value(row), flags.first().map_or("", |flags| flags.value(row)));
                let pattern = match compiled.entry(key) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(compile(key.0, key.1)?),
                };
                split(text.value(row), pattern, &mut |part| made.values().append_value(part));
                made.append(true);
            }
            Ok(Arc::new(made.finish()) as ArrayRef)
        })
    }
}

fn compile(pattern: &str, flags: &str) -> Result<Regex> {
    let mut builder = RegexBuilder::new(pattern);
    for flag in flags.chars() {
        match flag {
            'i' => builder.case_insensitive(true),
            'm' => builder.multi_line(true),
            's' => builder.dot_matches_new_line(true),
            'x' => builder.ignore_whitespace(true),
            other => {
                let message = format!("regexp_split_to_array takes the flags i, m, s and x, not {other}");
                return Err(refused(ErrorCode::InvalidArgument, message));
            }
        };
    }
    // The translation of errors knows how these begin.
    builder
        .build()
        .map_err(|error| ArrowError::ComputeError(format!("Regular expression did not compile: {error}")).into())
}

/// As PostgreSQL does: a match of nothing counts where it is neither at the text's ends nor right behind another match.
fn split<'a>(text: &'a str, pattern: &Regex, part: &mut dyn FnMut(&'a str)) {
    let mut begin = 0;
    for found in pattern.find_iter(text) {
        if found.is_empty() && (found.start() == begin || found.start() == text.len()) {
            continue;
        }
        part(&text[begin..found.start()]);
        begin = found.end();
    }
    part(&text[begin..]);
}
