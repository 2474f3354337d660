//! The command `capibara` for the tests of this package.

fn main() {
    std::process::exit(capibara_cli::main_impl(std::env::args_os()))
}
