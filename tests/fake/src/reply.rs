//! What is answered.

use std::time::Duration;

/// One thing that a server does to a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes these bytes, with nothing held back (`TCP_NODELAY`). Two writes are two packets unless the network joins them.
    Write(Vec<u8>),
    /// Writes the same bytes again and again.
    Repeat {
        /// What is written.
        bytes: Vec<u8>,
        /// How often.
        times: u64,
    },
    /// Does nothing for that long.
    Wait(Duration),
    /// Does nothing until the peer closes or the server is dropped.
    Hang,
    /// Closes politely (FIN).
    Close,
    /// Closes rudely (RST).
    Reset,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`.
    Length,
    /// `Transfer-Encoding: chunked`, one chunk for each packet.
    Chunked,
    /// The end of the connection.
    UntilClose,
}

/// Everything a server does after one request. If nothing in it closes, the connection waits for the next request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub(crate) steps: Vec<Step>,
}

impl Reply {
    /// Exactly these steps; bytes are written as they are, head and all.
    #[must_use]
    pub fn raw(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect() }
    }

    /// See [`Response::json`].
    #[must_use]
    pub fn json(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        Response::json(status, body).headers(headers).into()
    }

    /// See [`Response::sse`].
    #[must_use]
    pub fn sse(events: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        Response::sse(events).into()
    }

    /// A head with status 200 and that media type, and a chunk for each packet.
    #[must_use]
    pub fn packets(media_type: &str, packets: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        Response::new(200).header("content-type", media_type).packets(packets).into()
    }

    /// Reads the request and says nothing.
    #[must_use]
    pub fn hang() -> Self {
        Self::raw([Step::Hang])
    }

    /// Reads the request and closes politely, without an answer.
    #[must_use]
    pub fn close() -> Self {
        Self::raw([Step::Close])
    }

    /// Reads the request and resets the connection.
    #[must_use]
    pub fn reset() -> Self {
        Self::raw([Step::Reset])
    }

    /// One more step at the end: [`Step::Close`] after a whole response closes a connection that could have been kept.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }
}

/// A reply of HTTP/1.1. It is [`Framing::Chunked`] unless told otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    framing: Framing,
    body: Vec<Step>,
    pause: Duration,
    broken: Option<(usize, Step)>,
}

impl Response {
    /// A response without headers and body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            framing: Framing::Chunked,
            body: Vec::new(),
            pause: Duration::ZERO,
            broken: None,
        }
    }

    /// `application/json` of that length, in one packet.
    #[must_use]
    pub fn json(status: u16, body: &str) -> Self {
        Self::new(status).header("content-type", "application/json").framed(Framing::Length).packets([body])
    }

    /// `text/event-stream` with status 200. Each text is written as it is, in its own packet and chunk.
    #[must_use]
    pub fn sse(events: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        Self::new(200).header("content-type", "text/event-stream").packets(events)
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// More headers.
    #[must_use]
    pub fn headers(self, headers: &[(&str, &str)]) -> Self {
        headers.iter().fold(self, |response, (name, value)| response.header(name, value))
    }

    /// How the body ends.
    #[must_use]
    pub fn framed(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// More of the body, each in its own packet.
    #[must_use]
    pub fn packets(mut self, packets: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        self.body.extend(packets.into_iter().map(|packet| Step::Write(packet.as_ref().to_vec())));
        self
    }

    /// A step in the middle of the body. What it writes is framed; after one that closes, nothing comes.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.body.push(step);
        self
    }

    /// The body in packets of so many bytes, the last with what is left. Other steps stay where they are.
    #[must_use]
    pub fn split(mut self, size: usize) -> Self {
        let body = std::mem::take(&mut self.body);
        self.body = body
            .into_iter()
            .flat_map(|step| match step {
                Step::Write(bytes) => bytes.chunks(size).map(|part| Step::Write(part.to_vec())).collect(),
                other => vec![other],
            })
            .collect();
        self
    }

    /// Waits before each packet of the body.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// The body is only its first `at` bytes, and ends as its framing says: a cut that HTTP does not show.
    #[must_use]
    pub fn cut(mut self, at: usize) -> Self {
        self.body = first(&self.body, at);
        self
    }

    /// The head announces the whole body, its first `at` bytes come, and then this: [`Step::Close`], [`Step::Reset`] or
    /// [`Step::Hang`].
    #[must_use]
    pub fn broken(mut self, at: usize, by: Step) -> Self {
        self.broken = Some((at, by));
        self
    }

    /// All bytes of the body, but for repeated ones.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let writes = self.body.iter().filter_map(|step| if let Step::Write(bytes) = step { Some(bytes) } else { None });
        writes.flatten().copied().collect()
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} \r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        match self.framing {
            Framing::Length => head += &format!("content-length: {}\r\n", length(&self.body)),
            Framing::Chunked => head += "transfer-encoding: chunked\r\n",
            Framing::UntilClose => head += "connection: close\r\n",
        }
        (head + "\r\n").into_bytes()
    }

    fn frame(&self, bytes: Vec<u8>) -> Vec<u8> {
        match self.framing {
            // A chunk of no bytes would be the end.
            Framing::Chunked if bytes.is_empty() => bytes,
            Framing::Chunked => [format!("{:x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat(),
            Framing::Length | Framing::UntilClose => bytes,
        }
    }
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        let mut steps = vec![Step::Write(response.head())];
        let (body, end) = match (&response.broken, response.framing) {
            (Some((at, by)), _) => (first(&response.body, *at), Some(by.clone())),
            (None, Framing::Chunked) => (response.body.clone(), Some(Step::Write(b"0\r\n\r\n".to_vec()))),
            (None, Framing::UntilClose) => (response.body.clone(), Some(Step::Close)),
            (None, Framing::Length) => (response.body.clone(), None),
        };
        for step in body {
            if !response.pause.is_zero() && matches!(step, Step::Write(_) | Step::Repeat { .. }) {
                steps.push(Step::Wait(response.pause));
            }
            steps.push(match step {
                Step::Write(bytes) => Step::Write(response.frame(bytes)),
                Step::Repeat { bytes, times } => Step::Repeat { bytes: response.frame(bytes), times },
                other => other,
            });
        }
        steps.extend(end);
        Self { steps }
    }
}

fn length(body: &[Step]) -> u64 {
    let lengths = body.iter().map(|step| match step {
        Step::Write(bytes) => bytes.len() as u64,
        Step::Repeat { bytes, times } => (bytes.len() as u64).saturating_mul(*times),
        Step::Wait(_) | Step::Hang | Step::Close | Step::Reset => 0,
    });
    lengths.fold(0, u64::saturating_add)
}

/// The steps until `at` bytes are written.
fn first(body: &[Step], at: usize) -> Vec<Step> {
    let mut left = at;
    let mut steps = Vec::new();
    for step in body {
        match step {
            Step::Write(bytes) | Step::Repeat { bytes, .. } if left < bytes.len() => {
                if left > 0 {
                    steps.push(Step::Write(bytes[..left].to_vec()));
                }
                return steps;
            }
            Step::Write(bytes) => left -= bytes.len(),
            Step::Repeat { bytes, times } => {
                let whole = left as u64 / (bytes.len() as u64).max(1);
                if whole < *times {
                    let rest = left - bytes.len() * whole as usize;
                    steps.push(Step::Repeat { bytes: bytes.clone(), times: whole });
                    steps.push(Step::Write(bytes[..rest].to_vec()));
                    return steps;
                }
                left -= bytes.len() * *times as usize;
            }
            Step::Wait(_) | Step::Hang | Step::Close | Step::Reset => {}
        }
        steps.push(step.clone());
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(response: Response) -> String {
        let steps = Reply::from(response).steps;
        let words = steps.iter().map(|step| match step {
            Step::Write(bytes) => String::from_utf8(bytes.clone()).unwrap().replace("\r\n", "|"),
            other => format!("<{other:?}>"),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_response_is_framed_split_cut_and_broken() {
        let json = || Response::json(200, "{\"a\":1}").header("x", "y");
        let stream = || Response::new(200).packets(["one", "two"]);
        let head = "HTTP/1.1 200 |transfer-encoding: chunked||";
        let plain = "HTTP/1.1 200 |content-type: application/json|x: y|content-length:";
        for (response, expected) in [
            (json(), format!("{plain} 7|| {{\"a\":1}}")),
            (json().cut(2), format!("{plain} 2|| {{\"")),
            (json().broken(2, Step::Close), format!("{plain} 7|| {{\" <Close>")),
            (json().broken(0, Step::Hang), format!("{plain} 7|| <Hang>")),
            (stream(), format!("{head} 3|one| 3|two| 0||")),
            (stream().cut(4), format!("{head} 3|one| 1|t| 0||")),
            (stream().cut(3), format!("{head} 3|one| 0||")),
            (stream().broken(4, Step::Reset), format!("{head} 3|one| 1|t| <Reset>")),
            (stream().broken(100, Step::Reset), format!("{head} 3|one| 3|two| <Reset>")),
            (stream().split(2), format!("{head} 2|on| 1|e| 2|tw| 1|o| 0||")),
            (stream().step(Step::Hang), format!("{head} 3|one| 3|two| <Hang> 0||")),
            (stream().pause(Duration::from_secs(1)).cut(1), format!("{head} <Wait(1s)> 1|o| 0||")),
            (stream().framed(Framing::UntilClose), "HTTP/1.1 200 |connection: close|| one two <Close>".to_owned()),
        ] {
            assert_eq!(written(response), expected);
        }
    }

    #[test]
    fn repeated_bytes_are_counted_and_cut() {
        let many = || Response::new(200).framed(Framing::Length).step(Step::Repeat { bytes: b"ab".to_vec(), times: 3 });
        assert!(written(many()).contains("content-length: 6|"));
        assert_eq!(length(&first(&many().body, 5)), 5);
        assert_eq!(length(&first(&many().body, 1)), 1);
        assert_eq!(length(&first(&many().body, 6)), 6);
        assert_eq!(length(&first(&many().body, 7)), 6);
    }
}
