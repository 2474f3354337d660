//! Where scripts run. One fence so far: WebAssembly in this process.

mod calls;
mod compiled;
mod guest;
mod linker;
mod state;
mod stdin;
mod turn;
mod wasm;
mod watch;

pub(crate) use compiled::CompiledScripts;
pub(crate) use guest::{Guest, Runtime, Start};
pub(crate) use linker::{WASI, link};
pub(crate) use state::{MAX_TABLE_ELEMENTS, State, StopError};
pub(crate) use turn::{TurnJob, Turns};
pub(crate) use wasm::{denied, run};
pub(crate) use watch::{Processors, block_on};
