//! The binary `capibara`: parse, execute, print, exit. Everything is in the library.

#![forbid(unsafe_code)]

// Nothing is left to drop here, and tearing down what the engine mapped would take time.
fn main() {
    if cfg!(any(linked_statically, target_feature = "crt-static")) {
        capibara_generate::use_own_resolver();
    }
    std::process::exit(capibara_cli::main_impl(std::env::args_os()))
}
