//! What a script does as a whole: things that are harmless alone and tell something together.

use std::rc::Rc;

use super::Map;
use super::ast::{Place, Stmt, StmtKind};
use super::machine::Machine;
use super::value::{Args, Value};
use crate::rules::{self, Rule};

#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Values hung onto modules, by path.
    pub(super) planted: Map<Rc<str>, Value>,
    /// `os.dup2`.
    pub(super) duplicates: bool,
    /// A credential is read: a variable or a file.
    pub(super) reads_secret: bool,
    /// Something encoded is decoded.
    pub(super) decoded: bool,
    /// Calls of `chr`.
    pub(super) characters: u32,
    pub(super) network: bool,
    pub(super) process: bool,
    pub(super) dynamic: bool,
    pub(super) environment: bool,
    calls: usize,
}

impl Facts {
    pub(super) fn found(&mut self, rule: &'static Rule) {
        self.network |= rule.id == rules::network_access.id;
        self.process |= rule.id == rules::spawn_process.id;
        self.dynamic |= rule.id == rules::dynamic_code.id;
        self.environment |= rule.id == rules::environment_access.id;
    }

    pub(super) fn call(&mut self, arguments: usize) {
        self.calls += arguments;
    }

    pub(super) fn sent(&mut self, _args: &Args) {
        self.network = true;
    }

    /// `while True:` that only ever grows something.
    pub(super) fn endless_loop(&self, machine: &Machine<'_>, test: u32, body: &[Stmt], place: Place) -> Option<Place> {
        use super::ast::Kind;
        let endless = matches!(
            machine.ast.exprs.get(test as usize).map(|expr| &expr.kind),
            Some(Kind::Bool(true) | Kind::Int(Some(1)))
        );
        (endless && body.len() <= 4 && body.iter().all(|stmt| grows(machine, stmt))).then_some(place)
    }
}

/// Whether a statement does nothing but make something larger.
fn grows(machine: &Machine<'_>, stmt: &Stmt) -> bool {
    use super::ast::Kind;
    let kind = |expr: u32| machine.ast.exprs.get(expr as usize).map(|expr| &expr.kind);
    match &stmt.kind {
        StmtKind::AugAssign(target, operator @ ("+" | "*"), value) => match kind(*value) {
            // `s += s`, `data += "x" * 1000`, `l *= 2`; `i += 1` only counts.
            Some(Kind::Name(_)) => match (kind(*target), kind(*value)) {
                (Some(Kind::Name(a)), Some(Kind::Name(b))) => a == b,
                _ => false,
            },
            Some(Kind::Str(_) | Kind::Bytes(_) | Kind::List(_) | Kind::Binary("*", _, _)) => true,
            Some(Kind::Int(Some(2..))) => *operator == "*",
            _ => false,
        },
        StmtKind::Expr(expr) => match kind(*expr) {
            Some(Kind::Call(function, _)) => match kind(*function) {
                Some(Kind::Attribute(_, name)) => {
                    matches!(&*machine.ast.names.get(*name), "append" | "extend" | "add" | "appendleft")
                }
                _ => false,
            },
            _ => false,
        },
        _ => false,
    }
}

/// Calls that send what they are given over the network.
pub(super) fn sends(path: &str) -> bool {
    matches!(
        path,
        "requests.post"
            | "requests.put"
            | "httpx.post"
            | "urllib.request.urlopen"
            | "urllib.request.Request"
            | "smtplib.SMTP"
            | "ftplib.FTP"
    )
}

