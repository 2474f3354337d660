//! The scan that goes before every run.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use capibara_policies::{
    FileGrant, Finding, Need, NeedKind, Policy, Report, ScanMode, Scanner, Script as Scanned, Source, SourceLanguage,
    Verdict,
};

use crate::fields::Fields;
use crate::grant::{Access, Grant};
use crate::job::{Job, Script};
use crate::kept::Kept;
use crate::language::Language;
use crate::modules::ScriptModule;
use crate::os;
use crate::outcome::Divergence;
use crate::reports::KeptReports;

/// The most scans that are kept, and the most bytes of memory they take together, nearly.
const MOST_KEPT: usize = 256;
const MOST_KEPT_BYTES: usize = 4 << 20;
/// What a finding or need takes with its texts, nearly.
const ITEM_BYTES: usize = 400;
/// The most policies whose digests are kept.
const MOST_POLICIES: usize = 8;
/// So many bytes of sources are scanned (25 ms of computing) before freed memory is given back to the system.
const GIVE_BACK_AFTER: usize = 64 << 10;

/// What the scan of a job came to.
#[derive(Debug)]
#[non_exhaustive]
pub struct Scan {
    /// The worst of all findings.
    pub verdict: Verdict,
    /// Findings in the script and the modules it brings, by file and place.
    pub findings: Vec<Finding>,
    /// What the script and its modules need, by file and place.
    pub needs: Vec<Need>,
    /// Name of the policy.
    pub policy: String,
    /// The sources as they were scanned, which is as they run: path as in the findings, and text.
    pub texts: Vec<(String, Arc<str>)>,
    made: bool,
    /// The script with the text that was scanned.
    pub(crate) script: Script,
    /// The modules with the text that was scanned.
    pub(crate) modules: Vec<ScriptModule>,
}

impl Scan {
    /// Of a job that is not scanned.
    pub(crate) fn none(job: &Job) -> Self {
        Self {
            verdict: Verdict::Allow,
            findings: Vec::new(),
            needs: Vec::new(),
            policy: job.policy.name.clone(),
            made: false,
            texts: Vec::new(),
            script: job.script.clone(),
            modules: job.modules.clone(),
        }
    }

    /// Scans a job against its policy. WebAssembly programs and modules of the standard library (`-m`) are not scanned.
    fn of(job: &Job, reports: &KeptReports) -> Self {
        let mut scan = Self::none(job);
        let Some(language) = source_language(job.language) else { return scan };
        scan.made = job.policy.scan != ScanMode::Off && !matches!(job.script, Script::Module(_));
        let own: Vec<String> = job.modules.iter().filter_map(ScriptModule::import_name).collect();
        let path = shown_path(job);
        let modules: Vec<(String, Arc<[u8]>)> =
            job.modules.iter().filter_map(|it| Some((it.import_name()?, it.source.clone()))).collect();
        let scanner = Scanner::new().with_modules(modules.iter().map(|(name, source)| (name.as_str(), &**source)));
        let policy = effective(job);
        let sha256 = policy.sha256();
        let mut scan_source = |path: &str, bytes: &[u8]| {
            let script = Scanned { path, bytes, language: Some(language), own_modules: &own };
            let (report, source) = reports.scan(&scanner, &script, &policy, &sha256);
            scan.add(path, report, source.or_else(|| Source::decode(bytes, language).ok()))
        };
        let script = match &job.script {
            Script::File { name, source } => {
                scan_source(&path, source).map(|text| Script::File { name: name.clone(), source: bytes(&text) })
            }
            Script::Code(code) => scan_source(&path, code.as_bytes()).map(|text| Script::Code(text.to_string())),
            Script::StandardInput(code) => {
                scan_source(&path, code.as_bytes()).map(|text| Script::StandardInput(text.to_string()))
            }
            Script::Module(_) => None,
        };
        let folder = path.rfind('/').map_or("", |at| path.get(..=at).unwrap_or_default()).to_owned();
        let texts: Vec<Option<Arc<str>>> =
            job.modules.iter().map(|it| scan_source(&format!("{folder}{}", it.path), &it.source)).collect();
        scan.script = script.unwrap_or(scan.script);
        for (module, text) in scan.modules.iter_mut().zip(texts) {
            if let Some(text) = text {
                module.source = bytes(&text);
            }
        }
        scan
    }

    /// Adds what was said of one source; gives back the text that was scanned.
    fn add(&mut self, path: &str, report: Report, source: Option<Source>) -> Option<Arc<str>> {
        self.verdict = self.verdict.max(report.verdict);
        self.findings.extend(report.findings);
        self.needs.extend(report.needs);
        let text: Arc<str> = source?.into_text().into();
        self.texts.push((path.to_owned(), text.clone()));
        Some(text)
    }

    /// What of these paths the scan did not foresee; `true` stands for changing.
    pub(crate) fn divergence(&self, touched: Vec<(String, bool)>) -> Vec<Divergence> {
        // Nothing was scanned, so nothing was said.
        if !self.made {
            return Vec::new();
        }
        let foreseen = |path: &str, write: bool| {
            self.needs.iter().any(|need| match &need.kind {
                NeedKind::Read(name) => !write && covers(name.as_deref(), path),
                NeedKind::Write(name) => covers(name.as_deref(), path),
                _ => false,
            })
        };
        touched
            .into_iter()
            .filter(|(path, write)| !foreseen(path, *write))
            .map(|(path, write)| Divergence { path, write })
            .collect()
    }

