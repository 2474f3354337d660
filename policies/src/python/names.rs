//! What is known about names: of the library, of the language, of the rules.

use std::rc::Rc;
use std::sync::LazyLock;

use super::{Map, Set};
use crate::rules::{self, RULES, Rule, Symbol};

/// Symbols by path, and those that end in a wildcard by what stands before it.
struct Index {
    exact: Map<&'static str, (&'static Rule, &'static Symbol)>,
    /// By their first byte, in the order of the rules.
    open: Map<u8, Vec<(&'static str, &'static Rule, &'static Symbol)>>,
    /// All exact paths, in the order of the rules.
    paths: Vec<&'static str>,
}

static INDEX: LazyLock<Index> = LazyLock::new(|| {
    let mut index = Index { exact: Map::default(), open: Map::default(), paths: Vec::new() };
    for rule in RULES {
        for symbol in rule.python {
            match symbol.path.strip_suffix('*') {
                Some(prefix) => {
                    let first = prefix.bytes().next().unwrap_or_default();
                    index.open.entry(first).or_default().push((prefix, rule, symbol));
                }
                None => {
                    index.paths.push(symbol.path);
                    index.exact.entry(symbol.path).or_insert((rule, symbol));
                }
            }
        }
    }
    index
});

static BUILTINS: LazyLock<Set<&'static str>> = LazyLock::new(|| BUILTIN.iter().copied().collect());
static LIBRARY: LazyLock<Set<&'static str>> = LazyLock::new(|| MODULES.iter().copied().collect());

/// The rule that lists this path.
pub(super) fn symbol(path: &str) -> Option<(&'static Rule, &'static Symbol)> {
    if let Some(found) = INDEX.exact.get(path) {
        return Some(*found);
    }
    let open = INDEX.open.get(&path.bytes().next()?)?;
    open.iter().find(|(prefix, _, _)| path.starts_with(prefix)).map(|(_, rule, symbol)| (*rule, *symbol))
}

/// The members of a module that the rules know.
pub(super) fn known_members(module: &str) -> impl Iterator<Item = &'static str> {
    let module = module.to_owned();
    INDEX
        .paths
        .iter()
        .filter_map(move |path| path.strip_prefix(module.as_str())?.strip_prefix('.'))
        .filter(|name| !name.contains('.') && !name.contains('['))
}

pub(super) fn is_builtin(name: &str) -> bool {
    BUILTINS.contains(name)
}

/// Whether it is a module of the standard library.
pub(super) fn is_library(name: &str) -> bool {
    LIBRARY.contains(name)
}

/// Modules whose members are dangerous in kind: which one is taken has to be known.
pub(super) fn is_dangerous(path: &str) -> bool {
    matches!(
        path,
        "os" | "builtins"
            | "subprocess"
            | "importlib"
            | "ctypes"
            | "socket"
            | "pty"
            | "pickle"
            | "marshal"
            | "runpy"
            | "code"
            | "shutil"
            | "sys.modules"
            | "_posixsubprocess"
            | "multiprocessing"
    )
}

/// The same module under one name.
pub(super) fn canonical(path: &str) -> Rc<str> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let same = match first {
        "posix" | "nt" | "_osx_support" => "os",
        "posixpath" | "ntpath" | "genericpath" => "os.path",
        "_io" | "_pyio" => "io",
        "_socket" => "socket",
        "_ssl" => "ssl",
        "_pickle" | "cPickle" | "_compat_pickle" => "pickle",
        "_ctypes" => "ctypes",
        "__builtin__" | "__builtins__" => "builtins",
        "_frozen_importlib" | "_frozen_importlib_external" => "importlib._bootstrap",
        "_imp" => "imp",
        "_operator" => "operator",
        "_functools" => "functools",
        "_codecs" => "codecs",
        "_winapi" => "_winapi",
        _ => return path.into(),
    };
    match rest {
        Some(rest) => format!("{same}.{rest}").into(),
        None => same.into(),
    }
}

