//! Why a key-value call was refused.

use std::path::Path;

use leanclaw_types::Failure;
use leanclaw_types::failure::code;

use crate::error::{Located, StoreError};
use crate::kv::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// Why a key-value call was refused. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// The entry is not at the revision the caller expected.
    #[error("The entry changed: it is {}.", shown_revision(*.found))]
    Conflict {
        /// The revision that is there; none when there is no entry.
        found: Option<u64>,
    },
    /// The entry would not fit in the plugin's quota.
    #[error("The plugin's key-value store is full: {used} of {quota} bytes are used and this entry does not fit.")]
    QuotaExceeded {
        /// Bytes its keys and values take now, this entry's old value included.
        used: u64,
        /// Bytes they may take.
        quota: u64,
    },
    /// The key is longer than [`MAX_KEY_BYTES`].
    #[error("The key has {bytes} bytes; the limit is {MAX_KEY_BYTES}.")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The value is larger than [`MAX_VALUE_BYTES`].
    #[error("The value has {bytes} bytes; the limit is {MAX_VALUE_BYTES}.")]
    ValueTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The file failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn shown_revision(found: Option<u64>) -> String {
    found.map_or_else(|| "not there".to_owned(), |revision| format!("at revision {revision}"))
}

impl From<rusqlite::Error> for KvError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Located for KvError {
    fn at(self, path: &Path) -> Self {
        match self {
            Self::Store(error) => Self::Store(error.at(path)),
            refused => refused,
        }
    }

    fn file_failure(&self) -> Option<&StoreError> {
        if let Self::Store(error) = self { error.file_failure() } else { None }
    }
}

impl From<KvError> for Failure {
    fn from(error: KvError) -> Self {
        let message = error.to_string();
        match error {
            KvError::Conflict { found } => {
                let mut failure =
                    Self::new(code::CONFLICT, message).hint("Read the entry again and retry on what it holds now.");
                failure.extra = Some(serde_json::json!({ "revision": found }));
                failure
            }
            KvError::QuotaExceeded { .. } => {
                Self::new(code::BUDGET_EXHAUSTED, message).hint("Delete entries, or give them a time to live.").hint(
                    "More room: raise `permissions.kv.quotaBytes` in the plugin's manifest and have it granted \
                     (`leanclaw plugin grant ID --all`).",
                )
            }
            KvError::KeyTooLong { .. } => Self::new(code::TOO_LARGE, message).hint("Use a hash as the key."),
            KvError::ValueTooLarge { .. } => {
                Self::new(code::TOO_LARGE, message).hint("Store the value in several entries.")
            }
            KvError::Store(error) => error.into(),
        }
    }
}
