//! `unsafe-deserialization`: reading data that can contain code.

use super::{Rule, Symbol};
use crate::Severity;

pub(crate) static RULE: Rule = Rule {
    id: "unsafe-deserialization",
    title: "reading data that can contain code",
    severity: Severity::Error,
    cwe: &[502],
    advice: "use `json`, or another format that holds data only",
    page: include_str!("pages/unsafe-deserialization.md"),
    python: PYTHON,
    javascript: JAVASCRIPT,
};

const PYTHON: &[Symbol] = &[];

// Below: the same in JavaScript and TypeScript.

const JAVASCRIPT: &[Symbol] = &[
    Symbol { path: "node-serialize", trigger: super::Trigger::Imported, does: "makes functions of the data it reads" },
    Symbol { path: "serialize-to-js", trigger: super::Trigger::Imported, does: "makes functions of the data it reads" },
    Symbol { path: "funcster", trigger: super::Trigger::Imported, does: "makes functions of the data it reads" },
    Symbol { path: "cryo", trigger: super::Trigger::Imported, does: "makes functions of the data it reads" },
    Symbol { path: "node-unserialize", trigger: super::Trigger::Imported, does: "makes functions of the data it reads" },
    Symbol { path: "serialijse", trigger: super::Trigger::Imported, does: "makes functions of the data it reads" },
    Symbol { path: "node-serialize.unserialize", trigger: super::Trigger::Called, does: "makes functions of the data it reads" },
    Symbol { path: "serialize-to-js.*", trigger: super::Trigger::Called, does: "makes functions of the data it reads" },
    Symbol { path: "funcster.deepDeserialize", trigger: super::Trigger::Called, does: "makes functions of the data it reads" },
    Symbol { path: "cryo.parse", trigger: super::Trigger::Called, does: "makes functions of the data it reads" },
    Symbol { path: "js-yaml.unsafeLoad", trigger: super::Trigger::Called, does: "makes functions of the data it reads" },
    Symbol { path: "js-yaml.unsafeLoadAll", trigger: super::Trigger::Called, does: "makes functions of the data it reads" },
    Symbol { path: "v8.deserialize", trigger: super::Trigger::Called, does: "makes objects of data in V8's own format" },
    Symbol { path: "v8.Deserializer", trigger: super::Trigger::Called, does: "makes objects of data in V8's own format" },
    Symbol { path: "v8.startupSnapshot.*", trigger: super::Trigger::Called, does: "makes objects of data in V8's own format" },
];
