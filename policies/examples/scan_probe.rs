use capibara_policies::*;
fn main() {
    let strict = Policy::preset("strict").unwrap();
    let moderate = Policy::preset("moderate").unwrap();
    for path in std::env::args().skip(1) {
        let bytes = std::fs::read(&path).unwrap();
        let script = Script { path: &path, bytes: &bytes, language: None, own_modules: &[] };
        let t = std::time::Instant::now();
        let s = Scanner::new().scan(&script, &strict);
        let e = t.elapsed();
        let m = Scanner::new().scan(&script, &moderate);
        let f: Vec<String> = m
            .findings
            .iter()
            .take(6)
            .map(|f| format!("{}@{}:{} {}", f.rule, f.span.line, f.span.column, f.message))
            .collect();
        println!("{} {} {} {:?} {}", s.verdict, m.verdict, path.rsplit('/').next().unwrap(), e, f.join(" | "));
    }
}
