//! `blobs`: bytes that travel beside a call, read and written in pieces.

use leanclaw_types::Failure;
use leanclaw_wasm::Limited;
use wasmtime::component::Resource;

use crate::bindings::imports::blobs::{Host, HostBlob, HostWriter};
use crate::bindings::imports::types;
use crate::state::{InstanceState, to_guest};

/// The most bytes that the blobs a guest writes in one instance may hold together.
const MAX_PARKED_BYTES: usize = 64 * 1024 * 1024;

/// Bytes with a media type and a reading position.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Blob {
    pub(crate) media_type: String,
    pub(crate) data: Vec<u8>,
    position: usize,
}

impl Blob {
    pub(crate) fn new(media_type: impl Into<String>, data: Vec<u8>) -> Self {
        Self { media_type: media_type.into(), data, position: 0 }
    }
}

/// A blob in the making.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Writer {
    media_type: String,
    data: Vec<u8>,
}

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
        let blob = self.table.delete(blob)?;
        self.parked_bytes = self.parked_bytes.saturating_sub(blob.data.len());
        Ok(())
    }
}

impl HostWriter for InstanceState {
    fn new(&mut self, media_type: String) -> wasmtime::Result<Resource<Writer>> {
        self.enter()?;
        Ok(self.table.push(Writer { media_type, data: Vec::new() })?)
    }

    fn write(&mut self, writer: Resource<Writer>, chunk: Vec<u8>) -> Answer<()> {
        self.enter()?;
        // What a guest parks here is the host's memory, so all of it together is bounded like the guest's own.
        let most = MAX_PARKED_BYTES.min(self.limiter().limits().memory_bytes);
        let parked = self.parked_bytes.saturating_add(chunk.len());
        if parked > most {
            let failure =
                Failure::new("too-large", format!("The blobs of one instance may hold {most} bytes together."));
            return Ok(Err(to_guest(&failure)));
        }
        self.table.get_mut(&writer)?.data.extend_from_slice(&chunk);
        self.parked_bytes = parked;
        Ok(Ok(()))
    }

    fn finish(&mut self, writer: Resource<Writer>) -> Answer<Resource<Blob>> {
        self.enter()?;
        let writer = self.table.delete(writer)?;
        Ok(Ok(self.table.push(Blob::new(writer.media_type, writer.data))?))
    }

    fn drop(&mut self, writer: Resource<Writer>) -> wasmtime::Result<()> {
        let writer = self.table.delete(writer)?;
        self.parked_bytes = self.parked_bytes.saturating_sub(writer.data.len());
        Ok(())
    }
}
