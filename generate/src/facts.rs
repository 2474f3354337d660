//! What is true of the sandbox and of what the user grants: all that a model is told beside the task.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use capibara::{Access, Engine, EngineError, Grant, Job, Language, Limits, Policy, Status, Stdin, Tool};
use capibara_policies::{ScanMode, format_count, format_duration, format_size};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::section::{Keep, clip, digest, json};

/// Asks an interpreter which modules it has.
const QUESTION: &str = include_str!("modules.py");
/// The largest answer, and the largest file that keeps one.
const LARGEST_ANSWER: u64 = 64 << 10;
/// The most modules, and the longest name.
const MOST_MODULES: usize = 2_000;
const LONGEST_MODULE: usize = 64;
/// What of a tool's description, or of one of its arguments, is told.
const LONGEST_DESCRIPTION: usize = 1_000;
/// How deep the type of an argument is looked into.
const DEEPEST_TYPE: usize = 4;

/// Why facts cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FactsError {
    /// The interpreter could not be asked.
    #[error("the runtime cannot be asked for its modules")]
    Engine(#[from] EngineError),
    /// It gave no answer that can be used.
    #[error("the runtime does not say which modules it has: {reason}")]
    Modules {
        /// What it did.
        reason: String,
    },
    /// Nothing is written in that language.
    #[error("scripts are not written in {language}")]
    Language {
        /// Its name for people.
        language: &'static str,
    },
    /// What is granted is not there.
    #[error("`{path}` cannot be granted: {source}")]
    Grant {
        /// Where it was looked for on the host.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// What is granted has no name in the sandbox.
    #[error("`{path}` has no name to be seen under")]
    Nameless {
        /// Its path on the host.
        path: String,
    },
}

impl FactsError {
    /// What to try.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Engine(error) => error.hint(),
            Self::Modules { .. } => Some("run `capibara runtime verify python`".into()),
            Self::Language { .. } => Some("ask for Python".into()),
            Self::Grant { .. } => Some("grant a file or folder that is there".into()),
            Self::Nameless { .. } => Some("say where the script sees it: HOST:GUEST".into()),
        }
    }
}

/// What is true of a runtime, whoever uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuntimeFacts {
    /// The language, for people: `Python`.
    pub language: &'static str,
    /// Its version: `3.13.5`.
    pub version: String,
    /// Digest of the runtime, in hexadecimal.
    pub sha256: String,
    /// The modules that can be imported, sorted.
    pub modules: Vec<String>,
}

/// The file that keeps what a runtime answered.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    schema: u32,
    modules: Vec<String>,
    /// Over the runtime, the question and the modules.
    sha256: String,
}

impl Kept {
    fn of(modules: Vec<String>, runtime_sha256: &str) -> Self {
        let sha256 = digest(["1", runtime_sha256, QUESTION].into_iter().chain(modules.iter().map(String::as_str)));
        Self { schema: 1, modules, sha256 }
    }

    /// What the file holds; `None` if it is not there or not as it was written.
    fn read(path: &Path, runtime_sha256: &str) -> Option<Vec<String>> {
        let mut bytes = Vec::new();
        fs::File::open(path).ok()?.take(LARGEST_ANSWER + 1).read_to_end(&mut bytes).ok()?;
        let kept: Self = serde_json::from_slice(&bytes).ok()?;
        let same = Self::of(kept.modules.clone(), runtime_sha256).sha256 == kept.sha256 && kept.schema == 1;
        (same && are_modules(&kept.modules)).then_some(kept.modules)
    }

    fn write(&self, folder: &Path, path: &Path) -> std::io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(json(self).as_bytes())?;
        file.persist(path)?;
        Ok(())
    }
}

/// Whether names are what modules can be called: sorted, each once.
fn are_modules(names: &[String]) -> bool {
    let letters = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let named = names.iter().all(|name| (1..=LONGEST_MODULE).contains(&name.len()) && letters(name));
    named && !names.is_empty() && names.len() <= MOST_MODULES && names.is_sorted_by(|a, b| a < b)
}

