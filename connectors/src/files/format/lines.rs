//! Plain lines of text.

use super::{FirstRecord, Format, Framing, Malformed};

/// Lines of UTF-8 text, blank ones included; see [`lines`](crate::files::lines).
#[derive(Clone, Copy, Default, Debug)]
pub struct Lines;

impl Format for Lines {
    type Item = String;
    type Scratch = ();

    fn name(&self) -> &'static str {
        "lines"
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn first(&self, _raw: &[u8], _scratch: &mut ()) -> Result<FirstRecord, String> {
        Ok(FirstRecord::Record)
    }

    fn decode(&self, raw: &[u8], _scratch: &mut ()) -> Result<Option<String>, Malformed> {
        match std::str::from_utf8(raw) {
            Ok(line) => Ok(Some(line.to_owned())),
            Err(error) => {
                let valid = error.valid_up_to();
                Err(Malformed::Record(format!("not UTF-8 after {valid} bytes")))
            }
        }
    }
}
