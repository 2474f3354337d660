//! A runtime in one file, to be moved to another machine or built into a program.
//!
//! A pack is an xz-compressed tar archive that `tar` can list and unpack. Its files stand in this order:
//!
//! ```text
//! manifest.json      what the runtime is, and the digests of the two files below
//! code.wasm          the module without its memory
//! memory.img         the memory it starts from
//! sbom.cdx.json      what it was built from, in CycloneDX
//! compiled/<file>    code compiled ahead for some processor; none, or some
//! ```
//!
//! Everything is compared with the manifest before a runtime appears. Compiled code is native code that no digest of the manifest
//! covers; what becomes of it is decided by who unpacks.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    num::NonZeroU64,
    path::Path,
};

use lzma_rust2::{CheckType, XzOptions, XzReader, XzWriterMt};

use crate::{
    Language, bill,
    build::Built,
    compile, digest,
    error::{IoContext, RuntimeError},
    folder::{self, Folders, Runtime, locate},
    manifest::{Artifact, Manifest},
    progress::{Phase, Progress, in_phase},
};

const MANIFEST: &str = "manifest.json";
const CODE: &str = "code.wasm";
const IMAGE: &str = "memory.img";
const BILL: &str = "sbom.cdx.json";
const COMPILED: &str = "compiled/";

/// The most that all files of a pack may come to, in bytes. Ours come to 60 MiB.
const LARGEST: u64 = 512 << 20;
/// Bytes behind the last file: tar fills its last record.
const MOST_BEHIND: u64 = 1 << 20;
/// The most files of compiled code.
const MOST_COMPILED: usize = 16;
/// Compression of xz, 0 to 9: what a pack is read for is worth seconds of writing.
const PRESET: u32 = 9;
/// Each so many bytes are compressed for themselves, so that several processors can work at it.
const BLOCK: u64 = 32 << 20;

/// A file of compiled code in a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedCode {
    /// Its file name, which says for what it was compiled.
    pub file: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// What a pack holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unpacked {
    /// What it is.
    pub manifest: Manifest,
    /// The module without its memory.
    pub code: Vec<u8>,
    /// The memory it starts from.
    pub image: Vec<u8>,
    /// Code compiled ahead. Nothing says that it belongs to the module: whoever runs it trusts whoever made the pack.
    pub compiled: Vec<PackedCode>,
}

/// Writes a runtime as a pack. The same runtime and compiled code give the same bytes.
///
/// # Errors
///
/// When its files cannot be read, are not what the manifest says, or `to` cannot be written.
pub fn pack(runtime: &Runtime, compiled: &[PackedCode], to: impl Write) -> Result<(), RuntimeError> {
    let manifest = &runtime.manifest;
    let code = read_artifact(&runtime.code(), &manifest.code)?;
    let image = read_artifact(&runtime.image(), &manifest.image)?;
    write(manifest, &code, &image, compiled, to)
        .map_err(|error| RuntimeError::io("write", Path::new("the pack"), error))
}

fn read_artifact(path: &Path, artifact: &Artifact) -> Result<Vec<u8>, RuntimeError> {
    let bytes = fs::read(path).context("read", path)?;
    let found = digest::of_bytes(&bytes);
    if found == artifact.sha256 {
        return Ok(bytes);
    }
    Err(RuntimeError::WrongDigest { path: path.into(), expected: artifact.sha256.clone(), found })
}

fn write(manifest: &Manifest, code: &[u8], image: &[u8], compiled: &[PackedCode], to: impl Write) -> io::Result<()> {
    let mut options = XzOptions::with_preset(PRESET);
    options.set_check_sum_type(CheckType::Crc64);
    options.set_block_size(NonZeroU64::new(BLOCK));
    let workers = u32::try_from(compile::default_jobs()).unwrap_or(1);
    let mut tar = tar::Builder::new(XzWriterMt::new(to, options, workers)?);
    let mut put = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_cksum();
        tar.append_data(&mut header, name, bytes)
    };
    put(MANIFEST, &manifest.to_json())?;
    put(CODE, code)?;
    put(IMAGE, image)?;
    put(BILL, &bill::of(manifest))?;
    for file in compiled {
        put(&format!("{COMPILED}{}", file.file), &file.bytes)?;
    }
    tar.into_inner()?.finish()?.flush()
}