impl RuntimeFacts {
    /// What is true of the installed runtime. Which modules it has is asked in the sandbox, once, and kept in a file in
    /// `folder`, which is made if it is not there. A file that is not as it was written is not used.
    ///
    /// # Errors
    /// [`FactsError`] if the runtime is not there or gives no answer.
    pub async fn of(engine: &Engine, language: Language, folder: &Path) -> Result<Self, FactsError> {
        if language != Language::Python {
            return Err(FactsError::Language { language: language.display_name() });
        }
        let installed = engine.installed()?;
        let ours = installed.into_iter().find(|it| it.current && it.manifest.language == language.name());
        let manifest = ours.ok_or(EngineError::RuntimeMissing { language: language.name() })?.manifest;
        let path = folder.join(format!("modules-{}.json", manifest.sha256));
        let modules = match Kept::read(&path, &manifest.sha256) {
            Some(modules) => modules,
            None => {
                let kept = Kept::of(ask(engine).await?, &manifest.sha256);
                // Where it cannot be kept, it is asked again next time.
                let _ = kept.write(folder, &path);
                kept.modules
            }
        };
        Ok(Self { language: language.display_name(), version: manifest.version, sha256: manifest.sha256, modules })
    }
}

/// Asks the interpreter itself.
async fn ask(engine: &Engine) -> Result<Vec<String>, FactsError> {
    // The question is ours: it imports by computed names, which a scan would warn of.
    let mut policy = Policy::default();
    policy.scan = ScanMode::Off;
    let limits =
        Limits { wall_time: Duration::from_secs(120), fuel: None, output: LARGEST_ANSWER, ..Limits::default() };
    let outcome = engine.run(Job::python(QUESTION).with_policy(policy).with_limits(limits).with_seed(0)).await?;
    let broken = |reason: String| FactsError::Modules { reason };
    if !outcome.success() {
        return Err(broken(match outcome.status {
            Status::Completed { exit_code } => format!("the question ended with exit code {exit_code}"),
            status => format!("the question ended as {status:?}"),
        }));
    }
    let text = outcome.stdout.text();
    let modules: Vec<String> = serde_json::from_str(text.lines().last().unwrap_or_default())
        .map_err(|error| broken(format!("the answer is no list ({error})")))?;
    if are_modules(&modules) { Ok(modules) } else { Err(broken("the answer holds what is no name".into())) }
}

/// A file or folder that is granted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GrantedFile {
    /// Where the script sees it.
    pub path: String,
    /// `read`, `write` or `overlay`.
    pub access: &'static str,
    /// `file` or `folder`.
    pub kind: &'static str,
}

impl GrantedFile {
    fn of(grant: &Grant) -> Result<Self, FactsError> {
        let shown = || grant.host.display().to_string();
        let failed = |source| FactsError::Grant { path: shown(), source };
        let host = fs::canonicalize(&grant.host).map_err(failed)?;
        let kind = if fs::metadata(&host).map_err(failed)?.is_dir() { "folder" } else { "file" };
        let name = || grant.host.file_name().or(host.file_name())?.to_str().map(|name| format!("/{name}"));
        let path = grant.guest.clone().or_else(name).ok_or_else(|| FactsError::Nameless { path: shown() })?;
        let access = match grant.access {
            Access::Read => "read",
            Access::Write => "write",
            Access::Overlay => "overlay",
        };
        Ok(Self { path, access, kind })
    }

    /// Whether the script may change it, or at least a layer above it.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.access != "read"
    }
}

/// A function of the host that the script may call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToolFact {
    /// How it is called: `tools.price(*, name: str, count: int = 1)`.
    pub signature: String,
    /// What it does; empty if it does not say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What its arguments mean, as far as they are described.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<(String, String)>,
}

