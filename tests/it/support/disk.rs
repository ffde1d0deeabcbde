//! A model of a disk that loses power. It repeats the system calls of a run, which strace has
//! recorded, and keeps apart what was synchronized and what was not. After a power loss, everything
//! that was synchronized is on the disk, and an arbitrary part of the rest. A run that is modeled
//! must not change a file in any other way than [`CALLS`]. Start reading at
//! [`Disk::after_power_loss`].

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use fastrand::Rng;

/// The system calls that strace must record, with `-f -ttt -y -xx` and a sufficient `-s`.
pub const CALLS: &str = "openat,open,creat,write,writev,pwrite64,pwritev,pwritev2,sendfile,\
copy_file_range,lseek,ftruncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,\
unlink,unlinkat,mkdir,mkdirat,link,linkat";

/// Calls that change a file, and which the model does not know.
const UNKNOWN: &[&str] =
    &["writev", "pwritev", "pwritev2", "sendfile", "copy_file_range", "fallocate"];

/// A system call that changes or synchronizes a file or a directory.
#[derive(Clone, Debug)]
pub struct Step {
    /// When the call began, in seconds since 1970.
    pub time: f64,
    /// The path of the file or the directory, relative to the directory of the model; empty for
    /// that directory itself.
    path: String,
    effect: Effect,
}

#[derive(Clone, Debug)]
enum Effect {
    /// Creates the file unless it exists.
    Create,
    CreateDirectory,
    Remove,
    /// The new path, in the same directory.
    Rename(String),
    Change(Change),
    Synchronize,
}

/// A change of the content of a file.
#[derive(Clone, Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    SetLength(usize),
}

impl Step {
    pub fn is_synchronization(&self) -> bool {
        matches!(self.effect, Effect::Synchronize)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match &self.effect {
            Effect::Create => "create",
            Effect::CreateDirectory => "create the directory",
            Effect::Remove => "remove",
            Effect::Rename(_) => "rename",
            Effect::Change(_) => "change",
            Effect::Synchronize => "synchronize",
        };
        write!(f, "{effect} `{}`", self.path)
    }
}

/// Which part of what was not synchronized is on the disk after a power loss.
#[derive(Clone, Copy, Debug)]
pub enum Survivors {
    Nothing,
    /// The changes up to one of them.
    Earliest,
    /// Any of the changes: they were reordered.
    Some,
    /// Any of the blocks of this size: writes were torn.
    Blocks(usize),
}

impl Survivors {
    pub const ALL: [Self; 5] =
        [Self::Nothing, Self::Earliest, Self::Some, Self::Blocks(512), Self::Blocks(4_096)];
}

type Entries = BTreeMap<String, usize>;

/// A change of the entries of a directory.
#[derive(Clone, Debug)]
enum EntryChange {
    Add(String, usize),
    Remove(String),
    Rename(String, String),
}

enum Node {
    File { durable: Vec<u8>, unsynchronized: Vec<Change> },
    Directory { durable: Entries, current: Entries, unsynchronized: Vec<EntryChange> },
}

/// A directory and everything in it.
pub struct Disk {
    /// The first one is the directory itself.
    nodes: Vec<Node>,
}

/// The content of each file by its relative path; `None` for a directory, which is before its
/// files.
pub type Survived = BTreeMap<String, Option<Vec<u8>>>;

impl Disk {
    /// An empty directory after these steps.
    pub fn after(steps: &[Step]) -> Self {
        let mut disk = Self { nodes: vec![directory()] };
        for step in steps {
            disk.apply(step);
        }
        disk
    }

    /// What is on the disk after a power loss. The entries of a directory are lost in the reverse
    /// order of their changes, as by every journaling file system.
    pub fn after_power_loss(&self, survivors: Survivors, random: &mut Rng) -> Survived {
        let mut survived = Survived::new();
        self.collect(0, "", survivors, random, &mut survived);
        survived
    }

