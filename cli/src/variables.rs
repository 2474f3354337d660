//! The environment variables of the program. What a *script* sees in its environment is only what `--env` gives it.

/// The folder of runtimes and compiled code. Read by the engine.
///
/// Default: `capibara` below `XDG_CACHE_HOME`, or `~/.cache/capibara`. It must be a folder that only you can write.
/// It is independent of every other setting, so another home never causes a build.
pub const CAPIBARA_CACHE_DIR: &str = "CAPIBARA_CACHE_DIR";

/// The folder of your configuration: `config.yaml` in it sets what variables below set, and policies of yours are
/// `policies/NAME.yaml` in it. Read by the policies.
///
/// An absolute path; another is ignored, so that no policy is ever found in the working directory. Default: `capibara`
/// below `XDG_CONFIG_HOME`, or `~/.config/capibara`.
pub const CAPIBARA_HOME: &str = "CAPIBARA_HOME";

/// A file that `capibara runtime export` wrote: where no runtime is installed, it is taken from there and not built. Read by the engine.
///
/// Compiled code in it is not used. Default: the pack behind this program, if it has one.
pub const CAPIBARA_PACK: &str = "CAPIBARA_PACK";

/// Set to anything but the empty string, it keeps the work of a finished build below `build/` in the cache folder, for
/// those who look into the recipe. Read by the recipe.
pub const CAPIBARA_KEEP_BUILD: &str = "CAPIBARA_KEEP_BUILD";

/// Set to anything but the empty string, it turns color off in help texts and progress bars. Read by the libraries
/// that print them (<https://no-color.org>).
pub const NO_COLOR: &str = "NO_COLOR";

/// The policy of runs and scans that name none: a preset, the name of a policy of yours, or an absolute path. As all variables
/// below, it goes before the key of the same name in `config.yaml`, and the flag of that name goes before it.
pub const CAPIBARA_POLICY: &str = "CAPIBARA_POLICY";

/// The limit of fuel, as `--fuel`, as far as the policy lets flags raise it.
pub const CAPIBARA_FUEL: &str = "CAPIBARA_FUEL";

/// The limit of time, as `--timeout`, as far as the policy lets flags raise it.
pub const CAPIBARA_TIMEOUT: &str = "CAPIBARA_TIMEOUT";

/// The limit of memory, as `--memory`, as far as the policy lets flags raise it.
pub const CAPIBARA_MEMORY: &str = "CAPIBARA_MEMORY";

/// The limit of output, as `--max-output`, as far as the policy lets flags raise it.
pub const CAPIBARA_MAX_OUTPUT: &str = "CAPIBARA_MAX_OUTPUT";

/// The limit of bytes written to files, as `--max-disk`, as far as the policy lets flags raise it.
pub const CAPIBARA_MAX_DISK: &str = "CAPIBARA_MAX_DISK";

/// `text` or `json`, for every command that has `--format`.
pub const CAPIBARA_FORMAT: &str = "CAPIBARA_FORMAT";

/// `true` or `false`: whether a terminal gets a script's output as it is, as `--raw`.
pub const CAPIBARA_RAW: &str = "CAPIBARA_RAW";

/// `true` or `false`: whether each run says what it used, as `--stats`.
pub const CAPIBARA_STATS: &str = "CAPIBARA_STATS";

/// `true` or `false`: whether a terminal shows a line about a run that takes long, as `--progress`.
pub const CAPIBARA_PROGRESS: &str = "CAPIBARA_PROGRESS";

/// Profiles of models that `ask` and `generate` use where `--profile` is not given, with commas between them.
pub const CAPIBARA_PROFILE: &str = "CAPIBARA_PROFILE";

/// Those of our variables that are no settings.
pub(crate) const FOLDERS_AND_BUILD: [&str; 4] = [CAPIBARA_CACHE_DIR, CAPIBARA_HOME, CAPIBARA_PACK, CAPIBARA_KEEP_BUILD];
