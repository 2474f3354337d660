//! Rules of one's own: tree-sitter queries in a YAML file, each with cases that show what it finds and what it leaves alone.
//!
//! A rule of one's own reports beside the rules that ship; policies set its severity and allow its findings by its id in the
//! same way. Its id begins with `x-`, which no shipped rule ever will.

mod file;
mod query;

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tree_sitter::{Node, Query, QueryCapture, QueryCursor, QueryCursorOptions, QueryCursorState, StreamingIterator};

pub use file::{RuleFileError, RuleProblem};

use crate::scan::{Collector, Parsed, SourceLanguage};
use crate::{Severity, rules};

/// The largest rule file, in bytes.
pub const LARGEST_RULE_FILE: usize = 1 << 20;
/// The most rules of one file.
pub const MOST_RULES: usize = 200;
/// The longest query, in bytes.
pub const LONGEST_QUERY: usize = 8 << 10;
/// The longest text of queries that are compiled into one: the compiler numbers its steps with 16 bits.
const LONGEST_JOINT_QUERY: usize = 24 << 10;
/// How long all custom rules together may look at one source.
const BUDGET: Duration = Duration::from_millis(250);
/// The most matches of one query that may be under way at once.
const MATCHES_UNDER_WAY: u32 = 4_096;

/// One rule out of a rule file.
pub struct CustomRule {
    id: String,
    title: String,
    severity: Severity,
    message: String,
    advice: String,
    cwe: Vec<u16>,
    /// The query as it is written.
    text: String,
    /// Name of the capture that is reported.
    capture: String,
    queries: Vec<LanguageQuery>,
    should_fire: Vec<Case>,
    should_not_fire: Vec<Case>,
    /// Line of its id in the file.
    line: u32,
}

/// The query of a rule, compiled for one language.
struct LanguageQuery {
    language: SourceLanguage,
    query: Query,
}

/// A source text that a rule is tried on.
struct Case {
    text: String,
    /// Line of it in the file.
    line: u32,
}

impl CustomRule {
    /// Permanent id: `x-` and words in kebab-case.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it finds, in a few words.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// How bad it is where the policy says nothing.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What a finding says, in one line.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about a finding, in one line; empty if there is nothing to say.
    #[must_use]
    pub fn advice(&self) -> &str {
        &self.advice
    }

    /// Numbers in the Common Weakness Enumeration.
    #[must_use]
    pub fn cwe(&self) -> &[u16] {
        &self.cwe
    }

    /// The languages it looks at.
    pub fn languages(&self) -> impl Iterator<Item = SourceLanguage> {
        self.queries.iter().map(|query| query.language)
    }
}

impl fmt::Debug for CustomRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomRule").field("id", &self.id).field("severity", &self.severity).finish_non_exhaustive()
    }
}

/// The rules of one or more rule files. Cheap to clone; can be shared by threads.
#[derive(Clone, Default)]
pub struct CustomRules {
    rules: Vec<Arc<CustomRule>>,
    /// The same queries, as few as possible: all patterns of one are looked for in one walk over the tree.
    joint: Vec<Arc<JointQuery>>,
    /// SHA-256 of the files; zero without any.
    digest: [u8; 32],
}

/// The queries of several rules in one.
struct JointQuery {
    language: SourceLanguage,
    query: Query,
    /// Of each pattern: its rule, and the index of the capture that is reported.
    patterns: Vec<(Arc<CustomRule>, u32)>,
}

impl fmt::Debug for CustomRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.rules).finish()
    }
}

/// Two rule files have a rule of the same id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two rule files have a rule `{id}`")]
pub struct DuplicateRule {
    /// The id.
    pub id: String,
}

