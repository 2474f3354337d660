//! The book: the pages of `docs/` with those of the repository's root, of the commands and of the rules, as `mdbook` makes them, in `target/book`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, output, repository, run};

/// Pages elsewhere in the repository that are in the book too.
const OTHERS: [&str; 7] = [
    "README.md",
    "ARCHITECTURE.md",
    "SECURITY.md",
    "SPECIFICATION.md",
    "GLOSSARY.md",
    "CHANGELOG.md",
    "fuzz/README.md",
];
const RULES: &str = "policies/src/rules/pages";
const BUILDER: &str = "cargo install mdbook --version 0.5.4 --locked";

pub(crate) fn make() -> Result<()> {
    run(cargo(&["build", "--release", "--quiet", "--bin", "capibara"]))?;
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
    let docs = repository().join("docs");
    let mut pages = Vec::new();
    for page in files(&docs, "md")? {
        let name = page.strip_prefix(&docs)?.to_string_lossy().into_owned();
        let mut text = fs::read_to_string(&page)?.replace(&format!("../{RULES}/"), "rules/");
        for to in OTHERS.iter().chain(&["schema/"]) {
            text = text.replace(&format!("../{to}"), to);
        }
        write(&folder.join(&name), &text)?;
        pages.push(name);
    }
    for name in OTHERS {
        write(&folder.join(name), &fs::read_to_string(repository().join(name))?.replace("](docs/", "]("))?;
    }
    for (from, end, to) in [(RULES, "md", "rules"), ("schema", "json", "schema")] {
        for file in files(&repository().join(from), end)? {
            write(&folder.join(to).join(file.file_name().unwrap_or_default()), &fs::read_to_string(&file)?)?;
        }
    }
    fs::copy(repository().join("LICENSE"), folder.join("LICENSE"))?;
    commands(&folder.join("commands"))?;
    let mut summary = fs::read_to_string(folder.join("SUMMARY.md"))?;
    if let Some(name) = pages.iter().find(|name| *name != "SUMMARY.md" && !summary.contains(&format!("]({name})"))) {
        bail!("docs/{name} is not in docs/SUMMARY.md");
    }
    for (title, of) in [("# Commands\n", "commands"), ("# Rules\n", "rules")] {
        let mut list = format!("{title}\n");
        for page in files(&folder.join(of), "md")? {
            let text = fs::read_to_string(&page)?;
            let title = text.lines().next().unwrap_or_default().trim_start_matches(['#', ' ']);
            let name = title.split(':').next().unwrap_or_default();
            list += &format!("- [{name}]({})\n", page.strip_prefix(folder)?.display());
        }
        summary = summary.replace(title, &list);
    }
    write(&folder.join("SUMMARY.md"), &summary)?;
    no_link_is_dead(folder)
}

/// A page of each command: what `--help` says.
fn commands(folder: &Path) -> Result<()> {
    let capibara = repository().join("target/release/capibara");
    let manual = folder.join("manual");
    let mut write_manual = Command::new(&capibara);
    write_manual.args(["man", "--out"]).arg(&manual).stderr(std::process::Stdio::null());
    fs::create_dir_all(folder)?;
    run(write_manual)?;
    // `capibara-audit-rotate-key` is `rotate-key` of `capibara audit`: a command comes behind the one it belongs to.
    let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for page in files(&manual, "1")? {
        let name = page.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let above =
            known.iter().filter(|(above, _)| name.starts_with(&format!("{above}-"))).max_by_key(|it| it.0.len());
        let words = match above {
            Some((above, words)) => [&words[..], &[name[above.len() + 1..].to_owned()]].concat(),
            None => Vec::new(),
        };
        let mut help = Command::new(&capibara);
        help.args(&words).arg("--help");
        let help = output(help)?;
        let title = [&["capibara".to_owned()], &words[..]].concat().join(" ");
        write(&folder.join(format!("{name}.md")), &format!("# {title}\n\n```text\n{}\n```\n", help.trim_end()))?;
        known.insert(name, words);
    }
    fs::remove_dir_all(manual)?;
    Ok(())
}

/// The files below a folder with an ending, in the order of their names.
fn files(folder: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, end)?);
        } else if path.extension() == Some(OsStr::new(end)) {
            found.push(path);
        }
    }
    found.sort_by_key(|path| path.with_extension(""));
    Ok(found)
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(file.parent().unwrap_or(file))?;
    fs::write(file, text).with_context(|| format!("failed to write {}", file.display()))
}

/// Each link of a page to a file is to one that is in the book.
fn no_link_is_dead(folder: &Path) -> Result<()> {
    for page in files(folder, "md")? {
        let text = fs::read_to_string(&page)?;
        // Code is no link.
        let prose: String = text.split("```").step_by(2).flat_map(|it| it.split('`').step_by(2)).collect();
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            let elsewhere = path.is_empty() || link.contains("://") || link.starts_with("mailto:");
            if !elsewhere && !page.parent().unwrap_or(folder).join(path).exists() {
                bail!("{}: the link {link} is dead", page.strip_prefix(folder)?.display());
            }
        }
    }
    Ok(())
}
