//! Reads rows of a segment as batches of columns: which pages are needed, in what steps they are fetched, and which rows come out.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowSelection};
use parquet::arrow::push_decoder::ParquetPushDecoderBuilder;
use parquet::basic::Type;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::{OffsetIndexMetaData, PageLocation};

use crate::error::StoreError;
use crate::segment::file::SegmentFile;
use crate::segment::{RowNumbers, SegmentColumn};
use crate::tuning::{FIRST_BATCH_ROWS, PAGE_ROWS, SEGMENT_BATCH_BYTES, SEGMENT_FIRST_ROWS, SEGMENT_READAHEAD_BYTES};

/// How much of a file is read and decoded at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadSize {
    /// Rows of a batch at most.
    pub(crate) batch_rows: usize,
    /// Bytes of a batch, about: of long rows there are fewer.
    pub(crate) batch_bytes: usize,
    /// Bytes of the file that are read at once, about; at least a page of each column.
    pub(crate) step_bytes: u64,
}

impl ReadSize {
    /// So many rows at once, unless they are long.
    pub(crate) fn of_rows(batch_rows: usize) -> Self {
        Self {
            batch_rows,
            batch_bytes: SEGMENT_BATCH_BYTES,
            step_bytes: SEGMENT_READAHEAD_BYTES,
        }
    }
}

/// Batches of some columns of some rows, in order.
#[derive(Debug)]
pub(crate) struct SegmentRead {
    file: Arc<SegmentFile>,
    cursor: Cursor,
    outputs: Vec<Output>,
}

/// What becomes a column of the batches, by position among the columns that are read.
#[derive(Debug)]
enum Output {
    Column(usize),
    Key(Vec<usize>),
}

impl SegmentRead {
    pub(super) fn new(
        file: Arc<SegmentFile>,
        columns: &[SegmentColumn],
        rows: Vec<Range<u32>>,
        size: ReadSize,
    ) -> Result<Self, StoreError> {
        let mut positions = Vec::new();
        let mut outputs = Vec::with_capacity(columns.len());
        let mut add = |position: usize| match positions.iter().position(|&known| known == position) {
            Some(at) => at,
            None => {
                positions.push(position);
                positions.len() - 1
            }
        };
        for &column in columns {
            outputs.push(match column {
                SegmentColumn::Key => {
                    let keys = file.keys.as_ref().ok_or_else(|| file.keyless())?;
                    Output::Key(keys.positions().iter().map(|&position| add(position)).collect())
                }
                other => Output::Column(add(file
                    .layout
                    .position(other)
                    .ok_or_else(|| file.blocks.corrupt(format!("it has no column for {other:?}")))?)),
            });
        }
        Ok(Self {
            cursor: Cursor::new(&file, &positions, rows, size)?,
            file,
            outputs,
        })
    }

    /// Rows of a batch at most: those asked for, or fewer if they are long.
    pub(crate) fn batch_rows(&self) -> usize {
        self.cursor.size.batch_rows
    }

    /// Begins with short batches, of about so many rows; later ones have as many as they may.
    pub(crate) fn begin_with(&mut self, rows: usize) {
        self.cursor.begin_with(rows);
    }

    /// The next batch: the numbers of its rows, its columns, and how many rows it has. `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(RowNumbers, Vec<ArrayRef>, usize)>, StoreError> {
        let Some((numbers, columns, rows)) = self.file.noted(|| self.cursor.next(&self.file))? else {
            return Ok(None);
        };
        let mut out = Vec::with_capacity(self.outputs.len());
        for output in &self.outputs {
            out.push(match output {
                Output::Column(at) => columns[*at].clone(),
                Output::Key(positions) => {
                    let key: Vec<ArrayRef> = positions.iter().map(|&at| columns[at].clone()).collect();
                    let keys = self.file.keys.as_ref().ok_or_else(|| self.file.keyless())?;
                    Arc::new(keys.encode_all(&key)?)
                }
            });
        }
        Ok(Some((numbers, out, rows)))
    }
}

