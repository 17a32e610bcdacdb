//! From constraints on key columns to ranges of encoded keys. The encoding itself belongs to the store.

use std::ops::Bound;

use arrow::array::{Array, ArrayRef};
use kalamdb_store::{KeyEncoder, KeyRange};

use crate::error::Result;
use crate::scan::KeyConstraint;

/// Which keys a constraint leaves.
#[derive(Debug, PartialEq)]
pub(crate) enum Keys {
    /// None: a bound is NULL, or the bounds exclude each other.
    Nothing,
    /// One full key.
    One(Vec<u8>),
    /// A range, as (start, end).
    Range(Bound<Vec<u8>>, Bound<Vec<u8>>),
}

/// The keys that `constraint` leaves of a key of `key_columns` columns.
pub(crate) fn keys_of(encoder: &KeyEncoder, key_columns: usize, constraint: &KeyConstraint) -> Result<Keys> {
    let bounds = [&constraint.lower, &constraint.upper];
    let bound_values = bounds.iter().flat_map(|bound| match bound {
        Bound::Included(values) | Bound::Excluded(values) => values.as_slice(),
        Bound::Unbounded => &[],
    });
    if constraint
        .equal
        .iter()
        .chain(bound_values)
        .any(|value| value.is_null(0))
    {
        return Ok(Keys::Nothing);
    }
    let encode = |last: &[ArrayRef]| -> Result<Vec<u8>> {
        let columns: Vec<ArrayRef> = constraint.equal.iter().chain(last).cloned().collect();
        let mut bytes = Vec::new();
        if !columns.is_empty() {
            encoder.encode(&columns, 0, &mut bytes)?;
        }
        Ok(bytes)
    };
    let prefix = encode(&[])?;
    if constraint.equal.len() == key_columns && key_columns > 0 {
        return Ok(Keys::One(prefix));
    }
    // A column's encoding is never a prefix of another value's, so all keys that begin with one lie between the encoding
    // and its successor.
    let start = match &constraint.lower {
        Bound::Unbounded if prefix.is_empty() => Bound::Unbounded,
        Bound::Unbounded => Bound::Included(prefix.clone()),
        Bound::Included(values) => Bound::Included(encode(values)?),
        Bound::Excluded(values) => match successor(encode(values)?) {
            Some(next) => Bound::Included(next),
            None => return Ok(Keys::Nothing),
        },
    };
    let end = match &constraint.upper {
        Bound::Unbounded => up_to(prefix),
        Bound::Included(values) => up_to(encode(values)?),
        Bound::Excluded(values) => Bound::Excluded(encode(values)?),
    };
    if let (Bound::Included(start), Bound::Excluded(end)) = (&start, &end)
        && start >= end
    {
        return Ok(Keys::Nothing);
    }
    Ok(Keys::Range(start, end))
}

/// The same as one range; `None` if it leaves none.
pub(crate) fn range_of(
    encoder: &KeyEncoder,
    key_columns: usize,
    constraint: &KeyConstraint,
) -> Result<Option<KeyRange>> {
    Ok(match keys_of(encoder, key_columns, constraint)? {
        Keys::Nothing => None,
        Keys::One(key) => Some(prefix_range(key)),
        Keys::Range(start, end) => Some(KeyRange { start, end }),
    })
}

/// All keys.
pub(crate) fn everything() -> KeyRange {
    KeyRange {
        start: Bound::Unbounded,
        end: Bound::Unbounded,
    }
}

/// All keys that begin with `prefix`.
pub(crate) fn prefix_range(prefix: Vec<u8>) -> KeyRange {
    KeyRange {
        start: Bound::Included(prefix.clone()),
        end: up_to(prefix),
    }
}

/// The end of the keys that begin with `prefix`.
fn up_to(prefix: Vec<u8>) -> Bound<Vec<u8>> {
    successor(prefix).map_or(Bound::Unbounded, Bound::Excluded)
}

