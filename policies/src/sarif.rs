//! Findings as SARIF 2.1.0, the exchange format of static analysis (an OASIS standard), for code hosts and editors.
//!
//! The types below are the small part of the format that is used. What is deliberately left out: source text (`snippet`
//! and `contents`), because logs travel further than sources and a finding may stand on a secret; and folders of this machine,
//! because paths are relative to `%SRCROOT%`, which the reader places.

use std::collections::HashMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::custom::{CustomRule, CustomRules};
use crate::report_json::{PolicyIdentity, ScannedFile, Summary, UnreadFile};
use crate::rules::{self, Rule};
use crate::{Finding, Severity, Span, Verdict};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
const ROOT: &str = "%SRCROOT%";
/// What may stand unescaped in a segment of a path. A colon may not: before the first slash it would end a scheme.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// What a log says beside the findings.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Version of the program that scanned, as in `0.1.0`.
    pub version: &'a str,
    /// The policy of the scan.
    pub policy: PolicyIdentity<'a>,
    /// The custom rules that took part.
    pub custom: Option<&'a CustomRules>,
    /// Files that could not be read. Any makes the execution unsuccessful.
    pub unread: &'a [UnreadFile],
}

/// A log of one run of the scanner over these files, to be written with a JSON serializer.
///
/// A finding keeps its fingerprint (`partialFingerprints`, key `capibaraFinding/v1`) while its rule, its path and the text
/// of its line stay, whatever moves around it. Equal findings on equal lines of one file are told apart by their order.
#[must_use]
pub fn log(files: &[ScannedFile<'_>], context: &Context<'_>) -> Log {
    let mut table = RuleTable::new(context.custom);
    let mut results = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let mut fingerprinter = Fingerprinter::new(file);
        for finding in &file.report.findings {
            let fingerprint = fingerprinter.fingerprint(finding);
            results.push(result(finding, file.path, index, table.index(finding), fingerprint));
        }
    }
    let rules = table.rules;
    let verdict = Summary::of(files.iter().map(|file| file.report), context.unread.len()).verdict();
    let taxa = taxa(&rules);
    let run = Run {
        tool: Tool {
            driver: Driver {
                name: "capibara",
                version: context.version.to_owned(),
                supported_taxonomies: vec![ComponentReference { name: "CWE", index: Some(0) }],
                rules: rules.into_iter().map(|rule| descriptor(rule, &taxa)).collect(),
            },
        },
        column_kind: "unicodeCodePoints",
        original_uri_base_ids: BaseIds { root: Base { description: text("The folder that was scanned.") } },
        taxonomies: vec![taxonomy(&taxa)],
        invocations: vec![Invocation {
            execution_successful: context.unread.is_empty(),
            tool_execution_notifications: context.unread.iter().map(notification).collect(),
        }],
        artifacts: files
            .iter()
            .map(|file| Artifact {
                location: artifact_location(file.path, None),
                roles: ["analysisTarget"],
                source_language: file.report.language.map(|language| language.name()),
            })
            .collect(),
        results,
        properties: RunProperties {
            policy: PolicyProperties { name: context.policy.name.to_owned(), sha256: context.policy.sha256.to_owned() },
            verdict,
        },
    };
    Log { schema: SCHEMA, version: "2.1.0", runs: vec![run] }
}

/// A SARIF log; see [`log`].
#[derive(Clone, Debug, Serialize)]
pub struct Log {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: Vec<Run>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    tool: Tool,
    column_kind: &'static str,
    original_uri_base_ids: BaseIds,
    taxonomies: Vec<Taxonomy>,
    invocations: Vec<Invocation>,
    artifacts: Vec<Artifact>,
    results: Vec<SarifResult>,
    properties: RunProperties,
}

#[derive(Clone, Debug, Serialize)]
struct BaseIds {
    #[serde(rename = "%SRCROOT%")]
    root: Base,
}

#[derive(Clone, Debug, Serialize)]
struct Base {
    description: Text,
}

#[derive(Clone, Debug, Serialize)]
struct RunProperties {
    policy: PolicyProperties,
    verdict: Verdict,
}

#[derive(Clone, Debug, Serialize)]
struct PolicyProperties {
    name: String,
    sha256: String,
}

