//! The command `capibara` for the tests of this package.

fn main() {
    // As the command that is linked statically.
    capibara_generate::use_own_resolver();
    std::process::exit(capibara_cli::main_impl(std::env::args_os()))
}