/// Modules that other modules of the library hold as attributes.
const LEAKING: &[&str] = &[
    "os",
    "sys",
    "subprocess",
    "builtins",
    "importlib",
    "socket",
    "shutil",
    "ctypes",
    "pickle",
    "marshal",
    "types",
    "inspect",
    "io",
    "pty",
    "posix",
    "nt",
    "posixpath",
    "tempfile",
    "threading",
    "multiprocessing",
    "urllib",
    "http",
    "ssl",
    "code",
    "runpy",
    "pdb",
    "imp",
    "pkgutil",
    "webbrowser",
    "gc",
    "linecache",
    "codecs",
    "functools",
    "operator",
    "glob",
    "pathlib",
    "zipfile",
    "tarfile",
    "asyncio",
    "contextlib",
    "itertools",
    "re",
    "base64",
    "binascii",
    "signal",
    "_posixsubprocess",
    "_frozen_importlib",
    "zipimport",
    "cffi",
];

static LEAKS: LazyLock<Set<&'static str>> = LazyLock::new(|| LEAKING.iter().copied().collect());

/// The path of a member of a module, seen through modules that hold others.
pub(super) fn member(path: &str, name: &str) -> Rc<str> {
    let bare = if LEAKS.contains(name) { name } else { name.trim_start_matches('_') };
    let last = path.rsplit('.').next().unwrap_or(path);
    let real = matches!(
        (path, name),
        ("asyncio", "subprocess" | "threads") | ("os", "path") | ("concurrent", _) | ("xml", _) | ("email", _)
    ) || path == "multiprocessing"
        || path == "tkinter"
        || path == "curses";
    if !real && last != bare && LEAKS.contains(bare) {
        return canonical(bare);
    }
    if matches!((path, name), ("io", "open") | ("os", "fdopen") | ("codecs", "builtins")) {
        return if name == "fdopen" { "os.fdopen".into() } else { "builtins.open".into() };
    }
    canonical(&format!("{path}.{name}"))
}

/// Attributes that lead from a value to what is around it.
pub(super) fn walks(name: &str) -> bool {
    matches!(
        name,
        "__subclasses__"
            | "__globals__"
            | "__builtins__"
            | "func_globals"
            | "func_code"
            | "f_globals"
            | "f_locals"
            | "f_builtins"
            | "gi_frame"
            | "cr_frame"
            | "ag_frame"
            | "gi_code"
            | "cr_code"
            | "co_code"
            | "__reduce__"
            | "__reduce_ex__"
            | "__import__"
            | "_mro"
            | "__getattribute__builtin__"
    )
}

/// Attributes that reach something when they are taken of a value the script did not make.
pub(super) fn reaches(name: &str) -> bool {
    walks(name)
        || matches!(
            name,
            "__class__"
                | "__base__"
                | "__bases__"
                | "__mro__"
                | "__dict__"
                | "__init__"
                | "__new__"
                | "__closure__"
                | "__code__"
                | "__self__"
                | "__func__"
                | "__module__"
                | "__getattribute__"
                | "__loader__"
                | "__spec__"
                | "__subclasshook__"
                | "__init_subclass__"
        )
}

/// Functions of `os` and `subprocess` that start processes and whose names hardly anything else has.
pub(super) fn starts_processes(name: &str) -> bool {
    matches!(
        name,
        "system"
            | "popen"
            | "execv"
            | "execve"
            | "execvp"
            | "execl"
            | "execlp"
            | "spawnl"
            | "spawnv"
            | "spawnlp"
            | "posix_spawn"
            | "check_output"
            | "check_call"
            | "getoutput"
            | "getstatusoutput"
            | "Popen"
    )
}

