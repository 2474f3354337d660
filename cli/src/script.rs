//! The script: reading it and telling its language.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use capibara::{Language, Script};

use crate::errors::Failure;
use crate::exit_code::ExitCode;

/// The largest script that is read. CPython needs some hundred times as much memory to compile one.
pub(crate) const LARGEST_SCRIPT: u64 = 16 << 20;
/// The largest WebAssembly program.
pub(crate) const LARGEST_PROGRAM: u64 = 32 << 20;
/// The first bytes of a WebAssembly module.
const WASM_MAGIC: &[u8] = b"\0asm";

/// A script, and what there is to tell its language by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) script: Script,
    /// Where it lies, if it is a file: path as it was given, and the folder its modules are looked for in.
    pub(crate) place: Option<Place>,
    /// Whether it has a name of its own. Code, modules and what comes through a pipe have none.
    named: bool,
}

/// Where a script file lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The path as it was given.
    pub(crate) path: String,
    /// The folder of the file itself, links followed, as python takes it for `sys.path`.
    pub(crate) folder: PathBuf,
}

impl Found {
    pub(crate) fn unnamed(script: Script) -> Self {
        Self { script, place: None, named: false }
    }
}

/// Reads a script: a file, or a pipe or device as the shell makes one of `<(command)`.
pub(crate) fn from_file(path: &Path) -> Result<Found, Failure> {
    if path.as_os_str().is_empty() {
        return Err(Failure::new("script-name", "the name of the script is empty")
            .with_hint("name a file, as in `capibara run script.py`; is a variable of the shell empty?"));
    }
    let shown = path.display();
    let name = name_of(path)?;
    let (source, named) = File::open(path)
        .and_then(|file| {
            let kind = file.metadata()?.file_type();
            if kind.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok((read(file)?, kind.is_file())) }
        })
        .map_err(|error| unreadable(path, &error))?;
    let program = source.starts_with(WASM_MAGIC);
    let largest = if program { LARGEST_PROGRAM } else { LARGEST_SCRIPT };
    if source.len() as u64 > largest {
        return Err(too_large(&format!("the script `{shown}`"), largest));
    }
    if source.is_empty() {
        return Err(empty(&format!("the script `{shown}`")));
    }
    if !program
        && let Err(error) = std::str::from_utf8(&source)
        && !declares_encoding(&source)
    {
        return Err(not_utf8(&format!("the script `{shown}`"), &source, error.valid_up_to()));
    }
    let place = std::fs::canonicalize(path).ok().filter(|_| named).and_then(|real| {
        Some(Place { path: path.to_string_lossy().into_owned(), folder: real.parent()?.to_path_buf() })
    });
    Ok(Found { script: Script::File { name, source: source.into() }, place, named })
}

/// Reads a script from standard input, to its end.
pub(crate) fn from_standard_input() -> Result<Script, Failure> {
    let source = read(io::stdin().lock()).map_err(|error| {
        Failure::new("script-unreadable", "the script cannot be read from standard input").with_cause(&error)
    })?;
    if source.starts_with(WASM_MAGIC) {
        return Err(Failure::new("script-not-utf8", "the script on standard input is a WebAssembly module")
            .with_hint("save it to a file and name that: `capibara run program.wasm`"));
    }
    if source.len() as u64 > LARGEST_SCRIPT {
        return Err(too_large("the script on standard input", LARGEST_SCRIPT));
    }
    match String::from_utf8(source) {
        Ok(text) if text.is_empty() => Err(empty("the script on standard input")),
        Ok(text) => Ok(Script::StandardInput(text)),
        Err(error) => Err(not_utf8("the script on standard input", error.as_bytes(), error.utf8_error().valid_up_to())),
    }
}

