//! WebAssembly programs: WASI preview 1 commands, compiled from any language, that run in place of a script.
//!
//! Compiling one is work for the host that no limit of the run covers, so it is bounded beforehand: by the size of the
//! module and by what its functions cost a compiler ([`cost`]).

use std::borrow::Cow;

use wasmparser::{BinaryReaderError, CompositeInnerType, Encoding, Operator, Parser, Payload, TypeRef};

use crate::error::EngineError;
use crate::fence::{MAX_TABLE_ELEMENTS, WASI};

/// Largest module, in bytes, and largest text.
const MAX_PROGRAM: usize = 32 << 20;
/// Most functions a module may define.
const MAX_FUNCTIONS: u32 = 100_000;
/// Largest body of one function, in bytes.
const MAX_BODY: usize = 2 << 20;
/// Most a function may [`cost`], and all together: CPython's largest costs a thirtieth of it, all of CPython a fifth.
/// The worst that was found took 300 MiB and 20 s of a processor.
const MAX_COST: u64 = 1 << 23;
const MAX_TOTAL_COST: u64 = 1 << 26;
/// What a command exports for the host to call.
pub(crate) const START: &str = "_start";
const WASM_PAGE: u64 = 65_536;
/// Imports that are named in a message.
const NAMED_IMPORTS: usize = 5;

/// A module that may be compiled.
pub(crate) struct Program<'a> {
    pub(crate) wasm: Cow<'a, [u8]>,
    /// Bytes of memory it starts with.
    pub(crate) memory_bytes: u64,
}

fn refused<T>(reason: impl Into<String>, hint: Option<&str>) -> Result<T, EngineError> {
    Err(EngineError::InvalidProgram { reason: reason.into(), hint: hint.map(str::to_owned) })
}

fn malformed(error: &BinaryReaderError) -> EngineError {
    EngineError::InvalidProgram {
        reason: format!("it is not a WebAssembly module: {error}"),
        hint: Some("was it built for `wasm32-wasip1`, and is the file complete?".into()),
    }
}

/// Whether bytes are a WebAssembly module or component.
pub(crate) fn is_binary(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm")
}

/// Reads a module, or its text form, and looks whether it can be run.
pub(crate) fn read(source: &[u8]) -> Result<Program<'_>, EngineError> {
    if source.len() > MAX_PROGRAM {
        return refused(format!("it is larger than {} MiB", MAX_PROGRAM >> 20), None);
    }
    let wasm = if is_binary(source) { Cow::Borrowed(source) } else { Cow::Owned(from_text(source)?) };
    let memory_bytes = check(&wasm)?;
    Ok(Program { wasm, memory_bytes })
}

fn from_text(source: &[u8]) -> Result<Vec<u8>, EngineError> {
    let Ok(text) = std::str::from_utf8(source) else {
        return refused("it is neither a WebAssembly module nor its text form", None);
    };
    wat::parse_str(text).map_err(|error| EngineError::InvalidProgram {
        reason: error.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n"),
        hint: None,
    })
}

/// Bytes of memory the module starts with, if it is one we run.
fn check(wasm: &[u8]) -> Result<u64, EngineError> {
    let (mut memory_bytes, mut starts) = (0, false);
    let (mut foreign, mut arity, mut total_cost) = (Vec::new(), 0, 0);
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(|error| malformed(&error))? {
            Payload::Version { encoding: Encoding::Component, .. } => {
                return refused(
                    "it is a WebAssembly component, and only core modules are run",
                    Some("build it for `wasm32-wasip1`"),
                );
            }
            Payload::TypeSection(section) => {
                for group in section {
                    for ty in group.map_err(|error| malformed(&error))?.types() {
                        if let CompositeInnerType::Func(ty) = &ty.composite_type.inner {
                            arity = arity.max(ty.params().len()).max(ty.results().len());
                        }
                    }
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(|error| malformed(&error))?;
                    if import.module != WASI || !matches!(import.ty, TypeRef::Func(_)) {
                        foreign.push(format!("`{}.{}`", import.module.escape_debug(), import.name.escape_debug()));
                    }
                }
            }
            Payload::FunctionSection(section) if section.count() > MAX_FUNCTIONS => {
                return refused(format!("it has more than {MAX_FUNCTIONS} functions"), None);
            }
            Payload::TableSection(section) => {
                for table in section {
                    let initial = table.map_err(|error| malformed(&error))?.ty.initial;
                    if initial > MAX_TABLE_ELEMENTS as u64 {
                        return refused(
                            format!("its table has {initial} elements, more than {MAX_TABLE_ELEMENTS}"),
                            None,
                        );
                    }
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory.map_err(|error| malformed(&error))?;
                    memory_bytes = memory.initial.saturating_mul(WASM_PAGE);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    starts |= export.map_err(|error| malformed(&error))?.name == START;
                }
            }
            Payload::CodeSectionEntry(body) => {
                if body.range().len() > MAX_BODY {
                    return refused(format!("one of its functions is larger than {} MiB", MAX_BODY >> 20), None);
                }
                let cost = cost(&body, arity as u64).map_err(|error| malformed(&error))?;
                total_cost = cost.saturating_add(total_cost);
                if cost > MAX_COST || total_cost > MAX_TOTAL_COST {
                    return refused(
                        "its functions are too complex: too many local variables and branches together",
                        Some("build it with optimisation"),
                    );
                }
            }
            _ => {}
        }
    }
    if !foreign.is_empty() {
        let more = foreign.len().saturating_sub(NAMED_IMPORTS);
        foreign.truncate(NAMED_IMPORTS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return refused(
            format!("it imports what is not there: {}{more}", foreign.join(", ")),
            Some("a program may import functions of `wasi_snapshot_preview1` only: build it for `wasm32-wasip1`"),
        );
    }
    if !starts {
        return refused(
            format!("it is not a command: it exports no `{START}`"),
            Some("build a program, not a library"),
        );
    }
    Ok(memory_bytes)
}

