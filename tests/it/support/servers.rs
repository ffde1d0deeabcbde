//! Third-party servers that are started for the tests and stop when the tests end.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use super::{cache, eventually, free_port, is_listening, write};

/// A server process. It is killed when this value is dropped and when the tests end, even if they
/// crash: a shell kills it when the shell's standard input is closed.
pub struct Server {
    child: Child,
    pub port: u16,
}

impl Server {
    pub fn start(port: u16, log: &Path, command: &str) -> Self {
        let output = std::fs::File::create(log).unwrap();
        let script = format!(
            "exec 3<&0; {command} </dev/null 3<&- & server=$!; \
             (cat <&3 >/dev/null; kill -9 $server) & watch=$!; wait $server; kill $watch"
        );

        let child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();

        let mut server = Self { child, port };
        eventually(&format!("the server listens: {command}"), || {
            let ended = server.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "{command}: {ended:?}, {}",
                std::fs::read_to_string(log).unwrap()
            );
            is_listening(port)
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn scratch() -> std::path::PathBuf {
    static SCRATCH: OnceLock<tempfile::TempDir> = OnceLock::new();
    SCRATCH.get_or_init(|| tempfile::tempdir().unwrap()).path().to_owned()
}

/// The S3 API of moto, shared by all tests.
pub fn s3() -> &'static Server {
    static S3: OnceLock<Server> = OnceLock::new();
    S3.get_or_init(|| {
        let program = cache("PYTHON_READERS", "python").join("bin/moto_server");
        let port = free_port();
        let command = format!("{} -H 127.0.0.1 -p {port}", program.display());
        Server::start(port, &scratch().join("s3.log"), &command)
    })
}

/// The Azure Blob Storage API of Azurite, shared by all tests.
pub fn azure() -> &'static Server {
    static AZURE: OnceLock<Server> = OnceLock::new();
    AZURE.get_or_init(|| {
        let program = cache("AZURITE", "azurite").join("node_modules/.bin/azurite-blob");
        let port = free_port();
        let command = format!(
            "{} --blobHost 127.0.0.1 --blobPort {port} --inMemoryPersistence --silent --disableTelemetry",
            program.display()
        );
        Server::start(port, &scratch().join("azure.log"), &command)
    })
}

/// A name with this prefix that no other test uses.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{prefix}-{}", NEXT.fetch_add(1, SeqCst))
}

/// An OpenTelemetry Collector with an HEC receiver and an exporter that writes to a file.
pub struct Collector {
    directory: tempfile::TempDir,
    pub server: Server,
}

impl Collector {
    pub fn new(acknowledgement: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (d, port) = (directory.path().display().to_string(), free_port());
        let ack = if acknowledgement { "\n    ack: { extension: ack }" } else { "" };
        write(
            directory.path().join("collector.yaml"),
            &format!(
                "extensions:\n  ack: {{}}\nreceivers:\n  splunk_hec:\n    endpoint: 127.0.0.1:{port}{ack}\n\
                 exporters:\n  file: {{ path: {d}/out.jsonl, flush_interval: 50ms }}\n\
                 service:\n  extensions: [ack]\n  telemetry: {{ metrics: {{ level: none }} }}\n  pipelines:\n    logs: {{ receivers: [splunk_hec], exporters: [file] }}\n"
            ),
        );

        let program = cache("GO_SERVERS", "servers").join("servers");
        let command = format!("{} --config {d}/collector.yaml", program.display());
        let server = Server::start(port, &directory.path().join("log"), &command);
        Self { directory, server }
    }

    /// The attribute `event_id` of every accepted event, in order.
    pub fn ids(&self) -> Vec<String> {
        let text =
            std::fs::read_to_string(self.directory.path().join("out.jsonl")).unwrap_or_default();
        // The last line may be incomplete.
        let complete = text.rfind('\n').map_or("", |at| &text[..at]);

        let mut ids = Vec::new();
        for line in complete.lines() {
            let batch: serde_json::Value = serde_json::from_str(line).unwrap();
            let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
            for scope in list(&batch["resourceLogs"]).iter().flat_map(|r| list(&r["scopeLogs"])) {
                for log in list(&scope["logRecords"]) {
                    let attributes = list(&log["attributes"]);
                    let id = attributes.iter().find(|a| a["key"] == "event_id").unwrap();
                    ids.push(id["value"]["stringValue"].as_str().unwrap().to_owned());
                }
            }
        }
        ids
    }
}

/// An OpenSearch node that all tests share; each test uses different indices.
pub struct OpenSearch {
    _server: Server,
    pub url: String,
}

impl OpenSearch {
    pub fn shared() -> &'static Self {
        static NODE: OnceLock<OpenSearch> = OnceLock::new();
        NODE.get_or_init(|| {
            let jars = cache("OPENSEARCH_JARS", "opensearch");
            let (port, transport_port) = (free_port(), free_port());
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/opensearch/Server.java");
            let home = scratch().join("opensearch");
            let command = format!(
                "java -Xmx512m -cp '{}/*' {source} {} {port} {transport_port}",
                jars.display(),
                home.display()
            );
            let server = Server::start(port, &scratch().join("opensearch.log"), &command);
            Self { _server: server, url: format!("http://127.0.0.1:{port}") }
        })
    }

    /// The response after a refresh, which makes every stored document searchable.
    pub fn fresh(&self, path: &str) -> serde_json::Value {
        self.get("/_refresh");
        self.get(path)
    }

    pub fn get(&self, path: &str) -> serde_json::Value {
        let url = format!("{}{path}", self.url);
        super::runtime().block_on(async {
            let text = reqwest::get(url).await.unwrap().text().await.unwrap();
            serde_json::from_str(&text).unwrap()
        })
    }

    pub fn put(&self, path: &str, body: String) -> (u16, String) {
        self.send(reqwest::Method::PUT, path, body)
    }

    pub fn post(&self, path: &str, body: String) -> (u16, String) {
        self.send(reqwest::Method::POST, path, body)
    }

    /// Returns the status and the body of the response.
    fn send(&self, method: reqwest::Method, path: &str, body: String) -> (u16, String) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.request(method, format!("{}{path}", self.url));
        super::runtime().block_on(async {
            let request = request.header("content-type", "application/json").body(body);
            let response = request.send().await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        })
    }
}
