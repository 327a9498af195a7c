//! `StateKey`: the name of one entry of an operator's state, and its sortable encoding.
//!
//! Encoded: key group (2 bytes), table (2), namespace (twice 8), then the encoded key, all big
//! endian; the namespace's numbers have their sign bit flipped, so that they sort as numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Result, StateError};
use crate::key_group::KeyGroup;

/// The bytes of an encoded state key before the encoded key.
pub(crate) const PREFIX_BYTES: usize = 20;

/// A table's number within its operator; fixed for the life of the operator's state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TableId(pub u16);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A part of a sliced table: the slice's start and the end of the first window that accepted its
/// records, in milliseconds. Plain tables are in namespace (0, 0).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Namespace(pub i64, pub i64);

/// The name of one entry of an operator's state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StateKey<'a> {
    /// The key group of the key.
    pub key_group: KeyGroup,
    /// The table.
    pub table: TableId,
    /// The part of the table.
    pub namespace: Namespace,
    /// The encoded key.
    pub key: &'a [u8],
}

impl<'a> StateKey<'a> {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&prefix(self.key_group, self.table, self.namespace));
        out.extend_from_slice(self.key);
    }

    /// The state key that `bytes` encode.
    ///
    /// # Errors
    /// `Corrupt` if they are too short.
    pub fn decode(bytes: &'a [u8]) -> Result<Self> {
        let short = || StateError::corrupt(0, "state key is shorter than its prefix");
        let (group, rest) = bytes.split_first_chunk().ok_or_else(short)?;
        let (table, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (start, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let (end, key) = rest.split_first_chunk().ok_or_else(short)?;
        Ok(StateKey {
            key_group: KeyGroup::new(u16::from_be_bytes(*group)),
            table: TableId(u16::from_be_bytes(*table)),
            namespace: Namespace(from_sortable(*start), from_sortable(*end)),
            key,
        })
    }
}

/// The part of the encoding before the encoded key.
pub(crate) fn prefix(
    key_group: KeyGroup,
    table: TableId,
    namespace: Namespace,
) -> [u8; PREFIX_BYTES] {
    let mut bytes = [0; PREFIX_BYTES];
    bytes[..2].copy_from_slice(&key_group.get().to_be_bytes());
    bytes[2..4].copy_from_slice(&table.0.to_be_bytes());
    bytes[4..12].copy_from_slice(&to_sortable(namespace.0));
    bytes[12..].copy_from_slice(&to_sortable(namespace.1));
    bytes
}

/// The first state key behind all of a table in a key group. There must be one: key groups are
/// fewer than 2^15.
pub(crate) fn table_end(key_group: KeyGroup, table: TableId) -> [u8; PREFIX_BYTES] {
    let place = u32::from(key_group.get()) << 16 | u32::from(table.0);
    let mut bytes = [0; PREFIX_BYTES];
    bytes[..4].copy_from_slice(&(place + 1).to_be_bytes());
    bytes
}

fn to_sortable(number: i64) -> [u8; 8] {
    ((number as u64) ^ (1 << 63)).to_be_bytes()
}

fn from_sortable(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<StateKey<'static>> {
        let mut keys = Vec::new();
        for group in [0, 1, 255, 256, 32_767] {
            for table in [0, 1, 256, u16::MAX] {
                for start in [i64::MIN, -1, 0, 1, i64::MAX] {
                    for end in [i64::MIN, 0, i64::MAX] {
                        for key in [b"".as_slice(), b"\0", b"a", b"ab"] {
                            keys.push(StateKey {
                                key_group: KeyGroup::new(group),
                                table: TableId(table),
                                namespace: Namespace(start, end),
                                key,
                            });
                        }
                    }
                }
            }
        }
        keys
    }

    #[test]
    fn encodings_round_trip_and_sort_like_the_keys() {
        let mut last = Vec::new();
        for key in keys() {
            let mut bytes = Vec::new();
            key.encode(&mut bytes);
            assert_eq!(StateKey::decode(&bytes).expect("decodes"), key);
            assert!(last < bytes, "{key:?}");
            last = bytes;
        }
    }

    #[test]
    fn short_keys_are_refused() {
        for length in 0..PREFIX_BYTES {
            assert!(StateKey::decode(&vec![1; length]).is_err());
        }
    }
}
