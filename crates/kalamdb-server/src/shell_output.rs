//! Results for a terminal or another program: tables, CSV, or JSON lines.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;

use crate::json_rows::write_objects;

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    Table,
    Csv,
    Json,
}

/// A table is aligned over so many rows at once; a longer result goes on with a new head, so that memory stays bounded.
const PAGE_ROWS: usize = 10_000;

const TABLE_OPTIONS: FormatOptions<'static> = FormatOptions::new().with_null("NULL");
const CSV_OPTIONS: FormatOptions<'static> = FormatOptions::new();

/// Prints results one after the other.
pub(crate) struct Printer<W> {
    out: W,
    format: OutputFormat,
    page: Vec<RecordBatch>,
    page_rows: usize,
    rows: usize,
    head_is_out: bool,
}

impl<W: Write> Printer<W> {
    pub(crate) fn new(out: W, format: OutputFormat) -> Self {
        Printer {
            out,
            format,
            page: Vec::new(),
            page_rows: 0,
            rows: 0,
            head_is_out: false,
        }
    }

    /// A statement without rows; a negative count is an unknown one.
    pub(crate) fn completion(&mut self, rows: i64) -> io::Result<()> {
        match self.format {
            OutputFormat::Table => match rows {
                1 => writeln!(self.out, "OK, 1 row")?,
                0.. => writeln!(self.out, "OK, {rows} rows")?,
                _ => writeln!(self.out, "OK")?,
            },
            // Programs that read rows are not to stumble over words.
            OutputFormat::Csv | OutputFormat::Json => {}
        }
        self.out.flush()
    }

    /// A result begins.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        (self.rows, self.page_rows, self.head_is_out) = (0, 0, false);
        self.page.clear();
        Ok(())
    }

    /// The result's columns, told at the latest at its end: what a result without rows is printed by.
    pub(crate) fn schema(&mut self, schema: &SchemaRef) -> io::Result<()> {
        match self.format {
            OutputFormat::Table if self.rows == 0 && self.page.is_empty() => {
                self.page.push(RecordBatch::new_empty(SchemaRef::clone(schema)));
                Ok(())
            }
            OutputFormat::Csv => self.csv_head(schema),
            OutputFormat::Table | OutputFormat::Json => Ok(()),
        }
    }

    /// More rows.
    pub(crate) fn rows(&mut self, batch: &RecordBatch) -> io::Result<()> {
        self.rows += batch.num_rows();
        match self.format {
            OutputFormat::Table => {
                let mut start = 0;
                while start < batch.num_rows() {
                    let taken = (batch.num_rows() - start).min(PAGE_ROWS - self.page_rows);
                    self.page.push(batch.slice(start, taken));
                    self.page_rows += taken;
                    start += taken;
                    if self.page_rows == PAGE_ROWS {
                        self.print_page()?;
                    }
                }
                Ok(())
            }
            OutputFormat::Csv => {
                self.csv_head(&batch.schema())?;
                self.csv_rows(batch)
            }
            OutputFormat::Json => {
                let mut lines = Vec::new();
                write_objects(batch, &mut lines).map_err(unprintable)?;
                self.out.write_all(&lines)
            }
        }
    }

    /// The result is complete.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        if self.format == OutputFormat::Table {
            if !self.page.is_empty() {
                self.print_page()?;
            }
            let rows = self.rows;
            writeln!(self.out, "({rows} {})", if rows == 1 { "row" } else { "rows" })?;
        }
        self.out.flush()
    }

    fn print_page(&mut self) -> io::Result<()> {
        let table = pretty_format_batches_with_options(&self.page, &TABLE_OPTIONS).map_err(unprintable)?;
        self.page.clear();
        self.page_rows = 0;
        writeln!(self.out, "{table}")
    }

    fn csv_head(&mut self, schema: &Schema) -> io::Result<()> {
        if self.head_is_out {
            return Ok(());
        }
        self.head_is_out = true;
        let names: Vec<String> = schema.fields().iter().map(|field| quoted(field.name())).collect();
        writeln!(self.out, "{}", names.join(","))
    }

    fn csv_rows(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let formatters: Result<Vec<_>, _> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &CSV_OPTIONS))
            .collect();
        let formatters = formatters.map_err(unprintable)?;
        for row in 0..batch.num_rows() {
            for (index, (formatter, column)) in formatters.iter().zip(batch.columns()).enumerate() {
                if index > 0 {
                    self.out.write_all(b",")?;
                }
                if column.is_valid(row) {
                    self.out
                        .write_all(quoted(&formatter.value(row).to_string()).as_bytes())?;
                }
            }
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }
}

/// A CSV field (RFC 4180). An empty text is quoted, so that it can be told from NULL.
fn quoted(text: &str) -> String {
    if !text.is_empty() && !text.contains([',', '"', '\n', '\r']) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('"', "\"\""))
}

fn unprintable(error: ArrowError) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a value cannot be printed: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn batch() -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a,\"b\""), None, Some("")]));
        RecordBatch::try_from_iter([("id", ids), ("name", names)]).expect("a batch")
    }

    fn check(format: OutputFormat, batches: &[RecordBatch], expected: &str) {
        let mut printer = Printer::new(Vec::new(), format);
        printer.begin().expect("prints");
        for batch in batches {
            printer.rows(batch).expect("prints");
        }
        printer.schema(&batch().schema()).expect("prints");
        printer.end().expect("prints");
        assert_eq!(String::from_utf8(printer.out).expect("text"), expected, "{format:?}");
    }

    #[test]
    fn results_are_printed_in_each_format() {
        let table = "+----+-------+\n| id | name  |\n+----+-------+\n| 1  | a,\"b\" |\n| 2  | NULL  |\n| 3  |       |\n\
                     +----+-------+\n(3 rows)\n";
        check(OutputFormat::Table, &[batch()], table);
        check(
            OutputFormat::Csv,
            &[batch()],
            "id,name\n1,\"a,\"\"b\"\"\"\n2,\n3,\"\"\n",
        );
        let lines = "{\"id\":1,\"name\":\"a,\\\"b\\\"\"}\n{\"id\":2,\"name\":null}\n{\"id\":3,\"name\":\"\"}\n";
        check(OutputFormat::Json, &[batch()], lines);
    }

    #[test]
    fn a_result_without_rows_shows_its_columns() {
        let table = "+----+------+\n| id | name |\n+----+------+\n+----+------+\n(0 rows)\n";
        check(OutputFormat::Table, &[], table);
        check(OutputFormat::Csv, &[], "id,name\n");
        check(OutputFormat::Json, &[], "");
    }
}
