//! Names of the language, of Node's modules and of browsers, and what their parts are called.

use super::value::Value;

/// Modules that are the same as others.
fn canonical(name: &str) -> &str {
    match name {
        "fs-extra" | "graceful-fs" | "original-fs" | "fs-jetpack" | "mz/fs" | "pn/fs" => "fs",
        "mz/child_process" | "child-process-promise" => "child_process",
        "module" => "Module",
        "util/types" => "util",
        "path/posix" | "path/win32" => "path",
        "assert/strict" => "assert",
        "sys" => "util",
        other => other,
    }
}

/// Modules that come with Node.
pub(super) fn is_builtin(name: &str) -> bool {
    matches!(
        name.split('/').next().unwrap_or(name),
        "assert"
            | "async_hooks"
            | "buffer"
            | "child_process"
            | "cluster"
            | "console"
            | "constants"
            | "crypto"
            | "dgram"
            | "diagnostics_channel"
            | "dns"
            | "domain"
            | "events"
            | "fs"
            | "http"
            | "http2"
            | "https"
            | "inspector"
            | "module"
            | "net"
            | "os"
            | "path"
            | "perf_hooks"
            | "process"
            | "punycode"
            | "querystring"
            | "readline"
            | "repl"
            | "sqlite"
            | "stream"
            | "string_decoder"
            | "sys"
            | "test"
            | "timers"
            | "tls"
            | "trace_events"
            | "tty"
            | "url"
            | "util"
            | "v8"
            | "vm"
            | "wasi"
            | "worker_threads"
            | "zlib"
    )
}

/// What importing a module of that name gives.
pub(super) fn module(name: &str) -> Value {
    match canonical(name) {
        // These are functions themselves, or reach globals.
        "timers" | "console" => Value::known("globalThis"),
        name => Value::known(name),
    }
}

/// What a name means that the script does not declare.
pub(super) fn global(name: &str) -> Option<Value> {
    Some(match name {
        "globalThis" | "global" | "window" | "self" | "top" | "parent" | "frames" | "GLOBAL" | "root" => {
            Value::known("globalThis")
        }
        "Infinity" => Value::Num(f64::INFINITY),
        "NaN" => Value::Num(f64::NAN),
        "undefined" => Value::Undefined,
        "eval" | "Function" | "require" | "module" | "exports" | "process" | "Buffer" | "setTimeout"
        | "setInterval" | "setImmediate" | "queueMicrotask" | "fetch" | "XMLHttpRequest" | "WebSocket"
        | "EventSource" | "navigator" | "document" | "WebAssembly" | "Worker" | "SharedWorker" | "importScripts"
        | "atob" | "btoa" | "unescape" | "escape" | "decodeURIComponent" | "decodeURI" | "encodeURI"
        | "encodeURIComponent" | "String" | "Array" | "Object" | "Number" | "Boolean" | "Symbol" | "BigInt"
        | "RegExp" | "Math" | "JSON" | "Reflect" | "Proxy" | "Promise" | "Date" | "Map" | "Set" | "WeakMap"
        | "WeakSet" | "WeakRef" | "parseInt" | "parseFloat" | "isNaN" | "isFinite" | "console" | "Error"
        | "TypeError" | "RangeError" | "SyntaxError" | "Uint8Array" | "Uint8ClampedArray" | "Int8Array"
        | "Uint16Array" | "Int16Array" | "Uint32Array" | "Int32Array" | "Float32Array" | "Float64Array"
        | "BigInt64Array" | "BigUint64Array" | "TextDecoder" | "TextEncoder" | "__dirname" | "__filename"
        | "location" | "localStorage" | "sessionStorage" | "Deno" | "Bun" | "execScript" | "performance" | "crypto"
        | "ActiveXObject" | "WScript" | "internalBinding" | "structuredClone" | "Intl" | "Atomics"
        | "SharedArrayBuffer" | "ArrayBuffer" | "DataView" | "URL" | "URLSearchParams" | "AbortController"
        | "WebTransport" | "RTCPeerConnection" | "Iterator" | "indexedDB" | "CoinHive" | "CoinImp" | "primordials"
        | "getBuiltin" | "GM_xmlhttpRequest" | "chrome" | "browser" | "Response" | "Request" => Value::known(name),
        _ => return None,
    })
}

/// Whether a path is an object, as opposed to a function.
pub(super) fn is_object(path: &str) -> bool {
    matches!(
        path,
        "Math"
            | "JSON"
            | "globalThis"
            | "process"
            | "console"
            | "module"
            | "exports"
            | "Reflect"
            | "Atomics"
            | "Intl"
            | "WebAssembly"
            | "navigator"
            | "document"
            | "process.env"
            | "process.argv"
            | "process.versions"
            | "location"
            | "localStorage"
            | "module.exports"
            | "performance"
            | "crypto"
            | "Deno"
            | "Bun"
    ) || path.ends_with(".prototype")
        || path.ends_with("()")
        || (is_builtin(path) && !matches!(path, "assert" | "events" | "stream"))
}

/// Where a computed name that cannot be told matters.
pub(super) fn is_gate(path: &str) -> bool {
    matches!(path, "globalThis" | "process" | "module" | "require" | "Module" | "child_process" | "vm")
}

