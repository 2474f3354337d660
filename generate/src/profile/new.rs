//! Adding a profile to a file of profiles, without changing what is there.

use std::fmt::Write;

use super::{ProfileError, Profiles};

/// A profile to be added to a file: one that is like another, with what differs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewProfile {
    /// Its name.
    pub name: String,
    /// The profile it takes the rest from.
    pub like: Option<String>,
    /// The kind, if it is like none.
    pub kind: Option<String>,
    /// The address.
    pub base_url: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The variable that holds the key; an empty name says that there is no key.
    pub key_env: Option<String>,
}

impl NewProfile {
    /// The text of a file with this profile at its end. Comments and order of what is there are kept.
    ///
    /// # Errors
    ///
    /// [`ProfileError`] if the text is not one of profiles, has one of that name, or would not be read back.
    pub fn added_to(&self, text: &str) -> Result<String, ProfileError> {
        const FILE: &str = "models.yaml";
        let mut before = Profiles::read::<&str>([])?;
        before.add(FILE, text)?;
        if before.user_defined().contains(&self.name) {
            return Err(ProfileError::Exists { name: self.name.clone() });
        }
        // A file written as one `{…}` has no end to write after.
        let mut whole = if text.trim() == "{}" { String::new() } else { text.to_owned() };
        if !whole.is_empty() && !whole.ends_with('\n') {
            whole.push('\n');
        }
        let _ = writeln!(whole, "{}:", quoted(&self.name));
        let lines = [("like", &self.like), ("kind", &self.kind), ("base_url", &self.base_url), ("model", &self.model)];
        for (key, value) in lines {
            if let Some(value) = value {
                let _ = writeln!(whole, "  {key}: {}", quoted(value));
            }
        }
        match self.key_env.as_deref() {
            Some("") => whole.push_str("  key: none\n"),
            Some(name) => {
                let _ = writeln!(whole, "  key: {{env: {}}}", quoted(name));
            }
            None => {}
        }
        let mut after = Profiles::read::<&str>([])?;
        after.add(FILE, &whole)?;
        Ok(whole)
    }
}

/// A word as it is if it can only be read as that word, else a double-quoted scalar, of which JSON is one.
fn quoted(text: &str) -> String {
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"-_./".contains(&it);
    if text.bytes().all(plain) && text.starts_with(|it: char| it.is_ascii_alphabetic()) {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(name: &str) -> NewProfile {
        NewProfile {
            name: name.into(),
            like: Some("groq".into()),
            model: Some("a/b:1".into()),
            ..NewProfile::default()
        }
    }

    #[test]
    fn a_profile_is_added_and_the_rest_is_kept() {
        for before in ["", "# mine\nfast: {like: groq} # note\n", "fast:\n  like: groq", "{}"] {
            let text = new("slow").added_to(before).unwrap();
            assert!(before == "{}" || text.starts_with(before), "{text}");
            assert!(text.ends_with("slow:\n  like: groq\n  model: \"a/b:1\"\n"), "{text}");
        }
        let own = NewProfile {
            name: "own".into(),
            kind: Some("ollama".into()),
            base_url: Some("http://127.0.0.1:1".into()),
            key_env: Some(String::new()),
            ..NewProfile::default()
        };
        assert_eq!(
            own.added_to("").unwrap(),
            "own:\n  kind: ollama\n  base_url: \"http://127.0.0.1:1\"\n  key: none\n"
        );
        let keyed = NewProfile { key_env: Some("MY_KEY".into()), ..own };
        assert!(
            keyed.added_to("").unwrap().ends_with("  key: {env: \"MY_KEY\"}\n")
                || keyed.added_to("").unwrap().ends_with("  key: {env: MY_KEY}\n")
        );
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        for (name, before, part) in [
            ("fast", "fast: {like: groq}\n", "already"),
            ("Fast", "", "no name of a profile"),
            ("a\nb", "", "no name of a profile"),
            ("fast", "{slow: {like: groq}}", ""),
            ("fast", "- a\n", ""),
        ] {
            let error = new(name).added_to(before).unwrap_err();
            assert!(error.to_string().contains(part), "{name:?} {before:?}: {error}");
        }
        let sly = NewProfile { model: Some("m\nevil: {like: groq}".into()), ..new("fast") };
        assert!(sly.added_to("").unwrap_err().to_string().contains("no name of a model"));
        // A document that ends in a block would take what is added as a part of it.
        assert!(new("fast").added_to("a:\n  like: groq\n  model: |-\n    x\n").is_ok());
    }
}
