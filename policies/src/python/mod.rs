//! What a script in this language does.
//!
//! The tree of the parser becomes a small tree of its own ([`ast`], [`lower`]); an abstract interpreter ([`machine`],
//! [`calls`]) runs that on constants, names of the library and unknown values, and looks every name it reaches up in the
//! tables of the rules. What needs more than a name is code beside it.

mod ast;
mod bombs;
mod calls;
mod closed;
mod facts;
mod files;
mod fold;
mod literal;
mod lower;
mod machine;
mod names;
mod regex;
mod text;
mod tree;
mod value;

use tree_sitter::Node;

use crate::Severity;
use crate::rules;
use crate::scan::{Collector, Exports, Parsed, Script, SourceLanguage};

use ast::{Ast, Kind, Name, Place, Stmt};
use lower::Lower;
use machine::Machine;

/// Tables whose keys the script chooses: quick to hash, and seeded at random.
type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
/// The same without values.
type Set<T> = std::collections::HashSet<T, foldhash::fast::RandomState>;

/// Steps of a first look beyond every place once.
const FIRST_FUEL: u32 = 4_000;
/// Steps of a second look, at a script that names something dangerous and was not seen through.
const SECOND_FUEL: u32 = 150_000;
/// How a finding of `eval` itself begins.
const EVAL: &str = "`eval`";
/// How deep a tree may be that is looked at on the caller's own stack.
const SHALLOW: usize = 100;
/// The stack for deeper ones, in bytes; only what is used of it takes memory.
const DEEP_STACK: usize = 256 << 20;

/// Looks at a whole script.
pub(crate) fn analyze(parsed: &Parsed<'_>, script: &Script<'_>, exports: &Exports, collector: &mut Collector<'_>) {
    if parsed.depth <= SHALLOW {
        return look(parsed, script, exports, collector);
    }
    let run = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("scan".into())
            .stack_size(DEEP_STACK)
            .spawn_scoped(scope, || look(parsed, script, exports, &mut *collector));
        thread.is_ok_and(|thread| thread.join().is_ok())
    });
    if !run {
        collector.report_at_start(rules::oversized_source, "the source is nested too deeply to be looked at");
    }
}

fn look(parsed: &Parsed<'_>, script: &Script<'_>, exports: &Exports, collector: &mut Collector<'_>) {
    let mut ast = Ast::default();
    let root = parsed.tree.root_node();
    let mut lower = Lower::new(parsed.text, &mut ast, None);
    let module = tree::Node::root(parsed).map(|root| lower.module(root)).unwrap_or_default();
    let bound = lower.bound();
    let old = std::mem::take(&mut lower.old);
    syntax(root, &old, collector);

    let depth = u32::try_from(parsed.depth).unwrap_or(u32::MAX);
    let mut machine = Machine::new(ast, collector.policy(), script.own_modules, exports, FIRST_FUEL, depth);
    machine.bound.clone_from(&bound);
    machine.run(&module);
    if machine.exhausted && machine.sensitive {
        let ast = std::mem::take(&mut machine.ast);
        machine = Machine::new(ast, collector.policy(), script.own_modules, exports, SECOND_FUEL, depth);
        machine.bound = bound;
        machine.run(&module);
    }
    facts::idioms(&mut machine);
    strings(&mut machine, parsed.text);
    unseen(parsed, collector);

    let only_eval = machine.findings.iter().all(|(_, _, message)| message.starts_with(EVAL));
    let closed = only_eval && !machine.findings.is_empty() && machine.needs.is_empty() && closed::closed(parsed);
    for (rule, place, message) in &machine.findings {
        let severity = if closed { Severity::Warning } else { rule.severity };
        collector.report_as(rule, severity, place.range(), message);
    }
    for (kind, place) in std::mem::take(&mut machine.needs) {
        collector.need(kind, place.range());
    }
}

/// Reads code in a string; `None` if it is none.
fn read(text: &str, ast: &mut Ast, at: Place, bound: &mut Set<Name>) -> Option<Vec<Stmt>> {
    let trimmed = text.trim_start_matches([' ', '\t', '\n', '\u{feff}']);
    let parsed = Parsed::parse_text(trimmed, SourceLanguage::Python).ok()?;
    if parsed.depth > SHALLOW {
        return None;
    }
    let mut lower = Lower::new(parsed.text, ast, Some(at));
    let module = lower.module(tree::Node::root(&parsed)?);
    bound.extend(lower.bound());
    Some(module)
}

