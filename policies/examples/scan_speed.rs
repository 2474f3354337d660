//! Median time of a scan: a one-line script, one of 200 lines, one of 10,000 lines.
#![expect(clippy::print_stdout, reason = "an example prints what it measures")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use capibara_policies::{Policy, PolicyError, Scanner, Script};

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

fn median(text: &str, runs: usize, policy: &Policy) -> Duration {
    let script = Script { path: "script.py", bytes: text.as_bytes(), language: None, own_modules: &[] };
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            let report = Scanner::new().scan(&script, policy);
            std::hint::black_box(report);
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times.get(runs / 2).copied().unwrap_or_default()
}

fn main() -> Result<(), PolicyError> {
    let policy = Policy::preset("moderate")?;
    for (name, text, runs) in [
        ("hello", "print('hello')\n".to_owned(), 2001),
        ("200 lines", script(200), 501),
        ("10,000 lines", script(10_000), 21),
    ] {
        println!("{name:<13} {:>7} bytes  {:?}", text.len(), median(&text, runs, &policy));
    }
    Ok(())
}
