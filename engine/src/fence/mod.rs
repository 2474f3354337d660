//! Where scripts run. One fence so far: WebAssembly in this process.

mod linker;
mod state;
mod stdin;
mod wasm;
mod watch;

pub(crate) use linker::{WASI, link};
pub(crate) use state::{MAX_TABLE_ELEMENTS, State, StopError};
pub(crate) use wasm::{Guest, Start, denied, run};
pub(crate) use watch::block_on;
