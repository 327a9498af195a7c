//! Round trips, golden bytes, and files that are cut or damaged anywhere.

use std::io::{self, Read};
use std::path::PathBuf;

use super::{Error, Reader, read, write, write_to};
use crate::event::{Auction, Bid, Event, Person};
use crate::generate::tests::generated;

fn person() -> Event {
    Event::Person(Person {
        id: 1,
        name: "é".to_owned(),
        email_address: String::new(),
        credit_card: "c".to_owned(),
        city: "d".to_owned(),
        state: "e".to_owned(),
        date_time: 2,
        extra: "f".to_owned(),
    })
}

fn auction() -> Event {
    Event::Auction(Auction {
        id: 1,
        item_name: "a".to_owned(),
        description: "b".to_owned(),
        initial_bid: 2,
        reserve: 3,
        date_time: 4,
        expires: u64::MAX,
        seller: 5,
        category: 6,
        extra: "c".to_owned(),
    })
}

fn bid() -> Event {
    Event::Bid(Bid {
        auction: 1,
        bidder: 2,
        price: 0x0102_0304_0506_0708,
        channel: "x".to_owned(),
        url: "yz".to_owned(),
        date_time: Event::MAX_DATE_TIME,
        extra: String::new(),
    })
}

fn encoded(events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_to(&mut bytes, events).expect("memory takes it");
    bytes
}

fn decoded(bytes: &[u8]) -> Result<Vec<Event>, Error> {
    Reader::new(bytes)?.collect()
}

fn message(bytes: &[u8]) -> String {
    decoded(bytes).expect_err("the bytes are damaged").to_string()
}

/// A file name that no other test of this process uses.
fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("thalweg-nexmark-{}-{name}", std::process::id()))
}

#[test]
fn a_bid_has_the_bytes_of_the_contract() {
    let Event::Bid(mut bid) = bid() else { unreachable!("it is a bid") };
    bid.date_time = 3;
    let mut expected = b"NXM1\x01\0\0\0\0\0\0\0\x02".to_vec();
    expected.extend(b"\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01");
    expected.extend(b"\x01\0\0\0x\x02\0\0\0yz\x03\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(encoded(&[Event::Bid(bid)]), expected);
}

#[test]
fn every_kind_comes_back_through_a_file() {
    let mut events = vec![person(), auction(), bid()];
    events.extend(generated(1_000, 1_000, 10));
    let path = scratch("round-trip");
    write(&path, &events).expect("the folder for temporary files can be written");
    let back = read(&path);
    std::fs::remove_file(&path).expect("it was written just now");
    assert_eq!(back.expect("it is whole"), events);
    assert_eq!(decoded(&encoded(&[])).expect("no events are fine"), []);
}

#[test]
fn a_file_cut_anywhere_names_its_length() {
    let bytes = encoded(&[person(), auction(), bid()]);
    let two = encoded(&[person(), auction()]).len();
    for length in 0..bytes.len() {
        match decoded(&bytes[..length]) {
            Err(Error::Truncated { offset, events }) => {
                assert_eq!(offset, length as u64);
                assert!(length < two || events == 2, "{length}");
            }
            other => panic!("cut at {length}: {other:?}"),
        }
    }
    assert_eq!(message(&bytes[..two]), format!("byte {two}: the file ends too early, 2 events in"));
}

#[test]
fn any_byte_can_be_anything() {
    let events = [person(), auction(), bid()];
    let bytes = encoded(&events);
    for position in 0..bytes.len() {
        for value in [0, 1, 2, 3, 0x7f, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[position] = value;
            match decoded(&damaged) {
                Ok(read) => {
                    assert_eq!(encoded(&read), damaged, "what is read is what stands there")
                }
                Err(error) => assert!(error.to_string().starts_with("byte "), "{error}"),
            }
        }
    }
}

#[test]
fn errors_name_the_first_wrong_byte() {
    let bytes = encoded(&[person()]);
    let with = |position: usize, new: &[u8]| {
        let mut damaged = bytes.clone();
        damaged[position..position + new.len()].copy_from_slice(new);
        message(&damaged)
    };
    assert_eq!(with(3, b"2"), "byte 0: the file does not begin with NXM1 but with NXM2");
    assert_eq!(with(12, &[3]), "byte 12: tag 3 is none of 0, 1 and 2, 0 events in");
    // The name's two bytes stand at 25 and 26.
    assert_eq!(with(26, b"e"), "byte 25: a text is not UTF-8, 0 events in");
    assert_eq!(with(4, &[0]), "byte 12: the file goes on after its 0 events");
    let time = bytes.len() - 5 - 8;
    let late = (Event::MAX_DATE_TIME + 1).to_le_bytes();
    assert_eq!(
        with(time, &late),
        format!("byte {time}: time 8640000000000001 is after 8640000000000000, 0 events in")
    );
}

#[test]
fn claimed_sizes_cost_no_memory() {
    // 2^64 - 1 events, the first with a name of 4 GiB: both must fail by reading, not reserving.
    let mut bytes = b"NXM1".to_vec();
    bytes.extend([0xff; 8]);
    bytes.push(0);
    bytes.extend([0; 8]);
    bytes.extend([0xff; 4]);
    bytes.extend(b"short");
    let path = scratch("claims");
    std::fs::write(&path, &bytes).expect("the folder for temporary files can be written");
    let outcome = read(&path);
    std::fs::remove_file(&path).expect("it was written just now");
    assert!(matches!(outcome, Err(Error::Truncated { offset: 30, events: 0 })), "{outcome:?}");
}

#[test]
fn a_reader_ends_after_an_error() {
    let bytes = encoded(&[bid(), bid()]);
    let mut reader = Reader::new(&bytes[..bytes.len() - 1]).expect("the header is whole");
    assert!(matches!(reader.next(), Some(Ok(_))));
    assert!(matches!(reader.next(), Some(Err(_))));
    assert!(reader.next().is_none());
}

/// Gives one byte, or an interruption, at a time; then fails.
struct Dripping<'a>(&'a [u8], bool);

impl Read for Dripping<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let Some((first, rest)) = self.0.split_first() else {
            return Err(io::Error::other("the cable was pulled"));
        };
        into[0] = *first;
        self.0 = rest;
        Ok(1)
    }
}

#[test]
fn short_reads_are_continued_and_failures_say_where() {
    let bytes = encoded(&[person(), bid()]);
    let mut reader = Reader::new(Dripping(&bytes, false)).expect("the header is whole");
    let events: Vec<_> = reader.by_ref().take(2).map(|event| event.expect("whole")).collect();
    assert_eq!(events, [person(), bid()]);
    let error = reader.next().expect("the source fails").expect_err("the source fails");
    assert_eq!(error.to_string(), format!("byte {}: the cable was pulled", bytes.len()));
}
