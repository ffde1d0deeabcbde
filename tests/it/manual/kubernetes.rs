//! The manifests and the Helm chart for Kubernetes: they match the schemas of the Kubernetes API
//! and agree with each other, and the documented commands accept them.

use std::{
    collections::BTreeMap,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use secure_score_forwarder::config::Configuration;
use serde_json::Value;

use super::{blocks, commands, read, root};
use crate::support::{CANARY, cache, write};

const PAGE: &str = "docs/how-to/kubernetes.md";
const CHART: &str = "deploy/helm/secure-score-forwarder";

/// The lowest version of Kubernetes that the chart supports.
const LOWEST_VERSION: &str = "1.29.0";

/// The values that together use every option of the chart.
const VALUES: &[&str] = &[
    "deploy/helm/secure-score-forwarder/ci/daemon-values.yaml",
    "deploy/helm/secure-score-forwarder/ci/cronjob-values.yaml",
];

/// The image, which has no default.
const DIGEST: &str =
    "image.digest=sha256:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";

/// The members that depend on the name of a release, on the image, and on the sources of volumes.
const NAMES: &[&str] =
    &["metadata", "selector", "podSelector", "image", "imagePullPolicy", "volumes"];

/// The network policy of the manifests, as values of the chart.
const NETWORK_POLICY: &str = r#"networkPolicy={
    "enabled": true,
    "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
    "egress": [{"ports": [{"protocol": "TCP", "port": 8088}]}]
}"#;

/// The manifests that `kubectl apply -k` sends match the schemas of the Kubernetes API, and the
/// documented command creates their secret.
#[test]
fn manifests_fit_the_schemas_of_kubernetes() {
    let directory = tempfile::tempdir().unwrap();
    for workload in ["deployment", "cronjob"] {
        let manifests = kustomized(workload);
        validate(&directory.path().join(format!("{workload}.yaml")), &manifests);
        for hardening in [
            "readOnlyRootFilesystem: true",
            "runAsNonRoot: true",
            "allowPrivilegeEscalation: false",
            "- ALL",
            "automountServiceAccountToken: false",
        ] {
            assert!(manifests.contains(hardening), "{workload}: {hardening}");
        }
    }

    // `kubectl create secret` reads the secrets from files in the working directory.
    for name in ["graph-secret", "hec-token"] {
        write(directory.path().join(name), CANARY);
    }
    for command in commands(&read(PAGE)) {
        if let Some(arguments) = command.strip_prefix("kubectl create secret ") {
            let mut all = vec!["create", "secret"];
            all.extend(arguments.split_whitespace());
            all.extend(["--dry-run=client", "--output=yaml"]);
            let secret = kubectl(&all, directory.path());
            assert!(secret.contains("name: secure-score-forwarder"), "{secret}");
        }
    }
}

/// Regression: the manifests selected the image by a tag, which can refer to another image later.
/// Nothing starts before the operator has set the digest.
#[test]
fn manifests_select_the_image_by_digest() {
    for workload in ["deployment", "cronjob"] {
        let manifests = kustomized(workload);
        let images = manifests.lines().filter_map(|line| line.trim().strip_prefix("image: "));
        let images: Vec<&str> = images.collect();
        let [image] = images.as_slice() else { panic!("{workload}: {images:?}") };

        let (_, digest) = image.split_once("@sha256:").unwrap_or_else(|| panic!("{image}"));
        let is_real = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(!is_real, "{workload}: the digest of an image that does not exist: {image}");
        assert!(digest.contains("replace-this"), "{workload}: {image}");
    }
}

