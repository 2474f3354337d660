//! Serves the fixtures to any client: prints its port and a line end, then answers until its standard input ends. How a request
//! names its fixture is said at `answer_by_fixture`.

use capibara_fake::{Fake, answer_by_fixture};
use std::io::Read;

fn main() -> std::io::Result<()> {
    let fake = Fake::start(answer_by_fixture);
    println!("{}", fake.address().port());
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
