//! Errors of the engine as Python exceptions.

use std::error::Error;

use pyo3::PyErr;

/// The exceptions that `python/capibara/_errors.py` defines.
mod python {
    pyo3::import_exception!(capibara._errors, EngineError);
    pyo3::import_exception!(capibara._errors, OutcomeError);
    pyo3::import_exception!(capibara._errors, PolicyError);
    pyo3::import_exception!(capibara._errors, ToolArgumentError);
    pyo3::import_exception!(capibara._errors, ToolError);
}

pub(crate) use python::{OutcomeError, ToolArgumentError, ToolError};

/// An error with all that led to it, in one line.
fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

pub(crate) fn of_engine(error: capibara::EngineError) -> PyErr {
    python::EngineError::new_err((whole(&error), error.code(), error.hint()))
}

/// A job that cannot be run as it is.
pub(crate) fn invalid(reason: impl Into<String>, hint: &str) -> PyErr {
    of_engine(capibara::EngineError::InvalidJob { reason: reason.into(), hint: Some(hint.into()) })
}

pub(crate) fn of_policy(error: capibara::PolicyError) -> PyErr {
    use capibara::PolicyError as E;
    // What the command line calls `--read` is `read` here.
    let message = match &error {
        E::RefusesGrant { policy, flag, what } => {
            format!(
                "policy `{policy}` does not allow {what} to be granted, and `{}` was given",
                flag.trim_start_matches('-')
            )
        }
        other => whole(other),
    };
    let (code, hint): (_, Option<String>) = match &error {
        E::UnknownName { nearest, .. } => {
            let hint = nearest.as_ref().map(|nearest| format!("did you mean `{nearest}`?"));
            ("unknown-policy", Some(hint.unwrap_or_else(|| "name a file by its path, with a `/` in it".into())))
        }
        E::Unreadable { .. } => ("policy-unreadable", None),
        E::Invalid { problems, .. } => ("policy-invalid", problems.first().and_then(|problem| problem.hint.clone())),
        E::AboveCeiling { .. } => {
            ("policy-above-ceiling", Some("ask for less: the administrator of this machine has set a ceiling".into()))
        }
        E::Widens { .. } => ("policy-widened", Some("ask for less, or choose a wider policy".into())),
        E::RefusesGrant { .. } => ("policy-refuses-grant", Some("leave it out, or choose another policy".into())),
        E::RefusesLive { .. } => ("policy-refuses-live", Some("leave `live` out, or choose another policy".into())),
        _ => ("policy", None),
    };
    python::PolicyError::new_err((message, code, hint))
}
