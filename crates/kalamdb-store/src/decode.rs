//! Many rows into one record batch: encoded rows are gathered as bytes, then taken apart column by column. Which rows is `hot`'s.
//!
//! Gathering first costs one copy of each row and makes the rest tight loops over one column each, without a branch on the type
//! of every value.

use std::sync::Arc;

use arrow::array::{
    ArrayData, ArrayRef, BinaryArray, BooleanArray, NullArray, RecordBatch, RecordBatchOptions,
    TimestampMicrosecondArray, UInt64Array, make_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{ArrowNativeType, DataType, SchemaRef};

use crate::error::StoreError;
use crate::ids::{Epoch, ScopeId, StoreId};
use crate::key::{self, KeyDecoder, KeyEncoder, KeyValues};
use crate::location::Location;
use crate::nested::NestedBuilder;
use crate::row::{self, Place, RowLayout};
use crate::scan::ScanColumn;
use crate::schema::StoreSchema;

/// The length of a hidden row id.
const ROW_ID_BYTES: usize = 8;

/// Decodes rows of one schema version into one projection.
pub(crate) struct RowDecoder {
    store: StoreId,
    scope: ScopeId,
    layout: RowLayout,
    key: Option<KeyDecoder>,
    columns: Vec<(ScanColumn, DataType)>,
    schema: SchemaRef,
    needs_keys: bool,
    needs_values: Values,
}

/// How much of a value the projection reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Values {
    None,
    /// Nothing variable.
    FixedPart,
    Whole,
}

/// Encoded rows that wait to be decoded together.
#[derive(Default)]
pub(crate) struct RowBuffer {
    rows: usize,
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    values: Vec<u8>,
    value_ends: Vec<usize>,
    /// The null bitmaps of all rows, or-ed: a column whose bit is clear has no nulls.
    any_null: Vec<u8>,
    /// The first row of each epoch.
    epochs: Vec<(usize, Epoch)>,
}

impl RowDecoder {
    pub(crate) fn new(
        schema: &StoreSchema,
        store: StoreId,
        scope: ScopeId,
        columns: &[ScanColumn],
        output: &SchemaRef,
    ) -> Result<Self, StoreError> {
        if columns.len() != output.fields().len() {
            return Err(StoreError::Unsupported(format!(
                "a scan of {} columns has {} names for them",
                columns.len(),
                output.fields().len()
            )));
        }
        let layout = RowLayout::new(schema)?;
        let key = match schema.key.is_empty() {
            true => None,
            false => Some(KeyDecoder::new(&KeyEncoder::new(schema)?)),
        };
        let (mut needs_keys, mut needs_values) = (false, Values::None);
        let mut need = |values: Values| {
            if needs_values != Values::Whole && values != Values::None {
                needs_values = values;
            }
        };
        let mut typed = Vec::with_capacity(columns.len());
        for &column in columns {
            let mut data_type = DataType::Null;
            match column {
                ScanColumn::Column(index) => {
                    let place = layout.place(index).ok_or_else(|| {
                        StoreError::Unsupported(format!("a scan names column {index}, which does not exist"))
                    })?;
                    data_type = schema.columns[index].data_type.clone();
                    match place {
                        Place::Key(_) => needs_keys = true,
                        Place::Null => {}
                        Place::Fixed { .. } | Place::Boolean { .. } => need(Values::FixedPart),
                        Place::Variable { .. } => {
                            // A string that is not UTF-8 is found when its column is built, and then has to be named.
                            needs_keys = true;
                            need(Values::Whole);
                        }
                    }
                }
                ScanColumn::Seq | ScanColumn::Updated => need(Values::FixedPart),
                ScanColumn::Key => needs_keys = true,
                ScanColumn::Location => {}
            }
            typed.push((column, data_type));
        }
        Ok(Self {
            store,
            scope,
            layout,
            key,
            columns: typed,
            schema: output.clone(),
            needs_keys,
            needs_values,
        })
    }

    /// Whether [`RowDecoder::push`] looks at the value at all.
    pub(crate) fn reads_values(&self) -> bool {
        self.layout.expiring() || self.needs_values != Values::None
    }

