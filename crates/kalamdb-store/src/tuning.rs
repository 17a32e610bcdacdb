//! Every number of the store that could be another one, with its unit and its reason. Nothing here is part of the format.

/// Bytes of one encoded row at most. A row is held whole in memory by readers, the committer and RocksDB's write buffer.
pub(crate) const MAX_ROW_BYTES: usize = 16 << 20;

/// Leaf slots that one null of a fixed-size nested type may occupy in Arrow: bounds what a decoder allocates for a null.
pub(crate) const MAX_NULL_SLOTS: u64 = 1 << 16;

/// A batch of a scan is cut when this many encoded bytes are gathered: small enough for the level-two cache and for a bounded
/// memory per reader, large enough to pay for building arrays.
pub(crate) const SCAN_BATCH_BYTES: usize = 2 << 20;

/// Read ahead of scans over a whole scope, bytes. RocksDB's own read-ahead starts at 8 KiB and stops growing at 256 KiB.
pub(crate) const SCAN_READAHEAD_BYTES: usize = 1 << 20;

/// Keys that one batched look-up takes at once: bounds the pinned blocks and the vectors of pointers.
pub(crate) const LOOKUP_KEYS: usize = 1024;

/// Requests that may wait for the committer. Each belongs to a statement that waits for its answer, so this is more than the
/// statements that run at once; past it a commit is refused rather than queued without a bound.
pub(crate) const COMMIT_QUEUE_REQUESTS: usize = 16 * 1024;

/// Requests in one group at most: bounds the time that the first of a group waits for the last.
pub(crate) const GROUP_REQUESTS: usize = 1024;

/// Bytes of keys and values after which a group takes no further request, for the same reason. One request may be larger.
pub(crate) const GROUP_BYTES: usize = 8 << 20;

/// Keys that the committer remembers to find conflicts: about 32 bytes each. A request validated before the oldest of them is
/// answered with Stale.
pub(crate) const RECENT_KEYS: usize = if cfg!(test) { 32 * 1024 } else { 512 * 1024 };

/// Ids taken from a persisted counter at once. What is left of a block at shutdown is lost, and ids are plentiful.
pub(crate) const COUNTER_BLOCK: u64 = 64;

/// What a watch gathers, removals and insertions together, before a load or mover has to begin anew: 100 bytes each, about.
pub(crate) const WATCH_KEYS: usize = if cfg!(test) { 5000 } else { 512 * 1024 };

/// A last round of catching up with at most this many keys is left to the committer, which looks each of them up.
pub(crate) const WATCH_REST_KEYS: usize = 256;

/// Rounds of catching up before the rest, whatever its size, is left to the committer.
pub(crate) const WATCH_ROUNDS: usize = 8;

/// Rows that a bulk load out of order gathers to sort: a run that is merged in the end.
pub(crate) const LOAD_CHUNK_ROWS: usize = if cfg!(test) { 1000 } else { 256 * 1024 };

/// Bytes of such rows, if they come first.
pub(crate) const LOAD_CHUNK_BYTES: usize = 32 << 20;

/// Rows of a batch that movers read, merge and write at once.
pub(crate) const MOVE_BATCH_ROWS: usize = 8192;

/// Rows of a flush up to which their keys are deleted one by one: a deleted range costs readers until RocksDB compacts it.
pub(crate) const POINT_DELETE_ROWS: usize = 1000;

/// Runs of a table before they are merged: a look-up asks a filter of each.
pub(crate) const RUNS: usize = 8;

/// Share of deleted rows from which on a segment is rewritten, in percent.
pub(crate) const DELETED_PERCENT: u64 = 20;

/// Background threads of RocksDB for flush and compaction: the machine that this is built for has two cores.
pub(crate) const BACKGROUND_JOBS: i32 = 2;

/// Files that RocksDB keeps open. The common limit of a process is 1,024 descriptors, and connections need some.
pub(crate) const MAX_OPEN_FILES: i32 = 512;

/// Data blocks, bytes before compression: scans and point reads share them; a point read decompresses one.
pub(crate) const BLOCK_BYTES: usize = 16 << 10;

/// Filter bits per key: about 1 % of look-ups of absent keys read a block.
pub(crate) const FILTER_BITS: f64 = 10.0;

/// Share of a memtable given to its own filter, so that look-ups of absent keys skip it.
pub(crate) const MEMTABLE_FILTER_SHARE: f64 = 0.05;

/// Log files together, as a multiple of the write buffers, before RocksDB flushes to drop the oldest: bounds recovery.
pub(crate) const WAL_BUFFERS: u64 = 4;

/// RocksDB writes a new manifest at this size, bytes; the default of 1 GiB would make opening slow.
pub(crate) const MANIFEST_BYTES: usize = 32 << 20;

