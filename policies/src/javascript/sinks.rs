//! Calls that reach out of the script.

use super::known;
use super::machine::Machine;
use super::syntax::Id;
use super::value::{ENVIRONMENT, FILE, NETWORK, TEXT, Value};
use crate::rules::{self, Trigger};
use crate::{NeedKind, Severity};

/// How a function of `fs` touches its paths.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Touch {
    Read,
    Write,
}

fn touch(function: &str) -> Option<Touch> {
    let name = function.strip_suffix("Sync").unwrap_or(function);
    Some(match name {
        "readFile" | "createReadStream" | "ReadStream" | "readdir" | "open" | "opendir" | "stat" | "lstat"
        | "exists" | "access" | "readlink" | "realpath" | "watch" | "watchFile" | "statfs" | "openAsBlob" | "glob"
        | "pathExists" | "readJson" | "readJSON" | "readv" | "existsPath" | "?" => Touch::Read,
        "writeFile" | "appendFile" | "createWriteStream" | "WriteStream" | "unlink" | "rm" | "rmdir" | "mkdir"
        | "mkdtemp" | "rename" | "copyFile" | "cp" | "symlink" | "link" | "chmod" | "lchmod" | "chown" | "lchown"
        | "truncate" | "utimes" | "lutimes" | "copy" | "move" | "remove" | "outputFile" | "ensureDir"
        | "ensureFile" | "emptyDir" | "writeJson" | "writeJSON" | "outputJson" | "mkdirp" | "mkdirs" | "rimraf" => {
            Touch::Write
        }
        _ => return None,
    })
}

/// Whether a path is one of the standard streams.
fn is_stream(path: &str) -> bool {
    matches!(path, "/dev/stdin" | "/dev/stdout" | "/dev/stderr" | "/dev/null" | "/dev/tty" | "/proc/self/fd/0")
        || path.starts_with("/dev/fd/")
}

/// Whether a path is where credentials are kept.
fn is_credential(path: &str) -> bool {
    let path = path.replace('\\', "/").to_ascii_lowercase();
    [
        ".ssh",
        ".aws/",
        ".npmrc",
        ".netrc",
        ".pgpass",
        ".gnupg",
        ".kube/config",
        ".docker/config",
        ".git-credentials",
        "/etc/shadow",
        "/etc/sudoers",
        "id_rsa",
        "id_ed25519",
        ".bash_history",
        ".zsh_history",
        "/proc/self/environ",
        "/environ",
        "wallet.dat",
        "login data",
        "cookies.sqlite",
        "/secrets/",
        ".config/gcloud",
        ".azure",
    ]
    .iter()
    .any(|part| path.contains(part))
        || path == ".env"
        || path.ends_with("/.env")
        || path.contains("/.env.")
}

/// Whether a path leads out of the script's own folder.
fn is_outside(path: &str) -> bool {
    let path = path.strip_prefix("file://").unwrap_or(path).replace('\\', "/");
    if path.starts_with(['/', '~']) || path.chars().nth(1) == Some(':') {
        return !path.starts_with("/tmp/") && path != "/tmp";
    }
    let mut depth = 0_i32;
    for step in path.split('/') {
        match step {
            "" | "." => {}
            ".." => depth -= 1,
            _ => depth += 1,
        }
        if depth < 0 {
            return true;
        }
    }
    false
}

impl Machine<'_, '_> {
    /// Calls something of the language or of a module.
    pub(super) fn call_known(&mut self, path: &str, this: &Value, args: &[Value], id: Id, new: bool) -> Value {
        let callee = self.callee(id);
        match path {
            "require"
            | "Module._load"
            | "process.getBuiltinModule"
            | "Module.require"
            | "importScripts"
            | "require.main.require" => {
                if path != "require" {
                    self.used(path, Trigger::Called, callee);
                }
                let name = args.first().cloned().unwrap_or(Value::UNKNOWN);
                return self.import(&name, id);
            }
            "Module.createRequire" | "Module.createRequireFromPath" => return Value::known("require"),
            "setTimeout" | "setInterval" | "setImmediate" | "execScript" | "queueMicrotask" => {
                self.call_timer(path, args, id);
                return Value::UNKNOWN;
            }
            "?.constructor" => {
                if new {
                    return Value::UNKNOWN;
                }
                return match args.first() {
                    Some(Value::Str(_)) => Value::known("?.constructor()"),
                    _ => Value::UNKNOWN,
                };
            }
            "document.createElement"
                if args.first().and_then(Value::as_text).is_some_and(|tag| tag.eq_ignore_ascii_case("script")) =>
            {
                self.report(rules::dynamic_code, self.syntax.range(id), "a script is put into the page");
            }
            "Function()()" => return Value::known("globalThis"),
            "process.binding" | "process._linkedBinding" | "internalBinding" => {
                self.used(path, Trigger::Called, callee);
                return match args.first() {
                    Some(Value::Str(name)) if &**name == "spawn_sync" || &**name == "process_wrap" => {
                        self.used("child_process", Trigger::Imported, id);
                        Value::known("child_process")
                    }
                    Some(Value::Str(name)) if &**name == "fs" => Value::known("fs"),
                    Some(Value::Str(name)) if &**name == "contextify" => Value::known("vm"),
                    _ => Value::UNKNOWN,
                };
            }
            _ => {}
        }
        if path.starts_with("process.stdin.") {
            self.need(NeedKind::Stdin, self.syntax.range(callee));
        }
        self.check_idioms(path, args, id);
        if let Some(function) = path.strip_prefix("fs.").or_else(|| path.strip_prefix("fs/promises.")) {
            self.call_fs(function, args, id);
        }
        self.note_hosts(path, args, id);
        if path == "js-yaml.load" {
            return Value::UNKNOWN;
        }
        self.used(path, Trigger::Called, callee);
        if let Some(value) = self.fold(path, this, args, id, new) {
            return value;
        }
        for arg in args {
            match arg {
                // Passed on, it may be called.
                Value::Known(inner)
                    if !known::is_object(inner)
                        && &**inner != "Function"
                        && !inner.ends_with("[?]")
                        && !inner.starts_with("process.env") =>
                {
                    let inner = inner.clone();
                    self.used(&inner, Trigger::Called, callee);
                }
                Value::Bound(bound) => {
                    if let Value::Known(inner) = &bound.0 {
                        let inner = inner.clone();
                        self.used(&inner, Trigger::Called, callee);
                    }
                }
                _ => {}
            }
            self.escape(arg);
        }
        self.result(path, args)
    }