/// All of it, or more than a program may have.
fn read(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(LARGEST_PROGRAM + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The name the script sees itself under: the last component of its path.
fn name_of(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let Some(name) = path.file_name() else {
        return Err(unreadable(path, &io::ErrorKind::IsADirectory.into()));
    };
    let wrong = |what: &str| {
        Err(Failure::new("script-name", format!("the file name of the script `{shown}` {what}"))
            .with_hint("rename it, or pass the script on standard input: `capibara run - < FILE`"))
    };
    match name.to_str() {
        None => wrong("is not UTF-8"),
        Some(name) if name.chars().any(char::is_control) => wrong("has control characters in it"),
        Some(name) => Ok(name.to_owned()),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            let mut with_extension = path.as_os_str().to_owned();
            with_extension.push(".py");
            let with_extension = Path::new(&with_extension);
            let hint = if with_extension.is_file() {
                format!("there is `{}`", with_extension.display())
            } else {
                "check the path; `-c CODE` runs code from the command line, `-m MODULE` a module".into()
            };
            Failure::new("script-not-found", format!("there is no script `{shown}`")).with_hint(hint)
        }
        io::ErrorKind::IsADirectory => {
            Failure::new("script-is-directory", format!("the script `{shown}` is a directory"))
                .with_hint("name the file to run in it")
        }
        io::ErrorKind::PermissionDenied => {
            Failure::new("script-unreadable", format!("the script `{shown}` cannot be read"))
                .with_cause(error)
                .with_hint("make it and the folders above it readable for you")
        }
        _ => Failure::new("script-unreadable", format!("the script `{shown}` cannot be read"))
            .with_cause(error)
            .with_hint("name a file that can be read"),
    }
}

fn too_large(what: &str, largest: u64) -> Failure {
    Failure::new("script-too-large", format!("{what} is larger than {}", crate::output::units::size(largest)))
        .with_hint("let a small script read large data from standard input")
}

fn empty(what: &str) -> Failure {
    Failure::new("script-empty", format!("{what} is empty")).with_hint("was it saved, and is it the right one?")
}

fn not_utf8(what: &str, source: &[u8], at: usize) -> Failure {
    let line = 1 + source.get(..at).unwrap_or_default().iter().filter(|b| **b == b'\n').count();
    let byte = source.get(at).copied().unwrap_or_default();
    let hint = if source.starts_with(b"\xff\xfe") || source.starts_with(b"\xfe\xff") {
        "it looks like UTF-16: save it as UTF-8"
    } else {
        "save it as UTF-8, or name its encoding in the first line: `# -*- coding: latin-1 -*-`"
    };
    Failure::new("script-not-utf8", format!("{what} is not UTF-8: byte 0x{byte:02x} at offset {at}, in line {line}"))
        .with_hint(hint)
}

/// Whether one of the first two lines names an encoding other than UTF-8 (PEP 263); Python then decodes the script.
fn declares_encoding(source: &[u8]) -> bool {
    source.split(|b| *b == b'\n').take(2).any(|line| {
        let line = line.trim_ascii_start();
        let Some(at) = line.windows(6).position(|w| w == b"coding").filter(|_| line.starts_with(b"#")) else {
            return false;
        };
        let Some([b':' | b'=', name @ ..]) = line.get(at + 6..) else { return false };
        let name = name.trim_ascii();
        name.first().is_some_and(u8::is_ascii_alphanumeric)
            && !name.get(..3).is_some_and(|n| n.eq_ignore_ascii_case(b"utf"))
    })
}

/// The language of a script: what `--language` says, else what the script itself shows.
///
/// `narrow` is a policy that flags cannot widen: there `--language` does not make a script known.
pub(crate) fn language(found: &Found, named: Option<&str>, policy: &str, narrow: bool) -> Result<Language, Failure> {
    let said = named.map(super::commands::language).transpose()?;
    // Without a name it is taken for Python, as code, modules and standard input are.
    let Found { script: Script::File { name, source }, named: true, .. } = found else {
        return match said {
            Some(Language::Wasm) => Err(Failure::new("usage", "a WebAssembly program must be a file")
                .with_hint("name the file: `capibara run program.wasm`")),
            said => Ok(said.unwrap_or(Language::Python)),
        };
    };
    let shown =
        if is_wasm(name, source) { Some(Language::Wasm) } else { is_python(name, source).then_some(Language::Python) };
    match (said, shown) {
        // What the script shows is only overruled by who may overrule.
        (Some(said), _) if !narrow || shown == Some(said) => return Ok(said),
        (None, Some(shown)) => return Ok(shown),
        _ => {}
    }
    let hint = if narrow {
        let stem = Path::new(name).file_stem().and_then(OsStr::to_str).unwrap_or("script");
        format!(
            "policy `{policy}` runs only what is known by its name or first line: name it `{stem}.py` if it is Python"
        )
    } else {
        "if it is Python, say so: `--language python`; a WebAssembly program ends in `.wasm` or `.wat`".into()
    };
    Err(Failure::new("unknown-language", format!("the language of `{name}` is unknown"))
        .with_exit(ExitCode::Denied)
        .with_hint(hint))
}

/// Whether it is a WebAssembly program, or its text form.
fn is_wasm(name: &str, source: &[u8]) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    source.starts_with(WASM_MAGIC) || matches!(extension.as_deref(), Some("wasm" | "wat"))
}

