//! A server that speaks enough of Kafka's protocol for a producer, but supports no transactions. It
//! is a server of one node, whose topics all exist and have one partition. Source:
//! kafka.apache.org/protocol.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
};

/// How the server rejects transactions.
#[derive(Clone, Copy)]
pub enum OldBroker {
    /// It lists none of the calls of the transaction protocol.
    WithoutCalls,
    /// It lists them, but names no coordinator, like Azure Event Hubs in its Standard tier.
    WithoutCoordinator,
}

/// The calls of a producer, each with its API key and the versions that the server supports.
const CALLS: &[(i16, i16, i16)] = &[
    (PRODUCE, 0, 7),
    (1, 0, 4),
    (LIST_OFFSETS, 1, 1),
    (METADATA, 1, 1),
    (FIND_COORDINATOR, 1, 1),
    (17, 0, 1),
    (API_VERSIONS, 0, 0),
    (CREATE_TOPICS, 4, 4),
    (INIT_PRODUCER_ID, 0, 1),
    (DESCRIBE_CONFIGS, 0, 1),
];
const TRANSACTION_CALLS: &[(i16, i16, i16)] = &[(24, 0, 0), (25, 0, 0), (26, 0, 1), (28, 0, 2)];

const PRODUCE: i16 = 0;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const FIND_COORDINATOR: i16 = 10;
const API_VERSIONS: i16 = 18;
const CREATE_TOPICS: i16 = 19;
const INIT_PRODUCER_ID: i16 = 22;
const DESCRIBE_CONFIGS: i16 = 32;

const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;
/// The message with which Event Hubs refuses to name a coordinator.
pub const REFUSAL: &str = "type code 1 is only supported in Premium or Dedicated sku.";

/// A message in the encoding of the protocol.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn i8(mut self, value: i8) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn i16(mut self, value: i16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn i32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn i64(mut self, value: i64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }
    fn text(mut self, value: &str) -> Self {
        self = self.i16(value.len() as i16);
        self.0.extend(value.as_bytes());
        self
    }
}

/// Reads the fields of a request in order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (value, rest) = self.0.split_at(N);
        self.0 = rest;
        value.try_into().unwrap()
    }
    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take())
    }
    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take())
    }
    /// A text, or an empty one if it is absent.
    fn text(&mut self) -> String {
        let length = self.i16().max(0) as usize;
        let (value, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8(value.to_vec()).unwrap()
    }
}

impl OldBroker {
    /// Starts the server. Returns its address. It runs until the tests end.
    pub fn start(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || self.serve(stream, port.into()));
            }
        });
        format!("127.0.0.1:{port}")
    }

    fn serve(self, mut stream: TcpStream, port: i32) {
        loop {
            let mut length = [0; 4];
            if stream.read_exact(&mut length).is_err() {
                return;
            }
            let mut request = vec![0; i32::from_be_bytes(length) as usize];
            if stream.read_exact(&mut request).is_err() {
                return;
            }

            let mut fields = Fields(&request);
            let (key, version, id) = (fields.i16(), fields.i16(), fields.i32());
            fields.text();
            let Some(Message(body)) = self.response(key, version, &mut fields, port) else {
                continue;
            };
            let Message(mut response) = Message::default().i32(body.len() as i32 + 4).i32(id);
            response.extend(body);
            if stream.write_all(&response).is_err() {
                return;
            }
        }
    }

    /// The response to a request; `None` to all that no test expects.
    fn response(
        self,
        key: i16,
        version: i16,
        request: &mut Fields<'_>,
        port: i32,
    ) -> Option<Message> {
        let response = Message::default();

        Some(match key {
            API_VERSIONS => self.api_versions(version),
            METADATA => metadata(request, port),
            // The throttling time, and a list without results.
            DESCRIBE_CONFIGS => response.i32(0).i32(0),
            INIT_PRODUCER_ID => response.i32(0).i16(0).i64(4_711).i16(0),
            FIND_COORDINATOR => match self {
                Self::WithoutCalls => {
                    response.i32(0).i16(0).i16(-1).i32(1).text("127.0.0.1").i32(port)
                }
                Self::WithoutCoordinator => {
                    response.i32(0).i16(INVALID_REQUEST).text(REFUSAL).i32(-1).text("").i32(-1)
                }
            },
            CREATE_TOPICS => {
                request.i32();
                response.i32(0).i32(1).text(&request.text()).i16(0).i16(-1)
            }
            LIST_OFFSETS => {
                // The replica, and the number of topics.
                request.i32();
                request.i32();
                let topic = request.text();
                response.i32(1).text(&topic).i32(1).i32(0).i16(0).i64(-1).i64(0)
            }
            _ => return None,
        })
    }

    fn api_versions(self, version: i16) -> Message {
        let calls: Vec<_> = match self {
            Self::WithoutCalls => CALLS.to_vec(),
            Self::WithoutCoordinator => [CALLS, TRANSACTION_CALLS].concat(),
        };
        // A newer request is answered in version 0, and then repeated in that version.
        let error = if version > 0 { UNSUPPORTED_VERSION } else { 0 };
        let response = Message::default().i16(error).i32(calls.len() as i32);
        calls
            .into_iter()
            .fold(response, |response, (key, first, last)| response.i16(key).i16(first).i16(last))
    }
}

/// The metadata of this node, and of the requested topics.
fn metadata(request: &mut Fields<'_>, port: i32) -> Message {
    let topics: Vec<String> = (0..request.i32().max(0)).map(|_| request.text()).collect();
    // One broker without a rack, which is also the controller.
    let response = Message::default().i32(1).i32(1).text("127.0.0.1").i32(port).i16(-1).i32(1);
    topics.iter().fold(response.i32(topics.len() as i32), |response, topic| {
        let response = response.i16(0).text(topic).i8(0).i32(1);
        // Partition 0, whose leader and only replica is this node.
        response.i16(0).i32(0).i32(1).i32(1).i32(1).i32(1).i32(1)
    })
}
