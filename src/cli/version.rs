//! What `--version` prints: the version, and how this program was built. `build.rs` determines the
//! commit and the target; the features are those of `Cargo.toml`. The text must never contain the
//! time or the host of the build, because builds are reproducible. Start reading at [`long`].

use std::sync::LazyLock;

/// The optional features, and whether this program has them.
const FEATURES: [(&str, bool); 4] = [
    ("email", cfg!(feature = "email")),
    ("jemalloc", cfg!(feature = "jemalloc")),
    ("kafka", cfg!(feature = "kafka")),
    ("object_store", cfg!(feature = "object_store")),
];

static LONG: LazyLock<String> = LazyLock::new(|| {
    let features = FEATURES.iter().filter(|(_, is_enabled)| *is_enabled);
    let features: Vec<&str> = features.map(|(name, _)| *name).collect();
    format!(
        "{}\ncommit: {}\nfeatures: {}\ntarget: {}",
        env!("CARGO_PKG_VERSION"),
        env!("BUILD_COMMIT"),
        if features.is_empty() { "none".to_owned() } else { features.join(", ") },
        env!("BUILD_TARGET")
    )
});

/// The version, the commit of the sources (`unknown` if they were built outside a repository), the
/// optional features and the target triple, on one line each.
pub(super) fn long() -> &'static str {
    &LONG
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `default` selects features, and `fuzzing` is not for users.
    #[test]
    fn every_feature_of_the_package_is_listed() {
        let manifest: toml::Table = include_str!("../../Cargo.toml").parse().unwrap();
        let names = manifest["features"].as_table().unwrap().keys().map(String::as_str);
        let for_users = names.filter(|name| !["default", "fuzzing"].contains(name));
        assert_eq!(for_users.collect::<Vec<_>>(), FEATURES.map(|(name, _)| name));
    }

    #[test]
    fn each_line_has_a_value() {
        let lines: Vec<&str> = long().lines().collect();
        let [version, commit, features, target] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!(*version, env!("CARGO_PKG_VERSION"));
        for (line, name) in [(commit, "commit: "), (features, "features: "), (target, "target: ")] {
            assert!(line.strip_prefix(name).is_some_and(|value| !value.is_empty()), "{line}");
        }
    }
}
