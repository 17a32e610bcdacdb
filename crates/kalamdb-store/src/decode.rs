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
pub(crate) mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanBuilder, Decimal128Array, Decimal256Array, FixedSizeBinaryArray, Float16Array, Float64Array, Int32Array,
        Int64Array, IntervalMonthDayNanoArray, ListArray, StringArray, StructArray, new_null_array,
    };
    use arrow::compute::concat;
    use arrow::datatypes::{
        Field, Fields, Float64Type, Int32Type, IntervalMonthDayNano, IntervalUnit, Schema, TimeUnit, i256,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{ColumnId, Epoch, SchemaVersion};
    use crate::schema::{Lifetime, StoredColumn};
    use crate::{RowEncoder, Seq};

    const EPOCH: Epoch = Epoch(3);

    fn store_schema(types: &[DataType], key: Vec<usize>) -> StoreSchema {
        let column = |(id, data_type): (usize, &DataType)| StoredColumn {
            id: ColumnId(id as u32),
            data_type: data_type.clone(),
        };
        StoreSchema {
            version: SchemaVersion(4),
            columns: types.iter().enumerate().map(column).collect(),
            key,
            lifetime: Lifetime::Durable,
        }
    }

    fn output(schema: &StoreSchema, columns: &[usize]) -> (Vec<ScanColumn>, SchemaRef) {
        let fields: Vec<Field> = columns
            .iter()
            .map(|&column| Field::new("c", schema.columns[column].data_type.clone(), true))
            .collect();
        (
            columns.iter().map(|&column| ScanColumn::Column(column)).collect(),
            Arc::new(Schema::new(fields)),
        )
    }

    fn decode_rows(
        schema: &StoreSchema,
        columns: &[usize],
        rows: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<RecordBatch, StoreError> {
        let (columns, output) = output(schema, columns);
        let decoder = RowDecoder::new(schema, StoreId(1), ScopeId(2), &columns, &output)?;
        let mut buffer = RowBuffer::default();
        for (key, value) in rows {
            let whole = [key::scope_prefix(StoreId(1), Epoch(3), ScopeId(2)).as_slice(), key].concat();
            decoder.push(&mut buffer, EPOCH, 0, &whole, value)?;
        }
        decoder.decode(&mut buffer)
    }

    /// Decodes all columns of a schema that has key columns only.
    pub(crate) fn decode_keys(schema: &StoreSchema, keys: &[Vec<u8>]) -> Result<RecordBatch, StoreError> {
        let rows: Vec<_> = keys.iter().map(|key| (key.clone(), vec![])).collect();
        decode_rows(schema, &(0..schema.columns.len()).collect::<Vec<_>>(), &rows)
    }

    /// One column of each type that can be stored, two rows with values (edges first) and one with nulls.
    pub(crate) fn every_type() -> Vec<ArrayRef> {
        let item = |data_type: DataType| Arc::new(Field::new("item", data_type, true));
        let mut out: Vec<ArrayRef> = Vec::new();
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, -2]));
        let small: ArrayRef = Arc::new(Int32Array::from(vec![0, 100]));
        for data_type in [
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::Float32,
            DataType::Decimal32(9, 2),
            DataType::Decimal64(18, 3),
            DataType::Duration(TimeUnit::Microsecond),
            DataType::Timestamp(TimeUnit::Second, None),
            DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Berlin".into())),
            DataType::Date64,
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Time64(TimeUnit::Nanosecond),
        ] {
            out.push(arrow::compute::cast(&numbers, &data_type).unwrap_or_else(|error| panic!("{data_type}: {error}")));
        }
        for data_type in [
            DataType::UInt8,
            DataType::UInt16,
            DataType::UInt32,
            DataType::UInt64,
            DataType::Date32,
            DataType::Time32(TimeUnit::Second),
            DataType::Time32(TimeUnit::Millisecond),
            DataType::Interval(IntervalUnit::YearMonth),
        ] {
            out.push(arrow::compute::cast(&small, &data_type).unwrap_or_else(|error| panic!("{data_type}: {error}")));
        }
        out.push(Arc::new(Float64Array::from(vec![f64::NAN, -0.0])));
        out.push(Arc::new(Float16Array::from_iter_values([half(1), half(0)])));
        out.push(Arc::new(Decimal128Array::from(vec![i128::from(i64::MAX) * 5, -1])));
        out.push(Arc::new(Decimal256Array::from(vec![
            i256::from_parts(7, 9),
            i256::from_i128(-1),
        ])));
        let interval = |months, days, nanos| IntervalMonthDayNano::new(months, days, nanos);
        out.push(Arc::new(IntervalMonthDayNanoArray::from(vec![
            interval(-1, 2, -3),
            interval(0, 0, 1),
        ])));
        let day_time = arrow::datatypes::IntervalDayTime::new(-3, 4);
        out.push(Arc::new(arrow::array::IntervalDayTimeArray::from(vec![day_time; 2])));
        let mut booleans = BooleanBuilder::new();
        booleans.append_value(true);
        booleans.append_value(false);
        out.push(Arc::new(booleans.finish()));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["", "zwölf\0"]));
        for data_type in [
            DataType::Utf8,
            DataType::LargeUtf8,
            DataType::Binary,
            DataType::LargeBinary,
        ] {
            out.push(arrow::compute::cast(&text, &data_type).expect("casts"));
        }
        out.push(Arc::new(
            FixedSizeBinaryArray::try_from_iter([[1u8, 2, 3], [0, 0, 0]].iter()).expect("an array"),
        ));
        let list =
            ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![]), Some(vec![Some(1), None, Some(3)])]);
        out.push(Arc::new(list));
        let fixed = arrow::array::FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(
            [Some(vec![Some(1.5), None]), Some(vec![Some(-0.0), Some(2.0)])],
            2,
        );
        out.push(Arc::new(fixed));
        let fields: Fields = vec![
            Field::new("a", DataType::Utf8, true),
            Field::new("b", DataType::Boolean, true),
        ]
        .into();
        let inner: ArrayRef = Arc::new(StructArray::new(
            fields,
            vec![
                Arc::new(StringArray::from(vec![Some("x"), None])),
                Arc::new(BooleanArray::from(vec![None, Some(true)])),
            ],
            None,
        ));
        out.push(inner.clone());
        out.push(Arc::new(arrow::array::LargeListArray::new(
            item(inner.data_type().clone()),
            OffsetBuffer::from_lengths([0, 2]),
            inner,
            None,
        )));
        let mut map = arrow::array::MapBuilder::new(
            None,
            arrow::array::StringBuilder::new(),
            arrow::array::Int32Builder::new(),
        );
        map.keys().append_value("k");
        map.values().append_null();
        map.append(true).expect("a map");
        map.append(true).expect("a map");
        out.push(Arc::new(map.finish()));
        let mut all: Vec<ArrayRef> = out
            .into_iter()
            .map(|array| concat(&[&array, &new_null_array(array.data_type(), 1)]).expect("of one type"))
            .collect();
        all.push(Arc::new(NullArray::new(3)));
        all
    }

    fn half(bits: usize) -> <arrow::datatypes::Float16Type as arrow::array::ArrowPrimitiveType>::Native {
        ArrowNativeType::usize_as(bits)
    }

    fn encode_rows(schema: &StoreSchema, columns: &[ArrayRef]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let encoder = RowEncoder::new(Arc::new(schema.clone())).expect("a schema");
        let keys = KeyEncoder::new(schema).expect("a key");
        (0..columns[0].len())
            .map(|row| {
                let mut key = Vec::new();
                if schema.key.is_empty() {
                    key.extend_from_slice(&(row as u64).to_be_bytes());
                } else {
                    let columns: Vec<ArrayRef> = schema.key.iter().map(|&index| columns[index].clone()).collect();
                    keys.encode(&columns, row, &mut key).expect("encodes");
                }
                (key, encoder.encode(columns, row, None).expect("encodes"))
            })
            .collect()
    }

    fn types_of(columns: &[ArrayRef]) -> Vec<DataType> {
        columns.iter().map(|column| column.data_type().clone()).collect()
    }

    fn assert_same(batch: &RecordBatch, columns: &[ArrayRef]) {
        for (decoded, given) in batch.columns().iter().zip(columns) {
            // By data, so that NaN and -0.0 are compared as bits.
            assert_eq!(decoded.data_type(), given.data_type());
            assert_eq!(format!("{:?}", decoded), format!("{:?}", given));
            if !decoded.data_type().is_floating() {
                assert_eq!(decoded, given);
            }
        }
    }

    #[test]
    fn every_type_comes_back_as_it_was() {
        let columns = every_type();
        let schema = store_schema(&types_of(&columns), vec![]);
        let rows = encode_rows(&schema, &columns);
        let all: Vec<usize> = (0..columns.len()).collect();
        assert_same(&decode_rows(&schema, &all, &rows).expect("decodes"), &columns);
        // Each alone, so that a projection without variable columns is read from the fixed part.
        for (index, column) in columns.iter().enumerate() {
            let batch = decode_rows(&schema, &[index], &rows).expect("decodes");
            assert_same(&batch, std::slice::from_ref(column));
        }
        // Rows without any null.
        let sound: Vec<ArrayRef> = columns.iter().map(|column| column.slice(0, 2)).collect();
        assert_same(&decode_rows(&schema, &all, &rows[..2]).expect("decodes"), &sound);
    }

    #[test]
    fn not_a_number_and_minus_zero_keep_their_bits() {
        let bits = [
            f64::NAN.to_bits() | 5,
            (-0.0f64).to_bits(),
            f64::NEG_INFINITY.to_bits(),
            1,
        ];
        let column: ArrayRef = Arc::new(Float64Array::from_iter_values(bits.map(f64::from_bits)));
        let schema = store_schema(&[DataType::Float64], vec![]);
        let batch = decode_rows(&schema, &[0], &encode_rows(&schema, &[column])).expect("decodes");
        let values = batch.column(0).as_any().downcast_ref::<Float64Array>().expect("floats");
        assert_eq!(
            values.values().iter().map(|value| value.to_bits()).collect::<Vec<_>>(),
            bits
        );
    }

    #[test]
    fn slices_of_arrays_are_encoded_at_their_own_rows() {
        let columns: Vec<ArrayRef> = every_type().iter().map(|column| column.slice(1, 2)).collect();
        let schema = store_schema(&types_of(&columns), vec![]);
        let all: Vec<usize> = (0..columns.len()).collect();
        assert_same(
            &decode_rows(&schema, &all, &encode_rows(&schema, &columns)).expect("decodes"),
            &columns,
        );
    }

    #[test]
    fn key_columns_come_from_the_key() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["a", "b\0"])),
            Arc::new(Int32Array::from(vec![None, Some(2)])),
            Arc::new(Int64Array::from(vec![-1, 1])),
        ];
        let schema = store_schema(&types_of(&columns), vec![2, 0]);
        let rows = encode_rows(&schema, &columns);
        // Only the number in the middle is in the value: header, a null bitmap of one byte, one slot.
        assert_eq!(rows[0].1.len(), row::HEADER_BYTES + 1 + 4);
        assert_same(&decode_rows(&schema, &[0, 1, 2], &rows).expect("decodes"), &columns);
    }

    #[test]
    fn a_row_tells_the_epoch_that_holds_it() {
        let schema = store_schema(&[DataType::Int32], vec![]);
        let column: ArrayRef = Arc::new(Int32Array::from(vec![5]));
        let (key, mut value) = encode_rows(&schema, &[column]).remove(0);
        row::stamp(&mut value, Seq(3), 0);
        let fields = vec![
            Field::new("s", DataType::UInt64, false),
            Field::new(
                "u",
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                false,
            ),
            Field::new("l", DataType::UInt64, false),
        ];
        let columns = [ScanColumn::Seq, ScanColumn::Updated, ScanColumn::Location];
        let decoder = RowDecoder::new(
            &schema,
            StoreId(1),
            ScopeId(2),
            &columns,
            &Arc::new(Schema::new(fields)),
        )
        .expect("compiles");
        let whole = [key::scope_prefix(StoreId(1), Epoch(3), ScopeId(2)).as_slice(), &key].concat();
        let mut rows = RowBuffer::default();
        decoder.push(&mut rows, EPOCH, 0, &whole, &value).expect("a row");
        decoder.push(&mut rows, Epoch(9), 0, &whole, &value).expect("a row");
        let batch = decoder.decode(&mut rows).expect("decodes");
        assert_eq!(batch.column(0).as_ref(), &UInt64Array::from(vec![3, 3]));
        assert_eq!(
            batch.column(1).as_ref(),
            &TimestampMicrosecondArray::from(vec![0, 0]).with_timezone("UTC")
        );
        assert_eq!(batch.column(2).as_ref(), &UInt64Array::from(vec![3, 9]));
    }

    #[test]
    fn corrupt_rows_are_named_and_never_skipped() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec!["ab", "cd"])),
            Arc::new(BooleanArray::from(vec![true, true])),
        ];
        let schema = store_schema(&types_of(&columns), vec![]);
        let rows = encode_rows(&schema, &columns);
        // flags 0, seq 1..9, updated 9..17, version 17..21, bitmap 21, boolean 22, end offset 23..27, text 27..29
        for (name, position, byte, problem) in [
            ("flags", 0, 0x80, "flags"),
            ("lifetime", 0, 1, "lifetime"),
            ("version", 17, 9, "schema version 9"),
            ("boolean", 22, 2, "boolean"),
            ("offset", 23, 9, "offsets"),
            ("text", 28, 0xFF, "UTF-8"),
        ] {
            let mut broken = rows.clone();
            broken[1].1[position] = byte;
            match decode_rows(&schema, &[0, 1], &broken) {
                Err(StoreError::Corrupt { object, problem: found }) => {
                    assert_eq!(object, "store 1, epoch 3, scope 2, key 0000000000000001", "{name}");
                    assert!(found.contains(problem), "{name}: {found}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn schemas_that_cannot_be_stored_are_refused() {
        let item = |data_type: DataType| Arc::new(Field::new("item", data_type, true));
        for data_type in [
            DataType::Utf8View,
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            DataType::List(item(DataType::BinaryView)),
            DataType::FixedSizeList(item(DataType::Int32), i32::MAX),
            DataType::FixedSizeBinary(i32::MAX),
        ] {
            let schema = store_schema(std::slice::from_ref(&data_type), vec![]);
            assert!(
                matches!(RowEncoder::new(Arc::new(schema)), Err(StoreError::Unsupported(_))),
                "{data_type}"
            );
        }
    }

    #[test]
    fn a_row_that_is_too_large_or_of_another_type_is_refused() {
        let large: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(crate::tuning::MAX_ROW_BYTES)]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let encoder = RowEncoder::new(Arc::new(store_schema(&[DataType::Utf8], vec![]))).expect("a schema");
        for column in [large, number] {
            assert!(matches!(
                encoder.encode(&[column], 0, None),
                Err(StoreError::Unsupported(_))
            ));
        }
        assert!(encoder.encode(&[], 0, None).is_err());
    }

    proptest! {
        /// Whatever the bytes are: a batch or an error that names them, never a panic.
        #[test]
        fn mutated_rows_do_not_panic(
            row in 0usize..3,
            mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let columns = every_type();
            let schema = store_schema(&types_of(&columns), vec![]);
            let mut rows = encode_rows(&schema, &columns);
            let value = &mut rows[row].1;
            for (position, byte) in mutations {
                let position = position.index(value.len());
                value[position] = byte;
            }
            if let Some(cut) = cut {
                value.truncate(cut.index(value.len() + 1));
            }
            let all: Vec<usize> = (0..columns.len()).collect();
            match decode_rows(&schema, &all, &rows) {
                Ok(batch) => prop_assert_eq!(batch.num_rows(), 3),
                Err(StoreError::Corrupt { .. }) => {}
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}
