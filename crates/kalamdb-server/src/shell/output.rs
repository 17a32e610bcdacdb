//! Where results go and in which form: the terminal or a file; tables, records, CSV, JSON lines or Parquet.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;

use crate::shell::parquet_file::ParquetFile;
use crate::shell::printable::printable_line;
use crate::shell::program_rows::{Reader, csv_head, csv_rows, json_rows};
use crate::shell::table::{Records, Table};

/// How rows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OutputFormat {
    /// Columns side by side
    Table,
    /// Each row as a block with a line for each column
    Record,
    /// RFC 4180 with a header; NULL is an empty field, an empty text is ""
    Csv,
    /// One object per line
    Json,
    /// One result as a Parquet file: name it with --output or \o
    Parquet,
}

impl OutputFormat {
    /// As `\format` names it.
    fn as_str(self) -> &'static str {
        match self {
            OutputFormat::Table => "table",
            OutputFormat::Record => "record",
            OutputFormat::Csv => "csv",
            OutputFormat::Json => "json",
            OutputFormat::Parquet => "parquet",
        }
    }

    /// Whether a file that has rows in this format may have rows in the other one, too.
    fn goes_with(self, other: OutputFormat) -> bool {
        use OutputFormat::{Record, Table};
        self == other || matches!((self, other), (Table | Record, Table | Record))
    }
}

/// Prints results one after the other.
pub(crate) struct Printer {
    format: OutputFormat,
    place: Place,
    result: Option<Form>,
    rows: u64,
    /// How the rows are printed that the file has, if it is one.
    held: Option<OutputFormat>,
    /// How long the file was when the result began, until that has come to its end.
    began_at: Option<u64>,
}

/// Where to.
enum Place {
    Standard {
        out: Box<dyn Write + Send>,
        reader: Reader,
        /// It holds a Parquet file, after which nothing can come.
        is_full: bool,
    },
    /// A file is made when there is something for it, as the form decides how.
    File {
        path: PathBuf,
        text: Option<BufWriter<File>>,
        is_full: bool,
    },
}

/// A result that is being printed.
enum Form {
    Table(Table),
    Record(Records),
    Csv,
    Json,
    Parquet(Box<ParquetFile>),
}

impl Printer {
    /// To standard output, or to a file.
    pub(crate) fn new(format: OutputFormat, path: Option<PathBuf>) -> Self {
        let mut printer = Printer {
            format,
            place: standard(),
            result: None,
            rows: 0,
            held: None,
            began_at: None,
        };
        printer.redirect(path);
        printer
    }

    pub(crate) fn format(&self) -> OutputFormat {
        self.format
    }

    pub(crate) fn set_format(&mut self, format: OutputFormat) {
        self.format = format;
    }

    /// From now on to another place; `None` is standard output.
    pub(crate) fn redirect(&mut self, path: Option<PathBuf>) {
        self.held = None;
        self.place = match path {
            Some(path) => Place::File {
                path,
                text: None,
                is_full: false,
            },
            None => standard(),
        };
    }

