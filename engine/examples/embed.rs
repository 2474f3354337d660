//! Runs scripts from a program: an engine, a policy, a job with input, streamed output, and what came of it.

#![expect(clippy::print_stdout, reason = "an example prints")]

use capibara::{Engine, EngineConfig, Job, Language, Policy, Silent, Status, Stream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::new(EngineConfig::default())?;
    engine.prepare(Language::Python, false, &Silent)?; // builds the runtime the first time

    // A script that somebody else wrote, under the strictest preset.
    let script = "import sys\nnumbers = [int(line) for line in sys.stdin]\nprint('sum', sum(numbers))";
    let job = Job::file("sum.py", script.as_bytes())
        .with_policy(Policy::preset("strict")?)
        .with_stdin("1\n2\n39\n")
        .with_sink(|stream: Stream, bytes: &[u8]| {
            if stream == Stream::Stdout {
                print!("live: {}", String::from_utf8_lossy(bytes));
            }
        });
    let outcome = engine.run_blocking(job)?;
    println!("{:?} with {} fuel", outcome.status, outcome.usage.fuel.unwrap_or(0));

    // The scan of strict denies a loop without end; that of moderate does not. When it runs, it is still only a value.
    let outcome = engine.run_blocking(Job::python("while True: pass").with_policy(Policy::preset("strict")?))?;
    println!(
        "{:?}: {}",
        outcome.status,
        outcome.scan.findings.iter().map(|it| &*it.message).collect::<Vec<_>>().join(", ")
    );
    let mut policy = Policy::preset("moderate")?;
    policy.limits.fuel = Some(10_000_000);
    let outcome = engine.run_blocking(Job::python("while True: pass").with_policy(policy))?;
    match outcome.status {
        Status::Limit(hit) => println!("stopped by limit {}: allowed {}", hit.kind, hit.allowed),
        status => println!("{status:?}"),
    }
    Ok(())
}
