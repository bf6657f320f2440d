//! The plugin's own key-value store. Needs `permissions.kv`.
//!
//! Instances of one plugin run side by side, so a read followed by a write may lose what another wrote between them:
//! [`update`] and [`put_if`] do not.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::{Failure, code};
use crate::host;

/// How often [`update`] tries before it gives up.
const MAX_UPDATE_ATTEMPTS: usize = 32;
/// How many keys [`all_keys`] asks for at once.
const KEYS_PER_PAGE: u32 = 256;

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The bytes.
    pub value: Vec<u8>,
    /// Changes with every write of the key.
    pub revision: u64,
}

/// What must be true of a key for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything: overwrite whatever is there.
    Anything,
    /// The key is absent.
    Absent,
    /// The key is at this revision.
    Revision(u64),
}

impl Expect {
    fn as_if_revision(self) -> Option<u64> {
        match self {
            Self::Anything => None,
            Self::Absent => Some(0),
            Self::Revision(revision) => Some(revision),
        }
    }
}

/// Reads a key.
///
/// # Errors
/// A [`Failure`] of the host.
pub fn get(key: &str) -> Result<Option<Entry>, Failure> {
    host::kv_get(key)
}

/// Writes a key over whatever is there; gives the new revision.
///
/// # Errors
/// `budget-exhausted` when the store is full; other failures of the host.
pub fn put(key: &str, value: &[u8]) -> Result<u64, Failure> {
    put_if(key, value, Expect::Anything, None)
}

/// Writes a key if what `expect` says is true; gives the new revision. After `ttl_seconds` the key is gone.
///
/// # Errors
/// `conflict` when it is not true, `budget-exhausted` when the store is full; other failures of the host.
pub fn put_if(key: &str, value: &[u8], expect: Expect, ttl_seconds: Option<u32>) -> Result<u64, Failure> {
    host::kv_put(key, value, expect.as_if_revision(), ttl_seconds)
}

/// Writes a key unless it is there; says whether it did. So one of many wins, as with "have I seen this id?".
///
/// # Errors
/// As for [`put_if`], without `conflict`.
pub fn put_new(key: &str, value: &[u8], ttl_seconds: Option<u32>) -> Result<bool, Failure> {
    match put_if(key, value, Expect::Absent, ttl_seconds) {
        Ok(_) => Ok(true),
        Err(failure) if failure.code == code::CONFLICT => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Removes a key; says whether it was there.
///
/// # Errors
/// A [`Failure`] of the host.
pub fn delete(key: &str) -> Result<bool, Failure> {
    host::kv_delete(key)
}

/// At most `limit` keys that start with `prefix`, in the order of their bytes, after the key `after`.
///
/// # Errors
/// A [`Failure`] of the host.
pub fn keys(prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, Failure> {
    host::kv_keys(prefix, after, limit)
}

/// Every key that starts with `prefix`, in the order of their bytes, asked for page by page as the caller goes on.
pub fn all_keys(prefix: &str) -> impl Iterator<Item = Result<String, Failure>> {
    let mut page = Vec::new().into_iter();
    let mut last: Option<String> = None;
    let mut finished = false;
    std::iter::from_fn(move || {
        if page.len() == 0 && !finished {
            match keys(prefix, last.as_deref(), KEYS_PER_PAGE) {
                // A short page may be a smaller limit of the host's: only an empty one is the end.
                Ok(found) => {
                    finished = found.is_empty();
                    page = found.into_iter();
                }
                Err(failure) => {
                    finished = true;
                    return Some(Err(failure));
                }
            }
        }
        let key: String = page.next()?;
        last = Some(key.clone());
        Some(Ok(key))
    })
}

/// Reads a key as JSON.
///
/// # Errors
/// `internal` when what is there does not fit `T`; other failures of the host.
pub fn get_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Failure> {
    get(key)?.map(|entry| read(key, &entry)).transpose()
}

/// Writes a key as JSON over whatever is there; gives the new revision.
///
/// # Errors
/// As for [`put`].
pub fn put_json<T: Serialize>(key: &str, value: &T) -> Result<u64, Failure> {
    put(key, &serde_json::to_vec(value)?)
}

/// Changes a key without losing what others write at the same time: reads it, lets `change` make the new value (from
/// none when the key is absent), writes that only if nobody wrote meanwhile, else starts over. `change` may run more
/// than once. Gives what was written.
///
/// ```
/// use leanclaw_plugin_sdk::{kv, testing::TestHost};
///
/// let _host = TestHost::new();
/// let id: u64 = kv::update("last-id", |last: Option<u64>| Ok(last.unwrap_or(0) + 1))?;
/// assert_eq!(id, 1);
/// # Ok::<(), leanclaw_plugin_sdk::Failure>(())
/// ```
///
/// # Errors
/// What `change` fails with; `conflict` (retryable) when others write all the time; other failures of the host.
pub fn update<T: Serialize + DeserializeOwned>(
    key: &str,
    mut change: impl FnMut(Option<T>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    for _ in 0..MAX_UPDATE_ATTEMPTS {
        let entry = get(key)?;
        let expect = entry.as_ref().map_or(Expect::Absent, |entry| Expect::Revision(entry.revision));
        let value = change(entry.map(|entry| read(key, &entry)).transpose()?)?;
        match put_if(key, &serde_json::to_vec(&value)?, expect, None) {
            Ok(_) => return Ok(value),
            Err(failure) if failure.code == code::CONFLICT => {}
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::conflict(format!("The key `{}` changes too fast to be updated.", key.escape_debug())))
}

fn read<T: DeserializeOwned>(key: &str, entry: &Entry) -> Result<T, Failure> {
    serde_json::from_slice(&entry.value).map_err(|error| {
        Failure::internal(format!("What is stored under `{}` does not fit: {error}.", key.escape_debug()))
    })
}
