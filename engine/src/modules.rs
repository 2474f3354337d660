//! Modules that a script brings from its own folder.
//!
//! Nothing of that folder is visible to the script. The modules it imports are found before the run by following its
//! import statements, become part of the job (scanned, and covered by its digest), and are served from memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use capibara_policies::{Import, Source, SourceLanguage, imports};

/// The most modules one script can bring.
const MOST_MODULES: usize = 1_000;
/// The most bytes of all its modules together.
const MOST_BYTES: u64 = 16 << 20;
/// The most names between the dots of one module.
const DEEPEST_MODULE: usize = 30;

/// A module beside the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptModule {
    /// Path below the script's folder, with `/`: `helper.py`, `package/__init__.py`. The script sees it below `/script`.
    pub path: String,
    /// Its bytes.
    pub source: Arc<[u8]>,
}

impl ScriptModule {
    /// The name it is imported by: `package.inner` for `package/inner.py`.
    #[must_use]
    pub fn import_name(&self) -> Option<String> {
        let name = self.path.strip_suffix(".py")?;
        Some(name.strip_suffix("/__init__").unwrap_or(name).replace('/', "."))
    }
}

/// Why the modules of a script cannot be gathered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModulesError {
    /// The folder of the script cannot be opened.
    #[error("the folder of the script, `{}`, cannot be opened", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// A module is there and cannot be read.
    #[error("the module `{path}` beside the script cannot be read")]
    Unreadable {
        /// Its path below the folder.
        path: String,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// Too many modules.
    #[error("the script brings more than {MOST_MODULES} modules of its own")]
    TooMany,
    /// Too many bytes.
    #[error("the modules of the script take more than 16MiB")]
    TooLarge,
}

/// Gathers the modules that a Python script imports from its folder, and what these import from it, sorted by path.
///
/// Only import statements are followed, wherever they stand. Links within the folder are followed; a link that leads
/// out of it cannot be read. What is not there is left out: it may be a module of the standard library, and if it is
/// not, the import fails when it is reached.
///
/// # Errors
/// [`ModulesError`], if something that is imported is there and cannot be read, or if it is too much.
pub fn script_modules(folder: &Path, name: &str, source: &[u8]) -> Result<Vec<ScriptModule>, ModulesError> {
    let first = imports_of(source);
    if first.is_empty() {
        return Ok(Vec::new());
    }
    let dir = Dir::open_ambient_dir(folder, ambient_authority())
        .map_err(|error| ModulesError::Folder { folder: folder.to_path_buf(), error })?;
    let mut gathering = Gathering { dir, script: name, found: BTreeMap::new(), asked: BTreeSet::new(), bytes: 0 };
    let mut queue = VecDeque::from([(Vec::new(), first)]);
    while let Some((package, imports)) = queue.pop_front() {
        for import in imports {
            gathering.follow(&package, &import, &mut queue)?;
        }
    }
    Ok(gathering.found.into_iter().map(|(path, source)| ScriptModule { path, source }).collect())
}

/// What waits to be followed: the package a module lies in, and what it imports.
type Queue = VecDeque<(Vec<String>, Vec<Import>)>;

fn imports_of(source: &[u8]) -> Vec<Import> {
    Source::decode(source, SourceLanguage::Python).map(|source| imports(&source)).unwrap_or_default()
}

struct Gathering<'a> {
    dir: Dir,
    /// The script itself, which is there already.
    script: &'a str,
    found: BTreeMap<String, Arc<[u8]>>,
    asked: BTreeSet<Vec<String>>,
    bytes: u64,
}

