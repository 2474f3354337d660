//! Where the lines of a session come from: an editor on a terminal, or whatever standard input is.

use std::cell::RefCell;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Stdin, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use capibara::Session;
use capibara::audit::AuditFolders;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Behavior, CompletionType, Config, Context, Editor, Helper};

use super::{COMMANDS, LARGEST_FILE};
use crate::errors::Failure;

/// Entries of the history that are kept.
const HISTORY: usize = 1000;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// A command or the code of a turn, of one line or several.
    Code(String),
    /// What cannot be either, and why.
    Unusable(&'static str),
    /// There is no more.
    End,
}

/// Where lines come from.
pub(super) enum Lines {
    Edited { editor: Box<Editor<Assistant, FileHistory>>, history: Option<PathBuf> },
    Plain(Plain<BufReader<Stdin>>),
}

impl Lines {
    /// Whether lines can be edited: a terminal on both sides, which can move its cursor.
    pub(super) fn can_be_edited() -> bool {
        is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb" && term != "cons25")
    }

    pub(super) fn new(editing: bool, session: &Rc<RefCell<Session>>) -> Result<Self, Failure> {
        if !editing {
            return Ok(Self::Plain(Plain { input: BufReader::new(io::stdin()), prompts: is_terminal() }));
        }
        let config = Config::builder()
            .auto_add_history(true)
            .behavior(Behavior::Stdio)
            .completion_type(CompletionType::List)
            .max_history_size(HISTORY)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(|error| unusable(&error))?;
        let mut editor = Box::new(Editor::with_config(config.build()).map_err(|error| unusable(&error))?);
        editor.set_helper(Some(Assistant(session.clone())));
        let history = history_file();
        if let Some(history) = &history {
            // The first time there is none.
            let _ = editor.load_history(history);
        }
        Ok(Self::Edited { editor, history })
    }

    /// Waits for what comes next.
    pub(super) fn next(&mut self, session: &RefCell<Session>) -> Result<Input, Failure> {
        match self {
            Self::Edited { editor, history } => loop {
                match editor.readline(">>> ") {
                    Ok(line) => {
                        if let Some(history) = history {
                            save_history(editor, history);
                        }
                        return Ok(Input::Code(line));
                    }
                    // Ctrl-C: what was typed is given up. A signal: nothing that is for us.
                    Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => {}
                    Err(ReadlineError::Eof) => return Ok(Input::End),
                    Err(error) => return Err(unusable(&error)),
                }
            },
            Self::Plain(plain) => plain
                .next(|text| is_incomplete(session, text))
                .map_err(|error| Failure::new("input", "failed to read standard input").with_cause(&error)),
        }
    }
}

fn is_terminal() -> bool {
    rustix::termios::isatty(rustix::stdio::stdin()) && rustix::termios::isatty(rustix::stdio::stdout())
}

fn unusable(error: &ReadlineError) -> Failure {
    Failure::new("operating-system", "failed to read lines").with_cause(error)
}

fn is_command(text: &str) -> bool {
    text.trim_start().starts_with(':')
}

/// Whether more lines are to come.
fn is_incomplete(session: &RefCell<Session>, text: &str) -> bool {
    !is_command(text) && !text.trim().is_empty() && session.borrow_mut().is_incomplete_blocking(text).unwrap_or(false)
}

/// Whether the last line is one of a block that only an empty line ends: that need not be asked, and asking after each line of a
/// long one takes long.
fn goes_on(code: &str) -> bool {
    const BLOCKS: [&str; 8] = ["async", "class", "def", "for", "if", "try", "while", "with"];
    let word = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default();
    let is_block = BLOCKS.contains(&word) || code.starts_with('@');
    let Some((_, last)) = code.rsplit_once('\n') else { return false };
    is_block && last.starts_with([' ', '\t']) && !last.trim().is_empty()
}

/// Lines as they come. An empty line ends a block, as at Python's own prompt.
pub(super) struct Plain<R> {
    input: R,
    /// Whether somebody sees what is asked for.
    prompts: bool,
}

impl<R: io::BufRead> Plain<R> {
    fn next(&mut self, mut is_incomplete: impl FnMut(&str) -> bool) -> io::Result<Input> {
        let mut text = Vec::new();
        loop {
            self.prompt(if text.is_empty() { ">>> " } else { "... " })?;
            let room = LARGEST_FILE.saturating_sub(text.len() as u64).saturating_add(1);
            let read = self.input.by_ref().take(room).read_until(b'\n', &mut text)?;
            if text.len() as u64 > LARGEST_FILE {
                self.skip()?;
                return Ok(Input::Unusable("it is more than 16MiB"));
            }
            if read == 0 && text.is_empty() {
                return Ok(Input::End);
            }
            let Ok(all) = std::str::from_utf8(&text) else {
                return Ok(Input::Unusable("it is not UTF-8"));
            };
            let code = all.strip_suffix('\n').unwrap_or(all);
            let code = code.strip_suffix('\r').unwrap_or(code);
            if read == 0 || !(goes_on(code) || is_incomplete(code)) {
                return Ok(Input::Code(code.to_owned()));
            }
        }
    }

