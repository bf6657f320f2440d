//! The Rust guest of the benchmarks: a method that does nothing, one that traps and one that never ends.

use leanclaw_plugin_sdk::{Context, Failure, MethodTable, Methods, NoParams, Scope};

#[derive(Default)]
struct Guest;

leanclaw_plugin_sdk::export!(Guest: methods);

impl Methods for Guest {
    fn methods() -> MethodTable<Self> {
        MethodTable::new()
            .method("run", "Does nothing.", Scope::Read, Self::run)
            .method("trap", "Traps.", Scope::Read, Self::trap)
            .method("spin", "Never ends.", Scope::Read, Self::spin)
    }
}

impl Guest {
    fn run(&self, _context: &Context, _params: NoParams) -> Result<(), Failure> {
        Ok(())
    }

    fn trap(&self, _context: &Context, _params: NoParams) -> Result<(), Failure> {
        std::process::abort()
    }

    fn spin(&self, _context: &Context, _params: NoParams) -> Result<(), Failure> {
        let mut rounds = 0_u64;
        loop {
            rounds = std::hint::black_box(rounds.wrapping_add(1));
        }
    }
}
