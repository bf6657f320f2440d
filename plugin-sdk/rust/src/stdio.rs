//! What the standard library asks of the C library, answered here instead of through WASI.
//!
//! A panic's message, `println!` and an environment that is always empty would otherwise bring the C library's files,
//! terminals and environment into every component: nineteen imports and two more core modules to make for each
//! instance. The linker takes a C function from its archive only when nothing else defines it, so these three definitions
//! keep all of that out. A plugin that uses more of the system (a clock, `std::fs`) links those parts as ever.

#![expect(unsafe_code, reason = "these are C functions")]

use core::ffi::{c_char, c_int, c_void};

use crate::bindings::raw::log::{Output, print};

/// Bytes that one call of the host takes.
const PIECE_BYTES: usize = 64;

/// `write(2)` for the two outputs. There is no other file to write to: the host opens none.
///
/// # Safety
/// As the C library's: `bytes` points to `length` readable bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn write(file: c_int, bytes: *const c_void, length: usize) -> isize {
    let output = match file {
        1 => Output::Stdout,
        2 => Output::Stderr,
        _ => return -1,
    };
    if length == 0 {
        return 0;
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { core::slice::from_raw_parts(bytes.cast::<u8>(), length) };
    for piece in bytes.chunks(PIECE_BYTES) {
        put(output, piece);
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}

/// Hands `piece` to the host, in numbers.
fn put(output: Output, piece: &[u8]) {
    let mut numbers = [0_u64; 8];
    for (number, bytes) in numbers.iter_mut().zip(piece.chunks(8)) {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(bytes) {
            *to = *from;
        }
        *number = u64::from_le_bytes(word);
    }
    let [a, b, c, d, e, f, g, h] = numbers;
    print(output, u8::try_from(piece.len()).unwrap_or(u8::MAX), a, b, c, d, e, f, g, h);
}

/// `getenv(3)`: no plugin has an environment.
#[unsafe(no_mangle)]
extern "C" fn getenv(_name: *const c_char) -> *mut c_char {
    core::ptr::null_mut()
}

/// `abort(3)`: a trap, which the host reports with the call.
#[unsafe(no_mangle)]
extern "C" fn abort() -> ! {
    core::arch::wasm32::unreachable()
}