/// Reports the first places the parser could not read.
fn syntax(root: Node<'_>, old: &[(Place, &'static str)], collector: &mut Collector<'_>) {
    for (place, what) in old.iter().take(3) {
        collector.report(rules::syntax_error, place.range(), what);
    }
    if !root.has_error() {
        return;
    }
    let mut cursor = root.walk();
    let mut told = 0;
    loop {
        let node = cursor.node();
        if node.is_error() || node.is_missing() {
            let mut range = node.byte_range();
            range.end = range.end.min(range.start + 80);
            let what = if node.is_missing() { "something is missing here" } else { "this is not Python" };
            collector.report(rules::syntax_error, range, what);
            told += 1;
            if told >= 3 {
                return;
            }
        } else if node.has_error() && cursor.goto_first_child() {
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return;
            }
        }
    }
}

/// Secrets in strings, long encoded literals that code is made of, and names made to be unreadable.
fn strings(machine: &mut Machine<'_>, text: &str) {
    let mut found = Vec::new();
    let mut packed = None;
    for expr in &machine.ast.exprs {
        let (literal, length): (&str, usize) = match &expr.kind {
            Kind::Str(text) => (text, text.len()),
            Kind::Bytes(bytes) => (std::str::from_utf8(bytes).unwrap_or_default(), bytes.len()),
            _ => continue,
        };
        if length >= 20
            && let Some(what) = text::secret(literal)
        {
            found.push((expr.place, what));
        }
        if length > 1000 && packed.is_none() && encoded(literal, length) {
            packed = Some(expr.place);
        }
    }
    for (place, what) in found {
        machine.report(rules::secret_in_source, place, format!("holds {what}"));
    }
    let dynamic = machine.facts.dynamic;
    if let Some(place) = packed.filter(|_| dynamic || machine.facts.decoded && machine.facts.process) {
        machine.report(rules::obfuscated_code, place, "a long encoded literal in a script that makes code at run time");
    }
    if machine.facts.characters >= 30 && dynamic {
        machine.report(
            rules::obfuscated_code,
            Place::default(),
            "text put together character by character, in a script that makes code at run time",
        );
    }
    if let Some(place) = unreadable_names(machine, text) {
        machine.report(rules::obfuscated_code, place, "most names are made to be unreadable");
    }
}

/// Whether a literal looks encoded: no spaces, few kinds of characters other than letters and digits.
fn encoded(text: &str, length: usize) -> bool {
    if text.is_empty() {
        return length > 1000;
    }
    let plain = text.bytes().filter(|byte| byte.is_ascii_alphanumeric() || b"+/=_-\\".contains(byte)).count();
    plain * 100 >= text.len() * 97
}

/// Names such as `_0x3f2a`, `IlIIlI`, `O0OO0O`: where they are the most of many.
fn unreadable_names(machine: &Machine<'_>, text: &str) -> Option<Place> {
    let mut first = None;
    let (mut bad, mut all) = (0, 0);
    for (name, place) in machine.names_bound() {
        all += 1;
        let odd = name.len() >= 6
            && (name.strip_prefix("_0x").is_some_and(|rest| rest.chars().all(|c| c.is_ascii_hexdigit()))
                || name.chars().all(|c| matches!(c, 'I' | 'l' | '1' | '_'))
                || name.chars().all(|c| matches!(c, 'O' | '0' | 'o' | '_'))
                || (name.len() >= 8 && name.chars().all(|c| c == '_')));
        if odd {
            bad += 1;
            first.get_or_insert(place);
        }
    }
    let _ = text;
    (bad >= 4 && bad * 2 > all).then_some(first).flatten()
}

