//! What a client does, and what may become of it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::client::{Answer, Connection, post};
use crate::soak::kinds::Kind;
use crate::texts::Random;

/// No request may take longer: the server is busy, and no more than that.
const PATIENCE: Duration = Duration::from_secs(180);
/// The longest pause between two requests.
const PAUSE_MS: usize = 500;
/// The most tokens of an answer.
const MOST: usize = 160;
/// How long a client sleeps that is let go after 60 s.
const ASLEEP: Duration = Duration::from_secs(70);
/// Answers of a request whose client reads slowly.
const MANY: usize = 8;
/// More than the server takes.
const OVERSIZE: usize = (8 << 20) + 1;

/// What became of it.
pub enum Outcome {
    /// An answer of so many tokens, to its end.
    Whole(usize),
    /// 400, 404 or 413 for what deserves it.
    Refused,
    /// 429.
    Busy,
    /// The client's own end.
    Gone,
    /// The server's patience with a client that reads nothing.
    LetGo,
    Lost(String),
}

/// The chats that all clients have, and the longest answer that each was given: the most likely tokens, so that every answer is the
/// begin of the longest, whoever else asks.
pub struct Said {
    chats: Vec<Value>,
    answers: Mutex<Vec<String>>,
    positions: usize,
}

impl Said {
    pub fn new(chats: Vec<Value>, positions: usize) -> Self {
        Self { answers: Mutex::new(vec![String::new(); chats.len()]), chats, positions }
    }

    /// Whether an answer is like those before it.
    fn check(&self, chat: usize, text: &str) -> bool {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        // A character may be cut off at its end.
        let (text, known) = (text.trim_end_matches('\u{fffd}'), &mut answers[chat]);
        if text.len() > known.len() && text.starts_with(known.as_str()) {
            *known = text.to_owned();
        }
        known.starts_with(text)
    }
}

/// One client.
pub struct Client {
    address: SocketAddr,
    said: Arc<Said>,
    random: Random,
    connection: Option<Connection>, // kept while nothing speaks against it
}

impl Client {
    pub fn new(address: SocketAddr, said: Arc<Said>, seed: u64) -> Self {
        Self { address, said, random: Random::new(seed), connection: None }
    }

    pub async fn think(&mut self) {
        sleep(Duration::from_millis(self.random.below(PAUSE_MS) as u64)).await;
    }

    pub fn choose(&mut self) -> Kind {
        Kind::random(&mut self.random)
    }

