//! Compiling a component: what is refused before the compiler sees it, and how the rest reaches it.
//!
//! Compiling hostile input is expensive by nature, so everything that can be refused cheaply is: by size, by kind, by
//! structure. What remains is compiled on a blocking thread, one component at a time.

use wasmparser::{Chunk, Parser, Payload};
use wasmtime::Engine;

use crate::error::printable;

/// The bytes were not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Larger than [`crate::EngineSettings::max_component_bytes`].
    #[error("the component has {size_bytes} bytes; the limit is {limit_bytes}")]
    TooLarge {
        /// Its size.
        size_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// Not WebAssembly at all.
    #[error("this is not a WebAssembly file{}", if *text { ": it is the text format" } else { "" })]
    NotWasm {
        /// It looks like WebAssembly text.
        text: bool,
    },
    /// A core module where a component is needed.
    #[error("this is a core WebAssembly module, not a component")]
    CoreModule,
    /// Native code compiled elsewhere.
    #[error("this is precompiled native code (.cwasm), which is never accepted from outside")]
    Precompiled,
    /// The file ends in the middle.
    #[error("the component is cut off after {size_bytes} bytes")]
    Truncated {
        /// How much is there.
        size_bytes: u64,
    },
    /// The structure is broken.
    #[error("the component is damaged: {message}")]
    Malformed {
        /// Where and how.
        message: String,
    },
    /// Well-formed, but invalid or beyond what this host supports.
    #[error("the component cannot be used here: {message}")]
    Unsupported {
        /// The engine's explanation.
        message: String,
    },
    /// The compiler itself failed.
    #[error("the compiler failed on this component")]
    Crashed,
}

impl CompileError {
    /// What can be done about it, one sentence per line.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        let hint = match self {
            Self::TooLarge { .. } => "build in release mode and strip debug information (wasm-tools strip)",
            Self::NotWasm { text: true } => "turn it into a binary with `wasm-tools parse in.wat -o out.wasm`",
            Self::NotWasm { text: false } => "a component starts with the bytes 00 61 73 6d 0d 00 01 00",
            Self::CoreModule => {
                "build with `--target wasm32-wasip2`, or wrap it with `wasm-tools component new module.wasm`"
            }
            Self::Precompiled => "give the .wasm component it was made from; the host compiles and caches it itself",
            Self::Truncated { .. } => "copy or build it again; a copy may still be running",
            Self::Malformed { .. } => "build it again; `wasm-tools validate FILE` shows the same problem",
            Self::Unsupported { message } if message.contains("async") => {
                "build against WASI 0.2: component-model async (WASI 0.3) is not offered here"
            }
            Self::Unsupported { message } if message.contains("memory64") => "build for 32-bit memories (wasm32)",
            Self::Unsupported { .. } => "check the toolchain's version; WASI 0.2 components with 32-bit memories work",
            Self::Crashed => "please report it together with the component; the host itself is not affected",
        };
        vec![hint.to_owned()]
    }
}

pub(crate) fn unsupported(error: &wasmtime::Error) -> CompileError {
    CompileError::Unsupported { message: printable(&format!("{error:#}")) }
}

/// Refuses whatever is not a structurally complete component.
pub(crate) fn preflight(bytes: &[u8], limit_bytes: u64) -> Result<(), CompileError> {
    let size_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if size_bytes > limit_bytes {
        return Err(CompileError::TooLarge { size_bytes, limit_bytes });
    }
    if Engine::detect_precompiled(bytes).is_some() {
        return Err(CompileError::Precompiled);
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(CompileError::NotWasm { text: looks_like_text(bytes) });
    }
    if Parser::is_core_wasm(bytes) {
        return Err(CompileError::CoreModule);
    }
    if size_bytes < 8 {
        return Err(CompileError::Truncated { size_bytes });
    }
    walk(bytes)
}

fn looks_like_text(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    start.starts_with(b"(component") || start.starts_with(b"(module") || start.starts_with(b";;")
}

/// Follows the section structure to its end, nested modules and components included, without looking into the code.
fn walk(bytes: &[u8]) -> Result<(), CompileError> {
    let length = bytes.len();
    let truncated = || CompileError::Truncated { size_bytes: u64::try_from(length).unwrap_or(u64::MAX) };
    let mut parser = Parser::new(0);
    let mut enclosing = Vec::new();
    let mut rest = bytes;
    loop {
        let payload = match parser.parse(rest, rest.is_empty()) {
            Ok(Chunk::Parsed { consumed, payload }) => {
                rest = rest.get(consumed..).unwrap_or_default();
                payload
            }
            Ok(Chunk::NeedMoreData(_)) => return Err(truncated()),
            Err(_) if rest.is_empty() => return Err(truncated()),
            Err(error) => return Err(CompileError::Malformed { message: printable(&error.to_string()) }),
        };
        match payload {
            Payload::ModuleSection { parser: inner, unchecked_range: range }
            | Payload::ComponentSection { parser: inner, unchecked_range: range } => {
                if range.end > length {
                    return Err(truncated());
                }
                enclosing.push(std::mem::replace(&mut parser, inner));
            }
            Payload::End(_) => match enclosing.pop() {
                Some(outer) => parser = outer,
                None => return Ok(()),
            },
            _ => {}
        }
    }
}
