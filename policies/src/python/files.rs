//! Files a script opens, and whether it may.

use std::rc::Rc;

use super::ast::Place;
use super::facts::is_credential_file;
use super::machine::{Heap, Machine};
use super::value::{Args, Value};
use crate::rules;
use crate::{NeedKind, Policy};

/// What is done with the file an argument names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Read,
    Write,
    /// The mode decides: its position.
    Mode(usize),
}

/// Functions that take paths: the position of each, what is done, and its keyword.
const FUNCTIONS: &[(&str, usize, Use, &str)] = &[
    ("builtins.open", 0, Use::Mode(1), "file"),
    ("codecs.open", 0, Use::Mode(1), "filename"),
    ("os.open", 0, Use::Mode(1), "path"),
    ("os.listdir", 0, Use::Read, "path"),
    ("os.scandir", 0, Use::Read, "path"),
    ("os.walk", 0, Use::Read, "top"),
    ("os.fwalk", 0, Use::Read, "top"),
    ("os.chdir", 0, Use::Read, "path"),
    ("os.stat", 0, Use::Read, "path"),
    ("os.readlink", 0, Use::Read, "path"),
    ("os.truncate", 0, Use::Write, "path"),
    ("os.remove", 0, Use::Write, "path"),
    ("os.unlink", 0, Use::Write, "path"),
    ("os.rmdir", 0, Use::Write, "path"),
    ("os.removedirs", 0, Use::Write, "name"),
    ("os.mkdir", 0, Use::Write, "path"),
    ("os.makedirs", 0, Use::Write, "name"),
    ("os.mkfifo", 0, Use::Write, "path"),
    ("os.mknod", 0, Use::Write, "path"),
    ("os.chmod", 0, Use::Write, "path"),
    ("os.lchmod", 0, Use::Write, "path"),
    ("os.chown", 0, Use::Write, "path"),
    ("os.utime", 0, Use::Write, "path"),
    ("os.rename", 0, Use::Write, "src"),
    ("os.rename", 1, Use::Write, "dst"),
    ("os.renames", 0, Use::Write, "old"),
    ("os.replace", 0, Use::Write, "src"),
    ("os.replace", 1, Use::Write, "dst"),
    ("os.link", 0, Use::Read, "src"),
    ("os.link", 1, Use::Write, "dst"),
    ("os.symlink", 0, Use::Read, "src"),
    ("os.symlink", 1, Use::Write, "dst"),
    ("shutil.rmtree", 0, Use::Write, "path"),
    ("shutil.copy", 0, Use::Read, "src"),
    ("shutil.copy", 1, Use::Write, "dst"),
    ("shutil.copy2", 0, Use::Read, "src"),
    ("shutil.copy2", 1, Use::Write, "dst"),
    ("shutil.copyfile", 0, Use::Read, "src"),
    ("shutil.copyfile", 1, Use::Write, "dst"),
    ("shutil.copytree", 0, Use::Read, "src"),
    ("shutil.copytree", 1, Use::Write, "dst"),
    ("shutil.move", 0, Use::Write, "src"),
    ("shutil.move", 1, Use::Write, "dst"),
    ("shutil.chown", 0, Use::Write, "path"),
    ("shutil.make_archive", 0, Use::Write, "base_name"),
    ("shutil.unpack_archive", 1, Use::Write, "extract_dir"),
    ("glob.glob", 0, Use::Read, "pathname"),
    ("glob.iglob", 0, Use::Read, "pathname"),
    ("gzip.open", 0, Use::Mode(1), "filename"),
    ("bz2.open", 0, Use::Mode(1), "filename"),
    ("lzma.open", 0, Use::Mode(1), "filename"),
    ("tarfile.open", 0, Use::Mode(1), "name"),
    ("zipfile.ZipFile", 0, Use::Mode(1), "file"),
    ("sqlite3.connect", 0, Use::Write, "database"),
    ("dbm.open", 0, Use::Mode(1), "file"),
    ("linecache.getline", 0, Use::Read, "filename"),
    ("linecache.getlines", 0, Use::Read, "filename"),
    ("fileinput.input", 0, Use::Read, "files"),
    ("fileinput.FileInput", 0, Use::Read, "files"),
    ("tokenize.open", 0, Use::Read, "filename"),
    ("logging.FileHandler", 0, Use::Write, "filename"),
    ("logging.handlers.RotatingFileHandler", 0, Use::Write, "filename"),
    ("io.FileIO", 0, Use::Mode(1), "file"),
    ("io.open_code", 0, Use::Read, "path"),
    ("numpy.load", 0, Use::Read, "file"),
    ("numpy.fromfile", 0, Use::Read, "file"),
    ("numpy.loadtxt", 0, Use::Read, "fname"),
    ("numpy.save", 0, Use::Write, "file"),
    ("pandas.read_csv", 0, Use::Read, "filepath_or_buffer"),
    ("xml.etree.ElementTree.parse", 0, Use::Read, "source"),
    ("filecmp.cmp", 0, Use::Read, "f1"),
    ("filecmp.cmp", 1, Use::Read, "f2"),
    ("mimetypes.read_mime_types", 0, Use::Read, "file"),
    ("ast.parse_file", 0, Use::Read, "file"),
];

