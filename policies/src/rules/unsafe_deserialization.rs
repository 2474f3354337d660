//! `unsafe-deserialization`: reading data that can contain code.

use super::{Rule, Symbol, Trigger};
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

const PYTHON: &[Symbol] = &[
    Symbol { path: "shelve", trigger: Trigger::Imported, does: "runs what the data says" },
    Symbol { path: "dill", trigger: Trigger::Imported, does: "runs what the data says" },
    Symbol { path: "cloudpickle", trigger: Trigger::Imported, does: "runs what the data says" },
    Symbol { path: "jsonpickle", trigger: Trigger::Imported, does: "runs what the data says" },
    Symbol { path: "pickle.load", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "pickle.loads", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "pickle._load", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "pickle._loads", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "pickle.Unpickler", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "pickle._Unpickler", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "marshal.load", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "marshal.loads", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "yaml.unsafe_load", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "yaml.unsafe_load_all", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "yaml.full_load", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "yaml.full_load_all", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "yaml.UnsafeLoader", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "yaml.Loader", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "yaml.UnsafeConstructor", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "joblib.load", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "pandas.read_pickle", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "sklearn.externals.joblib.load", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "multiprocessing.reduction.ForkingPickler.loads", trigger: Trigger::Named, does: "runs what the data says" },
    Symbol { path: "ruamel.yaml.unsafe_load", trigger: Trigger::Named, does: "runs what the data says" },
];

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