    fn prompt(&self, text: &str) -> io::Result<()> {
        if !self.prompts {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Reads over the rest of a line.
    fn skip(&mut self) -> io::Result<()> {
        loop {
            let there = self.input.fill_buf()?;
            let end = there.iter().position(|byte| *byte == b'\n');
            let count = end.map_or(there.len(), |end| end + 1);
            self.input.consume(count);
            if end.is_some() || count == 0 {
                return Ok(());
            }
        }
    }
}

/// Beside the audit log, in the folder for state.
fn history_file() -> Option<PathBuf> {
    let folders = AuditFolders::from_env().ok()?;
    let folder = folders.log.parent()?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder).ok()?;
    Some(folder.join("repl_history"))
}

/// What was typed is for the user alone.
fn save_history(editor: &mut Editor<Assistant, FileHistory>, path: &Path) {
    let made = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    // Without a history the session goes on.
    if made.is_ok() {
        let _ = editor.append_history(path);
    }
}

/// Helps with editing: what can be completed, and whether more lines are to come.
pub(super) struct Assistant(Rc<RefCell<Session>>);

impl Helper for Assistant {}
impl Highlighter for Assistant {}

impl Hinter for Assistant {
    type Hint = String;
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let before = line.get(..at).unwrap_or_default();
        if before.starts_with(':') {
            let begin = |(name, _): &&(&str, &str)| name.starts_with(before);
            return Ok((0, COMMANDS.iter().filter(begin).map(|(name, _)| (*name).to_owned()).collect()));
        }
        let begins = |c: char| !(c.is_alphanumeric() || c == '_' || c == '.');
        let start = before.rfind(begins).map_or(0, |found| {
            found + before.get(found..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
        });
        let word = before.get(start..).unwrap_or_default();
        if word.is_empty() {
            // Tab at the beginning of a line is indentation.
            return Ok((at, vec!["    ".into()]));
        }
        let found = self.0.borrow_mut().complete_blocking(word).unwrap_or_default();
        // Names are the script's: what a terminal would obey is none.
        Ok((start, found.into_iter().filter(|name| !name.chars().any(crate::escape::is_unsafe)).collect()))
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let incomplete = is_incomplete(&self.0, context.input());
        Ok(if incomplete { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a text, if what ends with a colon or an indented line is not complete.
    fn read(text: &[u8]) -> Vec<Input> {
        let mut plain = Plain { input: text, prompts: false };
        let incomplete = |text: &str| {
            !text.ends_with('\n')
                && text.lines().last().is_some_and(|last| last.ends_with(':') || last.starts_with(' '))
        };
        std::iter::from_fn(|| Some(plain.next(incomplete).unwrap()).filter(|input| *input != Input::End)).collect()
    }

    #[test]
    fn blocks_are_read_as_they_would_be_typed() {
        let code = |text: &str| Input::Code(text.into());
        assert_eq!(read(b""), []);
        assert_eq!(read(b"a\n\nb"), [code("a"), code(""), code("b")]);
        assert_eq!(read(b"if x:\n  a\nelse:\n  b\n\nc\n"), [code("if x:\n  a\nelse:\n  b\n"), code("c")]);
        assert_eq!(read(b"a\r\nif x:\r\n b\r\n\r\n"), [code("a"), code("if x:\r\n b\r\n")]);
        // The end of the input ends a block, too.
        assert_eq!(read(b"if x:\n  a"), [code("if x:\n  a")]);
        assert_eq!(read(b"if x:\n  a\n"), [code("if x:\n  a")]);
    }

    #[test]
    fn a_line_of_a_block_is_never_its_end() {
        for code in ["def f():\n    return (1)", "@a\ndef f():\n\tx", "if a:\n  b\nelse:\n  c", "try:\n    x = ("] {
            assert!(goes_on(code), "{code}");
        }
        for code in [
            "def f():",
            "def f():\n  x\n",
            "def f():\n  x\n  ",
            "define(\n  1)",
            "x = (\n  1)",
            "if a:\n  b\nelse:",
            "",
        ] {
            assert!(!goes_on(code), "{code}");
        }
    }

    #[test]
    fn what_is_no_text_is_not_run() {
        assert_eq!(read(b"a\xff\nb\n"), [Input::Unusable("it is not UTF-8"), Input::Code("b".into())]);
        let mut long = vec![b'x'; usize::try_from(LARGEST_FILE).unwrap() + 10];
        long.extend(b"\nb\n");
        assert_eq!(read(&long), [Input::Unusable("it is more than 16MiB"), Input::Code("b".into())]);
    }
}