#[derive(Clone, Debug, Serialize)]
struct Tool {
    driver: Driver,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver {
    name: &'static str,
    version: String,
    supported_taxonomies: Vec<ComponentReference>,
    rules: Vec<Descriptor>,
}

#[derive(Clone, Debug, Serialize)]
struct ComponentReference {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    id: String,
    short_description: Text,
    full_description: Text,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_configuration: Option<Configuration>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    relationships: Vec<Relationship>,
    properties: Tags,
}

#[derive(Clone, Debug, Serialize)]
struct Text {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    markdown: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Configuration {
    level: Level,
}

#[derive(Clone, Debug, Serialize)]
struct Tags {
    tags: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Relationship {
    target: DescriptorReference,
    kinds: [&'static str; 1],
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DescriptorReference {
    id: String,
    index: usize,
    tool_component: ComponentReference,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Taxonomy {
    name: &'static str,
    organization: &'static str,
    short_description: Text,
    is_comprehensive: bool,
    taxa: Vec<Taxon>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Taxon {
    id: String,
    help_uri: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    execution_successful: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_execution_notifications: Vec<Notification>,
}

#[derive(Clone, Debug, Serialize)]
struct Notification {
    level: Level,
    message: Text,
    locations: [Location; 1],
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    location: ArtifactLocation,
    roles: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    source_language: Option<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifResult {
    rule_id: String,
    rule_index: usize,
    level: Level,
    message: Text,
    locations: [Location; 1],
    partial_fingerprints: Fingerprints,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    suppressions: Vec<Suppression>,
    properties: ResultProperties,
}

#[derive(Clone, Debug, Serialize)]
struct Fingerprints {
    #[serde(rename = "capibaraFinding/v1")]
    finding: String,
}

#[derive(Clone, Debug, Serialize)]
struct ResultProperties {
    severity: Severity,
    effect: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Suppression {
    kind: &'static str,
    status: &'static str,
    justification: String,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Location {
    physical_location: PhysicalLocation,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PhysicalLocation {
    artifact_location: ArtifactLocation,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ArtifactLocation {
    uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri_base_id: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: u32,
    start_column: u32,
    end_line: u32,
    end_column: u32,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Error,
    Warning,
    Note,
}

impl From<Severity> for Level {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Error => Self::Error,
            Severity::Warning => Self::Warning,
            Severity::Unprovable => Self::Note,
        }
    }
}

/// A rule in the table of the log.
#[derive(Clone, Debug)]
enum TableRule<'a> {
    Shipped(&'static Rule),
    Custom(&'a CustomRule),
    /// One that a finding names and nobody described.
    Named(String),
}

impl TableRule<'_> {
    fn id(&self) -> &str {
        match self {
            Self::Shipped(rule) => rule.id,
            Self::Custom(rule) => rule.id(),
            Self::Named(id) => id,
        }
    }

    fn cwe(&self) -> &[u16] {
        match self {
            Self::Shipped(rule) => rule.cwe,
            Self::Custom(rule) => rule.cwe(),
            Self::Named(_) => &[],
        }
    }
}

/// The rules of the log, and where each stands.
struct RuleTable<'a> {
    rules: Vec<TableRule<'a>>,
    places: HashMap<String, usize>,
}

impl<'a> RuleTable<'a> {
    fn new(custom: Option<&'a CustomRules>) -> Self {
        let shipped = rules::RULES.iter().copied().map(TableRule::Shipped);
        let rules: Vec<_> =
            shipped.chain(custom.into_iter().flat_map(CustomRules::rules).map(TableRule::Custom)).collect();
        let places = rules.iter().enumerate().map(|(index, rule)| (rule.id().to_owned(), index)).collect();
        Self { rules, places }
    }

    fn index(&mut self, finding: &Finding) -> usize {
        if let Some(index) = self.places.get(finding.rule.as_ref()) {
            return *index;
        }
        let index = self.rules.len();
        self.places.insert(finding.rule.to_string(), index);
        self.rules.push(TableRule::Named(finding.rule.to_string()));
        index
    }
}

/// The CWE numbers that the rules name, in order.
fn taxa(rules: &[TableRule<'_>]) -> Vec<u16> {
    let mut taxa: Vec<u16> = rules.iter().flat_map(TableRule::cwe).copied().collect();
    taxa.sort_unstable();
    taxa.dedup();
    taxa
}

fn taxonomy(taxa: &[u16]) -> Taxonomy {
    Taxonomy {
        name: "CWE",
        organization: "MITRE",
        short_description: text("The Common Weakness Enumeration."),
        is_comprehensive: false,
        taxa: taxa
            .iter()
            .map(|cwe| Taxon {
                id: cwe.to_string(),
                help_uri: format!("https://cwe.mitre.org/data/definitions/{cwe}.html"),
            })
            .collect(),
    }
}

fn descriptor(rule: TableRule<'_>, taxa: &[u16]) -> Descriptor {
    let mut tags = vec!["security".to_owned()];
    tags.extend(rule.cwe().iter().map(|cwe| format!("external/cwe/cwe-{cwe:03}")));
    let relationships = rule
        .cwe()
        .iter()
        .filter_map(|cwe| {
            let index = taxa.binary_search(cwe).ok()?;
            let tool_component = ComponentReference { name: "CWE", index: Some(0) };
            let target = DescriptorReference { id: cwe.to_string(), index, tool_component };
            Some(Relationship { target, kinds: ["relevant"] })
        })
        .collect();
    let (title, full, advice, page, severity) = match &rule {
        TableRule::Shipped(rule) => {
            (rule.title, first_paragraph(rule.page), rule.advice, Some(rule.page), Some(rule.severity))
        }
        TableRule::Custom(rule) => (rule.title(), None, rule.advice(), None, Some(rule.severity())),
        TableRule::Named(id) => (id.as_str(), None, "", None, None),
    };
    let help = if advice.is_empty() { page.unwrap_or_default() } else { advice };
    Descriptor {
        id: rule.id().to_owned(),
        short_description: text(title),
        full_description: text(full.as_deref().unwrap_or(title)),
        help: (!help.is_empty()).then(|| Text { text: escape_message(help), markdown: page.map(str::to_owned) }),
        default_configuration: severity.map(|severity| Configuration { level: severity.into() }),
        relationships,
        properties: Tags { tags },
    }
}

/// The first paragraph of a page that is not its heading, on one line.
fn first_paragraph(page: &str) -> Option<String> {
    let lines = page.lines().map(str::trim).skip_while(|line| line.is_empty() || line.starts_with('#'));
    let paragraph: Vec<&str> = lines.take_while(|line| !line.is_empty() && !line.starts_with('#')).collect();
    (!paragraph.is_empty()).then(|| paragraph.join(" "))
}

fn result(finding: &Finding, path: &str, file: usize, rule: usize, fingerprint: String) -> SarifResult {
    let suppression = finding.allowed.as_ref().map(|reason| Suppression {
        kind: "external",
        status: "accepted",
        justification: reason.clone(),
    });
    SarifResult {
        rule_id: finding.rule.to_string(),
        rule_index: rule,
        level: finding.severity.into(),
        message: text(&finding.message),
        locations: [Location {
            physical_location: PhysicalLocation {
                artifact_location: artifact_location(path, Some(file)),
                region: Some(region(finding.span)),
            },
        }],
        partial_fingerprints: Fingerprints { finding: fingerprint },
        suppressions: suppression.into_iter().collect(),
        properties: ResultProperties {
            severity: finding.severity,
            effect: finding.effect,
            advice: (!finding.advice.is_empty()).then(|| finding.advice.clone()),
        },
    }
}

fn notification(unread: &UnreadFile) -> Notification {
    Notification {
        level: Level::Error,
        message: text(&unread.message),
        locations: [Location {
            physical_location: PhysicalLocation {
                artifact_location: artifact_location(&unread.path, None),
                region: None,
            },
        }],
    }
}

fn region(span: Span) -> Region {
    let (line, column) = (span.line.max(1), span.column.max(1));
    let (end_line, end_column) = (span.end_line, span.end_column.max(1)).max((line, column));
    Region { start_line: line, start_column: column, end_line, end_column }
}

/// A relative path stands below the root of the scan; an absolute one is a URI of its own.
fn artifact_location(path: &str, index: Option<usize>) -> ArtifactLocation {
    let path = path.replace('\\', "/");
    if path.starts_with('/') {
        let uri = format!("file:///{}", utf8_percent_encode(path.trim_start_matches('/'), SEGMENT));
        return ArtifactLocation { uri, uri_base_id: None, index };
    }
    let mut relative = path.as_str();
    while let Some(rest) = relative.strip_prefix("./") {
        relative = rest.trim_start_matches('/');
    }
    ArtifactLocation { uri: utf8_percent_encode(relative, SEGMENT).to_string(), uri_base_id: Some(ROOT), index }
}

fn text(text: &str) -> Text {
    Text { text: escape_message(text), markdown: None }
}

/// A string as it stands in a message: braces would be placeholders, and `[words](place)` would be a link, which a script
/// could plant.
fn escape_message(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}").replace("](", "\\](")
}

/// Fingerprints of the findings of one file; see [`log`].
struct Fingerprinter<'a> {
    path: &'a str,
    lines: Vec<&'a str>,
    /// The digest of the line that was asked for last: lines can be long, and findings come in order.
    last: Option<(u32, [u8; 32])>,
    seen: HashMap<(String, [u8; 32]), u64>,
}

impl<'a> Fingerprinter<'a> {
    fn new(file: &ScannedFile<'a>) -> Self {
        let lines = file.text.map(|text| text.split('\n').collect()).unwrap_or_default();
        Self { path: file.path, lines, last: None, seen: HashMap::new() }
    }

    fn fingerprint(&mut self, finding: &Finding) -> String {
        let line = self.line(finding);
        let count = self.seen.entry((finding.rule.to_string(), line)).or_insert(0);
        *count += 1;
        let mut hasher = Sha256::new();
        // Lengths keep the parts apart.
        for part in [finding.rule.as_ref(), self.path] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        hasher.update(line);
        hasher.update(count.to_be_bytes());
        hex::encode(hasher.finalize().get(..16).unwrap_or_default())
    }

    /// The digest of the finding's line, however it is indented and spaced. Without a text, the message stands in for it.
    fn line(&mut self, finding: &Finding) -> [u8; 32] {
        let number = finding.span.line;
        match self.last {
            Some((last, digest)) if last == number => digest,
            _ => match self.lines.get(number.saturating_sub(1) as usize) {
                None => words(&finding.message),
                Some(line) => {
                    let digest = words(line);
                    self.last = Some((number, digest));
                    digest
                }
            },
        }
    }
}

fn words(line: &str) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for word in line.split_whitespace() {
        hasher.update(word);
        hasher.update(" ");
    }
    hasher.finalize().into()
}
