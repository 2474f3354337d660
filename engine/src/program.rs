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
/// Most a function may [`cost`]. The largest of CPython's functions costs a twentieth of it.
const MAX_COST: u64 = 1 << 26;
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
    let (mut foreign, mut arity) = (Vec::new(), 0);
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
                if cost(&body, arity as u64).map_err(|error| malformed(&error))? > MAX_COST {
                    return refused(
                        "one of its functions is too complex: too many local variables and branches together",
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
    let mut variables = arity;
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
