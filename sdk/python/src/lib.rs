//! The extension module `capibara._capibara`: the engine as Python sees it.
//!
//! What can be said in Python is said there (`python/capibara/`): this crate holds what needs the engine. A run is always without
//! the interpreter's lock; it is taken for calls of Python functions (tools, output, events) and given back after them.

#![forbid(unsafe_code)]

mod engine;
mod errors;
mod hooks;
mod outcome;
mod policy;
mod session;
mod tools;

use std::ffi::OsString;

use pyo3::prelude::*;

/// The command line: `args` begins with the program's name. Returns the exit code of the process.
#[pyfunction]
fn main(py: Python<'_>, args: Vec<OsString>) -> i32 {
    py.detach(|| capibara_cli::main_impl(args))
}

#[pymodule]
mod _capibara {
    #[pymodule_export]
    use super::engine::Engine;
    #[pymodule_export]
    use super::hooks::Canceler;
    #[pymodule_export]
    use super::main;
    #[pymodule_export]
    use super::outcome::Outcome;
    #[pymodule_export]
    use super::policy::Policy;
    #[pymodule_export]
    use super::session::Session;
    #[pymodule_export]
    use super::tools::Tool;
}
