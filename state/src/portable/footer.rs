//! Reads the footer of a run.

use super::block::Fields;
use super::reader::BLOCKS_START;
use super::{Dropped, FIRST_VERSION, GroupIndex, Space};
use crate::codec::{FrameKind, unframe_kind};
use crate::error::{Result, StateError};
use crate::key_group::KeyGroupCount;
use crate::state_key::{Namespace, TableId};

/// The bytes of one key group in the footer, and in that of the first version.
const GROUP_BYTES: usize = 26;
const FIRST_GROUP_BYTES: usize = 18;

/// The bytes of a space in the footer.
const SPACE_BYTES: usize = 26;

/// The bytes of a drop in the footer.
const DROP_BYTES: usize = 23;

/// What the footer says: the number of entries, the key groups in ascending order, the drops, and
/// the spaces, of which the first version says nothing.
pub(super) struct Footer {
    pub(super) entries: u64,
    pub(super) groups: Vec<GroupIndex>,
    pub(super) drops: Vec<Dropped>,
    pub(super) spaces: Vec<Space>,
}

impl Footer {
    pub(super) fn read(
        bytes: &[u8],
        blocks_end: u64,
        (version, count): (u16, KeyGroupCount),
    ) -> Result<Footer> {
        let damaged = |detail: &str| StateError::corrupt(blocks_end, detail);
        let footer = unframe_kind(FrameKind::PORTABLE_FOOTER, bytes)
            .map_err(|error| damaged(&error.to_string()))?;
        let mut fields = Fields { bytes: footer, offset: blocks_end };
        let entries = u64::from_le_bytes(fields.take()?);
        let is_first = version == FIRST_VERSION;
        let bytes = if is_first { FIRST_GROUP_BYTES } else { GROUP_BYTES };
        let group_count = fields.count(bytes)?;
        let mut groups = Vec::with_capacity(group_count);
        for _ in 0..group_count {
            groups.push(read_group(&mut fields, is_first)?);
        }
        close_groups(&mut groups, blocks_end, is_first);
        if !are_in_order(&groups, blocks_end, count) {
            return Err(damaged("footer's key groups are not in order"));
        }
        let sum = groups.iter().try_fold(0_u64, |sum, index| sum.checked_add(index.entries));
        let has_gap = groups.is_empty() && blocks_end != BLOCKS_START as u64;
        if sum != Some(entries) || has_gap {
            return Err(damaged("footer's key groups do not add up"));
        }
        let drop_count = fields.count(DROP_BYTES)?;
        let drops = (0..drop_count).map(|_| read_drop(&mut fields)).collect::<Result<_>>()?;
        let space_count = if is_first { 0 } else { fields.count(SPACE_BYTES)? };
        let spaces = (0..space_count).map(|_| read_space(&mut fields)).collect::<Result<_>>()?;
        match fields.bytes.is_empty() {
            true => Ok(Footer { entries, groups, drops, spaces }),
            false => Err(damaged("footer is longer than it says")),
        }
    }
}

fn read_group(fields: &mut Fields<'_>, is_first_version: bool) -> Result<GroupIndex> {
    let group = u16::from_le_bytes(fields.take()?);
    let offset = u64::from_le_bytes(fields.take()?);
    let end = if is_first_version { 0 } else { u64::from_le_bytes(fields.take()?) };
    Ok(GroupIndex { group, offset, end, next: 0, entries: u64::from_le_bytes(fields.take()?) })
}

/// Fills in where key groups end; in the first version there is nothing behind their blocks.
fn close_groups(groups: &mut [GroupIndex], blocks_end: u64, is_first_version: bool) {
    let mut next = blocks_end;
    for index in groups.iter_mut().rev() {
        index.next = next;
        if is_first_version {
            index.end = next;
        }
        next = index.offset;
    }
}

/// Whether key groups ascend and lie one behind the other.
fn are_in_order(groups: &[GroupIndex], blocks_end: u64, count: KeyGroupCount) -> bool {
    let (mut least, mut at) = (0, BLOCKS_START as u64);
    groups.iter().all(|index| {
        let is_next = index.group >= least && index.offset == at;
        (least, at) = (index.group.saturating_add(1), index.next);
        let is_ordered = index.offset < index.end && index.end <= index.next;
        is_next && is_ordered && index.next <= blocks_end && index.group < count.get()
    })
}

fn read_space(fields: &mut Fields<'_>) -> Result<Space> {
    let table = TableId(u16::from_le_bytes(fields.take()?));
    let start = i64::from_le_bytes(fields.take()?);
    let namespace = Namespace(start, i64::from_le_bytes(fields.take()?));
    Ok(Space { table, namespace, entries: u64::from_le_bytes(fields.take()?) })
}

fn read_drop(fields: &mut Fields<'_>) -> Result<Dropped> {
    let mut number = || fields.take().map(u16::from_le_bytes);
    let (key_groups, table) = ((number()?, number()?), TableId(number()?));
    let [has_namespace] = fields.take()?;
    let start = i64::from_le_bytes(fields.take()?);
    let namespace = Namespace(start, i64::from_le_bytes(fields.take()?));
    match has_namespace {
        0 => Ok(Dropped { key_groups, table, namespace: None }),
        1 => Ok(Dropped { key_groups, table, namespace: Some(namespace) }),
        _ => Err(fields.damaged("footer has a drop that is not understood")),
    }
}
