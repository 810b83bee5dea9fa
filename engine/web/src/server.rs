//! Listens on loopback, as long as it is kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use wasmill_runtime::control::JobControl;

use crate::routes::router;
use crate::token::Token;

/// Connections at once; a further one waits until one ends.
const CONNECTIONS_MAX: usize = 64;

/// Calls of the job at once, each on a thread that may wait.
const CALLS_MAX: usize = 8;

/// In this time the head of a request must come, also that of a further one of the same connection.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a server that ends waits for answers that are on their way.
const END_TIME_MAX: Duration = Duration::from_secs(2);

/// After an accept that failed, for lack of file handles for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why nothing can listen.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(
        "cannot listen on {address}: only loopback is possible, such as 127.0.0.1:0, since requests are not encrypted"
    )]
    NotLoopback { address: SocketAddr },
    #[error("cannot listen on {address}")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("cannot start the thread that listens on {address}")]
    Start { address: SocketAddr, source: std::io::Error },
    #[error("the system has no random numbers for a token: {0}")]
    Random(getrandom::Error),
}

/// A port of loopback at which nobody is answered yet: whether it can be had is known before the job begins.
#[derive(Debug)]
pub struct Listener {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens on `address`, on any free port where its port is 0.
    pub fn bind(address: SocketAddr) -> Result<Listener, ServeError> {
        if !address.ip().is_loopback() {
            return Err(ServeError::NotLoopback { address });
        }
        let bind = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok(Listener { listener, address })
        };
        bind().map_err(|source| ServeError::Bind { address, source })
    }

    /// Asks `control` what is asked here, until the server is dropped.
    pub fn serve(self, control: Arc<dyn JobControl>) -> Result<Server, ServeError> {
        let Listener { listener, address } = self;
        let token = Token::random().map_err(ServeError::Random)?;
        let cannot = |source| ServeError::Start { address, source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(CALLS_MAX)
            .thread_name("wasmill-control")
            .build()
            .map_err(cannot)?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener).map_err(cannot)?
        };
        let (end, ended) = oneshot::channel();
        let router = router(control, token.clone());
        let run = move || {
            runtime.block_on(serve(listener, router, ended));
            // A call that does not return is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("wasmill-control".to_owned()).spawn(run).map_err(cannot)?;
        Ok(Server { address, token, end: Some(end), thread: Some(thread) })
    }
}

/// Answers requests for a job until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    token: Token,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What requests must bring along.
    pub fn token(&self) -> &Token {
        &self.token
    }
}

impl Drop for Server {
    /// Answers on their way are still sent, so that who stopped the job hears of it.
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            // It has ended already if nobody listens to this.
            let _ = end.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic in there has been told by its thread, and is no reason for the job to fail.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: TcpListener, router: Router, mut ended: oneshot::Receiver<()>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = GracefulShutdown::new();
    loop {
        let next = async {
            let place = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            next = next => next,
            _ = &mut ended => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            // What is wrong with a connection is for its other side to notice.
            let _ = connection.await;
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(END_TIME_MAX, connections.shutdown()).await;
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
