//! Scripts out of answers: what `answers/*.txt` expect, by the interpreter in the sandbox, and properties of any answer.
//!
//! An answer begins at a line `%%%% name | flags` and ends at `%%%% script`, after which its script follows, or at `%%%% again WHY`.
//! Flags: `crlf` and `cr` change line ends, `bom` puts a byte-order mark before it, `tight` takes off the last line end.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::convert::Infallible;
use std::time::{Duration, Instant};

use capibara_generate::extract::{Extraction, MOST_ANSWER_BYTES, Parsed, Parser, Why, extract};
use capibara_generate::parse::SandboxParser;

fn sandbox() -> SandboxParser {
    let engine = capibara::Engine::new(capibara::EngineConfig::default()).unwrap();
    engine.prepare(capibara::Language::Python, false, &capibara::Silent).unwrap();
    SandboxParser::new(engine)
}

/// An answer and what it comes to: its script, or the name of why there is none.
struct Case {
    name: String,
    answer: String,
    expected: Result<String, String>,
}

fn cases() -> Vec<Case> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/answers");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|file| read_cases(&std::fs::read_to_string(file).unwrap())).collect()
}

fn read_cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut flags = String::new();
    for line in text.split_inclusive('\n') {
        let header = line.strip_prefix("%%%% ").map(str::trim_end);
        let last = cases.last_mut();
        match (header, last) {
            (Some("script"), Some(case)) => case.expected = Ok(String::new()),
            (Some(header), Some(case)) if header.starts_with("again ") => case.expected = Err(header[6..].to_owned()),
            (Some(header), _) => {
                finish(cases.last_mut(), &flags);
                let (name, marks) = header.split_once(" | ").unwrap_or((header, ""));
                flags = marks.to_owned();
                // Neither a script nor a reason yet.
                cases.push(Case { name: name.to_owned(), answer: String::new(), expected: Err(String::new()) });
            }
            (None, Some(case)) => match &mut case.expected {
                Ok(script) => script.push_str(line),
                Err(why) if why.is_empty() => case.answer.push_str(line),
                Err(_) => panic!("{}: text after its reason", case.name),
            },
            (None, None) => panic!("text before the first answer"),
        }
    }
    finish(cases.last_mut(), &flags);
    cases
}

fn finish(case: Option<&mut Case>, flags: &str) {
    let Some(case) = case else { return };
    assert_ne!(case.expected, Err(String::new()), "{}: no expectation", case.name);
    for flag in flags.split_whitespace() {
        case.answer = match flag {
            "crlf" => case.answer.replace('\n', "\r\n"),
            "cr" => case.answer.replace('\n', "\r"),
            "bom" => format!("\u{feff}{}", case.answer),
            "tight" => case.answer.trim_end_matches('\n').to_owned(),
            _ => panic!("{}: unknown flag {flag}", case.name),
        };
    }
}

/// Answers that are too long to be written down.
fn long_cases() -> Vec<Case> {
    let blocks = |count: usize, code: &dyn Fn(usize) -> String| {
        (0..count).map(|at| format!("Part\n\n```python\n{}\n```\n\n", code(at))).collect::<String>()
    };
    let line = format!("x = [{}]", "1, ".repeat(50_000));
    let case = |name: &str, answer: String, expected: Result<&str, &str>| Case {
        name: name.to_owned(),
        answer,
        expected: expected.map(str::to_owned).map_err(str::to_owned),
    };
    let bash = "```bash\nls\n```\n".repeat(200);
    vec![
        case("200 different blocks", blocks(200, &|at| format!("print({at})")), Err("ambiguous")),
        case("200 identical blocks", blocks(200, &|_| "print(0)".to_owned()), Ok("print(0)\n")),
        case("one block among 200 of bash", format!("{bash}```python\nprint(1)\n```\n{bash}"), Ok("print(1)\n")),
        case("2,000 different blocks", blocks(2_000, &|at| format!("print({at})")), Err("too_much")),
        case("a very long line", format!("```python\n{line}\n```\n"), Ok(&format!("{line}\n"))),
        case("nesting too deep", format!("```python\n{}1\n```\n", "-".repeat(200_000)), Err("invalid")),
        case("parentheses too deep", format!("```python\nx = {}\n```\n", "(".repeat(100_000)), Err("invalid")),
        case("a null byte", "```python\nx = '\0'\n```\n".to_owned(), Err("invalid")),
        case(
            "an answer that is too long",
            format!("```python\nprint(1)\n```\n{}", " ".repeat(MOST_ANSWER_BYTES)),
            Err("too_large"),
        ),
    ]
}

fn outcome(extraction: &Extraction) -> Result<&str, &'static str> {
    match extraction {
        Extraction::Script { text } => Ok(text),
        Extraction::Again { why } => Err(why.name()),
    }
}

