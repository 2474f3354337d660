//! `capibara runtime`: the interpreters on this machine.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use capibara::{Engine, EngineConfig, InstalledRuntime, Mismatch, Target};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Output, language};
use crate::errors::Failure;
use crate::escape;
use crate::exit_code::ExitCode;
use crate::output::json::{self, SCHEMA};
use crate::output::progress::Building;
use crate::output::text::Console;
use crate::output::{Format, answer, units};

#[derive(Debug, Subcommand)]
pub(crate) enum RuntimeCommand {
    /// Build a runtime, if it is not there
    ///
    /// Fetches pinned sources, compiles them to WebAssembly, starts the interpreter once and keeps its memory, and
    /// compiles the result for this machine. Takes minutes the first time and nothing afterwards. `capibara run` does
    /// the same by itself when it needs to. Exit codes: 0 it is there, 125 could not, 127 no such language.
    Install(InstallArguments),
    /// List the runtimes on this machine
    ///
    /// Prints version, security patches, digests, size and place of each. Exit codes: 0, 125 could not.
    List(ListArguments),
    /// Compare runtimes with the digests recorded when they were built
    ///
    /// Reads every file of them. Exit codes: 0 all as recorded, 1 something is not, 125 could not, 127 not installed.
    Verify(VerifyArguments),
    /// Write a runtime into one file, for another machine
    ///
    /// The file is a pack: an xz-compressed tar archive with the module, its memory, a manifest with the digests of both, and a bill of
    /// materials (CycloneDX). `capibara runtime import` takes it; no compiler and no network are needed there. Exit codes: 0 it is
    /// written, 125 could not, 127 not installed.
    Export(ExportArguments),
    /// Install a runtime out of such a file
    ///
    /// Everything in it is compared with the digests of its manifest first. A runtime that is there is replaced. Exit codes: 0 it is
    /// installed, 125 could not.
    Import(ImportArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// The file to write; `-` is standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Language of the runtime
    #[arg(long, value_name = "LANGUAGE", default_value = "python")]
    language: String,

    /// Write this program with the runtime behind it
    ///
    /// The file is then a program that brings its runtime along, with the code compiled for machines of this kind: it runs where nothing is
    /// installed. Default: off.
    #[arg(long)]
    program: bool,

    /// Compile ahead for such a machine (repeatable)
    ///
    /// The importing machine then compiles nothing; it must have the same version of Capibara. Without this it compiles once, which takes
    /// seconds. One of x86_64-unknown-linux-gnu and aarch64-unknown-linux-gnu. Example: `--target aarch64-unknown-linux-gnu`
    #[arg(long, value_name = "TARGET", value_parser = target)]
    target: Vec<Target>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// The file; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Take compiled code out of it, too
    ///
    /// That is machine code, which runs outside of the sandbox: only for files from somebody you would take a program from.
    /// Default: compiled code is made here.
    #[arg(long)]
    trust_compiled: bool,
}

fn target(name: &str) -> Result<Target, String> {
    Target::ALL
        .into_iter()
        .find(|target| target.triple() == name)
        .ok_or_else(|| format!("code can be compiled for {}", Target::ALL.map(Target::triple).join(" and ")))
}

#[derive(Debug, Args)]
pub(crate) struct InstallArguments {
    /// Language of the runtime: python
    #[arg(value_name = "LANGUAGE")]
    language: String,

    /// Compile the variant for `run --live` as well
    ///
    /// Without this the first `run --live` does it, which takes some seconds. Default: off.
    #[arg(long)]
    live: bool,

    /// Take the source files from this directory, offline
    ///
    /// The directory holds the files that would be downloaded, under their own names. Their digests are checked all the
    /// same. Default: download. Example: `--sources ~/Downloads/capibara-sources`
    #[arg(long, value_name = "DIR")]
    sources: Option<PathBuf>,

    /// Compile for this machine's processor alone
    ///
    /// Default: for a processor that any x86-64 machine of the last ten years meets. Such code is kept beside the
    /// other and runs on no older processor.
    #[arg(long)]
    native: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// Language of the runtimes to verify; all when left out
    #[arg(value_name = "LANGUAGE")]
    language: Option<String>,

