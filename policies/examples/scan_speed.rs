//! CPU time of a scan: a one-line script, one of 200 lines, one of 10,000 lines, in Python and JavaScript; and the median
//! over the files of 100 to 300 lines of the corpus that `CAPIBARA_CORPUS` names.
//!
//! The least of several rounds counts, so that other programs on the machine disturb little.
#![expect(clippy::print_stdout, reason = "an example prints what it measures")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use capibara_policies::{Policy, PolicyError, Scanner, Script, Source, SourceLanguage, imports};
use rustix::time::{ClockId, clock_gettime};

/// Rounds of a measurement.
const ROUNDS: u32 = 7;

/// A script of about that many lines, of what ordinary scripts are made of.
fn script(lines: usize) -> String {
    let mut text = String::from("import json\nimport math\nimport re\n\n");
    let mut part = 0;
    while text.lines().count() < lines {
        part += 1;
        let _ = write!(
            text,
            r#"
class Account{part}:
    """An account with a history."""

    def __init__(self, owner, balance=0):
        self.owner = owner
        self.balance = balance
        self.history = []

    def deposit(self, amount):
        if amount <= 0:
            raise ValueError(f"not an amount: {{amount}}")
        self.balance += amount
        self.history.append(("deposit", amount))
        return self.balance


def summary{part}(rows, key="name"):
    table = {{}}
    for index, row in enumerate(rows):
        name = row.get(key, "none").strip().lower()
        table.setdefault(name, []).append(math.sqrt(index) + len(row))
    for name, values in sorted(table.items()):
        print(f"{{name:>10}} {{sum(values):8.2f}} {{max(values)}}")
    return json.dumps(table, sort_keys=True)


if re.match(r"(\w+)-(\d+)", "abc-{part}"):
    account = Account{part}("script", {part})
    for value in [1, 2, 3, 5, 8]:
        account.deposit(value * 2)
    print(summary{part}([{{"name": "a"}}, {{"name": "b"}}]))
"#
        );
    }
    text
}

/// A script in JavaScript of about that many lines.
fn javascript(lines: usize) -> String {
    let mut text = String::from("const path = require('path');\nconst util = require('util');\n\n");
    let mut part = 0;
    while text.lines().count() < lines {
        part += 1;
        let _ = write!(
            text,
            r#"
/** An account with a history. */
class Account{part} {{
  constructor(owner, balance = 0) {{
    this.owner = owner;
    this.balance = balance;
    this.history = [];
  }}

  deposit(amount) {{
    if (amount <= 0) {{
      throw new RangeError(`not an amount: ${{amount}}`);
    }}
    this.balance += amount;
    this.history.push(['deposit', amount]);
    return this.balance;
  }}
}}

function summary{part}(rows, key = 'name') {{
  const table = new Map();
  rows.forEach((row, index) => {{
    const name = (row[key] ?? 'none').trim().toLowerCase();
    if (!table.has(name)) table.set(name, []);
    table.get(name).push(Math.sqrt(index) + Object.keys(row).length);
  }});
  for (const [name, values] of [...table.entries()].sort()) {{
    console.log(`${{name.padStart(10)}} ${{values.reduce((a, b) => a + b, 0).toFixed(2)}} ${{Math.max(...values)}}`);
  }}
  return JSON.stringify(Object.fromEntries(table), null, 2);
}}

if (/(\w+)-(\d+)/.test('abc-{part}')) {{
  const account = new Account{part}('script', {part});
  for (const value of [1, 2, 3, 5, 8]) {{
    account.deposit(value * 2);
  }}
  console.log(util.inspect(account), summary{part}([{{ name: 'a' }}, {{ name: 'b' }}]));
}}
"#
        );
    }
    text
}

/// CPU time this process has used so far, all threads together.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The least time of one run in several rounds of many runs: what is left when other programs do not disturb.
fn least(mut run: impl FnMut()) -> Duration {
    let mut least = Duration::MAX;
    let mut times = 1;
    for _ in 0..ROUNDS {
        let start = cpu();
        for _ in 0..times {
            run();
        }
        let took = cpu().saturating_sub(start);
        least = least.min(took / times);
        // Rounds of about 20 ms.
        let fit = Duration::from_millis(20).as_nanos() / least.as_nanos().max(1);
        times = u32::try_from(fit).unwrap_or(1).clamp(1, 10_000);
    }
    least
}

/// The least time of a scan, and of finding the imports, which is little more than parsing (Python only).
fn measure(name: &str, text: &[u8], policy: &Policy) -> (Duration, Option<Duration>) {
    let script = Script { path: name, bytes: text, language: None, own_modules: &[] };
    let scan = least(|| drop(std::hint::black_box(Scanner::new().scan(&script, policy))));
    let source = SourceLanguage::of(name, text).and_then(|language| Source::decode(text, language).ok());
    let parse = source
        .filter(|source| source.language() == SourceLanguage::Python && source.text().contains("import"))
        .map(|source| least(|| drop(std::hint::black_box(imports(&source)))));
    (scan, parse)
}

fn main() -> Result<(), PolicyError> {
    let policy = Policy::preset("moderate")?;
    let made = [
        ("hello.py", "print('hello')\n".to_owned()),
        ("200-lines.py", script(200)),
        ("10000-lines.py", script(10_000)),
        ("hello.js", "console.log('hello');\n".to_owned()),
        ("200-lines.js", javascript(200)),
        ("10000-lines.js", javascript(10_000)),
    ];
    for (name, text) in made {
        let (scan, parse) = measure(name, text.as_bytes(), &policy);
        println!("{name:<15} {:>7} bytes  {scan:?}  (parsing and imports: {parse:?})", text.len());
    }
    let Some(corpus) = std::env::var_os("CAPIBARA_CORPUS").map(PathBuf::from) else { return Ok(()) };
    for (folder, ending) in [("python", "py"), ("javascript", "js")] {
        let mut all: Vec<(Duration, usize, Duration)> = Vec::new();
        for kind in ["scan", "run"] {
            let Ok(entries) = std::fs::read_dir(corpus.join(kind).join(folder)) else { continue };
            for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
                let Ok(text) = std::fs::read_to_string(&path) else { continue };
                if path.extension().is_some_and(|found| found == ending) && (100..=300).contains(&text.lines().count())
                {
                    let (scan, parse) = measure(&path.to_string_lossy(), text.as_bytes(), &policy);
                    all.push((scan, text.len(), parse.unwrap_or_default()));
                }
            }
        }
        all.sort_unstable();
        let count = all.len();
        if let (Some((median, bytes, parse)), Some((worst, most, _))) = (all.get(count / 2), all.last()) {
            println!(
                "{folder}: {count} files of 100 to 300 lines: median {median:?} ({bytes} bytes, parsing {parse:?}), \
                 most {worst:?} ({most} bytes)"
            );
        }
    }
    Ok(())
}
