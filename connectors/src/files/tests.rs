//! Files on disk, read and written, damaged and interrupted.

mod damage;
mod interrupted;
mod malformed;
mod reading;
mod writing;

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

/// A record with what CSV makes hard.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Row {
    id: u64,
    name: String,
    delay: Option<i32>,
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("writes to memory");
    encoder.finish().expect("writes to memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::Encoder::new(Vec::new(), 3).expect("has memory");
    encoder.include_checksum(true).expect("nothing was written yet");
    encoder.write_all(bytes).expect("writes to memory");
    encoder.finish().expect("writes to memory")
}

fn write(directory: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(directory.join(name), bytes).expect("writes to a temporary directory");
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("there is a temporary directory")
}

/// Numbers that look random and are the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Rows with quotes, delimiters, line ends and nothing in their names.
fn rows(count: u64, numbers: &mut Numbers) -> Vec<Row> {
    let parts = ["a", "\"", ",", "\n", "\r\n", " ", "ü", "long name", "\"\"", "'"];
    (0..count)
        .map(|id| {
            let length = numbers.below(4);
            let name = (0..length).map(|_| parts[numbers.below(parts.len() as u64) as usize]);
            let name = name.collect();
            let delay = (numbers.below(3) > 0).then(|| numbers.below(200) as i32 - 100);
            Row { id, name, delay }
        })
        .collect()
}

/// The rows as CSV, written by another implementation, with blank lines here and there.
fn to_csv(rows: &[Row], numbers: &mut Numbers) -> Vec<u8> {
    let mut text = b"id,name,delay\n".to_vec();
    for row in rows {
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(&mut text);
        writer.serialize(row).expect("a flat row");
        drop(writer);
        if numbers.below(5) == 0 {
            text.extend(b"\r\n");
        }
    }
    text
}