    #[command(flatten)]
    output: Output,
}

impl RuntimeCommand {
    pub(crate) fn format(&self) -> Format {
        match self {
            Self::Install(_) | Self::Export(_) | Self::Import(_) => Format::Text,
            Self::List(list) => list.output.format,
            Self::Verify(verify) => verify.output.format,
        }
    }
}

/// Carries out the command and gives back how the process ends.
pub(crate) fn execute(command: RuntimeCommand) -> Result<ExitCode, Failure> {
    match command {
        RuntimeCommand::Install(arguments) => install(&arguments),
        RuntimeCommand::List(arguments) => list(&arguments),
        RuntimeCommand::Verify(arguments) => verify(&arguments),
        RuntimeCommand::Export(arguments) => export(&arguments),
        RuntimeCommand::Import(arguments) => import(&arguments),
    }
}

fn export(arguments: &ExportArguments) -> Result<ExitCode, Failure> {
    let language = language(&arguments.language)?;
    let engine = Engine::new(EngineConfig::default())?;
    let building = Building::of_steps();
    let mut targets = arguments.target.clone();
    if arguments.program && targets.is_empty() {
        targets.extend(Target::of_this_machine());
    }
    let mut pack = Vec::new();
    let manifest = engine.export(language, &targets, &mut pack, &building)?;
    building.abandon();
    if arguments.file == Path::new("-") && !arguments.program {
        return Ok(answer(&pack, ExitCode::Yes));
    }
    let shown = arguments.file.display().to_string();
    let failed =
        |error: io::Error| Failure::new("output-file", format!("failed to write `{shown}`")).with_cause(&error);
    let folder = arguments.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // It appears whole or not at all.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    if arguments.program {
        write_program(&mut file, &pack).map_err(failed)?;
    } else {
        file.write_all(&pack).map_err(failed)?;
    }
    let bytes = file.as_file().metadata().map_err(failed)?.len();
    file.persist(&arguments.file).map_err(|error| failed(error.error))?;
    let text = format!("wrote {} {} to {shown} ({})", manifest.language, manifest.version, units::size(bytes));
    Console::new().say(&text);
    Ok(ExitCode::Yes)
}

/// Writes this program, without a pack it may have, and another one behind it.
fn write_program(to: &mut tempfile::NamedTempFile, pack: &[u8]) -> io::Result<()> {
    let program = std::fs::read("/proc/self/exe")?;
    to.write_all(program.get(..capibara::program_len(&program)).unwrap_or(&program))?;
    capibara::append_pack(to, pack)?;
    to.as_file().set_permissions(std::fs::Permissions::from_mode(0o755))
}

fn import(arguments: &ImportArguments) -> Result<ExitCode, Failure> {
    let engine = Engine::new(EngineConfig::default())?;
    let building = Building::of_steps();
    let (path, trusted) = (&arguments.file, arguments.trust_compiled);
    let manifest = if path == Path::new("-") {
        engine.import(io::stdin().lock(), Path::new("standard input"), trusted, &building)
    } else {
        let file = File::open(path).map_err(|error| {
            Failure::new("input-file", format!("failed to open `{}`", path.display())).with_cause(&error)
        })?;
        engine.import(io::BufReader::new(file), path, trusted, &building)
    };
    building.abandon();
    let manifest = manifest?;
    Console::new().say(&format!("installed {} {}", manifest.language, manifest.version));
    Ok(ExitCode::Yes)
}

fn install(arguments: &InstallArguments) -> Result<ExitCode, Failure> {
    let language = language(&arguments.language)?;
    if !language.has_runtime() {
        return Err(Failure::new("no-runtime-needed", format!("{} needs no runtime", language.display_name()))
            .with_hint("run the program: `capibara run program.wasm`"));
    }
    if let Some(sources) = arguments.sources.as_deref().filter(|sources| !sources.is_dir()) {
        return Err(Failure::new("sources-missing", format!("there is no directory `{}`", sources.display()))
            .with_hint("`--sources` names a directory that holds the source files"));
    }
    let mut config = EngineConfig::default();
    config.native_cpu = arguments.native;
    let engine = Engine::new(config)?;
    let name = language.display_name();
    let building = Building::new(name);
    let variants = if arguments.live { &[false, true][..] } else { &[false] };
    for live in variants {
        let prepared = engine.prepare_from(language, *live, arguments.sources.as_deref(), &building);
        if prepared.is_err() {
            building.abandon();
        }
        prepared?;
    }
    if !building.finish() {
        Console::new().say(&format!("nothing to do: the {name} runtime is ready"));
    }
    Ok(ExitCode::Yes)
}

/// The JSON of `runtime list`.
#[derive(Debug, Serialize)]
struct ListReport {
    schema: u32,
    runtimes: Vec<RuntimeReport>,
}

