//! `componentize-py`, as its Python wheel installs it, built from the crate.

fn main() -> anyhow::Result<()> {
    componentize_py::command::run(std::env::args_os())
}