/// Reads columns of the file as the schema has them. It goes in steps, each inside one row group: what a step needs is fetched
/// and verified at once and held while it is decoded.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The columns wanted, by position in the file.
    positions: Vec<usize>,
    projection: ProjectionMask,
    /// Rows of the steps to come.
    rest: VecDeque<Range<u32>>,
    /// Rows of this step that have not come out.
    current: VecDeque<Range<u32>>,
    reader: Option<ParquetRecordBatchReader>,
    size: ReadSize,
    /// Rows that the next step takes at most.
    step_rows: usize,
    /// Rows of a batch of the next step at most.
    batch_rows: usize,
}

impl Cursor {
    pub(super) fn new(
        file: &SegmentFile,
        positions: &[usize],
        rows: Vec<Range<u32>>,
        mut size: ReadSize,
    ) -> Result<Self, StoreError> {
        let mut last = 0;
        for range in &rows {
            if range.start < last || range.is_empty() || range.end > file.rows() {
                return Err(StoreError::Unsupported(format!(
                    "rows {} to {} cannot be read: there are {}, and ranges have to be sorted",
                    range.start,
                    range.end,
                    file.rows()
                )));
            }
            last = range.end;
        }
        let metadata = file.metadata.metadata();
        let projection = ProjectionMask::roots(metadata.file_metadata().schema_descr(), positions.iter().copied());
        // Long rows come in fewer: a batch is to hold about so many bytes.
        let longest = metadata.row_groups().iter().map(|group| {
            let columns = group.columns().iter().enumerate();
            let projected = columns.filter(|(leaf, _)| projection.leaf_included(*leaf));
            let bytes: u64 = projected.map(|(_, column)| decoded_bytes(column)).sum();
            bytes / u64::try_from(group.num_rows()).unwrap_or(0).max(1)
        });
        let longest = usize::try_from(longest.max().unwrap_or(0)).unwrap_or(usize::MAX);
        size.batch_rows = size.batch_rows.min(size.batch_bytes / longest.max(1)).max(1);
        Ok(Self {
            positions: positions.to_vec(),
            projection,
            rest: rows.into(),
            current: VecDeque::new(),
            reader: None,
            size,
            step_rows: SEGMENT_FIRST_ROWS.max(size.batch_rows),
            batch_rows: size.batch_rows,
        })
    }

    /// The first step reads a page, in batches of about so many rows. With the steps grow their batches, so that there are never
    /// many of them.
    fn begin_with(&mut self, rows: usize) {
        self.batch_rows = rows.clamp(FIRST_BATCH_ROWS.min(self.size.batch_rows), self.size.batch_rows);
        self.step_rows = PAGE_ROWS.max(self.batch_rows);
    }

    /// The next batch: row numbers, columns in the order asked for, number of rows.
    pub(super) fn next(
        &mut self,
        file: &SegmentFile,
    ) -> Result<Option<(RowNumbers, Vec<ArrayRef>, usize)>, StoreError> {
        if self.positions.is_empty() {
            let numbers = take_rows(&mut self.rest, self.size.batch_rows);
            return Ok(numbers.map(|(numbers, rows)| (numbers, Vec::new(), rows)));
        }
        loop {
            if let Some(batch) = self.reader.as_mut().and_then(Iterator::next) {
                let batch = batch.map_err(|error| file.blocks.corrupt(error))?;
                let (numbers, rows) = take_rows(&mut self.current, batch.num_rows())
                    .filter(|(_, rows)| *rows == batch.num_rows())
                    .ok_or_else(|| file.blocks.corrupt("its pages have more rows than its index"))?;
                return Ok(Some((numbers, self.columns(file, &batch)?, rows)));
            }
            if !self.current.is_empty() {
                return Err(file.blocks.corrupt("its pages have fewer rows than its index"));
            }
            if self.rest.is_empty() {
                return Ok(None);
            }
            self.start_step(file)?;
        }
    }

    /// The columns of a batch as the schema has them, in the order asked for.
    fn columns(&self, file: &SegmentFile, batch: &RecordBatch) -> Result<Vec<ArrayRef>, StoreError> {
        let mut columns = Vec::with_capacity(self.positions.len());
        for &position in &self.positions {
            // Batches have the columns in the order of the file.
            let at = self.positions.iter().filter(|&&other| other < position).count();
            let column = &file.layout.columns[position];
            let array = column.form.restore(&column.data_type, batch.column(at));
            columns.push(array.map_err(|problem| file.blocks.corrupt(problem))?);
        }
        Ok(columns)
    }