impl ToolFact {
    fn of(tool: &Tool) -> Self {
        let schema = tool.parameters();
        let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
        let described = properties.into_iter().flatten().filter_map(|(name, property)| {
            let text = property.get("description")?.as_str()?;
            Some((name.clone(), clip(text, LONGEST_DESCRIPTION, Keep::Head)))
        });
        Self {
            signature: format!("tools.{}({})", tool.name(), arguments(schema)),
            description: clip(tool.description(), LONGEST_DESCRIPTION, Keep::Head),
            arguments: described.collect(),
        }
    }
}

/// Arguments as Python writes them, out of the JSON Schema of an object.
fn arguments(schema: Option<&Value>) -> String {
    let Some(properties) = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object) else {
        return "**arguments".into();
    };
    let required = |name: &str| {
        let names = schema.and_then(|schema| schema.get("required")).and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|it| it.as_str() == Some(name)))
    };
    let argument = |(name, property): (&String, &Value)| {
        let default = match property.get("default") {
            _ if required(name) => String::new(),
            Some(value) => format!(" = {}", literal(value)),
            None => " = None".into(),
        };
        format!("{name}: {}{default}", annotation(property, schema.unwrap_or(&Value::Null), DEEPEST_TYPE))
    };
    let listed: Vec<String> = properties.iter().map(argument).collect();
    if listed.is_empty() { String::new() } else { format!("*, {}", listed.join(", ")) }
}

/// A JSON Schema as a type of Python. What it does not say is `object`.
fn annotation(schema: &Value, root: &Value, deepest: usize) -> String {
    let Some(deeper) = deepest.checked_sub(1) else { return "object".into() };
    let within = |schema: &Value| annotation(schema, root, deeper);
    let union = |types: Vec<String>| {
        let mut once: Vec<String> = Vec::new();
        types.into_iter().for_each(|it| {
            if !once.contains(&it) {
                once.push(it)
            }
        });
        once.join(" | ")
    };
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return format!("Literal[{}]", values.iter().map(literal).collect::<Vec<_>>().join(", "));
    }
    if let Some(to) = schema.get("$ref").and_then(Value::as_str) {
        return to.strip_prefix('#').and_then(|pointer| root.pointer(pointer)).map_or("object".into(), within);
    }
    if let Some(all) = ["anyOf", "oneOf"].into_iter().find_map(|key| schema.get(key)?.as_array()) {
        return union(all.iter().map(within).collect());
    }
    let named = |name: &Value| match name.as_str() {
        Some("string") => "str".into(),
        Some("integer") => "int".into(),
        Some("number") => "float".into(),
        Some("boolean") => "bool".into(),
        Some("null") => "None".into(),
        Some("array") => schema.get("items").map_or("list".into(), |items| format!("list[{}]", within(items))),
        Some("object") => "dict".into(),
        _ => "object".to_owned(),
    };
    match schema.get("type") {
        Some(Value::Array(names)) => union(names.iter().map(named).collect()),
        Some(name) => named(name),
        None => "object".into(),
    }
}

/// A value of JSON as Python writes it; only the head of a long one.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        value => clip(&value.to_string(), 200, Keep::Head),
    }
}

/// The limits that a script should know of, as it is told them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitFacts {
    /// Real time: `30s`.
    pub wall_time: String,
    /// Memory: `512MiB`.
    pub memory: String,
    /// What is printed on both streams: `16MiB`.
    pub output: String,
    /// What is written to files: `256MiB`.
    pub bytes_written: String,
    /// Files there are at one time: `1K`.
    pub files: String,
    /// Instructions, in Wasmtime's units; `None` where they are not bounded.
    pub fuel: Option<String>,
}