    fn collect(
        &self,
        node: usize,
        path: &str,
        survivors: Survivors,
        random: &mut Rng,
        survived: &mut Survived,
    ) {
        match &self.nodes[node] {
            Node::File { durable, unsynchronized } => {
                let kept = surviving(unsynchronized, survivors, random);
                let mut content = durable.clone();
                kept.iter().for_each(|change| change.apply(&mut content));
                survived.insert(path.to_owned(), Some(content));
            }
            Node::Directory { durable, unsynchronized, .. } => {
                let kept = match survivors {
                    Survivors::Nothing => 0,
                    _ => random.usize(..=unsynchronized.len()),
                };
                let mut entries = durable.clone();
                unsynchronized[..kept].iter().for_each(|change| change.apply(&mut entries));

                if !path.is_empty() {
                    survived.insert(path.to_owned(), None);
                }
                for (name, child) in entries {
                    let path = if path.is_empty() { name } else { format!("{path}/{name}") };
                    self.collect(child, &path, survivors, random, survived);
                }
            }
        }
    }

    fn apply(&mut self, step: &Step) {
        match &step.effect {
            Effect::Create => self.add(&step.path, file),
            Effect::CreateDirectory => self.add(&step.path, directory),
            Effect::Remove => {
                self.change_entry(&step.path, |name| EntryChange::Remove(name.to_owned()));
            }
            Effect::Rename(to) => {
                let new = split(to).1.to_owned();
                assert_eq!(split(&step.path).0, split(to).0, "a file is renamed in its directory");
                self.change_entry(&step.path, |name| EntryChange::Rename(name.to_owned(), new));
            }
            Effect::Change(change) => {
                // A file that was removed while it was open has no path.
                let Some(node) = self.find(&step.path) else { return };
                if let Node::File { unsynchronized, .. } = &mut self.nodes[node] {
                    unsynchronized.push(change.clone());
                }
            }
            Effect::Synchronize => self.synchronize(&step.path),
        }
    }

    fn synchronize(&mut self, path: &str) {
        let Some(node) = self.find(path) else { return };
        match &mut self.nodes[node] {
            Node::File { durable, unsynchronized } => {
                unsynchronized.drain(..).for_each(|change| change.apply(durable));
            }
            Node::Directory { durable, unsynchronized, .. } => {
                unsynchronized.drain(..).for_each(|change| change.apply(durable));
            }
        }
    }

    /// Adds a node at a path, unless there is one.
    fn add(&mut self, path: &str, node: impl FnOnce() -> Node) {
        if self.find(path).is_some() {
            return;
        }
        self.nodes.push(node());
        let index = self.nodes.len() - 1;
        self.change_entry(path, |name| EntryChange::Add(name.to_owned(), index));
    }

    /// Changes the entry of a path in its directory.
    fn change_entry(&mut self, path: &str, change: impl FnOnce(&str) -> EntryChange) {
        let (parent, name) = split(path);
        let Some(parent) = self.find(parent) else { return };
        let Node::Directory { current, unsynchronized, .. } = &mut self.nodes[parent] else {
            panic!("the parent of `{path}` is a file");
        };
        let change = change(name);
        change.apply(current);
        unsynchronized.push(change);
    }

    /// The node that a running process finds at a path.
    fn find(&self, path: &str) -> Option<usize> {
        let mut node = 0;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let Node::Directory { current, .. } = &self.nodes[node] else { return None };
            node = *current.get(name)?;
        }
        Some(node)
    }
}

fn file() -> Node {
    Node::File { durable: Vec::new(), unsynchronized: Vec::new() }
}

fn directory() -> Node {
    Node::Directory { durable: Entries::new(), current: Entries::new(), unsynchronized: Vec::new() }
}

