//! A file's content, decompressed: what its first bytes say decides how.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::MultiGzDecoder;
use thalweg_engine::{Error, Result};

use super::list::{DataFile, unreadable};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const FILE_BUFFER_BYTES: usize = 128 * 1024;

/// The decompressed bytes of a file.
pub(super) struct Stream {
    source: Decoder,
    /// The length of the file as it is stored.
    pub(super) stored_bytes: u64,
}

enum Decoder {
    Plain(BufReader<File>),
    Gzip(Box<MultiGzDecoder<BufReader<File>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<File>>>),
}

impl Stream {
    /// Opens `file` at its beginning.
    ///
    /// # Errors
    /// `Config` if it is missing, unreadable, a directory or shorter than its name promises.
    pub(super) fn open(file: &DataFile) -> Result<Self> {
        let fail = |error: io::Error| unreadable(&file.path, &error);
        let opened = File::open(&file.path).map_err(fail)?;
        let stored_bytes = opened.metadata().map_err(fail)?.len();
        let mut reader = BufReader::with_capacity(FILE_BUFFER_BYTES, opened);
        let head = reader.fill_buf().map_err(fail)?;
        let source = if head.starts_with(&GZIP_MAGIC) {
            Decoder::Gzip(Box::new(MultiGzDecoder::new(reader)))
        } else if head.starts_with(&ZSTD_MAGIC) {
            let decoder = zstd::Decoder::with_buffer(reader).map_err(fail)?;
            Decoder::Zstd(Box::new(decoder))
        } else if is_cut_before_its_magic(&file.name, head) {
            return Err(Error::config(format!(
                "input {} has only {stored_bytes} bytes, too few for a compressed file: it is \
                 incomplete, fetch it again",
                file.path.display()
            )));
        } else {
            Decoder::Plain(reader)
        };
        Ok(Stream { source, stored_bytes })
    }

    /// Goes `bytes` on without reading, where the file allows that: false if it has to be read.
    pub(super) fn seek_on(&mut self, bytes: u64) -> io::Result<bool> {
        match (&mut self.source, i64::try_from(bytes)) {
            (Decoder::Plain(reader), Ok(bytes)) => {
                reader.seek(SeekFrom::Current(bytes)).map(|_| true)
            }
            _ => Ok(false),
        }
    }

    /// What the error of a failed read means for the user: the data's fault or the system's.
    pub(super) fn explain(&self, file: &DataFile, offset: u64, error: &io::Error) -> Error {
        let compression = match self.source {
            Decoder::Plain(_) => return unreadable(&file.path, error),
            Decoder::Gzip(_) => "gzip",
            Decoder::Zstd(_) => "zstd",
        };
        let path = file.path.display();
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::config(format!(
                "input {path}: the {compression} data ends too early, after {offset} decompressed \
                 bytes: the file is incomplete, fetch it again"
            )),
            // Errors of the file itself carry the system's number, the decoders' do not.
            _ if error.raw_os_error().is_some() => unreadable(&file.path, error),
            _ => Error::config(format!(
                "input {path}: the {compression} data is damaged after {offset} decompressed \
                 bytes ({error}): fetch the file again"
            )),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.source {
            Decoder::Plain(reader) => reader.read(buffer),
            Decoder::Gzip(reader) => reader.read(buffer),
            Decoder::Zstd(reader) => reader.read(buffer),
        }
    }
}

/// True if a file that is named as compressed ends before its content could show it.
fn is_cut_before_its_magic(name: &str, head: &[u8]) -> bool {
    let cut = |endings: &[&str], magic: &[u8]| {
        endings.iter().any(|e| name.ends_with(e)) && head.len() < magic.len()
    };
    cut(&[".gz", ".gzip"], &GZIP_MAGIC) || cut(&[".zst", ".zstd"], &ZSTD_MAGIC)
}
