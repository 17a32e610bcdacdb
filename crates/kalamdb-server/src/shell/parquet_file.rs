//! One result as a Parquet file, row group by row group; under its name it appears whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

/// Rows of a row group; what is not yet written is in memory.
const GROUP_ROWS: usize = 128 * 1024;

/// Bytes of a row group, where rows are large.
const GROUP_BYTES: usize = 64 << 20;

/// A file that is being written.
pub(crate) struct ParquetFile {
    writer: ArrowWriter<Box<dyn Write + Send>>,
    /// `None` once it stands under its name, and for what has none.
    unfinished: Option<Unfinished>,
}

/// A file beside the one it becomes. Dropped, it goes.
struct Unfinished {
    part: PathBuf,
    path: PathBuf,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is gone where it was given its name, or someone removed it.
        let _ = fs::remove_file(&self.part);
    }
}

impl ParquetFile {
    /// # Errors
    /// The directory cannot be written to, what has that name is no file, or a column's type is not Parquet's.
    pub(crate) fn create(path: &Path, schema: SchemaRef) -> io::Result<Self> {
        if path.exists() && !path.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is there and is no file",
            ));
        }
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
        let mut part = OsString::from(".");
        part.push(name);
        part.push(format!(".{}.part", process::id()));
        let part = path.with_file_name(part);
        let file = File::create(&part)?;
        let unfinished = Unfinished {
            part,
            path: path.to_owned(),
        };
        let mut parquet = ParquetFile::to(Box::new(file), schema)?;
        parquet.unfinished = Some(unfinished);
        Ok(parquet)
    }

    /// Into something without a name.
    ///
    /// # Errors
    /// A column's type is not Parquet's.
    pub(crate) fn to(out: Box<dyn Write + Send>, schema: SchemaRef) -> io::Result<Self> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        Ok(ParquetFile {
            writer: ArrowWriter::try_new(out, schema, Some(properties)).map_err(failure)?,
            unfinished: None,
        })
    }

    pub(crate) fn rows(&mut self, batch: &RecordBatch) -> io::Result<()> {
        self.writer.write(batch).map_err(failure)?;
        if self.writer.in_progress_size() >= GROUP_BYTES {
            self.writer.flush().map_err(failure)?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.writer.finish().map_err(failure)?;
        self.writer.inner_mut().flush()?;
        if let Some(unfinished) = &self.unfinished {
            fs::rename(&unfinished.part, &unfinished.path)?;
        }
        Ok(())
    }
}

fn failure(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(error) => io::Error::other(error),
        other => io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a column or value cannot be written as Parquet: {other}; cast it or choose another format"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Decimal128Array, StringArray, TimestampNanosecondArray};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    fn batch() -> RecordBatch {
        let amounts = Decimal128Array::from(vec![Some(-1), None]);
        let amounts: ArrayRef = Arc::new(amounts.with_precision_and_scale(38, 10).expect("it fits"));
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![i64::MIN, i64::MAX]).with_timezone("UTC"));
        let names: ArrayRef = Arc::new(StringArray::from(vec![Some(""), None]));
        RecordBatch::try_from_iter_with_nullable([
            ("amount", amounts, true),
            ("time", times, false),
            ("name", names, true),
        ])
        .expect("a batch")
    }

    #[test]
    fn a_result_comes_back_as_it_was() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("result.parquet");
        let mut file = ParquetFile::create(&path, batch().schema()).expect("creates");
        file.rows(&batch()).expect("writes");
        assert!(!path.exists(), "it is not whole");
        file.finish().expect("finishes");
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(File::open(&path).expect("it is there")).expect("it is Parquet");
        let batches: Vec<RecordBatch> = reader
            .build()
            .expect("reads")
            .map(|batch| batch.expect("reads"))
            .collect();
        assert_eq!(batches, [batch()]);
        assert_eq!(
            fs::read_dir(directory.path()).expect("lists").count(),
            1,
            "nothing is left beside it"
        );
    }

    #[test]
    fn what_is_given_up_leaves_the_old_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("result.parquet");
        fs::write(&path, "old").expect("writes");
        let mut file = ParquetFile::create(&path, batch().schema()).expect("creates");
        file.rows(&batch()).expect("writes");
        drop(file);
        assert_eq!(fs::read_to_string(&path).expect("reads"), "old");
        assert_eq!(
            fs::read_dir(directory.path()).expect("lists").count(),
            1,
            "nothing is left beside it"
        );
        assert!(ParquetFile::create(directory.path(), batch().schema()).is_err());
    }
}
