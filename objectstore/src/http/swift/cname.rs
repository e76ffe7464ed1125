//! CNAME lookup: a host name of a user's own (`files.example.com`) that the DNS calls another name of an account of
//! ours, as upstream's middleware has it. Off by default.
//!
//! The answers of the DNS are asked for over UDP, a bounded number of them for a request and at once, and remembered for
//! as long as they say, also that there is none: whoever sends names of all kinds costs the name servers one question
//! each, and this process a bounded number of entries.

use crate::Config;
use lru::LruCache;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;

/// The `[object.cname]` table of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CnameConfig {
    /// Host names that are not below one of `swift_domains` are looked up.
    pub enabled: bool,
    /// How many names, each called so by the one before, are followed.
    pub lookup_depth: u32,
    /// Name servers (`address:port`). None: those of `/etc/resolv.conf`.
    pub nameservers: Vec<SocketAddr>,
}

impl Default for CnameConfig {
    fn default() -> Self {
        CnameConfig { enabled: false, lookup_depth: 1, nameservers: Vec::new() }
    }
}

/// Names that are remembered, and questions that are under way.
const MOST: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();
const AT_ONCE: usize = 64;
/// For an answer of one server, of which so many are asked.
const PATIENCE: Duration = Duration::from_secs(2);
const SERVERS: usize = 3;
/// An answer is remembered for so long at least and at most; that there is none, or that nobody answers, so long.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(3600);
const NONE: Duration = Duration::from_secs(30);
/// Bytes of a host name.
const LONGEST_NAME: usize = 253;

/// What became of looking a host name up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// It needs no looking up.
    Own,
    /// It is another name for this one, which is below a domain of ours.
    Below(String),
    /// It leads nowhere; the text is for the caller.
    Nowhere(String),
}

/// What looks names up.
pub(super) struct Lookup {
    depth: u32,
    servers: Vec<SocketAddr>,
    known: Mutex<LruCache<String, (Option<String>, Instant)>>,
    permits: Semaphore,
}

impl Lookup {
    /// Absent where it is switched off.
    pub(super) fn new(config: &Config) -> Option<Arc<Lookup>> {
        let cname = &config.cname;
        if !cname.enabled || config.swift_domains.is_empty() {
            return None;
        }
        let servers = match cname.nameservers.as_slice() {
            [] => system_servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()),
            named => named.to_vec(),
        };
        let (known, permits) = (Mutex::new(LruCache::new(MOST)), Semaphore::new(AT_ONCE));
        Some(Arc::new(Lookup { depth: cname.lookup_depth.max(1), servers, known, permits }))
    }

    /// Finds out which name of ours a host name stands for. `host` may have a port, which is left as it is.
    pub(super) async fn resolve(&self, host: &str, domains: &[String]) -> Found {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, format!(":{port}")),
            _ => (host, String::new()),
        };
        let given = name.trim_end_matches('.').to_ascii_lowercase();
        let below = |name: &str| {
            domains.iter().map(|d| d.to_ascii_lowercase()).any(|d| {
                name.strip_suffix(d.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            })
        };
        // An address has no other name.
        if below(&given) || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() || given.is_empty() {
            return Found::Own;
        }
        let mut at = given.clone();
        for _ in 0..self.depth {
            match self.cname(&at).await {
                Some(found) if below(&found) => return Found::Below(format!("{found}{port}")),
                Some(found) if found != at => at = found,
                _ => return Found::Nowhere("CNAME lookup failed to resolve to a valid domain".into()),
            }
        }
        Found::Nowhere(format!("CNAME lookup failed after {} tries", self.depth))
    }

    /// The name that a name stands for, from memory or from the DNS.
    async fn cname(&self, name: &str) -> Option<String> {
        let now = Instant::now();
        if let Some((found, until)) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name)
            && *until > now
        {
            return found.clone();
        }
        let question = Question::of(name)?;
        let (found, age) = {
            let _permit = self.permits.acquire().await.ok()?;
            self.ask(&question).await
        };
        let until = Instant::now() + age;
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .put(name.to_owned(), (found.clone(), until));
        found
    }

    async fn ask(&self, question: &Question) -> (Option<String>, Duration) {
        for server in self.servers.iter().take(SERVERS) {
            match tokio::time::timeout(PATIENCE, exchange(*server, question)).await {
                Ok(Ok(Answer::Name(name, ttl))) => {
                    return (Some(name), Duration::from_secs(ttl.into()).clamp(SHORTEST, LONGEST));
                }
                Ok(Ok(Answer::Nothing)) => return (None, NONE),
                Ok(Ok(Answer::Failed) | Err(_)) | Err(_) => {} // the next one may know
            }
        }
        (None, NONE)
    }
}

