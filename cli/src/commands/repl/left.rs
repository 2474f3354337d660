//! What a session leaves in `/out`, and where it went.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use capibara::{Artifact, Digest, Engine, OutFolder, Session};

use crate::artifacts::{TOO_LARGE, tell_refused, tell_some};
use crate::errors::Failure;
use crate::output::text::Console;
use crate::output::units;

/// The files of `/out`, as they were told and written so far.
#[derive(Default)]
pub(super) struct Left {
    /// Where every turn's files go.
    out: Option<(OutFolder, PathBuf)>,
    told: HashMap<String, Digest>,
    written: HashMap<String, Digest>,
    too_large: HashSet<String>,
}

impl Left {
    /// Writes into that folder after each turn, if there is one.
    pub(super) fn new(engine: &Engine, out: Option<&Path>) -> Result<Self, Failure> {
        let out = out.map(|path| Ok::<_, Failure>((engine.out_folder(path)?, path.to_owned()))).transpose()?;
        Ok(Self { out, ..Self::default() })
    }

    /// A turn was kept: tells what is new in `/out`, and writes it if that is wanted. Whether all went well.
    pub(super) fn after_turn(&mut self, session: &mut Session, console: &Console) -> bool {
        let all = session.artifacts();
        let (changed, same): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|artifact| self.told.get(&artifact.path) != Some(&artifact.sha256));
        self.told = same.iter().chain(&changed).map(|artifact| (artifact.path.clone(), artifact.sha256)).collect();
        let Some((folder, path)) = self.out.take() else {
            tell_some(console, changed.iter().map(|artifact| format!("left /out/{}", described(artifact))));
            return true;
        };
        let whole = self.write(session, &changed, &folder, &path, console);
        self.out = Some((folder, path));
        whole
    }

    /// Writes all there is into a folder, now.
    pub(super) fn keep(
        &mut self,
        engine: &Engine,
        session: &mut Session,
        path: &Path,
        console: &Console,
    ) -> Result<bool, Failure> {
        let all = session.artifacts();
        if all.is_empty() {
            return Err(Failure::new("file", "there are no files in /out"));
        }
        let folder = engine.out_folder(path)?;
        self.too_large.clear();
        Ok(self.write(session, &all, &folder, path, console))
    }

    fn write(
        &mut self,
        session: &mut Session,
        artifacts: &[Artifact],
        folder: &OutFolder,
        path: &Path,
        console: &Console,
    ) -> bool {
        let written = folder.write(artifacts);
        let refused: HashSet<&str> = written.refused.iter().map(|refusal| refusal.path.as_str()).collect();
        let there = || artifacts.iter().filter(|artifact| !refused.contains(artifact.path.as_str()));
        let place = path.display();
        let lines: Vec<String> = there().map(|artifact| format!("left {} in {place}", described(artifact))).collect();
        tell_some(console, lines.into_iter());
        self.written.extend(there().map(|artifact| (artifact.path.clone(), artifact.sha256)));
        tell_refused(console, "artifact", "was not written", &written.refused);
        let mut large = session.artifacts_left_out();
        large.retain(|path| self.too_large.insert(path.clone()));
        tell_some(console, large.iter().map(|path| format!("artifact `{path}` was not written: {TOO_LARGE}")));
        written.refused.is_empty() && large.is_empty()
    }

    /// The session ends: tells what goes with it and was not written as it is now.
    pub(super) fn end(&self, session: &mut Session, console: &Console) {
        let lost = session.artifacts();
        let lost = lost.iter().filter(|artifact| self.written.get(&artifact.path) != Some(&artifact.sha256));
        let (count, bytes) = lost.fold((0, 0), |(count, bytes): (u64, u64), artifact| {
            (count + 1, bytes.saturating_add(artifact.bytes.len()))
        });
        if count > 0 {
            let files = if count == 1 {
                "1 file of /out is".into()
            } else {
                format!("{} files of /out are", units::count(count))
            };
            console.say(&format!(
                "{files} gone with the session ({}): `--out DIR` and `:keep DIR` keep them",
                units::size(bytes)
            ));
        }
    }

    /// Begins anew, with a new session.
    pub(super) fn reset(&mut self) {
        *self = Self { out: self.out.take(), ..Self::default() };
    }
}

/// `chart.svg (image/svg+xml, 1.2KiB)`
fn described(artifact: &Artifact) -> String {
    format!("{} ({}, {})", artifact.path, artifact.mime, units::size(artifact.bytes.len()))
}
