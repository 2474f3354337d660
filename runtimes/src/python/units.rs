//! Which C files the Python runtime consists of, and the files that `configure` and `make` would generate.

use std::{collections::HashMap, fs, path::Path};

use super::{flags, guest};
use crate::{
    archive,
    compile::{Unit, words},
    error::{IoContext, RuntimeError},
    folder,
};

/// The C files of the runtime, by the role of their objects.
pub(crate) struct Units {
    /// CPython and the C libraries: in the guest and in `_freeze_module`.
    pub(crate) common: Vec<Unit>,
    /// musl's mathematical functions: a library of their own, after the objects.
    pub(crate) libm: Vec<Unit>,
    /// Our own: also in both.
    pub(crate) own: Vec<Unit>,
    /// Only in `_freeze_module`.
    pub(crate) freezer: Vec<Unit>,
    /// Only in the guest; they include what `_freeze_module` makes.
    pub(crate) guest: Vec<Unit>,
}

/// What becomes of the profile (`cargo xtask profile`).
#[derive(Clone, Copy)]
pub(crate) enum Profile<'a> {
    /// It guides the compiler.
    Use,
    /// The guest counts what it runs, with this C file.
    Make(&'a str),
}

impl Units {
    /// Lists the units of the sources unpacked in `folder`, and writes the generated files there.
    pub(crate) fn new(folder: &Path, profile: Profile<'_>) -> Result<Self, RuntimeError> {
        generate(folder)?;
        let mut common = cpython()?;
        let core = words(flags::CORE);
        let with = |more: &[&str]| core.iter().cloned().chain(more.iter().map(|flag| (*flag).to_owned())).collect();
        common.push(unit("src/Python/sysmodule.c", "Python__sysmodule", with(flags::SYSMODULE)));
        common.push(unit("src/Modules/getbuildinfo.c", "Modules__getbuildinfo", with(flags::BUILDINFO)));
        libraries(folder, &mut common)?;
        let mut libm = libm(folder)?;
        let mut own = vec![
            unit("gen/stubs.c", "stubs", core.clone()),
            unit("gen/base64.c", "base64", core.clone()),
            unit("gen/format.c", "format", core.clone()),
            unit("gen/sha1.c", "sha1", core.clone()),
            unit("gen/sha256.c", "sha256", core.clone()),
            unit("gen/memory.c", "memory", with(flags::MEMORY)),
        ];
        write_profile(folder, profile)?;
        let profiled = common.iter_mut().chain(&mut libm);
        match profile {
            Profile::Use => profiled
                .filter(|unit| unit.source != flags::PROFILE_SKIPPED)
                .for_each(|unit| unit.flags.extend(words(flags::PROFILE_USE))),
            Profile::Make(_) => {
                profiled.for_each(|unit| unit.flags.extend(words(flags::PROFILE_MAKE)));
                own.push(unit("gen/profile.c", "profile", core.clone()));
            }
        }
        Ok(Self {
            common,
            libm,
            own,
            freezer: vec![
                unit("src/Programs/_freeze_module.c", "freezer", core.clone()),
                unit("src/Modules/getpath_noop.c", "getpath_noop", core.clone()),
            ],
            guest: vec![
                unit("src/Python/frozen.c", "frozen", with(&["-Igen/Python"])),
                unit("src/Modules/getpath.c", "getpath", with(flags::GETPATH)),
                unit("gen/guest.c", "guest", core.clone()),
                unit("gen/image.c", "image", core.clone()),
                unit("gen/output.c", "output", core.clone()),
                unit("gen/pages.c", "pages", core.clone()),
            ],
        })
    }
}

/// Writes the profile, or the file that makes one.
fn write_profile(folder: &Path, profile: Profile<'_>) -> Result<(), RuntimeError> {
    match profile {
        Profile::Use => {
            let bytes = archive::unpack_xz(guest::PROFILE).context("unpack", Path::new("python.profdata.xz"))?;
            folder::write_if_changed(&folder.join("python.profdata"), &bytes)
        }
        Profile::Make(source) => folder::write_if_changed(&folder.join("gen/profile.c"), source.as_bytes()),
    }
}

fn unit(source: &str, object: &str, flags: Vec<String>) -> Unit {
    Unit { source: source.to_owned(), object: format!("obj/{object}.o"), flags }
}

/// The files of `sources.txt`: lines of flags (`# …`) before the files they are for.
fn cpython() -> Result<Vec<Unit>, RuntimeError> {
    let mut units = Vec::new();
    let mut group = Vec::new();
    for line in guest::SOURCES.lines() {
        if let Some(line) = line.strip_prefix('#') {
            group = group_flags(line);
        } else if !matches!(line, "" | "Python/frozen.c" | "Programs/python.c") {
            let source = if line == "Modules/config.c" { format!("gen/{line}") } else { format!("src/{line}") };
            let object = line
                .strip_suffix(".c")
                .ok_or(RuntimeError::Source { file: "sources.txt".to_owned(), reason: "names only C files" })?;
            let mut own = group.clone();
            let more = match line {
                "Modules/posixmodule.c" => flags::POSIXMODULE,
                "Modules/signalmodule.c" => flags::SIGNALMODULE,
                "Objects/unicodeobject.c" => flags::UNICODEOBJECT,
                _ => &[],
            };
            own.extend(more.iter().map(|flag| (*flag).to_owned()));
            units.push(unit(&source, &object.replace('/', "__"), own));
        }
    }
    Ok(units)
}

