//! Counts connections before anything of them is read, TLS included: who says nothing at all takes a place too.

use actix_web::{
    dev::{Service, ServiceFactory, forward_ready},
    rt::net::TcpStream,
};
use futures_util::future::{FutureExt, LocalBoxFuture};

use super::crowd::Crowd;

/// Makes what lets connections in to the service behind it.
#[derive(Clone, Debug)]
pub struct Threshold<F> {
    /// Who is there already.
    pub crowd: Crowd,
    /// Makes the service.
    pub behind: F,
}

/// Lets connections in while their address has places, each of which is taken until the service is done with it.
#[derive(Debug)]
pub struct Counting<S> {
    crowd: Crowd,
    behind: S,
}

impl<F> ServiceFactory<TcpStream> for Threshold<F>
where
    F: ServiceFactory<TcpStream, Config = (), Response = ()>,
    F::Future: 'static,
    <F::Service as Service<TcpStream>>::Future: 'static,
{
    type Response = ();
    type Error = F::Error;
    type Config = ();
    type Service = Counting<F::Service>;
    type InitError = F::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, Self::InitError>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let (crowd, behind) = (self.crowd.clone(), self.behind.new_service(()));
        async move { Ok(Counting { crowd, behind: behind.await? }) }.boxed_local()
    }
}

impl<S> Service<TcpStream> for Counting<S>
where
    S: Service<TcpStream, Response = ()>,
    S::Future: 'static,
{
    type Response = ();
    type Error = S::Error;
    type Future = LocalBoxFuture<'static, Result<(), S::Error>>;

    forward_ready!(behind);

    fn call(&self, stream: TcpStream) -> Self::Future {
        match self.crowd.admit(stream.peer_addr().ok()) {
            Ok(presence) => {
                let served = self.behind.call(stream);
                async move {
                    let _presence = presence;
                    served.await
                }
                .boxed_local()
            }
            // closed as it is dropped
            Err(_full) => async { Ok(()) }.boxed_local(),
        }
    }
}
