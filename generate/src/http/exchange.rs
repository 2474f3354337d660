//! One request and its response as bytes: over the network, recorded or not, or out of a recording.

use std::collections::VecDeque;
use std::future::Future;
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::HeaderMap;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cassette::{self, Ending, Packet, Sent, Told, Wiring};
use crate::error::Phase;
use crate::profile::Timeouts;

/// Why there are no more bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// There is no connection, for that reason.
    Unconnected(String),
    /// The connection broke, for that reason.
    Cut(String),
    /// A part of the call took too long.
    Late(Phase),
    /// The caller canceled it.
    Canceled,
    /// The recording has another request, or none.
    NotRecorded(String),
}

impl Broken {
    /// How it is written down; `None` for what says nothing about the provider.
    fn end(&self) -> Option<Ending> {
        Some(match self {
            Self::Unconnected(_) => Ending::Unconnected,
            Self::Cut(_) => Ending::Cut,
            Self::Late(Phase::Connect) => Ending::LateConnect,
            Self::Late(Phase::FirstByte) => Ending::LateFirstByte,
            Self::Late(Phase::Idle) => Ending::LateIdle,
            Self::Late(Phase::Total) => Ending::LateTotal,
            Self::Canceled | Self::NotRecorded(_) => return None,
        })
    }

    /// What a recorded end stands for; `None` if the bytes ended by themselves or were not needed.
    fn recorded(end: Ending) -> Option<Self> {
        let as_recorded = || "as it was recorded".to_owned();
        Some(match end {
            Ending::Whole | Ending::Stopped => return None,
            Ending::Cut => Self::Cut(as_recorded()),
            Ending::Unconnected => Self::Unconnected(as_recorded()),
            Ending::LateConnect => Self::Late(Phase::Connect),
            Ending::LateFirstByte => Self::Late(Phase::FirstByte),
            Ending::LateIdle => Self::Late(Phase::Idle),
            Ending::LateTotal => Self::Late(Phase::Total),
        })
    }
}

/// When a call is given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds<'a> {
    pub(super) cancel: &'a CancellationToken,
    pub(super) until: tokio::time::Instant,
    pub(super) timeouts: Timeouts,
}

impl Bounds<'_> {
    /// Waits for one part of a call.
    async fn within<T>(&self, phase: Phase, most: Duration, part: impl Future<Output = T>) -> Result<T, Broken> {
        // The bound of the whole first, or a response that always has more would never reach it; that of the part last, as what
        // is there came in time, even if this process was held up.
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Broken::Canceled),
            () = sleep_until(self.until) => Err(Broken::Late(Phase::Total)),
            value = part => Ok(value),
            () = sleep(most) => Err(Broken::Late(phase)),
        }
    }
}

/// The head of a response.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// When it came, by our clock.
    pub(super) received: SystemTime,
}

enum Source {
    Network(reqwest::Response),
    Recording { packets: VecDeque<Packet>, end: Ending },
}

/// A response whose body is being read. Dropping it closes the connection.
pub(super) struct Exchange<'a> {
    bounds: Bounds<'a>,
    source: Source,
    recording: Option<Recording<'a>>,
}

/// What is written down of an exchange.
struct Recording<'a> {
    wiring: &'a Wiring,
    profile: &'a str,
    number: u64,
    sent: Sent,
    told: Option<Told>,
    last: Instant,
}

impl Recording<'_> {
    fn keep(self, end: Ending) -> Result<(), String> {
        let exchange = cassette::Exchange::new(self.profile.to_owned(), self.number, self.sent, self.told, end);
        self.wiring.keep(exchange).map_err(|error| error.to_string())
    }
}

