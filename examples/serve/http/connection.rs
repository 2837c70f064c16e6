//! Connections: how many, how long they may take for what, and how they end. A request's answer ends with its connection, whatever it
//! is at: hyper drops what it was waiting for when the client is gone, and what is dropped is cancelled.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use super::error::ApiError;
use super::front::Front;

/// How long the head of a request may take, from its first byte.
const HEAD: Duration = Duration::from_secs(10);
/// How long a client may read nothing of what is there for it: longer than the engine's patience, so that a stream is told why
/// it ends.
const UNREAD: Duration = Duration::from_secs(60);
/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(75);
/// How long to wait after the system refused a connection, as it does where there are no more file handles.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one beyond the most is listened to, so that it reads what it is told.
const FAREWELL: Duration = Duration::from_secs(1);

/// Takes connections, at most so many at once, until the listener is dropped. `ends` turns true when they are to end after the
/// answers at work.
pub async fn accept(listener: TcpListener, front: Front, most: usize, ends: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Each token is sent when it is made.
        if let Err(error) = stream.set_nodelay(true) {
            log::debug!("a connection without TCP_NODELAY: {error}");
        }
        match places.clone().try_acquire_owned() {
            Ok(place) => drop(tokio::spawn(serve(stream, front.clone(), ends.clone(), place))),
            Err(_) => drop(tokio::spawn(refuse(stream, most))),
        }
    }
}

/// Tells a connection beyond the most so.
async fn refuse(stream: TcpStream, most: usize) {
    let error = ApiError::unavailable("too_many_connections", format!("there are {most} connections already"));
    let body = error.body().to_string();
    let head =
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\nconnection: close";
    let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let farewell = async {
        let (mut sent, mut rest) = (0, [0; 1024]);
        while sent < answer.len() {
            stream.writable().await?;
            sent += stream.try_write(&answer.as_bytes()[sent..]).or_else(again)?;
        }
        // If it closed with something unread, the system would throw away the answer.
        loop {
            stream.readable().await?;
            match stream.try_read(&mut rest) {
                Ok(0) => return Ok(()),
                outcome => drop(outcome.or_else(again)?),
            }
        }
    };
    // However it ends, the connection is closed.
    let _: Result<io::Result<()>, _> = tokio::time::timeout(FAREWELL, farewell).await;
}

fn again(error: io::Error) -> io::Result<usize> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) }
}

/// Serves one connection to its end.
async fn serve(stream: TcpStream, front: Front, mut ends: watch::Receiver<bool>, _place: OwnedSemaphorePermit) {
    let activity = Activity::default();
    let service = service_fn(|request| {
        activity.0.begins();
        front.clone().answer(request, activity.clone())
    });
    let io = Watched { io: TokioIo::new(stream), state: activity.0.clone() };
    let mut builder = http1::Builder::new();
    // Without half-closed connections: a client that is gone is noticed while its answer is made.
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE).half_close(false);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let mut is_ending = false;
    let mut head_end = std::pin::pin!(tokio::time::sleep(HEAD));
    let mut unread_end = std::pin::pin!(tokio::time::sleep(UNREAD));
    loop {
        tokio::select! {
            outcome = &mut connection => {
                if let Err(error) = outcome {
                    log::debug!("a connection ended: {error}");
                }
                return;
            }
            // The clocks run while there is something to wait for: an idle connection costs nothing.
            () = activity.0.head.started.notified() => head_end.as_mut().reset(tokio::time::Instant::now() + HEAD),
            () = &mut head_end, if !head_end.is_elapsed() => {
                if activity.0.head.lasts(HEAD) {
                    log::debug!("a connection ended: its request's head took more than {} s", HEAD.as_secs());
                    return;
                }
            }
            () = activity.0.unread.started.notified() => unread_end.as_mut().reset(tokio::time::Instant::now() + UNREAD),
            () = &mut unread_end, if !unread_end.is_elapsed() => {
                if activity.0.unread.lasts(UNREAD) {
                    log::info!("a client that read nothing for {} s was let go", UNREAD.as_secs());
                    return;
                }
            }
            _ = ends.wait_for(|&ends| ends), if !is_ending => {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = activity.0.close.notified(), if !is_ending => {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// What a connection is at.
#[derive(Clone, Default)]
pub struct Activity(Arc<State>);

/// While it is there, the connection answers.
pub struct Busy(Arc<State>);

impl Activity {
    pub fn busy(self) -> Busy {
        Busy(self.0)
    }

    /// Ends the connection with the answer at work.
    pub fn close_after(&self) {
        self.0.close.notify_one();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.is_busy.store(false, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct State {
    is_busy: AtomicBool,
    /// Runs while the head of a request is read.
    head: Clock,
    /// Runs while the client has no room for what is there for it.
    unread: Clock,
    close: Notify,
}

impl State {
    fn bytes_came(&self) {
        if !self.is_busy.load(Ordering::Relaxed) {
            self.head.start();
        }
    }

    fn begins(&self) {
        self.is_busy.store(true, Ordering::Relaxed);
        self.head.stop();
    }

    /// Takes note of whether the client had room for bytes.
    fn written(&self, is_pending: bool) {
        match is_pending {
            true => self.unread.start(),
            false => self.unread.stop(),
        }
    }
}

/// How long something has been going on.
struct Clock {
    zero: Instant,
    since: AtomicU64, // milliseconds after it, and one; 0 if nothing goes on
    started: Notify,
}

impl Default for Clock {
    fn default() -> Self {
        Self { zero: Instant::now(), since: AtomicU64::new(0), started: Notify::new() }
    }
}

impl Clock {
    fn now(&self) -> u64 {
        self.zero.elapsed().as_millis() as u64 + 1
    }

    /// It begins; nothing changes if it did before.
    fn start(&self) {
        if self.since.compare_exchange(0, self.now(), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.started.notify_one();
        }
    }

    fn stop(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    fn lasts(&self, time: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since > 0 && self.now() - since >= time.as_millis() as u64
    }
}

/// A connection that notes when bytes come, and when none can go.
struct Watched {
    io: TokioIo<TcpStream>,
    state: Arc<State>,
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_read(context, buffer);
        if let Poll::Ready(Ok(())) = outcome {
            self.state.bytes_came();
        }
        outcome
    }
}

impl Write for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(context, bytes);
        self.state.written(outcome.is_pending());
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(context, buffers);
        self.state.written(outcome.is_pending());
        outcome
    }
}
