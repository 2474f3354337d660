//! Addresses where nobody answers.

use rustix::net::{AddressFamily, SocketType};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

/// An address of this machine where no connection is made, as long as this value lives.
#[derive(Debug)]
pub struct Dead {
    address: SocketAddr,
    _held: Held,
}

#[derive(Debug)]
enum Held {
    Port { _socket: OwnedFd },
    Queue { _listener: TcpListener, _first: TcpStream },
}

impl Dead {
    /// Every connection is refused at once.
    #[must_use]
    pub fn refusing() -> Self {
        // Bound, so that the port is nobody else's, but not listening.
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        rustix::net::bind(&socket, &any).expect("a free port on the loopback address");
        let address = rustix::net::getsockname(&socket).expect("a name of the socket");
        let address = SocketAddr::try_from(address).expect("an address of IP");
        Self { address, _held: Held::Port { _socket: socket } }
    }

    /// Every attempt to connect takes until its time is out.
    #[must_use]
    pub fn never_accepting() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on the loopback address");
        // A queue of none holds one; after that, the kernel leaves connections unanswered.
        rustix::net::listen(&listener, 0).expect("a shorter queue");
        let address = listener.local_addr().expect("a name of the socket");
        let first = TcpStream::connect(address).expect("the one connection that fits");
        Self { address, _held: Held::Queue { _listener: listener, _first: first } }
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::time::Duration;

    #[test]
    fn nobody_answers() {
        let brief = Duration::from_millis(150);
        for (dead, expected) in
            [(Dead::refusing(), ErrorKind::ConnectionRefused), (Dead::never_accepting(), ErrorKind::TimedOut)]
        {
            for _ in 0..2 {
                let error = TcpStream::connect_timeout(&dead.address, brief).unwrap_err();
                assert_eq!(error.kind(), expected, "{}", dead.url());
            }
        }
    }
}
