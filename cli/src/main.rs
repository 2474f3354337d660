//! The binary `capibara`: parse, execute, print, exit. Everything is in the library.

#![forbid(unsafe_code)]

// Nothing is left to drop here, and tearing down what the engine mapped would take time.
fn main() {
    std::process::exit(capibara_cli::main_impl(std::env::args_os()))
}
