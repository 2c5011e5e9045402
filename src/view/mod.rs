//! `toolkit view`: a run in the browser, on this machine: every photo under every strategy, ratings, blind votes.
//!
//! ```text
//! browser ─► guard (Host, Origin, token) ─► routes ─► ledger ─► ratings.csv, votes.csv
//!                                             └► pairs: which two pictures are compared next
//! ```
//! An answer is on disk before it is acknowledged. Only files that the run's own table names are served.

mod app;
mod guard;
mod ledger;
pub mod pairs;
mod pictures;
mod routes;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rand::Rng;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use self::app::App;
use self::guard::Guard;
use crate::error::usage;

/// Where it listens when nobody says.
pub const PORT: u16 = 8765;
const LOOPBACK: &str = "127.0.0.1";
/// How long answers that are on their way may take after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a run is served.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// None: this machine alone.
    pub host: Option<String>,
    /// None: [`PORT`]. Where it is taken, a free one.
    pub port: Option<u16>,
}

/// Serves a run folder until Ctrl-C or a request to end; `ready` gets the address once it can be opened, and whether
/// people can judge. Returns how many ratings and votes there are then; None where nobody can judge, since the folder
/// cannot be written to.
///
/// # Errors
/// No style run, a damaged table, an address that cannot be listened at.
pub fn serve(
    dir: &Path,
    options: &Options,
    ready: impl FnOnce(&str, bool) -> Result<()>,
) -> Result<Option<(usize, usize)>> {
    let app = Arc::new(App::open(dir)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the server")?;
    let ended = runtime.block_on(listen(app.clone(), options, ready));
    // What is being written is finished; a browser that keeps its connection is not waited for.
    runtime.shutdown_timeout(PATIENCE);
    ended?;
    app.counts()
}

async fn listen(app: Arc<App>, options: &Options, ready: impl FnOnce(&str, bool) -> Result<()>) -> Result<()> {
    // From here on a signal is an end, not a kill.
    let mut ends = [SignalKind::interrupt(), SignalKind::terminate()]
        .map(|kind| signal(kind).context("cannot wait for signals"))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let (listener, address) = bind(options).await?;
    let token = (!address.ip().is_loopback()).then(token);
    let name = options.host.as_deref().filter(|host| host.parse::<IpAddr>().is_err());
    let guard = Guard { port: address.port(), name: name.map(str::to_lowercase), token };
    let url = url(&guard, address);
    let judges = app.judges();
    let served = axum::serve(listener, routes::router(app, Arc::new(guard)));
    ready(&url, judges)?;
    let (first, second) = ends.split_at_mut(1);
    tokio::select! {
        stopped = async { served.await } => stopped.context("the server stopped"),
        _ = first[0].recv() => Ok(()),
        _ = second[0].recv() => Ok(()),
    }
}

/// A listener at the wanted port, or at a free one.
async fn bind(options: &Options) -> Result<(TcpListener, SocketAddr)> {
    let host = options.host.as_deref().unwrap_or(LOOPBACK);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = options.port.unwrap_or(PORT);
    let listener = match TcpListener::bind((host, port)).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            tracing::info!("port {port} is taken: a free one is used");
            TcpListener::bind((host, 0)).await
        }
        other => other,
    };
    let listener = listener.map_err(|error| usage(format!("--host {host}: cannot listen there: {error}")))?;
    let address = listener.local_addr().context("the server has no address")?;
    Ok((listener, address))
}

/// What to open; from a whole network by the address that others reach.
fn url(guard: &Guard, address: SocketAddr) -> String {
    let ip = if address.ip().is_unspecified() { reached_by_others(address) } else { address.ip() };
    let host = match (&guard.name, ip) {
        (Some(name), _) if guard.token.is_some() => name.clone(),
        (_, IpAddr::V4(ip)) => ip.to_string(),
        (_, IpAddr::V6(ip)) => format!("[{ip}]"),
    };
    let token = guard.token.as_ref().map(|token| format!("?token={token}")).unwrap_or_default();
    format!("http://{host}:{}/{token}", address.port())
}

/// The address from which this machine would speak to others. Nothing is sent: the address belongs to documentation.
fn reached_by_others(address: SocketAddr) -> IpAddr {
    let (from, to) = if address.is_ipv4() { ("0.0.0.0:0", "192.0.2.1:9") } else { ("[::]:0", "[2001:db8::1]:9") };
    let found = UdpSocket::bind(from).and_then(|socket| {
        socket.connect(to)?;
        socket.local_addr()
    });
    found.map_or(address.ip(), |found| found.ip())
}

/// 128 random bits.
fn token() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}