/// Regression: the manifests had no network policy, so that every pod of the cluster reached the
/// status page, and the pod reached every address.
#[test]
fn manifests_deny_other_connections() {
    let receivers = read("deploy/kubernetes/base/config.toml");
    assert!(receivers.contains("splunk.example.com:8088\""), "{receivers}");
    for (workload, metrics) in [("deployment", 1), ("cronjob", 0)] {
        let objects = documents(&kustomized(workload));
        let find = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap();
        let policy = &find("NetworkPolicy")["spec"];
        assert_eq!(policy["policyTypes"], serde_json::json!(["Ingress", "Egress"]));

        let ingress = policy["ingress"].as_array().unwrap();
        assert_eq!(ingress.len(), metrics, "{workload}");
        for rule in ingress {
            assert_eq!(rule["ports"], serde_json::json!([{ "protocol": "TCP", "port": "admin" }]));
            assert!(rule["from"][0]["namespaceSelector"]["matchLabels"].is_object(), "{rule}");
        }
        let egress = policy["egress"].as_array().unwrap();
        let ports = egress.iter().flat_map(|rule| rule["ports"].as_array().unwrap());
        let ports: Vec<u64> = ports.map(|port| port["port"].as_u64().unwrap()).collect();
        assert_eq!(ports, [53, 53, 443, 8088], "{workload}");

        // A policy that selects no pod would permit everything.
        let template = match workload {
            "deployment" => &find("Deployment")["spec"]["template"],
            _ => &find("CronJob")["spec"]["jobTemplate"]["spec"]["template"],
        };
        let labels = template["metadata"]["labels"].as_object().unwrap();
        for (name, value) in policy["podSelector"]["matchLabels"].as_object().unwrap() {
            assert_eq!(labels.get(name), Some(value), "{workload}");
        }
    }
}

#[test]
fn rendered_charts_fit_the_schemas() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("chart.yaml");
    let mut variants =
        vec![vec!["--set", DIGEST], vec!["--set", DIGEST, "--set", "workload=cronjob"]];
    variants.extend(VALUES.iter().map(|values| vec!["--values", *values]));

    for variant in variants {
        let mut lint = vec!["lint", "--strict", CHART, "--kube-version", LOWEST_VERSION];
        lint.extend(&variant);
        succeeded(&helm(&lint));

        let chart = rendered(&variant);
        validate(&file, &chart);
        let objects = documents(&chart);
        for object in &objects {
            assert_ne!(object["kind"], "Secret", "{variant:?}: the chart contains a secret");
        }
        load_configuration(&objects);
    }
}

/// Regression: the chart could not contain `sinks.d` and `tenants.d`, because the keys of a
/// `ConfigMap` cannot contain a slash.
#[test]
fn directories_of_the_configuration_are_mounted() {
    let objects = documents(&rendered(&["--values", VALUES[0]]));
    let mut maps: Vec<&str> = objects
        .iter()
        .filter(|object| object["kind"] == "ConfigMap")
        .map(|object| object["metadata"]["name"].as_str().unwrap())
        .collect();
    maps.sort_unstable();
    assert_eq!(maps, ["collector", "collector-sinks", "collector-tenants"]);

    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    for (volume, directory, map) in [
        ("sinks-d", "/etc/secure-score-forwarder/sinks.d", "collector-sinks"),
        ("tenants-d", "/etc/secure-score-forwarder/tenants.d", "collector-tenants"),
    ] {
        let find = |list: &Value| {
            let found = list.as_array().unwrap().iter().find(|item| item["name"] == volume);
            found.unwrap_or_else(|| panic!("no {volume}")).clone()
        };
        assert_eq!(find(&pod["containers"][0]["volumeMounts"])["mountPath"], directory);
        assert_eq!(find(&pod["volumes"])["configMap"]["name"], map);
    }

    let configuration = load_configuration(&objects);
    let sinks: Vec<&str> = configuration.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(sinks, ["splunk", "archive"]);
    assert_eq!(configuration.tenants.len(), 2);
}

/// Regression: without a digest, the chart selected the image by a tag, which can change.
#[test]
fn the_image_requires_a_digest_or_a_tag() {
    let output = template(&["secure-score-forwarder", CHART]);
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && report.contains("`image.digest` is empty"), "{report}");

    for (values, image) in [
        (DIGEST, "secure-score-forwarder@sha256:0f1e"),
        ("image.tag=1.2", "secure-score-forwarder:1.2"),
    ] {
        let chart = rendered(&["--set", values]);
        assert!(chart.contains(&format!("image: {image}")), "{values}");
    }
}

