//! `environment-access`: reading the environment or credentials.

use super::{Rule, Symbol, Trigger};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "environment-access",
    title: "reading the environment or credentials",
    severity: Severity::Warning,
    cwe: &[526],
    advice: "pass what it needs with `--env`",
    page: include_str!("pages/environment-access.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[
    Symbol { path: "os.environ", trigger: Trigger::Named, does: "reads the environment of the process" },
    Symbol { path: "os.environb", trigger: Trigger::Named, does: "reads the environment of the process" },
    Symbol { path: "os.getenv", trigger: Trigger::Named, does: "reads the environment of the process" },
    Symbol { path: "os.getenvb", trigger: Trigger::Named, does: "reads the environment of the process" },
    Symbol { path: "os.putenv", trigger: Trigger::Named, does: "reads the environment of the process" },
    Symbol { path: "os.unsetenv", trigger: Trigger::Named, does: "reads the environment of the process" },
    Symbol { path: "os.path.expandvars", trigger: Trigger::Called, does: "reads the environment of the process" },
    Symbol { path: "os.getlogin", trigger: Trigger::Named, does: "reads who the user is and what the machine is" },
    Symbol { path: "os.getpwuid", trigger: Trigger::Named, does: "reads who the user is and what the machine is" },
    Symbol { path: "getpass.getuser", trigger: Trigger::Named, does: "reads who the user is and what the machine is" },
    Symbol { path: "pwd", trigger: Trigger::Imported, does: "reads the database of users" },
    Symbol { path: "grp", trigger: Trigger::Imported, does: "reads the database of users" },
    Symbol { path: "spwd", trigger: Trigger::Imported, does: "reads the database of users" },
    Symbol { path: "winreg", trigger: Trigger::Imported, does: "reads the database of users" },
    Symbol { path: "_winreg", trigger: Trigger::Imported, does: "reads the database of users" },
    Symbol { path: "keyring", trigger: Trigger::Imported, does: "reads the database of users" },
    Symbol { path: "dotenv", trigger: Trigger::Imported, does: "reads the database of users" },
];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[];
