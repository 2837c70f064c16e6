//! Connections to the server that note when what came. What it was is looked at after the clock has stopped: the server's machine
//! is the client's too.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

/// A connection, which is kept from request to request.
pub struct Connection {
    stream: TcpStream,
}

/// An answer as it came.
#[derive(Default)]
pub struct Answer {
    pub status: u16,
    bytes: Vec<u8>,
    marks: Vec<(usize, Instant)>, // how many bytes there were when
    body: usize,                  // where it begins
    length: Option<usize>,        // of the body; none of a stream
    is_whole: bool,
}

/// A stream, read.
pub struct Stream {
    /// When the first event came.
    pub first: Option<Instant>,
    /// When each piece of text came.
    pub times: Vec<Instant>,
    pub text: String,
    pub usage: Usage,
    /// Choices that have a reason for their end.
    pub finished: usize,
    /// Whether it came to its end, `[DONE]` before it.
    pub is_whole: bool,
    /// An error that came in the place of an end.
    pub error: Option<Value>,
}

/// Tokens of a request.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    pub cached: usize,
    pub made: usize,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// One whose client takes few bytes that it has not read.
    pub async fn open_narrow(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4 << 10)?;
        Ok(Self { stream: socket.connect(address).await? })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < bytes.len() {
            self.stream.writable().await?;
            sent += match self.stream.try_write(&bytes[sent..]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                outcome => outcome?,
            };
        }
        Ok(())
    }

    pub async fn post(&mut self, path: &str, body: &str) -> io::Result<()> {
        self.send(post(path, body).as_bytes()).await
    }

    /// Reads what there is, at most so many bytes; false at the end of the connection.
    pub async fn read(&mut self, answer: &mut Answer, most: usize) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        let most = most.min(buffer.len());
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut buffer[..most]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => {
                    let count = outcome?;
                    answer.push(&buffer[..count]);
                    return Ok(count > 0);
                }
            }
        }
    }

    /// Reads the rest of an answer. One that broke off is not whole.
    pub async fn rest(&mut self, answer: &mut Answer) -> io::Result<()> {
        while !answer.is_whole && self.read(answer, usize::MAX).await? {}
        Ok(())
    }

    pub async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").as_bytes()).await?;
        let mut answer = Answer::default();
        self.rest(&mut answer).await?;
        Ok(answer)
    }

    /// Sends a request and reads the whole answer.
    pub async fn ask(&mut self, path: &str, body: &str) -> io::Result<Answer> {
        self.post(path, body).await?;
        let mut answer = Answer::default();
        self.rest(&mut answer).await?;
        Ok(answer)
    }
}

/// A request as it goes over the wire.
pub fn post(path: &str, body: &str) -> String {
    let head = format!("POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n");
    format!("{head}content-length: {}\r\n\r\n{body}", body.len())
}

impl Answer {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.marks.push((self.bytes.len(), Instant::now()));
        if self.body == 0
            && let Some(end) = self.bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n")
        {
            self.body = end + 4;
            self.status = self.head().get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
            self.length = self.header("content-length").and_then(|length| length.parse().ok());
        }
        self.is_whole = match (self.body, self.length) {
            (0, _) => false,
            (body, Some(length)) => self.bytes.len() >= body + length,
            // JSON has no line ends in it, so this is the last chunk.
            (_, None) => self.bytes.ends_with(b"\r\n0\r\n\r\n"),
        };
    }

    fn head(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.body]).unwrap_or_default()
    }

    /// The value of a header, whose name is written small.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Whether it came to its end.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// When its last byte came.
    pub fn last(&self) -> Option<Instant> {
        self.marks.last().map(|&(_, time)| time)
    }

    /// Whether the server closes the connection behind it.
    pub fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }

    /// The body of an answer that is no stream.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.bytes[self.body..]).ok()
    }

    /// The tokens of a whole answer.
    pub fn usage(&self) -> Usage {
        self.json().map_or_else(Usage::default, |answer| Usage::of(&answer["usage"]))
    }

    /// The events of a stream, with the times at which they were there whole.
    pub fn stream(&self) -> Stream {
        let mut stream = Stream {
            first: None,
            times: Vec::new(),
            text: String::new(),
            usage: Usage::default(),
            finished: 0,
            is_whole: false,
            error: None,
        };
        for (event, time) in self.events() {
            let Some(data) = event.strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                stream.is_whole = self.is_whole;
                continue;
            }
            let Ok(data) = serde_json::from_str::<Value>(data) else { continue };
            stream.first.get_or_insert(time);
            if data.get("error").is_some() {
                stream.error = Some(data);
                continue;
            }
            if data["usage"].is_object() {
                stream.usage = Usage::of(&data["usage"]);
            }
            for choice in data["choices"].as_array().into_iter().flatten() {
                let text = choice["delta"]["content"].as_str().unwrap_or_default();
                if !text.is_empty() {
                    stream.times.push(time);
                    stream.text += text;
                }
                stream.finished += usize::from(choice["finish_reason"].is_string());
            }
        }
        stream
    }

    /// Without the chunks in which it came.
    fn events(&self) -> Vec<(String, Instant)> {
        let (mut body, mut ends, mut at) = (Vec::new(), Vec::new(), self.body);
        let mut marks = self.marks.iter();
        let Some(mut mark) = marks.next() else { return Vec::new() };
        while let Some(line) = self.bytes[at..].windows(2).position(|bytes| bytes == b"\r\n") {
            let size = std::str::from_utf8(&self.bytes[at..at + line]).unwrap_or_default();
            let Ok(size) = usize::from_str_radix(size, 16) else { break };
            let (begin, end) = (at + line + 2, at + line + 2 + size);
            let Some(bytes) = self.bytes.get(begin..end) else { break };
            while mark.0 < end
                && let Some(next) = marks.next()
            {
                mark = next;
            }
            body.extend_from_slice(bytes);
            ends.push((body.len(), mark.1));
            at = (end + 2).min(self.bytes.len());
        }
        let body = String::from_utf8_lossy(&body);
        let (mut events, mut end, mut ends) = (Vec::new(), 0, ends.into_iter().peekable());
        for event in body.split_inclusive("\n\n") {
            end += event.len();
            while ends.next_if(|(there, _)| *there < end).is_some() {}
            let Some(&(_, time)) = ends.peek() else { break };
            events.push((event.trim_end().to_owned(), time));
        }
        events
    }
}

impl Usage {
    fn of(usage: &Value) -> Self {
        let count = |value: &Value| value.as_u64().unwrap_or_default() as usize;
        Self {
            cached: count(&usage["prompt_tokens_details"]["cached_tokens"]),
            made: count(&usage["completion_tokens"]),
        }
    }
}