#[test]
fn options_of_the_chart_add_their_objects() {
    let daemon = documents(&rendered(&["--values", VALUES[0]]));
    let find = |kind: &str| daemon.iter().find(|object| object["kind"] == kind);
    for kind in ["ServiceMonitor", "NetworkPolicy", "PodDisruptionBudget"] {
        assert!(find(kind).is_some(), "no {kind}");
    }

    let pod = &find("Deployment").unwrap()["spec"]["template"]["spec"];
    let image = pod["containers"][0]["image"].as_str().unwrap();
    assert!(image.starts_with("registry.example.com/secure-score-forwarder@sha256:"), "{image}");
    let secrets = pod["volumes"].as_array().unwrap().iter().find(|v| v["name"] == "secrets");
    assert_eq!(secrets.unwrap()["projected"]["sources"].as_array().unwrap().len(), 2);

    // The ServiceMonitor replaces the annotations, so that nothing is scraped twice.
    let annotations = &find("Service").unwrap()["metadata"]["annotations"];
    assert!(annotations.get("prometheus.io/scrape").is_none(), "{annotations}");

    let cronjob = documents(&rendered(&["--values", VALUES[1]]));
    let mut kinds: Vec<_> = cronjob.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["ConfigMap", "CronJob", "NetworkPolicy"]);
}

/// With its default values and a network policy, the chart creates the same objects as the
/// manifests.
#[test]
fn chart_and_manifests_agree() {
    // A run of the CronJob serves no metrics.
    let lines = NETWORK_POLICY.lines().filter(|line| !line.contains("metricsFrom"));
    let without_metrics: String = lines.collect();
    for (workload, policy) in
        [("deployment", NETWORK_POLICY), ("cronjob", without_metrics.as_str())]
    {
        let values = format!("{DIGEST},workload={workload}");
        let chart = by_kind(&rendered(&["--set", &values, "--set-json", policy]));
        let manifests = by_kind(&kustomized(workload));
        assert_eq!(chart, manifests, "{workload}");
    }
}

#[test]
fn every_value_is_documented_and_tested() {
    let schema: Value =
        serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).unwrap();
    let defaults = documents(&read(&format!("{CHART}/values.yaml"))).remove(0);
    let tested: Vec<Value> =
        VALUES.iter().map(|values| documents(&read(values)).remove(0)).collect();

    let described = descriptions(&schema, "");
    assert!(described.len() > 50, "only {} values were found", described.len());
    for (path, description) in described {
        assert!(description.ends_with('.'), "`{path}` has no description");
        if path == "/global" {
            continue;
        }
        assert!(defaults.pointer(&path).is_some(), "values.yaml has no `{path}`");
        let is_tested = tested.iter().any(|values| values.pointer(&path).is_some());
        assert!(is_tested, "no values of `ci` set `{path}`");
    }
}

#[test]
fn values_without_effect_are_rejected() {
    for (values, named) in [
        ("replicas=2", "replicas"),
        ("workload=daemonset", "workload"),
        ("image.digest=latest", "digest"),
        ("workload=cronjob,serviceMonitor.enabled=true", "`serviceMonitor.enabled` requires"),
        ("workload=cronjob,podDisruptionBudget.enabled=true", "`podDisruptionBudget.enabled` req"),
        ("config=tenants", "no `listen` with port 9633"),
        ("sinksD.splunk=x", "'splunk' does not match pattern"),
        ("tenantsD.contoso\\.csv=x", "'contoso.csv' does not match pattern"),
    ] {
        let all = format!("{DIGEST},{values}");
        let output = template(&["secure-score-forwarder", CHART, "--set", &all]);
        let report = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && report.contains(named), "{values}: {report}");
    }
}

#[test]
fn the_documented_helm_command_renders_the_chart() {
    let page = read(PAGE);
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();

    // `blocks` removes the indentation, which is a part of YAML.
    let (_, values) = page.split_once("\n```yaml\n").expect("no values");
    write(file("values.yaml"), values.split("```").next().unwrap());
    write(file("config.toml"), &blocks(&page, "toml")[0]);

    let mut count = 0;
    for command in commands(&page) {
        let Some(arguments) = command.strip_prefix("helm upgrade --install ") else { continue };
        let arguments = arguments
            .replace("values.yaml", &file("values.yaml"))
            .replace("config.toml", &file("config.toml"));
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let chart = succeeded(&template(&arguments));

        validate(&directory.path().join("chart.yaml"), &chart);
        let objects = documents(&chart);
        let has_file = |object: &&Value| object["data"]["config.toml"].is_string();
        let map = objects.iter().find(has_file).unwrap();
        let written = std::fs::read_to_string(file("config.toml")).unwrap();
        assert_eq!(map["data"]["config.toml"].as_str().unwrap().trim(), written.trim());
        assert_eq!(load_configuration(&objects).sinks.len(), 2);
        count += 1;
    }
    assert!(count > 0, "{PAGE} has no command of helm");
}