    /// Gathers one row, given the whole key and the value as stored, unless it is past its expiry.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if they are not a row of this schema.
    #[inline]
    pub(crate) fn push(
        &self,
        rows: &mut RowBuffer,
        epoch: Epoch,
        now_micros: i64,
        whole_key: &[u8],
        value: &[u8],
    ) -> Result<bool, StoreError> {
        if mistake!(MalformedRowsAreSkipped) && self.layout.check(value).is_err() {
            return Ok(false);
        }
        if self.reads_values() {
            self.layout
                .check(value)
                .map_err(|problem| corrupt(whole_key, &problem.to_string()))?;
            if self.layout.expiring() && row::expiry_of(value) <= now_micros && !mistake!(ExpiredRowsAreShown) {
                return Ok(false);
            }
        }
        if self.needs_keys {
            let key = whole_key
                .get(key::PREFIX_BYTES..)
                .ok_or_else(|| corrupt(whole_key, "the key ends early"))?;
            let checked = match &self.key {
                Some(decoder) => decoder.check(key),
                None if key.len() == ROW_ID_BYTES => Ok(()),
                None => Err("the row id has the wrong length"),
            };
            checked.map_err(|problem| corrupt(whole_key, problem))?;
            rows.keys.extend_from_slice(key);
            rows.key_ends.push(rows.keys.len());
        }
        if self.needs_values != Values::None {
            let kept = match self.needs_values {
                Values::Whole => value,
                _ => &value[..self.layout.fixed_len()],
            };
            rows.values.extend_from_slice(kept);
            rows.value_ends.push(rows.values.len());
            let nulls = self.layout.null_bytes(value);
            if rows.any_null.len() < nulls.len() {
                rows.any_null.resize(nulls.len(), 0);
            }
            for (any, &byte) in rows.any_null.iter_mut().zip(nulls) {
                *any |= byte;
            }
        }
        if rows.epochs.last().is_none_or(|&(_, last)| last != epoch) {
            rows.epochs.push((rows.rows, epoch));
        }
        rows.rows += 1;
        Ok(true)
    }

