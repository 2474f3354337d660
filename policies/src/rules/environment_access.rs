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

const JAVASCRIPT: &[Symbol] = &[
    Symbol { path: "process.env*", trigger: super::Trigger::Named, does: "reads the environment" },
    Symbol { path: "Deno.env*", trigger: super::Trigger::Named, does: "reads the environment" },
    Symbol { path: "Bun.env*", trigger: super::Trigger::Named, does: "reads the environment" },
    Symbol { path: "import.meta.env*", trigger: super::Trigger::Named, does: "reads the environment" },
    Symbol { path: "os.userInfo", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "os.homedir", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "os.hostname", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "os.networkInterfaces", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "process.getuid", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "process.geteuid", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "process.getgid", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "process.getgroups", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "process.setuid", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "process.setgid", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "process.seteuid", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "process.setegid", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "process.setgroups", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "process.initgroups", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "Deno.hostname", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "Deno.osRelease", trigger: super::Trigger::Called, does: "reads who runs this and where" },
    Symbol { path: "process.report.*", trigger: super::Trigger::Called, does: "reads the configuration or state of the process" },
    Symbol { path: "process.loadEnvFile", trigger: super::Trigger::Called, does: "reads the configuration or state of the process" },
    Symbol { path: "v8.getHeapSnapshot", trigger: super::Trigger::Called, does: "reads the configuration or state of the process" },
    Symbol { path: "v8.writeHeapSnapshot", trigger: super::Trigger::Called, does: "reads the configuration or state of the process" },
    Symbol { path: "dotenv", trigger: super::Trigger::Imported, does: "reads the environment" },
    Symbol { path: "dotenv/config", trigger: super::Trigger::Imported, does: "reads the environment" },
    Symbol { path: "env-paths", trigger: super::Trigger::Imported, does: "reads the environment" },
    Symbol { path: "keytar", trigger: super::Trigger::Imported, does: "reads the environment" },
    Symbol { path: "document.cookie", trigger: super::Trigger::Named, does: "reads what a browser keeps for a site" },
];
