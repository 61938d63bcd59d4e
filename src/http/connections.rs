//! Accepts connections, as many as may be open at once, and waits for them at the end.
//!
//! In place of `axum::serve`, whose connections have no time-outs (axum #2741).

mod event_writer;
mod newcomers;
mod serving;
mod socket;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use self::newcomers::Newcomers;
pub(super) use self::serving::Seat;
use self::serving::{Serving, protocols};
use super::Front;
use crate::telemetry::{Metrics, OpenConnection};

/// What the kernel may hold for a reader that is slow, in bytes; Linux doubles it. By default that
/// grows to several MiB, and a stream would be minutes late before its queue told.
const SEND_BUFFER_BYTES: usize = 128 * 1_024;

/// When a connection to a client that vanished is given up: data unacknowledged for so long, or
/// this long silent and then unanswered probes.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// Connections whose first requests are waited for at once.
const NEWCOMERS_PER_WORKER: usize = 2;

/// How long to wait after the system would not give out another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often, at most, the log says that no connection can be accepted now.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What a connection holds until it ends.
#[derive(Debug)]
struct Held {
    _place: OwnedSemaphorePermit,
    _served: Arc<()>,
    _counted: OpenConnection,
}

/// Where connections are served, and how their requests are answered.
#[derive(Debug)]
pub(crate) struct Worker {
    runtime: Handle,
    front: Front,
    /// Held by each of its connections.
    served: Arc<()>,
}

impl Worker {
    /// Serves by tasks of `runtime`.
    pub(crate) fn new(runtime: Handle, front: Front) -> Self {
        Self {
            runtime,
            front,
            served: Arc::default(),
        }
    }

    fn connections(&self) -> usize {
        Arc::strong_count(&self.served) - 1
    }
}

/// The connections of one listener.
pub(crate) struct Connections {
    listener: TcpListener,
    workers: Vec<Worker>,
    /// Dropped when all connections are to end.
    drain: watch::Sender<()>,
    places: Places,
    metrics: Arc<Metrics>,
}

/// How many connections may still be accepted.
struct Places {
    most: u32,
    free: Arc<Semaphore>,
    reported: Option<Instant>,
}

impl Places {
    /// A place, once there is one. Those that wait do so in the system's queue, not in this process.
    async fn take(&mut self) -> OwnedSemaphorePermit {
        if self.free.available_permits() == 0 {
            self.report("all are taken (PRESENCE_CONNECTIONS); more wait until one ends");
        }
        let place = Arc::clone(&self.free).acquire_owned().await;
        place.expect("it is never closed")
    }

    /// Tells of it, unless that was told a moment ago: it is so again for every connection.
    fn report(&mut self, why: &str) {
        let now = Instant::now();
        let told = self
            .reported
            .is_some_and(|last| now - last < REPORT_INTERVAL);
        if !told {
            self.reported = Some(now);
            warn!(why, "no connection can be accepted");
        }
    }
}