/// Methods that are dangerous whatever they are called on.
pub(super) fn method(name: &str) -> Option<(&'static Rule, &'static str)> {
    Some(match name {
        "enable_load_extension" | "load_extension" => (rules::native_code, "loads native code into a database"),
        "subprocess_exec" | "subprocess_shell" => (rules::spawn_process, "starts a process"),
        "create_datagram_endpoint" | "sock_connect" | "create_unix_connection" | "create_unix_server" => {
            (rules::network_access, "opens a network connection")
        }
        "read_pickle" => (rules::unsafe_deserialization, "runs what a pickle says"),
        _ => return None,
    })
}

/// The dangerous attribute a format string takes of what it formats.
pub(super) fn field_walk(format: &str) -> Option<String> {
    if !format.contains("__") && !format.contains(".f_") && !format.contains(".gi_") {
        return None;
    }
    for field in fields(format) {
        let parts: Vec<&str> = field.split(['.', '[', ']']).collect();
        for (index, part) in parts.iter().enumerate().skip(1) {
            let harmless =
                matches!(parts.get(index + 1), Some(&("__name__" | "__qualname__" | "__module__" | "__doc__")));
            if (reaches(part) && !(*part == "__class__" && harmless)) || *part == "__code__" {
                return Some((*part).to_owned());
            }
        }
    }
    None
}

/// The fields of a format string, without conversion and specifier.
pub(super) fn fields(format: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find('{') {
        rest = rest.get(at + 1..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix('{') {
            rest = after;
            continue;
        }
        let Some(end) = rest.find('}') else { break };
        let field = rest.get(..end).unwrap_or_default();
        let field = field.split([':', '!']).next().unwrap_or_default();
        fields.push(field.to_owned());
        rest = rest.get(end + 1..).unwrap_or_default();
        if fields.len() > 200 {
            break;
        }
    }
    fields
}

/// Whether an environment variable of that name holds a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["KEY", "SECRET", "TOKEN", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH"].iter().any(|part| name.contains(part))
}

const BUILTIN: &[&str] = &[
    "ArithmeticError",
    "AssertionError",
    "AttributeError",
    "BaseException",
    "BaseExceptionGroup",
    "BlockingIOError",
    "BrokenPipeError",
    "BufferError",
    "BytesWarning",
    "ChildProcessError",
    "ConnectionAbortedError",
    "ConnectionError",
    "ConnectionRefusedError",
    "ConnectionResetError",
    "DeprecationWarning",
    "EOFError",
    "Ellipsis",
    "EncodingWarning",
    "EnvironmentError",
    "Exception",
    "ExceptionGroup",
    "False",
    "FileExistsError",
    "FileNotFoundError",
    "FloatingPointError",
    "FutureWarning",
    "GeneratorExit",
    "IOError",
    "ImportError",
    "ImportWarning",
    "IndentationError",
    "IndexError",
    "InterruptedError",
    "IsADirectoryError",
    "KeyError",
    "KeyboardInterrupt",
    "LookupError",
    "MemoryError",
    "ModuleNotFoundError",
    "NameError",
    "None",
    "NotADirectoryError",
    "NotImplemented",
    "NotImplementedError",
    "OSError",
    "OverflowError",
    "PendingDeprecationWarning",
    "PermissionError",
    "ProcessLookupError",
    "PythonFinalizationError",
    "RecursionError",
    "ReferenceError",
    "ResourceWarning",
    "RuntimeError",
    "RuntimeWarning",
    "StopAsyncIteration",
    "StopIteration",
    "SyntaxError",
    "SyntaxWarning",
    "SystemError",
    "SystemExit",
    "TabError",
    "TimeoutError",
    "True",
    "TypeError",
    "UnboundLocalError",
    "UnicodeDecodeError",
    "UnicodeEncodeError",
    "UnicodeError",
    "UnicodeTranslateError",
    "UnicodeWarning",
    "UserWarning",
    "ValueError",
    "Warning",
    "ZeroDivisionError",
    "__build_class__",
    "__import__",
    "abs",
    "aiter",
    "all",
    "anext",
    "any",
    "ascii",
    "basestring",
    "bin",
    "bool",
    "breakpoint",
    "bytearray",
    "bytes",
    "callable",
    "chr",
    "classmethod",
    "cmp",
    "compile",
    "complex",
    "copyright",
    "credits",
    "delattr",
    "dict",
    "dir",
    "divmod",
    "enumerate",
    "eval",
    "exec",
    "execfile",
    "exit",
    "file",
    "filter",
    "float",
    "format",
    "frozenset",
    "getattr",
    "globals",
    "hasattr",
    "hash",
    "help",
    "hex",
    "id",
    "input",
    "int",
    "isinstance",
    "issubclass",
    "iter",
    "len",
    "license",
    "list",
    "locals",
    "long",
    "map",
    "max",
    "memoryview",
    "min",
    "next",
    "object",
    "oct",
    "open",
    "ord",
    "pow",
    "print",
    "property",
    "quit",
    "range",
    "raw_input",
    "reduce",
    "reload",
    "repr",
    "reversed",
    "round",
    "set",
    "setattr",
    "slice",
    "sorted",
    "staticmethod",
    "str",
    "sum",
    "super",
    "tuple",
    "type",
    "unichr",
    "unicode",
    "vars",
    "xrange",
    "zip",
];