/// The directory and the name of a path.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl EntryChange {
    fn apply(&self, entries: &mut Entries) {
        match self {
            Self::Add(name, node) => {
                entries.insert(name.clone(), *node);
            }
            Self::Remove(name) => {
                entries.remove(name);
            }
            Self::Rename(from, to) => {
                if let Some(node) = entries.remove(from) {
                    entries.insert(to.clone(), node);
                }
            }
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::SetLength(length) => content.resize(*length, 0),
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*at..end].copy_from_slice(bytes);
            }
        }
    }

    /// The parts of a write that are in different blocks of the disk.
    fn blocks(&self, size: usize) -> Vec<Self> {
        let Self::Write { at, bytes } = self else { return vec![self.clone()] };
        let mut parts = Vec::new();
        let mut done = 0;
        while done < bytes.len() {
            let start = at + done;
            let length = (size - start % size).min(bytes.len() - done);
            parts.push(Self::Write { at: start, bytes: bytes[done..done + length].to_vec() });
            done += length;
        }
        parts
    }
}

/// The changes of a file that are on the disk after a power loss.
fn surviving(changes: &[Change], survivors: Survivors, random: &mut Rng) -> Vec<Change> {
    match survivors {
        Survivors::Nothing => Vec::new(),
        Survivors::Earliest => changes[..random.usize(..=changes.len())].to_vec(),
        Survivors::Some => changes.iter().filter(|_| random.bool()).cloned().collect(),
        Survivors::Blocks(size) => {
            let blocks = changes.iter().flat_map(|change| change.blocks(size));
            blocks.filter(|_| random.bool()).collect()
        }
    }
}

/// The steps below a directory in the output of strace. Panics if the run has changed a file in a
/// way that the model does not know.
pub fn read_steps(trace: &str, directory: &str) -> Vec<Step> {
    let mut reader = TraceReader { directory, offsets: HashMap::new() };
    let mut interrupted: HashMap<&str, (&str, &str)> = HashMap::new();
    let mut steps = Vec::new();

    for line in trace.lines() {
        let (process, rest) = line.split_once(' ').unwrap();
        let (time, call) = rest.trim_start().split_once(' ').unwrap();
        if let Some(begun) = call.strip_suffix("<unfinished ...>") {
            interrupted.insert(process, (time, begun.trim_end()));
            continue;
        }

        let (begun_at, whole) = match call.strip_prefix("<... ") {
            None => (time, call.to_owned()),
            Some(resumed) => {
                let (_, end) = resumed.split_once(" resumed>").unwrap();
                let (begun_at, begun) = interrupted.remove(process).unwrap();
                (begun_at, format!("{begun}{end}"))
            }
        };
        let found = reader.read(&whole);
        let time = begun_at.parse().unwrap();
        steps.extend(found.into_iter().map(|(path, effect)| Step { time, path, effect }));
    }
    steps
}

struct TraceReader<'a> {
    directory: &'a str,
    /// The offset of each open descriptor, for writes without one.
    offsets: HashMap<usize, usize>,
}

