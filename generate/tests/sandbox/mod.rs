//! What tests of this crate share that run scripts.

use std::sync::OnceLock;

use capibara::{Engine, EngineConfig, Job, Language, Outcome, Silent};

/// An engine on the cache folder that all tests share. Builds the runtime if it is not there, which takes minutes.
pub(crate) fn engine() -> Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE
        .get_or_init(|| {
            let engine = Engine::new(EngineConfig::default()).expect("an engine");
            engine.prepare(Language::Python, false, &Silent).expect("the Python runtime");
            engine
        })
        .clone()
}

/// The job of a script as it is made of an answer.
pub(crate) fn job(script: &str) -> Job {
    Job::file("script.py", script.as_bytes()).with_seed(1)
}

/// Runs a job to its end.
pub(crate) fn run(job: Job) -> Outcome {
    engine().run_blocking(job).expect("an outcome")
}