    /// Where rows go, if it is a file.
    pub(crate) fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::File { path, .. } => Some(path),
            Place::Standard { .. } => None,
        }
    }

    /// Whether a result can be printed as things are: to be asked before a statement runs.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (is_full, is_terminal) = match &self.place {
            Place::Standard { reader, is_full, .. } => (*is_full, *reader == Reader::Terminal),
            Place::File { is_full, text, .. } => (
                *is_full || (text.is_some() && self.format == OutputFormat::Parquet),
                false,
            ),
        };
        if is_full {
            return Err(
                "the output holds a result, and a Parquet file holds one only; name another one with \\o".to_owned(),
            );
        }
        if let Some(held) = self.held
            && !held.goes_with(self.format)
        {
            let (held, wanted) = (held.as_str(), self.format.as_str());
            return Err(format!(
                "the output holds rows as {held}, which no reader takes with {wanted} after them; name another file with \\o, or go \
                 back with \\format {held}"
            ));
        }
        if is_terminal && self.format == OutputFormat::Parquet {
            return Err("Parquet is not for a terminal; name a file with --output or \\o".to_owned());
        }
        Ok(())
    }

    /// A statement without rows; a negative count is an unknown one.
    pub(crate) fn completion(&mut self, rows: i64) -> io::Result<()> {
        // Programs that read rows are not to stumble over words.
        if !matches!(self.format, OutputFormat::Table | OutputFormat::Record) {
            return Ok(());
        }
        let out = self.place.text()?;
        match rows {
            1 => writeln!(out, "OK, 1 row")?,
            0.. => writeln!(out, "OK, {rows} rows")?,
            _ => writeln!(out, "OK")?,
        }
        out.flush()
    }

    /// A result begins. What an earlier one left unfinished is gone.
    pub(crate) fn begin(&mut self, schema: &SchemaRef) -> io::Result<()> {
        self.rows = 0;
        self.result = None;
        self.place.flush()?;
        self.began_at = self.place.length()?;
        let form = match self.format {
            OutputFormat::Parquet => Form::Parquet(Box::new(self.place.parquet(SchemaRef::clone(schema))?)),
            OutputFormat::Csv => {
                let reader = self.place.reader();
                csv_head(schema, reader, self.place.text()?)?;
                Form::Csv
            }
            OutputFormat::Table => Form::Table(Table::new(schema)),
            OutputFormat::Record => Form::Record(Records::new(schema)),
            OutputFormat::Json => Form::Json,
        };
        if !matches!(form, Form::Parquet(_)) {
            // A file is there even if no rows come.
            self.place.text()?;
            self.held = self.path().map(|_| self.format);
        }
        self.result = Some(form);
        Ok(())
    }

    /// More rows.
    pub(crate) fn rows(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let reader = self.place.reader();
        let Some(form) = &mut self.result else {
            return Err(io::Error::other("rows came before their result began"));
        };
        self.rows += batch.num_rows() as u64;
        match form {
            Form::Table(table) => table.rows(batch, self.place.text()?),
            Form::Record(records) => records.rows(batch, self.place.text()?),
            Form::Csv => csv_rows(batch, reader, self.place.text()?),
            Form::Json => json_rows(batch, reader, self.place.text()?),
            Form::Parquet(file) => file.rows(batch),
        }
    }

    /// The result is complete; a word about it where the rows went elsewhere.
    pub(crate) fn end(&mut self) -> io::Result<Option<String>> {
        let counted = match self.rows {
            1 => "(1 row)".to_owned(),
            rows => format!("({rows} rows)"),
        };
        match self.result.take() {
            Some(Form::Table(mut table)) => {
                let out = self.place.text()?;
                table.end(out)?;
                writeln!(out, "{counted}")?;
            }
            Some(Form::Record(_)) => writeln!(self.place.text()?, "{counted}")?,
            Some(Form::Parquet(file)) => {
                file.finish()?;
                self.place.fill();
            }
            Some(Form::Csv | Form::Json) | None => {}
        }
        self.place.flush()?;
        self.began_at = None;
        Ok(self
            .path()
            .map(|path| format!("{counted} to {}", printable_line(&path.to_string_lossy()))))
    }

    /// The result does not come to its end: a Parquet file that is not whole goes, rows that are out stay. A word about a file
    /// that holds such.
    pub(crate) fn abandon(&mut self) -> Option<String> {
        self.result = None;
        let began_at = self.began_at.take();
        // Whether this fails or not, the statement has failed already.
        let _ = self.place.flush();
        let length = self.place.length().unwrap_or_default();
        let path = printable_line(&self.path()?.to_string_lossy()).into_owned();
        (length? > began_at?).then(|| format!("{path} holds the beginning of a result that did not come to its end."))
    }
}

fn standard() -> Place {
    let out = io::stdout();
    let reader = if out.is_terminal() {
        Reader::Terminal
    } else {
        Reader::Program
    };
    Place::Standard {
        out: Box::new(BufWriter::new(out)),
        reader,
        is_full: false,
    }
}

impl Place {
    fn reader(&self) -> Reader {
        match self {
            Place::Standard { reader, .. } => *reader,
            Place::File { .. } => Reader::Program,
        }
    }

    /// For text; a file is made anew when the first text comes.
    fn text(&mut self) -> io::Result<&mut dyn Write> {
        match self {
            Place::Standard { out, .. } => Ok(out),
            Place::File { path, text, .. } => match text {
                Some(file) => Ok(file),
                None => Ok(text.insert(BufWriter::new(File::create(path)?))),
            },
        }
    }

    /// Bytes of text that are in the file, if it is one.
    fn length(&self) -> io::Result<Option<u64>> {
        match self {
            Place::File { text: Some(file), .. } => Ok(Some(file.get_ref().metadata()?.len())),
            Place::File { text: None, .. } => Ok(Some(0)),
            Place::Standard { .. } => Ok(None),
        }
    }

    fn parquet(&mut self, schema: SchemaRef) -> io::Result<ParquetFile> {
        match self {
            Place::Standard { .. } => ParquetFile::to(Box::new(BufWriter::new(io::stdout())), schema),
            Place::File { path, .. } => ParquetFile::create(path, schema),
        }
    }

    /// It holds a Parquet file now.
    fn fill(&mut self) {
        match self {
            Place::Standard { is_full, .. } | Place::File { is_full, .. } => *is_full = true,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Place::Standard { out, .. } => out.flush(),
            Place::File { text, .. } => text.as_mut().map_or(Ok(()), Write::flush),
        }
    }
}