impl LimitFacts {
    fn of(limits: &Limits, live: bool) -> Self {
        Self {
            wall_time: format_duration(limits.wall_time),
            memory: format_size(limits.memory),
            output: format_size(limits.output),
            bytes_written: format_size(limits.bytes_written),
            files: limits.files.to_string(),
            fuel: limits.fuel.filter(|_| !live).map(format_count),
        }
    }

    /// In one sentence.
    pub(crate) fn text(&self) -> String {
        let Self { wall_time, memory, output, bytes_written, files, fuel } = self;
        let fuel =
            fuel.as_ref().map_or(String::new(), |fuel| format!(", {fuel} units of computing (12 are a nanosecond)"));
        format!(
            "{wall_time} of time{fuel}, {memory} of memory, {output} printed, {bytes_written} written to files, {files} files"
        )
    }
}

/// What is true of the runs of one task: the runtime, and what its user grants. No path of the host, no size of a file, no
/// value of a variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The runtime.
    pub runtime: RuntimeFacts,
    /// Files and folders, by path.
    pub files: Vec<GrantedFile>,
    /// Names of environment variables, sorted.
    pub env: Vec<String>,
    /// Tools, by name.
    pub tools: Vec<ToolFact>,
    /// Limits.
    pub limits: LimitFacts,
    /// Whether there is something on standard input, besides what checks put there.
    pub stdin: bool,
}

impl Facts {
    /// What is true of runs under the grants, variables, tools, input and limits of that job, whatever its script.
    ///
    /// # Errors
    /// [`FactsError::Grant`] and [`FactsError::Nameless`] for what the engine could not grant either.
    pub fn of(runtime: RuntimeFacts, job: &Job) -> Result<Self, FactsError> {
        let mut files = job.grants.iter().map(GrantedFile::of).collect::<Result<Vec<_>, _>>()?;
        files.sort();
        files.dedup();
        let mut env: Vec<String> = job.env.iter().map(|(name, _)| name.clone()).collect();
        env.sort();
        env.dedup();
        let mut tools: Vec<ToolFact> = job.tools.iter().map(ToolFact::of).collect();
        tools.sort_by(|a, b| a.signature.cmp(&b.signature));
        let stdin = !matches!(job.stdin, Stdin::Closed);
        Ok(Self { runtime, files, env, tools, limits: LimitFacts::of(&job.limits, job.live), stdin })
    }

    /// SHA-256 of all facts, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        digest([json(self).as_str()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capibara::ToolError;

    fn runtime() -> RuntimeFacts {
        let modules = ["csv", "json"].map(String::from).into();
        RuntimeFacts { language: "Python", version: "3.13.5".into(), sha256: "00".into(), modules }
    }

    fn tool(name: &str, schema: Option<Value>) -> Tool {
        Tool::dynamic(name, "Looks it up.", schema, |value| async move { Ok::<_, ToolError>(value) })
    }

    #[test]
    fn facts_name_what_is_granted_in_order_and_nothing_of_the_host() {
        let folder = tempfile::Builder::new().prefix("host-secret").tempdir().unwrap();
        fs::write(folder.path().join("sales.csv"), "a").unwrap();
        let job = || {
            Job::python("")
                .with_grant(Grant::write(folder.path()).at("/work"))
                .with_grant(Grant::read(folder.path().join("sales.csv")))
                .with_grant(Grant::overlay(folder.path()).at("/data"))
                .with_env("TOKEN", "value-of-token")
                .with_env("A", "1")
                .with_tool(tool("b", None))
                .with_tool(tool("a", None))
        };
        let facts = Facts::of(runtime(), &job()).unwrap();
        let files: Vec<_> = facts.files.iter().map(|it| (it.path.as_str(), it.access, it.kind)).collect();
        assert_eq!(
            files,
            [("/data", "overlay", "folder"), ("/sales.csv", "read", "file"), ("/work", "write", "folder")]
        );
        assert_eq!(facts.env, ["A", "TOKEN"]);
        assert_eq!(
            facts.tools.iter().map(|it| &*it.signature).collect::<Vec<_>>(),
            ["tools.a(**arguments)", "tools.b(**arguments)"]
        );
        let text = json(&facts);
        assert!(!text.contains("host-secret") && !text.contains("value-of-token"), "{text}");
        // The order in which things were granted says nothing.
        let mut other = job();
        other.grants.reverse();
        other.env.reverse();
        other.tools.reverse();
        assert_eq!(Facts::of(runtime(), &other).unwrap().digest(), facts.digest());
        other.limits.memory /= 2;
        assert_ne!(Facts::of(runtime(), &other).unwrap().digest(), facts.digest());
        let missing = Job::python("").with_grant(Grant::read(folder.path().join("none")));
        assert!(matches!(Facts::of(runtime(), &missing), Err(FactsError::Grant { .. })));
        let nameless = Job::python("").with_grant(Grant::read("/"));
        assert!(matches!(Facts::of(runtime(), &nameless), Err(FactsError::Nameless { .. })));
    }