/// The name servers that the machine uses.
fn system_servers(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| line.trim().strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok();
    let found: Vec<SocketAddr> = text.lines().filter_map(address).map(|a| SocketAddr::new(a, 53)).collect();
    match found.is_empty() {
        true => vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 53)],
        false => found,
    }
}

/// A question for the CNAME of a name, as it is sent.
struct Question {
    name: String,
    /// The name in the DNS' form, then type and class.
    body: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The name, and for how many seconds it is so.
    Name(String, u32),
    Nothing,
    /// The server could not say.
    Failed,
}

const CNAME: u16 = 5;
const INTERNET: u16 = 1;

impl Question {
    fn of(name: &str) -> Option<Question> {
        let mut body = Vec::with_capacity(name.len() + 6);
        for label in name.split('.') {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if label.is_empty() || label.len() > 63 || !label.bytes().all(fits) {
                return None;
            }
            body.push(label.len() as u8);
            body.extend_from_slice(label.as_bytes());
        }
        if name.len() > LONGEST_NAME {
            return None;
        }
        body.push(0);
        body.extend_from_slice(&CNAME.to_be_bytes());
        body.extend_from_slice(&INTERNET.to_be_bytes());
        Some(Question { name: name.to_owned(), body })
    }

    fn packet(&self, id: u16) -> Vec<u8> {
        let mut packet = id.to_be_bytes().to_vec();
        // A question that may be passed on; one of it and nothing else.
        packet.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        packet.extend_from_slice(&self.body);
        packet
    }

    /// Reads an answer; none where it is not one to this question.
    fn read(&self, id: u16, packet: &[u8]) -> Option<Answer> {
        let word = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
        let (flags, questions, answers) = (word(2)?, word(4)?, word(6)?);
        if word(0)? != id || flags & 0x8000 == 0 || questions != 1 {
            return None;
        }
        let (asked, mut at) = read_name(packet, 12)?;
        if asked != self.name || word(at)? != CNAME || word(at + 2)? != INTERNET {
            return None;
        }
        at += 4;
        match flags & 0xf {
            0 | 3 => {}
            _ => return Some(Answer::Failed),
        }
        for _ in 0..answers.min(32) {
            let (name, end) = read_name(packet, at)?;
            let (kind, class, length) = (word(end)?, word(end + 2)?, usize::from(word(end + 8)?));
            let ttl = u32::from_be_bytes(packet.get(end + 4..end + 8)?.try_into().ok()?);
            if kind == CNAME && class == INTERNET && name == self.name {
                return Some(Answer::Name(read_name(packet, end + 10)?.0, ttl));
            }
            at = end + 10 + length;
        }
        Some(Answer::Nothing)
    }
}

/// A name at a place of a packet, in lower case, and what comes behind it. Names may go on elsewhere, before.
fn read_name(packet: &[u8], from: usize) -> Option<(String, usize)> {
    let (mut name, mut at, mut end) = (String::new(), from, None);
    loop {
        let length = usize::from(*packet.get(at)?);
        match length {
            0 => return Some((name, end.unwrap_or(at + 1))),
            1..=63 => {
                let label = std::str::from_utf8(packet.get(at + 1..at + 1 + length)?).ok()?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(&label.to_ascii_lowercase());
                at += 1 + length;
            }
            192.. => {
                let to = ((length & 0x3f) << 8) | usize::from(*packet.get(at + 1)?);
                end = end.or(Some(at + 2));
                // Only ever back: it ends.
                if to >= at {
                    return None;
                }
                at = to;
            }
            _ => return None,
        }
        if name.len() > LONGEST_NAME {
            return None;
        }
    }
}