impl TraceReader<'_> {
    /// What a successful call does to a path of the directory.
    fn read(&mut self, line: &str) -> Vec<(String, Effect)> {
        // Lines about signals and the ends of processes have no result.
        let Some((call, result)) = line.rsplit_once(" = ") else { return Vec::new() };
        let Some(result) = leading_number(result) else { return Vec::new() };
        let (name, arguments) = call.trim_end().split_once('(').unwrap();
        let arguments: Vec<&str> =
            arguments.strip_suffix(')').unwrap_or(arguments).split(", ").collect();

        match name {
            "openat" | "open" | "creat" => self.opened(name, &arguments, result),
            "mkdir" | "mkdirat" | "unlink" | "unlinkat" => {
                let effect = if name.starts_with("mkdir") {
                    Effect::CreateDirectory
                } else {
                    Effect::Remove
                };
                let path = if name.ends_with("at") { at(&arguments) } else { text(arguments[0]) };
                self.relative(&path).map(|path| (path, effect)).into_iter().collect()
            }
            "rename" | "renameat" | "renameat2" => {
                let (from, to) = match name {
                    "rename" => (text(arguments[0]), text(arguments[1])),
                    _ => (at(&arguments), at(&arguments[2..])),
                };
                let paths = self.relative(&from).zip(self.relative(&to));
                paths.map(|(from, to)| (from, Effect::Rename(to))).into_iter().collect()
            }
            "link" | "linkat" => {
                let to = if name == "link" { text(arguments[1]) } else { at(&arguments[2..]) };
                assert!(self.relative(&to).is_none(), "not modeled: {name} {to}");
                Vec::new()
            }
            _ => self.used(name, &arguments, result),
        }
    }

    fn opened(
        &mut self,
        name: &str,
        arguments: &[&str],
        descriptor: usize,
    ) -> Vec<(String, Effect)> {
        self.offsets.insert(descriptor, 0);
        let path = if name == "openat" { at(arguments) } else { text(arguments[0]) };
        let flags = arguments.join(" ");
        let Some(path) = self.relative(&path) else { return Vec::new() };

        let mut effects = Vec::new();
        if name == "creat" || flags.contains("O_CREAT") {
            effects.push((path.clone(), Effect::Create));
        }
        if name == "creat" || flags.contains("O_TRUNC") {
            effects.push((path, Effect::Change(Change::SetLength(0))));
        }
        effects
    }

    /// What a call with a descriptor does to its file.
    fn used(&mut self, name: &str, arguments: &[&str], result: usize) -> Vec<(String, Effect)> {
        let descriptor = leading_number(arguments[0]).unwrap_or_default();
        if name == "lseek" {
            self.offsets.insert(descriptor, result);
            return Vec::new();
        }
        let is_removed = arguments[0].contains("(deleted)");
        let Some(path) = self.relative(&described(arguments[0])).filter(|_| !is_removed) else {
            return Vec::new();
        };
        assert!(!UNKNOWN.contains(&name), "not modeled: {name} {path}");

        let effect = match name {
            "fsync" | "fdatasync" => Effect::Synchronize,
            "ftruncate" => Effect::Change(Change::SetLength(arguments[1].parse().unwrap())),
            "pwrite64" => {
                let at = arguments[3].parse().unwrap();
                Effect::Change(Change::Write { at, bytes: bytes(arguments[1]) })
            }
            "write" => {
                let offset = self.offsets.entry(descriptor).or_default();
                let at = *offset;
                *offset += result;
                Effect::Change(Change::Write { at, bytes: bytes(arguments[1]) })
            }
            _ => panic!("not modeled: {name} {path}"),
        };
        vec![(path, effect)]
    }

    /// The path relative to the directory; `None` for other paths.
    fn relative(&self, path: &str) -> Option<String> {
        let rest = path.strip_prefix(self.directory)?;
        if rest.is_empty() {
            return Some(String::new());
        }
        rest.strip_prefix('/').map(str::to_owned)
    }
}

/// The number at the beginning of a text; `None` if there is none or it is negative.
fn leading_number(text: &str) -> Option<usize> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

/// The bytes of an argument, each of which strace prints as `\x` and two digits.
fn bytes(argument: &str) -> Vec<u8> {
    assert!(!argument.ends_with("..."), "strace has shortened an argument");
    let digits = argument.trim_matches('"').split("\\x").skip(1);
    digits.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn text(argument: &str) -> String {
    String::from_utf8_lossy(&bytes(argument)).into_owned()
}

/// The path that strace prints in angle brackets after a descriptor.
fn described(argument: &str) -> String {
    let path = argument.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    path.map_or_else(String::new, |(path, _)| text(path))
}

/// The path of the first two arguments, a directory and a path relative to it.
fn at(arguments: &[&str]) -> String {
    let path = text(arguments[1]);
    if path.starts_with('/') { path } else { format!("{}/{path}", described(arguments[0])) }
}