    /// The node of what is called, to point at.
    fn callee(&self, id: Id) -> Id {
        use super::syntax::{F, NONE};
        let callee = match self.syntax.field(id, F::Function) {
            NONE => self.syntax.field(id, F::Constructor),
            callee => callee,
        };
        if callee == NONE { id } else { callee }
    }

    fn call_timer(&mut self, path: &str, args: &[Value], id: Id) {
        let callee = self.callee(id);
        for value in args.first().map(|value| value.alternatives().to_vec()).unwrap_or_default() {
            match &value {
                Value::Str(_) => {
                    let message = format!("`{path}` is given a text, which it runs as code");
                    self.report(rules::dynamic_code, self.syntax.range(id), &message);
                }
                Value::Unknown(taint) if taint & TEXT != 0 => {
                    let message = format!("`{path}` is given a text, which it runs as code");
                    self.report(rules::dynamic_code, self.syntax.range(id), &message);
                }
                Value::Known(inner) => {
                    let inner = inner.clone();
                    self.used(&inner, Trigger::Called, callee);
                }
                Value::Bound(_) | Value::Func(_) => {
                    let rest: Vec<Value> = args.get(2..).unwrap_or_default().to_vec();
                    self.escape(&value);
                    self.call(&value, Value::known("globalThis"), &rest, id, false);
                }
                _ => {}
            }
        }
        for arg in args.iter().skip(1) {
            self.escape(arg);
        }
    }

    fn call_fs(&mut self, function: &str, args: &[Value], id: Id) {
        let Some(mut kind) = touch(function) else { return };
        if matches!(function, "open" | "openSync")
            && args.get(1).and_then(Value::as_text).is_some_and(|flags| !flags.starts_with('r') || flags.contains('+'))
        {
            kind = Touch::Write;
        }
        let two = matches!(
            function.strip_suffix("Sync").unwrap_or(function),
            "rename" | "copyFile" | "cp" | "symlink" | "link" | "copy" | "move"
        );
        let range = self.syntax.range(id);
        for at in 0..if two { 2 } else { 1 } {
            let path = args.get(at).cloned().unwrap_or(Value::UNKNOWN);
            for path in path.alternatives() {
                let need = |path: Option<String>| match kind {
                    Touch::Write
                        if !(at == 0 && matches!(function, "copyFile" | "copyFileSync" | "cp" | "cpSync" | "copy")) =>
                    {
                        NeedKind::Write(path)
                    }
                    _ => NeedKind::Read(path),
                };
                let verb = if kind == Touch::Read { "reads" } else { "changes" };
                match path {
                    Value::Num(fd) if *fd < 3.0 => {
                        if *fd == 0.0 && kind == Touch::Read {
                            self.need(NeedKind::Stdin, range.clone());
                        }
                    }
                    Value::Num(_) => {}
                    Value::Known(known)
                        if matches!(&**known, "process.stdin.fd" | "process.stdout.fd" | "process.stderr.fd") =>
                    {
                        self.need(NeedKind::Stdin, range.clone());
                    }
                    Value::Known(known) if matches!(&**known, "__filename") && kind == Touch::Read => {}
                    Value::Known(known) if known.contains("open") && known.ends_with("()") => {}
                    Value::Str(text) if is_stream(text) => {
                        if text.contains("stdin") || text.ends_with("fd/0") {
                            self.need(NeedKind::Stdin, range.clone());
                        }
                    }
                    Value::Str(text) => {
                        self.need(need(Some(text.to_string())), range.clone());
                        let shown: String = text.chars().take(60).collect();
                        if is_credential(text) {
                            let message = format!("`fs.{function}` {verb} `{shown}`, where credentials are kept");
                            self.report(rules::environment_access, range.clone(), &message);
                        }
                        let message = format!("`fs.{function}` {verb} `{shown}`");
                        if is_outside(text) {
                            self.report(rules::file_access, range.clone(), &message);
                        } else {
                            self.report_as(rules::file_access, Severity::Warning, range.clone(), &message);
                        }
                    }
                    _ => {
                        self.need(need(None), range.clone());
                        let message = format!("`fs.{function}` {verb} a file whose name is computed");
                        self.report_as(rules::file_access, Severity::Warning, range.clone(), &message);
                    }
                }
            }
        }
    }

