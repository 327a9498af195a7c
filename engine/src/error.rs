//! `Error`: what went wrong, sorted by what the reader can do about it.

use std::error::Error as StdError;
use std::fmt;

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
}

impl Error {
    /// An error of `kind` that says `message` (lower case, no full stop).
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Repr { kind, operator: None, message: message.into(), source: None }))
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

    /// What the reader can do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operator in which it happened, if in one.
    pub fn operator(&self) -> Option<&str> {
        self.0.operator.as_deref()
    }

    /// True if starting again may help without anyone changing anything.
    pub fn is_retryable(&self) -> bool {
        self.0.kind == ErrorKind::Unavailable
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
