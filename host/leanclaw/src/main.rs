//! The `leanclaw` program; everything is in the library.

/// Calls allocate on one thread and free on another all the time. The system's allocator answers that with arenas that grow for
/// as long as the program runs (`cargo xtask bench plugins --only soak`). It asks for no transparent huge pages, of which every
/// thread would hold some and use little; a system that gives them unasked (`transparent_hugepage/enabled` is `always`) still does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    leanclaw::cli::main()
}
