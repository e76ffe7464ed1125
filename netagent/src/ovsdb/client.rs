//! The connection: one task that owns the socket, keeps the replica and answers requests.
//!
//! The task connects, reads the schema, monitors, and serves requests until the connection breaks; then it
//! does the same again with a back-off. A request that was in flight when the connection broke fails with
//! [`NetError::OvsdbDown`]: whether it took effect is unknown, and the caller (a reconciler) looks again.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::framing::Splitter;
use super::replica::{Replica, Table, Touched};
use super::schema::Schema;
use super::transact::{Op, Outcome, outcomes};
use crate::NetError;

/// An idle connection is probed this often, and given up after three silent probes.
const PROBE: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TRANSACT_TIMEOUT: Duration = Duration::from_secs(30);
/// Changes that a listener may lag behind before it has to look at everything.
const CHANGES: usize = 4096;
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Where a database listens: `unix:PATH` or `tcp:HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    Unix(PathBuf),
    Tcp(String),
}

impl FromStr for Remote {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", address)) if address.contains(':') => Ok(Self::Tcp(address.to_owned())),
            _ => Err(NetError::Config(format!("{text:?} is neither unix:PATH nor tcp:HOST:PORT"))),
        }
    }
}

impl Remote {
    /// Reads a comma-separated list, as OVN's own tools take it.
    pub fn list(text: &str) -> Result<Vec<Self>, NetError> {
        text.split(',').map(|part| part.trim().parse()).collect()
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// A handle on one database. Cheap to clone; the connection ends with the last handle.
#[derive(Clone)]
pub struct Client {
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
    database: &'static str,
}

struct Shared {
    replica: RwLock<Replica>,
    /// Counts the changes of the replica; 0 until the first complete copy.
    version: watch::Sender<u64>,
    connected: watch::Sender<bool>,
    changes: broadcast::Sender<Touched>,
    stop: CancellationToken,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Request {
    params: Value,
    reply: oneshot::Sender<Result<Value, NetError>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("database", &self.database).finish_non_exhaustive()
    }
}

impl Client {
    /// Starts the connection's task. It tries the remotes in turn, for ever; see [`Client::ready`].
    pub fn start(remotes: Vec<Remote>, database: &'static str, tables: &'static [Table]) -> Self {
        let (requests, inbox) = mpsc::channel(256);
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            replica: RwLock::new(Replica::new(tables)),
            version: watch::Sender::new(0),
            connected: watch::Sender::new(false),
            changes: broadcast::Sender::new(CHANGES),
            stop: stop.clone(),
        });
        let task = Connection { remotes, database, tables, shared: Arc::downgrade(&shared), inbox };
        tokio::spawn(async move { stop.run_until_cancelled(task.run()).await });
        Self { requests, shared, database }
    }

    /// Waits until the replica is complete.
    pub async fn ready(&self, within: Duration) -> Result<(), NetError> {
        let mut connected = self.shared.connected.subscribe();
        let up = connected.wait_for(|up| *up);
        match timeout(within, up).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(NetError::OvsdbDown(self.database)),
        }
    }

    pub fn is_connected(&self) -> bool {
        *self.shared.connected.borrow()
    }

    /// Whether the connection comes and goes; each time it comes, the replica was read anew.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.shared.connected.subscribe()
    }

    /// Changes whenever the replica has changed.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// Every row that changes from now on; not those that a new copy after a reconnect holds.
    pub fn changes(&self) -> broadcast::Receiver<Touched> {
        self.shared.changes.subscribe()
    }

    /// Looks at the replica. The closure must be brief: updates wait for it.
    pub fn read<T>(&self, look: impl FnOnce(&Replica) -> T) -> T {
        look(&self.shared.replica.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs one transaction; afterwards the replica shows its effects.
    pub async fn transact(&self, ops: Vec<Op>) -> Result<Vec<Outcome>, NetError> {
        let sent = ops.len();
        let params: Vec<Value> =
            std::iter::once(json!(self.database)).chain(ops.into_iter().map(Op::into_json)).collect();
        let (reply, answer) = oneshot::channel();
        let request = Request { params: Value::Array(params), reply };
        let work = async {
            // A request is only queued on a live connection, so that an outage is an error at once.
            if !self.is_connected() || self.requests.send(request).await.is_err() {
                return Err(NetError::OvsdbDown(self.database));
            }
            answer.await.unwrap_or(Err(NetError::OvsdbDown(self.database)))
        };
        let result =
            timeout(TRANSACT_TIMEOUT, work).await.map_err(|_| NetError::OvsdbDown(self.database))??;
        outcomes(&result, sent)
    }
}

struct Connection {
    remotes: Vec<Remote>,
    database: &'static str,
    tables: &'static [Table],
    /// Weak, so that the handles decide how long the connection lives.
    shared: std::sync::Weak<Shared>,
    inbox: mpsc::Receiver<Request>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Connection {
    async fn run(mut self) {
        let mut wait = BACKOFF.0;
        for attempt in 0_usize.. {
            let remote = self.remotes[attempt % self.remotes.len().max(1)].clone();
            let outcome = match self.connect(&remote).await {
                Ok(stream) => self.serve(stream).await,
                Err(error) => Err(error),
            };
            let Some(shared) = self.shared.upgrade() else { return };
            let was_up = shared.connected.send_replace(false);
            drop(shared);
            self.inbox_refuse();
            if let Err(error) = outcome {
                if was_up {
                    tracing::warn!(database = self.database, %remote, %error, "lost the database; reconnecting");
                    wait = BACKOFF.0;
                } else {
                    tracing::debug!(database = self.database, %remote, %error, "no connection yet");
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    /// What was queued for a connection that is gone fails.
    fn inbox_refuse(&mut self) {
        while let Ok(request) = self.inbox.try_recv() {
            let _ = request.reply.send(Err(NetError::OvsdbDown(self.database)));
        }
    }

    async fn connect(&self, remote: &Remote) -> Result<Box<dyn Stream>, NetError> {
        let connecting = async {
            Ok::<Box<dyn Stream>, std::io::Error>(match remote {
                Remote::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Remote::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                }
            })
        };
        match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(result) => result.map_err(|source| NetError::Io { what: remote.to_string(), source }),
            Err(_) => Err(NetError::OvsdbDown(self.database)),
        }
    }

    async fn serve(&mut self, stream: Box<dyn Stream>) -> Result<(), NetError> {
        let mut session = Session::new(stream, self.database);
        let schema = Schema::parse(&session.call("get_schema", json!([self.database])).await?)?;
        let mut requests = serde_json::Map::new();
        for table in self.tables {
            let columns: Vec<_> = table.columns.iter().filter(|c| schema.has(table.name, c)).collect();
            requests.insert(table.name.to_owned(), json!([{ "columns": columns }]));
        }
        let initial = session.call("monitor_cond", json!([self.database, "replica", requests])).await?;
        let mut replica = Replica::new(self.tables);
        replica.apply(&initial, &schema)?;
        // Updates may have come before the schema's or the monitor's answer was read.
        for updates in session.early.drain(..) {
            replica.apply(&updates, &schema)?;
        }
        {
            let Some(shared) = self.shared.upgrade() else { return Ok(()) };
            *shared.replica.write().unwrap_or_else(PoisonError::into_inner) = replica;
            shared.version.send_modify(|v| *v += 1);
            shared.connected.send_replace(true);
        }
        let mut silent = 0;
        let mut probe = tokio::time::interval_at(Instant::now() + PROBE, PROBE);
        loop {
            tokio::select! {
                biased;
                message = session.receive() => {
                    silent = 0;
                    match message? {
                        Message::Update(updates) => {
                            let Some(shared) = self.shared.upgrade() else { return Ok(()) };
                            let touched = shared
                                .replica
                                .write()
                                .unwrap_or_else(PoisonError::into_inner)
                                .apply(&updates, &schema)?;
                            for row in touched {
                                let _ = shared.changes.send(row); // nobody need listen
                            }
                            shared.version.send_modify(|v| *v += 1);
                        }
                        Message::Reply(id, result) => session.resolve(id, result),
                        Message::Echo(id, params) => session.send(&json!({"id": id, "result": params, "error": null})).await?,
                        Message::Other => {}
                    }
                }
                request = self.inbox.recv() => {
                    let Some(request) = request else { return Ok(()) };
                    session.request(request).await?;
                }
                _ = probe.tick() => {
                    silent += 1;
                    if silent > 3 {
                        return Err(NetError::OvsdbDown(self.database));
                    }
                    session.send(&json!({"id": "echo", "method": "echo", "params": []})).await?;
                }
            }
        }
    }
}

enum Message {
    Update(Value),
    Reply(u64, Result<Value, NetError>),
    Echo(Value, Value),
    Other,
}

struct Session {
    stream: Box<dyn Stream>,
    splitter: Splitter,
    chunk: Vec<u8>,
    next_id: u64,
    pending: HashMap<u64, oneshot::Sender<Result<Value, NetError>>>,
    early: Vec<Value>,
    database: &'static str,
}

impl Session {
    fn new(stream: Box<dyn Stream>, database: &'static str) -> Self {
        Self {
            stream,
            splitter: Splitter::default(),
            chunk: vec![0; 64 << 10],
            next_id: 1,
            pending: HashMap::new(),
            early: Vec::new(),
            database,
        }
    }

    async fn send(&mut self, message: &Value) -> Result<(), NetError> {
        let bytes = message.to_string().into_bytes();
        match timeout(PROBE * 3, self.stream.write_all(&bytes)).await {
            Ok(result) => result.map_err(|source| NetError::Io { what: self.database.to_owned(), source }),
            Err(_) => Err(NetError::OvsdbDown(self.database)),
        }
    }

    async fn request(&mut self, request: Request) -> Result<(), NetError> {
        let id = self.next_id;
        self.next_id += 1;
        self.pending.insert(id, request.reply);
        self.send(&json!({"id": id, "method": "transact", "params": request.params})).await
    }

    /// A request during the set-up, while nothing else is in flight.
    async fn call(&mut self, method: &str, params: Value) -> Result<Value, NetError> {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&json!({"id": id, "method": method, "params": params})).await?;
        let deadline = Instant::now() + TRANSACT_TIMEOUT;
        loop {
            let message = tokio::time::timeout_at(deadline, self.receive())
                .await
                .map_err(|_| NetError::OvsdbDown(self.database))??;
            match message {
                Message::Reply(got, result) if got == id => return result,
                Message::Update(updates) => self.early.push(updates),
                Message::Echo(id, params) => {
                    self.send(&json!({"id": id, "result": params, "error": null})).await?;
                }
                _ => {}
            }
        }
    }

    fn resolve(&mut self, id: u64, result: Result<Value, NetError>) {
        if let Some(reply) = self.pending.remove(&id) {
            let _ = reply.send(result); // the caller may have stopped waiting
        }
    }

    /// The next message. Cancel-safe: bytes that were read stay in the splitter.
    async fn receive(&mut self) -> Result<Message, NetError> {
        loop {
            if let Some(bytes) = self.splitter.next_message()? {
                let value: Value = serde_json::from_slice(&bytes)
                    .map_err(|error| NetError::OvsdbProtocol(format!("not JSON: {error}")))?;
                return Ok(classify(value));
            }
            let got = self
                .stream
                .read(&mut self.chunk)
                .await
                .map_err(|source| NetError::Io { what: self.database.to_owned(), source })?;
            if got == 0 {
                return Err(NetError::OvsdbDown(self.database));
            }
            self.splitter.push(&self.chunk[..got]);
        }
    }
}

fn classify(mut value: Value) -> Message {
    match value.get("method").and_then(Value::as_str) {
        Some("update2") => match value.get_mut("params").and_then(|p| p.get_mut(1)) {
            Some(updates) => Message::Update(updates.take()),
            None => Message::Other,
        },
        Some("echo") => Message::Echo(value["id"].take(), value["params"].take()),
        Some(_) => Message::Other,
        None => {
            let Some(id) = value.get("id").and_then(Value::as_u64) else { return Message::Other };
            let error = value["error"].take();
            let result = if error.is_null() {
                Ok(value["result"].take())
            } else {
                let name = error.get("error").and_then(Value::as_str).unwrap_or("error").to_owned();
                Err(NetError::OvsdbRefused { error: name, details: error.to_string() })
            };
            Message::Reply(id, result)
        }
    }
}
