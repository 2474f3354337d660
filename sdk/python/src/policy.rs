//! Policies, and what a caller asks for beside them.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use capibara::LimitsChange;
use capibara_policies::{
    FileGrant, PolicyFolders, Setting, UnitError, parse_count, parse_duration, parse_memory, parse_size,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::of_policy;

/// A number of bytes or instructions: as people write it, or as it is.
#[derive(FromPyObject)]
enum Amount {
    #[pyo3(transparent, annotation = "str")]
    Text(String),
    #[pyo3(transparent, annotation = "int")]
    Number(u64),
}

impl Amount {
    /// Reads it; a plain number is followed by `unit`.
    fn read(self, unit: &str, parse: fn(&str) -> Result<u64, UnitError>) -> PyResult<u64> {
        let text = match self {
            Self::Text(text) => text,
            Self::Number(number) => format!("{number}{unit}"),
        };
        parse(&text).map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

/// A time: as people write it, in seconds, or a `timedelta`.
#[derive(FromPyObject)]
pub(crate) enum Time {
    #[pyo3(transparent, annotation = "str")]
    Text(String),
    #[pyo3(transparent, annotation = "float")]
    Seconds(f64),
    #[pyo3(transparent, annotation = "timedelta")]
    Delta(Duration),
}

impl Time {
    pub(crate) fn read(self) -> PyResult<Duration> {
        let text = match self {
            Self::Text(text) => text,
            Self::Seconds(seconds) => {
                let time = Duration::try_from_secs_f64(seconds)
                    .map_err(|error| PyValueError::new_err(format!("{seconds} s is no time: {error}")))?;
                format!("{}ns", time.as_nanos())
            }
            Self::Delta(time) => format!("{}ns", time.as_nanos()),
        };
        parse_duration(&text).map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

/// Files of the host, each with the path a script sees it at, if it is another one.
type Files = Vec<(PathBuf, Option<String>)>;

fn grants(files: Files) -> Vec<FileGrant> {
    files.into_iter().map(|(host, guest)| FileGrant { host, guest }).collect()
}

/// Limits as a caller asks for them.
struct Asked {
    timeout: Option<Time>,
    memory: Option<Amount>,
    fuel: Option<Amount>,
    max_output: Option<Amount>,
    max_disk: Option<Amount>,
}

impl Asked {
    fn read(self) -> PyResult<LimitsChange> {
        Ok(LimitsChange {
            fuel: self.fuel.map(|amount| amount.read("", parse_count)).transpose()?,
            wall_time: self.timeout.map(Time::read).transpose()?,
            memory: self.memory.map(|amount| amount.read("B", parse_memory)).transpose()?,
            output: self.max_output.map(|amount| amount.read("B", parse_size)).transpose()?,
            bytes_written: self.max_disk.map(|amount| amount.read("B", parse_size)).transpose()?,
        })
    }
}

/// A policy with what a caller changed of its limits and granted beside it.
#[pyclass(frozen, module = "capibara._capibara")]
pub(crate) struct Policy(pub(crate) Arc<capibara::Policy>);

#[pymethods]
impl Policy {
    #[new]
    #[pyo3(signature = (policy, *, timeout=None, memory=None, fuel=None, max_output=None, max_disk=None, env=None, read=Vec::new(), write=Vec::new(), overlay=Vec::new(), live=false, tools=false))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords")]
    fn new(
        policy: PathBuf,
        timeout: Option<Time>,
        memory: Option<Amount>,
        fuel: Option<Amount>,
        max_output: Option<Amount>,
        max_disk: Option<Amount>,
        env: Option<Vec<(String, String)>>,
        read: Files,
        write: Files,
        overlay: Files,
        live: bool,
        tools: bool,
    ) -> PyResult<Self> {
        let change = Asked { timeout, memory, fuel, max_output, max_disk }.read()?;
        if live && change.fuel.is_some() {
            return Err(PyValueError::new_err("a live run counts no fuel: `live` and `fuel` exclude each other"));
        }
        let made = || -> Result<capibara::Policy, capibara::PolicyError> {
            let mut policy = PolicyFolders::from_environment().policy(OsStr::new(&policy))?;
            policy.apply(&change)?;
            policy.grant_files(grants(read), false)?;
            policy.grant_files(grants(write), true)?;
            policy.grant_overlays(grants(overlay))?;
            policy.grant_env(env.unwrap_or_default())?;
            if tools {
                policy.check_grant(Setting::Tool.flag())?;
            }
            if live {
                policy.check_live()?;
                policy.limits.fuel = None;
            }
            Ok(policy)
        };
        made().map(|policy| Self(Arc::new(policy))).map_err(of_policy)
    }

    /// The same policy with other limits.
    #[pyo3(signature = (*, timeout=None, memory=None, fuel=None, max_output=None, max_disk=None))]
    fn changed(
        &self,
        timeout: Option<Time>,
        memory: Option<Amount>,
        fuel: Option<Amount>,
        max_output: Option<Amount>,
        max_disk: Option<Amount>,
    ) -> PyResult<Self> {
        let change = Asked { timeout, memory, fuel, max_output, max_disk }.read()?;
        let mut policy = capibara::Policy::clone(&self.0);
        policy.apply(&change).map_err(of_policy)?;
        Ok(Self(Arc::new(policy)))
    }

    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    /// The limits in force, by their names in a policy; `fuel` is `None` where it is not bounded.
    #[getter]
    fn limits(&self) -> (Option<u64>, f64, u64, u64, u64, u64, u64) {
        let limits = &self.0.limits;
        let time = limits.wall_time.as_secs_f64();
        (limits.fuel, time, limits.memory, limits.output, limits.bytes_written, limits.files, limits.descriptors)
    }
}