#[test]
fn answers_give_their_script_or_another_question() {
    let mut parser = sandbox();
    let cases: Vec<Case> = cases().into_iter().chain(long_cases()).collect();
    assert!(cases.len() >= 120, "{} answers", cases.len());
    let (mut exact, mut wrong) = (0, 0);
    let mut slowest = (Duration::ZERO, "");
    let begin = Instant::now();
    for case in &cases {
        let start = Instant::now();
        let found = extract(&case.answer, &mut parser).unwrap();
        slowest = slowest.max((start.elapsed(), &case.name));
        match (outcome(&found), &case.expected) {
            // Equal but for the final line end.
            (Ok(text), Ok(script)) if text.trim_end_matches('\n') == script.trim_end_matches('\n') => {
                exact += 1;
                assert!(is_a_piece(text, &case.answer), "{}: not a piece of the answer:\n{text}", case.name);
            }
            (Err(why), Err(expected)) => {
                exact += 1;
                if why != expected {
                    println!("{}: asked again for another reason: {found:?}, not {expected}", case.name);
                }
            }
            (Ok(_), _) => {
                wrong += 1;
                println!("{}: WRONG CODE: {found:?}", case.name);
            }
            (Err(_), Ok(_)) => println!("{}: asked needlessly: {found:?}", case.name),
        }
    }
    let took = begin.elapsed();
    println!("{exact} of {} exact, {wrong} wrong, in {took:?}, the slowest {slowest:?}", cases.len());
    assert_eq!(wrong, 0);
    assert!(exact * 100 >= cases.len() * 98);
}

/// Whether a script is a row of lines of an answer, each without what stands in front of it.
fn is_a_piece(script: &str, answer: &str) -> bool {
    let answer = answer.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = answer.lines().collect();
    let script: Vec<&str> = script.lines().collect();
    lines.windows(script.len()).any(|lines| {
        // Half a tab comes as spaces.
        lines.iter().zip(&script).all(|(line, code)| line.ends_with(code) || line.ends_with(code.trim_start()))
    })
}

/// A parser that needs no sandbox and says one thing, or what a text's length says.
struct Says(Option<Parsed>);

impl Parser for Says {
    type Error = Infallible;

    fn parse(&mut self, texts: &[&str]) -> Result<Vec<Parsed>, Infallible> {
        let invalid = |unfinished| Parsed::Invalid { line: 1, message: "x".to_owned(), unfinished };
        Ok(texts
            .iter()
            .map(|text| {
                self.0.clone().unwrap_or_else(|| match text.len() % 5 {
                    0 => Parsed::Script,
                    1 => Parsed::Trivial,
                    2 => Parsed::Fragment { line: 1, message: "y".to_owned() },
                    3 => invalid(false),
                    _ => invalid(true),
                })
            })
            .collect())
    }
}

/// A small generator of numbers (xorshift), so that the same answers come in each run.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 33).unwrap()
}

const PIECES: [&str; 44] = [
    "```",
    "```python\n",
    "~~~",
    "~~~~py\n",
    "````",
    "\n",
    "\n\n",
    "   ",
    "    ",
    "\t",
    "> ",
    ">",
    "- ",
    "-",
    "1. ",
    "12) ",
    "* ",
    "\"\"\"",
    "'''",
    "print(1)\n",
    "x = 1\n",
    "<think>",
    "</think>",
    "<thinking>\n",
    "[THINK]",
    "Final version:\n",
    "Don't use this:\n",
    "That is wrong.\n",
    "# Wrong\n",
    "**Full script**\n",
    "main.py",
    "é",
    "“",
    "🐹",
    "\u{feff}",
    "\r\n",
    "\r",
    "<!--",
    "-->",
    "`",
    "{.python}",
    "In [1]:",
    "❌",
    ":",
];

