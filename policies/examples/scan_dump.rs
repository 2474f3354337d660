//! Prints every finding and need of files under the presets that block: what two builds of the scanner are compared by.
//!
//! `scan_dump FILE…`: one line for each finding, with its place, rule, severity, effect and message.
#![expect(clippy::print_stdout, reason = "a tool for the terminal")]

use capibara_policies::{Policy, Scanner, Script};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for preset in ["strict", "moderate"] {
        let policy = Policy::preset(preset)?;
        for path in std::env::args().skip(1) {
            let bytes = std::fs::read(&path)?;
            let report =
                Scanner::new().scan(&Script { path: &path, bytes: &bytes, language: None, own_modules: &[] }, &policy);
            println!("{preset} {path} {} {:?}", report.verdict, report.language);
            for finding in &report.findings {
                let (span, rule, message) = (finding.span, &finding.rule, &finding.message);
                println!("  {span:?} {}[{rule}] {} {message}", finding.severity, finding.effect);
            }
            for need in &report.needs {
                println!("  {:?} {:?}", need.span, need.kind);
            }
        }
    }
    Ok(())
}
