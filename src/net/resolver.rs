//! Resolves host names to addresses on dedicated threads.
//!
//! The resolver of the system blocks its thread and cannot be cancelled, so a name server that does
//! not respond must never occupy a thread on which other work depends: nothing else in this crate
//! resolves a name, and `clippy.toml` forbids the functions that do. Each name is looked up at most
//! once at the same time, and its callers share the outcome. Start reading at [`resolve`]. See
//! decision 0085.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::watch;

use super::HostPort;

/// The maximum number of lookups at the same time; others wait until one of them ends.
const MAX_LOOKUPS: usize = 64;
/// The size of the stack of a thread, in bytes.
const STACK_BYTES: usize = 512 << 10;

/// Looks up a name, and blocks until the outcome is known. The ports of the addresses are 0.
type LookupFn = Box<dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// What all callers of one lookup receive.
type SharedOutcome = Result<Vec<SocketAddr>, Arc<io::Error>>;

/// Resolves names for all connections of the process.
static SYSTEM: LazyLock<NameResolver> =
    LazyLock::new(|| NameResolver::new(Box::new(look_up), MAX_LOOKUPS));

/// A resolver whose clones share their lookups.
#[derive(Clone)]
pub(super) struct NameResolver(Arc<Lookups>);

struct Lookups {
    look_up: LookupFn,
    max_threads: usize,
    queue: Mutex<LookupQueue>,
}

#[derive(Default)]
struct LookupQueue {
    /// The names that are waiting or being looked up, each with the channel of its callers.
    pending: HashMap<String, watch::Sender<Option<SharedOutcome>>>,
    /// The names that are waiting for a thread, in order. Each of them is also pending.
    waiting: VecDeque<String>,
    /// The number of running threads. Names wait only while there is one.
    threads: usize,
}

/// The addresses of `host:port`, in the order of the system's resolver. An IP address is not looked
/// up. The caller limits the time.
///
/// # Errors
///
/// Fails with `InvalidInput` if the address has another form, and with the error of the system if
/// the name cannot be resolved.
pub(crate) async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }

    let HostPort { host, port } = HostPort::parse(address)
        .map_err(|fault| io::Error::new(io::ErrorKind::InvalidInput, fault))?;

    let mut addresses = system_resolver().lookup(host).await?;
    for address in &mut addresses {
        address.set_port(port);
    }
    Ok(addresses)
}

/// The resolver of the process.
pub(super) fn system_resolver() -> NameResolver {
    SYSTEM.clone()
}

#[expect(clippy::disallowed_methods, reason = "the only permitted call, on a thread for lookups")]
fn look_up(host: &str) -> io::Result<Vec<SocketAddr>> {
    use std::net::ToSocketAddrs;

    Ok((host, 0_u16).to_socket_addrs()?.collect())
}

impl NameResolver {
    fn new(look_up: LookupFn, max_threads: usize) -> Self {
        Self(Arc::new(Lookups { look_up, max_threads, queue: Mutex::default() }))
    }

    /// The addresses of a host, with port 0. The future can be dropped at any time; a lookup that
    /// has begun continues for the other callers of the name. Fails with the error of the lookup,
    /// or if no thread can be started.
    async fn lookup(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, 0)]);
        }

        let mut receiver = self.join(host.to_ascii_lowercase())?;
        let outcome = match receiver.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        match outcome {
            Some(Ok(addresses)) => Ok(addresses),
            Some(Err(error)) => Err(copy_of(&error)),
            None => Err(io::Error::other("the lookup of the host name has no outcome")),
        }
    }

    /// Joins the pending lookup of a name, or begins one.
    fn join(&self, host: String) -> io::Result<watch::Receiver<Option<SharedOutcome>>> {
        let mut queue = self.0.queue();
        if let Some(sender) = queue.pending.get(&host) {
            return Ok(sender.subscribe());
        }

        // A new thread waits for the lock of the queue, which already contains the name then.
        if queue.threads < self.0.max_threads {
            match self.start_thread() {
                Ok(()) => queue.threads = queue.threads.saturating_add(1),
                Err(error) if queue.threads == 0 => return Err(error),
                // A running thread looks up the name later.
                Err(_) => {}
            }
        }
        let (sender, receiver) = watch::channel(None);
        queue.pending.insert(host.clone(), sender);
        queue.waiting.push_back(host);
        Ok(receiver)
    }

    fn start_thread(&self) -> io::Result<()> {
        let lookups = Arc::clone(&self.0);
        let builder = thread::Builder::new().name("dns".to_owned()).stack_size(STACK_BYTES);
        builder.spawn(move || lookups.run()).map(drop)
    }
}

impl Lookups {
    fn queue(&self) -> MutexGuard<'_, LookupQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up names until none is waiting.
    fn run(&self) {
        while let Some(host) = self.next_name() {
            // After a panic, the callers receive an error, and the thread continues.
            let found = catch_unwind(AssertUnwindSafe(|| (self.look_up)(&host)));
            let found = found.unwrap_or_else(|_| Err(io::Error::other("the lookup panicked")));

            let sender = self.queue().pending.remove(&host);
            if let Some(sender) = sender {
                sender.send_replace(Some(found.map_err(Arc::new)));
            }
        }
    }

    /// The next name for which a caller is waiting. Returns `None`, and no longer counts the
    /// thread, if there is none.
    fn next_name(&self) -> Option<String> {
        let mut queue = self.queue();
        while let Some(host) = queue.waiting.pop_front() {
            let sender = queue.pending.get(&host);
            if sender.is_some_and(|sender| sender.receiver_count() > 0) {
                return Some(host);
            }
            queue.pending.remove(&host);
        }
        queue.threads = queue.threads.saturating_sub(1);
        None
    }
}

/// Another error with the same kind and text, by which `failures` recognizes it.
fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl Resolve for NameResolver {
    /// The HTTP client replaces the port.
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.lookup(name.as_str()).await?;
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests;
