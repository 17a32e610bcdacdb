//! `to_char` of times by PostgreSQL's templates, `YYYY-MM-DD HH24:MI:SS`, beside the `%Y-%m-%d` of DataFusion's.
//!
//! Problem: DataFusion 55 takes strftime's specifiers alone, and gives a template of PostgreSQL's back as it is. Chosen: a text without
//! any `%` is one of PostgreSQL's, and is written otherwise for DataFusion's function; what strftime has no specifier for is refused.
//! Evidence: `to_char_scalar` of datafusion-functions 55 `datetime/to_char.rs`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::DataType;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};
use datafusion::scalar::ScalarValue;
use kalamdb_core::{Error, ErrorCode};

/// PostgreSQL's patterns, the longer before those that they begin with, and what they are in strftime. `None`: there is nothing like it.
const PATTERNS: &[(&str, Option<&str>)] = &[
    ("FMMonth", Some("%B")),
    ("FMDay", Some("%A")),
    ("FMDDD", Some("%-j")),
    ("FMDD", Some("%-d")),
    ("FMMM", Some("%-m")),
    ("FMMI", Some("%-M")),
    ("FMHH24", Some("%-H")),
    ("FMHH12", Some("%-I")),
    ("FMHH", Some("%-I")),
    ("FMSS", Some("%-S")),
    ("FM", None),
    ("TH", None),
    ("th", None),
    ("SSSSS", None),
    ("SSSS", None),
    ("HH24", Some("%H")),
    ("HH12", Some("%I")),
    ("HH", Some("%I")),
    ("MI", Some("%M")),
    ("MS", Some("%3f")),
    ("US", Some("%6f")),
    ("FF3", Some("%3f")),
    ("FF6", Some("%6f")),
    ("SS", Some("%S")),
    ("AM", Some("%p")),
    ("PM", Some("%p")),
    ("am", Some("%P")),
    ("pm", Some("%P")),
    ("YYYY", Some("%Y")),
    ("YY", Some("%y")),
    ("IYYY", Some("%G")),
    ("IY", Some("%g")),
    ("IW", Some("%V")),
    ("IDDD", None),
    ("ID", Some("%u")),
    ("Month", None),
    ("Mon", Some("%b")),
    ("MM", Some("%m")),
    ("DDD", Some("%j")),
    ("DD", Some("%d")),
    ("Dy", Some("%a")),
    ("Q", Some("%q")),
];

/// Patterns that are written in small letters, too.
fn in_any_case(pattern: &str) -> bool {
    ![
        "TH", "th", "AM", "PM", "am", "pm", "FMMonth", "FMDay", "Month", "Mon", "Dy", "FM",
    ]
    .contains(&pattern)
}

/// Puts this function in the place of DataFusion's.
///
/// # Errors
/// None: DataFusion has the function.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    let inner = state.udf("to_char")?;
    state.register_udf(Arc::new(ScalarUDF::from(ToChar { inner })))?;
    Ok(())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let [time, format] = args.args.as_mut_slice()
            && !matches!(time.data_type(), DataType::Duration(_))
        {
            match format {
                ColumnarValue::Scalar(ScalarValue::Utf8(Some(text))) => *text = specifiers(text)?,
                ColumnarValue::Array(formats) if formats.data_type() == &DataType::Utf8 => {
                    let written = formats.as_string::<i32>().iter();
                    let written: StringArray = written
                        .map(|text| text.map(specifiers).transpose())
                        .collect::<Result<_>>()?;
                    *formats = Arc::new(written) as ArrayRef;
                }
                _ => {}
            }
        }
        self.inner.invoke_with_args(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// A format of either kind in strftime's specifiers.
///
/// # Errors
/// INVALID_ARGUMENT for letters of a template that mean nothing here.
fn specifiers(format: &str) -> Result<String> {
    if format.contains('%') {
        return Ok(format.to_owned());
    }
    let mut written = String::with_capacity(format.len() * 2);
    let mut rest = format;
    while let Some(letter) = rest.chars().next() {
        if letter == '"' {
            let text = &rest[1..];
            let end = text.find('"').unwrap_or(text.len());
            written.push_str(&text[..end]);
            rest = text.get(end + 1..).unwrap_or_default();
            continue;
        }
        if !letter.is_ascii_alphabetic() {
            written.push(letter);
            rest = &rest[letter.len_utf8()..];
            continue;
        }
        let begins = |pattern: &str| match rest.get(..pattern.len()) {
            Some(text) if in_any_case(pattern) => text.eq_ignore_ascii_case(pattern),
            Some(text) => text == pattern,
            None => false,
        };
        match PATTERNS.iter().find(|(pattern, _)| begins(pattern)) {
            Some((pattern, Some(specifier))) => {
                written.push_str(specifier);
                rest = &rest[pattern.len()..];
            }
            Some((_, None)) | None => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
                return Err(unknown(&rest[..end]));
            }
        }
    }
    Ok(written)
}

fn unknown(letters: &str) -> DataFusionError {
    let message = format!(
        "to_char has no pattern for '{letters}'; it takes YYYY, MM, DD, HH24, MI, SS, MS, US, Mon, Dy and the like, text between double \
         quotes, or strftime's specifiers such as %Y"
    );
    DataFusionError::External(Box::new(Error::new(ErrorCode::InvalidArgument, message)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn templates_are_read_as_postgresql_does() {
        let fixture = Fixture::new();
        let time = "TIMESTAMP '2024-02-05 15:04:09.012345'";
        // What PostgreSQL 15 gives.
        for (template, expected) in [
            ("YYYY-MM-DD HH24:MI:SS", "2024-02-05 15:04:09"),
            ("yyyy-mm-dd hh24:mi:ss", "2024-02-05 15:04:09"),
            ("DD Mon YYYY, HH12:MI AM", "05 Feb 2024, 03:04 PM"),
            ("HH:MI:SS.MS pm", "03:04:09.012 pm"),
            ("SS.US", "09.012345"),
            ("FMDD.FMMM.YY", "5.2.24"),
            ("FMMonth FMDay Dy", "February Monday Mon"),
            ("IYYY-IW-ID DDD Q", "2024-06-1 036 1"),
            ("YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"", "2024-02-05T15:04:09Z"),
            ("YYYY/MM", "2024/02"),
            ("", ""),
            ("%Y-%m-%d", "2024-02-05"),
        ] {
            fixture.check(&format!("SELECT to_char({time}, '{template}')"), &[expected]);
        }
        for (template, letters) in [
            ("YYYY-MM-DDTHH24", "THH24"),
            ("Month", "Month"),
            ("DAY", "DAY"),
            ("YYYY BC", "BC"),
            ("pattern", "pattern"),
            ("FMYYYY", "FMYYYY"),
        ] {
            let sql = format!("SELECT to_char({time}, '{template}')");
            fixture.check_error_part(&sql, ErrorCode::InvalidArgument, &format!("'{letters}'"));
        }
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, at TIMESTAMP, d DATE, f TEXT)",
            "INSERT INTO t VALUES (1, '2024-02-05 15:04:09', '2024-02-05', 'DD.MM.YYYY'), (2, '2024-02-05 15:04:09', '2024-02-05', '%H'), \
             (3, NULL, NULL, 'YYYY'), (4, '2024-02-05 15:04:09', '2024-02-05', NULL)",
        ]);
        fixture.check(
            "SELECT to_char(at, f), to_char(d, 'YYYYMMDD HH24') FROM t ORDER BY id",
            &[
                "05.02.2024|20240205 00",
                "15|20240205 00",
                "NULL|NULL",
                "NULL|20240205 00",
            ],
        );
    }
}
