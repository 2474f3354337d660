//! Unpacking: xz and gzip tarballs (crates are the latter) and zip files (wheels are those).
//!
//! Only regular files are written, below the folder named and nowhere else; a name that leads out is an error. Links are left out.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read},
    path::{Component, Path, PathBuf},
};

use crate::{
    error::{IoContext, RuntimeError},
    folder,
};

/// Unpacks `archive` into `place` without the one folder at its top.
///
/// `place` appears when everything is unpacked; what an interrupted call left is thrown away.
pub(crate) fn unpack_tar(archive: &Path, place: &Path) -> Result<(), RuntimeError> {
    let file = BufReader::with_capacity(1 << 16, File::open(archive).context("open", archive)?);
    let name = archive.to_string_lossy();
    let reader: Box<dyn Read> = if name.ends_with(".xz") {
        Box::new(lzma_rust2::XzReader::new(file, true))
    } else {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    };
    whole(place, |folder| {
        let damaged = |error: io::Error| damaged(archive, &error);
        let mut tar = tar::Archive::new(reader);
        for entry in tar.entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = entry.path().map_err(damaged)?.into_owned();
            let path = inside(&name).ok_or_else(|| leads_out(archive, &name))?;
            write_entry(&folder.join(without_top(&path)), &mut entry, archive)?;
        }
        Ok(())
    })
}

/// Unpacks one xz file in memory.
pub(crate) fn unpack_xz(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    lzma_rust2::XzReader::new(bytes, true).read_to_end(&mut unpacked)?;
    Ok(unpacked)
}

/// Unpacks a zip file into `place`, which appears when everything is unpacked. `wanted` is asked for each name.
pub(crate) fn unpack_zip(archive: &Path, place: &Path, wanted: impl Fn(&str) -> bool) -> Result<(), RuntimeError> {
    whole(place, |folder| each_in_zip(archive, &wanted, |path, entry| write_entry(&folder.join(path), entry, archive)))
}

/// Reads the files of a zip file that are wanted, in its order.
pub(crate) fn read_zip(archive: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<(String, Vec<u8>)>, RuntimeError> {
    let mut files = Vec::new();
    each_in_zip(archive, &wanted, |path, entry| {
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|error| damaged(archive, &error))?;
        files.push((path.to_string_lossy().into_owned(), bytes));
        Ok(())
    })?;
    Ok(files)
}

fn each_in_zip(
    archive: &Path,
    wanted: &dyn Fn(&str) -> bool,
    mut use_it: impl FnMut(&Path, &mut dyn Read) -> Result<(), RuntimeError>,
) -> Result<(), RuntimeError> {
    let file = BufReader::new(File::open(archive).context("open", archive)?);
    let damaged = |error: zip::result::ZipError| damaged(archive, &error);
    let mut zip = zip::ZipArchive::new(file).map_err(damaged)?;
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.into_owned();
        if !entry.is_file() || !wanted(&name) {
            continue;
        }
        let name = PathBuf::from(name);
        let path = inside(&name).ok_or_else(|| leads_out(archive, &name))?;
        use_it(&path, &mut entry)?;
    }
    Ok(())
}

/// Fills a folder beside `place` and gives it that name when it is complete.
fn whole(place: &Path, fill: impl FnOnce(&Path) -> Result<(), RuntimeError>) -> Result<(), RuntimeError> {
    let partial = place.with_added_extension("partial");
    folder::remove(&partial)?;
    folder::create(&partial)?;
    fill(&partial)?;
    fs::rename(&partial, place).context("write", place)
}

fn write_entry(path: &Path, entry: &mut dyn Read, archive: &Path) -> Result<(), RuntimeError> {
    if let Some(parent) = path.parent() {
        folder::create(parent)?;
    }
    let mut file = BufWriter::new(folder::create_file(path)?);
    // Reading and writing fail in one call: a full disk is the writer's, everything else the archive's.
    io::copy(entry, &mut file)
        .and_then(|_| file.into_inner().map_err(io::IntoInnerError::into_error))
        .map(drop)
        .map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => RuntimeError::io("write", path, error),
            _ => damaged(archive, &error),
        })
}

