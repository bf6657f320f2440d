//! The `leanclaw` program; everything is in the library.

fn main() -> std::process::ExitCode {
    leanclaw::cli::main()
}