fn is_python(name: &str, source: &[u8]) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    if let Some("py" | "pyw") = extension.as_deref() {
        return true;
    }
    let first = source.split(|b| *b == b'\n').next().unwrap_or_default();
    let shebang = first.strip_prefix(b"#!").and_then(|line| std::str::from_utf8(line).ok());
    shebang.is_some_and(|line| {
        // `/usr/bin/env python3`, `/usr/bin/python3.13 -I`, `/usr/bin/env -S capibara run`.
        line.split_whitespace().filter_map(|word| word.rsplit('/').next()).any(|program| {
            program == "capibara"
                || program.strip_prefix("python").is_some_and(|v| v.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;

    fn file(name: &str, source: &[u8]) -> Found {
        Found { script: Script::File { name: name.into(), source: source.into() }, place: None, named: true }
    }

    #[test]
    fn languages() {
        for (name, source, known) in [
            ("x.py", "", true),
            ("X.PY", "", true),
            ("x.pyw", "", true),
            ("x", "#!/usr/bin/env python3\n", true),
            ("x", "#!/usr/bin/python3.13 -I\n", true),
            ("x.txt", "#!/usr/bin/env python\n", true),
            ("x", "#!/usr/bin/env -S capibara run\nprint(1)", true),
            ("x", "#!/usr/local/bin/capibara run\r\nprint(1)", true),
            ("x", "#!/bin/sh\n# python\n", false),
            ("x", "#!/usr/bin/pythonic\n", false),
            ("x.js", "", false),
            (".py", "", false),
            ("x", "print(1)", false),
            ("x.txt", "\n#!/usr/bin/python3\n", false),
        ] {
            let script = file(name, source.as_bytes());
            let found = language(&script, None, "moderate", false);
            assert_eq!(found.is_ok(), known, "{name} {source:?}");
            if let Err(failure) = found {
                assert_eq!(failure.exit, ExitCode::Denied);
                assert!(failure.hint.unwrap().contains("--language python"));
            }
            assert!(language(&script, Some("python"), "moderate", false).is_ok());
            assert_eq!(language(&script, Some("python"), "strict", true).is_ok(), known);
            let unknown = language(&script, Some("cobol"), "moderate", false).unwrap_err();
            assert_eq!((unknown.exit, unknown.code), (ExitCode::Unavailable, "no-such-language"));
        }
        for script in [Script::Code("x".into()), Script::StandardInput("x".into()), Script::Module("x".into())] {
            assert!(language(&Found::unnamed(script), None, "strict", true).is_ok());
        }
        for (name, source) in
            [("x.wasm", &b"\0asm\x01\0\0\0"[..]), ("x", b"\0asm"), ("x.WAT", b"(module)"), ("x.wasm", b"")]
        {
            assert_eq!(language(&file(name, source), None, "strict", true).unwrap(), Language::Wasm);
            assert_eq!(language(&file(name, source), Some("wasm"), "strict", true).unwrap(), Language::Wasm);
            assert_eq!(language(&file(name, source), Some("python"), "moderate", false).unwrap(), Language::Python);
            assert!(language(&file(name, source), Some("python"), "strict", true).is_err());
        }
        assert!(language(&Found::unnamed(Script::Code("x".into())), Some("wasm"), "moderate", false).is_err());
        let pipe = Found { named: false, ..file("63", b"print(1)") };
        assert!(language(&pipe, None, "strict", true).is_ok());
        assert!(language(&pipe, Some("cobol"), "moderate", false).is_err());
    }

    #[test]
    fn encodings_that_are_declared() {
        for (source, declared) in [
            (&b"# -*- coding: latin-1 -*-\n\xe9"[..], true),
            (b"#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\n\xe9", true),
            (b"# coding: utf-8\n\xe9", false),
            (b"# coding: UTF8\n\xe9", false),
            (b"\n\n# coding: latin-1\n\xe9", false),
            (b"x = 'coding: latin-1'\n\xe9", false),
            (b"# coding latin-1\n\xe9", false),
            (b"\xe9", false),
        ] {
            assert_eq!(declares_encoding(source), declared, "{}", source.escape_ascii());
        }
    }

    #[test]
    fn files_that_are_no_scripts() {
        let dir = std::env::temp_dir().join(format!("capibara-cli-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let write = |name: &[u8], bytes: &[u8]| {
            let path = dir.join(OsStr::from_bytes(name));
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let row = |path: &Path| {
            let failure = from_file(path).unwrap_err();
            assert_eq!(failure.exit, ExitCode::Failed);
            assert!(failure.hint.is_some());
            (failure.code, failure.message)
        };
        assert_eq!(row(Path::new("")), ("script-name", "the name of the script is empty".into()));
        assert_eq!(row(Path::new("/dev/zero")).0, "script-too-large");
        assert_eq!(row(Path::new("/dev/null")).0, "script-empty");
        let missing = row(&dir.join("missing.py"));
        assert_eq!(missing.0, "script-not-found");
        assert!(missing.1.contains("missing.py"), "{}", missing.1);
        write(b"there.py", b"x");
        assert!(from_file(&dir.join("there")).unwrap_err().hint.unwrap().contains("there.py"));
        assert_eq!(row(&dir).0, "script-is-directory");
        assert_eq!(row(Path::new("/")).0, "script-is-directory");
        assert_eq!(row(Path::new("..")).0, "script-is-directory");
        assert_eq!(row(&write(b"empty.py", b"")).0, "script-empty");
        assert_eq!(row(&dir.join("empty.py/x.py")).0, "script-unreadable");
        let latin = row(&write(b"latin.py", b"print(1)\nx = 'caf\xe9'\n"));
        assert_eq!(latin.0, "script-not-utf8");
        assert!(latin.1.contains("byte 0xe9 at offset 17, in line 2"), "{}", latin.1);
        assert_eq!(row(&write(b"wide.py", b"\xff\xfex\0")).0, "script-not-utf8");
        assert_eq!(row(&write(b"new\nline.py", b"x")).0, "script-name");
        assert_eq!(row(&write(b"caf\xe9.py", b"x")).0, "script-name");
        let path = dir.join("large.py");
        File::create(&path).unwrap().set_len(LARGEST_SCRIPT + 1).unwrap();
        assert_eq!(row(&path).0, "script-too-large");
        let good = from_file(&write(b"good.py", b"x")).unwrap();
        let place = good.place.clone().unwrap();
        assert_eq!(place.path, dir.join("good.py").display().to_string());
        assert_eq!(place.folder, std::fs::canonicalize(&dir).unwrap());
        assert_eq!(Found { place: None, ..good }, file("good.py", b"x"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
