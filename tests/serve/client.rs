//! HTTP as it goes over the wire: what no library of ours made or read.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::server::PATIENCE;

/// A connection.
pub struct Client {
    pub stream: BufReader<TcpStream>,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub is_whole: bool,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Sends a request, and reads the whole answer.
    pub fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send(method, path, headers, body);
        self.answer(method != "HEAD")
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            head += &format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        }
        let request = [head.as_bytes(), b"\r\n", body].concat();
        // A server may answer and close before it has read all.
        let _ = self.stream.get_mut().write_all(&request);
    }

    /// Reads an answer; nothing more than its head where it has no body.
    pub fn answer(&mut self, has_body: bool) -> Answer {
        let mut answer = self.head();
        if !has_body || answer.status == 204 {
            answer.is_whole = true;
            return answer;
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                answer.is_whole = chunk.is_empty();
                answer.body.extend(chunk);
                if answer.is_whole {
                    break;
                }
            }
            return answer;
        }
        let length: usize = answer.header("content-length").expect("a body has a length").parse().unwrap();
        answer.body.resize(length, 0);
        self.stream.read_exact(&mut answer.body).unwrap();
        answer.is_whole = true;
        answer
    }

    /// Reads status and headers.
    pub fn head(&mut self) -> Answer {
        let status = self.line().unwrap_or_else(|| panic!("the connection closed without an answer"));
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        while let Some(line) = self.line().filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").unwrap();
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        Answer { status, headers, body: Vec::new(), is_whole: false }
    }

    /// Reads one chunk; empty is the last one, none is a connection that broke off.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.line()?, 16).unwrap();
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).ok()?;
        chunk.truncate(length);
        Some(chunk)
    }

    /// Whether the server closed the connection.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        !matches!(self.stream.read_to_end(&mut rest), Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset)
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
        }
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The answer to a request that was well.
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()
    }

    /// The error, whose form is checked: status, code, param.
    pub fn error(&self) -> (u16, Option<String>, Option<String>) {
        let error = self.json()["error"].clone();
        for key in ["message", "type", "param", "code"] {
            assert!(error.get(key).is_some(), "{key} is missing: {error}");
        }
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
        let text = |key: &str| error[key].as_str().map(str::to_owned);
        (self.status, text("code"), text("param"))
    }

    /// The events of a stream: whole JSON, and at last `[DONE]`, which is checked and left out.
    pub fn events(&self) -> Vec<Value> {
        assert_eq!(self.header("content-type"), Some("text/event-stream; charset=utf-8"), "{}", self.text());
        let text = self.text();
        let mut events: Vec<&str> = text.split("\n\n").filter(|event| !event.is_empty()).collect();
        assert_eq!(events.pop(), Some("data: [DONE]"), "{text}");
        let data = events.iter().map(|event| event.strip_prefix("data: ").unwrap());
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

/// The begin of a request, for messages.
pub fn begin(request: &Value) -> String {
    request.to_string().chars().take(200).collect()
}
