//! The guest-side files of the Python runtime, from `runtimes/python/`.

pub(super) const GUEST_C: &str = include_str!("../../python/guest.c");
pub(super) const IMAGE_C: &str = include_str!("../../python/image.c");
pub(super) const IMAGE_H: &str = include_str!("../../python/image.h");
pub(super) const OUTPUT_C: &str = include_str!("../../python/output.c");
pub(super) const OUTPUT_H: &str = include_str!("../../python/output.h");
pub(super) const PAGES_C: &str = include_str!("../../python/pages.c");
pub(super) const PAGES_H: &str = include_str!("../../python/pages.h");
pub(super) const MEMORY_C: &str = include_str!("../../python/memory.c");
pub(super) const BASE64_C: &str = include_str!("../../python/base64.c");
pub(super) const FORMAT_C: &str = include_str!("../../python/format.c");
pub(super) const SHA1_C: &str = include_str!("../../python/sha1.c");
pub(super) const SHA256_C: &str = include_str!("../../python/sha256.c");
pub(super) const STUBS_C: &str = include_str!("../../python/stubs.c");
/// C files by set of flags.
pub(super) const SOURCES: &str = include_str!("../../python/sources.txt");
/// What `configure` would define.
pub(super) const PYCONFIG: &str = include_str!("../../python/pyconfig-defines.txt");
/// Extension modules linked in.
pub(super) const BUILTIN_MODULES: &str = include_str!("../../python/builtin-modules.txt");
/// Compiles the standard library.
pub(super) const FREEZE_PY: &str = include_str!("../../python/freeze.py");
/// How often each part of the C code runs in programs that train, for the optimiser.
pub(super) const PROFILE: &[u8] = include_bytes!("../../python/python.profdata.xz");
/// Our modules, by their place in the standard library.
pub(super) const LIB: &[(&str, &str)] = &[
    ("_capibara_boot.py", include_str!("../../python/boot.py")),
    ("_capibara_hashes.py", include_str!("../../python/sandbox_hashes.py")),
    ("_capibara_refusals.py", include_str!("../../python/sandbox_refusals.py")),
    ("capibara/__init__.py", include_str!("../../python/capibara_init.py")),
    ("capibara/_channel.py", include_str!("../../python/capibara_channel.py")),
    ("capibara/_display.py", include_str!("../../python/capibara_display.py")),
    ("capibara/_session.py", include_str!("../../python/capibara_session.py")),
    ("capibara/_tools.py", include_str!("../../python/capibara_tools.py")),
    ("asyncio/sandbox_events.py", include_str!("../../python/sandbox_events.py")),
    ("zoneinfo/sandbox_zones.py", include_str!("../../python/sandbox_zones.py")),
];
