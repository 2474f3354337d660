//! What a line tells: who ran what, under which policy, and what came of it.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use capibara_policies::{Severity, Verdict};
use serde::{Deserialize, Serialize};

use super::line::{Event, LONGEST_LINE};
use crate::outcome::{Digest, LimitHit, Outcome, Status, Usage};
use crate::scan::Scan;

/// The version of OCSF whose names are used.
pub const OCSF_VERSION: &str = "1.7.0";
/// The version of what stands below `unmapped`, and of the chain.
const SCHEMA: u32 = 1;
/// Most findings and artifacts in one line; how many there were is always told.
pub const MOST_ITEMS: usize = 32;
/// Most bytes of a name.
const LONGEST_NAME: usize = 256;

/// Who ran a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name of the account, where there is one.
    pub name: Option<String>,
    /// Number of the account.
    pub uid: u32,
}

impl User {
    /// The effective user of this process, with the name that `/etc/passwd` gives.
    #[must_use]
    pub fn current() -> Self {
        static NAME: OnceLock<Option<String>> = OnceLock::new();
        let uid = rustix::process::geteuid().as_raw();
        Self { name: NAME.get_or_init(|| name_of(uid)).clone(), uid }
    }
}

fn name_of(uid: u32) -> Option<String> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open("/etc/passwd").ok()?.take(1 << 20).read_to_end(&mut text).ok()?;
    let uid = uid.to_string();
    String::from_utf8_lossy(&text).lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

/// A finding of the scan, without text of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingMark {
    /// Name of the rule.
    pub rule: String,
    /// Its severity.
    pub severity: Severity,
    /// The file it is in, as the script names it; directories of the host are cut off.
    pub path: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// A file the run left for its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactMark {
    /// Its name below the output folder.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunStatus {
    /// The script ended by itself.
    Completed,
    /// The policy denied it; it did not run.
    Denied,
    /// A limit stopped it.
    Limit,
    /// The guest broke down.
    Trapped,
    /// Somebody asked for its end.
    Canceled,
    /// It could not be run.
    Error,
}

impl RunStatus {
    /// Permanent name, as in the JSON of `run`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Denied => "denied",
            Self::Limit => "limit",
            Self::Trapped => "trapped",
            Self::Canceled => "canceled",
            Self::Error => "error",
        }
    }
}

/// One run, or one that was denied. It never holds source text, arguments, environment, input or output.
///
/// ```
/// use capibara::audit::{Record, RunStatus};
///
/// let mut record = Record::new("hello.py", "python", "moderate");
/// record.status = RunStatus::Completed;
/// record.exit_code = Some(0);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Record {
    /// When the run was asked for. Default: now.
    pub time: SystemTime,
    /// Who asked. Default: the effective user of this process.
    pub user: User,
    /// The process that ran it. Default: this one.
    pub process_id: u32,
    /// Version of the program. Default: that of this library.
    pub program_version: String,
    /// Name of the script; only what follows the last `/` is kept. `-c`, `-` and `-m NAME` for scripts without a file.
    pub script: String,
    /// Digest of its bytes, if they were read.
    pub script_sha256: Option<Digest>,
    /// How many bytes those are.
    pub script_bytes: Option<u64>,
    /// Its language.
    pub language: String,
    /// Name of the policy; of a file, only what follows the last `/`.
    pub policy: String,
    /// Digest of the policy.
    pub policy_sha256: Option<Digest>,
    /// What the scan came to; `None` if the script was not scanned.
    pub verdict: Option<Verdict>,
    /// What it found; the first [`MOST_ITEMS`] are kept, and the number of all.
    pub findings: Vec<FindingMark>,
    /// How it ended. Default: [`RunStatus::Error`].
    pub status: RunStatus,
    /// Permanent name of the error, for [`RunStatus::Error`], or of the trap.
    pub reason: Option<String>,
    /// Exit code, if the script ended by itself.
    pub exit_code: Option<i32>,
    /// The limit that stopped it.
    pub limit: Option<LimitHit>,
    /// What it used; `None` if it did not run.
    pub usage: Option<Usage>,
    /// Digest of everything the run depended on; `None` if it did not run.
    pub job_sha256: Option<Digest>,
    /// Digest of the runtime.
    pub runtime_sha256: Option<String>,
    /// What it left; the first [`MOST_ITEMS`] are kept, and the number of all.
    pub artifacts: Vec<ArtifactMark>,
    /// Where it ran. Default: `wasm`.
    pub fence: String,
    /// Whether it ran with real clocks and system randomness.
    pub live: bool,
    /// Whether the same job gives the same outcome again; `None` if it did not run.
    pub determined: Option<bool>,
}