impl<'a> Exchange<'a> {
    /// Sends a request and waits for the head of the response. `live` is the request as it goes over the network, with its key;
    /// it is absent in a replay.
    pub(super) async fn begin(
        wiring: &'a Wiring,
        profile: &'a str,
        sent: Sent,
        live: Option<reqwest::RequestBuilder>,
        bounds: Bounds<'a>,
    ) -> Result<(Head, Self), Broken> {
        if let Some(recorded) = wiring.replayed(profile, &sent) {
            return Self::replay(recorded.map_err(Broken::NotRecorded)?, bounds);
        }
        let Some(live) = live else {
            return Err(Broken::NotRecorded("nothing is sent in a replay".into()));
        };
        let mut recording = wiring.next_number(profile).map(|number| Recording {
            wiring,
            profile,
            number,
            sent,
            told: None,
            last: Instant::now(),
        });
        let begun = bounds.within(Phase::FirstByte, bounds.timeouts.first_byte, live.send()).await;
        match begun.and_then(|it| it.map_err(unsent)) {
            Ok(response) => {
                let head = Head {
                    status: response.status().as_u16(),
                    headers: response.headers().clone(),
                    received: SystemTime::now(),
                };
                if let Some(recording) = &mut recording {
                    recording.told = Some(Told::new(head.status, &head.headers, head.received));
                }
                Ok((head, Self { bounds, source: Source::Network(response), recording }))
            }
            Err(broken) => {
                if let (Some(recording), Some(end)) = (recording, broken.end()) {
                    recording.keep(end).map_err(Broken::NotRecorded)?;
                }
                Err(broken)
            }
        }
    }

    fn replay(exchange: cassette::Exchange, bounds: Bounds<'a>) -> Result<(Head, Self), Broken> {
        let end = exchange.end;
        let Some(told) = exchange.response else {
            return Err(
                Broken::recorded(end).unwrap_or_else(|| Broken::NotRecorded("the exchange has no response".into()))
            );
        };
        let head = Head { status: told.status, headers: told.header_map(), received: told.received() };
        let source = Source::Recording { packets: told.packets.into(), end };
        Ok((head, Self { bounds, source, recording: None }))
    }

    /// How long each part may take.
    pub(super) fn timeouts(&self) -> Timeouts {
        self.bounds.timeouts
    }

    /// The next bytes of the body, or `None` if it has ended by itself.
    pub(super) async fn packet(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let packet = match &mut self.source {
            Source::Recording { packets, end } => match packets.pop_front() {
                Some(packet) => return Ok(Some(packet.bytes)),
                None => return Broken::recorded(*end).map_or(Ok(None), Err),
            },
            Source::Network(response) => {
                self.bounds.within(Phase::Idle, self.bounds.timeouts.idle, response.chunk()).await?
            }
        };
        let packet = packet.map_err(|error| Broken::Cut(innermost(&error)))?;
        if let (Some(Recording { told: Some(told), last, .. }), Some(bytes)) = (&mut self.recording, &packet) {
            let now = Instant::now();
            told.packets.push(Packet::new(now.saturating_duration_since(*last), bytes));
            *last = now;
        }
        Ok(packet.map(Into::into))
    }

    /// Ends the exchange: by itself, as nothing more was needed, or broken.
    ///
    /// # Errors
    ///
    /// Why it could not be recorded.
    pub(super) fn end(self, ended: Result<bool, &Broken>) -> Result<(), String> {
        let end = match ended {
            Ok(true) => Some(Ending::Whole),
            Ok(false) => Some(Ending::Stopped),
            Err(broken) => broken.end(),
        };
        match (self.recording, end) {
            (Some(recording), Some(end)) => recording.keep(end),
            _ => Ok(()),
        }
    }
}

/// Why there is no head of a response.
fn unsent(error: reqwest::Error) -> Broken {
    if !error.is_connect() {
        Broken::Cut(innermost(&error))
    } else if error.is_timeout() {
        Broken::Late(Phase::Connect)
    } else {
        Broken::Unconnected(innermost(&error))
    }
}

/// The innermost reason: those around it only say that there is one, some with the whole address.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
