//! What a script opened or changed, or tried to, outside the folders every run has: to compare with what the scan said.

use std::collections::BTreeMap;

/// The most paths that are remembered.
const MOST: usize = 64;
/// Folders every run has, and that of the standard library: nothing to be told.
const OWN: [&[&str]; 6] =
    [&["script"], &["home", "script"], &["tmp"], &["out"], &["dev"], &["usr", "lib", "python3.13"]];

/// Absolute paths, and whether the script wanted to change what is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched(BTreeMap<String, bool>);

impl Touched {
    /// Notes a path below the root, as the guest wrote it.
    pub(super) fn note(&mut self, path: &str, write: bool) {
        let names = plain(path);
        if names.is_empty() || OWN.iter().any(|own| names.starts_with(own)) {
            return;
        }
        let path = format!("/{}", names.join("/"));
        if let Some(known) = self.0.get_mut(&path) {
            *known |= write;
        } else if self.0.len() < MOST {
            self.0.insert(path, write);
        }
    }

    pub(super) fn into_paths(self) -> Vec<(String, bool)> {
        self.0.into_iter().collect()
    }
}

/// The names of a path without `.`, `..` and empty ones. Links are not looked at.
fn plain(path: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_outside_is_noted_and_once() {
        let mut touched = Touched::default();
        for (path, write) in [
            ("script/x.py", false),
            ("home/script/a", true),
            ("tmp/../etc//passwd", false),
            ("etc/./passwd", true),
            ("home/other", false),
            (".", false),
            ("data/x", false),
        ] {
            touched.note(path, write);
        }
        let expected = [("/data/x", false), ("/etc/passwd", true), ("/home/other", false)];
        assert_eq!(touched.into_paths(), expected.map(|(path, write)| (path.to_owned(), write)));
        let mut touched = Touched::default();
        (0..1_000).for_each(|i| touched.note(&format!("data/{i}"), false));
        assert_eq!(touched.into_paths().len(), MOST);
    }
}
