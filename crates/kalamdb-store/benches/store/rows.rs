//! The rows that are measured with: each follows from its number alone, so that every run has the same.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use kalamdb_store::{ColumnId, KeyEncoder, Lifetime, RowEncoder, SchemaVersion, StoreSchema, StoredColumn};

/// Rows of a batch that is loaded.
pub(crate) const BATCH_ROWS: usize = 8192;

/// Columns from row numbers.
type Generate = fn(&[u64]) -> Vec<ArrayRef>;

/// A kind of rows.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) schema: Arc<StoreSchema>,
    /// The column that scans of one column read.
    pub(crate) one: usize,
    pub(crate) keys: KeyEncoder,
    pub(crate) rows: RowEncoder,
    generate: Generate,
}

impl Shape {
    /// 16 columns like those of TPC-H `lineitem`; the key is order and line.
    pub(crate) fn lineitem() -> Self {
        let decimal = DataType::Decimal128(15, 2);
        let types = [
            vec![DataType::Int64, DataType::Int64, DataType::Int64, DataType::Int32],
            vec![decimal; 4],
            vec![DataType::Utf8; 2],
            vec![DataType::Date32; 3],
            vec![DataType::Utf8; 3],
        ];
        Self::new("lineitem", &types.concat(), vec![0, 3], 5, lineitem)
    }

    /// (id, user, value); the key is the id.
    pub(crate) fn narrow() -> Self {
        let types = [DataType::Int64, DataType::Int64, DataType::Float64];
        Self::new("narrow", &types, vec![0], 2, narrow)
    }

    fn new(name: &'static str, types: &[DataType], key: Vec<usize>, one: usize, generate: Generate) -> Self {
        let columns = (1..).zip(types).map(|(id, data_type)| StoredColumn {
            id: ColumnId(id),
            data_type: data_type.clone(),
        });
        let schema = Arc::new(StoreSchema {
            version: SchemaVersion(1),
            columns: columns.collect(),
            key,
            lifetime: Lifetime::Durable,
        });
        Self {
            name,
            keys: KeyEncoder::new(&schema).expect("columns that can be a key"),
            rows: RowEncoder::new(schema.clone()).expect("columns that can be stored"),
            schema,
            one,
            generate,
        }
    }

    /// The columns of these rows.
    pub(crate) fn columns(&self, numbers: &[u64]) -> Vec<ArrayRef> {
        (self.generate)(numbers)
    }

    /// Rows in the order of their keys, in batches.
    pub(crate) fn batches(&self, numbers: Range<u64>) -> Vec<Vec<ArrayRef>> {
        let numbers: Vec<u64> = numbers.collect();
        numbers.chunks(BATCH_ROWS).map(|part| self.columns(part)).collect()
    }

    /// The first rows in no order.
    pub(crate) fn shuffled(&self, rows: u64) -> Vec<Vec<ArrayRef>> {
        let mut numbers: Vec<u64> = (0..rows).collect();
        numbers.sort_unstable_by_key(|&number| random(number));
        numbers.chunks(BATCH_ROWS).map(|part| self.columns(part)).collect()
    }

    /// The encoded key of a row.
    pub(crate) fn key(&self, number: u64) -> Vec<u8> {
        let mut key = Vec::new();
        self.encode_key(&self.columns(&[number]), 0, &mut key);
        key
    }

    pub(crate) fn encode_key(&self, columns: &[ArrayRef], row: usize, key: &mut Vec<u8>) {
        let key_columns: Vec<ArrayRef> = self.schema.key.iter().map(|&column| columns[column].clone()).collect();
        self.keys.encode(&key_columns, row, key).expect("no key column is null");
    }
}

/// A number that looks like any other, from another (SplitMix64).
pub(crate) fn random(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A random number below `below`, another one for each `column` of a row.
fn pick(number: u64, column: u64, below: u32) -> u32 {
    let random = random(number.wrapping_mul(16).wrapping_add(column));
    // The remainder is below `below`.
    (random % u64::from(below)) as u32
}

fn narrow(numbers: &[u64]) -> Vec<ArrayRef> {
    vec![
        integers(numbers, |number| number.cast_signed()),
        integers(numbers, |number| i64::from(pick(number, 1, 100_000))),
        Arc::new(Float64Array::from_iter_values(
            numbers
                .iter()
                .map(|&number| f64::from(pick(number, 2, 1_000_000)) / 100.0),
        )),
    ]
}

fn lineitem(numbers: &[u64]) -> Vec<ArrayRef> {
    const WORDS: [&str; 12] = [
        "furiously",
        "quick",
        "deposits",
        "sleep",
        "carefully",
        "final",
        "requests",
        "above",
        "the",
        "even",
        "packages",
        "nag",
    ];
    let line = |number: u64| i32::try_from(number % 4).unwrap_or(0) + 1;
    let day = |column: u64| {
        let days = numbers
            .iter()
            .map(|&number| 8036 + pick(number, column, 2526).cast_signed());
        Arc::new(Date32Array::from_iter_values(days)) as ArrayRef
    };
    let one_of = |column: u64, words: &[&str]| {
        let count = u32::try_from(words.len()).unwrap_or(1);
        let words = numbers
            .iter()
            .map(|&number| words[pick(number, column, count) as usize]);
        Arc::new(StringArray::from_iter_values(words)) as ArrayRef
    };
    let comment = |number: u64| {
        let words =
            (0..2 + u64::from(pick(number, 15, 4))).map(|word| WORDS[pick(number ^ (word << 40), 15, 12) as usize]);
        words.collect::<Vec<_>>().join(" ")
    };
    vec![
        integers(numbers, |number| (number / 4).cast_signed() + 1),
        integers(numbers, |number| i64::from(pick(number, 1, 200_000)) + 1),
        integers(numbers, |number| i64::from(pick(number, 2, 10_000)) + 1),
        Arc::new(Int32Array::from_iter_values(numbers.iter().map(|&number| line(number)))),
        decimals(numbers, |number| 100 * (i128::from(pick(number, 4, 50)) + 1)),
        decimals(numbers, |number| i128::from(pick(number, 5, 10_000_000)) + 90_000),
        decimals(numbers, |number| i128::from(pick(number, 6, 11))),
        decimals(numbers, |number| i128::from(pick(number, 7, 9))),
        one_of(8, &["A", "N", "R"]),
        one_of(9, &["F", "O"]),
        day(10),
        day(11),
        day(12),
        one_of(13, &["COLLECT COD", "DELIVER IN PERSON", "NONE", "TAKE BACK RETURN"]),
        one_of(14, &["AIR", "FOB", "MAIL", "RAIL", "REG AIR", "SHIP", "TRUCK"]),
        Arc::new(StringArray::from_iter_values(
            numbers.iter().map(|&number| comment(number)),
        )),
    ]
}

fn integers(numbers: &[u64], value: impl Fn(u64) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(
        numbers.iter().map(|&number| value(number)),
    ))
}

fn decimals(numbers: &[u64], value: impl Fn(u64) -> i128) -> ArrayRef {
    let values = Decimal128Array::from_iter_values(numbers.iter().map(|&number| value(number)));
    Arc::new(values.with_precision_and_scale(15, 2).expect("they have fewer digits"))
}
