//! A ledger without the service around it: deliveries are read by the Graph source and recorded straight away.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use callback_ledger::{
    domain::{
        clock::Clock,
        delivery::{Content, Correlation, Delivery},
        ids::{NotificationId, PlatformId},
        notification::Disposition,
        operation::Deadlines,
        trust::{Admitted, Asking},
    },
    source::{Answers, Head, Inbound, source},
    store::{
        Ledger, LedgerReader, OpenError, Options, RecordError, Recorded, RecordedNotification, rebuild,
        rows::{OperationFilter, OperationRow, PageRequest},
        verify,
    },
};
use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A page that holds everything.
pub const ALL: PageRequest = PageRequest { after: None, limit: 100_000 };

/// Somebody who was let in.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub audience: &'static str,
    pub tenant: Option<&'static str>,
}

/// The bot's own platform.
pub const BOT: Caller = Caller { audience: "bot", tenant: Some("contoso") };

impl Admitted for Caller {
    fn receiver(&self) -> &'static str {
        "/api/calls"
    }

    fn audience(&self) -> &str {
        self.audience
    }

    fn tenant(&self) -> Option<&str> {
        self.tenant
    }

    fn token(&self) -> Option<&[u8; 32]> {
        None
    }
}

/// The same with a token, by its hash.
#[derive(Debug)]
pub struct Bearer(pub [u8; 32]);

impl Admitted for Bearer {
    fn receiver(&self) -> &'static str {
        "/api/calls"
    }

    fn audience(&self) -> &str {
        BOT.audience
    }

    fn tenant(&self) -> Option<&str> {
        BOT.tenant
    }

    fn token(&self) -> Option<&[u8; 32]> {
        Some(&self.0)
    }
}

impl Asking for Caller {
    fn name(&self) -> &'static str {
        "bot"
    }
}

/// A ledger in a folder of its own.
pub struct TestLedger {
    pub ledger: Ledger,
    pub options: Options,
    pub folder: TempDir,
    writer: JoinHandle<()>,
}

/// How a test opens the ledger at `path`.
pub fn options(path: impl Into<PathBuf>) -> Options {
    Options {
        path: path.into(),
        master_key: None,
        clock: Clock::system(),
        disconnect_grace: Duration::from_secs(30),
        forward_targets: Vec::new(),
        retention: std::collections::BTreeMap::new(),
        deadlines: Deadlines { default: Duration::from_mins(5), by_kind: std::collections::BTreeMap::new() },
        observer: Arc::new(|_| ()),
    }
}

impl TestLedger {
    pub async fn new() -> Self {
        Self::with(|path| (options(path), ())).await.0
    }

    /// A ledger that is opened as `how` says, and what else that made.
    pub async fn with<T>(how: impl FnOnce(PathBuf) -> (Options, T)) -> (Self, T) {
        let folder = tempfile::tempdir().unwrap();
        let (options, made) = how(folder.path().join("test.db"));
        let (ledger, writer) = Ledger::open(options.clone()).await.unwrap();
        (Self { ledger, options, folder, writer }, made)
    }

    pub fn path(&self) -> &Path {
        &self.options.path
    }

    pub fn reader(&self) -> &LedgerReader {
        self.ledger.reader()
    }

    pub async fn post(&self, body: &Value) -> Result<Recorded, RecordError> {
        self.ledger.record(&BOT, delivery(body, None)).await
    }

    /// Closes the ledger and returns its folder.
    pub async fn close(self) -> (Options, TempDir) {
        let Self { ledger, options, folder, writer } = self;
        drop(ledger);
        writer.await.unwrap();
        (options, folder)
    }

    /// Closes the ledger, whose projections must be what its facts say.
    pub async fn agrees_with_its_facts(self) {
        assert_eq!(rebuild(&self.options).await.unwrap(), []);
        assert_eq!(verify(self.reader()).await.unwrap(), []);
        self.close().await;
    }

    /// Closes the ledger and opens it again.
    pub async fn restart(self) -> Self {
        let (options, folder) = self.close().await;
        Self::reopen(options, folder).await
    }

