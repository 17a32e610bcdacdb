//! The segments of all tables as `system.segments` shows them: where, how large, how much of it deleted; no value of any row.

use kalamdb_store::{SegmentEntry, SegmentSeqs};

use crate::engine::View;
use crate::error::Result;

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its id.
    pub segment_id: String,
    /// Of which table.
    pub table_id: String,
    /// Its file, in the table's storage.
    pub path: String,
    /// Segments of a run are disjoint in keys.
    pub run: u32,
    /// Rows in the file.
    pub rows: u64,
    /// Those of them that are deleted.
    pub deleted_rows: u64,
    /// Of the file.
    pub size_bytes: u64,
    /// The smallest `_seq`.
    pub min_seq: u64,
    /// The largest.
    pub max_seq: u64,
    /// `xxh3:` and 16 hexadecimal digits.
    pub checksum: String,
    /// When it was published, µs.
    pub created_at_micros: i64,
}

impl View {
    /// The segments of every table, by table and id. Who may see which is for the caller to filter.
    ///
    /// # Errors
    /// STORAGE_ERROR.
    pub fn segments(&self) -> Result<Vec<SegmentInfo>> {
        let mut all = Vec::new();
        for table in self.catalog().tables.values().filter(|table| table.kind.flushes()) {
            let mut segments = self.state.segments(table.store)?;
            segments.sort_by_key(|(entry, _)| entry.segment);
            all.extend(
                segments
                    .iter()
                    .map(|(entry, deleted_rows)| shown(entry, &table.table_id, *deleted_rows)),
            );
        }
        Ok(all)
    }
}

fn shown(entry: &SegmentEntry, table_id: &str, deleted_rows: u32) -> SegmentInfo {
    let (min_seq, max_seq) = match entry.seqs {
        SegmentSeqs::Stored { min, max } => (min.0, max.0),
        SegmentSeqs::Base { base, .. } => (base.0, base.0 + u64::from(entry.rows.saturating_sub(1))),
    };
    SegmentInfo {
        segment_id: entry.segment.to_string(),
        table_id: table_id.to_owned(),
        path: entry.path.clone(),
        run: entry.run,
        rows: u64::from(entry.rows),
        deleted_rows: u64::from(deleted_rows),
        size_bytes: entry.size_bytes,
        min_seq,
        max_seq,
        checksum: format!("xxh3:{:016x}", entry.checksum),
        created_at_micros: entry.created_micros,
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_store::{SchemaVersion, SegmentId, Seq, StorageId};

    use super::*;

    #[test]
    fn sequence_numbers_show_whether_stored_or_counted() {
        let entry = |seqs| SegmentEntry {
            segment: SegmentId(7),
            run: 2,
            storage: StorageId::DEFAULT,
            path: "db/1/7-x".to_owned(),
            rows: 10,
            size_bytes: 99,
            memory_bytes: 0,
            min_key: b"secret".to_vec(),
            max_key: b"secret".to_vec(),
            schema_version: SchemaVersion(1),
            seqs,
            tail_offset: 90,
            checksum: 0xab,
            created_micros: 5,
        };
        let updated_micros = 4;
        let cases = [
            (
                SegmentSeqs::Stored {
                    min: Seq(3),
                    max: Seq(90),
                },
                (3, 90),
            ),
            (
                SegmentSeqs::Base {
                    base: Seq(100),
                    updated_micros,
                },
                (100, 109),
            ),
        ];
        for (seqs, expected) in cases {
            let shown = shown(&entry(seqs), "5", 1);
            assert_eq!((shown.min_seq, shown.max_seq), expected);
            assert_eq!(shown.checksum, "xxh3:00000000000000ab");
            assert!(!format!("{shown:?}").contains("secret"));
        }
    }
}