/// Texts that tell of a miner.
const MINING: &[&str] = &[
    "stratum+tcp://",
    "stratum+ssl://",
    "stratum2+tcp",
    "xmrig",
    "cryptonight",
    "minerd",
    "nicehash",
    "nanopool.org",
    "minexmr",
    "supportxmr",
    "moneroocean",
    "ethermine",
    "cpuminer",
    "coinhive",
    "2miners.com",
    "f2pool",
    "hashvault.pro",
    "mining.subscribe",
    "mining.authorize",
    "unmineable.com",
    "cgminer",
    "t-rex.exe",
    "phoenixminer",
    "lolminer",
];
/// Texts that tell of a shell handed to somebody else, and of destruction.
const SHELLS: &[&str] = &[
    "/dev/tcp/",
    "/dev/udp/",
    "bash -i",
    "nc -e",
    "ncat -e",
    "nc -lvp",
    "mkfifo /tmp/",
    "rm -rf /",
    "rm -rf ~",
    ":(){",
    "dd if=/dev/zero of=/dev/",
    "mkfs.",
    "powershell -enc",
    "powershell -e ",
    "invoke-expression",
    "iex(",
    "| sh",
    "|sh",
    "| bash",
    "|bash",
    "schtasks /create",
    "reg add",
    "crontab -",
    "vssadmin delete",
    "socat exec",
    "chmod 777 /",
    "useradd ",
    "net user ",
];
/// Places things are sent to.
const DROPS: &[&str] = &[
    "discord.com/api/webhooks",
    "discordapp.com/api/webhooks",
    "api.telegram.org/bot",
    "hooks.slack.com/services",
    "webhook.site",
    "requestbin",
    "pipedream.net",
    "ngrok.io",
    "ngrok-free",
    "transfer.sh",
    "pastebin.com/api",
    "burpcollaborator",
    "oast.fun",
    "interact.sh",
    "canarytokens",
    "beeceptor.com",
];
/// Files that hold credentials.
const CREDENTIALS: &[&str] = &[
    ".ssh/",
    "id_rsa",
    "id_ed25519",
    ".aws/credentials",
    ".netrc",
    ".git-credentials",
    ".npmrc",
    ".pypirc",
    ".kube/config",
    ".docker/config.json",
    ".gnupg",
    "/etc/shadow",
    "/etc/passwd",
    "wallet.dat",
    "login data",
    "cookies.sqlite",
    "logins.json",
    "key4.db",
    ".bash_history",
    ".config/gcloud",
    "keychain",
    "metamask",
    "local storage/leveldb",
];

/// Whether a text names a file that holds credentials.
pub(super) fn is_credential_file(text: &str) -> bool {
    let text = text.to_ascii_lowercase().replace('\\', "/");
    CREDENTIALS.iter().any(|part| text.contains(part))
}

/// Reports what a script as a whole is known for.
pub(super) fn idioms(machine: &mut Machine<'_>) {
    let facts = &machine.facts;
    let (network, process, secret) = (facts.network, facts.process, facts.reads_secret || facts.environment);
    let duplicates = facts.duplicates;
    if !network && !process {
        return;
    }
    let mut found: Vec<(Place, &'static str)> = Vec::new();
    let mut credential = false;
    for expr in &machine.ast.exprs {
        let super::ast::Kind::Str(text) = &expr.kind else { continue };
        if text.len() < 4 || text.len() > 4096 {
            continue;
        }
        let lower = text.to_ascii_lowercase();
        let has = |list: &[&str]| list.iter().any(|part| lower.contains(part));
        if has(MINING) {
            found.push((expr.place, "names a mining pool or miner, and reaches the network or starts processes"));
        } else if process && has(SHELLS) {
            found.push((expr.place, "is a command that hands over a shell, fetches code or destroys data"));
        } else if network && has(DROPS) {
            found.push((expr.place, "is an address that stolen data is often sent to"));
        } else if network && is_credential_file(text) {
            credential = true;
            found.push((expr.place, "names a file with credentials, and the script reaches the network"));
        }
        if found.len() > 20 {
            break;
        }
    }
    for (place, what) in found {
        machine.report(rules::malicious_idiom, place, what);
    }
    if network && duplicates {
        machine.report(
            rules::malicious_idiom,
            first(machine, rules::network_access.id),
            "binds a network connection to the standard streams: a reverse shell",
        );
    } else if network && process {
        machine.report(
            rules::malicious_idiom,
            first(machine, rules::network_access.id),
            "reaches the network and starts processes",
        );
    }
    if network && secret && !credential {
        machine.report(
            rules::malicious_idiom,
            first(machine, rules::network_access.id),
            "reads the environment or credentials, and reaches the network",
        );
    }
}

fn first(machine: &Machine<'_>, rule: &str) -> Place {
    machine.findings.iter().find(|(found, _, _)| found.id == rule).map(|(_, place, _)| *place).unwrap_or_default()
}
