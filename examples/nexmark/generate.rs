//! Generates events with the crate `nexmark`: the same ones on every machine and in every run.

use std::num::NonZeroUsize;

use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event;

use crate::event::{Auction, Bid, Event, Person};

/// The time of the first event, in milliseconds since the Unix epoch (2023-11-14 22:13:20 UTC).
pub(crate) const BASE_TIME: u64 = 1_700_000_000_000;

/// What to generate; everything else is the generator's default.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Generation {
    /// The number of events of all kinds.
    pub(crate) events: usize,
    /// Events per second of event time.
    pub(crate) rate: NonZeroUsize,
    /// Every so many events are permuted among themselves; 1 is in order.
    pub(crate) out_of_order_group: NonZeroUsize,
}

impl Generation {
    /// The events, in stream order.
    pub(crate) fn iter(self) -> impl Iterator<Item = Event> {
        let config = NexmarkConfig {
            base_time: BASE_TIME,
            first_rate: self.rate.get(),
            next_rate: self.rate.get(),
            out_of_order_group_size: self.out_of_order_group.get(),
            ..NexmarkConfig::default()
        };
        EventGenerator::new(config).take(self.events).map(Event::from)
    }
}

/// Widens one of the generator's numbers.
fn wide(number: usize) -> u64 {
    u64::try_from(number).expect("usize has at most 64 bits")
}

impl From<event::Event> for Event {
    fn from(event: event::Event) -> Self {
        match event {
            event::Event::Person(person) => Event::Person(person.into()),
            event::Event::Auction(auction) => Event::Auction(auction.into()),
            event::Event::Bid(bid) => Event::Bid(bid.into()),
        }
    }
}

impl From<event::Person> for Person {
    fn from(person: event::Person) -> Self {
        Person {
            id: wide(person.id),
            name: person.name,
            email_address: person.email_address,
            credit_card: person.credit_card,
            city: person.city,
            state: person.state,
            date_time: person.date_time,
            extra: person.extra,
        }
    }
}

impl From<event::Auction> for Auction {
    fn from(auction: event::Auction) -> Self {
        Auction {
            id: wide(auction.id),
            item_name: auction.item_name,
            description: auction.description,
            initial_bid: wide(auction.initial_bid),
            reserve: wide(auction.reserve),
            date_time: auction.date_time,
            expires: auction.expires,
            seller: wide(auction.seller),
            category: wide(auction.category),
            extra: auction.extra,
        }
    }
}

impl From<event::Bid> for Bid {
    fn from(bid: event::Bid) -> Self {
        Bid {
            auction: wide(bid.auction),
            bidder: wide(bid.bidder),
            price: wide(bid.price),
            channel: bid.channel,
            url: bid.url,
            date_time: bid.date_time,
            extra: bid.extra,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::num::NonZeroUsize;

    use super::{BASE_TIME, Generation};
    use crate::event::Event;

    /// Events for a test.
    pub(crate) fn generated(events: usize, rate: usize, out_of_order_group: usize) -> Vec<Event> {
        let at_least_one = |n| NonZeroUsize::new(n).expect("tests generate with positive numbers");
        let (rate, out_of_order_group) = (at_least_one(rate), at_least_one(out_of_order_group));
        Generation { events, rate, out_of_order_group }.iter().collect()
    }

    #[test]
    fn the_kinds_come_one_three_forty_six() {
        let events = generated(500, 1_000, 1);
        let count = |kind: fn(&Event) -> bool| events.iter().filter(|event| kind(event)).count();
        assert_eq!(count(|event| matches!(event, Event::Person(_))), 10);
        assert_eq!(count(|event| matches!(event, Event::Auction(_))), 30);
        assert_eq!(count(|event| event.as_bid().is_some()), 460);
    }

    #[test]
    fn time_starts_at_the_base_and_runs_at_the_rate() {
        let events = generated(2_001, 500, 1);
        let base = BASE_TIME.cast_signed();
        assert_eq!(events[0].date_time(), base);
        assert_eq!(events[2_000].date_time(), base + 4_000);
        assert!(events.is_sorted_by_key(Event::date_time));
    }

    #[test]
    fn a_group_holds_the_events_of_its_time_in_another_order() {
        let (sorted, mixed) = (generated(3_000, 1_000, 1), generated(3_000, 1_000, 1_000));
        assert_ne!(sorted, mixed);
        for (sorted, mixed) in sorted.chunks(1_000).zip(mixed.chunks(1_000)) {
            assert!(sorted.iter().all(|event| mixed.contains(event)));
        }
    }
}