    /// Decodes what was gathered and empties the buffer.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] naming the row that does not decode.
    pub(crate) fn decode(&self, rows: &mut RowBuffer) -> Result<RecordBatch, StoreError> {
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, data_type) in &self.columns {
            arrays.push(self.column(rows, *column, data_type)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(|error| {
            StoreError::Corrupt {
                object: format!("store {}, scope {}", self.store, self.scope),
                problem: error.to_string(),
            }
        })?;
        rows.clear();
        Ok(batch)
    }

    fn column(&self, rows: &RowBuffer, column: ScanColumn, data_type: &DataType) -> Result<ArrayRef, StoreError> {
        Ok(match column {
            ScanColumn::Column(index) => match self.layout.place(index).unwrap_or(Place::Null) {
                Place::Null => Arc::new(NullArray::new(rows.rows)),
                Place::Key(position) => self.key_column(rows, position, data_type)?,
                Place::Fixed { bit, offset, width } => {
                    let values = fixed_values(rows, offset, width);
                    self.build(rows, data_type, self.nulls(rows, bit), vec![values])?
                }
                Place::Boolean { bit, offset } => {
                    if let Some(number) = rows.values().position(|row| row[offset] > 1) {
                        return Err(self.corrupt_row(rows, number, "a boolean is neither 0 nor 1"));
                    }
                    let bits: BooleanBuffer = rows.values().map(|row| row[offset] == 1).collect();
                    Arc::new(BooleanArray::new(bits, self.nulls(rows, bit)))
                }
                Place::Variable {
                    bit,
                    index,
                    nested: false,
                } => {
                    let buffers = match data_type {
                        DataType::LargeUtf8 | DataType::LargeBinary => self.variable_values::<i64>(rows, index)?,
                        _ => self.variable_values::<i32>(rows, index)?,
                    };
                    self.build(rows, data_type, self.nulls(rows, bit), buffers)?
                }
                Place::Variable {
                    bit,
                    index,
                    nested: true,
                } => self.nested_column(rows, bit, index, data_type)?,
            },
            ScanColumn::Seq => Arc::new(UInt64Array::from_iter_values(rows.values().map(row::seq_of))),
            ScanColumn::Updated => {
                let values = TimestampMicrosecondArray::from_iter_values(rows.values().map(row::updated_of));
                Arc::new(values.with_timezone("UTC"))
            }
            ScanColumn::Key => {
                let offsets = OffsetBuffer::from_lengths(rows.keys().map(<[u8]>::len));
                Arc::new(BinaryArray::new(offsets, Buffer::from_slice_ref(&rows.keys), None))
            }
            ScanColumn::Location => {
                let mut locations = Vec::with_capacity(rows.rows);
                for (index, &(_, epoch)) in rows.epochs.iter().enumerate() {
                    let end = rows.epochs.get(index + 1).map_or(rows.rows, |next| next.0);
                    locations.resize(end, Location::Hot(epoch).to_bits());
                }
                Arc::new(UInt64Array::from(locations))
            }
        })
    }

    fn nulls(&self, rows: &RowBuffer, bit: usize) -> Option<NullBuffer> {
        if rows
            .any_null
            .get(bit / 8)
            .is_none_or(|byte| byte & (1 << (bit % 8)) == 0)
        {
            return None;
        }
        let valid: BooleanBuffer = rows.values().map(|row| !self.layout.is_null(row, bit)).collect();
        Some(NullBuffer::new(valid))
    }

    fn variable_values<O: ArrowNativeType>(&self, rows: &RowBuffer, index: usize) -> Result<Vec<Buffer>, StoreError> {
        let mut offsets = Vec::with_capacity(rows.rows + 1);
        let mut total = 0;
        offsets.push(O::default());
        for row in rows.values() {
            let (start, end) = self.layout.variable(row, index);
            total += end - start;
            // A batch is cut at a few MiB and a row has at most 16 MiB, so this fits 32 bits.
            offsets.push(O::from_usize(total).ok_or_else(|| self.unnamed("a batch has too many bytes"))?);
        }
        let mut bytes = Vec::with_capacity(total);
        for row in rows.values() {
            let (start, end) = self.layout.variable(row, index);
            bytes.extend_from_slice(&row[start..end]);
        }
        Ok(vec![Buffer::from_vec(offsets), Buffer::from_vec(bytes)])
    }

    fn nested_column(
        &self,
        rows: &RowBuffer,
        bit: usize,
        index: usize,
        data_type: &DataType,
    ) -> Result<ArrayRef, StoreError> {
        let mut builder = NestedBuilder::new(data_type, rows.rows)?;
        for (number, row) in rows.values().enumerate() {
            if self.layout.is_null(row, bit) {
                builder.append_null();
                continue;
            }
            let (start, end) = self.layout.variable(row, index);
            let mut input = &row[start..end];
            if builder.append(&mut input).is_none() || !input.is_empty() {
                return Err(self.corrupt_row(rows, number, &format!("a value is not a {data_type}")));
            }
        }
        match builder.finish() {
            Ok(data) => Ok(make_array(data)),
            Err(problem) => Err(self.blame(rows, &problem, |row| {
                let mut single = NestedBuilder::new(data_type, 1)?;
                let (start, end) = self.layout.variable(row, index);
                if self.layout.is_null(row, bit) || single.append(&mut &row[start..end]).is_none() {
                    return Ok(true);
                }
                Ok(single.finish().is_ok())
            })),
        }
    }

    fn key_column(&self, rows: &RowBuffer, position: usize, data_type: &DataType) -> Result<ArrayRef, StoreError> {
        let decoder = self
            .key
            .as_ref()
            .ok_or_else(|| self.unnamed("a key column without a key"))?;
        let values = decoder.decode(position, rows.keys()).map_err(|problem| {
            let wrong = rows
                .keys()
                .position(|key| decoder.decode(position, std::iter::once(key)).is_err());
            self.corrupt_row(rows, wrong.unwrap_or(0), problem)
        })?;
        match values {
            KeyValues::Fixed(buffer) => self.build(rows, data_type, None, vec![buffer]),
            KeyValues::Boolean(values) => Ok(Arc::new(BooleanArray::from(values))),
            KeyValues::Bytes(ends, bytes) => {
                let offsets = match data_type {
                    DataType::LargeUtf8 | DataType::LargeBinary => {
                        Buffer::from_iter(std::iter::once(0i64).chain(ends.iter().map(|&end| end as i64)))
                    }
                    _ => {
                        if i32::try_from(bytes.len()).is_err() {
                            return Err(self.unnamed("a batch has too many bytes"));
                        }
                        Buffer::from_iter(std::iter::once(0i32).chain(ends.iter().map(|&end| end as i32)))
                    }
                };
                self.build(rows, data_type, None, vec![offsets, Buffer::from_vec(bytes)])
            }
        }
    }

    /// Lets Arrow check the buffers and makes an array of them.
    fn build(
        &self,
        rows: &RowBuffer,
        data_type: &DataType,
        nulls: Option<NullBuffer>,
        buffers: Vec<Buffer>,
    ) -> Result<ArrayRef, StoreError> {
        let bytes = buffers.clone();
        match ArrayData::builder(data_type.clone())
            .len(rows.rows)
            .nulls(nulls)
            .buffers(buffers)
            .build()
        {
            Ok(data) => Ok(make_array(data)),
            // Only text can be wrong here: find the row whose text it is.
            Err(error) => {
                let number = bytes
                    .first()
                    .zip(bytes.last())
                    .and_then(|(offsets, values)| match data_type {
                        DataType::Utf8 => first_bad_text(offsets.typed_data::<i32>(), values),
                        DataType::LargeUtf8 => first_bad_text(offsets.typed_data::<i64>(), values),
                        _ => None,
                    });
                Err(match number {
                    Some(number) => self.corrupt_row(rows, number, "a text value is not UTF-8"),
                    None => self.unnamed(&error.to_string()),
                })
            }
        }
    }

    /// Names the first row that `is_sound` rejects.
    fn blame(
        &self,
        rows: &RowBuffer,
        problem: &str,
        is_sound: impl Fn(&[u8]) -> Result<bool, StoreError>,
    ) -> StoreError {
        for (number, row) in rows.values().enumerate() {
            match is_sound(row) {
                Ok(true) => {}
                Ok(false) => return self.corrupt_row(rows, number, problem),
                Err(error) => return error,
            }
        }
        self.unnamed(problem)
    }

    fn corrupt_row(&self, rows: &RowBuffer, number: usize, problem: &str) -> StoreError {
        let epoch = rows
            .epochs
            .iter()
            .rev()
            .find(|(first, _)| *first <= number)
            .map_or(Epoch(0), |&(_, epoch)| epoch);
        let mut whole = key::scope_prefix(self.store, epoch, self.scope).to_vec();
        whole.extend_from_slice(rows.keys().nth(number).unwrap_or_default());
        corrupt(&whole, problem)
    }

    fn unnamed(&self, problem: &str) -> StoreError {
        StoreError::Corrupt {
            object: format!("store {}, scope {}", self.store, self.scope),
            problem: problem.to_string(),
        }
    }
}

impl RowBuffer {
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes gathered.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.len() + self.values.len()
    }

