//! The size of a TCP send queue: the bytes that the peer's kernel has not acknowledged yet. The
//! module has `unsafe` code, because no crate wraps the request to the kernel. It only reads a
//! counter and never changes the socket. See decision 0024.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::ioctl::{Getter, ioctl};

/// `SIOCOUTQ` of `linux/sockios.h`: the bytes in the send queue, sent or not (see `tcp(7)`).
const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;

/// The send queue of a TCP socket. It has its own file descriptor, so that the socket can be owned
/// by a TLS stream.
#[derive(Debug)]
pub(super) struct SendQueue(OwnedFd);

impl SendQueue {
    /// The send queue of a socket. Fails if the process has too many open files.
    pub(super) fn of(socket: &impl AsFd) -> io::Result<Self> {
        socket.as_fd().try_clone_to_owned().map(Self)
    }

    /// The bytes that the peer's kernel has not acknowledged. Fails if the kernel does not support
    /// the request for this socket.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        #[expect(unsafe_code, reason = "no safe wrapper exists")]
        // SAFETY: SIOCOUTQ writes one int to its argument, which `Getter` provides.
        let queued = unsafe { ioctl(&self.0, Getter::<SIOCOUTQ, std::ffi::c_int>::new())? };
        Ok(u64::try_from(queued).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn counts_bytes_that_the_peer_does_not_read() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let queue = SendQueue::of(&stream).unwrap();
        assert_eq!(queue.bytes().unwrap(), 0);

        stream.set_nonblocking(true).unwrap();
        let chunk = vec![0; 1 << 16];
        while stream.write_all(&chunk).is_ok() {}
        assert!(queue.bytes().unwrap() > 0);
    }
}
