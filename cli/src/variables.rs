//! The environment variables of the program. What a *script* sees in its environment is only what `--env` gives it.

/// The folder of runtimes and compiled code. Read by the engine.
///
/// Default: `capibara` below `XDG_CACHE_HOME`, or `~/.cache/capibara`. It must be a folder that only you can write.
/// It is independent of every other setting, so another home never causes a build.
pub const CAPIBARA_CACHE_DIR: &str = "CAPIBARA_CACHE_DIR";

/// The folder of your configuration: policies of yours are `policies/NAME.yaml` in it. Read by the policies.
///
/// An absolute path; another is ignored, so that no policy is ever found in the working directory. Default: `capibara`
/// below `XDG_CONFIG_HOME`, or `~/.config/capibara`.
pub const CAPIBARA_HOME: &str = "CAPIBARA_HOME";

/// Set to anything but the empty string, it keeps the work of a finished build below `build/` in the cache folder, for
/// those who look into the recipe. Read by the recipe.
pub const CAPIBARA_KEEP_BUILD: &str = "CAPIBARA_KEEP_BUILD";

/// Set to anything but the empty string, it turns color off in help texts and progress bars. Read by the libraries
/// that print them (<https://no-color.org>).
pub const NO_COLOR: &str = "NO_COLOR";
