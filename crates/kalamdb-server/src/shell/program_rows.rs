//! Rows as programs read them: CSV and JSON, line by line.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

use crate::json_rows::write_objects;
use crate::shell::cells::text_columns;
use crate::shell::output::unprintable;
use crate::shell::printable::{printable_json, printable_lines};

/// Who reads what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    Terminal,
    Program,
}

pub(crate) fn csv_head(schema: &Schema, reader: Reader, out: &mut dyn Write) -> io::Result<()> {
    let names = schema.fields().iter().map(|field| csv_field(field.name(), reader));
    writeln!(out, "{}", names.collect::<Vec<String>>().join(","))
}

pub(crate) fn csv_rows(batch: &RecordBatch, reader: Reader, out: &mut dyn Write) -> io::Result<()> {
    let columns = text_columns(batch).map_err(unprintable)?;
    let mut line = String::new();
    for row in 0..batch.num_rows() {
        line.clear();
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                line.push(',');
            }
            if let Some(text) = column.text(row).map_err(unprintable)? {
                line.push_str(&csv_field(&text, reader));
            }
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}

/// A CSV field (RFC 4180). An empty text is quoted, so that it can be told from NULL. A program gets what is there; a terminal
/// gets control characters as escapes.
fn csv_field(text: &str, reader: Reader) -> String {
    let text = match reader {
        Reader::Terminal => printable_lines(text).into_owned(),
        Reader::Program => text.to_owned(),
    };
    if !text.is_empty() && !text.contains([',', '"', '\n', '\r']) {
        return text;
    }
    format!("\"{}\"", text.replace('"', "\"\""))
}

pub(crate) fn json_rows(batch: &RecordBatch, reader: Reader, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = Vec::new();
    write_objects(batch, &mut lines).map_err(unprintable)?;
    if reader == Reader::Program {
        return out.write_all(&lines);
    }
    let lines = String::from_utf8(lines).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    for line in lines.lines() {
        writeln!(out, "{}", printable_json(line))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray};

    use super::*;

    #[test]
    fn a_terminal_gets_no_control_characters() {
        let names: ArrayRef = Arc::new(StringArray::from(vec!["a\u{1b}[2J\u{9b}b\r\nc"]));
        let batch = RecordBatch::try_from_iter([("n\u{7}", names)]).expect("a batch");
        let check = |print: &dyn Fn(&mut Vec<u8>) -> io::Result<()>, expected: &str| {
            let mut out = Vec::new();
            print(&mut out).expect("prints");
            assert_eq!(String::from_utf8(out).expect("text"), expected);
        };
        check(&|out| csv_head(&batch.schema(), Reader::Terminal, out), "n\\x07\n");
        check(&|out| csv_head(&batch.schema(), Reader::Program, out), "n\u{7}\n");
        check(
            &|out| csv_rows(&batch, Reader::Terminal, out),
            "\"a\\x1b[2J\\u009bb\\r\nc\"\n",
        );
        check(
            &|out| csv_rows(&batch, Reader::Program, out),
            "\"a\u{1b}[2J\u{9b}b\r\nc\"\n",
        );
        check(
            &|out| json_rows(&batch, Reader::Terminal, out),
            "{\"n\\u0007\":\"a\\u001b[2J\\u009bb\\r\\nc\"}\n",
        );
        check(
            &|out| json_rows(&batch, Reader::Program, out),
            "{\"n\\u0007\":\"a\\u001b[2J\u{9b}b\\r\\nc\"}\n",
        );
    }
}
