//! A session under a policy, with two tools, whose output is shown while it is printed.

#![expect(clippy::print_stdout, reason = "an example prints")]

use capibara::{Engine, EngineConfig, Language, Policy, SessionConfig, Silent, Stream, Tool, ToolError, Turn};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Article {
    /// Its name, as in the catalogue.
    name: String,
}

async fn price(article: Article) -> Result<f64, ToolError> {
    let prices = [("apple", 0.5), ("pear", 0.75)];
    let found = prices.iter().find(|(name, _)| *name == article.name);
    found.map(|(_, price)| *price).ok_or_else(|| ToolError::public(format!("no article {}", article.name)))
}

async fn in_stock(article: Article) -> Result<bool, ToolError> {
    Ok(article.name != "pear")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::new(EngineConfig::default())?;
    engine.prepare(Language::Python, false, &Silent)?; // builds the runtime the first time
    let mut config = SessionConfig::new(Policy::preset("moderate")?);
    config.limits.fuel = Some(1_000_000_000); // of each turn
    config.tools = vec![
        Tool::new("price", "What an article costs.", price).with_calls(100),
        Tool::new("in_stock", "Whether there are any.", in_stock),
    ];
    let mut session = engine.session(config)?;
    for code in [
        "from capibara import tools\nprices = {name: tools.price(name=name) for name in ('apple', 'pear')}\nprint(prices)",
        "while True: prices.clear()",
        "sum(prices.values()), tools.in_stock(name='pear')",
        "tools.price(name='nut')",
    ] {
        let turn = Turn::new(code).with_sink(|_: Stream, bytes: &[u8]| print!("{}", String::from_utf8_lossy(bytes)));
        let outcome = session.run_blocking(turn)?;
        println!("-- {:?} {}", outcome.status, outcome.value.map_or_else(String::new, |value| value.text));
    }
    Ok(())
}
