//! The book: the pages of `docs/` with those of the repository's root and of the rules, as `mdbook` makes them, in `target/book`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{repository, run};

/// Pages at the root of the repository that are in the book too.
const ROOT: [&str; 6] =
    ["README.md", "ARCHITECTURE.md", "SECURITY.md", "SPECIFICATION.md", "GLOSSARY.md", "CHANGELOG.md"];
const BUILDER: &str = "cargo install mdbook --version 0.5.4 --locked";

pub(crate) fn make() -> Result<()> {
    let target = repository().join("target");
    let (source, book) = (target.join("book-source"), target.join("book"));
    let _ = fs::remove_dir_all(&source);
    gather(&source.join("src"))?;
    fs::write(
        source.join("book.toml"),
        "[book]\ntitle = \"Capibara\"\nlanguage = \"en\"\n\n[output.html]\nno-section-label = true\n",
    )?;
    if Command::new("mdbook").arg("--version").output().is_err() {
        bail!("no mdbook: {BUILDER}");
    }
    let mut build = Command::new("mdbook");
    build.arg("build").arg(&source).arg("--dest-dir").arg(&book);
    run(build)?;
    println!("{}", book.join("index.html").strip_prefix(repository()).unwrap_or(&book).display());
    Ok(())
}

/// Puts all pages into one folder, with their links to each other as they are then.
fn gather(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("rules"))?;
    let mut names = Vec::new();
    for page in fs::read_dir(repository().join("docs"))? {
        let page = page?.path();
        if page.extension().is_some_and(|end| end == "md") {
            let name = page.file_name().context("a file name")?.to_string_lossy().into_owned();
            let mut text = fs::read_to_string(&page)?;
            for root in ROOT {
                text = text.replace(&format!("](../{root}"), &format!("]({root}"));
            }
            fs::write(folder.join(&name), text)?;
            names.push(name);
        }
    }
    for name in ROOT {
        let text = fs::read_to_string(repository().join(name))?;
        fs::write(folder.join(name), text.replace("](docs/", "]("))?;
    }
    let mut summary = fs::read_to_string(folder.join("SUMMARY.md"))?;
    let mut rules: Vec<_> = fs::read_dir(repository().join("policies/src/rules/pages"))?.flatten().collect();
    rules.sort_by_key(fs::DirEntry::file_name);
    for rule in rules {
        let name = rule.file_name().to_string_lossy().into_owned();
        fs::copy(rule.path(), folder.join("rules").join(&name))?;
        summary += &format!("\n- [{}](rules/{name})", name.trim_end_matches(".md"));
    }
    if let Some(name) = names.iter().find(|name| *name != "SUMMARY.md" && !summary.contains(&format!("]({name})"))) {
        bail!("docs/{name} is not in docs/SUMMARY.md");
    }
    fs::write(folder.join("SUMMARY.md"), summary + "\n")?;
    Ok(())
}
