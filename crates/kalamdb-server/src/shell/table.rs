//! Rows as an aligned table whose widths the first rows decide, and rows as records, one line for each column.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use unicode_width::UnicodeWidthStr;

use crate::shell::cells::text_columns;
use crate::shell::output::unprintable;
use crate::shell::printable::{printable_line, printable_lines};

/// What NULL looks like to a person.
const NULL: &str = "NULL";

/// So many rows decide the widths. A longer value among the rows that follow shifts its line, and nothing is cut off.
const SAMPLE_ROWS: usize = 10_000;

/// The same in bytes of Arrow data: the sample is held until it is whole.
const SAMPLE_BYTES: usize = 4 << 20;

/// No column is padded beyond this; one value of megabytes would make all lines as long.
const PADDED_WIDTH: usize = 1_000;

/// A table that is being printed.
pub(crate) struct Table {
    names: Vec<String>,
    state: State,
}

enum State {
    Sampling { rows: Vec<Vec<Cell>>, bytes: usize },
    Printing { widths: Vec<usize> },
}

/// A value as the lines that it takes.
struct Cell(Vec<String>);

impl Cell {
    fn new(text: &str) -> Self {
        Cell(printable_lines(text).split('\n').map(str::to_owned).collect())
    }

    fn width(&self) -> usize {
        self.0.iter().map(|line| line.width()).max().unwrap_or(0)
    }
}

impl Table {
    pub(crate) fn new(schema: &Schema) -> Self {
        Table {
            names: names(schema),
            state: State::Sampling {
                rows: Vec::new(),
                bytes: 0,
            },
        }
    }

