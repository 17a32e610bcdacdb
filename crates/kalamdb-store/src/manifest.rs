//! The segments of a store as the manifest knows them: entries and runs. What is in the files is `segment`'s.

use crate::ids::{SchemaVersion, SegmentId, Seq, StorageId};

/// One segment of a live store, never changed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SegmentEntry {
    /// Its id.
    pub segment: SegmentId,
    /// The run that it belongs to; segments of a run are disjoint in keys.
    pub run: u32,
    /// Where its file is.
    pub storage: StorageId,
    /// The file's path in the storage.
    pub path: String,
    /// Rows in the file, deleted ones included.
    pub rows: u32,
    /// Of the file.
    pub size_bytes: u64,
    /// The smallest `scope | key` in it.
    #[serde(with = "hex_bytes")]
    pub min_key: Vec<u8>,
    /// The largest.
    #[serde(with = "hex_bytes")]
    pub max_key: Vec<u8>,
    /// The schema version that its columns are of.
    pub schema_version: SchemaVersion,
    /// Its sequence numbers.
    pub seqs: SegmentSeqs,
    /// Where in the file the part starts that [`SegmentEntry::checksum`] covers: indexes, checksums of the rest, footer.
    pub tail_offset: u64,
    /// XXH3 of that part; through the checksums in it, of the whole file.
    pub checksum: u64,
    /// When it was published, µs.
    pub created_micros: i64,
}

/// Where a segment's rows have their `_seq` and `_updated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentSeqs {
    /// In columns of the file; the smallest and the largest `_seq`.
    Stored {
        /// The smallest.
        min: Seq,
        /// The largest.
        max: Seq,
    },
    /// The row's number in the file plus this; one time for all. Of a table without a key, it is the row id too.
    Base {
        /// The first row's.
        base: Seq,
        /// `_updated` of all, µs.
        updated_micros: i64,
    },
}

/// Bytes as text in JSON.
mod hex_bytes {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
                .ok_or_else(|| D::Error::custom("a key is not hexadecimal"))
        };
        let mut bytes = Vec::with_capacity(text.len() / 2);
        for pair in text.as_bytes().chunks(2) {
            let [high, low] = pair else {
                return Err(D::Error::custom("a key has half a byte"));
            };
            bytes.push(digit(*high)? << 4 | digit(*low)?);
        }
        Ok(bytes)
    }
}
