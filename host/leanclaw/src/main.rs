//! The `leanclaw` program; everything is in the library.

/// Calls allocate on one thread and free on another all the time. The system's allocator answers that with arenas that grow for
/// as long as the program runs (`cargo xtask bench plugins --only soak`). Without transparent huge pages, of which every thread
/// would hold some and use little.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    leanclaw::cli::main()
}