/// Reads a pack and compares what is in it with its manifest. `origin` names it in errors.
///
/// # Errors
///
/// [`RuntimeError::Archive`] if it is no pack, [`RuntimeError::WrongDigest`] if a file is not what the manifest says.
pub fn unpack(pack: impl Read, origin: &Path) -> Result<Unpacked, RuntimeError> {
    let bad = |reason: String| RuntimeError::Archive { path: origin.into(), reason };
    let mut files = files(pack).map_err(|error| bad(error.to_string()))?;
    let mut take = |name: &str| files.remove(name).ok_or_else(|| bad(format!("it has no {name}")));
    let manifest = Manifest::parse(&take(MANIFEST)?, &origin.join(MANIFEST))?;
    let mut artifact = |name: &str, artifact: &Artifact| {
        let bytes = take(name)?;
        let found = digest::of_bytes(&bytes);
        let expected = artifact.sha256.clone();
        if found == expected {
            Ok(bytes)
        } else {
            Err(RuntimeError::WrongDigest { path: origin.join(name), expected, found })
        }
    };
    let code = artifact(CODE, &manifest.code)?;
    let image = artifact(IMAGE, &manifest.image)?;
    let compiled = files
        .into_iter()
        .filter_map(|(name, bytes)| Some(PackedCode { file: name.strip_prefix(COMPILED)?.to_owned(), bytes }));
    Ok(Unpacked { compiled: compiled.collect(), manifest, code, image })
}

/// The files of a pack by name, each of bounded size.
fn files(pack: impl Read) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let bad = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let mut archive = tar::Archive::new(XzReader::new(pack, false));
    let mut files = BTreeMap::new();
    let mut left = LARGEST;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !(entry.header().entry_type().is_file() && is_name(&name)) {
            return Err(bad(format!("`{}` does not belong into a pack", name.escape_debug())));
        }
        let size = entry.size();
        left = left.checked_sub(size).ok_or_else(|| bad(format!("with {name} it has more than {LARGEST} bytes")))?;
        if files.len() >= MOST_COMPILED + 4 {
            return Err(bad("it has too many files".to_owned()));
        }
        let mut bytes = Vec::new();
        // What is announced is not yet there: room grows with what comes.
        entry.read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(bad(format!("it ends within {name}")));
        }
        if files.insert(name.clone(), bytes).is_some() {
            return Err(bad(format!("{name} stands in it twice")));
        }
    }
    // To the end of the container, whose own sums say that it is whole; behind the archive are zeros at most.
    let behind = io::copy(&mut archive.into_inner().take(MOST_BEHIND), &mut io::sink())?;
    if behind == MOST_BEHIND {
        return Err(bad("there is more behind its files".to_owned()));
    }
    Ok(files)
}

fn is_name(name: &str) -> bool {
    let compiled = name.strip_prefix(COMPILED).is_some_and(|file| {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !file.starts_with('.') && !file.is_empty() && file.len() <= 128 && file.bytes().all(letters)
    });
    compiled || [MANIFEST, CODE, IMAGE, BILL].contains(&name)
}

impl Unpacked {
    /// The language, if this version of Capibara would use the runtime: another version has another recipe.
    ///
    /// # Errors
    ///
    /// [`RuntimeError::UnknownLanguage`], [`RuntimeError::OtherRecipe`].
    pub fn language(&self) -> Result<Language, RuntimeError> {
        let language: Language = self.manifest.language.parse()?;
        if self.manifest.recipe == language.recipe_digest() {
            return Ok(language);
        }
        Err(RuntimeError::OtherRecipe {
            language: language.name(),
            expected: language.recipe_digest(),
            found: self.manifest.recipe.clone(),
        })
    }

