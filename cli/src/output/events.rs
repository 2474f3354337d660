//! `--events`: what happens in a run, one JSON object a line, while it happens. `schema/events.v1.json` describes the lines.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use capibara::{Canceler, Event, EventSink, Job, Language, Limits, OutputSink, Stream};
use serde::Serialize;

use super::json::{self, RunReport, RunScan, RuntimeReport, SCHEMA, UsageReport};
use super::live::Broken;
use super::outlet::{Outlet, Patience};
use crate::commands::dry_run::LimitsPart;
use crate::errors::Failure;
use crate::signals::Caught;

/// How long a reader who did not read may take for the last line.
const LAST_WORDS: Duration = Duration::from_millis(20);
/// How long one may take who was reading when a signal came; another signal ends that.
const AFTER_SIGNAL: Duration = Duration::from_secs(1);

/// A stream of events. Clones are the same one: it is the sink of a job's output and of its events, and is told its end.
#[derive(Clone)]
pub(crate) struct Events(Arc<Mutex<Writer>>);

struct Writer {
    outlet: Outlet,
    /// Whether it takes the place of the script's output.
    on_stdout: bool,
    began: Instant,
    sequence: u64,
    caught: Option<Caught>,
    canceler: Option<Canceler>,
    job: Option<JobPart>,
    broken: Option<Broken>,
    /// What of a line was not taken in time.
    rest: Vec<u8>,
    state: State,
}

/// Whether lines can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The reader did not take one in time.
    Late,
    /// A signal came while one was written.
    Interrupted,
    /// No more.
    Gone,
}

/// What is known of a job before it runs.
#[derive(Clone, Serialize)]
struct JobPart {
    policy: PolicyPart,
    language: &'static str,
    limits: LimitsPart,
    live: bool,
}

#[derive(Clone, Serialize)]
struct PolicyPart {
    name: String,
    sha256: String,
}

#[derive(Serialize)]
struct Line<B> {
    schema: u32,
    event: &'static str,
    sequence: u64,
    /// Real time since the command began the run.
    wall_ms: f64,
    #[serde(flatten)]
    body: B,
}

#[derive(Serialize)]
struct StartedBody {
    #[serde(flatten)]
    job: Option<JobPart>,
    scan: Option<RunScan>,
    runtime: RuntimeReport,
    epoch: String,
    seed: Option<String>,
}

#[derive(Serialize)]
struct OutputBody<'a> {
    stream: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

#[derive(Serialize)]
struct UsageBody {
    usage: UsageReport,
    reading: bool,
}

#[derive(Serialize)]
struct ToolCallBody {
    call: u64,
    tool: String,
    argument_bytes: u64,
}

#[derive(Serialize)]
struct ToolAnswerBody {
    call: u64,
    tool: String,
    took_ms: f64,
    /// Of a value.
    result_bytes: Option<u64>,
    /// Of a failure.
    error: Option<&'static str>,
}

#[derive(Serialize)]
struct EndedBody<'a> {
    outcome: &'a RunReport,
}

/// Whether that place is standard output.
pub(crate) fn is_stdout(to: &OsStr) -> bool {
    to == "-"
}

impl Events {
    /// Opens the place events go to: `-` for standard output, else a file, which is emptied, or a pipe.
    pub(crate) fn open(to: &OsString) -> Result<Self, Failure> {
        let on_stdout = is_stdout(to);
        let outlet = if on_stdout {
            Outlet::open(Stream::Stdout)
        } else {
            Outlet::to_file(to).map_err(|error| {
                let shown = to.to_string_lossy();
                Failure::new("events-unwritable", format!("events cannot be written to `{shown}`")).with_cause(&error)
            })?
        };
        Ok(Self(Arc::new(Mutex::new(Writer {
            outlet,
            on_stdout,
            began: Instant::now(),
            sequence: 0,
            caught: None,
            canceler: None,
            job: None,
            broken: None,
            rest: Vec::new(),
            state: State::Open,
        }))))
    }

    /// Whether they take the place of the script's output.
    pub(crate) fn on_stdout(&self) -> bool {
        self.lock().on_stdout
    }

    /// A job is about to run: `caught` ends waiting for a reader, and what nobody can read any more is canceled.
    pub(crate) fn begin(&self, job: &Job, limits: &Limits, language: Language, caught: Caught) {
        let mut writer = self.lock();
        writer.began = Instant::now();
        writer.caught = Some(caught);
        writer.canceler = Some(job.canceler());
        writer.job = Some(JobPart {
            policy: PolicyPart { name: job.policy.name.clone(), sha256: job.policy.sha256() },
            language: language.name(),
            limits: LimitsPart::of(limits, job.live),
            live: job.live,
        });
    }