#[test]
fn any_answer_gives_a_piece_of_itself_or_another_question() {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let mut scripts = 0;
    for round in 0..30_000 {
        let pieces = 1 + next(&mut state) % 60;
        let answer: String = (0..pieces).map(|_| PIECES[next(&mut state) % PIECES.len()]).collect();
        let Ok(found) = extract(&answer, &mut Says(None));
        if let Extraction::Script { text } = &found {
            scripts += 1;
            assert!(is_a_piece(text, &answer), "round {round}: {answer:?} gave {text:?}");
        }
        // The same answer with other line ends is the same answer.
        let Ok(windows) =
            extract(&answer.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n"), &mut Says(None));
        assert_eq!(found, windows, "{answer:?}");
    }
    assert!(scripts > 1_000, "{scripts} scripts");
}

#[test]
fn the_interpreter_agrees_that_what_is_found_is_a_script() {
    let mut parser = sandbox();
    let mut state = 0x2545_f491_4f6c_dd1d;
    let mut scripts = 0;
    let lines =
        ["```\n", "```python\n", "~~~\n", "\n", "print(1)\n", "x = 1\n", "'''\n", "> ", "- ", "  ", "Final version:\n"];
    for _ in 0..400 {
        let pieces = 1 + next(&mut state) % 20;
        let answer: String = (0..pieces).map(|_| lines[next(&mut state) % lines.len()]).collect();
        if let Extraction::Script { text } = extract(&answer, &mut parser).unwrap() {
            scripts += 1;
            assert_eq!(parser.parse(&[&text]).unwrap(), [Parsed::Script], "{answer:?}");
        }
    }
    assert!(scripts > 5, "{scripts} scripts");
}

#[test]
fn hostile_answers_take_linear_time() {
    let filled = |piece: &str| piece.repeat(MOST_ANSWER_BYTES / piece.len());
    let deep = format!("{}\n{}", "- ".repeat(200_000), "\n".repeat(500_000));
    let unfinished = Parsed::Invalid { line: 1, message: String::new(), unfinished: true };
    let parsers = [None, Some(Parsed::Script), Some(Parsed::Trivial), Some(unfinished)];
    let pieces = [
        "`",
        "```\n",
        "```\na\n",
        "```python\n",
        "~~~py\nx\n~~~\n",
        "> ",
        ">\n",
        "- ",
        "-\n",
        "1. ",
        "1.\n",
        "<",
        "<think>",
        "<think ",
        "</think>\n",
        "[",
        "\t",
        "\n",
        "\r",
        "a ",
        "Final version: ",
        "Don't use this. ",
        "<!--\n",
        "**a**:\n```python\na\n```\n",
        "> - ```py\n",
        "❌\n```\n",
        ".py ",
    ];
    let answers = pieces.into_iter().map(filled).chain([deep, format!("{}```python", " ".repeat(1 << 19))]);
    let mut slowest = (Duration::ZERO, String::new());
    for answer in answers {
        for parsed in &parsers {
            let mut took = Duration::MAX;
            // On a machine that does other things too, the shortest of some tries is what it takes.
            for _ in 0..4 {
                let start = Instant::now();
                let Ok(_) = extract(&answer, &mut Says(parsed.clone()));
                took = took.min(start.elapsed());
                if took < Duration::from_millis(300) {
                    break;
                }
            }
            slowest = slowest.max((took, answer.chars().take(20).collect()));
        }
    }
    println!("1 MiB: the slowest {slowest:?}");
    assert!(slowest.0 < Duration::from_secs(1), "{slowest:?}");
}

#[test]
fn what_breaks_the_interpreter_does_not_break_its_neighbours() {
    let mut parser = sandbox();
    let nested = "-".repeat(500_000) + "1";
    let open = "(".repeat(1 << 20);
    let lists = "[".repeat(150) + &"]".repeat(150);
    let texts = ["print(1)", &nested, "x", &open, "return 1", &lists, "a\0b", "\u{feff}x = 1", "x = 'é\u{2028}'", ""];
    let found = parser.parse(&texts).unwrap();
    assert_eq!(found.len(), texts.len());
    assert_eq!(found[0], Parsed::Script);
    assert!(matches!(found[1], Parsed::Invalid { .. }), "{:?}", found[1]);
    assert_eq!(found[2], Parsed::Trivial);
    assert!(matches!(found[3], Parsed::Invalid { .. }), "{:?}", found[3]);
    assert!(matches!(&found[4], Parsed::Fragment { line: 1, message } if message.contains("outside function")));
    assert_eq!(found[5], Parsed::Trivial);
    assert!(matches!(found[6], Parsed::Invalid { .. }), "{:?}", found[6]);
    assert_eq!(found[8], Parsed::Script);
    assert_eq!(found[9], Parsed::Trivial);
    assert_eq!(parser.parse(&texts).unwrap(), found, "the same texts, the same results");
    assert_eq!(parser.parse(&[]).unwrap(), []);
}

#[test]
fn a_call_is_quick() {
    let mut parser = sandbox();
    let script = "import csv\nfor row in csv.reader(open('x')):\n    print(row)\n".repeat(20);
    parser.parse(&[&script]).unwrap();
    // On a machine that does other things too, the shortest is what a call takes.
    let mut call = || {
        let start = Instant::now();
        assert_eq!(parser.parse(&[&script]).unwrap(), [Parsed::Script]);
        start.elapsed()
    };
    let each = (0..50).map(|_| call()).min().unwrap();
    let start = Instant::now();
    let large = "x = f(1, 'abc')  # a comment\n".repeat(30_000);
    let found = parser.parse(&[&large]).unwrap();
    println!("a call takes {each:?}; {} KiB of code {:?}", large.len() >> 10, start.elapsed());
    assert_eq!(found, [Parsed::Script]);
    // The bar is 3 ms on a quiet machine.
    assert!(each < Duration::from_millis(60), "{each:?}");
}

#[test]
fn reasons_tell_the_model_what_to_do() {
    for (why, part) in [
        (
            Why::Invalid { line: 3, message: "'(' was never closed".to_owned() },
            "Line 3 of the block: '(' was never closed.",
        ),
        (Why::Ambiguous { blocks: 2 }, "2 different Python blocks"),
        (Why::OtherLanguages, "marked as Python"),
    ] {
        let text = why.to_string();
        assert!(text.contains(part) && text.ends_with("that holds the whole script."), "{text}");
    }
}
