//! Addresses of names, found without the C library.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::read_system_conf;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

static OWN: AtomicBool = AtomicBool::new(false);

/// Looks names of hosts up by itself, from now on and in the whole process: in `/etc/hosts`, and with the servers that `/etc/resolv.conf`
/// names. It takes none of the other ways that `/etc/nsswitch.conf` may name (mDNS, LDAP).
///
/// It is for programs that are linked statically. glibc would load the modules for those ways from the machine into such a program, made for
/// another C library, and may crash in them.
pub fn use_own_resolver() {
    OWN.store(true, Ordering::Relaxed);
}

/// The resolver, if the system's is not to be used.
pub(super) fn own_resolver() -> Option<Arc<OwnResolver>> {
    OWN.load(Ordering::Relaxed).then(Arc::default)
}

/// A stub resolver (RFC 1034, section 5.3.1) as the machine configures it.
#[derive(Default)]
pub(super) struct OwnResolver {
    /// Read when it is first needed: most providers are asked by address, or not at all.
    system: OnceLock<Arc<System>>,
}

struct System {
    resolver: Result<TokioResolver, NetError>,
    /// Why no server is known; then `/etc/hosts` is all there is.
    no_server: Option<NetError>,
}

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
enum Unresolved {
    #[error("no address is known for `{name}`: {error}")]
    Lookup { name: String, error: NetError },
    #[error("no address is known for `{name}`: it is not in /etc/hosts, and /etc/resolv.conf is of no use ({error})")]
    NoServer { name: String, error: NetError },
}

impl System {
    fn read() -> Self {
        let (configuration, no_server) = match read_system_conf() {
            Ok(read) => (read, None),
            // Nobody's public servers are asked in their place.
            Err(error) => ((ResolverConfig::from_name_servers(Vec::new()), ResolverOpts::default()), Some(error)),
        };
        Self { resolver: resolver(configuration), no_server }
    }

    async fn addresses(&self, name: &str) -> Result<Addrs, Unresolved> {
        let resolver = self.resolver.as_ref();
        let found = match resolver {
            Ok(resolver) => resolver.lookup_ip(name).await,
            Err(error) => Err(error.clone()),
        };
        let found = found.map_err(|error| match &self.no_server {
            Some(error) => Unresolved::NoServer { name: name.to_owned(), error: error.clone() },
            None => Unresolved::Lookup { name: name.to_owned(), error },
        })?;
        // The port is the address's own.
        Ok(Box::new(found.iter().map(|address| SocketAddr::new(address, 0)).collect::<Vec<_>>().into_iter()))
    }
}

fn resolver((servers, mut options): (ResolverConfig, ResolverOpts)) -> Result<TokioResolver, NetError> {
    // Both, for whoever connects takes the one that answers first (RFC 8305).
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    let mut builder = TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build()
}

impl Resolve for OwnResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let system = Arc::clone(self.system.get_or_init(|| Arc::new(System::read())));
        Box::pin(async move { Ok(system.addresses(name.as_str()).await?) })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, UdpSocket};
    use std::time::Duration;

    use hickory_resolver::Hosts;
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig};

    use super::*;

    /// A server of names that knows one: `model.test` is 192.0.2.7 (RFC 1035, section 4).
    fn server_of_names() -> u16 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut query) {
                let query = &query[..len];
                // The question is after the 12 bytes of the header: labels, type, class.
                let labels = query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
                let question = &query[12..12 + labels + 4];
                let is_known = question[..labels].eq_ignore_ascii_case(b"\x05model\x04test\x00");
                let is_address = question[labels..labels + 2] == [0, 1];
                let answers = u8::from(is_known && is_address);
                let mut reply = query[..2].to_vec();
                reply.extend([0x81, if is_known { 0x80 } else { 0x83 }, 0, 1, 0, answers, 0, 0, 0, 0]);
                reply.extend(question);
                if answers == 1 {
                    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
                }
                let _ = socket.send_to(&reply, from);
            }
        });
        port
    }

    fn system(servers: Vec<NameServerConfig>, no_server: Option<NetError>) -> System {
        let mut options = ResolverOpts::default();
        (options.timeout, options.attempts) = (Duration::from_millis(500), 1);
        let mut resolver = resolver((ResolverConfig::from_parts(None, vec![], servers), options)).unwrap();
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(&b"192.0.2.9 here.test alias\n::1 six.test\n"[..]).unwrap();
        resolver.set_hosts(Arc::new(hosts));
        System { resolver: Ok(resolver), no_server }
    }

    #[tokio::test]
    async fn names_are_found_in_hosts_and_with_the_server() {
        let mut udp = ConnectionConfig::udp();
        udp.port = server_of_names();
        let server = NameServerConfig::new(IpAddr::V4(Ipv4Addr::LOCALHOST), true, vec![udp]);
        let system = system(vec![server], None);
        let mut found = Vec::new();
        for name in ["model.test", "here.test", "alias", "six.test", "localhost"] {
            let addresses = system.addresses(name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            found.push((name, addresses.map(|it| it.ip().to_string()).collect::<Vec<_>>().join(" ")));
        }
        assert_eq!(
            found.iter().map(|(name, at)| (*name, at.as_str())).collect::<Vec<_>>(),
            [
                ("model.test", "192.0.2.7"),
                ("here.test", "192.0.2.9"),
                ("alias", "192.0.2.9"),
                ("six.test", "::1"),
                ("localhost", "::1 127.0.0.1")
            ]
        );
        let error = system.addresses("nowhere.test").await.err().unwrap();
        assert!(error.to_string().starts_with("no address is known for `nowhere.test`: "), "{error}");
    }

    #[tokio::test]
    async fn without_a_server_the_names_in_hosts_are_known() {
        let system = system(vec![], Some(NetError::from("no such file")));
        assert_eq!(system.addresses("here.test").await.unwrap().count(), 1);
        let error = system.addresses("model.test").await.err().unwrap().to_string();
        assert!(error.contains("/etc/resolv.conf is of no use (no such file)"), "{error}");
    }
}