/// Characters that cannot be seen, and names that mix scripts.
fn unseen(parsed: &Parsed<'_>, collector: &mut Collector<'_>) {
    if parsed.text.is_ascii() {
        return;
    }
    let root = parsed.tree.root_node();
    let in_code = |at: usize| {
        root.descendant_for_byte_range(at, at + 1)
            .is_some_and(|node| !matches!(node.kind(), "comment" | "string_content" | "string" | "escape_sequence"))
    };
    for (range, what) in text::invisible(parsed.text, in_code) {
        collector.report(rules::invisible_unicode, range, what);
    }
    let mut told = 0;
    let mut start = None;
    for (at, c) in parsed.text.char_indices().chain([(parsed.text.len(), ' ')]) {
        if c.is_alphanumeric() || c == '_' {
            start.get_or_insert(at);
            continue;
        }
        let Some(from) = start.take() else { continue };
        let word = parsed.text.get(from..at).unwrap_or_default();
        if told < 10 && !word.is_ascii() && text::mixes_scripts(word) && in_code(from) {
            collector.report(
                rules::invisible_unicode,
                from..at,
                "a name that mixes letters of scripts that look alike",
            );
            told += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::{Policy, Report, Scanner, Script, SourceLanguage, Verdict};

    fn scan(text: &str) -> Report {
        let script =
            Script { path: "a.py", bytes: text.as_bytes(), language: Some(SourceLanguage::Python), own_modules: &[] };
        let start = Instant::now();
        let report = Scanner::new().scan(&script, &Policy::preset("moderate").unwrap());
        // Generous: tests run unoptimized, on busy machines.
        assert!(start.elapsed() < Duration::from_secs(20), "{:.80}", text);
        report
    }

    /// Shapes that make recursion deep or work long; each comes to an end on a small stack.
    #[test]
    fn deep_and_wide_sources_come_to_an_end() {
        let nested = |open: &str, inner: &str, close: &str, times: usize| {
            format!("x = {}{inner}{}\n", open.repeat(times), close.repeat(times))
        };
        for times in [40, 90, 130, 900, 1900, 100_000] {
            for text in [
                nested("(", "1", ")", times),
                nested("[", "1", "]", times),
                nested("{1:", "1", "}", times),
                nested("f(", "1", ")", times),
                nested("lambda: ", "1", "", times),
                nested("-", "1", "", times),
                nested("not ", "1", "", times),
                nested("", "a", ".b", times),
                nested("", "a", "()", times),
                nested("", "a", "[0]", times),
                nested("", "1", "+1", times),
                nested("", "'a'", " 'b'", times),
                nested("1 if 1 else ", "1", "", times),
                nested("[a for a in ", "b", "]", times),
                nested("eval('", "1", "')", times),
                nested("", "().__class__", ".__class__", times),
                nested("", "1", " or 2", times),
            ] {
                scan(&text);
            }
        }
        let mut blocks = String::new();
        for depth in 0..95 {
            blocks.push_str(&" ".repeat(depth));
            blocks.push_str("if a:\n");
        }
        blocks.push_str(&" ".repeat(95));
        blocks.push_str("pass\n");
        scan(&blocks);
        scan(&"def f():\n    return f()\n".repeat(2000));
        scan(&"x = x + x\n".repeat(20_000));
        scan("s = 'ab'\nwhile s:\n    s = s + s\n    eval(s)\n");
        scan("def f(n):\n    return [f(n - 1), f(n - 1), f(n - 1)]\nf(100)\n");
        scan("l = [1]\nfor i in range(1000):\n    l = l + l\n    d = {k: l for k in l}\n");
        scan("s = 'exec(s)'\nexec(s)\n");
        scan(&format!("exec({:?})\n", "exec('1')\n".repeat(9000)));
    }

    #[test]
    fn what_cannot_be_read_that_deep_is_a_finding() {
        let report = scan(&format!("{}{}", "(".repeat(100_000), ")".repeat(100_000)));
        assert_eq!(report.verdict, Verdict::Deny);
        assert!(report.findings.iter().any(|finding| finding.rule == "oversized-source"));
        let report = scan(&format!("x = {}__import__('os').system('id'){}\n", "(".repeat(1000), ")".repeat(1000)));
        assert!(report.findings.iter().any(|finding| finding.rule == "spawn-process"), "{report:?}");
    }

    /// A decoy that takes all the fuel there is does not hide what comes after it.
    #[test]
    fn decoys_do_not_hide() {
        let decoy = "def f(n):\n    return [f(n - 1) for _ in range(50)]\nf(50)\n";
        let report = scan(&format!("{decoy}import os\nm = os\nm.system('id')\n"));
        assert!(report.findings.iter().any(|finding| finding.rule == "spawn-process"));
        let report =
            scan(&format!("{decoy}import os\ngetattr(os, ''.join(map(chr, [115, 121, 115, 116, 101, 109])))('id')\n"));
        assert_ne!(report.verdict, Verdict::Allow);
    }

    #[test]
    fn needs_are_noted_with_their_names() {
        use crate::NeedKind::{Env, Package, Read, Stdin, Write};
        let report = scan("import os, numpy\nopen('a' + '.txt')\nopen('/out/b', 'w')\ninput()\nos.environ['HOME']\n");
        let kinds: Vec<_> = report.needs.iter().map(|need| need.kind.clone()).collect();
        for kind in [
            Package("numpy".into()),
            Read(Some("a.txt".into())),
            Write(Some("/out/b".into())),
            Stdin,
            Env(Some("HOME".into())),
        ] {
            assert!(kinds.contains(&kind), "{kind:?} in {kinds:?}");
        }
    }
}
