//! Takes connections, as many as can be served, and speaks HTTP on them for as long as the other end keeps up.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;

use super::access::Way;

/// Connections at the same time; the next ones wait to be taken.
const CONNECTIONS_MAX: usize = 256;
/// A request's head has to be here within this. Whoever asks for our health waits as long, at worst, when others have taken all places:
/// less than three of a kubelet's patience.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Whoever takes nothing for so long is let go.
const WRITE_PATIENCE: Duration = Duration::from_secs(20);

/// Answers those who come to `listener` until `ending` is ready, then for the requests that have begun.
pub(super) async fn serve<L: Listener>(
    mut listener: L,
    way: Way,
    router: Router,
    ending: impl Future<Output = ()>,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let under_way = GracefulShutdown::new();
    let mut ending = std::pin::pin!(ending);
    loop {
        let taken = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await.0)
        };
        let (permit, connection) = tokio::select! {
            taken = taken => taken,
            () = &mut ending => break,
        };
        let mut stream = TimeoutStream::new(connection);
        stream.set_write_timeout(Some(WRITE_PATIENCE));
        let router = router.clone();
        let answer = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(way);
            let answered = router.clone().oneshot(request.map(Body::new));
            async move { answered.await.map_err(|never: Infallible| never) }
        });
        let mut http = http1::Builder::new();
        // A request a connection: one that is kept is closed for its idleness just when somebody says the next request, whoever scrapes
        // every so many seconds; and nobody asks so often that making another one matters.
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).keep_alive(false);
        let served = http.serve_connection(TokioIo::new(Box::pin(stream)), answer);
        let served = under_way.watch(served);
        tokio::spawn(async move {
            // That a client went away, or said what is no HTTP, is the client's business.
            drop(served.await);
            drop(permit);
        });
    }
    under_way.shutdown().await;
    Ok(())
}