    pub async fn act(&mut self, kind: Kind) -> Outcome {
        match timeout(PATIENCE, self.try_act(kind)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                self.connection = None;
                Outcome::Lost(error.to_string())
            }
            Err(_) => {
                self.connection = None;
                Outcome::Lost(format!("no end after {} s", PATIENCE.as_secs()))
            }
        }
    }

    async fn try_act(&mut self, kind: Kind) -> io::Result<Outcome> {
        let chat = self.random.below(self.said.chats.len());
        let made = 1 + self.random.below(MOST);
        let messages = &self.said.chats[chat];
        let mut body = json!({
            "messages": messages, "max_tokens": made, "ignore_eos": true, "temperature": 0, "stream": true,
            "stream_options": { "include_usage": true },
        });
        match kind {
            Kind::Stream => {
                let answer = self.ask(&body).await?;
                let text = answer.stream().text;
                let outcome = self.streamed(&answer, 1, made).await;
                Ok(match outcome {
                    Outcome::Whole(_) if !self.said.check(chat, &text) => {
                        Outcome::Lost(format!("another answer than others were given: {text:?}"))
                    }
                    outcome => outcome,
                })
            }
            Kind::Whole => {
                body["stream"] = false.into();
                body["cache_prompt"] = (self.random.below(2) == 0).into();
                let answer = self.ask(&body).await?;
                Ok(match (answer.status, answer.usage().made) {
                    (429, _) => self.busy(&answer).await,
                    (200, tokens) if answer.is_whole() && tokens == made => Outcome::Whole(tokens),
                    (status, tokens) => Outcome::Lost(format!("{status}, {tokens} of {made} tokens")),
                })
            }
            Kind::Several => {
                (body["n"], body["temperature"]) = (4.into(), 1.into());
                let answer = self.ask(&body).await?;
                Ok(self.streamed(&answer, 4, 4 * made).await)
            }
            Kind::Asleep => self.sleep().await,
            Kind::Slow => {
                // Many events of many bytes, so that they fill all that lies between the two.
                let made = self.said.positions * 3 / 4;
                (body["n"], body["logprobs"], body["top_logprobs"]) = (MANY.into(), true.into(), 20.into());
                (body["messages"], body["max_tokens"]) = (self.said.chats[0].clone(), made.into());
                self.read_slowly(&body, made).await
            }
            Kind::LeaveStream | Kind::LeaveWhole => {
                body["stream"] = (kind == Kind::LeaveStream).into();
                self.leave(&body).await
            }
            Kind::LeaveBody => {
                let request = post("/v1/chat/completions", &body.to_string());
                let sent = 1 + self.random.below(request.len() - 1);
                self.connection().await?.send(&request.as_bytes()[..sent]).await?;
                self.think().await;
                self.connection = None;
                Ok(Outcome::Gone)
            }
            Kind::Oversize => self.oversize().await,
            Kind::WrongJson => {
                let text = body.to_string();
                let cut = self.random.below(text.len() - 1);
                self.refused(text.get(..cut).unwrap_or_default(), 400).await
            }
            Kind::WrongField => {
                let (field, value, status) = match self.random.below(4) {
                    0 => ("temperature", json!("warm"), 400),
                    1 => ("max_tokens", json!(-5), 400),
                    2 => ("model", json!("another"), 404),
                    _ => ("messages", json!([]), 400),
                };
                body[field] = value;
                self.refused(&body.to_string(), status).await
            }
            Kind::TooLong => {
                let text = "long ".repeat(2 * self.said.positions);
                body["messages"] = json!([{ "role": "user", "content": text }]);
                self.refused(&body.to_string(), 400).await
            }
            Kind::NoHttp => {
                let mut connection = Connection::open(self.address).await?;
                connection.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 no HTTP\r\n\r\n").await?;
                let mut answer = Answer::default();
                // It may close at once, with bytes unread.
                let _ = connection.rest(&mut answer).await;
                Ok(match answer.status {
                    0 | 400 => Outcome::Refused,
                    status => Outcome::Lost(format!("status {status}")),
                })
            }
        }
    }

    async fn connection(&mut self) -> io::Result<&mut Connection> {
        if self.connection.is_none() {
            self.connection = Some(Connection::open(self.address).await?);
        }
        self.connection.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    async fn ask(&mut self, body: &Value) -> io::Result<Answer> {
        let answer = self.connection().await?.ask("/v1/chat/completions", &body.to_string()).await?;
        if answer.closes() || !answer.is_whole() {
            self.connection = None;
        }
        Ok(answer)
    }

    /// What became of a stream.
    async fn streamed(&mut self, answer: &Answer, choices: usize, tokens: usize) -> Outcome {
        if answer.status == 429 {
            return self.busy(answer).await;
        }
        let stream = answer.stream();
        match (answer.status, stream.is_whole && stream.finished == choices && stream.usage.made == tokens) {
            (200, true) => Outcome::Whole(tokens),
            (status, _) => {
                let (finished, made) = (stream.finished, stream.usage.made);
                let error = stream.error.or_else(|| answer.json());
                Outcome::Lost(format!("{status}, {finished} of {choices} ends, {made} of {tokens} tokens, {error:?}"))
            }
        }
    }

    /// Waits as long as it was told.
    async fn busy(&mut self, answer: &Answer) -> Outcome {
        let Some(millis) = answer.header("retry-after-ms").and_then(|millis| millis.parse().ok()) else {
            return Outcome::Lost("429 without retry-after-ms".into());
        };
        sleep(Duration::from_millis(millis).min(Duration::from_secs(2))).await;
        Outcome::Busy
    }

    /// Asks, and goes away at any time.
    async fn leave(&mut self, body: &Value) -> io::Result<Outcome> {
        let (bytes, millis) = (self.random.below(20_000), self.random.below(600) as u64);
        let Some(mut connection) = self.connection.take().or(Connection::open(self.address).await.ok()) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        connection.post("/v1/chat/completions", &body.to_string()).await?;
        let (mut answer, end) = (Answer::default(), Instant::now() + Duration::from_millis(millis));
        while answer.len() <= bytes
            && let Ok(more) =
                timeout(end.saturating_duration_since(Instant::now()), connection.read(&mut answer, 512)).await
            && more?
        {}
        match answer.status {
            0 | 200 => Ok(Outcome::Gone),
            429 => Ok(Outcome::Busy),
            status => Ok(Outcome::Lost(format!("status {status}"))),
        }
    }

    /// Reads little at a time.
    async fn read_slowly(&mut self, body: &Value, made: usize) -> io::Result<Outcome> {
        let mut connection = Connection::open_narrow(self.address).await?;
        connection.post("/v1/chat/completions", &body.to_string()).await?;
        let mut answer = Answer::default();
        while !answer.is_whole() && connection.read(&mut answer, 8 << 10).await? {
            sleep(Duration::from_millis(2)).await;
        }
        Ok(self.streamed(&answer, MANY, MANY * made).await)
    }

    /// Asks for more than all buffers between the two hold, and reads none of it until the server has lost its patience.
    async fn sleep(&mut self) -> io::Result<Outcome> {
        let mut connection = Connection::open_narrow(self.address).await?;
        let body = json!({ "content": "the bird ".repeat(100_000), "with_pieces": true }).to_string();
        connection.post("/tokenize", &body).await?;
        sleep(ASLEEP).await;
        let mut answer = Answer::default();
        let read = connection.rest(&mut answer).await;
        Ok(match (answer.status, answer.is_whole()) {
            (200, false) => Outcome::LetGo,
            (status, _) => Outcome::Lost(format!("status {status}, {} bytes came, {read:?}", answer.len())),
        })
    }

    /// Sends what must be refused.
    async fn refused(&mut self, body: &str, status: u16) -> io::Result<Outcome> {
        let answer = self.connection().await?.ask("/v1/chat/completions", body).await?;
        if answer.closes() {
            self.connection = None;
        }
        let has_error = answer.json().is_some_and(|answer| answer["error"]["message"].is_string());
        Ok(match answer.status == status && has_error {
            true => Outcome::Refused,
            false => Outcome::Lost(format!("status {} and not {status}: {:?}", answer.status, answer.json())),
        })
    }

    /// Says that a body is larger than may be, or sends one that is without saying so.
    async fn oversize(&mut self) -> io::Result<Outcome> {
        let mut connection = Connection::open(self.address).await?;
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\n";
        let sent = match self.random.below(2) {
            0 => connection.send(format!("{head}content-length: {OVERSIZE}\r\n\r\n{{").as_bytes()).await,
            _ => {
                let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, " ".repeat(1 << 20));
                let mut sent = connection.send(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).await;
                for _ in 0..9 {
                    sent = sent.and(connection.send(chunk.as_bytes()).await);
                }
                sent
            }
        };
        let mut answer = Answer::default();
        let read = connection.rest(&mut answer).await;
        Ok(match answer.status {
            413 => Outcome::Refused,
            status => Outcome::Lost(format!("status {status}, sent {sent:?}, read {read:?}")),
        })
    }
}
