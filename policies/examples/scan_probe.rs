use capibara_policies::*;
fn main() {
    let ps: Vec<Policy> = ["strict", "moderate", "permissive"].iter().map(|p| Policy::preset(p).unwrap()).collect();
    for path in std::env::args().skip(1) {
        let bytes = std::fs::read(&path).unwrap();
        let script = Script { path: &path, bytes: &bytes, language: None, own_modules: &[] };
        let v: Vec<String> = ps.iter().map(|p| Scanner::new().scan(&script, p).verdict.to_string()).collect();
        let t = std::time::Instant::now();
        let m = Scanner::new().scan(&script, &ps[1]);
        let e = t.elapsed();
        let f: Vec<String> =
            m.findings.iter().map(|f| format!("{}@{}:{} {}", f.rule, f.span.line, f.span.column, f.message)).collect();
        println!("{} {} {} {:?} {}", v[0], v[1], path, e, f.join(" | "));
    }
}