    /// Why they went no further, once.
    pub(crate) fn take_broken(&self) -> Option<Broken> {
        self.lock().broken.take()
    }

    /// The last event: how it ended. Where nobody read on before, it is tried once more, for a moment.
    pub(crate) fn ended(&self, report: &mut RunReport) -> io::Result<()> {
        report.without_output(|outcome| self.last_line(EndedBody { outcome }))
    }

    fn last_line(&self, body: EndedBody<'_>) -> io::Result<()> {
        let mut writer = self.lock();
        // After something was not taken, what came of the run is known without it.
        let short = match writer.state {
            State::Open => return writer.line("ended", body, &Patience::endless()),
            State::Gone => return Ok(()),
            State::Late => LAST_WORDS,
            State::Interrupted => AFTER_SIGNAL,
        };
        drop(writer.line("ended", body, &Patience::until(Instant::now() + short)));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    fn patience(&self, deadline: Instant) -> Patience {
        Patience { deadline: Some(deadline), caught: self.caught.clone() }
    }

    fn line(&mut self, event: &'static str, body: impl Serialize, patience: &Patience) -> io::Result<()> {
        self.sequence += 1;
        let wall_ms = json::millis(self.began.elapsed());
        let mut line = std::mem::take(&mut self.rest);
        line.extend(json::line(&Line { schema: SCHEMA, event, sequence: self.sequence, wall_ms, body })?);
        let mut rest = &*line;
        let written = self.outlet.write_rest(&mut rest, patience);
        if let Err(error) = &written {
            self.rest = rest.to_vec();
            self.state = match error.kind() {
                io::ErrorKind::TimedOut => State::Late,
                io::ErrorKind::BrokenPipe => State::Gone,
                _ if patience.caught.as_ref().is_some_and(Caught::any) => State::Interrupted,
                _ => State::Gone,
            };
            self.broken = Some(match (error.kind(), self.on_stdout) {
                (io::ErrorKind::TimedOut, _) => Broken::Late,
                (_, true) => Broken::Failed(Stream::Stdout, super::live::same(error)),
                (_, false) => Broken::Events(super::live::same(error)),
            });
        }
        written
    }
}

impl OutputSink for Events {
    fn write(&mut self, stream: Stream, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        let (text, base64) = match std::str::from_utf8(bytes) {
            Ok(text) => (Some(text), None),
            Err(_) => (None, Some(json::base64(bytes))),
        };
        let stream = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        let mut writer = self.lock();
        let patience = writer.patience(deadline);
        writer.line("output", OutputBody { stream, text, base64 }, &patience)
    }
}

impl EventSink for Events {
    fn event(&mut self, event: Event, deadline: Instant) {
        let mut writer = self.lock();
        let patience = writer.patience(deadline);
        let written = match event {
            Event::Started { scan, runtime, epoch, seed, .. } => {
                let job = writer.job.clone();
                let live = job.as_ref().is_some_and(|job| job.live);
                let body = StartedBody {
                    job,
                    scan: RunScan::of(&scan),
                    runtime: runtime.into(),
                    epoch: epoch.to_string(),
                    seed: (!live).then(|| seed.to_string()),
                };
                writer.line("started", body, &patience)
            }
            Event::Usage { usage, reading, .. } => {
                writer.line("usage", UsageBody { usage: usage.into(), reading }, &patience)
            }
            Event::ToolCalled { call, tool, argument_bytes, .. } => {
                writer.line("tool_call", ToolCallBody { call, tool, argument_bytes }, &patience)
            }
            Event::ToolAnswered { call, tool, result, took, .. } => {
                let took_ms = json::millis(took);
                let (result_bytes, error) = (result.ok(), result.err());
                writer.line("tool_answer", ToolAnswerBody { call, tool, took_ms, result_bytes, error }, &patience)
            }
            // Events may grow; what this program does not know it does not tell.
            _ => Ok(()),
        };
        if written.is_err()
            && let Some(canceler) = &writer.canceler
        {
            canceler.cancel();
        }
    }
}

/// Sends output, and what happens, to two places.
pub(crate) struct Both<A, B>(pub(crate) A, pub(crate) B);

impl<A: OutputSink, B: OutputSink> OutputSink for Both<A, B> {
    fn write(&mut self, stream: Stream, bytes: &[u8], deadline: Instant) -> io::Result<()> {
        self.0.write(stream, bytes, deadline)?;
        self.1.write(stream, bytes, deadline)
    }
}

impl<A: EventSink, B: EventSink> EventSink for Both<A, B> {
    fn event(&mut self, event: Event, deadline: Instant) {
        self.0.event(event.clone(), deadline);
        self.1.event(event, deadline);
    }
}
