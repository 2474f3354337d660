//! The rules: one file and one page each.
//!
//! A rule is named for the pattern it finds, so that "allow `dynamic-code`" reads well; ids are permanent. What a rule
//! looks for is mostly a table of `Symbol`s per language, which the resolver of that language looks names up in; what
//! needs more than a name is code in the language's module that reports under the rule.

use crate::Severity;

/// A rule of the scanner.
#[derive(Debug)]
pub struct Rule {
    /// Permanent id in kebab-case.
    pub id: &'static str,
    /// What it finds, in a few words.
    pub title: &'static str,
    /// How bad it is where the policy says nothing.
    pub severity: Severity,
    /// Numbers in the Common Weakness Enumeration (cwe.mitre.org).
    pub cwe: &'static [u16],
    /// What to do about a finding, in one line.
    pub advice: &'static str,
    /// Its page: what it finds, why it is dangerous here, what fires and what does not, presets, CWE. Markdown.
    pub page: &'static str,
    /// Names in Python that it reports.
    pub(crate) python: &'static [Symbol],
    /// Names in JavaScript and TypeScript that it reports.
    pub(crate) javascript: &'static [Symbol],
}

/// A name of a module or builtin that a rule reports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbol {
    /// Dotted and resolved: `os.system`, `builtins.eval`, `child_process.exec`. A last `*` stands for any rest: `os.exec*`.
    pub(crate) path: &'static str,
    /// What has to be done with it.
    pub(crate) trigger: Trigger,
    /// What it does, to stand in a message after the name: "starts a process".
    pub(crate) does: &'static str,
}

/// What has to be done with a name to be reported. Each includes those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trigger {
    /// It is imported.
    Imported,
    /// It is named anywhere: taken, passed on, called.
    Named,
    /// It is called.
    Called,
}

macro_rules! rules {
    ($($module:ident),* $(,)?) => {
        $(mod $module;)*
        /// All rules, in the order they are documented in.
        pub static RULES: &[&Rule] = &[$(&$module::RULE),*];
        $(#[expect(non_upper_case_globals, reason = "named as its module, which is named as the rule")]
        pub(crate) static $module: &Rule = &$module::RULE;)*
    };
}

rules![
    unknown_language,
    unreadable_source,
    syntax_error,
    oversized_source,
    spawn_process,
    dynamic_code,
    import_machinery,
    native_code,
    unsafe_deserialization,
    network_access,
    file_access,
    environment_access,
    introspection_escape,
    prototype_pollution,
    resource_bomb,
    catastrophic_regex,
    obfuscated_code,
    malicious_idiom,
    secret_in_source,
    invisible_unicode,
    unprovable,
];

/// The rule of that id.
#[must_use]
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().copied().find(|rule| rule.id == id)
}