/// A line of flags as `make` had them, with the include folders of our build instead of its own.
fn group_flags(line: &str) -> Vec<String> {
    let foreign = ["-IObjects", "-IInclude", "-IPython", "-I.", "-Iclibs"];
    let of_make = line.split_whitespace().filter(|flag| !foreign.iter().any(|begin| flag.starts_with(begin)));
    let ours = |flag: &str| match flag.starts_with("-DPLATFORM") {
        true => "-DPLATFORM=\"wasi\"".to_owned(),
        false => flag.replace("SRC/", "src/"),
    };
    let more = flags::GROUPS.iter().copied().chain(flags::REDIRECTED.split(' '));
    of_make.map(ours).chain(more.map(str::to_owned)).collect()
}

fn libraries(folder: &Path, units: &mut Vec<Unit>) -> Result<(), RuntimeError> {
    let mut add = |tag: &str, files: Vec<String>, flags: Vec<String>| {
        units.extend(files.iter().map(|file| unit(file, &format!("{tag}__{}", stem(file)), flags.clone())));
    };
    let named = |folder: &str, names: &str| names.split(' ').map(|name| format!("{folder}/{name}.c")).collect();

    add("zlib", named("crates/zlib/src/zlib", flags::ZLIB_FILES), words(flags::ZLIB_FLAGS));
    add("bz2", named("crates/bzip2/bzip2-1.0.8", flags::BZIP2_FILES), words(flags::BZIP2_FLAGS));

    let mut xz = Vec::new();
    for part in flags::XZ_FOLDERS.split(' ') {
        xz.extend(c_files(folder, &format!("crates/xz/xz/src/liblzma/{part}"))?.into_iter().filter(|file| {
            let name = stem(file);
            !(name.ends_with("mt")
                || name.ends_with("_tablegen")
                || name.contains("small")
                || name.contains("crc_clmul"))
        }));
    }
    xz.extend(["physmem", "cpucores"].map(|name| format!("crates/xz/xz/src/common/tuklib_{name}.c")));
    let mut xz_flags = words(flags::XZ_FLAGS);
    xz_flags.extend(["-Icrates/xz".to_owned(), "-Icrates/xz/xz/src/common".to_owned()]);
    xz_flags.extend(flags::XZ_INCLUDES.split(' ').map(|part| format!("-Icrates/xz/xz/src/liblzma/{part}")));
    add("xz", xz, xz_flags);

    let redirected = |flags: &str| words(flags::REDIRECTED).into_iter().chain(words(flags)).collect();
    add("sqlite", vec!["crates/sqlite/sqlite3/sqlite3.c".to_owned()], redirected(flags::SQLITE_FLAGS));
    add("tz", named("musl/src/time", flags::TZ_FILES), redirected(flags::TZ_FLAGS));
    Ok(())
}

fn libm(folder: &Path) -> Result<Vec<Unit>, RuntimeError> {
    let skipped = |file: &String| {
        let name = stem(file);
        flags::LIBM_SKIPPED.split(' ').any(|one| name == one || name.strip_suffix('f') == Some(one))
    };
    let files = c_files(folder, "musl/src/math")?.into_iter().filter(|file| !skipped(file));
    Ok(files.map(|file| unit(&file, &format!("m__{}", stem(&file)), words(flags::LIBM_FLAGS))).collect())
}

fn stem(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.strip_suffix(".c").unwrap_or(name)
}

/// The C files of a folder, in order of their names.
fn c_files(folder: &Path, relative: &str) -> Result<Vec<String>, RuntimeError> {
    let path = folder.join(relative);
    let mut files = Vec::new();
    for entry in fs::read_dir(&path).context("list", &path)? {
        let name = entry.context("list", &path)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".c") {
            files.push(format!("{relative}/{name}"));
        }
    }
    files.sort();
    Ok(files)
}