impl Gathering<'_> {
    fn follow(&mut self, package: &[String], import: &Import, queue: &mut Queue) -> Result<(), ModulesError> {
        let mut parts: Vec<String> = match import.level {
            0 => Vec::new(),
            level => match package.len().checked_sub(level - 1) {
                // Above the outermost package there is nothing to import from.
                Some(kept) if kept > 0 => package.get(..kept).unwrap_or_default().to_vec(),
                Some(_) | None => return Ok(()),
            },
        };
        parts.extend(import.module.iter().cloned());
        for end in 1..=parts.len() {
            self.module(parts.get(..end).unwrap_or_default(), queue)?;
        }
        for name in &import.names {
            let mut inner = parts.clone();
            inner.push(name.clone());
            self.module(&inner, queue)?;
        }
        Ok(())
    }

    /// Takes the module of that name, if it is there.
    fn module(&mut self, parts: &[String], queue: &mut Queue) -> Result<(), ModulesError> {
        if parts.is_empty() || parts.len() > DEEPEST_MODULE || !self.asked.insert(parts.to_vec()) {
            return Ok(());
        }
        let base = parts.join("/");
        let (outer, _) = parts.split_at(parts.len() - 1);
        for (path, package) in [(format!("{base}/__init__.py"), parts), (format!("{base}.py"), outer)] {
            if path == self.script {
                return Ok(());
            }
            if let Some(source) = self.read(&path)? {
                queue.push_back((package.to_vec(), imports_of(&source)));
                self.found.insert(path, source);
                return Ok(());
            }
        }
        Ok(())
    }

    fn read(&mut self, path: &str) -> Result<Option<Arc<[u8]>>, ModulesError> {
        let unreadable = |error| ModulesError::Unreadable { path: path.to_owned(), error };
        let mut options = OpenOptions::new();
        // A pipe of that name must not hold us up.
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let file = match self.dir.open_with(path, &options) {
            Ok(file) => file,
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
                    return Ok(None);
                }
                _ => return Err(unreadable(error)),
            },
        };
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Ok(None);
        }
        if self.found.len() >= MOST_MODULES {
            return Err(ModulesError::TooMany);
        }
        let mut bytes = Vec::new();
        let left = MOST_BYTES.saturating_sub(self.bytes);
        file.take(left + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > left {
            return Err(ModulesError::TooLarge);
        }
        self.bytes += bytes.len() as u64;
        Ok(Some(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn gather(files: &[(&str, &str)], script: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = script_modules(folder.path(), "main.py", script.as_bytes()).unwrap();
        found.into_iter().map(|module| module.path).collect()
    }

    #[test]
    fn imports_are_followed_through_modules_and_packages() {
        let files = [
            ("main.py", ""),
            ("a.py", "import main\nfrom pkg import x, y"),
            ("b.py", ""),
            ("pkg/__init__.py", "from . import z\n"),
            ("pkg/x.py", "from ..pkg.deep import w\nfrom .. import b"),
            ("pkg/z.py", ""),
            ("pkg/unused.py", ""),
            ("pkg/deep/w.py", "import b"),
            ("json.py", ""),
        ];
        assert_eq!(
            gather(&files, "def f():\n    import a, json, os.path"),
            ["a.py", "json.py", "pkg/__init__.py", "pkg/x.py", "pkg/z.py"]
        );
        let files = [("ns/deep/w.py", "import b"), ("b.py", "")];
        assert_eq!(gather(&files, "from ns.deep import w"), ["b.py", "ns/deep/w.py"]);
        assert!(gather(&files, "x = 'import b'").is_empty());
    }

    #[test]
    fn links_stay_in_the_folder() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret.py"), "key = 1").unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("real.py"), "").unwrap();
        std::os::unix::fs::symlink("real.py", folder.path().join("inner.py")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret.py"), folder.path().join("outer.py")).unwrap();
        let found = script_modules(folder.path(), "main.py", b"import inner").unwrap();
        assert_eq!(found.len(), 1);
        let error = script_modules(folder.path(), "main.py", b"import outer").unwrap_err();
        assert!(matches!(error, ModulesError::Unreadable { ref path, .. } if path == "outer.py"), "{error}");
    }

    #[test]
    fn a_pipe_is_no_module() {
        let folder = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo").arg(folder.path().join("a.py")).status().unwrap();
        assert!(made.success());
        assert!(script_modules(folder.path(), "main.py", b"import a").unwrap().is_empty());
    }
}
