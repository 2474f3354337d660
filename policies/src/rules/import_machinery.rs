//! `import-machinery`: changing what an import means.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "import-machinery",
    title: "changing what an import means",
    severity: Severity::Error,
    cwe: &[829],
    advice: "import modules by name at the top of the script",
    page: include_str!("pages/import-machinery.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
