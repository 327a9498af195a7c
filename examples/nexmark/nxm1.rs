//! NXM1, the file format of events: a magic, a count, then tagged records of little-endian numbers
//! and length-prefixed UTF-8.
//!
//! *Layout:* `b"NXM1"`, `u64` count; per event a `u8` tag (0 person, 1 auction, 2 bid) and its
//! fields in the order of [`crate::event`], numbers as `u64`, text as `u32` length and bytes.
//!
//! *Invariants*
//! * I1: whatever the bytes are, reading ends with events or with an error that names an offset.
//! * I2: memory grows with the bytes that were read, never with a length or count that was claimed.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use crate::event::{Auction, Bid, Event, Person};

#[cfg(test)]
mod tests;

const MAGIC: [u8; 4] = *b"NXM1";
const PERSON: u8 = 0;
const AUCTION: u8 = 1;
const BID: u8 = 2;

/// For how many events room is made before any has been read.
const FIRST_ROOM: usize = 1 << 12;

/// Room made for a text before its bytes have been read.
const FIRST_TEXT_ROOM: u64 = 1 << 12;

/// Why a file could not be read or written. Offsets are bytes from its beginning; `events` is the
/// number of whole events before it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file system, or whatever the bytes come from or go to, failed.
    #[error("byte {offset}: {source}")]
    Io {
        /// How far it went well.
        offset: u64,
        /// What happened.
        source: io::Error,
    },
    /// The file is of another format.
    #[error("byte 0: the file does not begin with NXM1 but with {}", found.escape_ascii())]
    Magic {
        /// Its first bytes.
        found: [u8; 4],
    },
    /// The file ends too early.
    #[error("byte {offset}: the file ends too early, {events} events in")]
    Truncated {
        /// Its length.
        offset: u64,
        /// Events before.
        events: u64,
    },
    /// No kind of event has this tag.
    #[error("byte {offset}: tag {tag} is none of 0, 1 and 2, {events} events in")]
    Tag {
        /// Where the tag stands.
        offset: u64,
        /// The tag.
        tag: u8,
        /// Events before.
        events: u64,
    },
    /// A text is not UTF-8.
    #[error("byte {offset}: a text is not UTF-8, {events} events in")]
    Text {
        /// Its first wrong byte.
        offset: u64,
        /// Events before.
        events: u64,
    },
    /// A time is beyond what the engine takes.
    #[error("byte {offset}: time {time} is after {}, {events} events in", Event::MAX_DATE_TIME)]
    Time {
        /// Where the time stands.
        offset: u64,
        /// Milliseconds since the Unix epoch.
        time: u64,
        /// Events before.
        events: u64,
    },
    /// The file goes on after its last event.
    #[error("byte {offset}: the file goes on after its {events} events")]
    Trailing {
        /// Where it should end.
        offset: u64,
        /// The number of events it claims and has.
        events: u64,
    },
}

/// All events of the file at `path`, in file order.
///
/// # Errors
/// The file cannot be read, or is not a whole NXM1 file.
pub(crate) fn read(path: &Path) -> Result<Vec<Event>, Error> {
    let file = File::open(path).map_err(|source| Error::Io { offset: 0, source })?;
    let events = Reader::new(BufReader::with_capacity(1 << 16, file))?;
    let mut all = Vec::with_capacity(FIRST_ROOM.min(events.len_claimed()));
    for event in events {
        all.push(event?);
    }
    Ok(all)
}

/// The events of a file, one at a time; ends after the first error.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    input: R,
    /// Bytes read.
    offset: u64,
    /// Events read.
    events: u64,
    /// Events that the header claims.
    count: u64,
    phase: Phase,
}

/// How far a [`Reader`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There may be more events.
    Reading,
    /// The end was seen, or an error was given.
    Ended,
}

impl<R: Read> Reader<R> {
    /// Reads the header of `input`, which should be buffered.
    ///
    /// # Errors
    /// `input` fails, is too short or of another format.
    pub(crate) fn new(input: R) -> Result<Self, Error> {
        let mut reader = Reader { input, offset: 0, events: 0, count: 0, phase: Phase::Reading };
        let found = reader.bytes()?;
        if found != MAGIC {
            return Err(Error::Magic { found });
        }
        reader.count = reader.number()?;
        Ok(reader)
    }

    /// The number of events that the header claims, which may be wrong.
    fn len_claimed(&self) -> usize {
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }

