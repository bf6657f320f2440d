//! `blobs`: bytes that travel beside a call, read and written in pieces.
//!
//! Whoever makes a blob, the guest or the host, its bytes are the host's memory, so all of one instance together are
//! bounded like the guest's own memory. The host makes one with [`InstanceState::park`] and takes one out with
//! [`InstanceState::take_blob`], which keep that count.

use leanclaw_types::Failure;
use leanclaw_wasm::Limited;
use wasmtime::component::Resource;

use crate::bindings::imports::blobs::{Host, HostBlob, HostWriter};
use crate::bindings::imports::types;
use crate::state::{InstanceState, to_guest};

/// The most bytes that the blobs of one instance may hold together.
const MAX_PARKED_BYTES: usize = 64 * 1024 * 1024;
/// The longest media type, in bytes.
const MAX_MEDIA_TYPE_BYTES: usize = 256;

/// Bytes with a media type and a reading position.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Blob {
    pub(crate) media_type: String,
    pub(crate) data: Vec<u8>,
    position: usize,
    /// What it counts for among the parked bytes of its instance.
    counted_bytes: usize,
}

/// A blob in the making.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Writer {
    media_type: String,
    data: Vec<u8>,
    /// As [`Blob::counted_bytes`].
    counted_bytes: usize,
    /// Why it takes nothing. A constructor cannot fail in the contract, so the first use says it.
    refusal: Option<Box<Failure>>,
}

impl InstanceState {
    /// Counts `bytes` more among what is parked.
    fn charge(&mut self, bytes: usize) -> Result<(), Failure> {
        let most = MAX_PARKED_BYTES.min(self.limiter().limits().memory_bytes);
        let parked = self.parked_bytes.saturating_add(bytes);
        if parked > most {
            let message = format!("The blobs of one instance may hold {most} bytes together.");
            return Err(Failure::new("too-large", message)
                .hint("drop a blob as soon as it is read or handed on")
                .hint(format!(
                    "raise limits.memoryMib in the manifest: it holds here up to {MAX_PARKED_BYTES} bytes"
                )));
        }
        self.parked_bytes = parked;
        Ok(())
    }

    /// Makes a blob of the host's for the guest. A media type that is too long is replaced by the one for any bytes.
    ///
    /// # Errors
    /// Outside: the table of handles is full. Inside: `too-large` when the instance holds too many bytes already.
    pub(crate) fn park(
        &mut self,
        media_type: String,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<Resource<Blob>, Failure>> {
        let media_type = if media_type.len() > MAX_MEDIA_TYPE_BYTES { ANY_BYTES.to_owned() } else { media_type };
        let counted_bytes = media_type.len().saturating_add(data.len());
        if let Err(failure) = self.charge(counted_bytes) {
            return Ok(Err(failure));
        }
        Ok(Ok(self.table.push(Blob { media_type, data, position: 0, counted_bytes })?))
    }

    /// Takes a blob out of the instance: it belongs to the caller from here on.
    ///
    /// # Errors
    /// The guest has no such blob.
    pub(crate) fn take_blob(&mut self, blob: Resource<Blob>) -> wasmtime::Result<Blob> {
        let blob = self.table.delete(blob)?;
        self.parked_bytes = self.parked_bytes.saturating_sub(blob.counted_bytes);
        Ok(blob)
    }
}

/// The media type of bytes of which nothing is known.
pub(crate) const ANY_BYTES: &str = "application/octet-stream";

type Answer<T> = wasmtime::Result<Result<T, types::Failure>>;

impl Host for InstanceState {}

impl HostBlob for InstanceState {
    fn media_type(&mut self, blob: Resource<Blob>) -> wasmtime::Result<String> {
        self.enter()?;
        Ok(self.table.get(&blob)?.media_type.clone())
    }

    fn size(&mut self, blob: Resource<Blob>) -> wasmtime::Result<Option<u64>> {
        self.enter()?;
        Ok(u64::try_from(self.table.get(&blob)?.data.len()).ok())
    }

    fn read(&mut self, blob: Resource<Blob>, max: u32) -> Answer<Option<Vec<u8>>> {
        self.enter()?;
        let most = usize::try_from(max).unwrap_or(usize::MAX).min(self.limiter().limits().hostcall_fuel_bytes);
        let blob = self.table.get_mut(&blob)?;
        let rest = blob.data.get(blob.position..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(Ok(None));
        }
        let piece = rest.get(..most.min(rest.len())).unwrap_or_default().to_vec();
        blob.position += piece.len();
        Ok(Ok(Some(piece)))
    }

    fn drop(&mut self, blob: Resource<Blob>) -> wasmtime::Result<()> {
        self.take_blob(blob).map(drop)
    }
}

impl HostWriter for InstanceState {
    fn new(&mut self, media_type: String) -> wasmtime::Result<Resource<Writer>> {
        self.enter()?;
        let length = media_type.len();
        let checked = if length > MAX_MEDIA_TYPE_BYTES {
            let message = format!("The media type has {length} bytes; the limit is {MAX_MEDIA_TYPE_BYTES}.");
            Err(Failure::new("too-large", message))
        } else {
            self.charge(length)
        };
        let writer = match checked {
            Ok(()) => Writer { media_type, data: Vec::new(), counted_bytes: length, refusal: None },
            Err(failure) => Writer {
                media_type: String::new(),
                data: Vec::new(),
                counted_bytes: 0,
                refusal: Some(Box::new(failure)),
            },
        };
        Ok(self.table.push(writer)?)
    }

    fn write(&mut self, writer: Resource<Writer>, chunk: Vec<u8>) -> Answer<()> {
        self.enter()?;
        if let Some(refusal) = &self.table.get(&writer)?.refusal {
            return Ok(Err(to_guest(refusal)));
        }
        if let Err(failure) = self.charge(chunk.len()) {
            return Ok(Err(to_guest(&failure)));
        }
        let writer = self.table.get_mut(&writer)?;
        writer.data.extend_from_slice(&chunk);
        writer.counted_bytes = writer.counted_bytes.saturating_add(chunk.len());
        Ok(Ok(()))
    }

    fn finish(&mut self, writer: Resource<Writer>) -> Answer<Resource<Blob>> {
        self.enter()?;
        let Writer { media_type, data, counted_bytes, refusal } = self.table.delete(writer)?;
        if let Some(refusal) = refusal {
            return Ok(Err(to_guest(&refusal)));
        }
        Ok(Ok(self.table.push(Blob { media_type, data, position: 0, counted_bytes })?))
    }

    fn drop(&mut self, writer: Resource<Writer>) -> wasmtime::Result<()> {
        let writer = self.table.delete(writer)?;
        self.parked_bytes = self.parked_bytes.saturating_sub(writer.counted_bytes);
        Ok(())
    }
}
