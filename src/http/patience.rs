//! Ends connections that ask for nothing, or take nothing of what they are answered.
//!
//! The server times the first head of a connection, and the pause behind an answer until the next byte comes. It does not time a later
//! head, the rest of a body whose request was answered long ago, or a peer that does not read: a request that anybody is answered
//! (404) would buy a place for as long as somebody likes. So a connection may be without a request for so long and no longer.

use std::{
    any::Any,
    error::Error as StdError,
    net::Shutdown,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::{
    Error,
    body::{BodySize, BoxBody, MessageBody},
    dev::{Extensions, ServiceRequest, ServiceResponse},
    middleware::Next,
    rt::net::TcpStream,
    web::Bytes,
};
use socket2::{SockRef, Socket};
use tokio::time::{Instant, sleep};

/// How often it is looked who waits too long.
const EVERY: Duration = Duration::from_millis(500);

/// The connections of a listener. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Patience {
    connections: Arc<Mutex<Connections>>,
}

type Connections = Vec<Weak<Connection>>;

#[derive(Debug)]
struct Connection {
    /// A second handle on the same socket: the server keeps its own to itself.
    socket: Socket,
    /// Since when it is without a request; `None` while one is answered.
    idle_since: Mutex<Option<Instant>>,
}

impl Connection {
    fn idles(&self, since: Option<Instant>) {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn idles_since(&self) -> Option<Instant> {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Patience {
    /// Ends connections that are without a request for longer than this, as long as there is somebody who could bring more of them.
    #[must_use]
    pub fn of(limit: Duration) -> Self {
        let connections = Arc::default();
        tokio::spawn(watch(Arc::downgrade(&connections), limit));
        Self { connections }
    }

    /// A connection has been made. For [`actix_web::HttpServer::on_connect`].
    pub fn meet(&self, connection: &dyn Any, data: &mut Extensions) {
        let Some(stream) = stream(connection) else { return };
        match SockRef::from(stream).try_clone() {
            Ok(socket) => {
                let connection = Arc::new(Connection { socket, idle_since: Mutex::new(Some(Instant::now())) });
                self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&connection));
                data.insert(connection);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection that cannot be watched is closed");
                let _gone = SockRef::from(stream).shutdown(Shutdown::Both);
            }
        }
    }
}

/// The connection behind what the server hands to [`actix_web::HttpServer::on_connect`].
fn stream(connection: &dyn Any) -> Option<&TcpStream> {
    let under_tls = || connection.downcast_ref::<TlsStream<TcpStream>>().map(|tls| tls.get_ref().0);
    connection.downcast_ref::<TcpStream>().or_else(under_tls)
}

async fn watch(connections: Weak<Mutex<Connections>>, limit: Duration) {
    while let Some(connections) = connections.upgrade() {
        connections.lock().unwrap_or_else(PoisonError::into_inner).retain(|connection| {
            let Some(connection) = connection.upgrade() else { return false };
            let is_over = connection.idles_since().is_some_and(|since| since.elapsed() > limit);
            if is_over {
                // the server meets its end and lets it go
                let _gone = connection.socket.shutdown(Shutdown::Both);
            }
            !is_over
        });
        drop(connections);
        sleep(EVERY).await;
    }
}

/// The middleware that knows when a request begins, and when its answer is on its way.
///
/// # Errors
/// Those of the service behind it.
pub async fn attend<B: MessageBody + 'static>(request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<BoxBody>, Error> {
    let attention = request.request().conn_data::<Arc<Connection>>().map(Attention::to);
    let answer = next.call(request).await?;
    Ok(answer.map_body(|_head, body| match body.size() {
        BodySize::Stream => BoxBody::new(Attended { body: body.boxed(), _attention: attention }),
        BodySize::None | BodySize::Sized(_) => body.boxed(),
    }))
}

/// A connection has a request for as long as this lives.
#[derive(Debug)]
struct Attention(Arc<Connection>);

impl Attention {
    fn to(connection: &Arc<Connection>) -> Self {
        connection.idles(None);
        Self(Arc::clone(connection))
    }
}

impl Drop for Attention {
    fn drop(&mut self) {
        self.0.idles(Some(Instant::now()));
    }
}

/// An answer that goes on for a while.
struct Attended {
    body: BoxBody,
    _attention: Option<Attention>,
}

impl MessageBody for Attended {
    type Error = Box<dyn StdError>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(context)
    }
}
