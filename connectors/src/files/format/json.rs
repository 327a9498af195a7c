//! JSON lines: one JSON value on each line, typed by serde.

use std::fmt;
use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use thalweg_engine::Element;

use super::{FirstRecord, Format, Framing, Malformed};

/// One JSON value on each line; see [`json_lines`](crate::files::json_lines). Blank lines are
/// passed over.
pub struct JsonLines<T> {
    records: PhantomData<fn() -> T>,
}

impl<T> Default for JsonLines<T> {
    fn default() -> Self {
        JsonLines { records: PhantomData }
    }
}

impl<T> Clone for JsonLines<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T> fmt::Debug for JsonLines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JsonLines")
    }
}

impl<T: Element + DeserializeOwned> Format for JsonLines<T> {
    type Item = T;
    type Scratch = ();

    fn name(&self) -> &'static str {
        "json lines"
    }

    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn first(&self, _raw: &[u8], _scratch: &mut ()) -> Result<FirstRecord, String> {
        Ok(FirstRecord::Record)
    }

    fn decode(&self, raw: &[u8], _scratch: &mut ()) -> Result<Option<T>, Malformed> {
        if raw.trim_ascii().is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(raw).map(Some).map_err(|error| Malformed::Record(explain(&error)))
    }
}

/// The message of `error`, whose line number is always 1 and says nothing.
fn explain(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match message.strip_suffix(&place) {
        Some(message) => format!("column {}: {message}", error.column()),
        None => message,
    }
}
