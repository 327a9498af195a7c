//! `EntryBuffer`: encoded entries in one allocation, sorted by state key before they are used.

use crate::error::Result;
use crate::key_group::KeyGroup;

/// Encoded entries of state.
#[derive(Debug, Default)]
pub(crate) struct EntryBuffer {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// Where an entry lies: its state key, then its value.
#[derive(Debug, Clone, Copy)]
struct Span {
    key_group: KeyGroup,
    start: usize,
    value: usize,
    end: usize,
}

impl EntryBuffer {
    /// Adds an entry: `put_key` appends its state key, `put_value` its value.
    pub(crate) fn push(
        &mut self,
        key_group: KeyGroup,
        put_key: impl FnOnce(&mut Vec<u8>) -> Result<()>,
        put_value: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let start = self.bytes.len();
        put_key(&mut self.bytes)?;
        let value = self.bytes.len();
        put_value(&mut self.bytes)?;
        self.spans.push(Span { key_group, start, value, end: self.bytes.len() });
        Ok(())
    }

    /// The entries, sorted by state key.
    pub(crate) fn sorted(&mut self) -> impl Iterator<Item = BufferedEntry<'_>> {
        let bytes = &self.bytes;
        let key = |span: &Span| &bytes[span.start..span.value];
        self.spans.sort_unstable_by(|a, b| {
            a.key_group.cmp(&b.key_group).then_with(|| key(a).cmp(key(b)))
        });
        self.spans.iter().map(|span| BufferedEntry {
            state_key: &bytes[span.start..span.value],
            value: &bytes[span.value..span.end],
        })
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The encoded entries' length, in bytes.
    pub(crate) fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Forgets all entries.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
    }
}

/// One entry of an [`EntryBuffer`].
pub(crate) struct BufferedEntry<'a> {
    /// The encoded [`StateKey`](crate::StateKey).
    pub(crate) state_key: &'a [u8],
    /// The encoded value.
    pub(crate) value: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_key::{Namespace, StateKey, TableId};

    #[test]
    fn entries_come_out_sorted_by_state_key() {
        let mut buffer = EntryBuffer::default();
        for (group, key) in [(2_u16, b"b"), (1, b"z"), (2, b"a"), (0, b"m")] {
            let key_group = KeyGroup::new(group);
            let state_key =
                StateKey { key_group, table: TableId(0), namespace: Namespace(0, 0), key };
            let put_key = |out: &mut Vec<u8>| {
                state_key.encode(out);
                Ok(())
            };
            let put_value = |out: &mut Vec<u8>| {
                out.extend_from_slice(key);
                Ok(())
            };
            buffer.push(key_group, put_key, put_value).expect("pushes");
        }
        let found: Vec<_> = buffer
            .sorted()
            .map(|entry| {
                let key = StateKey::decode(entry.state_key).expect("decodes");
                assert_eq!(key.key, entry.value);
                (key.key_group.get(), key.key.to_owned())
            })
            .collect();
        assert_eq!(
            found,
            [(0, b"m".to_vec()), (1, b"z".to_vec()), (2, b"a".to_vec()), (2, b"b".to_vec())]
        );
    }
}