    fn keys(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        pieces(&self.keys, &self.key_ends)
    }

    #[inline]
    fn values(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        pieces(&self.values, &self.value_ends)
    }

    fn clear(&mut self) {
        self.rows = 0;
        self.keys.clear();
        self.key_ends.clear();
        self.values.clear();
        self.value_ends.clear();
        self.any_null.clear();
        self.epochs.clear();
    }
}

#[inline]
fn pieces<'a>(bytes: &'a [u8], ends: &'a [usize]) -> impl ExactSizeIterator<Item = &'a [u8]> {
    let mut start = 0;
    ends.iter().map(move |&end| {
        let piece = &bytes[start..end];
        start = end;
        piece
    })
}

fn fixed_values(rows: &RowBuffer, offset: usize, width: usize) -> Buffer {
    macro_rules! gather {
        ($type:ty) => {{
            let mut values = Vec::with_capacity(rows.rows);
            values.extend(rows.values().map(|row| {
                <$type>::from_le_bytes(*row[offset..].first_chunk().expect("a checked row has all its slots"))
            }));
            Buffer::from_vec(values)
        }};
    }
    match width {
        1 => gather!(u8),
        2 => gather!(u16),
        4 => gather!(u32),
        8 => gather!(u64),
        16 => gather!(i128),
        _ => {
            let mut values = MutableBuffer::with_capacity(rows.rows * width);
            for row in rows.values() {
                values.extend_from_slice(&row[offset..offset + width]);
            }
            values.into()
        }
    }
}

fn first_bad_text<O: ArrowNativeType>(offsets: &[O], bytes: &[u8]) -> Option<usize> {
    offsets.windows(2).position(|pair| {
        let text = bytes.get(pair[0].as_usize()..pair[1].as_usize()).unwrap_or_default();
        std::str::from_utf8(text).is_err()
    })
}

/// An error that names a row by its whole key.
pub(crate) fn corrupt(whole_key: &[u8], problem: &str) -> StoreError {
    StoreError::Corrupt {
        object: key::describe(whole_key),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
