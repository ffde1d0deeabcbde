//! The listener of the admin server: a TCP port or a Unix socket. A socket that a killed process
//! has left is replaced, but never a file of another kind. Start reading at [`Listener::bind`].

use std::{
    net::{IpAddr, SocketAddr},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::connections::Client;
use crate::{config::ListenAddress, files::OwnedDirectory};

/// The permissions of the Unix socket: the user and the group of the service.
const SOCKET_MODE: u32 = 0o660;

/// A bound listener.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    /// With the path of the socket.
    Unix(UnixListener, PathBuf),
}

/// A connection, before anything was read from it.
#[derive(Debug)]
pub(super) enum AcceptedStream {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    /// Binds the address. Fails if the port is in use, or if the socket cannot be created or could
    /// be replaced by all users.
    pub(super) async fn bind(address: &ListenAddress) -> std::io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            ListenAddress::Unix(path) => {
                let (directory, name) = OwnedDirectory::open_for_socket(path)?;
                if is_stale(path) {
                    directory.remove_if_exists(name)?;
                }
                let listener = directory.bind_socket(name, SOCKET_MODE)?;
                Ok(Self::Unix(UnixListener::from_std(listener)?, path.clone()))
            }
        }
    }

    /// The bound address. Its port is the selected one if the configured port is 0.
    pub(super) fn address(&self) -> Option<ListenAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(ListenAddress::Tcp),
            // The kernel knows only the path with which the socket was bound.
            Self::Unix(_, path) => Some(ListenAddress::Unix(path.clone())),
        }
    }

    /// Waits for the next connection.
    pub(super) async fn accept(&self) -> std::io::Result<AcceptedStream> {
        match self {
            Self::Tcp(listener) => {
                listener.accept().await.map(|(stream, peer)| AcceptedStream::Tcp(stream, peer))
            }
            Self::Unix(listener, _) => {
                listener.accept().await.map(|(stream, _)| AcceptedStream::Unix(stream))
            }
        }
    }
}

impl AcceptedStream {
    /// The other end of the connection.
    pub(super) fn client(&self) -> Client {
        match self {
            Self::Tcp(_, peer) => Client::Address(network_of(peer.ip())),
            Self::Unix(_) => Client::Local,
        }
    }
}

/// Whether the path is a socket on which no process listens.
fn is_stale(path: &Path) -> bool {
    let is_socket = fs_err::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    is_socket && std::os::unix::net::UnixStream::connect(path).is_err()
}

/// The address by which the connections of a client are counted. A host usually has all addresses
/// of an IPv6 network of 64 bits (RFC 4291, section 2.5.4).
fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_none() => {
            IpAddr::from((u128::from(address) >> 64 << 64).to_be_bytes())
        }
        other => other.to_canonical(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_counted_by_network() {
        for (address, network) in [
            ("10.1.2.3", "10.1.2.3"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::7", "2001:db8:1:2::"),
            ("::1", "::"),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(network_of(address), network.parse::<IpAddr>().unwrap(), "{address}");
        }
    }

    #[tokio::test]
    async fn only_stale_sockets_are_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let address = |name: &str| ListenAddress::Unix(directory.path().join(name));
        std::fs::write(directory.path().join("file"), "unchanged").unwrap();

        drop(Listener::bind(&address("socket")).await.unwrap());
        let bound = Listener::bind(&address("socket")).await.unwrap();
        assert_eq!(bound.address(), Some(address("socket")));
        assert!(Listener::bind(&address("socket")).await.is_err());
        assert!(Listener::bind(&address("file")).await.is_err());
        assert_eq!(std::fs::read(directory.path().join("file")).unwrap(), b"unchanged");
    }
}
