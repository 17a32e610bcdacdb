//! How a table's segments are written, from its options.

use kalamdb_store::{DbState, SegmentCompression, SegmentOptions, StorageId};

use crate::catalog::{Catalog, Table};
use crate::error::{Error, ErrorCode, Result};
use crate::options::DEFAULT_STORAGE;

/// The storage and codec that the table's options name.
pub(crate) fn segment_options(state: &DbState<Catalog>, table: &Table) -> Result<SegmentOptions> {
    let internal = |what: &str, name: &str| {
        Error::new(
            ErrorCode::Internal,
            format!("table {} names the {what} '{name}', which does not exist", table.name),
        )
    };
    let storage = match table.options.storage.as_str() {
        DEFAULT_STORAGE => StorageId::DEFAULT,
        name if state.catalog().storages.contains_key(name) => {
            return Err(Error::new(
                ErrorCode::Unsupported,
                format!("storage '{name}' takes no segments yet"),
            ));
        }
        name => return Err(internal("storage", name)),
    };
    let compression = match table.options.compression.as_str() {
        "lz4" => SegmentCompression::Lz4,
        "zstd" => SegmentCompression::Zstd,
        "snappy" => SegmentCompression::Snappy,
        "none" => SegmentCompression::None,
        name => return Err(internal("compression", name)),
    };
    Ok(SegmentOptions { storage, compression })
}