    pub(crate) fn rows(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        let columns = text_columns(batch).map_err(unprintable)?;
        if let State::Sampling { bytes, .. } = &mut self.state {
            *bytes += batch.get_array_memory_size();
        }
        for row in 0..batch.num_rows() {
            let mut cells = Vec::with_capacity(columns.len());
            for column in &columns {
                let text = column.text(row).map_err(unprintable)?;
                cells.push(Cell::new(text.as_deref().unwrap_or(NULL)));
            }
            match &mut self.state {
                State::Printing { widths } => print_row(&cells, widths, out)?,
                State::Sampling { rows, bytes } => {
                    rows.push(cells);
                    if rows.len() >= SAMPLE_ROWS || *bytes >= SAMPLE_BYTES {
                        self.settle(out)?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(crate) fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.settle(out)?;
        match &self.state {
            State::Printing { widths } => print_rule(widths, out),
            State::Sampling { .. } => Ok(()),
        }
    }

    /// Prints the head and the sample, if that has not happened.
    fn settle(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let State::Sampling { rows, .. } = &mut self.state else {
            return Ok(());
        };
        let rows = std::mem::take(rows);
        let head: Vec<Cell> = self.names.iter().map(|name| Cell(vec![name.clone()])).collect();
        let mut widths = vec![0; head.len()];
        for cells in rows.iter().chain([&head]) {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.width().min(PADDED_WIDTH).max(*width);
            }
        }
        print_rule(&widths, out)?;
        print_row(&head, &widths, out)?;
        print_rule(&widths, out)?;
        for cells in &rows {
            print_row(cells, &widths, out)?;
        }
        self.state = State::Printing { widths };
        Ok(())
    }
}

fn names(schema: &Schema) -> Vec<String> {
    let names = schema.fields().iter().map(|field| printable_line(field.name()));
    names.map(|name| name.into_owned()).collect()
}

fn print_rule(widths: &[usize], out: &mut dyn Write) -> io::Result<()> {
    let mut line = String::from("+");
    for width in widths {
        line.push_str(&"-".repeat(width + 2));
        line.push('+');
    }
    writeln!(out, "{line}")
}

/// One line, or as many as the cell with the most lines has.
fn print_row(cells: &[Cell], widths: &[usize], out: &mut dyn Write) -> io::Result<()> {
    let height = cells.iter().map(|cell| cell.0.len()).max().unwrap_or(1);
    let mut text = String::new();
    for index in 0..height {
        text.push('|');
        for (cell, width) in cells.iter().zip(widths) {
            let line = cell.0.get(index).map_or("", String::as_str);
            text.push(' ');
            text.push_str(line);
            text.push_str(&" ".repeat(width.saturating_sub(line.width()) + 1));
            text.push('|');
        }
        text.push('\n');
    }
    out.write_all(text.as_bytes())
}

/// Rows as records: for results that are wider than the terminal.
pub(crate) struct Records {
    names: Vec<String>,
    width: usize,
    count: u64,
}

impl Records {
    pub(crate) fn new(schema: &Schema) -> Self {
        let names = names(schema);
        let width = names.iter().map(|name| name.width()).max().unwrap_or(0);
        Records { names, width, count: 0 }
    }

    pub(crate) fn rows(&mut self, batch: &RecordBatch, out: &mut dyn Write) -> io::Result<()> {
        let columns = text_columns(batch).map_err(unprintable)?;
        for row in 0..batch.num_rows() {
            self.count += 1;
            let mut text = format!("-[ row {} ]-\n", self.count);
            for (column, name) in columns.iter().zip(&self.names) {
                let value = column.text(row).map_err(unprintable)?;
                let Cell(lines) = Cell::new(value.as_deref().unwrap_or(NULL));
                for (index, line) in lines.iter().enumerate() {
                    let name = if index == 0 { name } else { "" };
                    let padding = " ".repeat(self.width.saturating_sub(name.width()));
                    text.push_str(&format!("{name}{padding} | {line}\n"));
                }
            }
            out.write_all(text.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn batch(first_id: i64, texts: &[&str]) -> RecordBatch {
        let last_id = first_id + i64::try_from(texts.len()).expect("a few");
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first_id..last_id));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        RecordBatch::try_from_iter([("id", ids), ("text", texts)]).expect("a batch")
    }

    fn printed(batches: &[RecordBatch]) -> String {
        let mut out = Vec::new();
        let mut table = Table::new(&batches[0].schema());
        for batch in batches {
            table.rows(batch, &mut out).expect("prints");
        }
        table.end(&mut out).expect("prints");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn wide_characters_and_lines_keep_the_columns() {
        let expected = "+----+---------+\n| id | text    |\n+----+---------+\n| 1  | 語      |\n| 2  | a       |\n|    | bb      |\n\
                        | 3  | \\x1b[2J |\n+----+---------+\n";
        assert_eq!(printed(&[batch(1, &["語", "a\nbb", "\u{1b}[2J"])]), expected);
    }

    #[test]
    fn rows_after_the_sample_come_at_once_and_whole() {
        let sample = batch(1, &vec!["x"; SAMPLE_ROWS]);
        let mut out = Vec::new();
        let mut table = Table::new(&sample.schema());
        table.rows(&sample.slice(0, SAMPLE_ROWS - 1), &mut out).expect("prints");
        assert!(out.is_empty(), "the sample is not whole");
        table.rows(&sample.slice(SAMPLE_ROWS - 1, 1), &mut out).expect("prints");
        assert!(!out.is_empty(), "the sample is whole");
        out.clear();
        table
            .rows(&batch(1, &["longer than the sample", "y"]), &mut out)
            .expect("prints");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "| 1     | longer than the sample |\n| 2     | y    |\n"
        );
    }

    #[test]
    fn a_large_value_ends_the_sample_and_pads_no_other() {
        let large = "x".repeat(SAMPLE_BYTES);
        let text = printed(&[batch(1, &[&large, "y"])]);
        assert!(text.contains(&large));
        assert!(text.len() < SAMPLE_BYTES + 10 * PADDED_WIDTH, "{}", text.len());
    }

    #[test]
    fn records_have_a_line_for_each_column() {
        let mut out = Vec::new();
        let rows = batch(1, &["a\nb", "c"]);
        let mut records = Records::new(&rows.schema());
        records.rows(&rows, &mut out).expect("prints");
        let expected = "-[ row 1 ]-\nid   | 1\ntext | a\n     | b\n-[ row 2 ]-\nid   | 2\ntext | c\n";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}
