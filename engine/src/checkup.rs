//! What has to be right on a machine and in a cache folder for scripts to run. For programs that look for what is wrong, as
//! `capibara doctor` does: nothing here changes, builds or compiles anything.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use capibara_runtimes::Runtime;

use crate::artifact::{self, Cpu, Metering, OpenError, config};
use crate::engine::{Variant, compiled_name};
use crate::error::EngineError;
use crate::image::{GUARD, RESERVATION, SLOT_MAPPINGS, SPARE_MAPPINGS, STACK_MAPPINGS, Space};
use crate::os::{self, PagemapScan};

/// What the machine offers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Machine {
    /// Size of a page of memory, in bytes.
    pub page_bytes: usize,
    /// The processor that code is compiled for.
    pub processor: String,
    /// Its features that this machine does not have.
    pub missing_features: Vec<&'static str>,
    /// Whether the kernel tells which pages a run wrote (`PAGEMAP_SCAN`). Without that, putting memory back takes longer.
    pub tells_written_pages: bool,
    /// Memory mappings a process may have.
    pub most_mappings: usize,
    /// Those of them that are left to everything but runs and sessions.
    pub spare_mappings: usize,
    /// Those that one run or session takes at most.
    pub mappings_of_a_run: usize,
}

impl Machine {
    /// Looks at this one.
    #[must_use]
    pub fn look() -> Self {
        Self {
            page_bytes: os::page_size(),
            processor: Cpu::Baseline.name(),
            missing_features: Cpu::missing(),
            tells_written_pages: PagemapScan::get().is_some(),
            most_mappings: os::most_mappings(),
            spare_mappings: SPARE_MAPPINGS,
            mappings_of_a_run: SLOT_MAPPINGS + STACK_MAPPINGS,
        }
    }
}

/// Address space that is taken for one run, in bytes: what 32 bits can name, and a guard behind it.
pub const ADDRESS_SPACE_BYTES: u64 = (RESERVATION + GUARD) as u64;

/// Tries whether the address space for one run can be had, with `beside` bytes for code, stack and image, and gives it back.
///
/// # Errors
/// What the system says.
pub fn reserve_address_space(beside: usize) -> io::Result<()> {
    os::try_to_map(&[RESERVATION + GUARD, beside])
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// It is not there.
    Missing,
    /// It is not what was written.
    Corrupt,
    /// Somebody else could have written it.
    Untrusted,
    /// The system does not give it.
    Unreadable,
}

/// A file of a runtime that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub kind: FaultKind,
    /// As a line for people, with the path in it.
    pub message: String,
}

impl Fault {
    fn of(path: &Path, error: &OpenError) -> Self {
        let (kind, message) = match error {
            OpenError::Missing { .. } => (FaultKind::Missing, error.to_string()),
            OpenError::Corrupt { .. } => (FaultKind::Corrupt, error.to_string()),
            OpenError::Untrusted { .. } => (FaultKind::Untrusted, error.to_string()),
            OpenError::Io { source, .. } => (FaultKind::Unreadable, format!("{error}: {source}")),
        };
        Self { path: path.into(), kind, message }
    }
}

/// Digests code and image of a runtime, and says which of them are not as its manifest has them.
#[must_use]
pub fn examine(runtime: &Runtime) -> Vec<Fault> {
    let manifest = &runtime.manifest;
    [(runtime.code(), &manifest.code), (runtime.image(), &manifest.image)]
        .into_iter()
        .filter_map(|(path, file)| Some(Fault::of(&path, &artifact::examine(&path, Some(&file.sha256)).err()?)))
        .collect()
}

/// A compiled form of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompiledForm {
    /// Its file.
    pub path: PathBuf,
    /// In which form this program uses it on this machine. `None` is left over from another version, or another machine's.
    pub variant: Option<Variant>,
    /// Whether it is for this machine's processor alone.
    pub native: bool,
    /// Why it cannot be used, after its whole content was digested.
    pub fault: Option<Fault>,
}

/// The compiled forms that lie with a runtime, by name.
///
/// # Errors
/// If their folder is there and cannot be read, or this machine's settings for compiling cannot be told.
pub fn compiled_forms(runtime: &Runtime) -> Result<Vec<CompiledForm>, EngineError> {
    let entries = match fs::read_dir(runtime.compiled()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(EngineError::os("list the compiled code")(error)),
    };
    let mut ours = Vec::new();
    let of_cpu = |cpu| [(Variant::Fuel, Metering::Fuel, cpu), (Variant::Live, Metering::Epoch, cpu)];
    for (variant, metering, cpu) in [Cpu::Baseline, Cpu::Native].into_iter().flat_map(of_cpu) {
        let space = Space::new(false, false);
        let engine = config(metering, cpu, Some(&space))
            .and_then(|config| wasmtime::Engine::new(&config))
            .map_err(EngineError::wasm("set up Wasmtime"))?;
        ours.push((variant, cpu, compiled_name(&engine, variant, cpu)));
    }
    let mut forms: Vec<CompiledForm> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "cwasm"))
        .map(|entry| {
            let of = ours.iter().find(|(.., name)| entry.file_name() == name.as_str());
            let path = entry.path();
            CompiledForm {
                variant: of.map(|(variant, ..)| *variant),
                native: of.is_some_and(|(_, cpu, _)| *cpu == Cpu::Native),
                fault: artifact::examine(&path, None).err().map(|error| Fault::of(&path, &error)),
                path,
            }
        })
        .collect();
    forms.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(forms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_run_scripts() {
        let machine = Machine::look();
        assert!(machine.page_bytes.is_power_of_two() && machine.missing_features.is_empty(), "{machine:?}");
        assert!(machine.most_mappings > machine.spare_mappings + machine.mappings_of_a_run, "{machine:?}");
        reserve_address_space(1 << 20).unwrap();
        // More than any processor has.
        assert!(reserve_address_space(1 << 60).is_err());
    }
}