    /// Puts the runtime in its place, unless it is there. Compiled code is left to the caller. With `replace`, it takes the place of one
    /// that is there, for one that is damaged.
    ///
    /// # Errors
    ///
    /// Those of [`Unpacked::language`]; when the cache folder cannot be written.
    pub fn install(
        &self,
        folders: &Folders,
        replace: bool,
        progress: &dyn Progress,
    ) -> Result<(Runtime, Built), RuntimeError> {
        let language = self.language()?;
        folder::writable(folders)?;
        let there = || if replace { None } else { locate(folders, language).ok().flatten() };
        let name = language.runtime_name();
        folder::create(&folders.build())?;
        folder::create(&folders.runtimes())?;
        let _lock = folder::lock(&folder::lock_path(&folders.build(), name), language.name(), progress)?;
        if let Some(runtime) = there() {
            return Ok((runtime, Built::AlreadyThere));
        }
        let work = folders.build().join(format!("{name}.unpacked"));
        folder::remove(&work)?;
        let result = work.join("result");
        folder::create(&result)?;
        in_phase(progress, Phase::Write, None, || {
            folder::write_artifact(&result.join(CODE), &self.code)?;
            folder::write_artifact(&result.join(IMAGE), &self.image)?;
            folder::write(&result.join(MANIFEST), &self.manifest.to_json())?;
            folder::publish(&result, &folders.runtimes().join(name), &work.join("old"))
        })?;
        folder::remove(&work)?;
        let runtime = locate(folders, language)?;
        runtime.map(|runtime| (runtime, Built::New)).ok_or_else(|| RuntimeError::Manifest {
            path: folders.runtimes().join(name),
            reason: "the runtime vanished while it was being unpacked".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::tests::scratch;
    use crate::progress::Silent;

    /// A runtime of nothing but bytes, by this version's recipe.
    fn packed(compiled: &[PackedCode], change: impl FnOnce(&mut Manifest)) -> (Manifest, Vec<u8>) {
        let (code, image) = (b"\0asm".repeat(1000), [vec![7; 65536], vec![0; 65536]].concat());
        let artifact = |bytes: &[u8]| Artifact { sha256: digest::of_bytes(bytes), bytes: bytes.len() as u64 };
        let (code_artifact, image_artifact) = (artifact(&code), artifact(&image));
        let mut manifest = Manifest {
            schema: crate::SCHEMA,
            language: "python".into(),
            version: "3.13.5".into(),
            recipe: Language::Python.recipe_digest().into(),
            patches: None,
            sources: vec![crate::Source { name: "zlib-1.3.tar.gz".into(), sha256: "dd".repeat(32) }],
            sha256: Manifest::runtime_digest(&code_artifact, &image_artifact, 131_072),
            code: code_artifact,
            image: image_artifact,
            memory_min_bytes: 131_072,
        };
        change(&mut manifest);
        let mut bytes = Vec::new();
        write(&manifest, &code, &image, compiled, &mut bytes).unwrap();
        (manifest, bytes)
    }

    fn read(bytes: &[u8]) -> Result<Unpacked, RuntimeError> {
        unpack(bytes, Path::new("p.tar.xz"))
    }

    #[test]
    fn a_pack_is_installed_as_it_was() {
        let folders = Folders { cache: scratch("pack") };
        let compiled = PackedCode { file: "fuel-x86-64-v2-0123.cwasm".into(), bytes: b"ELF".to_vec() };
        let (manifest, bytes) = packed(std::slice::from_ref(&compiled), |_| ());
        assert_eq!(packed(std::slice::from_ref(&compiled), |_| ()).1, bytes, "equal runtimes give equal packs");
        let unpacked = read(&bytes).unwrap();
        assert_eq!((&unpacked.manifest, &unpacked.compiled), (&manifest, &vec![compiled]));
        let (runtime, built) = unpacked.install(&folders, false, &Silent).unwrap();
        assert_eq!(built, Built::New);
        assert_eq!(locate(&folders, Language::Python).unwrap().as_ref(), Some(&runtime));
        assert_eq!(fs::read(runtime.image()).unwrap(), unpacked.image);
        assert_eq!(fs::read(runtime.code()).unwrap(), unpacked.code);
        assert_eq!(unpacked.install(&folders, false, &Silent).unwrap().1, Built::AlreadyThere);
        fs::write(runtime.code(), "damaged").unwrap();
        assert_eq!(unpacked.install(&folders, true, &Silent).unwrap().1, Built::New);
        assert_eq!(fs::read(runtime.code()).unwrap(), unpacked.code);
        // Packed again from its folder, it is the same.
        let mut again = Vec::new();
        pack(&runtime, &unpacked.compiled, &mut again).unwrap();
        assert_eq!(again, bytes);
        fs::remove_dir_all(&folders.cache).unwrap();
    }

    #[test]
    fn what_is_not_as_it_was_written_is_refused() {
        let (_, good) = packed(&[], |_| ());
        for at in (0..good.len()).step_by(7) {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            // Padding of the container may differ; what is read may not.
            if let Ok(unpacked) = read(&bad) {
                assert_eq!(unpacked, read(&good).unwrap(), "{at}");
            }
            assert!(read(&good[..at]).is_err(), "{at}");
        }
        let (_, other) = packed(&[], |manifest| {
            manifest.code.sha256 = "ab".repeat(32);
            manifest.sha256 = Manifest::runtime_digest(&manifest.code, &manifest.image, manifest.memory_min_bytes);
        });
        assert!(matches!(read(&other), Err(RuntimeError::WrongDigest { .. })));
        assert!(matches!(read(b"not a pack"), Err(RuntimeError::Archive { .. })));
    }

    #[test]
    fn a_runtime_of_another_version_is_not_installed() {
        let folders = Folders { cache: scratch("pack-recipe") };
        let (_, bytes) = packed(&[], |manifest| manifest.recipe = "ee".repeat(32));
        let error = read(&bytes).unwrap().install(&folders, false, &Silent).unwrap_err();
        assert!(matches!(error, RuntimeError::OtherRecipe { .. }), "{error}");
        let (_, bytes) = packed(&[], |manifest| manifest.language = "cobol".into());
        assert!(matches!(read(&bytes).unwrap().language(), Err(RuntimeError::UnknownLanguage(_))));
        let (_, bytes) = packed(&[], |_| ());
        let error = read(&bytes).unwrap().install(&Folders::nowhere(), false, &Silent).unwrap_err();
        assert!(matches!(error, RuntimeError::NoCacheFolder), "{error}");
        fs::remove_dir_all(&folders.cache).unwrap();
    }

    #[test]
    fn only_files_of_a_pack_are_unpacked() {
        let (manifest, _) = packed(&[], |_| ());
        let archive = |fill: &dyn Fn(&mut tar::Builder<&mut Vec<u8>>)| {
            let mut plain = Vec::new();
            let mut tar = tar::Builder::new(&mut plain);
            let mut header = tar::Header::new_ustar();
            header.set_size(0);
            header.set_mode(0o600);
            let json = manifest.to_json();
            let mut first = header.clone();
            first.set_size(json.len() as u64);
            tar.append_data(&mut first, MANIFEST, &*json).unwrap();
            fill(&mut tar);
            tar.finish().unwrap();
            drop(tar);
            let mut xz = lzma_rust2::XzWriter::new(Vec::new(), XzOptions::with_preset(1)).unwrap();
            xz.write_all(&plain).unwrap();
            xz.finish().unwrap()
        };
        let header = |kind: tar::EntryType, size: u64| {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(0o600);
            header.set_size(size);
            header
        };
        let file = tar::EntryType::Regular;
        let reason = |fill: &dyn Fn(&mut tar::Builder<&mut Vec<u8>>)| read(&archive(fill)).unwrap_err().to_string();
        for name in ["other", "compiled/", "compiled/.hidden", "compiled/a/b", "compiled/a b"] {
            let text = reason(&|tar| tar.append_data(&mut header(file, 0), name, &[][..]).unwrap());
            assert!(text.contains("does not belong"), "{name}: {text}");
        }
        let link =
            reason(&|tar| tar.append_link(&mut header(tar::EntryType::Symlink, 0), CODE, "/etc/passwd").unwrap());
        assert!(link.contains("does not belong"), "{link}");
        let twice = reason(&|tar| tar.append_data(&mut header(file, 0), MANIFEST, &[][..]).unwrap());
        assert!(twice.contains("twice"), "{twice}");
        let many = reason(&|tar| {
            for number in 0..40 {
                tar.append_data(&mut header(file, 0), format!("compiled/{number}"), &[][..]).unwrap();
            }
        });
        assert!(many.contains("too many"), "{many}");
        // Announced and not there: no memory is taken for it.
        let large = reason(&|tar| {
            let mut large = header(file, LARGEST);
            large.set_path(CODE).unwrap();
            large.set_cksum();
            tar.get_mut().extend_from_slice(large.as_bytes());
        });
        assert!(large.contains("more than"), "{large}");
        let absent = reason(&|_| ());
        assert!(absent.contains("has no code.wasm"), "{absent}");
    }
}
