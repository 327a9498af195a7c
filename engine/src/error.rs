//! `Error`: what went wrong, sorted by what the reader can do about it.

use std::error::Error as StdError;
use std::fmt;

use crate::poison::RecordAt;

/// The result of engine calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the reader of an [`Error`] can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The job, an option or a path is wrong: mend it and start again.
    Config,
    /// A function of the user's, or a record of the input, failed.
    User,
    /// Something outside did not answer or refused: try again later.
    Unavailable,
    /// Stored bytes are damaged.
    Corrupt,
    /// A checkpoint does not fit this job or this build.
    Incompatible,
    /// Another process owns what this one wants.
    Fenced,
    /// A broken invariant: please report it.
    Bug,
}

/// An error of the engine: one line that says what, where and what to do.
#[derive(Debug)]
pub struct Error(Box<Repr>);

#[derive(Debug)]
struct Repr {
    kind: ErrorKind,
    operator: Option<String>,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
    /// What was being worked on.
    record: Option<RecordAt>,
    /// Whether to try again, where the kind alone does not say it.
    is_retryable: Option<bool>,
}

impl Error {
    /// An error of `kind` that says `message` (lower case, no full stop).
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Repr {
            kind,
            operator: None,
            message: message.into(),
            source: None,
            record: None,
            is_retryable: None,
        }))
    }

    /// The job, an option or a path is wrong.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// A user function or an input record failed.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::User, message)
    }

    /// The outside world failed; trying again may help.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// Stored bytes are damaged.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// An invariant of the engine does not hold.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Bug, message)
    }

    /// Keeps what caused this error.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// Names the operator in which it happened, unless one is named already.
    #[must_use]
    pub fn in_operator(mut self, name: &str) -> Self {
        self.0.operator.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Says that starting again cannot help: the job ends at this error, whatever its restart
    /// policy. For errors of your own that will come again with the same record.
    ///
    /// ```
    /// use thalweg_engine::Error;
    ///
    /// let error = Error::user("the table of prices has no column `price`").fatal();
    /// assert!(!error.is_retryable());
    /// ```
    #[must_use]
    pub fn fatal(mut self) -> Self {
        self.0.is_retryable = Some(false);
        self
    }

    /// Says that this may pass by itself, as [`unavailable`](Error::unavailable) does: the restart
    /// policy alone decides how often the job is started again. Other errors of a user's function
    /// are retried too, but not without end if the same record fails each time; and under the
    /// simulator, where they are what a test wants to see, they are not retried.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.0.is_retryable = Some(true);
        self
    }

    /// Is tried again if `cause`, which it tells of, would be.
    #[must_use]
    pub fn retried_as(mut self, cause: &Error) -> Self {
        self.0.is_retryable = cause.0.is_retryable.or(match cause.0.kind {
            ErrorKind::User => None,
            kind => Some(kind == ErrorKind::Unavailable),
        });
        self
    }

    /// Notes what the operator was working on.
    #[must_use]
    pub(crate) fn at_record(mut self, record: RecordAt) -> Self {
        self.0.record = Some(record);
        self
    }

    /// What the operator was working on, if that is known.
    pub(crate) fn record(&self) -> Option<&RecordAt> {
        self.0.record.as_ref()
    }

    /// Adds where the source has the record that was being worked on.
    pub(crate) fn set_place(&mut self, place: Option<String>) {
        if let Some(record) = &mut self.0.record {
            record.place = place;
        }
    }

    /// What happened, without the operator.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// Adds to the message what has been done about it.
    #[must_use]
    pub(crate) fn with_note(mut self, note: &str) -> Self {
        self.0.message.push_str("; ");
        self.0.message.push_str(note);
        self
    }

    /// The message in one line, with those of its causes that it does not contain.
    pub fn to_line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let message = error.to_string();
            if !line.contains(&message) {
                line.push_str(": ");
                line.push_str(&message);
            }
            cause = error.source();
        }
        line.lines().map(str::trim).collect::<Vec<_>>().join(" ")
    }

    /// What the reader can do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operator in which it happened, if in one.
    pub fn operator(&self) -> Option<&str> {
        self.0.operator.as_deref()
    }

    /// True if starting again may help without anyone changing anything: what is outside may be
    /// back, and what failed in a user's function may have failed by chance. An error says
    /// otherwise by [`fatal`](Error::fatal).
    pub fn is_retryable(&self) -> bool {
        let by_kind = matches!(self.0.kind, ErrorKind::Unavailable | ErrorKind::User);
        self.0.is_retryable.unwrap_or(by_kind)
    }

    /// True if the same thing, tried again in the same place, may succeed: the world outside
    /// failed, or the error says so itself.
    pub(crate) fn is_passing(&self) -> bool {
        self.0.is_retryable.unwrap_or(self.0.kind == ErrorKind::Unavailable)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(operator) = &self.0.operator {
            write!(f, "operator `{operator}`: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|e| &**e as &(dyn StdError + 'static))
    }
}

impl From<thalweg_state::StateError> for Error {
    fn from(error: thalweg_state::StateError) -> Self {
        use thalweg_state::StateError;
        let kind = match &error {
            StateError::Corrupt { .. } => ErrorKind::Corrupt,
            StateError::Codec(codec) => codec_kind(codec),
            StateError::Io { .. } => ErrorKind::Unavailable,
            StateError::Unsupported(_) => ErrorKind::Config,
            StateError::Incompatible(_) => ErrorKind::Incompatible,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, error.to_string()).with_source(error)
    }
}

impl From<thalweg_state::CodecError> for Error {
    fn from(error: thalweg_state::CodecError) -> Self {
        Error::new(codec_kind(&error), error.to_string()).with_source(error)
    }
}

/// What cannot be encoded is the user's key or value; what cannot be decoded is damaged.
fn codec_kind(error: &thalweg_state::CodecError) -> ErrorKind {
    use thalweg_state::CodecError;
    match error {
        CodecError::Encode(_) | CodecError::TooLong { .. } => ErrorKind::User,
        _ => ErrorKind::Corrupt,
    }
}

impl From<thalweg_checkpoint::Error> for Error {
    fn from(error: thalweg_checkpoint::Error) -> Self {
        use thalweg_checkpoint::ErrorKind as Kind;
        let kind = match error.kind() {
            Kind::Config => ErrorKind::Config,
            Kind::Unavailable => ErrorKind::Unavailable,
            Kind::Corrupt => ErrorKind::Corrupt,
            Kind::Incompatible => ErrorKind::Incompatible,
            Kind::Fenced => ErrorKind::Fenced,
            Kind::Bug => ErrorKind::Bug,
        };
        Error::new(kind, error.to_string()).with_source(error)
    }
}