/// One runtime, as it is told.
#[derive(Debug, Serialize)]
struct RuntimeReport {
    name: String,
    version: String,
    /// Whether this program runs scripts with it.
    current: bool,
    patches: Option<PatchesReport>,
    recipe: String,
    sha256: String,
    code_sha256: String,
    image_sha256: String,
    compiled: Vec<CompiledReport>,
    bytes: u64,
    path: String,
}

#[derive(Debug, Serialize)]
struct PatchesReport {
    archive: String,
    sha256: String,
    applied: Vec<String>,
}

#[derive(Debug, Serialize)]
struct CompiledReport {
    file: String,
    bytes: u64,
    sha256: Option<String>,
    /// Why it cannot be used.
    error: Option<String>,
}

impl From<&InstalledRuntime> for RuntimeReport {
    fn from(runtime: &InstalledRuntime) -> Self {
        let manifest = &runtime.manifest;
        Self {
            name: manifest.language.clone(),
            version: manifest.version.clone(),
            current: runtime.current,
            patches: manifest.patches.as_ref().map(|patches| PatchesReport {
                archive: patches.archive.clone(),
                sha256: patches.sha256.clone(),
                applied: patches.applied.clone(),
            }),
            recipe: manifest.recipe.clone(),
            sha256: manifest.sha256.clone(),
            code_sha256: manifest.code.sha256.clone(),
            image_sha256: manifest.image.sha256.clone(),
            compiled: runtime
                .compiled
                .iter()
                .map(|compiled| CompiledReport {
                    file: compiled.file.clone(),
                    bytes: compiled.bytes,
                    sha256: compiled.sha256.clone().ok(),
                    error: compiled.sha256.clone().err(),
                })
                .collect(),
            bytes: runtime.disk_bytes(),
            path: runtime.dir.display().to_string(),
        }
    }
}

impl RuntimeReport {
    fn text(&self) -> String {
        let mut rows = vec![(
            "patches",
            match &self.patches {
                None => "unpatched".to_owned(),
                Some(patches) => {
                    format!("{} from {}, sha256 {}", patches.applied.len(), patches.archive, patches.sha256)
                }
            },
        )];
        rows.push(("runtime", format!("sha256 {}", self.sha256)));
        rows.push(("code", format!("sha256 {}", self.code_sha256)));
        rows.push(("image", format!("sha256 {}", self.image_sha256)));
        rows.push(("recipe", format!("sha256 {}", self.recipe)));
        for compiled in &self.compiled {
            let digest = match (&compiled.sha256, &compiled.error) {
                (Some(sha256), _) => format!("sha256 {sha256}"),
                (None, Some(error)) => format!("unusable: {error}"),
                (None, None) => "unusable".to_owned(),
            };
            rows.push(("compiled", format!("{}, {}, {digest}", compiled.file, units::size(compiled.bytes))));
        }
        rows.push(("size", units::size(self.bytes)));
        rows.push(("path", self.path.clone()));
        let other = if self.current { "" } else { " (not used by this version of capibara)" };
        let mut out = format!("{} {}{other}\n", escape::line(&self.name), escape::line(&self.version));
        for (name, value) in rows {
            out.push_str(&format!("  {name:<9} {}\n", escape::line(&value)));
        }
        out
    }
}

fn list(arguments: &ListArguments) -> Result<ExitCode, Failure> {
    let installed = Engine::new(EngineConfig::default())?.installed()?;
    let runtimes: Vec<RuntimeReport> = installed.iter().map(RuntimeReport::from).collect();
    match arguments.output.format {
        Format::Json => Ok(json::print(&ListReport { schema: SCHEMA, runtimes }, ExitCode::Yes)),
        Format::Text => {
            if runtimes.is_empty() {
                let console = Console::new();
                console.say("no runtime is installed");
                console.hint("`capibara runtime install python` builds one; so does the first `capibara run`");
            }
            let text: String = runtimes.iter().map(RuntimeReport::text).collect();
            Ok(answer(text.as_bytes(), ExitCode::Yes))
        }
    }
}

/// The JSON of `runtime verify`.
#[derive(Debug, Serialize)]
struct VerifyReport {
    schema: u32,
    ok: bool,
    runtimes: Vec<VerifiedReport>,
}

#[derive(Debug, Serialize)]
struct VerifiedReport {
    name: String,
    version: String,
    path: String,
    ok: bool,
    mismatches: Vec<MismatchReport>,
}

#[derive(Debug, Serialize)]
struct MismatchReport {
    file: String,
    expected: String,
    found: String,
}