pub(crate) fn unprintable(error: ArrowError) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a value cannot be printed: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn batch() -> RecordBatch {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a,\"b\""), None, Some("")]));
        RecordBatch::try_from_iter([("id", ids), ("name", names)]).expect("a batch")
    }

    fn print(printer: &mut Printer, batches: &[RecordBatch]) -> io::Result<Option<String>> {
        printer.begin(&batch().schema())?;
        for batch in batches {
            printer.rows(batch)?;
        }
        printer.end()
    }

    #[test]
    fn results_are_printed_in_each_format() {
        let check = |format: OutputFormat, batches: &[RecordBatch], expected: &str| {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("out");
            let mut printer = Printer::new(format, Some(path.clone()));
            let word = print(&mut printer, batches).expect("prints").expect("it is a file");
            assert!(word.contains("rows) to "), "{word}");
            let found = fs::read_to_string(&path).expect("it is there");
            assert_eq!(found, expected, "{format:?}");
        };
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
        let records = "-[ row 1 ]-\nid   | 1\nname | a,\"b\"\n-[ row 2 ]-\nid   | 2\nname | NULL\n-[ row 3 ]-\nid   | 3\nname | \n(3 rows)\n";
        check(OutputFormat::Record, &[batch()], records);
        // A result without rows shows its columns.
        let table = "+----+------+\n| id | name |\n+----+------+\n+----+------+\n(0 rows)\n";
        check(OutputFormat::Table, &[], table);
        check(OutputFormat::Csv, &[], "id,name\n");
        check(OutputFormat::Json, &[], "");
        check(OutputFormat::Record, &[], "(0 rows)\n");
    }

    #[test]
    fn an_unfinished_result_is_said_or_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let check = |format: OutputFormat, expected: Option<&str>| {
            let path = directory.path().join(format!("{format:?}"));
            let mut printer = Printer::new(format, Some(path.clone()));
            assert_eq!(printer.abandon(), None, "{format:?}: nothing has begun");
            printer.begin(&batch().schema()).expect("begins");
            printer.rows(&batch()).expect("prints");
            let said = printer.abandon();
            assert_eq!(said.is_some(), expected.is_some(), "{format:?}: {said:?}");
            assert!(
                said.iter().all(|said| said.contains("did not come to its end")),
                "{said:?}"
            );
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), expected, "{format:?}");
            assert_eq!(printer.abandon(), None, "{format:?}: it is said once");
        };
        check(OutputFormat::Csv, Some("id,name\n1,\"a,\"\"b\"\"\"\n2,\n3,\"\"\n"));
        check(OutputFormat::Parquet, None);
        let files = fs::read_dir(directory.path()).expect("lists").count();
        assert_eq!(files, 1, "nothing is left of the Parquet file");
        // A table's sample was not printed yet.
        let mut printer = Printer::new(OutputFormat::Table, Some(directory.path().join("table")));
        printer.begin(&batch().schema()).expect("begins");
        printer.rows(&batch()).expect("prints");
        assert_eq!(printer.abandon(), None);
        // What is whole is not spoken of.
        let mut printer = Printer::new(OutputFormat::Csv, Some(directory.path().join("whole")));
        print(&mut printer, &[batch()]).expect("prints");
        assert_eq!(printer.abandon(), None);
    }

    #[test]
    fn a_file_holds_rows_of_one_format() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out");
        let mut printer = Printer::new(OutputFormat::Csv, Some(path.clone()));
        print(&mut printer, &[batch()]).expect("prints");
        for other in [OutputFormat::Json, OutputFormat::Table, OutputFormat::Parquet] {
            printer.set_format(other);
            printer.check().expect_err("the file holds CSV");
        }
        printer.set_format(OutputFormat::Csv);
        printer.check().expect("as before");
        printer.set_format(OutputFormat::Json);
        printer.redirect(Some(directory.path().join("other")));
        printer.check().expect("nothing is in it yet");
        printer.redirect(Some(path));
        printer.check().expect("it is overwritten");
        let mut printer = Printer::new(OutputFormat::Table, Some(directory.path().join("read")));
        print(&mut printer, &[batch()]).expect("prints");
        printer.set_format(OutputFormat::Record);
        printer.check().expect("people read both");
    }

    #[test]
    fn a_parquet_file_holds_one_result() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out.parquet");
        let mut printer = Printer::new(OutputFormat::Parquet, Some(path.clone()));
        assert_eq!(printer.check(), Ok(()));
        print(&mut printer, &[batch(), batch()]).expect("prints");
        assert!(fs::read(&path).expect("it is there").starts_with(b"PAR1"));
        assert!(printer.check().is_err(), "it is full");
        printer.redirect(Some(directory.path().join("other")));
        assert_eq!(printer.check(), Ok(()));
        // Neither can follow the other.
        printer.set_format(OutputFormat::Csv);
        print(&mut printer, &[batch()]).expect("prints");
        assert_eq!(printer.check(), Ok(()));
        printer.set_format(OutputFormat::Parquet);
        assert!(printer.check().is_err(), "it holds CSV");
    }
}