impl Record {
    /// A record of this user, process and moment.
    #[must_use]
    pub fn new(script: impl Into<String>, language: impl Into<String>, policy: impl Into<String>) -> Self {
        Self {
            time: SystemTime::now(),
            user: User::current(),
            process_id: std::process::id(),
            program_version: env!("CARGO_PKG_VERSION").into(),
            script: script.into(),
            script_sha256: None,
            script_bytes: None,
            language: language.into(),
            policy: policy.into(),
            policy_sha256: None,
            verdict: None,
            findings: Vec::new(),
            status: RunStatus::Error,
            reason: None,
            exit_code: None,
            limit: None,
            usage: None,
            job_sha256: None,
            runtime_sha256: None,
            artifacts: Vec::new(),
            fence: "wasm".into(),
            live: false,
            determined: None,
        }
    }

    /// Takes over what the scan of a job came to.
    pub fn set_scan(&mut self, scan: &Scan) {
        self.verdict = (scan.was_made() || scan.verdict == Verdict::Deny).then_some(scan.verdict);
        self.findings = scan
            .findings
            .iter()
            .map(|finding| FindingMark {
                rule: finding.rule.to_string(),
                severity: finding.severity,
                path: finding.path.clone(),
                line: finding.span.line,
                column: finding.span.column,
            })
            .collect();
    }

    /// Takes over how a run ended, what it used and what it depended on.
    pub fn set_outcome(&mut self, outcome: &Outcome) {
        self.exit_code = outcome.exit_code();
        self.limit = None;
        self.reason = None;
        self.status = match &outcome.status {
            Status::Denied => RunStatus::Denied,
            Status::Completed { .. } => RunStatus::Completed,
            Status::Limit(hit) => {
                self.limit = Some(*hit);
                RunStatus::Limit
            }
            Status::Trapped(trap) => {
                self.reason = Some(trap.kind.into());
                RunStatus::Trapped
            }
            Status::Canceled { .. } => RunStatus::Canceled,
        };
        self.usage = (self.status != RunStatus::Denied).then_some(outcome.usage);
        self.job_sha256 = Some(outcome.job_sha256);
        self.runtime_sha256 = outcome.runtime.as_ref().map(|runtime| runtime.sha256.clone());
        (self.live, self.determined) = (outcome.live, Some(outcome.determined));
    }

    /// The event as JSON, ready to be sealed.
    pub(super) fn encode(&self, sequence: u64, hostname: &str) -> Vec<u8> {
        let bytes = self.encode_with(sequence, hostname, MOST_ITEMS);
        // Room for the chain.
        if bytes.len() + 512 <= LONGEST_LINE { bytes } else { self.encode_with(sequence, hostname, 0) }
    }

    fn encode_with(&self, sequence: u64, hostname: &str, most: usize) -> Vec<u8> {
        let script = clip(base_name(&self.script));
        let denied = self.status == RunStatus::Denied;
        let hashes = self.script_sha256.map(|sha256| [Hash::sha256(sha256)]);
        let event = RunEvent {
            metadata: Metadata::of(sequence, Event::Run, &self.program_version, &["host", "security_control"]),
            category_uid: 1,
            class_uid: 1007,
            activity_id: 1,
            type_uid: 100_701,
            time: millis(self.time),
            severity_id: match (denied, self.verdict) {
                (true, _) | (false, Some(Verdict::Deny)) => 3,
                (false, Some(Verdict::Warn)) => 2,
                (false, Some(Verdict::Allow) | None) => 1,
            },
            status_id: if self.status == RunStatus::Completed { 1 } else { 2 },
            status_code: self.status.name(),
            status_detail: self.reason.as_deref().map(clip),
            action_id: if denied { 2 } else { 1 },
            disposition_id: if denied { 2 } else { 1 },
            actor: Actor {
                user: UserObject { name: self.user.name.as_deref().map(clip), uid: self.user.uid.to_string() },
                process: ActorProcess { name: "capibara", pid: self.process_id },
            },
            device: Device { type_id: 0, hostname },
            policy: PolicyObject { name: clip(base_name(&self.policy)), uid: self.policy_sha256.map(hex_of) },
            process: Process {
                name: script,
                uid: self.job_sha256.map(hex_of),
                file: FileObject { name: script, type_id: 1, size: self.script_bytes, hashes },
            },
            exit_code: self.exit_code,
            duration: self.usage.map(|usage| u64::try_from(usage.wall_time.as_millis()).unwrap_or(u64::MAX)),
            unmapped: RunDetails {
                schema: SCHEMA,
                language: clip(&self.language),
                verdict: self.verdict.map(Verdict::name),
                findings: self.findings.iter().take(most).map(FindingObject::of).collect(),
                findings_total: self.findings.len(),
                limit: self.limit.map(|hit| LimitObject {
                    kind: hit.kind.name(),
                    allowed: hit.allowed,
                    used: hit.used,
                }),
                usage: self.usage.map(UsageObject::of),
                artifacts: self.artifacts.iter().take(most).map(ArtifactObject::of).collect(),
                artifacts_total: self.artifacts.len(),
                runtime_sha256: self.runtime_sha256.as_deref().map(clip),
                fence: clip(&self.fence),
                live: self.live,
                determined: self.determined,
            },
        };
        json(&event)
    }
}