/// What `path.name` is.
pub(super) fn member(path: &str, name: &str) -> Value {
    match (path, name) {
        ("globalThis", _) => global(name).unwrap_or(Value::UNKNOWN),
        ("module", "constructor" | "Module") | ("Module", "Module" | "default") => Value::known("Module"),
        ("module", "require") | ("Module.prototype", "require") | ("import.meta", "require") => Value::known("require"),
        ("module", "parent" | "root" | "children") | ("require", "main") | ("process", "mainModule") => {
            Value::known("module")
        }
        ("module", "0") => Value::known("module"),
        ("fs", "promises") => Value::known("fs/promises"),
        ("dns", "promises") => Value::known("dns/promises"),
        ("fs/promises", "constants") => Value::known("fs.constants"),
        ("document", "defaultView") => Value::known("globalThis"),
        ("buffer", "Buffer") => Value::known("Buffer"),
        ("buffer", "atob" | "btoa") | ("url", "URL" | "URLSearchParams") | ("util", "TextDecoder" | "TextEncoder") => {
            Value::known(name)
        }
        ("process", "process") => Value::known("process"),
        ("?", "constructor") => Value::known("?.constructor"),
        ("?.constructor", "constructor") => Value::known("Function"),
        (_, "default") if is_builtin(path) || path == "Module" => Value::known(path),
        (_, "constructor") => {
            if let Some(of) = path.strip_suffix(".prototype") {
                Value::known(of)
            } else if is_object(path) {
                Value::known("Object")
            } else {
                Value::known("Function")
            }
        }
        (_, "__proto__") => Value::known(if is_object(path) { "Object.prototype" } else { "Function.prototype" }),
        _ => Value::known(&format!("{path}.{name}")),
    }
}

/// What a native function prints as; `None` if the path is no function of the language.
pub(super) fn function_text(path: &str) -> Option<String> {
    if is_object(path) {
        return None;
    }
    let name = path.rsplit('.').next().unwrap_or(path);
    Some(format!("function {name}() {{ [native code] }}"))
}

/// Whether values of a class of the language have a method of that name.
pub(super) fn has_method(class: &str, name: &str) -> bool {
    let of_all = matches!(
        name,
        "toString" | "valueOf" | "hasOwnProperty" | "toLocaleString" | "isPrototypeOf" | "propertyIsEnumerable"
    );
    let own = match class {
        "String" => matches!(
            name,
            "at" | "charAt"
                | "charCodeAt"
                | "codePointAt"
                | "concat"
                | "endsWith"
                | "includes"
                | "indexOf"
                | "lastIndexOf"
                | "localeCompare"
                | "match"
                | "matchAll"
                | "normalize"
                | "padEnd"
                | "padStart"
                | "repeat"
                | "replace"
                | "replaceAll"
                | "search"
                | "slice"
                | "split"
                | "startsWith"
                | "substr"
                | "substring"
                | "toLowerCase"
                | "toUpperCase"
                | "trim"
                | "trimEnd"
                | "trimStart"
                | "trimLeft"
                | "trimRight"
                | "anchor"
                | "big"
                | "blink"
                | "bold"
                | "fixed"
                | "fontcolor"
                | "fontsize"
                | "italics"
                | "link"
                | "small"
                | "strike"
                | "sub"
                | "sup"
        ),
        "Number" => matches!(name, "toFixed" | "toPrecision" | "toExponential"),
        "Array" | "Buffer" => matches!(
            name,
            "at" | "concat"
                | "copyWithin"
                | "entries"
                | "every"
                | "fill"
                | "filter"
                | "find"
                | "findIndex"
                | "findLast"
                | "findLastIndex"
                | "flat"
                | "flatMap"
                | "forEach"
                | "includes"
                | "indexOf"
                | "join"
                | "keys"
                | "lastIndexOf"
                | "map"
                | "pop"
                | "push"
                | "reduce"
                | "reduceRight"
                | "reverse"
                | "shift"
                | "slice"
                | "some"
                | "sort"
                | "splice"
                | "unshift"
                | "values"
                | "toReversed"
                | "toSorted"
                | "toSpliced"
                | "with"
                | "subarray"
                | "set"
                | "readUInt8"
                | "write"
                | "equals"
                | "copy"
        ),
        "RegExp" => matches!(name, "exec" | "test" | "compile"),
        _ => false,
    };
    of_all || own
}

/// Whether what a call of this path returns is worth knowing by its path.
pub(super) fn keeps_result(path: &str) -> bool {
    let root = path.split(['.', '(']).next().unwrap_or(path);
    is_builtin(root)
        || matches!(
            root,
            "Function"
                | "AsyncFunction"
                | "GeneratorFunction"
                | "AsyncGeneratorFunction"
                | "fetch"
                | "XMLHttpRequest"
                | "WebSocket"
                | "TextDecoder"
                | "TextEncoder"
                | "Worker"
                | "WebAssembly"
                | "Deno"
                | "Bun"
                | "document"
                | "ActiveXObject"
                | "Module"
                | "?"
        )
}