    /// Opens a ledger that was closed.
    pub async fn reopen(options: Options, folder: TempDir) -> Self {
        let (ledger, writer) = Ledger::open(options.clone()).await.unwrap();
        Self { ledger, options, folder, writer }
    }

    /// A connection of somebody who goes behind the ledger's back.
    pub async fn behind(&self) -> SqliteConnection {
        behind(self.path()).await
    }
}

pub async fn behind(path: &Path) -> SqliteConnection {
    SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path).create_if_missing(true)).await.unwrap()
}

pub async fn execute(path: &Path, sql: &'static str) {
    let mut connection = behind(path).await;
    sqlx::query(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

pub async fn count(path: &Path, sql: &'static str) -> i64 {
    let mut connection = behind(path).await;
    let count = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    count
}

/// It is sound, and its projections are what its facts say.
pub async fn is_sound(options: &Options) {
    let reader = LedgerReader::open(options).await.unwrap();
    assert_eq!(verify(&reader).await.unwrap(), []);
    reader.close().await;
    assert_eq!(rebuild(options).await.unwrap(), []);
}

/// Waits until the writer has brought it to this.
pub async fn until(path: &Path, sql: &'static str, expected: i64) {
    for _ in 0..300 {
        if count(path, sql).await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{sql}: never {expected}, but {}", count(path, sql).await);
}

/// What opening says if it does not open.
pub async fn open_error(options: &Options) -> OpenError {
    match Ledger::open(options.clone()).await {
        Ok(_) => panic!("the ledger opened"),
        Err(error) => error,
    }
}

/// A body as the Graph source reads it, just received.
pub fn delivery(body: &Value, message_id: Option<&str>) -> Delivery {
    let correlation = Correlation { message_id: message_id.map(str::to_owned), ..Correlation::default() };
    correlated(body, correlation)
}

pub fn correlated(body: &Value, correlation: Correlation) -> Delivery {
    delivery_of("graph", body, correlation)
}

/// A body as this source reads it, just received.
pub fn delivery_of(name: &str, body: &Value, correlation: Correlation) -> Delivery {
    let source = source(name).unwrap();
    let body = body.to_string().into_bytes();
    let inbound = Inbound { body: &body, head: &Head::default(), correlation: &correlation, answers: &Answers::default() };
    let content = source.read(&inbound).map_or(Content::Unreadable, |reading| Content::Read(reading.notifications));
    Delivery { source: source.name(), received_at: Timestamp::now(), correlation, body, content, head: None }
}

/// One item of a body.
pub fn item(change: &str, resource: &str, data: &Value) -> Value {
    json!({ "changeType": change, "resourceUrl": format!("/communications/{resource}"), "resourceData": data })
}

pub fn envelope(items: &[Value]) -> Value {
    json!({ "value": items })
}

/// The one item that an operation of a call has come to this status.
pub fn operation(call: &str, operation: &str, status: &str) -> Value {
    let data = json!({ "@odata.type": "#microsoft.graph.recordOperation", "id": operation, "status": status });
    envelope(&[item("updated", &format!("calls/{call}/operations/{operation}"), &data)])
}

/// What became of the notifications: `None` for a duplicate.
pub fn dispositions(recorded: &Recorded) -> Vec<Option<Disposition>> {
    let disposition = |one: &RecordedNotification| match one {
        RecordedNotification::New(_, disposition) => Some(*disposition),
        RecordedNotification::Duplicate => None,
    };
    recorded.notifications.iter().map(disposition).collect()
}

/// The id of the only notification, which is new.
pub fn only_id(recorded: &Recorded) -> NotificationId {
    match recorded.notifications.as_slice() {
        [RecordedNotification::New(id, _)] => *id,
        other => panic!("not one new notification: {other:?}"),
    }
}

pub async fn operations_of(reader: &LedgerReader, call: &str) -> Vec<OperationRow> {
    operations_at(reader, call, Timestamp::now()).await
}

pub async fn operations_at(reader: &LedgerReader, call: &str, now: Timestamp) -> Vec<OperationRow> {
    let filter = OperationFilter { call_id: PlatformId::parse(call), ..OperationFilter::default() };
    reader.operations(&filter, ALL, now).await.unwrap().rows
}
