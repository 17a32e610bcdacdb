//! Where a live row is: in an epoch of hot rows or in a segment.

use crate::ids::{Epoch, SegmentId};

/// Where a live row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// Among the hot rows, in this epoch.
    Hot(Epoch),
    /// In a segment, the row with this number in the file.
    Cold(SegmentId, u32),
}

impl Location {
    /// As a scan returns it in [`crate::ScanColumn::Location`]: the segment, 0 for hot rows, in the upper half, and the row's
    /// number, or its epoch, in the lower.
    pub fn to_bits(self) -> u64 {
        match self {
            Self::Hot(epoch) => u64::from(epoch.0),
            Self::Cold(segment, row) => u64::from(segment.0) << 32 | u64::from(row),
        }
    }

    /// The reverse of [`Location::to_bits`].
    pub fn from_bits(bits: u64) -> Self {
        // The lower half is meant.
        let low = bits as u32;
        match (bits >> 32) as u32 {
            0 => Self::Hot(Epoch(low)),
            segment => Self::Cold(SegmentId(segment), low),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_survive_their_bits() {
        let locations = [
            Location::Hot(Epoch(0)),
            Location::Hot(Epoch(u32::MAX)),
            Location::Cold(SegmentId(1), 0),
            Location::Cold(SegmentId(u32::MAX), u32::MAX),
        ];
        for location in locations {
            assert_eq!(Location::from_bits(location.to_bits()), location);
        }
    }
}