/// The output of `kubectl kustomize` for a workload.
fn kustomized(workload: &str) -> String {
    let folder = root().join("deploy/kubernetes").join(workload);
    kubectl(&["kustomize", &folder.display().to_string()], root())
}

fn kubectl(arguments: &[&str], directory: &Path) -> String {
    succeeded(&Command::new("kubectl").args(arguments).current_dir(directory).output().unwrap())
}

/// The chart with its default values and these arguments.
fn rendered(arguments: &[&str]) -> String {
    let mut all = vec!["secure-score-forwarder", CHART];
    all.extend(arguments);
    succeeded(&template(&all))
}

/// `helm template` renders what `helm upgrade --install` sends, without a cluster.
fn template(arguments: &[&str]) -> Output {
    let mut all = vec!["template", "--kube-version", LOWEST_VERSION];
    all.extend(arguments);
    helm(&all)
}

/// Runs `helm` in the root of the repository.
fn helm(arguments: &[&str]) -> Output {
    let program = cache("GO_TOOLS", "go-tools").join("helm");
    Command::new(program).args(arguments).current_dir(root()).output().unwrap()
}

fn succeeded(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Validates manifests against the newest schemas. Only the ServiceMonitor, which the Prometheus
/// operator defines, has no schema.
fn validate(file: &Path, manifests: &str) {
    write(file, manifests);
    let program = cache("PYTHON_READERS", "python").join("bin/kubernetes-validate");
    let output = Command::new(program).arg("--strict").arg(file).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && report.contains("passed"), "{report}");

    let is_unknown = |line: &&str| line.contains("find schema") && !line.contains("ServiceMonitor");
    let unknown: Vec<&str> = report.lines().filter(is_unknown).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The documents of a YAML text.
fn documents(yaml: &str) -> Vec<Value> {
    const READ: &str =
        "import json, sys, yaml; json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)";
    let python = cache("PYTHON_READERS", "python").join("bin/python");
    let mut child = Command::new(python)
        .args(["-c", READ])
        .env("PYTHONUTF8", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();

    child.stdin.take().unwrap().write_all(yaml.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The objects by their kind, without what depends on names.
fn by_kind(yaml: &str) -> BTreeMap<String, Value> {
    let objects = documents(yaml).into_iter();
    objects.map(|object| (object["kind"].to_string(), without_names(&object))).collect()
}

fn without_names(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(name, _)| !NAMES.contains(&name.as_str()));
            Value::Object(kept.map(|(name, value)| (name.clone(), without_names(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_names).collect()),
        other => other.clone(),
    }
}

/// Loads the configuration in the ConfigMaps of a chart, with the files of its directories.
fn load_configuration(objects: &[Value]) -> Configuration {
    let root = tempfile::tempdir().unwrap();
    for map in objects.iter().filter(|object| object["kind"] == "ConfigMap") {
        let name = map["metadata"]["name"].as_str().unwrap();
        let directory = match name.rsplit('-').next().unwrap() {
            suffix @ ("sinks" | "tenants") => root.path().join(format!("{suffix}.d")),
            _ => root.path().to_owned(),
        };
        std::fs::create_dir_all(&directory).unwrap();
        for (name, content) in map["data"].as_object().unwrap() {
            write(directory.join(name), content.as_str().unwrap());
        }
    }

    Configuration::load(&root.path().join("config.toml")).unwrap_or_else(|error| panic!("{error}"))
}

/// The descriptions in a JSON Schema, by the JSON pointer of the value.
fn descriptions(schema: &Value, parent: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{parent}/{name}");
        let description = property["description"].as_str().unwrap_or_default();
        found.insert(path.clone(), description.to_owned());
        found.extend(descriptions(property, &path));
    }
    found
}
