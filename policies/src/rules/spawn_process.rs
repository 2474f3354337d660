//! `spawn-process`: starting other programs.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "spawn-process",
    title: "starting other programs",
    severity: Severity::Error,
    cwe: &[78],
    advice: "there are no other programs in the sandbox; do it in the script itself",
    page: include_str!("pages/spawn-process.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[
    Symbol { path: "child_process", trigger: super::Trigger::Imported, does: "starts a process" },
    Symbol { path: "shelljs", trigger: super::Trigger::Imported, does: "starts a process" },
    Symbol { path: "execa", trigger: super::Trigger::Imported, does: "starts a process" },
    Symbol { path: "cross-spawn", trigger: super::Trigger::Imported, does: "starts a process" },
    Symbol { path: "node-pty", trigger: super::Trigger::Imported, does: "starts a process" },
    Symbol { path: "node-cmd", trigger: super::Trigger::Imported, does: "starts a process" },
    Symbol { path: "zx", trigger: super::Trigger::Imported, does: "starts a process" },
    Symbol { path: "sudo-prompt", trigger: super::Trigger::Imported, does: "starts a process" },
    Symbol { path: "tinyexec", trigger: super::Trigger::Imported, does: "starts a process" },
    Symbol { path: "nano-spawn", trigger: super::Trigger::Imported, does: "starts a process" },
    Symbol { path: "cluster", trigger: super::Trigger::Imported, does: "starts a process" },
    Symbol { path: "child_process.*", trigger: super::Trigger::Called, does: "starts a process" },
    Symbol { path: "cluster.*", trigger: super::Trigger::Called, does: "starts a process" },
    Symbol { path: "process.binding()*", trigger: super::Trigger::Called, does: "starts a process" },
    Symbol { path: "Deno.run", trigger: super::Trigger::Called, does: "starts a process" },
    Symbol { path: "Deno.Command", trigger: super::Trigger::Called, does: "starts a process" },
    Symbol { path: "Bun.spawn", trigger: super::Trigger::Called, does: "starts a process" },
    Symbol { path: "Bun.spawnSync", trigger: super::Trigger::Called, does: "starts a process" },
    Symbol { path: "Bun.$", trigger: super::Trigger::Called, does: "starts a process" },
    Symbol { path: "ActiveXObject", trigger: super::Trigger::Called, does: "starts a process" },
    Symbol { path: "WScript.*", trigger: super::Trigger::Called, does: "starts a process" },
    Symbol { path: "shelljs.*", trigger: super::Trigger::Called, does: "starts a process" },
    Symbol { path: "execa*", trigger: super::Trigger::Called, does: "starts a process" },
    Symbol { path: "cross-spawn*", trigger: super::Trigger::Called, does: "starts a process" },
    Symbol { path: "worker_threads", trigger: super::Trigger::Imported, does: "starts another thread with code of its own" },
    Symbol { path: "worker_threads.Worker", trigger: super::Trigger::Called, does: "starts another thread with code of its own" },
    Symbol { path: "Worker", trigger: super::Trigger::Called, does: "starts another thread with code of its own" },
    Symbol { path: "SharedWorker", trigger: super::Trigger::Called, does: "starts another thread with code of its own" },
    Symbol { path: "process.kill", trigger: super::Trigger::Called, does: "sends a signal to a process" },
    Symbol { path: "process._kill", trigger: super::Trigger::Called, does: "sends a signal to a process" },
    Symbol { path: "Deno.kill", trigger: super::Trigger::Called, does: "sends a signal to a process" },
];