    /// Notes which hosts are talked to.
    fn note_hosts(&mut self, path: &str, args: &[Value], id: Id) {
        let range = self.syntax.range(id);
        let by_url = matches!(
            path,
            "fetch"
                | "WebSocket"
                | "EventSource"
                | "http.get"
                | "http.request"
                | "https.get"
                | "https.request"
                | "http2.connect"
                | "XMLHttpRequest().open"
                | "axios"
                | "axios.get"
                | "axios.post"
                | "node-fetch"
                | "navigator.sendBeacon"
                | "got"
                | "needle"
                | "request"
                | "superagent.get"
                | "superagent.post"
                | "ws"
        );
        if by_url {
            let place = usize::from(path == "XMLHttpRequest().open");
            let host = match args.get(place) {
                Some(Value::Str(url)) => host_of(url),
                Some(options @ Value::Object(_)) => {
                    let host = self.get(options, &Value::text("hostname"), id);
                    let host =
                        if host.as_text().is_some() { host } else { self.get(options, &Value::text("host"), id) };
                    host.as_text().map(|host| host.to_string())
                }
                _ => None,
            };
            self.need(NeedKind::Net(host), range);
        } else if matches!(path, "net.connect" | "net.createConnection" | "tls.connect" | "net.Socket().connect") {
            let (host, port) = match args.first() {
                Some(options @ Value::Object(_)) => {
                    (self.get(options, &Value::text("host"), id), self.get(options, &Value::text("port"), id))
                }
                Some(port) => (args.get(1).cloned().unwrap_or_else(|| Value::text("localhost")), port.clone()),
                None => (Value::UNKNOWN, Value::UNKNOWN),
            };
            let host = host.as_text().map(|host| match self.to_text(&port) {
                Some(port) if matches!(port.len(), 1..=5) => format!("{host}:{port}"),
                _ => host.to_string(),
            });
            self.need(NeedKind::Net(host), range);
        }
    }

    /// Combinations that only malware has a use for.
    fn check_idioms(&mut self, path: &str, args: &[Value], id: Id) {
        let root = path.split(['.', '(']).next().unwrap_or(path);
        let range = self.syntax.range(id);
        let network = matches!(
            root,
            "fetch"
                | "http"
                | "https"
                | "net"
                | "tls"
                | "dgram"
                | "dns"
                | "axios"
                | "got"
                | "request"
                | "WebSocket"
                | "XMLHttpRequest"
                | "navigator"
                | "node-fetch"
                | "needle"
                | "ws"
        );
        if network {
            let taint = self.deep_taints(args);
            if taint & ENVIRONMENT != 0 {
                self.report(rules::malicious_idiom, range, "what is in the environment is sent over the network");
                return;
            }
            if taint & FILE != 0 {
                self.report(rules::malicious_idiom, range, "the content of a file is sent over the network");
                return;
            }
            if path.ends_with(".pipe")
                && args.iter().any(|arg| arg.path().is_some_and(|path| path.starts_with("child_process")))
            {
                self.report(rules::malicious_idiom, range, "a connection is given to another program: a reverse shell");
                return;
            }
        }
        if path.starts_with("child_process.") && path.ends_with(".pipe") {
            let to_network = args
                .iter()
                .any(|arg| arg.path().is_some_and(|path| path.starts_with("net.") || path.starts_with("tls.")));
            if to_network {
                self.report(rules::malicious_idiom, range, "another program is given a connection: a reverse shell");
                return;
            }
        }
        let runs = matches!(path, "eval" | "Function") || root == "vm" || root == "child_process";
        if runs && self.taints(args) & NETWORK != 0 {
            self.report(rules::malicious_idiom, range, "what comes from the network is run");
        }
    }

    fn deep_taints(&self, args: &[Value]) -> u8 {
        args.iter().take(16).fold(0, |all, arg| {
            let inner = match arg {
                Value::Object(at) => self
                    .objects
                    .get(*at)
                    .map_or(0, |object| object.names().take(32).fold(0, |all, (_, value)| all | self.taint(value))),
                _ => 0,
            };
            all | inner | self.taint(arg)
        })
    }
}

/// The host of a URL, with its port where it says one.
fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let host = rest.split(['/', '?', '#']).next()?;
    let host = host.rsplit('@').next()?;
    (!host.is_empty()).then(|| host.chars().take(253).collect())
}