const MODULES: &[&str] = &[
    "BaseHTTPServer",
    "CGIHTTPServer",
    "ConfigParser",
    "HTMLParser",
    "Queue",
    "SimpleHTTPServer",
    "SimpleXMLRPCServer",
    "SocketServer",
    "StringIO",
    "Tkinter",
    "__builtin__",
    "__future__",
    "__main__",
    "_abc",
    "_aix_support",
    "_ast",
    "_asyncio",
    "_bisect",
    "_blake2",
    "_bootsubprocess",
    "_bz2",
    "_codecs",
    "_codecs_cn",
    "_codecs_hk",
    "_codecs_iso2022",
    "_codecs_jp",
    "_codecs_kr",
    "_codecs_tw",
    "_collections",
    "_collections_abc",
    "_compat_pickle",
    "_compression",
    "_contextvars",
    "_crypt",
    "_csv",
    "_ctypes",
    "_curses",
    "_curses_panel",
    "_datetime",
    "_dbm",
    "_decimal",
    "_elementtree",
    "_frozen_importlib",
    "_frozen_importlib_external",
    "_functools",
    "_gdbm",
    "_hashlib",
    "_heapq",
    "_imp",
    "_io",
    "_json",
    "_locale",
    "_lsprof",
    "_lzma",
    "_markupbase",
    "_md5",
    "_msi",
    "_multibytecodec",
    "_multiprocessing",
    "_opcode",
    "_operator",
    "_osx_support",
    "_overlapped",
    "_pickle",
    "_posixshmem",
    "_posixsubprocess",
    "_py_abc",
    "_pydecimal",
    "_pyio",
    "_queue",
    "_random",
    "_scproxy",
    "_sha1",
    "_sha256",
    "_sha3",
    "_sha512",
    "_signal",
    "_sitebuiltins",
    "_socket",
    "_sqlite3",
    "_sre",
    "_ssl",
    "_stat",
    "_statistics",
    "_string",
    "_strptime",
    "_struct",
    "_symtable",
    "_thread",
    "_threading_local",
    "_tkinter",
    "_tokenize",
    "_tracemalloc",
    "_typing",
    "_uuid",
    "_warnings",
    "_weakref",
    "_weakrefset",
    "_winapi",
    "_zoneinfo",
    "abc",
    "aifc",
    "annotationlib",
    "antigravity",
    "argparse",
    "array",
    "ast",
    "asynchat",
    "asyncio",
    "asyncore",
    "atexit",
    "audioop",
    "base64",
    "bdb",
    "binascii",
    "bisect",
    "builtins",
    "bz2",
    "cPickle",
    "cProfile",
    "cStringIO",
    "calendar",
    "capibara",
    "cgi",
    "cgitb",
    "chunk",
    "cmath",
    "cmd",
    "code",
    "codecs",
    "codeop",
    "collections",
    "colorsys",
    "commands",
    "compileall",
    "compression",
    "concurrent",
    "configparser",
    "contextlib",
    "contextvars",
    "copy",
    "copyreg",
    "crypt",
    "csv",
    "ctypes",
    "curses",
    "dataclasses",
    "datetime",
    "dbm",
    "decimal",
    "difflib",
    "dis",
    "distutils",
    "doctest",
    "dummy_thread",
    "email",
    "encodings",
    "ensurepip",
    "enum",
    "errno",
    "faulthandler",
    "fcntl",
    "filecmp",
    "fileinput",
    "fnmatch",
    "fractions",
    "ftplib",
    "functools",
    "gc",
    "genericpath",
    "getopt",
    "getpass",
    "gettext",
    "glob",
    "graphlib",
    "grp",
    "gzip",
    "hashlib",
    "heapq",
    "hmac",
    "html",
    "http",
    "httplib",
    "idlelib",
    "imaplib",
    "imghdr",
    "imp",
    "importlib",
    "inspect",
    "io",
    "ipaddress",
    "itertools",
    "json",
    "keyword",
    "lib2to3",
    "linecache",
    "locale",
    "logging",
    "lzma",
    "mailbox",
    "mailcap",
    "marshal",
    "math",
    "md5",
    "mimetypes",
    "mmap",
    "modulefinder",
    "msilib",
    "msvcrt",
    "multiprocessing",
    "netrc",
    "nis",
    "nntplib",
    "nt",
    "ntpath",
    "nturl2path",
    "numbers",
    "opcode",
    "operator",
    "optparse",
    "os",
    "ossaudiodev",
    "pathlib",
    "pdb",
    "pickle",
    "pickletools",
    "pipes",
    "pkgutil",
    "platform",
    "plistlib",
    "popen2",
    "poplib",
    "posix",
    "posixpath",
    "pprint",
    "profile",
    "pstats",
    "pty",
    "pwd",
    "py_compile",
    "pyclbr",
    "pydoc",
    "pydoc_data",
    "pyexpat",
    "queue",
    "quopri",
    "random",
    "re",
    "readline",
    "reprlib",
    "resource",
    "rlcompleter",
    "runpy",
    "sched",
    "secrets",
    "select",
    "selectors",
    "sets",
    "sha",
    "shelve",
    "shlex",
    "shutil",
    "signal",
    "site",
    "smtpd",
    "smtplib",
    "sndhdr",
    "socket",
    "socketserver",
    "spwd",
    "sqlite3",
    "sre_compile",
    "sre_constants",
    "sre_parse",
    "ssl",
    "stat",
    "statistics",
    "string",
    "stringprep",
    "struct",
    "subprocess",
    "sunau",
    "symtable",
    "sys",
    "sysconfig",
    "syslog",
    "tabnanny",
    "tarfile",
    "telnetlib",
    "tempfile",
    "termios",
    "textwrap",
    "this",
    "thread",
    "threading",
    "time",
    "timeit",
    "tkinter",
    "token",
    "tokenize",
    "tomllib",
    "trace",
    "traceback",
    "tracemalloc",
    "tty",
    "turtle",
    "turtledemo",
    "types",
    "typing",
    "unicodedata",
    "unittest",
    "urllib",
    "urllib2",
    "urlparse",
    "uu",
    "uuid",
    "venv",
    "warnings",
    "wave",
    "weakref",
    "webbrowser",
    "winreg",
    "winsound",
    "wsgiref",
    "xdrlib",
    "xml",
    "xmlrpc",
    "xmlrpclib",
    "zipapp",
    "zipfile",
    "zipimport",
    "zlib",
    "zoneinfo",
];