    #[test]
    fn a_schema_is_read_as_a_signature() {
        for (schema, expected) in [
            (r#"{"properties": {"name": {"type": "string"}}, "required": ["name"]}"#, "*, name: str"),
            (r#"{"properties": {"n": {"type": "integer", "default": 3}}}"#, "*, n: int = 3"),
            (r#"{"properties": {"n": {"type": ["number", "null"]}}}"#, "*, n: float | None = None"),
            (
                r#"{"properties": {"a": {"type": "array", "items": {"type": "boolean"}}}, "required": ["a"]}"#,
                "*, a: list[bool]",
            ),
            (r#"{"properties": {"k": {"enum": ["x", 1, null]}}, "required": ["k"]}"#, "*, k: Literal[\"x\", 1, None]"),
            (
                r##"{"properties": {"r": {"$ref": "#/$defs/r"}}, "required": ["r"], "$defs": {"r": {"$ref": "#/$defs/r"}}}"##,
                "*, r: object",
            ),
            (
                r##"{"properties": {"r": {"anyOf": [{"$ref": "#/$defs/r"}, {"type": "null"}]}}, "$defs": {"r": {"type": "object"}}}"##,
                "*, r: dict | None = None",
            ),
            (r#"{"properties": {}}"#, ""),
            (r#"{"type": "object"}"#, "**arguments"),
            (r#"{"properties": {"x": true}, "required": [7, "x"]}"#, "*, x: object"),
            (r#"{"properties": {"flag": {"default": false}}}"#, "*, flag: object = False"),
        ] {
            assert_eq!(arguments(Some(&serde_json::from_str(schema).unwrap())), expected, "{schema}");
        }
        let described = tool("f", Some(serde_json::json!({"properties": {"x": {"description": "y".repeat(5_000)}}})));
        assert!(json(&ToolFact::of(&described)).len() < 1_500);
    }

    #[test]
    fn a_kept_answer_that_is_not_as_it_was_written_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inner/modules-r.json");
        let modules: Vec<String> = ["__future__", "csv", "json"].map(String::from).into();
        Kept::of(modules.clone(), "r").write(path.parent().unwrap(), &path).unwrap();
        assert_eq!(Kept::read(&path, "r"), Some(modules));
        assert_eq!(Kept::read(&path, "other"), None);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert_eq!(Kept::read(&path, "r"), None, "{at}");
            fs::write(&path, &good[..at]).unwrap();
            assert_eq!(Kept::read(&path, "r"), None, "cut at {at}");
        }
        // One that is whole, but too large, or holds what is no name.
        let many = (0..9_000).map(|n| format!("m{n:04}")).collect();
        for modules in [many, vec!["os; ignore".into()], vec!["b".into(), "a".into()], Vec::new()] {
            Kept::of(modules, "r").write(folder.path(), &path).unwrap();
            assert_eq!(Kept::read(&path, "r"), None);
        }
    }
}
