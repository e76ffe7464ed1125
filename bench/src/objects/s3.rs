//! As much of an S3 client as a load needs: signed requests over connections that stay open, and little else, so that
//! what is measured is the other side. The same for both sides.

use crate::{BenchError, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// Bytes of a body that is only counted: nobody here looks at larger ones.
const LARGE: usize = 1 << 20;
/// Bytes that are read at once.
const ROOM: usize = 256 << 10;

/// One side: where it listens, and who asks.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) name: &'static str,
    /// `host:port`
    pub(super) address: String,
    pub(super) access_key: String,
    pub(super) secret: String,
    /// The process whose time and memory count.
    pub(super) pid: u32,
}

/// A request, but for its signature. Names need no escapes.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) path: String,
    /// Sorted, as it is signed.
    pub(super) query: String,
    pub(super) body: Bytes,
    /// S3 wants the MD5 of some bodies.
    pub(super) md5: bool,
}

impl Request {
    pub(super) fn new(method: &'static str, path: impl Into<String>) -> Self {
        Request { method, path: path.into(), ..Request::default() }
    }

    pub(super) fn query(self, query: impl Into<String>) -> Self {
        Request { query: query.into(), ..self }
    }

    pub(super) fn body(self, body: impl Into<Bytes>) -> Self {
        Request { body: body.into(), ..self }
    }

    pub(super) fn with_md5(self) -> Self {
        Request { md5: true, ..self }
    }
}

fn mac(key: &[u8], text: &str) -> Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|e| BenchError::Said(e.to_string()))?;
    mac.update(text.as_bytes());
    Ok(mac.finalize().into_bytes().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

impl Door {
    fn head(&self, r: &Request) -> Result<String> {
        let now = chrono::Utc::now();
        let (day, time) = (now.format("%Y%m%d").to_string(), now.format("%Y%m%dT%H%M%SZ").to_string());
        let signed = "host;x-amz-content-sha256;x-amz-date";
        let canonical = format!(
            "{}\n{}\n{}\nhost:{}\nx-amz-content-sha256:{UNSIGNED}\nx-amz-date:{time}\n\n{signed}\n{UNSIGNED}",
            r.method, r.path, r.query, self.address
        );
        let scope = format!("{day}/us-east-1/s3/aws4_request");
        let text =
            format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in [day.as_str(), "us-east-1", "s3", "aws4_request"] {
            key = mac(&key, part)?;
        }
        let signature = hex(&mac(&key, &text)?);
        let mark = if r.query.is_empty() { "" } else { "?" };
        let mut head = format!(
            "{} {}{mark}{} HTTP/1.1\r\nhost: {}\r\nx-amz-content-sha256: {UNSIGNED}\r\nx-amz-date: {time}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}\r\n",
            r.method, r.path, r.query, self.address, self.access_key
        );
        if !r.body.is_empty() || matches!(r.method, "PUT" | "POST") {
            let _ = write!(head, "content-length: {}\r\n", r.body.len());
        }
        if r.md5 {
            let _ = write!(head, "content-md5: {}\r\n", BASE64_STANDARD.encode(Md5::digest(&r.body)));
        }
        head.push_str("\r\n");
        Ok(head)
    }

    pub(super) async fn connect(&self) -> Result<Connection<'_>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { door: self, stream, buffer: Vec::with_capacity(ROOM) })
    }

    /// One request on a connection of its own; its body, if that is not large.
    pub(super) async fn call(&self, request: &Request) -> Result<Vec<u8>> {
        self.connect().await?.call(request).await
    }
}

pub(super) struct Connection<'a> {
    door: &'a Door,
    stream: TcpStream,
    /// What has come and was not used yet.
    buffer: Vec<u8>,
}

impl Connection<'_> {
    /// Sends a request that must succeed; its body, if that is not large.
    pub(super) async fn call(&mut self, request: &Request) -> Result<Vec<u8>> {
        let head = self.door.head(request)?;
        if request.body.len() <= 64 << 10 {
            let whole = [head.as_bytes(), &request.body].concat();
            self.stream.write_all(&whole).await?;
        } else {
            self.stream.write_all(head.as_bytes()).await?;
            self.stream.write_all(&request.body).await?;
        }
        let end = self.head_end().await?;
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
        self.buffer.drain(..end);
        let status = head.get(9..12).unwrap_or_default().to_owned();
        let value = |name: &str| head.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        let body = if value("transfer-encoding:") == Some("chunked") {
            self.chunks().await?
        } else if request.method == "HEAD" || matches!(status.as_str(), "204" | "304") {
            Vec::new()
        } else {
            let length = value("content-length:").and_then(|l| l.parse().ok()).unwrap_or(0);
            if length > LARGE { self.pass(length).await? } else { self.take(length).await? }
        };
        if !status.starts_with('2') {
            let said = String::from_utf8_lossy(&body);
            let Request { method, path, query, .. } = request;
            return Err(BenchError::Said(format!(
                "{}: {method} {path}?{query}: {status} {said}",
                self.door.name
            )));
        }
        Ok(body)
    }

    async fn more(&mut self) -> Result<()> {
        self.buffer.reserve(ROOM);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(BenchError::Said(format!("{} closed the connection", self.door.name))),
            _ => Ok(()),
        }
    }

    async fn head_end(&mut self) -> Result<usize> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                return Ok(at + 4);
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.more().await?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// Reads a body and keeps nothing of it.
    async fn pass(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut left = length;
        loop {
            let n = left.min(self.buffer.len());
            self.buffer.drain(..n);
            left -= n;
            if left == 0 {
                return Ok(Vec::new());
            }
            self.more().await?;
        }
    }

    async fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                match self.buffer.windows(2).position(|w| w == b"\r\n") {
                    Some(at) => break self.take(at + 2).await?,
                    None => self.more().await?,
                }
            };
            let size = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(size.trim().split(';').next().unwrap_or_default(), 16);
            let size = size.map_err(|e| BenchError::Said(format!("a chunk's size: {e}")))?;
            body.extend(self.take(size).await?);
            self.take(2).await?;
            if size == 0 {
                return Ok(body);
            }
        }
    }
}
