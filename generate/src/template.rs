//! What is said to a model before the task: one text for all tasks, and a few lines for each kind of task.

use crate::section::digest;

/// What is said for every task. Names in braces stand for facts.
const BASE: &str = include_str!("templates/base.md");

/// The template that is used where none is named.
pub const DEFAULT_TEMPLATE: &str = "general";

/// Lines that are added for one kind of task. It is chosen by its name, never by words of the task.
#[derive(Debug, PartialEq, Eq)]
pub struct Template {
    name: &'static str,
    /// A line for people, an empty line, and what the model is told.
    file: &'static str,
}

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        static TEMPLATES: &[Template] = &[$(Template { name: $name, file: include_str!(concat!("templates/", $name, ".md")) }),*];
    };
}

templates!["general", "data-file", "report", "conversion", "algorithm", "text", "math"];

/// A name that no template has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no template `{}`", capibara_policies::escape(name))]
pub struct UnknownTemplate {
    name: String,
}

impl UnknownTemplate {
    /// What to try.
    #[must_use]
    pub fn hint(&self) -> String {
        let names = TEMPLATES.iter().map(|template| template.name);
        match capibara_policies::nearest(&self.name, names.clone()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("there are {}", names.collect::<Vec<_>>().join(", ")),
        }
    }
}

/// All templates, the default one first.
#[must_use]
pub fn templates() -> &'static [Template] {
    TEMPLATES
}

/// The template of that name.
///
/// # Errors
/// [`UnknownTemplate`].
pub fn template(name: &str) -> Result<&'static Template, UnknownTemplate> {
    TEMPLATES.iter().find(|template| template.name == name).ok_or_else(|| UnknownTemplate { name: name.to_owned() })
}

impl Template {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What it is for, in a line.
    #[must_use]
    pub fn description(&self) -> &'static str {
        self.parts().0
    }

    /// SHA-256 of all that it says, in hexadecimal: its version.
    #[must_use]
    pub fn digest(&self) -> String {
        digest([BASE, self.file])
    }

    /// The whole text, with facts in their places.
    pub(crate) fn fill(&self, facts: &[(&str, &str)]) -> String {
        let text = BASE.replace("{template}", self.parts().1.trim_end());
        facts.iter().fold(text, |text, (name, fact)| text.replace(&format!("{{{name}}}"), fact))
    }

    fn parts(&self) -> (&'static str, &'static str) {
        self.file.split_once("\n\n").unwrap_or((self.file, ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_template_has_a_name_a_line_and_a_version_of_its_own() {
        let mut digests = std::collections::BTreeSet::new();
        for it in templates() {
            assert_eq!(template(it.name()).unwrap(), it);
            let (line, text) = it.parts();
            assert!(!line.is_empty() && line.len() < 80 && !line.contains('\n'), "{line}");
            assert!(text.starts_with("- ") && text.is_ascii() && text.len() < 2_000, "{text}");
            assert!(digests.insert(it.digest()));
            let filled = it.fill(&[("language", "L"), ("version", "V"), ("modules", "M"), ("limits", "X")]);
            assert!(filled.contains(text.trim_end()) && !filled.contains(['{', '}']), "{filled}");
        }
        assert_eq!(templates().first().map(Template::name), Some(DEFAULT_TEMPLATE));
    }

    #[test]
    fn a_name_that_is_none_is_refused_with_the_nearest_one() {
        let error = template("raport").unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), error.hint().as_str()),
            ("there is no template `raport`", "did you mean `report`?")
        );
        assert!(template("\x1b[2J").unwrap_err().to_string().contains("\\x1b"));
        assert!(template("zzzzzz").unwrap_err().hint().contains("general, data-file"));
    }
}