/// Whether the script may use that file: below its own folders, or granted.
fn may(policy: &Policy, path: &str, write: bool) -> bool {
    let Some(path) = normal(path) else { return false };
    if policy.grants_path(&path, write) {
        return true;
    }
    let below = |folder: &str| path == folder || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    if ["/tmp", "/home/script", "/out"].into_iter().any(below) {
        return true;
    }
    let devices = ["/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr"];
    if devices.contains(&path.as_str()) {
        return true;
    }
    !write && below("/script")
}

/// An absolute path without `.` and `..`, from the working directory; `None` for a path of another system.
fn normal(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    if bytes.get(1) == Some(&b':')
        && bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && matches!(bytes.get(2), Some(b'\\' | b'/'))
    {
        return None;
    }
    if path.starts_with("\\\\") || path == "~" || path.starts_with("~/") || path.contains("://") {
        return None;
    }
    let start = if path.starts_with('/') { "" } else { "/home/script" };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

fn touch(machine: &mut Machine<'_>, value: &Value, write: bool, place: Place) {
    let mut known = false;
    let mut any = false;
    for one in value.each() {
        any |= !matches!(one, Value::None | Value::Int(_));
        let path = match one {
            Value::Object(_) => path_of(machine, one),
            one => one.as_source(),
        };
        let Some(path) = path else { continue };
        known = true;
        if &*path == ":memory:" {
            continue;
        }
        let kind = Some(path.to_string());
        machine.need(if write { NeedKind::Write(kind) } else { NeedKind::Read(kind) }, place);
        let credential = is_credential_file(&path);
        machine.facts.reads_secret |= credential;
        if credential || !may(machine.policy, &path, write) {
            let what = if write { "changes" } else { "reads" };
            let shown: String = path.chars().take(60).collect();
            machine.report(rules::file_access, place, format!("{what} `{shown}`, outside the folders of the script"));
        }
    }
    if !known && any {
        machine.need(if write { NeedKind::Write(None) } else { NeedKind::Read(None) }, place);
    }
}

/// The text of a `pathlib.Path`.
fn path_of(machine: &Machine<'_>, value: &Value) -> Option<Rc<str>> {
    let Value::Object(index) = value else { return value.as_source() };
    match machine.heap.get(*index)? {
        Heap::Made(path, args) if is_path(path) => join(machine, &args.plain),
        _ => None,
    }
}

fn is_path(path: &str) -> bool {
    matches!(
        path,
        "pathlib.Path" | "pathlib.PosixPath" | "pathlib.PurePath" | "pathlib.PurePosixPath" | "pathlib.WindowsPath"
    )
}

fn join(machine: &Machine<'_>, parts: &[Value]) -> Option<Rc<str>> {
    let mut joined = String::new();
    for part in parts {
        let part = path_of(machine, part)?;
        if part.starts_with('/') {
            joined.clear();
        } else if !joined.is_empty() && !joined.ends_with('/') {
            joined.push('/');
        }
        joined.push_str(&part);
        if joined.len() > 4096 {
            return None;
        }
    }
    Some(joined.into())
}

/// `pathlib.Path(…) / …`.
pub(super) fn joined(machine: &mut Machine<'_>, left: &Value, right: &Value) -> Option<Value> {
    if !matches!((left, right), (Value::Object(_), _) | (_, Value::Object(_))) {
        return None;
    }
    let is = |value: &Value| match value {
        Value::Object(index) => matches!(machine.heap.get(*index), Some(Heap::Made(path, _)) if is_path(path)),
        _ => false,
    };
    if !is(left) && !is(right) {
        return None;
    }
    let text = join(machine, &[left.clone(), right.clone()]).map_or(Value::Unknown, Value::Str);
    Some(machine.alloc(Heap::Made("pathlib.Path".into(), Args::of(vec![text]))))
}

/// Whether a mode or flags open for writing.
fn writes(mode: Option<&Value>) -> bool {
    match mode {
        Some(Value::Str(mode)) => {
            mode.contains(['w', 'a', 'x', '+', 'c', 'n']) && !mode.starts_with("r:") && !mode.starts_with("r|")
        }
        Some(Value::Int(flags)) => flags & 3 != 0,
        _ => false,
    }
}

/// A call of a function of the library that takes paths; a value if that is all there is to it.
pub(super) fn call(machine: &mut Machine<'_>, path: &str, args: &Args, site: Place) -> Option<Value> {
    match path {
        "os.path.join" => return Some(join(machine, &args.plain).map_or(Value::Unknown, Value::Str)),
        "os.path.expanduser" => {
            let text = args.plain.first().and_then(Value::as_text)?;
            if is_credential_file(&text) {
                return Some(Value::Str(text));
            }
            return Some(match text.strip_prefix('~') {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => Value::text(format!("/home/script{rest}")),
                _ => Value::Str(text),
            });
        }
        "os.path.abspath" | "os.path.realpath" | "os.path.normpath" | "os.fspath" | "os.fsdecode" | "os.fsencode" => {
            return Some(args.plain.first().map_or(Value::Unknown, |first| match path_of(machine, first) {
                Some(text) => Value::Str(text),
                None => Value::Unknown,
            }));
        }
        "os.getcwd" => return Some(Value::text("/home/script")),
        "pathlib.Path.home" | "pathlib.Path.cwd" => {
            return Some(machine.alloc(Heap::Made("pathlib.Path".into(), Args::of(vec![Value::text("/home/script")]))));
        }
        "tempfile.mktemp" => {
            machine.report(
                rules::file_access,
                site,
                "`tempfile.mktemp` names a file that somebody else can make first",
            );
            return Some(Value::Unknown);
        }
        _ => {}
    }
    let mut found = false;
    for (function, index, used, key) in FUNCTIONS {
        if *function != path {
            continue;
        }
        found = true;
        let Some(value) = args.get(*index, key).cloned() else { continue };
        let write = match used {
            Use::Read => false,
            Use::Write => true,
            Use::Mode(at) => writes(args.get(*at, "mode").or_else(|| args.key("flags"))),
        };
        touch(machine, &value, write, site);
    }
    (found && path == "builtins.open").then(|| machine.alloc(Heap::Made("io.TextIOWrapper".into(), Args::default())))
}

/// A method of an object of the library that stands for a path.
pub(super) fn method(
    machine: &mut Machine<'_>,
    path: &str,
    made: &Args,
    name: &str,
    args: &Args,
    site: Place,
) -> Option<Value> {
    if matches!((path, name), ("configparser.ConfigParser" | "configparser.RawConfigParser", "read")) {
        let value = args.plain.first()?.clone();
        touch(machine, &value, false, site);
        return Some(Value::Unknown);
    }
    if !is_path(path) {
        return None;
    }
    let this = join(machine, &made.plain);
    let own = this.clone().map_or(Value::Unknown, Value::Str);
    match name {
        "open" => {
            let write = writes(args.get(0, "mode"));
            touch(machine, &own, write, site);
            Some(machine.alloc(Heap::Made("io.TextIOWrapper".into(), Args::default())))
        }
        "read_text" | "read_bytes" | "iterdir" | "glob" | "rglob" | "walk" | "stat" | "readlink" => {
            touch(machine, &own, false, site);
            Some(Value::Unknown)
        }
        "write_text" | "write_bytes" | "unlink" | "rmdir" | "mkdir" | "touch" | "chmod" | "rename" | "replace"
        | "symlink_to" | "hardlink_to" => {
            touch(machine, &own, true, site);
            if matches!(name, "rename" | "replace")
                && let Some(to) = args.plain.first().cloned()
            {
                touch(machine, &to, true, site);
            }
            Some(Value::Unknown)
        }
        "joinpath" => {
            let mut parts = vec![own];
            parts.extend(args.plain.iter().cloned());
            let text = join(machine, &parts).map_or(Value::Unknown, Value::Str);
            Some(machine.alloc(Heap::Made("pathlib.Path".into(), Args::of(vec![text]))))
        }
        "resolve" | "absolute" => Some(machine.alloc(Heap::Made("pathlib.Path".into(), made.clone()))),
        "expanduser" => {
            let text = match this {
                Some(text) if !is_credential_file(&text) => match text.strip_prefix('~') {
                    Some(rest) => Value::text(format!("/home/script{rest}")),
                    None => Value::Str(text),
                },
                Some(text) => Value::Str(text),
                None => Value::Unknown,
            };
            Some(machine.alloc(Heap::Made("pathlib.Path".into(), Args::of(vec![text]))))
        }
        _ => Some(Value::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_folders_are_free_and_others_are_not() {
        let policy = Policy::preset("strict").unwrap();
        for path in ["data.txt", "./a/../b", "/tmp/x", "/out/r.csv", "/home/script/a", "/dev/null"] {
            assert!(may(&policy, path, true), "{path}");
        }
        assert!(may(&policy, "/script/main.py", false) && !may(&policy, "/script/main.py", true));
        for path in ["/etc/passwd", "../../etc/passwd", "/tmp/../etc", "~/.bashrc", "C:\\x", "/tmpx", "/"] {
            assert!(!may(&policy, path, false), "{path}");
        }
    }
}