/// RocksDB's own information logs that are kept.
pub(crate) const INFO_LOGS: usize = 4;

/// RocksDB hands written file ranges to the disk in steps of this many bytes, so that a flush does not delay a log sync.
pub(crate) const BYTES_PER_SYNC: u64 = 1 << 20;

/// Entries in a row among which deletions are counted, for [`DELETIONS_IN_WINDOW`].
pub(crate) const DELETION_WINDOW: usize = 1024;

/// Deletions among [`DELETION_WINDOW`] entries that mark a file for compaction: a scan over it reads mostly nothing.
pub(crate) const DELETIONS_IN_WINDOW: usize = 512;

/// Rows of one segment file at most: bounds what a compaction rewrites for one deleted row, and the index in memory.
pub(crate) const SEGMENT_ROWS: u32 = 1 << 20;

/// Rows of the segments that movers and loads write: tests make many of few.
pub(crate) const RUN_SEGMENT_ROWS: u32 = if cfg!(test) { 2500 } else { SEGMENT_ROWS };

/// Rows of a row group at most. Its filter and its statistics rule it out as a whole; its columns lie together on disk.
pub(crate) const ROW_GROUP_ROWS: usize = 128 << 10;

/// Encoded bytes after which a row group ends early: the writer holds them in memory.
pub(crate) const ROW_GROUP_BYTES: usize = 64 << 20;

/// Rows of a page at most: a look-up decodes one page of each column that it needs.
pub(crate) const PAGE_ROWS: usize = 2048;

/// Bytes of a page, about, for the same reason where rows are long.
pub(crate) const PAGE_BYTES: usize = 128 << 10;

/// Bytes of a column chunk's dictionary at most: a look-up of one row reads all of it. Past that, values are written plainly.
pub(crate) const DICTIONARY_BYTES: usize = 128 << 10;

/// Values that a segment's writer must see at least before it takes a column's values for distinct and makes no dictionary.
pub(crate) const SAMPLE_ROWS: usize = 512;

/// Rows between two keys of a segment's index: half a page, so that reading one block's keys decodes one page of each key column.
pub(crate) const KEY_BLOCK_ROWS: usize = 1024;

/// Filter bits per key of a segment: about 1 % of look-ups of absent keys read a page.
pub(crate) const SEGMENT_FILTER_BITS: usize = 10;

/// Rows that a segment's writer gathers before it encodes them; a multiple of [`PAGE_ROWS`], so that the pages of all columns
/// start at the same rows.
pub(crate) const SEGMENT_CHUNK_ROWS: usize = 4 * PAGE_ROWS;

/// Bytes of gathered rows after which the writer encodes them although they are fewer.
pub(crate) const SEGMENT_CHUNK_BYTES: usize = 4 << 20;

/// Zstandard's level for segments: decoding is as fast at any level, and higher ones cost more time than they save bytes.
pub(crate) const ZSTD_LEVEL: i32 = 1;

/// Bytes of one part of an upload: object stores take no smaller parts than 5 MiB.
pub(crate) const PART_BYTES: usize = 8 << 20;

/// Compressed bytes that a scan of a segment reads at once: large enough for a disk or an object store, bounded per reader.
pub(crate) const SEGMENT_READAHEAD_BYTES: u64 = 8 << 20;

/// Rows that a scan of a segment reads first; then it goes on in ever larger steps. A scan with a small LIMIT ends before.
pub(crate) const SEGMENT_FIRST_ROWS: usize = 8 << 10;

/// Rows of the first batch at least where the reader is likely to stop early: fewer would cost more to hand over than to read.
pub(crate) const FIRST_BATCH_ROWS: usize = 64;

/// Two ranges of a file with at most this many bytes between them are read as one: cheaper than a second request.
pub(crate) const READ_GAP_BYTES: u64 = 16 << 10;

/// Bytes of a batch that is read of a segment, about: as many rows as asked for, unless they are long.
pub(crate) const SEGMENT_BATCH_BYTES: usize = 4 << 20;

/// Bytes of rows that a merge holds of all its inputs together, and as many again that it has read of them and not decoded. Each
/// input has an equal share, but at least a page of each column and a row.
pub(crate) const MERGE_BYTES: usize = if cfg!(test) { 1 << 20 } else { 16 << 20 };

/// Bytes of a batch that a merge gives, about: what movers and loads write at once.
pub(crate) const MERGE_BATCH_BYTES: usize = if cfg!(test) { 512 << 10 } else { 4 << 20 };

/// Runs that are merged at once: more are merged in several passes. Each has its index and a share of [`MERGE_BYTES`] in memory.
pub(crate) const MERGE_RUNS: usize = if cfg!(test) { 10 } else { 64 };
