//! What is asked.

use std::io::{self, BufRead, Read};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

const MOST_HEAD: u64 = 64 << 10;
const MOST_BODY: u64 = 32 << 20;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its number among all requests of the server, from 0.
    pub number: usize,
    /// The number of its connection, from 0.
    pub connection: usize,
    /// When its last byte was there.
    pub at: Instant,
    /// `POST`.
    pub method: String,
    /// With its query: `/v1/models/m:streamGenerateContent?alt=sse`.
    pub path: String,
    /// In order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// As it came.
    pub body: Vec<u8>,
    pub(crate) gone: Arc<OnceLock<Instant>>,
}

impl Received {
    /// The first header of that name, given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `Null` if it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// When the peer closed the connection (also by a half, or by a reset), as far as the server has seen. It sees that at once while
    /// it waits, hangs, or expects the next request, and at the next write otherwise; it does not look on after closing itself.
    #[must_use]
    pub fn gone(&self) -> Option<Instant> {
        self.gone.get().copied()
    }

    /// Everything in it as one text, for looking for what must not be there.
    #[must_use]
    pub fn text(&self) -> String {
        let headers = self.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect::<String>();
        format!("{} {}\n{headers}\n{}", self.method, self.path, String::from_utf8_lossy(&self.body))
    }

    /// Reads the next request of a connection; `None` if the peer closed instead.
    pub(crate) fn read(
        from: &mut impl BufRead,
        connection: usize,
        gone: &Arc<OnceLock<Instant>>,
    ) -> io::Result<Option<Self>> {
        let mut head = from.by_ref().take(MOST_HEAD);
        let mut line = || -> io::Result<Option<String>> {
            let mut bytes = Vec::new();
            head.read_until(b'\n', &mut bytes)?;
            let Some(bytes) = bytes.strip_suffix(b"\n") else {
                return if bytes.is_empty() { Ok(None) } else { Err(io::ErrorKind::InvalidData.into()) };
            };
            Ok(Some(String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes)).into_owned()))
        };
        let Some(first) = line()? else {
            return Ok(None);
        };
        let mut words = first.split(' ');
        let (Some(method), Some(path), Some("HTTP/1.1")) = (words.next(), words.next(), words.next()) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mut headers = Vec::new();
        loop {
            let line = line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let announced = headers.iter().find(|(name, _)| name == "content-length");
        let length = announced.map_or(Ok(0), |(_, value)| value.parse()).ok().filter(|it| *it <= MOST_BODY);
        if length.is_none() || headers.iter().any(|(name, _)| name == "transfer-encoding") {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut body = vec![0; length.unwrap_or_default() as usize];
        from.read_exact(&mut body)?;
        Ok(Some(Self {
            number: 0,
            connection,
            at: Instant::now(),
            method: method.to_owned(),
            path: path.to_owned(),
            headers,
            body,
            gone: gone.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_whole_or_not_at_all() {
        let long = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(70_000));
        for (bytes, expected) in [
            ("POST /a?b=c HTTP/1.1\r\nX-Y:  z \r\ncontent-length: 2\r\n\r\nhi!", Ok(Some("POST /a?b=c|x-y: z|hi"))),
            ("GET / HTTP/1.1\na: b\n\n", Ok(Some("GET /|a: b|"))),
            ("", Ok(None)),
            ("GET /", Err(io::ErrorKind::InvalidData)),
            ("\u{16}\u{3}\u{1}\n", Err(io::ErrorKind::InvalidData)),
            ("GET / HTTP/2\r\n\r\n", Err(io::ErrorKind::InvalidData)),
            ("GET / HTTP/1.1\r\n", Err(io::ErrorKind::UnexpectedEof)),
            ("GET / HTTP/1.1\r\ncontent-length: 3\r\n\r\nhi", Err(io::ErrorKind::UnexpectedEof)),
            ("GET / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", Err(io::ErrorKind::Unsupported)),
            ("GET / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", Err(io::ErrorKind::Unsupported)),
            ("GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", Err(io::ErrorKind::Unsupported)),
            (long.as_str(), Err(io::ErrorKind::InvalidData)),
        ] {
            let read = Received::read(&mut bytes.as_bytes(), 0, &Arc::default()).map_err(|error| error.kind());
            let read = read.map(|it| {
                it.map(|it| {
                    let (name, value) = &it.headers[0];
                    format!("{} {}|{name}: {value}|{}", it.method, it.path, String::from_utf8_lossy(&it.body))
                })
            });
            assert_eq!(read.as_ref().map(Option::as_deref).map_err(|it| *it), expected, "{bytes:.80}");
        }
    }
}
