//! Signs callbacks and posts them: those of one lane one after the other, as the platform's own are.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use url::Url;

use super::mischief::Plan;
use crate::{
    auth::DevIssuer,
    net::{HttpClient, Method, Request, is_here},
};

/// How long a bot may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most bytes of its answer that are read.
const MAX_ANSWER: usize = 64 * 1024;
/// How many callbacks are remembered.
const REMEMBERED: usize = 10_000;
/// From how many lanes on those that have come to rest are forgotten.
const MANY_LANES: usize = 64;

/// A callback that was posted.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// The platform's name of it: a second copy has the same.
    pub id: String,
    /// When it was handed over.
    pub at: Timestamp,
    /// Where it went.
    pub to: Url,
    /// The status of the answer; `None`: there was none.
    pub status: Option<u16>,
    /// What it said.
    pub body: Value,
}

/// Posts callbacks with tokens of one issuer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Postman {
    client: HttpClient,
    issuer: Arc<DevIssuer>,
    /// The claims of every token: the audience, and what else the platform says of itself.
    claims: Map<String, Value>,
    /// Whether they may leave this machine.
    remote: bool,
    lanes: Arc<Mutex<BTreeMap<String, JoinHandle<()>>>>,
    on_their_way: TaskTracker,
    sent: Arc<Mutex<VecDeque<Sent>>>,
}

impl Postman {
    /// Posts with these claims in its tokens; to other machines only if that is wanted.
    #[must_use]
    pub fn new(client: HttpClient, issuer: Arc<DevIssuer>, claims: Map<String, Value>, remote: bool) -> Self {
        Self { client, issuer, claims, remote, lanes: Arc::default(), on_their_way: TaskTracker::new(), sent: Arc::default() }
    }

    /// What was posted, the oldest first.
    #[must_use]
    pub fn sent(&self) -> Vec<Sent> {
        held(&self.sent).iter().cloned().collect()
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.on_their_way.is_empty()
    }

    /// Posts when it is this callback's turn; what comes back ends when that has been done.
    pub(super) fn post(&self, plan: Plan, now: Timestamp) -> impl Future<Output = ()> + use<> {
        let (done, posted) = tokio::sync::oneshot::channel();
        let (postman, lane) = (self.clone(), plan.callback.lane.clone());
        let mut lanes = held(&self.lanes);
        let before = if plan.in_line { lanes.remove(&lane) } else { None };
        let in_line = plan.in_line;
        let task = self.on_their_way.spawn(async move {
            if let Some(before) = before {
                let _ended = before.await;
            }
            tokio::time::sleep(plan.pause).await;
            postman.deliver(plan, now).await;
            let _nobody_waits = done.send(());
        });
        if in_line {
            lanes.insert(lane, task);
        }
        if lanes.len() > MANY_LANES {
            lanes.retain(|_, task| !task.is_finished());
        }
        drop(lanes);
        async move {
            let _posted = posted.await;
        }
    }

    async fn deliver(&self, plan: Plan, now: Timestamp) {
        let callback = plan.callback;
        let mut claims = self.claims.clone();
        claims.extend(callback.claims.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))));
        let token = match self.issuer.mint(claims, now) {
            Ok(token) => format!("Bearer {token}"),
            Err(error) => return tracing::error!(%error, "a callback could not be signed"),
        };
        let mut headers = vec![("content-type", "application/json"), ("authorization", token.as_str())];
        headers.extend(callback.headers.iter().map(|(name, value)| (*name, value.as_str())));
        let request = Request {
            method: Method::Post,
            url: &callback.to,
            headers: &headers,
            body: callback.body.to_string().into_bytes(),
            timeout: PATIENCE,
            max_bytes: MAX_ANSWER,
        };
        let status = if self.remote || is_here(&callback.to) {
            let answered = self.client.request(request).await;
            answered
                .inspect_err(|error| tracing::warn!(%error, "a callback could not be posted"))
                .ok()
                .map(|answer| answer.status)
        } else {
            tracing::warn!(to = callback.to.host_str(), "a callback would leave this machine, and is not posted");
            None
        };
        if let Some(refused) = status.filter(|status| !(200..300).contains(status)) {
            tracing::warn!(status = refused, "a callback was refused");
        }
        let mut sent = held(&self.sent);
        if sent.len() == REMEMBERED {
            sent.pop_front();
        }
        sent.push_back(Sent { id: callback.id, at: now, to: callback.to, status, body: callback.body });
    }
}

/// A panic while one of these was held has left it whole: each is changed in one step.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