impl CustomRules {
    /// Reads a rule file (YAML, `schema/rules.v1.json`). `name` stands in errors.
    ///
    /// # Errors
    /// [`RuleFileError`]: the first thing that is wrong with the file, with line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self, RuleFileError> {
        let error = |(place, problem)| RuleFileError::new(name, place, problem);
        let rules: Vec<_> = file::parse(text).map_err(error)?.into_iter().map(Arc::new).collect();
        let joint = JointQuery::of(&rules).map_err(|problem| error(((1, 1), problem)))?;
        Ok(Self { rules, joint, digest: Sha256::digest(text).into() })
    }

    /// The rules of several files together, in this order.
    ///
    /// # Errors
    /// [`DuplicateRule`].
    pub fn join(files: impl IntoIterator<Item = Self>) -> Result<Self, DuplicateRule> {
        let mut joined = Self::default();
        let mut ids = HashSet::new();
        for file in files {
            if let Some(twice) = file.rules().find(|rule| !ids.insert(rule.id.clone())) {
                return Err(DuplicateRule { id: twice.id.clone() });
            }
            joined.rules.extend(file.rules);
            joined.joint.extend(file.joint);
            joined.digest = Sha256::new().chain_update(joined.digest).chain_update(file.digest).finalize().into();
        }
        Ok(joined)
    }

    /// What tells these rules from others.
    pub(crate) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The rules, in the order of the file.
    pub fn rules(&self) -> impl Iterator<Item = &CustomRule> {
        self.rules.iter().map(Arc::as_ref)
    }

    /// The rule of that id.
    #[must_use]
    pub fn rule(&self, id: &str) -> Option<&CustomRule> {
        self.rules().find(|rule| rule.id == id)
    }

    /// Whether there are no rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Looks at a source with every rule for its language. What cannot be looked at in full is itself a finding.
    pub(crate) fn analyze(&self, parsed: &Parsed<'_>, language: SourceLanguage, collector: &mut Collector<'_>) {
        let policy = collector.policy();
        if self.rules().all(|rule| policy.severity(&rule.id, rule.severity).is_none()) {
            return;
        }
        let deadline = Instant::now() + BUDGET;
        for joint in self.joint.iter().filter(|joint| joint.language == language) {
            let mut report = |pattern: usize, captures: &[QueryCapture<'_>]| {
                let Some((rule, capture)) = joint.patterns.get(pattern) else { return };
                for found in captures.iter().filter(|found| found.index == *capture) {
                    collector.report_custom(rule, found.node.byte_range());
                }
            };
            if let Err(incomplete) = search(&joint.query, parsed, deadline, &mut report) {
                let why = format!("the custom rules cannot look at all of this source: {incomplete}");
                collector.report_at_start(rules::oversized_source, &why);
                collector.cut_short();
                return;
            }
        }
    }

    /// Tries every rule on its own cases.
    #[must_use]
    pub fn test(&self) -> TestReport {
        let mut report = TestReport { rules: self.rules.len(), cases: 0, failures: Vec::new() };
        for rule in self.rules() {
            rule.test(&mut report);
        }
        report
    }
}

/// Why a rule has not seen all of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Incomplete {
    #[error("it takes too long")]
    Late,
    #[error("too many matches are under way at once")]
    Crowded,
}

impl JointQuery {
    /// The queries of these rules, for each language in as few as the compiler takes.
    fn of(rules: &[Arc<CustomRule>]) -> Result<Vec<Arc<Self>>, RuleProblem> {
        let mut joint = Vec::new();
        for language in [SourceLanguage::Python, SourceLanguage::JavaScript, SourceLanguage::TypeScript] {
            let mut group: Vec<&Arc<CustomRule>> = Vec::new();
            let mut length = 0;
            for rule in rules.iter().filter(|rule| rule.query(language).is_some()) {
                if length + rule.text.len() > LONGEST_JOINT_QUERY {
                    joint.push(Arc::new(Self::new(language, &std::mem::take(&mut group))?));
                    length = 0;
                }
                group.push(rule);
                length += rule.text.len();
            }
            if !group.is_empty() {
                joint.push(Arc::new(Self::new(language, &group)?));
            }
        }
        Ok(joint)
    }

    fn new(language: SourceLanguage, rules: &[&Arc<CustomRule>]) -> Result<Self, RuleProblem> {
        // A line break ends a comment.
        let text: String = rules.iter().flat_map(|rule| [rule.text.as_str(), "\n"]).collect();
        let query = query::compile(&text, language).map_err(|(_, problem)| problem)?;
        let mut patterns = Vec::new();
        for rule in rules {
            let capture = query.capture_index_for_name(&rule.capture).unwrap_or(u32::MAX);
            let number = rule.query(language).map_or(0, Query::pattern_count);
            patterns.extend(std::iter::repeat_n((Arc::clone(rule), capture), number));
        }
        Ok(Self { language, query, patterns })
    }
}

