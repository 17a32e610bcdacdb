//! What is in the fixture: each table's schema and the rows that are live, with their keys, numbers and times.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int64Array, StringArray,
};
use arrow::datatypes::DataType;
use kalamdb_store::{
    ColumnId, Lifetime, SchemaVersion, ScopeId, SegmentCompression, SegmentOptions, StorageId, StoreId, StoreSchema,
    StoredColumn,
};

use crate::kinds;

/// A key, its segments loaded, flushed and loaded over; a few deletions in each.
pub(crate) const NOTES: StoreId = StoreId(1);
/// No key.
pub(crate) const EVENTS: StoreId = StoreId(2);
/// A composite key whose columns are in another order, rows of several users.
pub(crate) const READINGS: StoreId = StoreId(3);
/// Every type.
pub(crate) const KINDS: StoreId = StoreId(4);
/// A chunk of a deletion vector that is a bitmap, and one that is a list; a file of several blocks.
pub(crate) const NUMBERS: StoreId = StoreId(5);
/// A flush that ended after the seal.
pub(crate) const SEALED: StoreId = StoreId(6);
/// Retired, its rows not erased yet.
pub(crate) const RETIRED: StoreId = StoreId(7);
/// No row at all.
pub(crate) const EMPTY: StoreId = StoreId(8);
/// Its segment is in another storage.
pub(crate) const ELSEWHERE: StoreId = StoreId(9);

/// Rows that expire, in two buckets.
pub(crate) const SESSIONS: StoreId = StoreId(10);

/// The scope of a user that was dropped, with rows in [`READINGS`] that are not erased yet.
pub(crate) const DROPPED: ScopeId = ScopeId(9);
/// The storage of [`ELSEWHERE`]; in the fixture, the directory `other`.
pub(crate) const OTHER: StorageId = StorageId(1);

/// Of every table.
pub(crate) const VERSION: SchemaVersion = SchemaVersion(3);
/// The newest number.
pub(crate) const LAST_SEQ: u64 = 7453;
/// What the catalog above keeps in the store.
pub(crate) const RECORD: (&str, &[u8]) = ("catalog", b"kept as it is \x00\xFF");

/// A live table.
pub(crate) struct Table {
    pub(crate) store: StoreId,
    pub(crate) schema: Arc<StoreSchema>,
    pub(crate) options: SegmentOptions,
    /// When it is read, seconds.
    pub(crate) now: i64,
    pub(crate) scopes: Vec<Rows>,
    /// Keys that were there and are not any more.
    pub(crate) gone: Vec<(ScopeId, Vec<u8>)>,
}

/// The live rows of one scope, in the order of their numbers.
pub(crate) struct Rows {
    pub(crate) scope: ScopeId,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) seqs: Vec<u64>,
    /// Seconds: no two commits of the fixture share one.
    pub(crate) updated: Vec<i64>,
}

/// All live tables.
pub(crate) fn tables() -> Vec<Table> {
    vec![
        notes(),
        events(),
        readings(),
        kinds(),
        numbers(),
        sealed(),
        empty(),
        elsewhere(),
        sessions(),
    ]
}

/// One of them.
pub(crate) fn table(store: StoreId) -> Table {
    let found = tables().into_iter().find(|table| table.store == store);
    found.expect("a table of the fixture")
}

fn notes() -> Table {
    let rows: [(i64, &str, u64, i64); 15] = [
        (1, "loaded 1", 2, 2),
        (2, "loaded 2", 3, 2),
        (4, "loaded 4", 5, 2),
        (6, "loaded 6", 7, 2),
        (7, "loaded 7", 8, 2),
        (8, "loaded 8", 9, 2),
        (9, "loaded 9", 10, 2),
        (10, "loaded 10", 11, 2),
        (11, "put 11", 13, 3),
        (13, "put 13", 15, 3),
        (14, "put 14", 16, 3),
        (15, "put 15", 17, 3),
        (3, "changed 3", 22, 4),
        (5, "again 5", 23, 5),
        (16, "again 16", 24, 5),
    ];
    Table {
        store: NOTES,
        schema: texts(),
        options: options(SegmentCompression::Lz4),
        now: 0,
        scopes: vec![text_rows(&rows)],
        gone: vec![(ScopeId::GLOBAL, big_endian(12)), (ScopeId::GLOBAL, big_endian(17))],
    }
}

fn events() -> Table {
    let row_ids: [u64; 6] = [28, 29, 31, 33, 38, 26];
    let kinds = vec![
        None,
        Some("logout"),
        Some("login"),
        Some("timeout"),
        Some("last"),
        Some("relogged"),
    ];
    let amounts = Decimal128Array::from(vec![Some(-250), None, Some(0), Some(99_999), None, Some(5)]);
    let amounts = amounts.with_precision_and_scale(12, 2).expect("they have fewer digits");
    let row_id = |id: u64| id.to_be_bytes().to_vec();
    Table {
        store: EVENTS,
        schema: schema(&[DataType::Utf8, DataType::Decimal128(12, 2)], &[]),
        options: options(SegmentCompression::Zstd),
        now: 0,
        scopes: vec![Rows {
            scope: ScopeId::GLOBAL,
            keys: row_ids.map(row_id).to_vec(),
            columns: vec![Arc::new(StringArray::from(kinds)), Arc::new(amounts)],
            seqs: vec![28, 29, 31, 33, 38, 7448],
            updated: vec![6, 6, 7, 7, 8, 22],
        }],
        gone: [27, 30, 32, 39].map(|id| (ScopeId::GLOBAL, row_id(id))).to_vec(),
    }
}

