//! Body of the fuzz target `scan` (see `fuzz/README.md`). Not an API.

use std::time::{Duration, Instant};

use super::{Scanner, Script, Source, SourceLanguage};
use crate::{Policy, Verdict};

/// The longest a scan may take, far beyond what one does; instrumented code is slow.
const LONGEST: Duration = Duration::from_secs(1);

/// Scans any bytes under all presets; panics when what holds of scans does not. The first byte chooses the language.
pub fn scan(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    let (path, language) = match choice % 4 {
        0 => ("a.py", Some(SourceLanguage::Python)),
        1 => ("a.js", Some(SourceLanguage::JavaScript)),
        2 => ("a.ts", Some(SourceLanguage::TypeScript)),
        _ => ("folder/script", None),
    };
    let started = Instant::now();
    let [strict, moderate, permissive] = ["strict", "moderate", "permissive"].map(|name| {
        let Ok(policy) = Policy::preset(name) else { panic!("the preset {name}") };
        let script = Script { path, bytes, language, own_modules: &[] };
        let report = Scanner::new().scan(&script, &policy);
        assert_eq!(report, Scanner::new().scan(&script, &policy), "a scan is a function of its inputs");
        report
    });
    assert!(started.elapsed() < 6 * LONGEST, "{} bytes took {:?}", bytes.len(), started.elapsed());
    assert!(strict.verdict >= moderate.verdict && moderate.verdict >= permissive.verdict);
    // What denies everywhere is a source nobody can read.
    let unreadable = ["unreadable-source", "unknown-language"];
    assert!(permissive.verdict < Verdict::Deny || permissive.findings.iter().any(|it| unreadable.contains(&&*it.rule)));
    let text = language.and_then(|language| Source::decode(bytes, language).ok()).map(Source::into_text);
    if let (Some(text), Some(language)) = (&text, language) {
        let again = Source::decode(text.as_bytes(), language).map(Source::into_text);
        // A cookie may say that the normalized text is something else; nothing else may.
        assert!(again.is_err() || again.as_ref() == Ok(text) || text.contains("coding"), "{text:?}");
        let lines = text.split('\n').count();
        for finding in &strict.findings {
            let (span, last) = (finding.span, finding.span.end_line as usize);
            assert!(span.line >= 1 && span.column >= 1 && last <= lines.max(1), "{finding:?}");
            assert!((span.line, span.column) <= (span.end_line, span.end_column), "{finding:?}");
            assert!(finding.message.len() < 2_000 && !finding.message.contains('\n'), "{finding:?}");
        }
    }
}
