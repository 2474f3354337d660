//! Where scripts run. One fence so far: WebAssembly in this process.

mod linker;
mod state;
mod stdin;
mod wasm;
mod watch;

pub(crate) use linker::link;
pub(crate) use state::{State, StopError};
pub(crate) use wasm::{Guest, run};
pub(crate) use watch::block_on;