/// The encoded keys of [`READINGS`]: sensor, day, tag, price, flag.
pub(crate) const NORTH: &str = "6e6f727468 0000 7fffffff 01ff 800000000000000000000000000004e2 01";
pub(crate) const ZERO: &str = "6100ff62 0000 80004a38 0000 7fffffffffffffffffffffffffffffff 00";
pub(crate) const NAMELESS: &str = "0000 ffffffff ffff 80000000000000000000000000000000 01";

/// The columns of such rows: value, flag, sensor, price, day, tag, comment.
pub(crate) fn reading_columns(rows: &[(&str, Option<f64>, Option<&str>)]) -> Vec<ArrayRef> {
    let parts: Vec<(bool, &str, i128, i32, [u8; 2])> = rows
        .iter()
        .map(|(key, _, _)| match *key {
            NORTH => (true, "north", 1250, -1, [0x01, 0xFF]),
            ZERO => (false, "a\0b", -1, 19_000, [0, 0]),
            _ => (true, "", 0, i32::MAX, [0xFF, 0xFF]),
        })
        .collect();
    let prices = Decimal128Array::from_iter_values(parts.iter().map(|part| part.2));
    let tags = FixedSizeBinaryArray::try_from_sparse_iter_with_size(parts.iter().map(|part| Some(part.4)), 2);
    vec![
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.1))),
        Arc::new(BooleanArray::from_iter(parts.iter().map(|part| Some(part.0)))),
        Arc::new(StringArray::from_iter_values(parts.iter().map(|part| part.1))),
        Arc::new(prices.with_precision_and_scale(10, 2).expect("they have fewer digits")),
        Arc::new(Date32Array::from_iter_values(parts.iter().map(|part| part.3))),
        Arc::new(tags.expect("all are of two bytes")),
        Arc::new(StringArray::from_iter(rows.iter().map(|row| row.2))),
    ]
}

fn readings() -> Table {
    let types = [
        DataType::Float64,
        DataType::Boolean,
        DataType::Utf8,
        DataType::Decimal128(10, 2),
        DataType::Date32,
        DataType::FixedSizeBinary(2),
        DataType::Utf8,
    ];
    let rows = |scope: u64, rows: &[(&str, Option<f64>, Option<&str>)], seqs: &[u64], updated: &[i64]| Rows {
        scope: ScopeId(scope),
        keys: rows.iter().map(|row| hex(row.0)).collect(),
        columns: reading_columns(rows),
        seqs: seqs.to_vec(),
        updated: updated.to_vec(),
    };
    let first = [
        (NORTH, Some(1.5), Some("first")),
        (ZERO, Some(f64::NAN), None),
        (NAMELESS, Some(f64::INFINITY), Some("")),
    ];
    let second = [(NORTH, Some(-0.0), Some("second")), (ZERO, None, Some(""))];
    Table {
        store: READINGS,
        schema: schema(&types, &[2, 4, 5, 3, 1]),
        options: options(SegmentCompression::Snappy),
        now: 0,
        scopes: vec![
            rows(1, &first, &[39, 40, 46], &[9, 9, 10]),
            rows(2, &second, &[41, 42], &[9, 9]),
            rows(3, &[(NORTH, Some(3.0), None)], &[47], &[10]),
            rows(DROPPED.0, &[], &[], &[]),
            rows(0, &[], &[], &[]),
        ],
        gone: vec![
            (ScopeId(2), hex(NAMELESS)),
            (ScopeId(3), hex(ZERO)),
            (DROPPED, hex(NORTH)),
            (DROPPED, hex(ZERO)),
        ],
    }
}

fn kinds() -> Table {
    let columns = kinds::columns();
    let types: Vec<DataType> = columns.iter().map(|column| column.data_type().clone()).collect();
    Table {
        store: KINDS,
        schema: schema(&types, &[0]),
        options: options(SegmentCompression::None),
        now: 0,
        scopes: vec![Rows {
            scope: ScopeId::GLOBAL,
            keys: ["80000001", "80000002", "80000003", "80000004", "80000005", "80000006"]
                .map(hex)
                .to_vec(),
            columns,
            seqs: vec![49, 50, 52, 53, 56, 57],
            updated: vec![11, 11, 12, 12, 13, 13],
        }],
        gone: vec![(ScopeId::GLOBAL, hex("80000007"))],
    }
}

