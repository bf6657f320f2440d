//! The real program, from outside.

#[cfg(test)]
mod pipes;
