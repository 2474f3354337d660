//! Compiled WebAssembly programs: made once, kept by digest.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use wasmtime::{Engine, Linker, Module};

use crate::artifact::{self, Cpu, Metering, config};
use crate::error::EngineError;
use crate::fence::{Guest, Start, State, link};
use crate::outcome::RuntimeId;
use crate::program;

/// Folder in the cache folder.
const FOLDER: &str = "programs";
/// Loaded programs that are kept in memory.
const MAX_LOADED: usize = 16;
/// Compiled programs that are kept on disk, and their bytes together. The ones not used longest go first.
const MAX_FILES: usize = 64;
const MAX_BYTES: u64 = 1 << 30;

/// The programs of one engine.
#[derive(Default)]
pub(crate) struct Programs {
    engines: Mutex<HashMap<(Metering, Cpu), Compiler>>,
    loaded: Mutex<Vec<(Key, Arc<Guest>)>>,
}

/// What compiles programs and connects them with the World.
#[derive(Clone)]
struct Compiler {
    engine: Engine,
    linker: Linker<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    digest: [u8; 32],
    metering: Metering,
    cpu: Cpu,
}

impl Programs {
    /// The program with this source, compiled if need be.
    pub(crate) fn load(
        &self,
        cache: &Path,
        source: &[u8],
        metering: Metering,
        cpu: Cpu,
    ) -> Result<Arc<Guest>, EngineError> {
        let key = Key { digest: Sha256::digest(source).into(), metering, cpu };
        if let Some(guest) = self.loaded(key) {
            return Ok(guest);
        }
        let program = program::read(source)?;
        let sha256 = match &program.wasm {
            Cow::Borrowed(_) => key.digest,
            Cow::Owned(made) => Sha256::digest(made).into(),
        };
        let Compiler { engine, linker } = self.compiler(metering, cpu)?;
        let module = compiled(&engine, cache, &key, &program.wasm)?;
        let instances = linker.instantiate_pre(&module).map_err(|error| EngineError::InvalidProgram {
            reason: format!("{error:#}"),
            hint: Some("build it for `wasm32-wasip1`".into()),
        })?;
        let guest = Arc::new(Guest {
            engine,
            instances,
            start: Start::Program { memory_bytes: program.memory_bytes },
            metering,
            id: RuntimeId { name: "wasm".into(), sha256: hex::encode(sha256) },
        });
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.len() >= MAX_LOADED {
            loaded.remove(0);
        }
        loaded.push((key, guest.clone()));
        Ok(guest)
    }

    fn loaded(&self, key: Key) -> Option<Arc<Guest>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let at = loaded.iter().position(|(known, _)| *known == key)?;
        // The last is the one used last.
        let entry = loaded.remove(at);
        let guest = entry.1.clone();
        loaded.push(entry);
        Some(guest)
    }

    fn compiler(&self, metering: Metering, cpu: Cpu) -> Result<Compiler, EngineError> {
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = engines.get(&(metering, cpu)) {
            return Ok(known.clone());
        }
        let config = config(metering, cpu, None).map_err(EngineError::wasm("set up Wasmtime"))?;
        let engine = Engine::new(&config).map_err(EngineError::wasm("set up Wasmtime"))?;
        let mut linker = Linker::new(&engine);
        link(&mut linker).map_err(EngineError::wasm("define the World's functions"))?;
        let compiler = Compiler { engine, linker };
        engines.insert((metering, cpu), compiler.clone());
        Ok(compiler)
    }
}

/// The compiled module: from the cache folder, or compiled now and kept if the folder takes it.
fn compiled(engine: &Engine, cache: &Path, key: &Key, wasm: &[u8]) -> Result<Module, EngineError> {
    let folder = cache.join(FOLDER);
    let path = folder.join(format!(
        "{}-{}-{}-{}.cwasm",
        hex::encode(key.digest),
        if key.metering == Metering::Fuel { "fuel" } else { "live" },
        key.cpu.name(),
        &artifact::engine_digest(engine)[..16]
    ));
    if let Ok(opened) = artifact::open(&path, None, false) {
        opened.touch();
        if let Ok(module) = artifact::load(engine, opened) {
            return Ok(module);
        }
    }
    let module = Module::new(engine, wasm).map_err(|error| EngineError::InvalidProgram {
        reason: format!("{error:#}"),
        hint: Some("build it for `wasm32-wasip1`, without features newer than that".into()),
    })?;
    // What cannot be kept is compiled again the next time.
    if let Ok(bytes) = module.serialize()
        && artifact::make_folder(&folder).is_ok()
        && artifact::store(&path, &bytes).is_ok()
    {
        tidy(&folder, &path);
    }
    Ok(module)
}

/// Removes the programs not used longest until the rest is within bounds.
fn tidy(folder: &Path, keep: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "cwasm"))
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            Some((meta.accessed().ok()?, meta.len(), entry.path()))
        })
        .collect();
    files.sort();
    let mut bytes: u64 = files.iter().map(|(_, bytes, _)| *bytes).sum();
    let mut count = files.len();
    for (_, len, path) in files {
        if count <= MAX_FILES && bytes <= MAX_BYTES {
            return;
        }
        if path != keep && fs::remove_file(&path).is_ok() {
            let _ = fs::remove_file(artifact::record_path(&path));
            count -= 1;
            bytes -= len;
        }
    }
}