    /// The next `N` bytes.
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        let mut filled = 0;
        while filled < N {
            match self.input.read(&mut bytes[filled..]) {
                Ok(0) => return Err(self.truncated()),
                Ok(read) => {
                    filled += read;
                    self.offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Io { offset: self.offset, source }),
            }
        }
        Ok(bytes)
    }

    fn truncated(&self) -> Error {
        Error::Truncated { offset: self.offset, events: self.events }
    }

    fn number(&mut self) -> Result<u64, Error> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn date_time(&mut self) -> Result<u64, Error> {
        let offset = self.offset;
        let time = self.number()?;
        if time > Event::MAX_DATE_TIME {
            return Err(Error::Time { offset, time, events: self.events });
        }
        Ok(time)
    }

    fn text(&mut self) -> Result<String, Error> {
        let length = u64::from(u32::from_le_bytes(self.bytes()?));
        let start = self.offset;
        let mut bytes = Vec::with_capacity(length.min(FIRST_TEXT_ROOM) as usize);
        let outcome = self.input.by_ref().take(length).read_to_end(&mut bytes);
        self.offset += bytes.len() as u64;
        outcome.map_err(|source| Error::Io { offset: self.offset, source })?;
        if (bytes.len() as u64) < length {
            return Err(self.truncated());
        }
        String::from_utf8(bytes).map_err(|error| {
            let offset = start + error.utf8_error().valid_up_to() as u64;
            Error::Text { offset, events: self.events }
        })
    }

    fn event(&mut self) -> Result<Event, Error> {
        let offset = self.offset;
        match self.bytes()? {
            [PERSON] => Ok(Event::Person(Person {
                id: self.number()?,
                name: self.text()?,
                email_address: self.text()?,
                credit_card: self.text()?,
                city: self.text()?,
                state: self.text()?,
                date_time: self.date_time()?,
                extra: self.text()?,
            })),
            [AUCTION] => Ok(Event::Auction(Auction {
                id: self.number()?,
                item_name: self.text()?,
                description: self.text()?,
                initial_bid: self.number()?,
                reserve: self.number()?,
                date_time: self.date_time()?,
                expires: self.number()?,
                seller: self.number()?,
                category: self.number()?,
                extra: self.text()?,
            })),
            [BID] => Ok(Event::Bid(Bid {
                auction: self.number()?,
                bidder: self.number()?,
                price: self.number()?,
                channel: self.text()?,
                url: self.text()?,
                date_time: self.date_time()?,
                extra: self.text()?,
            })),
            [tag] => Err(Error::Tag { offset, tag, events: self.events }),
        }
    }

    /// That nothing follows the last event.
    fn end(&mut self) -> Result<(), Error> {
        let offset = self.offset;
        match self.bytes::<1>() {
            Err(Error::Truncated { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(Error::Trailing { offset, events: self.events }),
        }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.phase == Phase::Ended {
            return None;
        }
        let next =
            if self.events < self.count { Some(self.event()) } else { self.end().err().map(Err) };
        match next {
            Some(Ok(_)) => self.events += 1,
            Some(Err(_)) | None => self.phase = Phase::Ended,
        }
        next
    }
}

/// Writes `events` to a new file at `path`, or over the one that is there.
///
/// # Errors
/// The file cannot be written.
#[cfg_attr(not(test), expect(dead_code, reason = "jobs only read; tests and tools write"))]
pub(crate) fn write(path: &Path, events: &[Event]) -> Result<(), Error> {
    let file = File::create(path).map_err(|source| Error::Io { offset: 0, source })?;
    write_to(BufWriter::with_capacity(1 << 16, file), events)
}

/// Writes `events` as a whole file to `output`, which should be buffered.
///
/// # Errors
/// `output` fails, or a text has 4 GiB or more.
pub(crate) fn write_to(output: impl Write, events: &[Event]) -> Result<(), Error> {
    let mut writer = Writer { output, offset: 0 };
    let failed = |offset| move |source| Error::Io { offset, source };
    writer.whole(events).map_err(failed(writer.offset))?;
    writer.output.flush().map_err(failed(writer.offset))
}

struct Writer<W> {
    output: W,
    /// Bytes written.
    offset: u64,
}

impl<W: Write> Writer<W> {
    fn whole(&mut self, events: &[Event]) -> io::Result<()> {
        self.bytes(&MAGIC)?;
        self.number(events.len() as u64)?;
        events.iter().try_for_each(|event| self.event(event))
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.write_all(bytes)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn number(&mut self, number: u64) -> io::Result<()> {
        self.bytes(&number.to_le_bytes())
    }

    fn numbers(&mut self, numbers: &[u64]) -> io::Result<()> {
        numbers.iter().try_for_each(|&number| self.number(number))
    }

    fn texts(&mut self, texts: &[&str]) -> io::Result<()> {
        texts.iter().try_for_each(|text| {
            let length = u32::try_from(text.len()).map_err(io::Error::other)?;
            self.bytes(&length.to_le_bytes())?;
            self.bytes(text.as_bytes())
        })
    }

    fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::Person(Person {
                id,
                name,
                email_address,
                credit_card,
                city,
                state,
                date_time,
                extra,
            }) => {
                self.bytes(&[PERSON])?;
                self.number(*id)?;
                self.texts(&[name, email_address, credit_card, city, state])?;
                self.number(*date_time)?;
                self.texts(&[extra])
            }
            Event::Auction(auction) => {
                self.bytes(&[AUCTION])?;
                self.number(auction.id)?;
                self.texts(&[&auction.item_name, &auction.description])?;
                self.numbers(&[auction.initial_bid, auction.reserve, auction.date_time])?;
                self.numbers(&[auction.expires, auction.seller, auction.category])?;
                self.texts(&[&auction.extra])
            }
            Event::Bid(Bid { auction, bidder, price, channel, url, date_time, extra }) => {
                self.bytes(&[BID])?;
                self.numbers(&[*auction, *bidder, *price])?;
                self.texts(&[channel, url])?;
                self.number(*date_time)?;
                self.texts(&[extra])
            }
        }
    }
}