    /// Takes rows of one row group off the rest, fetches what they need and starts decoding.
    fn start_step(&mut self, file: &SegmentFile) -> Result<(), StoreError> {
        let Some(first) = self.rest.front().map(|range| range.start) else {
            return Ok(());
        };
        let group = file.index.group_of(first);
        let group_rows = file.index.groups().nth(group).unwrap_or(0..0);
        let end = self.span_end(file, group, &group_rows, first);
        let mut rows = 0;
        while let Some(range) = self.rest.pop_front() {
            let room = u32::try_from(self.step_rows - rows).unwrap_or(u32::MAX);
            let stop = range.end.min(end).min(range.start.saturating_add(room));
            if stop <= range.start {
                self.rest.push_front(range);
                break;
            }
            rows += (stop - range.start) as usize;
            self.current.push_back(range.start..stop);
            if stop < range.end {
                self.rest.push_front(stop..range.end);
                break;
            }
        }
        let most_rows = self.batch_rows;
        self.step_rows = self.step_rows.saturating_mul(4);
        self.batch_rows = self.batch_rows.saturating_mul(4).min(self.size.batch_rows);
        let in_group = (group_rows.end - group_rows.start) as usize;
        let last = self.current.back().map_or(first, |range| range.end - 1);
        let longest = self.longest_row(file, group, first - group_rows.start..last - group_rows.start + 1);
        let batch_rows = most_rows.min(self.size.batch_bytes / longest.max(1));
        let mut builder = ParquetPushDecoderBuilder::new_with_metadata(file.metadata.clone())
            .with_row_groups(vec![group])
            .with_projection(self.projection.clone())
            // Room for what is read, and no more: otherwise it would follow how many rows of others are beside them.
            .with_batch_size(batch_rows.min(rows).max(1));
        if rows < in_group {
            let relative = |row: u32| (row - group_rows.start) as usize;
            let ranges = self
                .current
                .iter()
                .map(|range| relative(range.start)..relative(range.end));
            builder = builder.with_row_selection(RowSelection::from_consecutive_ranges(ranges, in_group));
        }
        let mut decoder = builder.build().map_err(|error| file.blocks.corrupt(error))?;
        #[cfg(test)]
        let mut step = 0;
        loop {
            match decoder.try_next_reader().map_err(|error| file.blocks.corrupt(error))? {
                DecodeResult::NeedsData(ranges) => {
                    #[cfg(test)]
                    {
                        step += ranges
                            .iter()
                            .map(|range| (range.end - range.start) as usize)
                            .sum::<usize>();
                        crate::peak::note(|peak| peak.step = peak.step.max(step));
                    }
                    let (ranges, bytes) = file.blocks.read(&ranges)?.into_iter().unzip();
                    decoder
                        .push_ranges(ranges, bytes)
                        .map_err(|error| file.blocks.corrupt(error))?;
                }
                DecodeResult::Data(reader) => {
                    self.reader = Some(reader);
                    return Ok(());
                }
                DecodeResult::Finished => return Err(file.blocks.corrupt("a row group has no rows")),
            }
        }
    }