/// Writes pyconfig.h, config.c, our own C files and the headers of the C libraries.
fn generate(folder: &Path) -> Result<(), RuntimeError> {
    let read = |relative: &str| {
        let path = folder.join(relative);
        fs::read_to_string(&path).context("read", &path)
    };
    let write =
        |relative: &str, text: &str| folder::write_if_changed(&folder.join("gen").join(relative), text.as_bytes());
    folder::create(&folder.join("obj"))?;
    write("pyconfig.h", &pyconfig(&read("src/pyconfig.h.in")?))?;
    write("Modules/config.c", &config_c(&read("src/Modules/config.c.in")?)?)?;
    write("guest.c", guest::GUEST_C)?;
    write("image.c", guest::IMAGE_C)?;
    write("image.h", guest::IMAGE_H)?;
    write("output.c", guest::OUTPUT_C)?;
    write("output.h", guest::OUTPUT_H)?;
    write("pages.c", guest::PAGES_C)?;
    write("pages.h", guest::PAGES_H)?;
    write("memory.c", guest::MEMORY_C)?;
    write("base64.c", guest::BASE64_C)?;
    write("format.c", guest::FORMAT_C)?;
    write("sha1.c", guest::SHA1_C)?;
    write("sha256.c", guest::SHA256_C)?;
    write("stubs.c", guest::STUBS_C)?;
    write("mshim/features.h", flags::LIBM_FEATURES_H)?;
    write("mshim/atomic.h", flags::LIBM_ATOMIC_H)?;
    for [name, text] in flags::TZ_HEADERS {
        write(&format!("tzshim/{name}"), text)?;
    }

    let headers = [
        "crates/zlib/src/zlib/zlib.h",
        "crates/zlib/src/zlib/zconf.h",
        "crates/bzip2/bzip2-1.0.8/bzlib.h",
        "crates/sqlite/sqlite3/sqlite3.h",
    ];
    for header in headers {
        let name = header.rsplit('/').next().unwrap_or(header);
        write(&format!("include/{name}"), &read(header)?)?;
    }
    let api = "crates/xz/xz/src/liblzma/api";
    write("include/lzma.h", &read(&format!("{api}/lzma.h"))?)?;
    let parts = folder.join(api).join("lzma");
    for entry in fs::read_dir(&parts).context("list", &parts)? {
        let name = entry.context("list", &parts)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".h") {
            write(&format!("include/lzma/{name}"), &read(&format!("{api}/lzma/{name}"))?)?;
        }
    }
    Ok(())
}

/// What `configure` makes of `pyconfig.h.in`: `#undef NAME` becomes a definition where ours has one.
fn pyconfig(template: &str) -> String {
    let defines: HashMap<&str, &str> = guest::PYCONFIG
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .filter(|(name, _)| !flags::PYCONFIG_UNDEFINED.contains(name))
        .collect();
    let mut out = String::with_capacity(template.len());
    for line in template.lines() {
        let undef = line.strip_prefix('#').and_then(|rest| rest.trim_start().strip_prefix("undef"));
        match undef.and_then(|rest| rest.split_whitespace().next()) {
            None => out.push_str(line),
            Some(name) => match defines.get(name) {
                Some(value) => out.push_str(&format!("#define {name} {value}")),
                None => out.push_str(&format!("/* #undef {name} */")),
            },
        }
        out.push('\n');
    }
    out
}

/// What `makesetup` makes of `config.c.in`: the table of the modules linked in.
fn config_c(template: &str) -> Result<String, RuntimeError> {
    let modules: Vec<&str> =
        guest::BUILTIN_MODULES.split_whitespace().filter(|name| !flags::CONFIG_BUILTIN.contains(name)).collect();
    let declarations: String = modules.iter().map(|name| format!("extern PyObject* PyInit_{name}(void);\n")).collect();
    let table: String = modules.iter().map(|name| format!("    {{\"{name}\", PyInit_{name}}},\n")).collect();
    let mut text = template.to_owned();
    for (marker, lines) in [("/* -- ADDMODULE MARKER 1 -- */", declarations), ("/* -- ADDMODULE MARKER 2 -- */", table)]
    {
        if !text.contains(marker) {
            return Err(RuntimeError::Source {
                file: "src/Modules/config.c.in".to_owned(),
                reason: "no marker for modules",
            });
        }
        text = text.replace(marker, &lines);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_sources_is_understood() {
        let units = cpython().unwrap();
        assert!(units.len() > 240, "{}", units.len());
        let of = |object: &str| units.iter().find(|unit| unit.object == object).unwrap();
        assert_eq!(of("obj/Modules__config.o").source, "gen/Modules/config.c");
        let ceval = of("obj/Python__ceval.o");
        assert_eq!(ceval.source, "src/Python/ceval.c");
        assert!(
            ceval.flags.contains(&"-Isrc/Include/internal".to_owned()) && ceval.flags.contains(&"-Igen".to_owned())
        );
        assert!(!ceval.flags.contains(&"-I.".to_owned()));
        let mut objects: Vec<&String> = units.iter().map(|unit| &unit.object).collect();
        objects.sort();
        objects.dedup();
        assert_eq!(objects.len(), units.len(), "two units write one object");
    }

    #[test]
    fn pyconfig_defines_what_is_listed() {
        let out = pyconfig("#undef HAVE_ACCEPT\n# undef HAVE_DLOPEN\n#undef NOT_LISTED\n#ifdef X\n#endif\n");
        assert_eq!(out, "#define HAVE_ACCEPT 1\n/* #undef HAVE_DLOPEN */\n/* #undef NOT_LISTED */\n#ifdef X\n#endif\n");
    }

    #[test]
    fn config_c_needs_its_markers() {
        let out = config_c("a\n/* -- ADDMODULE MARKER 1 -- */\nb\n/* -- ADDMODULE MARKER 2 -- */\n").unwrap();
        assert!(out.contains("extern PyObject* PyInit__json(void);") && out.contains("{\"_json\", PyInit__json},"));
        assert!(!out.contains("PyInit_sys,"));
        assert!(config_c("nothing").is_err());
    }
}
