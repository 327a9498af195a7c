//! What a job keeps in state of records that it passes by reference: the reference, as long as it
//! stays in this process, and the contents once they have been written and read back.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::event::Bid;

/// A bid that can be kept in state and sent to another subtask, whatever way it was passed.
#[derive(Clone, Debug)]
pub(crate) enum KeptBid {
    /// One that stays in memory.
    Static(&'static Bid),
    /// One that was passed owned, or read back.
    Owned(Arc<Bid>),
}

impl Deref for KeptBid {
    type Target = Bid;

    #[inline]
    fn deref(&self) -> &Bid {
        match self {
            KeptBid::Static(bid) => bid,
            KeptBid::Owned(bid) => bid,
        }
    }
}

impl Serialize for KeptBid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Bid::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for KeptBid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Bid::deserialize(deserializer).map(|bid| KeptBid::Owned(Arc::new(bid)))
    }
}

/// A text column that can be kept in state and sent to another subtask.
#[derive(Clone, Debug)]
pub(crate) enum KeptText {
    /// Of a record that stays in memory.
    Static(&'static str),
    /// Of a record that was passed owned, or read back.
    Owned(Arc<str>),
}

impl AsRef<str> for KeptText {
    #[inline]
    fn as_ref(&self) -> &str {
        match self {
            KeptText::Static(text) => text,
            KeptText::Owned(text) => text,
        }
    }
}

impl Serialize for KeptText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_ref().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for KeptText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| KeptText::Owned(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::{KeptBid, KeptText};
    use crate::event::{Bid, Event};
    use crate::generate::tests::generated;

    #[test]
    fn what_is_read_back_is_what_was_kept() {
        let events: &'static [Event] = generated(100, 1_000, 1).leak();
        let bid: &'static Bid = events.iter().find_map(Event::as_bid).expect("most are bids");
        let written = serde_json::to_string(&KeptBid::Static(bid)).expect("a bid can be written");
        let read: KeptBid = serde_json::from_str(&written).expect("and read");
        assert!(matches!(read, KeptBid::Owned(_)));
        assert_eq!(*read, *bid);
        let written = serde_json::to_string(&KeptText::Static("kent")).expect("so can a text");
        let read: KeptText = serde_json::from_str(&written).expect("and read");
        assert!(matches!(read, KeptText::Owned(_)));
        assert_eq!(read.as_ref(), "kent");
    }
}