    /// The columns of a row group that are read, by their place in it.
    fn projected<'a>(
        &self,
        file: &'a SegmentFile,
        group: usize,
    ) -> impl Iterator<Item = (&'a ColumnChunkMetaData, Option<&'a OffsetIndexMetaData>)> {
        let metadata = file.metadata.metadata();
        let pages = metadata.offset_index().and_then(|groups| groups.get(group));
        let columns = metadata.row_group(group).columns().iter().enumerate();
        let projected = columns.filter(|(leaf, _)| self.projection.leaf_included(*leaf));
        projected.map(move |(leaf, column)| (column, pages.and_then(|pages| pages.get(leaf))))
    }

    /// The end of the rows from `first` on that may be read at once: so many bytes, at the end of a page, at least one page. The
    /// pages are those of the column that takes the most bytes.
    fn span_end(&self, file: &SegmentFile, group: usize, rows: &Range<u32>, first: u32) -> u32 {
        let stored = |column: &ColumnChunkMetaData| column.byte_range().1;
        let all: u64 = self.projected(file, group).map(|(column, _)| stored(column)).sum();
        let largest = self.projected(file, group).max_by_key(|(column, _)| stored(column));
        let Some((column, Some(index))) = largest else {
            return rows.end;
        };
        let locations = index.page_locations();
        let page = page_of(locations, first - rows.start);
        // The others are taken to be spread as this one is.
        let limit = self.size.step_bytes.saturating_mul(stored(column)) / all.max(1);
        let mut bytes = 0u64;
        let mut end = rows.end;
        for (at, location) in locations.iter().enumerate().skip(page) {
            bytes += u64::try_from(location.compressed_page_size).unwrap_or(0);
            if bytes > limit && at > page {
                end = rows.start + row_of(location);
                break;
            }
        }
        // Where rows are short, the pages of all columns begin at multiples of this.
        let even = rows.start + (end - rows.start) / PAGE_ROWS as u32 * PAGE_ROWS as u32;
        if end < rows.end && even > first { even } else { end }
    }

    /// Bytes of a row of these, decoded, in those pages where they are longest.
    fn longest_row(&self, file: &SegmentFile, group: usize, rows: Range<u32>) -> usize {
        let in_group = file.metadata.metadata().row_group(group).num_rows();
        let in_group = u64::try_from(in_group).unwrap_or(0).max(1);
        let mut bytes = 0u64;
        for (column, index) in self.projected(file, group) {
            let texts =
                index.and_then(|index| Some((index.page_locations(), index.unencoded_byte_array_data_bytes()?)));
            let Some((locations, texts)) = texts else {
                bytes += decoded_bytes(column).div_ceil(in_group);
                continue;
            };
            let pages = page_of(locations, rows.start)..locations.partition_point(|page| row_of(page) < rows.end);
            let longest = pages.map(|page| {
                let end = locations.get(page + 1).map_or(in_group, |next| u64::from(row_of(next)));
                let rows = end.saturating_sub(u64::from(row_of(&locations[page]))).max(1);
                let texts = texts.get(page).and_then(|&bytes| u64::try_from(bytes).ok());
                texts.unwrap_or(0).div_ceil(rows)
            });
            bytes += longest.max().unwrap_or(0) + size_of::<i32>() as u64;
        }
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

/// What a column of a row group takes in memory, about. In the file, equal values may take next to nothing.
fn decoded_bytes(column: &ColumnChunkMetaData) -> u64 {
    let values = u64::try_from(column.num_values()).unwrap_or(0);
    let texts = column
        .unencoded_byte_array_data_bytes()
        .and_then(|bytes| u64::try_from(bytes).ok());
    let width = match column.column_type() {
        Type::BOOLEAN => 1,
        Type::INT32 | Type::FLOAT => 4,
        Type::INT64 | Type::DOUBLE => 8,
        Type::INT96 => 12,
        Type::FIXED_LEN_BYTE_ARRAY => u64::try_from(column.column_descr().type_length()).unwrap_or(0),
        Type::BYTE_ARRAY => size_of::<i32>() as u64,
    };
    let stored = u64::try_from(column.uncompressed_size()).unwrap_or(0);
    match texts {
        Some(texts) => texts + values * width,
        None => stored.max(values * width),
    }
}

/// The page that a row, counted in its row group, is in.
fn page_of(locations: &[PageLocation], row: u32) -> usize {
    locations.partition_point(|page| row_of(page) <= row).saturating_sub(1)
}

/// The first row of a page, counted in its row group.
fn row_of(page: &PageLocation) -> u32 {
    u32::try_from(page.first_row_index).unwrap_or(u32::MAX)
}

/// Takes up to `limit` rows off the front; `None` if there are none.
fn take_rows(rows: &mut VecDeque<Range<u32>>, limit: usize) -> Option<(RowNumbers, usize)> {
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    let mut take = |limit: u32| {
        let range = rows.front_mut().filter(|_| limit > 0)?;
        let taken = range.start..range.end.min(range.start.saturating_add(limit));
        range.start = taken.end;
        if range.start == range.end {
            rows.pop_front();
        }
        Some(taken)
    };
    let first = take(limit)?;
    let mut count = first.end - first.start;
    let Some(mut next) = take(limit - count) else {
        return Some((RowNumbers::Range(first), count as usize));
    };
    // Ranges may follow each other without a gap, but most do not.
    let mut list: Vec<u32> = first.collect();
    loop {
        count += next.end - next.start;
        list.extend(next);
        match take(limit - count) {
            Some(range) => next = range,
            None => return Some((RowNumbers::List(list), count as usize)),
        }
    }
}
