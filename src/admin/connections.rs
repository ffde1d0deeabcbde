//! The open connections of the admin server. If there are too many connections, of one client or of
//! all, a new client replaces the oldest one whose page is not being computed. Only one page is
//! computed at a time, so idle connections can never prevent a health check. Start reading at
//! [`Connections::admit`]. See decision 0064.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// The maximum number of concurrent connections.
const MAX_CONNECTIONS: usize = 64;
/// The maximum number of concurrent connections of one client.
const MAX_PER_CLIENT: usize = 16;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// A client that is connected over TCP.
    Address(IpAddr),
    /// A process of the host that is connected to the Unix socket.
    Local,
}

/// All open connections.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: Mutex<Vec<OpenConnection>>,
}

/// A connection, which is removed from the table when this value is dropped.
#[derive(Debug)]
pub(super) struct AdmittedConnection {
    connections: Arc<Connections>,
    closing: CancellationToken,
}

/// Marks a connection while its response is computed.
#[derive(Debug)]
pub(super) struct PendingResponse<'a>(&'a AdmittedConnection);

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The client: it must send its request, or receive its response.
    Client,
    /// This program, which computes the response.
    Response,
}

/// The connections of the table are in the order in which they were opened.
#[derive(Debug)]
struct OpenConnection {
    client: Client,
    stage: Stage,
    closing: CancellationToken,
}

/// Whether another connection can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Free,
    /// The connection with this index must be closed before.
    Replacing(usize),
    /// No connection can be closed.
    Denied,
}

impl Connections {
    /// Adds a connection, and closes another one if there are too many. `None` if all connections
    /// of the client, or all connections, are waiting for their responses.
    pub(super) fn admit(self: &Arc<Self>, client: Client) -> Option<AdmittedConnection> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match admission(&open, client) {
            Admission::Free => {}
            Admission::Replacing(index) => open.remove(index).closing.cancel(),
            Admission::Denied => return None,
        }

        let closing = CancellationToken::new();
        open.push(OpenConnection { client, stage: Stage::Client, closing: closing.clone() });
        Some(AdmittedConnection { connections: Arc::clone(self), closing })
    }

    /// Changes the entry of a connection. Does nothing if the connection has been closed.
    fn update(&self, closing: &CancellationToken, stage: Stage) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // A token is equal only to its clones.
        if let Some(entry) = open.iter_mut().find(|entry| entry.closing == *closing) {
            entry.stage = stage;
        }
    }
}

impl AdmittedConnection {
    /// Completes when the connection must be closed.
    pub(super) fn closed(&self) -> WaitForCancellationFuture<'_> {
        self.closing.cancelled()
    }

    /// Protects the connection from being closed until the returned value is dropped.
    pub(super) fn pending_response(&self) -> PendingResponse<'_> {
        self.connections.update(&self.closing, Stage::Response);
        PendingResponse(self)
    }
}

impl Drop for AdmittedConnection {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|entry| entry.closing != self.closing);
    }
}

impl Drop for PendingResponse<'_> {
    fn drop(&mut self) {
        self.0.connections.update(&self.0.closing, Stage::Client);
    }
}

/// How a connection of this client is admitted.
fn admission(open: &[OpenConnection], client: Client) -> Admission {
    let count_of = |client| open.iter().filter(|entry| entry.client == client).count();
    let crowding = if count_of(client) >= MAX_PER_CLIENT {
        Some(client)
    } else if open.len() >= MAX_CONNECTIONS {
        open.iter().map(|entry| entry.client).max_by_key(|client| count_of(*client))
    } else {
        return Admission::Free;
    };

    let is_closable =
        |entry: &OpenConnection| Some(entry.client) == crowding && entry.stage == Stage::Client;
    open.iter().position(is_closable).map_or(Admission::Denied, Admission::Replacing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> Client {
        Client::Address(IpAddr::from([10, 0, 0, number]))
    }

    fn is_closed(connection: &AdmittedConnection) -> bool {
        connection.closing.is_cancelled()
    }

    #[test]
    fn one_client_replaces_only_its_own_connections() {
        let connections = Arc::new(Connections::default());
        let other = connections.admit(client(2)).unwrap();
        let crowd: Vec<_> =
            (0..MAX_PER_CLIENT + 3).map(|_| connections.admit(client(1)).unwrap()).collect();

        let closed: Vec<bool> = crowd.iter().map(is_closed).collect();
        let expected: Vec<bool> = (0..MAX_PER_CLIENT + 3).map(|index| index < 3).collect();
        assert_eq!(closed, expected);
        assert!(!is_closed(&other));
    }

    #[test]
    fn many_clients_replace_the_most_crowding_one() {
        let connections = Arc::new(Connections::default());
        let crowd: Vec<_> =
            (0..MAX_PER_CLIENT).map(|_| connections.admit(client(0)).unwrap()).collect();
        let single: Vec<_> = (1..=48).map(|n| connections.admit(client(n)).unwrap()).collect();
        assert!(!crowd.iter().chain(&single).any(is_closed));

        let more = connections.admit(client(100)).unwrap();
        assert!(is_closed(&crowd[0]));
        assert!(!crowd[1..].iter().chain(&single).chain([&more]).any(is_closed));
    }

    #[test]
    fn pending_responses_are_never_closed() {
        let connections = Arc::new(Connections::default());
        let crowd: Vec<_> =
            (0..MAX_PER_CLIENT).map(|_| connections.admit(client(1)).unwrap()).collect();
        let mut pending: Vec<_> = crowd.iter().map(AdmittedConnection::pending_response).collect();
        assert!(connections.admit(client(1)).is_none());
        assert!(connections.admit(client(2)).is_some());

        pending.remove(5);
        assert!(connections.admit(client(1)).is_some());
        assert!(crowd.iter().enumerate().all(|(index, each)| is_closed(each) == (index == 5)));
    }

    #[test]
    fn dropped_connections_leave_the_table() {
        let connections = Arc::new(Connections::default());
        for _ in 0..3 * MAX_CONNECTIONS {
            assert!(connections.admit(client(1)).is_some());
        }
        assert!(connections.open.lock().unwrap().is_empty());
    }
}
