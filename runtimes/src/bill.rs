//! The software bill of materials of a runtime, in CycloneDX 1.6 (ECMA-424).

use serde_json::json;

use crate::manifest::Manifest;

/// JSON that says what a runtime was built from. It names no time and no place: the same manifest gives the same bytes.
pub(crate) fn of(manifest: &Manifest) -> Vec<u8> {
    let hash = |sha256: &str| json!([{ "alg": "SHA-256", "content": sha256 }]);
    let sources = manifest.sources.iter().map(|source| {
        let (name, version) = name_and_version(&source.name);
        let mut component = json!({
            "type": "library", "bom-ref": source.name, "name": name, "hashes": hash(&source.sha256),
        });
        if let Some(version) = version {
            component["version"] = version.into();
        }
        component
    });
    let patches = manifest.patches.iter().flat_map(|patches| &patches.applied);
    let patches: Vec<_> = patches.map(|name| json!({ "type": "backport", "diff": { "url": name } })).collect();
    let mut runtime = json!({
        "type": "application", "bom-ref": "runtime", "name": format!("capibara-runtime-{}", manifest.language),
        "version": manifest.version, "hashes": hash(&manifest.sha256),
    });
    if !patches.is_empty() {
        runtime["pedigree"] = json!({ "patches": patches });
    }
    let bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": { "component": runtime },
        "components": sources.collect::<Vec<_>>(),
        "dependencies": [{
            "ref": "runtime",
            "dependsOn": manifest.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(),
        }],
    });
    let mut bytes = serde_json::to_vec_pretty(&bill).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// `zlib-1.3.1.tar.gz` is zlib of version 1.3.1; what has no version in its name has none.
fn name_and_version(file: &str) -> (&str, Option<&str>) {
    let stem = [".tar.xz", ".tar.gz", ".crate", ".whl", ".zip"].iter().find_map(|end| file.strip_suffix(end));
    let stem = stem.unwrap_or(file);
    let at = stem.match_indices(['-', '_']).find(|(at, _)| stem[at + 1..].starts_with(|it: char| it.is_ascii_digit()));
    at.map_or((stem, None), |(at, _)| {
        let rest = &stem[at + 1..];
        // A wheel tells its platform behind the version.
        let end = if file.ends_with(".whl") { rest.find('-').unwrap_or(rest.len()) } else { rest.len() };
        (&stem[..at], Some(&rest[..end]))
    })
}
