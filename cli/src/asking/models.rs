//! Which models there are and which of them are asked.

use std::path::PathBuf;

use capibara::audit::AuditFolders;
use capibara_generate::cassette::Wiring;
use capibara_generate::chain::Chain;
use capibara_generate::profile::{Profile, Profiles};
use capibara_generate::{HttpProvider, Provider};
use capibara_policies::PolicyFolders;

use super::wanted::Wanted;
use crate::errors::Failure;
use crate::settings::Settings;

/// The name of the file of profiles, in the folder of the configuration.
pub(crate) const FILE: &str = "models.yaml";

/// How a first profile is added, for those who have none.
const ADD_ONE: &str = "add one, for example `capibara model add local --kind openai-chat --base-url http://127.0.0.1:8080/v1 --model NAME --no-key`, \
                       or name one that ships with the program: `--profile groq/MODEL` (`capibara model list`)";

/// Where the user's profiles are.
pub(crate) fn file() -> Result<PathBuf, Failure> {
    crate::settings::path(&PolicyFolders::from_environment()).map(|config| config.with_file_name(FILE)).ok_or_else(
        || Failure::new("no-folder", "no folder of a configuration is known").with_hint("set CAPIBARA_HOME or HOME"),
    )
}

/// All profiles: those that ship with the program and those of the user.
pub(crate) fn profiles() -> Result<Profiles, Failure> {
    Profiles::read(&[file()?]).map_err(Failure::from)
}

/// The profiles to ask, in order.
pub(crate) fn chosen(wanted: &Wanted, settings: &Settings) -> Result<Vec<Profile>, Failure> {
    let profiles = profiles()?;
    let named = match &settings.profile {
        Some(set) if wanted.profile.is_empty() => &set.value,
        _ => &wanted.profile,
    };
    let own = profiles.user_defined();
    let named = match (&named[..], own) {
        ([], [only]) => std::slice::from_ref(only),
        ([], []) => {
            return Err(Failure::new("no-model", "no profile of a model is configured").with_hint(ADD_ONE));
        }
        ([], [first, ..]) => {
            return Err(Failure::new("no-model", format!("there are several profiles: {}", own.join(", "))).with_hint(
                format!("choose: `--profile {first}`, or set `profile` in config.yaml (`capibara config path`)"),
            ));
        }
        (named, _) => named,
    };
    named.iter().map(|name| profiles.get(name.trim()).map_err(Failure::from)).collect()
}

/// Everything that is asked, in order.
pub(crate) fn chain(profiles: &[Profile], wiring: &Wiring) -> Result<Chain, Failure> {
    let provider = |profile: &Profile| -> Result<Box<dyn Provider>, Failure> {
        Ok(Box::new(HttpProvider::new(profile.clone(), wiring).map_err(Failure::from)?))
    };
    Ok(Chain::new(profiles.iter().map(provider).collect::<Result<_, _>>()?))
}

/// The folder of what is kept from run to run: stored scripts and records of generations.
pub(crate) fn state() -> Result<PathBuf, Failure> {
    let folders = AuditFolders::from_env().map_err(|error| Failure::from(&error))?;
    Ok(folders.head.with_file_name(""))
}