/// The smallest byte string after all that begin with `prefix`; `None` if there is none.
fn successor(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return Some(prefix);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::DataType;
    use kalamdb_store::{ColumnId, Lifetime, SchemaVersion, StoreSchema, StoredColumn};
    use std::sync::Arc;

    fn text(value: &str) -> ArrayRef {
        Arc::new(StringArray::from(vec![value]))
    }

    fn number(value: i64) -> ArrayRef {
        Arc::new(Int64Array::from(vec![value]))
    }

    fn encoder() -> KeyEncoder {
        let column = |id, data_type| StoredColumn {
            id: ColumnId(id),
            data_type,
        };
        KeyEncoder::new(&StoreSchema {
            version: SchemaVersion(1),
            columns: vec![column(1, DataType::Utf8), column(2, DataType::Int64)],
            key: vec![0, 1],
            lifetime: Lifetime::Durable,
        })
        .expect("key types")
    }

    #[test]
    fn successors() {
        let cases: &[(&[u8], Option<&[u8]>)] = &[
            (&[1, 2], Some(&[1, 3])),
            (&[1, 255], Some(&[2])),
            (&[255, 255], None),
            (&[], None),
        ];
        for (prefix, expected) in cases {
            assert_eq!(successor(prefix.to_vec()).as_deref(), *expected);
        }
    }

    #[test]
    fn constraints_leave_the_keys_that_they_say() {
        use Bound::{Excluded, Included, Unbounded};
        type Case = (
            Vec<ArrayRef>,
            Bound<Vec<ArrayRef>>,
            Bound<Vec<ArrayRef>>,
            &'static [(&'static str, i64)],
        );
        let all: &[(&str, i64)] = &[
            ("", 1),
            ("a", -1),
            ("a", 0),
            ("a", i64::MAX),
            ("a\0", 1),
            ("ab", 1),
            ("b", 2),
        ];
        let cases: Vec<Case> = vec![
            (vec![], Unbounded, Unbounded, all),
            (
                vec![text("a")],
                Unbounded,
                Unbounded,
                &[("a", -1), ("a", 0), ("a", i64::MAX)],
            ),
            (
                vec![text("a")],
                Included(vec![number(0)]),
                Unbounded,
                &[("a", 0), ("a", i64::MAX)],
            ),
            (
                vec![text("a")],
                Excluded(vec![number(0)]),
                Unbounded,
                &[("a", i64::MAX)],
            ),
            (vec![text("a")], Unbounded, Excluded(vec![number(0)]), &[("a", -1)]),
            (
                vec![text("a")],
                Unbounded,
                Included(vec![number(0)]),
                &[("a", -1), ("a", 0)],
            ),
            (
                vec![text("a")],
                Excluded(vec![number(0)]),
                Excluded(vec![number(0)]),
                &[],
            ),
            (
                vec![text("a")],
                Included(vec![number(1)]),
                Included(vec![number(0)]),
                &[],
            ),
            (
                vec![],
                Excluded(vec![text("a")]),
                Unbounded,
                &[("a\0", 1), ("ab", 1), ("b", 2)],
            ),
            (
                vec![],
                Unbounded,
                Included(vec![text("a")]),
                &[("", 1), ("a", -1), ("a", 0), ("a", i64::MAX)],
            ),
            (
                vec![],
                Included(vec![text("a\0")]),
                Excluded(vec![text("b")]),
                &[("a\0", 1), ("ab", 1)],
            ),
            (vec![text("a"), number(0)], Unbounded, Unbounded, &[("a", 0)]),
            // Rows.
            (
                vec![],
                Excluded(vec![text("a"), number(0)]),
                Unbounded,
                &[("a", i64::MAX), ("a\0", 1), ("ab", 1), ("b", 2)],
            ),
            (
                vec![],
                Included(vec![text("a"), number(0)]),
                Excluded(vec![text("ab"), number(1)]),
                &[("a", 0), ("a", i64::MAX), ("a\0", 1)],
            ),
            (
                vec![],
                Excluded(vec![text("a"), number(i64::MAX)]),
                Included(vec![text("ab"), number(1)]),
                &[("a\0", 1), ("ab", 1)],
            ),
            (
                vec![],
                Excluded(vec![text("a")]),
                Excluded(vec![text("b"), number(2)]),
                &[("a\0", 1), ("ab", 1)],
            ),
            (
                vec![text("a")],
                Excluded(vec![number(-1)]),
                Included(vec![number(i64::MAX)]),
                &[("a", 0), ("a", i64::MAX)],
            ),
        ];
        let encoder = encoder();
        for (equal, lower, upper, expected) in cases {
            let constraint = KeyConstraint { equal, lower, upper };
            let keys = keys_of(&encoder, 2, &constraint).expect("encodes");
            let left: Vec<(&str, i64)> = all
                .iter()
                .copied()
                .filter(|&(name, id)| {
                    let mut key = Vec::new();
                    encoder.encode(&[text(name), number(id)], 0, &mut key).expect("encodes");
                    match &keys {
                        Keys::Nothing => false,
                        Keys::One(one) => key == *one,
                        Keys::Range(start, end) => {
                            let after = match start {
                                Included(start) => key >= *start,
                                Excluded(start) => key > *start,
                                Unbounded => true,
                            };
                            let before = match end {
                                Included(end) => key <= *end,
                                Excluded(end) => key < *end,
                                Unbounded => true,
                            };
                            after && before
                        }
                    }
                })
                .collect();
            assert_eq!(left, expected, "{constraint:?}");
        }
        let null: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
        let constraint = KeyConstraint {
            equal: vec![null],
            lower: Unbounded,
            upper: Unbounded,
        };
        assert_eq!(keys_of(&encoder, 2, &constraint).expect("encodes"), Keys::Nothing);
    }
}