/// Asks one server. The socket hears nobody else, and what is no answer to the question is passed over.
async fn exchange(server: SocketAddr, question: &Question) -> std::io::Result<Answer> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let id: u16 = rand::random();
    socket.send(&question.packet(id)).await?;
    let mut packet = [0; 4096];
    loop {
        let n = socket.recv(&mut packet).await?;
        if let Some(answer) = packet.get(..n).and_then(|p| question.read(id, p)) {
            return Ok(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// The answer to a question, with a name that goes on in the question's.
    fn answer(question: &[u8], target: &str, ttl: u32) -> Vec<u8> {
        let mut packet = question.to_vec();
        packet[2] |= 0x80;
        packet[7] = 1;
        packet.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1]);
        packet.extend_from_slice(&ttl.to_be_bytes());
        let target = &Question::of(target).unwrap().body;
        let target = &target[..target.len() - 4];
        packet.extend_from_slice(&(target.len() as u16).to_be_bytes());
        packet.extend_from_slice(target);
        packet
    }

    /// A name server that knows some names; how often it was asked.
    async fn server(names: &'static [(&'static str, &'static str)]) -> (SocketAddr, Arc<AtomicUsize>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (at, asked) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        tokio::spawn(async move {
            let mut packet = [0; 512];
            while let Ok((n, from)) = socket.recv_from(&mut packet).await {
                count.fetch_add(1, Ordering::SeqCst);
                let question = &packet[..n];
                let (name, _) = read_name(question, 12).unwrap();
                // What is not the answer is not taken for it.
                socket.send_to(&[0; 12], from).await.unwrap();
                let reply = match names.iter().find(|(n, _)| *n == name) {
                    Some((_, target)) => answer(question, target, 60),
                    None => {
                        let mut none = question.to_vec();
                        (none[2], none[3]) = (0x81, 3);
                        none
                    }
                };
                socket.send_to(&reply, from).await.unwrap();
            }
        });
        (at, asked)
    }

    fn lookup(servers: Vec<SocketAddr>, depth: u32) -> Arc<Lookup> {
        let cname = CnameConfig { enabled: true, lookup_depth: depth, nameservers: servers };
        let config = Config { cname, swift_domains: vec!["swift.example.org".into()], ..Config::default() };
        Lookup::new(&config).unwrap()
    }

    #[tokio::test]
    async fn names_are_followed_so_far_and_remembered() {
        let (at, asked) = server(&[
            ("files.example.com", "c.auth_p.Swift.example.org"),
            ("www.example.com", "files.example.com"),
            ("ring.example.com", "gnir.example.com"),
            ("gnir.example.com", "ring.example.com"),
        ])
        .await;
        let domains = ["swift.example.org".to_owned()];
        let below = |port: &str| Found::Below(format!("c.auth_p.swift.example.org{port}"));
        let one = lookup(vec![at], 1);
        for own in ["swift.example.org", "c.auth_p.swift.example.org:80", "10.1.1.1:80", "[::1]:80", ""] {
            assert_eq!(one.resolve(own, &domains).await, Found::Own, "{own}");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        assert_eq!(one.resolve("FILES.example.com:8080", &domains).await, below(":8080"));
        assert_eq!(one.resolve("files.example.com", &domains).await, below(""));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        let failed = Found::Nowhere("CNAME lookup failed after 1 tries".into());
        assert_eq!(one.resolve("www.example.com", &domains).await, failed);
        let nothing = Found::Nowhere("CNAME lookup failed to resolve to a valid domain".into());
        for name in ["nothing.example.com", "evilswift.example.org", "a..b", "ü.example.com"] {
            assert_eq!(one.resolve(name, &domains).await, nothing, "{name}");
            assert_eq!(one.resolve(name, &domains).await, nothing, "{name}");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 4);
        let three = lookup(vec![at], 3);
        assert_eq!(three.resolve("www.example.com", &domains).await, below(""));
        let ring = Found::Nowhere("CNAME lookup failed after 3 tries".into());
        assert_eq!(three.resolve("ring.example.com", &domains).await, ring);
    }

    #[tokio::test]
    async fn the_next_server_is_asked_where_one_is_not_there() {
        let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (at, _) = server(&[("files.example.com", "auth_p.swift.example.org")]).await;
        let found =
            lookup(vec![gone, at], 1).resolve("files.example.com", &["swift.example.org".into()]).await;
        assert_eq!(found, Found::Below("auth_p.swift.example.org".into()));
    }

    #[test]
    fn the_machines_servers() {
        let text = "# nameserver 9.9.9.9\nsearch x\nnameserver 10.0.0.2\nnameserver fd00::1\n";
        assert_eq!(system_servers(text), ["10.0.0.2:53".parse().unwrap(), "[fd00::1]:53".parse().unwrap()]);
        assert_eq!(system_servers(""), ["127.0.0.1:53".parse().unwrap()]);
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise: Vec<u8>, cut in 0usize..64) {
            let question = Question::of("files.example.com").unwrap();
            let _ = question.read(7, &noise);
            let good = answer(&question.packet(7), "x.swift.example.org", 1);
            prop_assert_eq!(question.read(7, &good), Some(Answer::Name("x.swift.example.org".into(), 1)));
            prop_assert!(question.read(8, &good).is_none());
            let mut bad = good[..good.len().saturating_sub(cut)].to_vec();
            for (to, from) in bad.iter_mut().skip(2).zip(&noise) {
                *to ^= from;
            }
            let _ = question.read(7, &bad);
        }
    }
}
