//! What it means to allow no more: comparing the policy of a child with that of the parent it extends.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use super::{Allow, FileAccess, Grants, Policy};
use crate::Verdict;
use crate::finding::Severity;
use crate::rules;

/// The working directory of every script.
const WORKING_DIRECTORY: &str = "/home/script";

/// The names of a path of the script, from the root; `.` and `..` followed by name alone.
pub(super) fn names(path: &str) -> Vec<&str> {
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

pub(super) fn grants_path(grants: &Grants, guest_path: &str, write: bool) -> bool {
    let absolute;
    let path = if guest_path.starts_with('/') {
        guest_path
    } else {
        absolute = format!("{WORKING_DIRECTORY}/{guest_path}");
        &absolute
    };
    let path = names(path);
    // The innermost grant decides; of two at the same place, the one for reading.
    let innermost = grants
        .all_files()
        .filter_map(|(access, grant)| {
            let writes = access > FileAccess::Read;
            let guest = grant.guest_path()?;
            let guest = names(&guest);
            path.starts_with(&guest).then_some((guest.len(), !writes))
        })
        .max();
    innermost.is_some_and(|(_, read_only)| !(write && read_only))
}

/// A grant as it is compared: places without links, and what it allows.
struct Compared<'a> {
    host: PathBuf,
    guest: Vec<&'a str>,
    access: FileAccess,
    /// Which of the grants of that kind.
    index: usize,
}

impl Compared<'_> {
    /// Where on the host `guest` lies by this grant, if it lies below it.
    fn host_of(&self, guest: &[&str]) -> Option<PathBuf> {
        let rest = guest.strip_prefix(self.guest.as_slice())?;
        Some(rest.iter().fold(self.host.clone(), |path, name| path.join(name)))
    }
}

fn compared<'a>(grants: &'a Grants, real: &dyn Fn(&Path) -> PathBuf) -> Vec<Compared<'a>> {
    let of = |access| {
        grants.files(access).iter().enumerate().map(move |(index, grant)| Compared {
            host: real(&grant.host),
            guest: grant.guest.as_deref().map(names).unwrap_or_default(),
            access,
            index,
        })
    };
    FileAccess::ALL.into_iter().flat_map(of).collect()
}

/// The grant that decides at that place, as in [`grants_path`].
fn innermost<'a, 'b>(grants: &'a [Compared<'b>], guest: &[&str]) -> Option<&'a Compared<'b>> {
    grants
        .iter()
        .filter(|grant| guest.starts_with(&grant.guest))
        .max_by_key(|grant| (grant.guest.len(), Reverse(grant.access)))
}

/// What a grant of the child allows beyond the parent.
pub(super) struct Excess {
    pub(super) access: FileAccess,
    /// Which of the grants of that kind.
    pub(super) index: usize,
    pub(super) message: String,
    pub(super) hint: String,
}

/// The grants of files of the child that allow more than those of the parent.
pub(super) fn excess_files(
    parent: &Grants,
    child: &Grants,
    parent_name: &str,
    real: &dyn Fn(&Path) -> PathBuf,
) -> Vec<Excess> {
    let (parents, children) = (compared(parent, real), compared(child, real));
    let mut found = Vec::new();
    for grant in &children {
        let index = grant.index;
        let does = match grant.access {
            FileAccess::Read => "reading",
            FileAccess::Overlay => "an overlay of",
            FileAccess::Write => "writing",
        };
        let place = || format!("/{}", grant.guest.join("/"));
        let covering = |p: &&Compared<'_>| p.access >= grant.access && grant.host.starts_with(&p.host);
        // Whether the parent shows this host there: by its innermost grant, which hides what others have at that place.
        let shows = |guest: &[&str]| {
            innermost(&parents, guest).is_some_and(|p| covering(&p) && p.host_of(guest).as_ref() == Some(&grant.host))
        };
        if !shows(&grant.guest) {
            let elsewhere = parents.iter().filter(covering).find_map(|p| {
                let rest = grant.host.strip_prefix(&p.host).ok()?.to_str()?;
                let guest: Vec<&str> = p.guest.iter().copied().chain(names(rest)).collect();
                shows(&guest).then(|| format!("/{}", guest.join("/")))
            });
            let hint = match elsewhere {
                Some(guest) => format!(
                    "`{parent_name}` shows it to the script at `{guest}`: write `{}:{guest}`",
                    grant.host.display()
                ),
                None => super::resolve::WIDEN_HINT.to_owned(),
            };
            let message =
                format!("{does} `{}` at `{}` is more than `{parent_name}` grants", grant.host.display(), place());
            found.push(Excess { access: grant.access, index, message, hint });
            continue;
        }
        // What lies inside of a grant and is granted otherwise by the parent has to stay so.
        let hidden = parents.iter().find(|p| {
            let mapped = grant.host_of(&p.guest);
            let inside = mapped.is_some() && p.guest != grant.guest;
            let differs = mapped.as_ref() != Some(&p.host) || grant.access > p.access;
            let opened = grant.access > p.access && p.host.starts_with(&grant.host);
            let kept = children.iter().any(|c| c.guest == p.guest && c.host == p.host && c.access <= p.access);
            ((inside && differs) || opened) && !kept
        });
        if let Some(hidden) = hidden {
            let inner = format!("/{}", hidden.guest.join("/"));
            let message = format!(
                "{does} all of `{}` is more than `{parent_name}` grants: `{inner}` inside of it is granted otherwise",
                place()
            );
            let list = hidden.access.key();
            let hint = format!("keep `{}:{inner}` below `{list}`", hidden.host.display());
            found.push(Excess { access: grant.access, index, message, hint });
        }
    }
    found
}

/// The rules that `child` treats more mildly than `parent`, each with what it leads to in both.
pub(super) fn milder_rules(parent: &Policy, child: &Policy) -> Vec<(&'static str, Verdict, Verdict)> {
    let decisions = rules::RULES
        .iter()
        .map(|rule| (rule.id, parent.decision(rule.id, rule.severity), child.decision(rule.id, rule.severity)));
    decisions.filter(|(_, parent, child)| child < parent).collect()
}

/// The severities that `child` treats more mildly than `parent`, where no rule is set.
pub(super) fn milder_severities(parent: &Policy, child: &Policy) -> Vec<(Severity, Verdict, Verdict)> {
    let all = [Severity::Error, Severity::Warning, Severity::Unprovable];
    let effects = all.map(|severity| (severity, parent.findings.of(severity), child.findings.of(severity)));
    effects.into_iter().filter(|(_, parent, child)| child < parent).collect()
}

/// The first entry of the child's allow list of a rule that the parent does not have.
pub(super) fn new_allowance<'a>(parent: &Policy, rule: &str, entries: &'a [Allow]) -> Option<(usize, &'a Allow)> {
    let old = parent.rules.get(rule).map(|setting| setting.allow.as_slice()).unwrap_or_default();
    entries.iter().enumerate().find(|(_, entry)| !old.iter().any(|old| old.covers(entry)))
}
