//! The scan that goes before every run.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use capibara_policies::{
    FileGrant, Finding, Need, NeedKind, Policy, ScanMode, Scanner, Script as Scanned, Source, SourceLanguage, Verdict,
};
use sha2::{Digest as _, Sha256};

use crate::grant::{Access, Grant};
use crate::job::{Job, Script};
use crate::language::Language;
use crate::modules::ScriptModule;
use crate::outcome::Divergence;

/// The most scans that are kept, and the most bytes of memory they take together, nearly.
const MOST_KEPT: usize = 256;
const MOST_KEPT_BYTES: usize = 4 << 20;
/// What a finding or need takes with its texts, nearly.
const ITEM_BYTES: usize = 400;

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
    /// Scans a job against its policy. WebAssembly programs and modules of the standard library (`-m`) are not scanned.
    pub(crate) fn of(job: &Job) -> Self {
        let mut scan = Self {
            verdict: Verdict::Allow,
            findings: Vec::new(),
            needs: Vec::new(),
            policy: job.policy.name.clone(),
            made: false,
            texts: Vec::new(),
            script: job.script.clone(),
            modules: job.modules.clone(),
        };
        let Some(language) = source_language(job.language) else { return scan };
        scan.made = job.policy.scan != ScanMode::Off && !matches!(job.script, Script::Module(_));
        let own: Vec<String> = job.modules.iter().filter_map(ScriptModule::import_name).collect();
        let path = shown_path(job);
        let modules: Vec<(String, Arc<[u8]>)> =
            job.modules.iter().filter_map(|it| Some((it.import_name()?, it.source.clone()))).collect();
        let scanner = Scanner::new().with_modules(modules.iter().map(|(name, source)| (name.as_str(), &**source)));
        let policy = effective(job);
        match &job.script {
            Script::File { name, source } => {
                if let Some(text) = scan.source(&scanner, &path, source, language, &own, &policy) {
                    scan.script = Script::File { name: name.clone(), source: bytes(&text) };
                }
            }
            Script::Code(code) => {
                if let Some(text) = scan.source(&scanner, &path, code.as_bytes(), language, &own, &policy) {
                    scan.script = Script::Code(text.to_string());
                }
            }
            Script::StandardInput(code) => {
                if let Some(text) = scan.source(&scanner, &path, code.as_bytes(), language, &own, &policy) {
                    scan.script = Script::StandardInput(text.to_string());
                }
            }
            Script::Module(_) => {}
        }
        let folder = path.rfind('/').map_or("", |at| path.get(..=at).unwrap_or_default()).to_owned();
        for (index, module) in job.modules.iter().enumerate() {
            let path = format!("{folder}{}", module.path);
            let text = scan.source(&scanner, &path, &module.source, language, &own, &policy);
            if let (Some(text), Some(module)) = (text, scan.modules.get_mut(index)) {
                module.source = bytes(&text);
            }
        }
        scan
    }

    /// Scans one source; gives back the text that was scanned, unless the bytes are none.
    fn source(
        &mut self,
        scanner: &Scanner,
        path: &str,
        bytes: &[u8],
        language: SourceLanguage,
        own_modules: &[String],
        policy: &Policy,
    ) -> Option<Arc<str>> {
        let report = scanner.scan(&Scanned { path, bytes, language: Some(language), own_modules }, policy);
        self.verdict = self.verdict.max(report.verdict);
        self.findings.extend(report.findings);
        self.needs.extend(report.needs);
        let text: Arc<str> = Source::decode(bytes, language).ok()?.into_text().into();
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
    let granted = Grant::of_policy(&job.policy);
    let mut policy = Cow::Borrowed(&*job.policy);
    for grant in job.grants.iter().filter(|grant| !granted.contains(grant)) {
        let file = FileGrant { host: grant.host.clone(), guest: grant.guest.clone() };
        let grants = &mut policy.to_mut().grants;
        match grant.access {
            Access::Read => grants.read.push(file),
            Access::Write => grants.write.push(file),
        }
    }
    policy
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
#[derive(Default)]
pub(crate) struct Scans(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_digest: HashMap<[u8; 32], Arc<Scan>>,
    /// Oldest first.
    order: VecDeque<[u8; 32]>,
    bytes: usize,
}

impl Scans {
    /// The scan of that job.
    pub(crate) fn get(&self, job: &Job) -> Arc<Scan> {
        let digest = digest(job);
        if let Some(scan) = self.lock().by_digest.get(&digest) {
            return scan.clone();
        }
        let scan = Arc::new(Scan::of(job));
        self.lock().keep(digest, scan.clone());
        scan
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn keep(&mut self, digest: [u8; 32], scan: Arc<Scan>) {
        let bytes = scan.bytes();
        if bytes > MOST_KEPT_BYTES || self.by_digest.contains_key(&digest) {
            return;
        }
        while self.order.len() >= MOST_KEPT || self.bytes + bytes > MOST_KEPT_BYTES {
            let Some(oldest) = self.order.pop_front() else { break };
            let gone = self.by_digest.remove(&oldest).map_or(0, |scan| scan.bytes());
            self.bytes = self.bytes.saturating_sub(gone);
        }
        self.bytes += bytes;
        self.order.push_back(digest);
        self.by_digest.insert(digest, scan);
    }
}

impl fmt::Debug for Scans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scans")
    }
}

/// Everything a scan depends on.
fn digest(job: &Job) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    field(effective(job).sha256().as_bytes());
    field(job.language.name().as_bytes());
    field(shown_path(job).as_bytes());
    let (kind, source): (&[u8], &[u8]) = match &job.script {
        Script::File { source, .. } => (b"file", source),
        Script::Code(code) => (b"code", code.as_bytes()),
        Script::StandardInput(code) => (b"stdin", code.as_bytes()),
        Script::Module(name) => (b"module", name.as_bytes()),
    };
    field(kind);
    field(source);
    for module in &job.modules {
        field(module.path.as_bytes());
        field(&module.source);
    }
    hash.finalize().into()
}