/// What a function costs a compiler that turns local variables into single assignments: for each place where control
/// flow meets, one value per variable at worst. Compilers' time and memory grow with this product, not with the size.
fn cost(body: &wasmparser::FunctionBody<'_>, arity: u64) -> Result<u64, BinaryReaderError> {
    // A branch carries what its target takes, on top of what it leaves in variables.
    let mut variables = arity.saturating_mul(4);
    for local in body.get_locals_reader()? {
        variables = variables.saturating_add(u64::from(local?.0));
    }
    let mut joins: u64 = 1;
    for operator in body.get_operators_reader()? {
        joins = joins.saturating_add(match operator? {
            Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::Else
            | Operator::Br { .. }
            | Operator::BrIf { .. }
            | Operator::BrOnNull { .. }
            | Operator::BrOnNonNull { .. }
            | Operator::Call { .. }
            | Operator::CallIndirect { .. } => 1,
            Operator::BrTable { targets } => u64::from(targets.len()),
            _ => 0,
        });
    }
    Ok(variables.saturating_mul(joins))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND: &str = r#"(memory (export "memory") 2) (func (export "_start"))"#;

    fn refusal(source: &[u8]) -> String {
        match read(source) {
            Err(error @ EngineError::InvalidProgram { .. }) => error.to_string(),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("accepted"),
        }
    }

    #[test]
    fn modules_and_their_text_are_read() {
        let text = format!("(module {COMMAND})");
        let program = read(text.as_bytes()).unwrap();
        assert_eq!(program.memory_bytes, 2 * WASM_PAGE);
        assert_eq!(read(&program.wasm).unwrap().memory_bytes, 2 * WASM_PAGE);
    }

    #[test]
    fn what_cannot_be_run_is_told_why() {
        let nest = |count| "block ".repeat(count) + &"end ".repeat(count);
        let complex = format!(
            r#"(module (memory (export "memory") 1) (func (export "_start") (local {}) {}))"#,
            "i32 ".repeat(10_000),
            nest(1000)
        );
        for (source, reason) in [
            ("(module", "expected"),
            ("hello", "expected `(`"),
            ("\0asm\u{1}\0\0", "not a WebAssembly module"),
            ("\0asm\r\0\u{1}\0", "component"),
            (r#"(module (func (export "start")))"#, "exports no `_start`"),
            (r#"(module (import "env" "a" (func)) (func (export "_start")))"#, "`env.a`"),
            (r#"(module (import "wasi_snapshot_preview1" "m" (memory 1)) (func (export "_start")))"#, ".m`"),
            (r#"(module (table 100001 funcref) (func (export "_start")))"#, "100001 elements"),
            (&complex, "too complex"),
        ] {
            let told = refusal(source.as_bytes());
            assert!(told.contains(reason), "{source:.60}: {told}");
        }
        assert!(refusal(b"\xff\xfe").contains("neither"));
        assert!(refusal(&vec![b' '; MAX_PROGRAM + 1]).contains("larger than 32 MiB"));
        let many: String = (0..8).map(|i| format!("(import \"env\" \"f{i}\" (func))")).collect();
        assert!(refusal(format!("(module {many} {COMMAND})").as_bytes()).contains("`env.f4` and 3 more"));
    }
}