/// What had to be put right before a record could be written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recovery {
    /// Bytes before this line that are no record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) aside: Option<Aside>,
    /// What was wrong with the head: `missing`, `damaged` or `stale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) head: Option<String>,
    /// What was wrong with the log: `damaged`, as its end was not what the head says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<String>,
}

/// Bytes that are no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Aside {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// Whether they look like one line that was not finished.
    pub(super) torn: bool,
}

/// What `unmapped` holds besides, in lines of the log's own.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct LogDetails {
    pub(super) schema: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) recovery: Option<Recovery>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next_key: Option<NextKey>,
}

/// The key that signs from now on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct NextKey {
    pub(super) key: String,
    pub(super) public: String,
}

/// An event of the log's own: OCSF's base event.
pub(super) fn encode_own(sequence: u64, event: Event, hostname: &str, details: &LogDetails) -> Vec<u8> {
    let user = User::current();
    json(&OwnEvent {
        metadata: Metadata::of(sequence, event, env!("CARGO_PKG_VERSION"), &["host"]),
        category_uid: 0,
        class_uid: 0,
        activity_id: 99,
        activity_name: match event {
            Event::Run => "Run",
            Event::KeyRotation => "Key Rotation",
            Event::Recovery => "Recovery",
        },
        type_uid: 99,
        time: millis(SystemTime::now()),
        severity_id: if event == Event::Recovery { 2 } else { 1 },
        actor: Actor {
            user: UserObject { name: user.name.as_deref().map(clip), uid: user.uid.to_string() },
            process: ActorProcess { name: "capibara", pid: std::process::id() },
        },
        device: Device { type_id: 0, hostname },
        unmapped: details,
    })
}

pub(super) fn recovery(recovery: Recovery) -> LogDetails {
    LogDetails { schema: SCHEMA, recovery: Some(recovery), next_key: None }
}

pub(super) fn next_key(key: String, public: String) -> LogDetails {
    LogDetails { schema: SCHEMA, recovery: None, next_key: Some(NextKey { key, public }) }
}

fn json(event: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4096);
    let written = serde_json::to_writer(&mut bytes, event);
    debug_assert!(written.is_ok(), "maps with text as keys, into memory");
    bytes
}

/// What follows the last `/`: no folder of the user is told.
fn base_name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

/// At most [`LONGEST_NAME`] bytes.
fn clip(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST_NAME)).unwrap_or(text)
}

fn hex_of(digest: Digest) -> String {
    digest.to_string()
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Serialize)]
struct RunEvent<'a> {
    metadata: Metadata<'a>,
    category_uid: u32,
    class_uid: u32,
    activity_id: u32,
    type_uid: u32,
    time: u64,
    severity_id: u32,
    status_id: u32,
    status_code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_detail: Option<&'a str>,
    action_id: u32,
    disposition_id: u32,
    actor: Actor<'a>,
    device: Device<'a>,
    policy: PolicyObject<'a>,
    process: Process<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<u64>,
    // The last one: the chain is written at its end.
    unmapped: RunDetails<'a>,
}