/// Calls `found` with the pattern and the captures of every match.
fn search(
    query: &Query,
    parsed: &Parsed<'_>,
    deadline: Instant,
    found: &mut dyn FnMut(usize, &[QueryCapture<'_>]),
) -> Result<(), Incomplete> {
    let late = Cell::new(false);
    let check = || {
        late.set(late.get() || Instant::now() > deadline);
        late.get()
    };
    let mut progress = |_: &QueryCursorState| if check() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    // Predicates read the text between two calls of `progress`; when time is up, they get none.
    let text = |node: Node<'_>| {
        let range = if check() { 0..0 } else { node.byte_range() };
        std::iter::once(parsed.text.as_bytes().get(range).unwrap_or_default())
    };
    let mut cursor = QueryCursor::new();
    cursor.set_match_limit(MATCHES_UNDER_WAY);
    let options = QueryCursorOptions::new().progress_callback(&mut progress);
    let mut matches = cursor.matches_with_options(query, parsed.tree.root_node(), text, options);
    while let Some(matched) = matches.next() {
        if check() {
            break;
        }
        found(matched.pattern_index, matched.captures());
    }
    drop(matches);
    if late.get() {
        Err(Incomplete::Late)
    } else if cursor.did_exceed_match_limit() {
        Err(Incomplete::Crowded)
    } else {
        Ok(())
    }
}

impl CustomRule {
    fn query(&self, language: SourceLanguage) -> Option<&Query> {
        self.queries.iter().find(|query| query.language == language).map(|query| &query.query)
    }

    fn test(&self, report: &mut TestReport) {
        let mut exercised = false;
        let cases = self.should_fire.iter().map(|case| (case, true));
        for (case, should_fire) in cases.chain(self.should_not_fire.iter().map(|case| (case, false))) {
            report.cases += 1;
            for language in self.languages() {
                let problem = match self.lines_found(&case.text, language) {
                    Err(why) => Some(TestProblem::Unreadable { language, why }),
                    Ok(lines) if should_fire && lines.is_empty() => Some(TestProblem::DidNotFire { language }),
                    Ok(lines) => {
                        exercised |= should_fire;
                        lines
                            .first()
                            .filter(|_| !should_fire)
                            .map(|line| TestProblem::Fired { language, case_line: *line })
                    }
                };
                report.failures.extend(problem.map(|problem| self.failure(case.line, problem)));
            }
        }
        if self.should_fire.is_empty() && self.should_not_fire.is_empty() {
            report.failures.push(self.failure(self.line, TestProblem::NoCases));
        } else if !exercised {
            report.failures.push(self.failure(self.line, TestProblem::NeverExercised));
        }
    }

    fn failure(&self, line: u32, problem: TestProblem) -> TestFailure {
        TestFailure { rule: self.id.clone(), line, problem }
    }

    /// The lines of a case on which the rule fires.
    fn lines_found(&self, text: &str, language: SourceLanguage) -> Result<Vec<usize>, String> {
        let parsed = Parsed::parse_text(text, language)?;
        if parsed.tree.root_node().has_error() {
            return Err("it has a syntax error".to_owned());
        }
        let mut lines = Vec::new();
        let capture = self.query(language).and_then(|query| query.capture_index_for_name(&self.capture));
        let mut found = |_: usize, captures: &[QueryCapture<'_>]| {
            let captures = captures.iter().filter(|found| Some(found.index) == capture);
            lines.extend(captures.map(|found| found.node.start_position().row + 1));
        };
        if let Some(query) = self.query(language) {
            search(query, &parsed, Instant::now() + BUDGET, &mut found).map_err(|why| why.to_string())?;
        }
        Ok(lines)
    }
}

/// What came of trying rules on their cases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestReport {
    /// Rules tried.
    pub rules: usize,
    /// Cases tried. One that several languages share is one.
    pub cases: usize,
    /// What went wrong, in the order of the file.
    pub failures: Vec<TestFailure>,
}

impl TestReport {
    /// Whether all is well: every case came out as it says, and every rule has one that shows it firing.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

/// A case that came out otherwise than it says, or a rule that no case exercises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestFailure {
    /// Id of the rule.
    pub rule: String,
    /// Line of the case in the rule file, or of the rule.
    pub line: u32,
    /// What went wrong.
    pub problem: TestProblem,
}

impl fmt::Display for TestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: rule `{}`: {}", self.line, self.rule, self.problem)
    }
}

/// What can go wrong with the cases of a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TestProblem {
    /// The rule has no cases.
    #[error("it has no cases")]
    NoCases,
    /// No case shows the rule firing.
    #[error("it is never exercised: no `should-fire` case fires")]
    NeverExercised,
    /// A case of `should-fire` does not fire.
    #[error("this case should fire in {language} and does not")]
    DidNotFire {
        /// The language it was read in.
        language: SourceLanguage,
    },
    /// A case of `should-not-fire` fires.
    #[error("this case should not fire in {language} and does, on its line {case_line}")]
    Fired {
        /// The language it was read in.
        language: SourceLanguage,
        /// The first line of the case on which it does, from 1.
        case_line: usize,
    },
    /// A case cannot be looked at.
    #[error("this case cannot be looked at in {language}: {why}")]
    Unreadable {
        /// The language it was read in.
        language: SourceLanguage,
        /// Why.
        why: String,
    },
}
