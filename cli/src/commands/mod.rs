//! The commands: arguments and execution of each in a file of its own.

pub(crate) mod run;
pub(crate) mod runtime;

use capibara::Language;

use crate::errors::Failure;

/// The language of that name, as on the command line.
pub(crate) fn language(name: &str) -> Result<Language, Failure> {
    if name == Language::Python.name() { Ok(Language::Python) } else { Err(Failure::no_such_language(name)) }
}

/// How people write the name of a language.
pub(crate) fn display_name(language: Language) -> &'static str {
    match language {
        Language::Python => "Python",
        // Languages may come to be.
        _ => language.name(),
    }
}