#[derive(Serialize)]
struct OwnEvent<'a> {
    metadata: Metadata<'a>,
    category_uid: u32,
    class_uid: u32,
    activity_id: u32,
    activity_name: &'static str,
    type_uid: u32,
    time: u64,
    severity_id: u32,
    actor: Actor<'a>,
    device: Device<'a>,
    unmapped: &'a LogDetails,
}

#[derive(Serialize)]
struct Metadata<'a> {
    sequence: u64,
    event_code: &'static str,
    version: &'static str,
    profiles: &'a [&'static str],
    log_name: &'static str,
    product: Product<'a>,
}

impl<'a> Metadata<'a> {
    fn of(sequence: u64, event: Event, version: &'a str, profiles: &'a [&'static str]) -> Self {
        let product = Product { name: "Capibara", vendor_name: "Capibara", version: clip(version) };
        Self {
            sequence,
            event_code: event.code(),
            version: OCSF_VERSION,
            profiles,
            log_name: "capibara-audit",
            product,
        }
    }
}

#[derive(Serialize)]
struct Product<'a> {
    name: &'static str,
    vendor_name: &'static str,
    version: &'a str,
}

#[derive(Serialize)]
struct Actor<'a> {
    user: UserObject<'a>,
    process: ActorProcess,
}

#[derive(Serialize)]
struct UserObject<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    uid: String,
}

#[derive(Serialize)]
struct ActorProcess {
    name: &'static str,
    pid: u32,
}

#[derive(Serialize)]
struct Device<'a> {
    type_id: u32,
    hostname: &'a str,
}

#[derive(Serialize)]
struct PolicyObject<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
}

#[derive(Serialize)]
struct Process<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    file: FileObject<'a>,
}

#[derive(Serialize)]
struct FileObject<'a> {
    name: &'a str,
    type_id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hashes: Option<[Hash; 1]>,
}

#[derive(Serialize)]
struct Hash {
    algorithm: &'static str,
    algorithm_id: u32,
    value: String,
}

impl Hash {
    fn sha256(digest: Digest) -> Self {
        Self { algorithm: "SHA-256", algorithm_id: 3, value: digest.to_string() }
    }
}

#[derive(Serialize)]
struct RunDetails<'a> {
    schema: u32,
    language: &'a str,
    verdict: Option<&'static str>,
    findings: Vec<FindingObject<'a>>,
    findings_total: usize,
    limit: Option<LimitObject>,
    usage: Option<UsageObject>,
    artifacts: Vec<ArtifactObject<'a>>,
    artifacts_total: usize,
    runtime_sha256: Option<&'a str>,
    fence: &'a str,
    live: bool,
    determined: Option<bool>,
}

#[derive(Serialize)]
struct FindingObject<'a> {
    rule: &'a str,
    severity: &'static str,
    path: &'a str,
    line: u32,
    column: u32,
}

impl<'a> FindingObject<'a> {
    fn of(finding: &'a FindingMark) -> Self {
        let FindingMark { rule, severity, path, line, column } = finding;
        let path = clip(base_name(path));
        Self { rule: clip(rule), severity: severity.name(), path, line: *line, column: *column }
    }
}

#[derive(Serialize)]
struct LimitObject {
    kind: &'static str,
    allowed: u64,
    used: u64,
}

#[derive(Serialize)]
struct UsageObject {
    fuel: Option<u64>,
    wall_us: u64,
    slept_us: u64,
    memory_peak_bytes: u64,
    output_bytes: u64,
    files_written: u64,
    bytes_written: u64,
    files_peak: u64,
    descriptors_peak: u64,
    host_calls: u64,
}

impl UsageObject {
    fn of(usage: Usage) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            fuel: usage.fuel,
            wall_us: micros(usage.wall_time),
            slept_us: micros(usage.slept),
            memory_peak_bytes: usage.memory_peak_bytes,
            output_bytes: usage.output_bytes,
            files_written: usage.files_written,
            bytes_written: usage.bytes_written,
            files_peak: usage.files_peak,
            descriptors_peak: usage.descriptors_peak,
            host_calls: usage.host_calls,
        }
    }
}

#[derive(Serialize)]
struct ArtifactObject<'a> {
    path: &'a str,
    bytes: u64,
    sha256: String,
}

impl<'a> ArtifactObject<'a> {
    fn of(artifact: &'a ArtifactMark) -> Self {
        Self { path: clip(&artifact.path), bytes: artifact.bytes, sha256: artifact.sha256.to_string() }
    }
}