/// The path when it stays inside the folder it is joined to.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!clean.as_os_str().is_empty()).then_some(clean)
}

fn without_top(path: &Path) -> &Path {
    let mut parts = path.components();
    parts.next();
    if parts.as_path().as_os_str().is_empty() { path } else { parts.as_path() }
}

fn damaged(archive: &Path, error: &dyn std::error::Error) -> RuntimeError {
    RuntimeError::Archive { path: archive.to_path_buf(), reason: error.to_string() }
}

fn leads_out(archive: &Path, name: &Path) -> RuntimeError {
    let reason = format!("the name {} leads out of it", name.display());
    RuntimeError::Archive { path: archive.to_path_buf(), reason }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("capibara-archive-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder::create(&folder).unwrap();
        folder
    }

    /// A tarball whose names are written as they are: `tar::Builder` would refuse some.
    fn tarball(path: &Path, names: &[&str]) {
        let mut gzip = flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast());
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(2);
            header.set_mode(0o644);
            header.set_cksum();
            gzip.write_all(header.as_bytes()).unwrap();
            let mut block = [0; 512];
            block[..2].copy_from_slice(b"hi");
            gzip.write_all(&block).unwrap();
        }
        gzip.write_all(&[0; 1024]).unwrap();
        gzip.finish().unwrap();
    }

    #[test]
    fn a_tarball_loses_its_top_folder() {
        let folder = scratch("tar");
        let archive = folder.join("a.tar.gz");
        tarball(&archive, &["top/a/file", "./top/b"]);
        unpack_tar(&archive, &folder.join("out")).unwrap();
        assert_eq!(fs::read(folder.join("out/a/file")).unwrap(), b"hi");
        assert_eq!(fs::read(folder.join("out/b")).unwrap(), b"hi");
        folder::remove(&folder).unwrap();
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        for name in ["../evil", "top/../../evil", "/tmp/capibara-evil", "top/.."] {
            let folder = scratch("out");
            let archive = folder.join("a.tar.gz");
            tarball(&archive, &["top/good", name]);
            let error = unpack_tar(&archive, &folder.join("in/out")).unwrap_err();
            assert!(error.to_string().contains("leads out of it"), "{error}");
            assert!(
                !folder.join("in/out").exists() && !folder.join("evil").exists() && !folder.join("in/evil").exists()
            );
            folder::remove(&folder).unwrap();
        }
    }

    #[test]
    fn zip_names_that_lead_out_are_refused_and_others_are_chosen() {
        let folder = scratch("zip");
        let archive = folder.join("a.zip");
        let write = |names: &[&str]| {
            let mut zip = zip::ZipWriter::new(File::create(&archive).unwrap());
            for name in names {
                zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
                zip.write_all(b"hi").unwrap();
            }
            zip.finish().unwrap();
        };
        write(&["a/b", "c"]);
        unpack_zip(&archive, &folder.join("out"), |name| name != "c").unwrap();
        assert!(folder.join("out/a/b").exists() && !folder.join("out/c").exists());
        assert_eq!(read_zip(&archive, |name| name == "c").unwrap(), [("c".to_owned(), b"hi".to_vec())]);
        write(&["../evil"]);
        assert!(unpack_zip(&archive, &folder.join("out2"), |_| true).is_err());
        assert!(!folder.join("evil").exists() && !folder.join("out2").exists());
        folder::remove(&folder).unwrap();
    }

    #[test]
    fn a_damaged_archive_is_named() {
        let folder = scratch("damaged");
        let archive = folder.join("a.tar.xz");
        fs::write(&archive, b"not xz at all").unwrap();
        let error = unpack_tar(&archive, &folder.join("out")).unwrap_err();
        assert!(matches!(&error, RuntimeError::Archive { path, .. } if *path == archive), "{error}");
        folder::remove(&folder).unwrap();
    }
}