    /// Whether something was looked at: not for WebAssembly programs, modules of the standard library, and policies whose
    /// `scan` is off.
    #[must_use]
    pub fn was_made(&self) -> bool {
        self.made
    }

    /// Memory it takes, nearly: each text is there as a script, too.
    fn bytes(&self) -> usize {
        let texts: usize = self.texts.iter().map(|(path, text)| path.len() + 2 * text.len()).sum();
        texts + ITEM_BYTES * (self.findings.len() + self.needs.len() + 1)
    }
}

/// Whether a need names that path or a folder above it. One without a name may be anything.
fn covers(need: Option<&str>, path: &str) -> bool {
    need.is_none_or(|need| {
        let need = need.trim_end_matches('/');
        path.strip_prefix(need).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// The policy of a job, which knows of what the job grants beside it.
fn effective(job: &Job) -> Cow<'_, Policy> {
    let mut policy = Cow::Borrowed(&*job.policy);
    for grant in grants_beside(job) {
        let file = FileGrant { host: grant.host.clone(), guest: grant.guest.clone() };
        let grants = &mut policy.to_mut().grants;
        match grant.access {
            Access::Read => grants.read.push(file),
            Access::Write => grants.write.push(file),
        }
    }
    policy
}

/// What a job grants beside its policy.
fn grants_beside(job: &Job) -> impl Iterator<Item = &Grant> {
    let granted = if job.grants.is_empty() { Vec::new() } else { Grant::of_policy(&job.policy) };
    job.grants.iter().filter(move |grant| !granted.contains(grant))
}

fn bytes(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

fn source_language(language: Language) -> Option<SourceLanguage> {
    match language {
        Language::Python => Some(SourceLanguage::Python),
        Language::Wasm => None,
    }
}

/// The path of a job's script as findings show it.
fn shown_path(job: &Job) -> String {
    match (&job.origin, &job.script) {
        (Some(origin), _) => origin.clone(),
        (None, Script::File { name, .. }) => name.clone(),
        (None, Script::Code(_)) => "<string>".into(),
        (None, Script::StandardInput(_)) => "<stdin>".into(),
        (None, Script::Module(name)) => name.clone(),
    }
}

/// Scans that were made, by digest of sources and policy: the same script is not scanned twice.
pub(crate) struct Scans {
    reports: KeptReports,
    kept: Kept<Arc<Scan>>,
    /// The policies seen last, with the digest of each, the last one at the end.
    policies: Mutex<Vec<(Arc<Policy>, String)>>,
    /// Bytes of sources scanned since memory was last given back.
    scanned: AtomicUsize,
}

impl Scans {
    pub(crate) fn new(reports: KeptReports) -> Self {
        let kept = Kept::new(MOST_KEPT, MOST_KEPT_BYTES);
        Self { reports, kept, policies: Mutex::default(), scanned: AtomicUsize::new(0) }
    }

    /// The scan of that job.
    pub(crate) fn get(&self, job: &Job) -> Arc<Scan> {
        let digest = digest(job, &self.policy_digest(&job.policy));
        if let Some(scan) = self.kept.get(&digest) {
            return scan;
        }
        let scan = Arc::new(Scan::of(job, &self.reports));
        self.kept.keep(digest, scan.clone(), scan.bytes());
        self.give_back(&scan);
        scan
    }

    /// [`Policy::sha256`], which is worked out once for each policy: it takes longer than starting a small script.
    fn policy_digest(&self, policy: &Arc<Policy>) -> String {
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, digest)) = policies.iter().rev().find(|(known, _)| Arc::ptr_eq(known, policy)) {
            return digest.clone();
        }
        if policies.len() >= MOST_POLICIES {
            policies.remove(0);
        }
        let digest = policy.sha256();
        policies.push((policy.clone(), digest.clone()));
        digest
    }

    /// Syntax trees are large, and freed below scans that are kept: without this, the allocator would hold on to the most
    /// that ever was in use.
    fn give_back(&self, scan: &Scan) {
        let bytes: usize = scan.texts.iter().map(|(_, text)| text.len()).sum();
        if self.scanned.fetch_add(bytes, Ordering::Relaxed) + bytes >= GIVE_BACK_AFTER {
            self.scanned.store(0, Ordering::Relaxed);
            os::give_back_freed_memory();
        }
    }
}

impl fmt::Debug for Scans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scans")
    }
}

/// Everything a scan depends on.
fn digest(job: &Job, policy_sha256: &str) -> [u8; 32] {
    let mut fields = Fields::default();
    let mut field = |bytes: &[u8]| fields.bytes(bytes);
    field(job.policy.name.as_bytes()); // which its digest does not cover, and a scan names
    field(policy_sha256.as_bytes());
    for grant in grants_beside(job) {
        field(format!("{grant:?}").as_bytes());
    }
    field(job.language.name().as_bytes());
    field(shown_path(job).as_bytes());
    let [kind, name, source]: [&[u8]; 3] = match &job.script {
        Script::File { name, source } => [b"file", name.as_bytes(), source],
        Script::Code(code) => [b"code", b"", code.as_bytes()],
        Script::StandardInput(code) => [b"stdin", b"", code.as_bytes()],
        Script::Module(name) => [b"module", name.as_bytes(), b""],
    };
    field(kind);
    field(name);
    field(source);
    for module in &job.modules {
        field(module.path.as_bytes());
        field(&module.source);
    }
    fields.digest()
}
