//! Lookups of a name server in this process, which blocks for some names.

use std::{sync::Condvar, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::*;
use crate::net::{self, UnreachableCause};

const LIMIT: Duration = Duration::from_secs(10);

/// Blocks for names that begin with `blocked` until it is opened.
#[derive(Default)]
struct NameServer {
    /// The names of all lookups that have begun.
    begun: Mutex<Vec<String>>,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl NameServer {
    fn resolver(self: &Arc<Self>, max_threads: usize) -> NameResolver {
        let server = Arc::clone(self);
        NameResolver::new(Box::new(move |host: &str| server.answer(host)), max_threads)
    }

    fn answer(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        self.begun.lock().unwrap().push(host.to_owned());
        if host.starts_with("blocked") {
            let is_open = self.is_open.lock().unwrap();
            drop(self.opened.wait_while(is_open, |is_open| !*is_open).unwrap());
        }

        assert_ne!(host, "panic.example");
        match host {
            "unknown.example" => {
                let message = "failed to lookup address information: Name or service not known";
                Err(io::Error::other(message))
            }
            "failing.example" => Err(io::Error::from_raw_os_error(110)),
            _ => Ok(addresses()),
        }
    }

    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn begun(&self) -> Vec<String> {
        let mut begun = self.begun.lock().unwrap().clone();
        begun.sort();
        begun
    }
}

fn addresses() -> Vec<SocketAddr> {
    ["[2001:db8::7]:0", "192.0.2.7:0"].map(|address| address.parse().unwrap()).to_vec()
}

fn spawn(resolver: &NameResolver, host: &'static str) -> JoinHandle<io::Result<Vec<SocketAddr>>> {
    let resolver = resolver.clone();
    tokio::spawn(async move { resolver.lookup(host).await })
}

async fn eventually(condition: impl Fn() -> bool) {
    let becomes_true = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LIMIT, becomes_true).await.unwrap();
}

fn callers(resolver: &NameResolver, host: &str) -> usize {
    resolver.0.queue().pending.get(host).map_or(0, watch::Sender::receiver_count)
}

/// Waits until all threads have ended, and checks that nothing is kept.
async fn assert_idle(resolver: &NameResolver) {
    eventually(|| resolver.0.queue().threads == 0).await;
    let queue = resolver.0.queue();
    assert!(queue.pending.is_empty() && queue.waiting.is_empty());
}

#[tokio::test]
async fn callers_of_a_name_share_its_lookup() {
    let server = Arc::<NameServer>::default();
    let resolver = server.resolver(4);
    let names = ["blocked.example", "Blocked.Example", "blocked.example"];
    let lookups = names.map(|name| spawn(&resolver, name));
    eventually(|| callers(&resolver, "blocked.example") == names.len()).await;

    server.open();
    for lookup in lookups {
        assert_eq!(lookup.await.unwrap().unwrap(), addresses());
    }
    assert_eq!(server.begun(), ["blocked.example"]);

    // The outcome is not kept.
    resolver.lookup("blocked.example").await.unwrap();
    assert_eq!(server.begun().len(), 2);
    assert_idle(&resolver).await;
}

/// Regression: the lookups of eight names without an answer delayed all other sinks.
#[tokio::test]
async fn blocked_names_do_not_delay_another() {
    let server = Arc::<NameServer>::default();
    let resolver = server.resolver(MAX_LOOKUPS);
    let names = ["blocked-1", "blocked-2", "blocked-3", "blocked-4", "blocked-5", "blocked-6"];
    let blocked = names.map(|name| spawn(&resolver, name));
    eventually(|| server.begun().len() == names.len()).await;

    let found = timeout(LIMIT, resolver.lookup("other.example")).await.unwrap();
    assert_eq!(found.unwrap(), addresses());
    assert!(blocked.iter().all(|lookup| !lookup.is_finished()));
    server.open();
    assert_idle(&resolver).await;
}

#[tokio::test]
async fn the_number_of_lookups_is_limited() {
    let server = Arc::<NameServer>::default();
    let resolver = server.resolver(2);
    let lookups = ["blocked-1", "blocked-2", "other"].map(|name| spawn(&resolver, name));
    eventually(|| server.begun().len() == 2 && resolver.0.queue().waiting.len() == 1).await;
    assert_eq!(resolver.0.queue().threads, 2);
    assert_eq!(server.begun(), ["blocked-1", "blocked-2"]);

    server.open();
    for lookup in lookups {
        assert_eq!(lookup.await.unwrap().unwrap(), addresses());
    }
    assert_idle(&resolver).await;
}

#[tokio::test]
async fn cancelled_callers_need_no_lookup() {
    let server = Arc::<NameServer>::default();
    let resolver = server.resolver(1);
    let first = spawn(&resolver, "blocked-1");
    eventually(|| server.begun().len() == 1).await;
    let second = spawn(&resolver, "blocked-2");
    eventually(|| callers(&resolver, "blocked-2") == 1).await;

    second.abort();
    eventually(|| callers(&resolver, "blocked-2") == 0).await;
    server.open();
    first.await.unwrap().unwrap();
    assert_idle(&resolver).await;
    assert_eq!(server.begun(), ["blocked-1"]);
}

#[tokio::test]
async fn errors_keep_their_kind_and_text() {
    let server = Arc::<NameServer>::default();
    let resolver = server.resolver(1);
    let error = resolver.lookup("unknown.example").await.unwrap_err();
    assert_eq!(UnreachableCause::of(&error), Some(UnreachableCause::UnknownName), "{error}");
    assert!(error.to_string().ends_with("Name or service not known"), "{error}");

    let error = resolver.lookup("failing.example").await.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(110));
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_panic_is_an_error_for_callers() {
    let server = Arc::<NameServer>::default();
    let resolver = server.resolver(1);
    let error = resolver.lookup("panic.example").await.unwrap_err();
    assert_eq!(error.to_string(), "the lookup panicked");
    assert_eq!(resolver.lookup("other.example").await.unwrap(), addresses());
    assert_idle(&resolver).await;
}

#[tokio::test]
async fn addresses_are_not_looked_up() {
    for address in ["127.0.0.1:25", "[::1]:25", "[fe80::1%3]:25"] {
        let expected: SocketAddr = address.parse().unwrap();
        assert_eq!(resolve(address).await.unwrap(), [expected]);
    }
    for invalid in [
        "host.example",
        "host.example:",
        "host.example:65536",
        "host.example:smtp",
        "[host.example]:25",
    ] {
        let error = resolve(invalid).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{invalid}");
    }

    let server = Arc::<NameServer>::default();
    let found = server.resolver(1).lookup("::1").await.unwrap();
    assert_eq!(found, [SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0))]);
    assert!(server.begun().is_empty());
}

/// Regression: names were resolved on the threads that also wait for the disk.
#[tokio::test]
async fn http_clients_use_the_resolver() {
    let server = Arc::<NameServer>::default();
    let resolver = server.resolver(1);
    let found = resolver.resolve("host.example".parse().unwrap()).await.unwrap();
    assert_eq!(found.collect::<Vec<_>>(), addresses());

    let url = "http://unknown.example/";
    let client = net::builder(None).unwrap().dns_resolver(resolver).build().unwrap();
    let error = client.get(url).send().await.unwrap_err();
    assert_eq!(UnreachableCause::of(&error), Some(UnreachableCause::UnknownName), "{error:?}");
    assert_eq!(server.begun(), ["host.example", "unknown.example"]);
}
