//! Where a CSV record with quotes ends, and what its fields are.
//!
//! The dialect is RFC 4180's: a field that begins with a quote ends with one and may hold
//! delimiters, line ends and doubled quotes; a quote inside a field that did not begin with one is
//! an ordinary character.

use csv::ByteRecord;

/// A walk over the bytes of one record that can be resumed when more bytes have come.
#[derive(Clone, Copy, Debug)]
pub(super) struct QuoteScan {
    delimiter: u8,
    phase: Phase,
    /// Bytes seen.
    at: usize,
    /// Line ends seen.
    pub(super) lines: u64,
    /// A quoted field was followed by text, so some quote is out of place.
    pub(super) has_text_after_quote: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote inside a quoted field: it was the last one, or the first of a doubled one.
    QuoteSeen,
}

impl QuoteScan {
    pub(super) fn new(delimiter: u8) -> Self {
        QuoteScan {
            delimiter,
            phase: Phase::FieldStart,
            at: 0,
            lines: 0,
            has_text_after_quote: false,
        }
    }

    /// The length of the record at the start of `bytes`, its line end included, or none if it
    /// does not end in them. Called again, `bytes` has grown at its end.
    pub(super) fn record_end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (i, &byte) in bytes.iter().enumerate().skip(self.at) {
            self.lines += u64::from(byte == b'\n');
            self.phase = match (self.phase, byte) {
                (Phase::Quoted, b'"') => Phase::QuoteSeen,
                (Phase::Quoted, _) => Phase::Quoted,
                (_, b'\n') => {
                    self.at = i + 1;
                    return Some(i + 1);
                }
                (Phase::FieldStart | Phase::QuoteSeen, b'"') => Phase::Quoted,
                (_, byte) if byte == self.delimiter => Phase::FieldStart,
                (Phase::QuoteSeen, b'\r') => Phase::QuoteSeen,
                (phase, _) => {
                    self.has_text_after_quote |= phase == Phase::QuoteSeen;
                    Phase::Plain
                }
            };
        }
        self.at = bytes.len();
        None
    }

    /// True if the bytes so far end inside a quoted field.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Quoted
    }
}

/// Splits `raw`, one record without its line end, into the fields of `record`.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn split_fields(
    raw: &[u8],
    delimiter: u8,
    record: &mut ByteRecord,
) -> Result<(), String> {
    record.clear();
    let mut start = 0;
    if memchr::memchr(b'"', raw).is_none() {
        for end in memchr::memchr_iter(delimiter, raw) {
            record.push_field(&raw[start..end]);
            start = end + 1;
        }
        record.push_field(&raw[start..]);
        return Ok(());
    }
    let mut unquoted = Vec::new();
    loop {
        let rest = &raw[start..];
        let taken = if rest.first() == Some(&b'"') {
            let taken = unquote(rest, &mut unquoted)
                .ok_or_else(|| format!("quoted field {} is not closed", record.len() + 1))?;
            if rest.get(taken).is_some_and(|next| *next != delimiter) {
                return Err(format!("text after the quoted field {}", record.len() + 1));
            }
            record.push_field(&unquoted);
            taken
        } else {
            let taken = memchr::memchr(delimiter, rest).unwrap_or(rest.len());
            record.push_field(&rest[..taken]);
            taken
        };
        if taken == rest.len() {
            return Ok(());
        }
        start += taken + 1;
    }
}

/// Reads the quoted field at the start of `bytes` into `field`: how long it is with its quotes.
fn unquote(bytes: &[u8], field: &mut Vec<u8>) -> Option<usize> {
    field.clear();
    let mut at = 1;
    loop {
        let end = at + memchr::memchr(b'"', &bytes[at..])?;
        field.extend_from_slice(&bytes[at..end]);
        if bytes.get(end + 1) != Some(&b'"') {
            return Some(end + 1);
        }
        field.push(b'"');
        at = end + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(raw: &str) -> Result<Vec<String>, String> {
        let mut record = ByteRecord::new();
        split_fields(raw.as_bytes(), b',', &mut record)?;
        Ok(record.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect())
    }

    #[test]
    fn fields_are_split_and_unquoted() {
        let ok = |raw, expected: &[&str]| {
            assert_eq!(fields(raw).expect(raw), expected, "{raw}");
        };
        ok("", &[""]);
        ok("a,b", &["a", "b"]);
        ok("a,,", &["a", "", ""]);
        ok("\"a,b\",c", &["a,b", "c"]);
        ok("\"a\"\"b\",\"\"", &["a\"b", ""]);
        ok("a\"b\",c", &["a\"b\"", "c"]);
        ok("\"a\nb\",", &["a\nb", ""]);
        ok("\"\"\"\"", &["\""]);
        assert_eq!(fields("a,\"b"), Err("quoted field 2 is not closed".to_owned()));
        assert_eq!(fields("a,\"b\"\""), Err("quoted field 2 is not closed".to_owned()));
        assert_eq!(fields("\"a\"b,c"), Err("text after the quoted field 1".to_owned()));
    }

    #[test]
    fn the_end_is_found_wherever_the_bytes_are_cut() {
        for (text, end, lines) in [
            ("\"a\nb\",c\nd", 8, 2),
            ("a\"b\nc\n", 4, 1),
            ("\"a\"\"\n\",x\r\ny", 10, 2),
            ("\"a\"x\"\n\"", 6, 1),
        ] {
            for cut in 0..=text.len() {
                let mut scan = QuoteScan::new(b',');
                let first = scan.record_end(&text.as_bytes()[..cut]);
                let found = first.or_else(|| scan.record_end(text.as_bytes()));
                assert_eq!((found, scan.lines), (Some(end), lines), "{text:?} cut at {cut}");
            }
        }
        let mut scan = QuoteScan::new(b',');
        assert_eq!(scan.record_end(b"a,\"b\nc\n"), None);
        assert!(scan.is_open());
    }
}