impl Connections {
    /// Serves at most `most` connections of `listener` at once, each by that of the `workers`, of whom
    /// there is at least one, which has the fewest.
    pub(crate) fn new(
        listener: TcpListener,
        workers: Vec<Worker>,
        most: u32,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            listener,
            workers,
            drain: watch::Sender::new(()),
            places: Places {
                most,
                free: Arc::new(Semaphore::new(most as usize)),
                reported: None,
            },
            metrics,
        }
    }

    /// Accepts until `stop` resolves.
    pub(crate) async fn accept_until(&mut self, stop: impl Future<Output = ()>) {
        let protocols = protocols();
        let mut newcomers = Newcomers::new(NEWCOMERS_PER_WORKER * self.workers.len());
        let mut turn = 0_usize;
        tokio::pin!(stop);
        loop {
            let accepted = async {
                newcomers.make_room().await;
                let place = self.places.take().await;
                (self.listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                accepted = accepted => accepted,
                () = &mut stop => return,
            };
            let accepted = accepted.and_then(|(stream, _)| stream.into_std());
            match accepted {
                Ok(stream) => {
                    if let Err(error) = tune(&stream) {
                        debug!(%error, "a connection could not be tuned");
                    }
                    let worker = self.idlest(turn);
                    turn += 1;
                    let serving = Serving {
                        stream,
                        front: worker.front.clone(),
                        protocols: protocols.clone(),
                        drain: self.drain.subscribe(),
                        newcomer: Some(newcomers.add()),
                        held: Held {
                            _place: place,
                            _served: Arc::clone(&worker.served),
                            _counted: self.metrics.connection(),
                        },
                    };
                    worker.runtime.spawn(serving.run());
                }
                Err(error) => {
                    self.places.report(&error.to_string());
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// The worker that has the fewest connections; of several, each in turn.
    fn idlest(&self, turn: usize) -> &Worker {
        let (before, from) = self.workers.split_at(turn % self.workers.len());
        let workers = from.iter().chain(before);
        let idlest = workers.min_by_key(|worker| worker.connections());
        idlest.expect("there is at least one")
    }

    /// Lets every connection finish the request it is in, and waits until all have.
    pub(crate) async fn finished(self) {
        drop(self.listener);
        drop(self.drain);
        // Each holds its place until it has ended.
        let _ = self.places.free.acquire_many(self.places.most).await;
    }
}

fn tune(stream: &std::net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::net::SocketAddr;

    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    async fn ask(client: &mut TcpStream, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let mut answer = [0; 2_048];
        let count = client.read(&mut answer).await.expect("it answers");
        String::from_utf8_lossy(&answer[..count]).into_owned()
    }

    /// A client of connections that answer by `router`.
    async fn client(router: Router) -> TcpStream {
        let address = serving(vec![worker(router)]).await;
        TcpStream::connect(address).await.expect("it accepts")
    }

    fn worker(router: Router) -> Worker {
        Worker::new(Handle::current(), Front::new(router, None))
    }

    async fn serving(workers: Vec<Worker>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let metrics = Arc::new(Metrics::new());
        let mut connections = Connections::new(listener, workers, 8, metrics);
        tokio::spawn(async move { connections.accept_until(pending()).await });
        address
    }

    #[tokio::test]
    async fn a_connection_goes_to_the_worker_that_has_the_fewest() {
        let names = ["first", "second"];
        let workers = names.map(|name| worker(Router::new().route("/", get(async move || name))));
        let served = workers.each_ref().map(|worker| Arc::clone(&worker.served));
        let address = serving(workers.into()).await;
        let mut clients = Vec::new();
        for expected in names {
            let mut client = TcpStream::connect(address).await.expect("it accepts");
            let answer = ask(&mut client, "/").await;
            assert!(answer.ends_with(expected), "{answer}");
            clients.push(client);
        }
        clients.pop();
        let given_up = async {
            // The worker itself holds it, and this test.
            while Arc::strong_count(&served[1]) > 2 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let given_up = timeout(Duration::from_secs(10), given_up).await;
        given_up.expect("the server sees the end of the connection");
        let mut client = TcpStream::connect(address).await.expect("it accepts");
        let answer = ask(&mut client, "/").await;
        assert!(answer.ends_with("second"), "{answer}");
    }

    /// Whether the other side has closed the connection by now.
    async fn is_closed(client: &mut TcpStream) -> bool {
        let read = timeout(Duration::from_millis(1), client.read(&mut [0])).await;
        matches!(read, Ok(Ok(0) | Err(_)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_cut_off_after_75_s_of_silence_and_not_before() {
        let mut client = client(Router::new().route("/", get(async || "fine"))).await;
        for _ in 0..5 {
            let fine = ask(&mut client, "/").await;
            assert!(fine.starts_with("HTTP/1.1 200 "), "{fine}");
            sleep(Duration::from_secs(74)).await;
            assert!(!is_closed(&mut client).await);
        }
        // A head that is never finished is silence too.
        let half = client.write_all(b"GET / HTT").await;
        half.expect("it reads");
        sleep(Duration::from_secs(18)).await;
        assert!(is_closed(&mut client).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_waits_for_an_answer_is_not_silent() {
        let slow = get(async || sleep(Duration::from_secs(500)).await);
        let mut client = client(Router::new().route("/slow", slow)).await;
        let done = ask(&mut client, "/slow").await;
        assert!(done.starts_with("HTTP/1.1 200 "), "{done}");
        sleep(Duration::from_secs(74)).await;
        assert!(!is_closed(&mut client).await);
        sleep(Duration::from_secs(18)).await;
        assert!(is_closed(&mut client).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_its_answer_bit_by_bit_is_not_silent() {
        const LENGTH: usize = 2 * 1_024 * 1_024;
        let long = get(async || vec![b'x'; LENGTH]);
        let mut client = client(Router::new().route("/long", long)).await;
        let buffer = SockRef::from(&client).set_recv_buffer_size(16 * 1_024);
        buffer.expect("a small buffer");
        let request = b"GET /long HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        client.write_all(request).await.expect("it reads");
        let (mut taken, mut bytes) = (0, vec![0; 32 * 1_024]);
        let began = Instant::now();
        loop {
            sleep(Duration::from_secs(10)).await;
            match client.read(&mut bytes).await.expect("it answers") {
                0 => break,
                count => taken += count,
            }
        }
        assert!(taken > LENGTH, "{taken} bytes of head and body");
        assert!(began.elapsed() > Duration::from_secs(300), "that was slow");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_10_s_for_its_first_head() {
        let mut client = client(Router::new()).await;
        let half = client.write_all(b"GET / HTT").await;
        half.expect("it reads");
        sleep(Duration::from_millis(9_900)).await;
        assert!(!is_closed(&mut client).await);
        sleep(Duration::from_millis(200)).await;
        assert!(is_closed(&mut client).await);
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_request_only() {
        let router = Router::new()
            .route("/fine", get(async || "fine"))
            .route("/broken", get(async || -> &str { panic!("secret cause") }));
        let mut client = client(router).await;
        let broken = ask(&mut client, "/broken").await;
        assert!(broken.starts_with("HTTP/1.1 500 "), "{broken}");
        assert!(broken.contains("application/problem+json"), "{broken}");
        assert!(!broken.contains("secret"), "{broken}");
        let fine = ask(&mut client, "/fine").await;
        assert!(fine.starts_with("HTTP/1.1 200 "), "{fine}");
    }
}