/// Whether this row of [`NUMBERS`], 1 to 6000, was deleted.
pub(crate) fn number_is_gone(id: i64) -> bool {
    (id <= 4096 && id % 3 == 0) || (5001..=5010).contains(&id)
}

/// The value of a row of [`NUMBERS`]: all bits differ from row to row, so that the file has several checksummed blocks.
pub(crate) fn number_value(id: i64) -> i64 {
    id.wrapping_mul(0x1E37_79B9_7F4A_7C15).rotate_left(17)
}

fn numbers() -> Table {
    let live: Vec<i64> = (1..=6000).filter(|&id| !number_is_gone(id)).collect();
    Table {
        store: NUMBERS,
        schema: schema(&[DataType::Int64, DataType::Int64], &[0]),
        options: options(SegmentCompression::Lz4),
        now: 0,
        scopes: vec![Rows {
            scope: ScopeId::GLOBAL,
            keys: live.iter().map(|&id| big_endian(id)).collect(),
            columns: vec![
                Arc::new(Int64Array::from(live.clone())),
                Arc::new(Int64Array::from_iter_values(live.iter().map(|&id| number_value(id)))),
            ],
            seqs: live.iter().map(|id| id.unsigned_abs() + 57).collect(),
            updated: vec![14; live.len()],
        }],
        gone: (1..=6000)
            .filter(|&id| number_is_gone(id))
            .map(|id| (ScopeId::GLOBAL, big_endian(id)))
            .collect(),
    }
}

fn sealed() -> Table {
    let rows = [
        (1, "before 1", 7434, 16),
        (3, "before 3", 7436, 16),
        (4, "before 4", 7437, 16),
        (2, "after 2", 7440, 18),
        (5, "after 5", 7441, 18),
    ];
    Table {
        store: SEALED,
        schema: texts(),
        options: options(SegmentCompression::Lz4),
        now: 0,
        scopes: vec![text_rows(&rows)],
        gone: vec![(ScopeId::GLOBAL, big_endian(6))],
    }
}

fn empty() -> Table {
    Table {
        store: EMPTY,
        schema: texts(),
        options: options(SegmentCompression::Lz4),
        now: 0,
        scopes: vec![text_rows(&[])],
        gone: vec![(ScopeId::GLOBAL, big_endian(1))],
    }
}

fn elsewhere() -> Table {
    let rows = [
        (-1, "there -1", 7442, 19),
        (0, "there 0", 7443, 19),
        (1, "there 1", 7444, 19),
    ];
    Table {
        store: ELSEWHERE,
        schema: texts(),
        options: SegmentOptions {
            storage: OTHER,
            compression: SegmentCompression::Lz4,
        },
        now: 0,
        scopes: vec![text_rows(&rows)],
        gone: vec![(ScopeId::GLOBAL, big_endian(2))],
    }
}

fn sessions() -> Table {
    let schema = texts();
    Table {
        store: SESSIONS,
        schema: Arc::new(StoreSchema {
            lifetime: Lifetime::Expiring,
            ..StoreSchema::clone(&schema)
        }),
        options: options(SegmentCompression::Lz4),
        now: 60,
        scopes: vec![text_rows(&[(2, "until 100", 7451, 23), (3, "until 200", 7453, 25)])],
        // The first expired at that very time.
        gone: vec![(ScopeId::GLOBAL, big_endian(1)), (ScopeId::GLOBAL, big_endian(4))],
    }
}

/// Rows of everyone in a table of (id BIGINT key, text).
fn text_rows(rows: &[(i64, &str, u64, i64)]) -> Rows {
    Rows {
        scope: ScopeId::GLOBAL,
        keys: rows.iter().map(|row| big_endian(row.0)).collect(),
        columns: vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1))),
        ],
        seqs: rows.iter().map(|row| row.2).collect(),
        updated: rows.iter().map(|row| row.3).collect(),
    }
}

pub(crate) fn texts() -> Arc<StoreSchema> {
    schema(&[DataType::Int64, DataType::Utf8], &[0])
}

/// Columns with ids from 11 on.
fn schema(types: &[DataType], key: &[usize]) -> Arc<StoreSchema> {
    let columns = (11..).zip(types).map(|(id, data_type)| StoredColumn {
        id: ColumnId(id),
        data_type: data_type.clone(),
    });
    Arc::new(StoreSchema {
        version: VERSION,
        columns: columns.collect(),
        key: key.to_vec(),
        lifetime: Lifetime::Durable,
    })
}

fn options(compression: SegmentCompression) -> SegmentOptions {
    SegmentOptions {
        storage: StorageId::DEFAULT,
        compression,
    }
}

/// A BIGINT in a key: big endian, the sign's bit flipped.
fn big_endian(value: i64) -> Vec<u8> {
    let mut bytes = value.to_be_bytes().to_vec();
    bytes[0] ^= 0x80;
    bytes
}

/// Bytes from hexadecimal digits.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|digit| *digit != ' ').collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    digits
        .chunks(2)
        .map(|pair| byte(pair).expect("a pair of digits"))
        .collect()
}