impl From<Mismatch> for MismatchReport {
    fn from(mismatch: Mismatch) -> Self {
        Self { file: mismatch.file, expected: mismatch.expected, found: mismatch.found }
    }
}

impl VerifiedReport {
    fn text(&self) -> String {
        let verdict = if self.ok { "ok" } else { "does not match" };
        let name = format!("{} {} in {}: {verdict}", self.name, self.version, self.path);
        let mut out = format!("{}\n", escape::line(&name));
        for mismatch in &self.mismatches {
            for (name, value) in
                [("file", &mismatch.file), ("expected", &mismatch.expected), ("found", &mismatch.found)]
            {
                out.push_str(&format!("  {name:<9} {}\n", escape::line(value)));
            }
        }
        out
    }
}

fn verify(arguments: &VerifyArguments) -> Result<ExitCode, Failure> {
    let wanted = arguments.language.as_deref().map(language).transpose()?;
    let engine = Engine::new(EngineConfig::default())?;
    let mut runtimes = Vec::new();
    for runtime in &engine.installed()? {
        let manifest = &runtime.manifest;
        if wanted.is_some_and(|wanted| wanted.name() != manifest.language) {
            continue;
        }
        let mismatches: Vec<MismatchReport> = engine.verify(runtime)?.into_iter().map(MismatchReport::from).collect();
        runtimes.push(VerifiedReport {
            name: manifest.language.clone(),
            version: manifest.version.clone(),
            path: runtime.dir.display().to_string(),
            ok: mismatches.is_empty(),
            mismatches,
        });
    }
    if runtimes.is_empty() {
        return Err(Failure::new("runtime-missing", "no runtime is installed, so there is nothing to verify")
            .with_exit(ExitCode::Unavailable)
            .with_hint("`capibara runtime install python` builds one"));
    }
    let ok = runtimes.iter().all(|runtime| runtime.ok);
    let code = if ok { ExitCode::Yes } else { ExitCode::No };
    let report = VerifyReport { schema: SCHEMA, ok, runtimes };
    match arguments.output.format {
        Format::Json => Ok(json::print(&report, code)),
        Format::Text => {
            let text: String = report.runtimes.iter().map(VerifiedReport::text).collect();
            let code = answer(text.as_bytes(), code);
            if code == ExitCode::No {
                Console::new().hint("`capibara runtime install python` builds anew what is damaged");
            }
            Ok(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> RuntimeReport {
        RuntimeReport {
            name: "python".into(),
            version: "3.13.5".into(),
            current: true,
            patches: None,
            recipe: "aa".into(),
            sha256: "bb".into(),
            code_sha256: "cc".into(),
            image_sha256: "dd".into(),
            compiled: vec![CompiledReport {
                file: "fuel-baseline-1.cwasm".into(),
                bytes: 62 << 20,
                sha256: Some("ee".into()),
                error: None,
            }],
            bytes: 123 << 20,
            path: "/c/python\x1b[31m".into(),
        }
    }

    #[test]
    fn a_runtime_in_text() {
        assert_eq!(
            report().text(),
            "python 3.13.5\n  patches   unpatched\n  runtime   sha256 bb\n  code      sha256 cc\n  image     sha256 dd\n\
             \x20 recipe    sha256 aa\n  compiled  fuel-baseline-1.cwasm, 62MiB, sha256 ee\n  size      123MiB\n\
             \x20 path      /c/python\\x1b[31m\n"
        );
        let applied = vec!["CVE-1.patch".into(), "CVE-2.patch".into()];
        let patches =
            Some(PatchesReport { archive: "python3.13_3.13.5-2.debian.tar.xz".into(), sha256: "ff".into(), applied });
        let text = RuntimeReport { patches, current: false, ..report() }.text();
        assert!(text.contains("patches   2 from python3.13_3.13.5-2.debian.tar.xz, sha256 ff"), "{text}");
        assert!(text.starts_with("python 3.13.5 (not used by"), "{text}");
    }

    #[test]
    fn a_mismatch_names_file_and_both_digests() {
        let mismatches = vec![MismatchReport { file: "image".into(), expected: "aa".into(), found: "bb".into() }];
        let verified =
            VerifiedReport { name: "python".into(), version: "3".into(), path: "/c".into(), ok: false, mismatches };
        assert_eq!(
            verified.text(),
            "python 3 in /c: does not match\n  file      image\n  expected  aa\n  found     bb\n"
        );
    }
}
