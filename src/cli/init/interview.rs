//! The course of the interview: answers are given, checked one by one, and changed until they are
//! confirmed. The result is the content of the files. Nothing here performs I/O. Start reading at
//! [`Interview::next_question`].

use std::{fmt::Write as _, path::PathBuf};

use secrecy::SecretString;

use super::{
    facts::{HostFacts, NewDirectory},
    questions::{Answer, Answers, Input, QUESTIONS, Question, QuestionKey},
    text::configuration,
};
use crate::{
    config::{ConfigError, Configuration},
    error::Explanation,
};

/// An interview, with the answers that have been given.
pub(super) struct Interview<'a> {
    facts: &'a HostFacts<'a>,
    answers: Answers,
}

/// What to do after the summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InterviewDecision {
    Write,
    /// An answer was removed, and its question is asked again.
    Change,
    Stop,
}

/// What the interview results in.
#[derive(Debug)]
pub(super) struct Files {
    pub directories: Vec<NewDirectory>,
    /// Each secret with the name of its file.
    pub secrets: Vec<(&'static str, SecretString)>,
    pub configuration: String,
}

/// The question after the summary.
pub(super) const CONFIRMATION: &str = "Press Enter to write the files, enter the number of an answer to change it, or enter no to stop";

impl<'a> Interview<'a> {
    /// An interview without answers. Fails if the arguments of the command result in an invalid
    /// configuration, regardless of the answers.
    pub(super) fn new(facts: &'a HostFacts<'a>) -> Result<Self, ConfigError> {
        let interview = Self { facts, answers: Answers::default() };
        let file = facts.settings.file.display().to_string();
        Configuration::parse(&file, &configuration(&interview.answers, &facts.settings))?;
        Ok(interview)
    }

    /// The next question without an answer; `None` after the last one.
    pub(super) fn next_question(&self) -> Option<&'static Question> {
        self.questions().find(|question| self.answers.get(question.key).is_none())
    }

    /// The text of a question with its default.
    pub(super) fn prompt(&self, question: &Question) -> String {
        let mut prompt = question.prompt.to_owned();
        if let Some(missing) = self.facts.missing_directory(question.key, &self.answers) {
            let _ = write!(prompt, " {}", missing.description());
        }
        let default = question.default(&self.answers).filter(|text| !text.is_empty());
        if let Some(default) = default {
            let _ = write!(prompt, " [{default}]");
        }
        prompt
    }

    /// Whether a question offers to create a directory.
    pub(super) fn offers_directory(&self, question: &Question) -> bool {
        self.facts.missing_directory(question.key, &self.answers).is_some()
    }

    /// Accepts the answer to a question. Fails with the reason why the answer is not valid; the
    /// question then has no answer.
    pub(super) fn answer(&mut self, question: &Question, line: &str) -> Result<(), Explanation> {
        let line = line.trim();
        if line.chars().any(char::is_control) {
            return Err(Explanation::new("the answer contains control characters")
                .with_hint("enter it again without them"));
        }

        let answer = match (line, question.default(&self.answers)) {
            ("", None) => return Err(Explanation::new("this question requires an answer")),
            ("", Some(default)) => Answer::Text(default),
            (line, _) => question.read(line, &self.facts.working_directory),
        };
        if let Answer::Text(text) = &answer {
            (question.check)(text, self.facts)?;
        }

        self.answers.set(question.key, answer);
        let problem = self.problem();
        if problem.is_some() {
            self.answers.remove(question.key);
        }
        problem.map_or(Ok(()), Err)
    }

    /// Uses the file of a secret if it exists. Returns its path.
    pub(super) fn use_existing_secret(&mut self, question: &Question) -> Option<PathBuf> {
        let Input::Secret(name) = question.input else { return None };
        if !self.facts.has_secret(name) {
            return None;
        }
        self.answers.set(question.key, Answer::ExistingSecret);
        Some(self.facts.settings.secrets.directory.join(name))
    }

    /// All answers with their numbers, and the files that will be written.
    pub(super) fn summary(&self) -> String {
        let mut text = "\nThe answers:\n".to_owned();
        for (number, question) in (1..).zip(self.questions()) {
            let answer = match self.answers.get(question.key) {
                Some(Answer::Secret(_)) => "(not shown)",
                Some(Answer::ExistingSecret) => "(in an existing file)",
                Some(Answer::Text(text)) if text.is_empty() => "(none)",
                Some(Answer::Text(text)) => text.as_str(),
                None => "",
            };
            let _ = writeln!(text, "{number:>4}. {}: {answer}", question.label);
        }

        text.push_str("\nThe files and directories that will be created:\n");
        let Files { directories, secrets, .. } = self.files();
        for directory in directories {
            let _ = writeln!(text, "  {}", directory.description());
        }
        let store = &self.facts.settings.secrets.directory;
        for (name, _) in secrets {
            let _ = writeln!(text, "  `{}`", store.join(name).display());
        }
        let _ = write!(text, "  `{}`", self.facts.settings.file.display());
        text
    }

    /// Interprets the answer to [`CONFIRMATION`].
    pub(super) fn decide(&mut self, line: &str) -> Result<InterviewDecision, Explanation> {
        match line.trim().to_ascii_lowercase().as_str() {
            "" | "y" | "yes" => Ok(InterviewDecision::Write),
            "n" | "no" => Ok(InterviewDecision::Stop),
            text => {
                let index = text.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
                let question = index.and_then(|index| self.questions().nth(index));
                let Some(question) = question else {
                    let count = self.questions().count();
                    return Err(Explanation::new("this is not the number of an answer")
                        .with_hint(format!("enter a number from 1 to {count}, yes or no")));
                };
                self.answers.remove(question.key);
                Ok(InterviewDecision::Change)
            }
        }
    }

    /// The content of all files.
    pub(super) fn files(&self) -> Files {
        let confirmed = |key: QuestionKey| self.answers.text(key) == "yes";
        let missing = self.questions().filter(|question| confirmed(question.key));
        let directories = missing
            .filter_map(|question| self.facts.missing_directory(question.key, &self.answers));

        let secrets = self.questions().filter_map(|question| {
            match (question.input, self.answers.get(question.key)) {
                (Input::Secret(name), Some(Answer::Secret(secret))) => Some((name, secret.clone())),
                _ => None,
            }
        });
        Files {
            directories: directories.collect(),
            secrets: secrets.collect(),
            configuration: configuration(&self.answers, &self.facts.settings),
        }
    }

    /// The questions that apply to the answers, in their order.
    fn questions(&self) -> impl Iterator<Item = &'static Question> {
        QUESTIONS.iter().filter(|question| (question.applies)(&self.answers, self.facts))
    }

    /// The first fault of the configuration that the answers result in. All answers but the last
    /// one have been checked, so the fault is that of the last one.
    fn problem(&self) -> Option<Explanation> {
        let text = configuration(&self.answers, &self.facts.settings);
        let ConfigError(faults) = Configuration::parse("", &text).err()?;
        let fault = faults.into_iter().next()?;
        Some(Explanation { message: fault.message, hint: fault.hint })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::cli::init::facts::{ReferenceKind, SecretStore, Settings};

    const ID: &str = "3f5c1d2e-0000-4000-8000-00000000c0de";
    const CLIENT: &str = "11111111-2222-4333-8444-555555555555";

    fn facts() -> HostFacts<'static> {
        HostFacts {
            working_directory: PathBuf::from("/home/anna"),
            settings: Settings {
                file: PathBuf::from("/etc/forwarder/config.toml"),
                state_directory: PathBuf::from("/var/lib/forwarder"),
                listen: "127.0.0.1:9633".to_owned(),
                cloud: "global".to_owned(),
                secrets: SecretStore {
                    directory: PathBuf::from("/etc/forwarder/secrets"),
                    reference: ReferenceKind::Credential,
                },
            },
            existing_secrets: Vec::new(),
            missing_directories: Vec::new(),
            missing_parent: &|_| None,
            examine_certificate: &|path: &Path| match path.to_str() {
                Some("/home/anna/app.pem") => Ok(()),
                _ => Err(Explanation::new("no such file")),
            },
        }
    }

    /// Answers the questions in their order. Returns the number of rejected answers.
    fn give(interview: &mut Interview<'_>, answers: &[&str]) -> usize {
        let mut rejected = 0;
        for answer in answers {
            let question = interview.next_question().expect("a question for each answer");
            rejected += usize::from(interview.answer(question, answer).is_err());
        }
        rejected
    }

    /// Regression: an invalid answer was reported after the last question, and all were lost.
    #[test]
    fn invalid_answers_are_asked_for_again() {
        let facts = facts();
        let mut interview = Interview::new(&facts).unwrap();
        let long = "n".repeat(200);
        for (answer, is_valid) in [
            ("not a tenant", false),
            ("contoso.example", true),
            (long.as_str(), false),
            ("", true),
            ("", false),
            ("my-app", false),
            (CLIENT, true),
            ("nothing.pem", false),
            ("app.pem", true),
            ("nonsense://x", false),
            ("tcp://no-port", false),
            ("udp://siem.example.com:514", true),
            ("xml", false),
            ("json\tx", false),
            ("json", true),
        ] {
            let question = interview.next_question().unwrap();
            let result = interview.answer(question, answer);
            assert_eq!(result.is_ok(), is_valid, "{}: {answer}: {result:?}", question.label);
            let is_asked_again =
                interview.next_question().is_some_and(|next| next.key == question.key);
            assert_eq!(is_asked_again, !is_valid, "{}: {answer}", question.label);
        }
        assert!(interview.next_question().is_none());

        let files = interview.files();
        for expected in [
            "name = \"contoso\"\nid = \"contoso.example\"\n",
            "certificate = \"/home/anna/app.pem\"\n",
            "address = \"udp://siem.example.com:514\"\nformat = \"json\"\nlossy = true\n",
        ] {
            assert!(files.configuration.contains(expected), "{}", files.configuration);
        }
        assert!(files.secrets.is_empty() && files.directories.is_empty());
    }

    #[test]
    fn every_receiver_results_in_a_valid_configuration() {
        #[cfg(feature = "kafka")]
        let user = ["kafka-1:9092, kafka-2:9092", "", "", "forwarder", "", "s3cret"];
        for (receiver, answers, expected) in [
            ("tls://siem.example.com:6514", &[""][..], "format = \"cef\""),
            (
                "https://splunk.example.com:8088",
                &["s3cret"],
                "token = { credential = \"hec-token\" }",
            ),
            ("/var/log/records.jsonl", &[], "path = \"/var/log/records.jsonl\""),
            ("elasticsearch", &["https://elastic.example.com", "", "s3cret"], "api_key = {"),
            ("elasticsearch", &["https://elastic.example.com", "", ""], "index = \"logs-"),
            (
                "sentinel",
                &["https://d.ingest.monitor.azure.com", "dcr-1", ""],
                "credential = \"app\"",
            ),
            #[cfg(feature = "kafka")]
            ("kafka", &user[..], "brokers = [\"kafka-1:9092\", \"kafka-2:9092\"]"),
            #[cfg(feature = "kafka")]
            ("kafka", &["k:9092", "posture", "no", ""], "topic = \"posture\""),
        ] {
            let facts = facts();
            let mut interview = Interview::new(&facts).unwrap();
            assert_eq!(give(&mut interview, &[ID, "main", CLIENT, "", "s3cret", receiver]), 0);
            assert_eq!(give(&mut interview, answers), 0, "{receiver}");
            assert!(interview.next_question().is_none(), "{receiver}");

            let files = interview.files();
            assert!(files.configuration.contains(expected), "{}", files.configuration);
            assert!(!files.configuration.contains("s3cret"), "{}", files.configuration);
            assert!(!interview.summary().contains("s3cret"));
            assert!(files.secrets.iter().all(|(_, secret)| secret.expose_secret() == "s3cret"));
            assert!(Configuration::parse("c.toml", &files.configuration).is_ok());
        }
    }

    #[test]
    fn one_answer_is_changed_and_others_are_kept() {
        let facts = facts();
        let mut interview = Interview::new(&facts).unwrap();
        give(&mut interview, &[ID, "main", CLIENT, "", "s3cret", "tcp://a:1", "json"]);
        let summary = interview.summary();
        for line in ["   2. Name in records: main\n", "   5. Client secret: (not shown)\n"] {
            assert!(summary.contains(line), "{summary}");
        }

        for text in ["0", "8", "x", "-1"] {
            assert!(interview.decide(text).is_err(), "{text}");
        }
        assert_eq!(interview.decide("2"), Ok(InterviewDecision::Change));
        assert_eq!(
            interview.next_question().map(|question| question.key),
            Some(QuestionKey::TenantName)
        );
        assert_eq!(give(&mut interview, &["contoso"]), 0);
        assert!(interview.next_question().is_none());

        // The questions about the other receiver follow.
        assert_eq!(interview.decide("6"), Ok(InterviewDecision::Change));
        assert_eq!(give(&mut interview, &["https://splunk.example.com:8088", "token"]), 0);
        assert!(interview.next_question().is_none());
        let files = interview.files();
        assert!(files.configuration.contains("name = \"contoso\""));
        assert!(!files.configuration.contains("tcp://"));
        assert_eq!(files.secrets.len(), 2);

        assert_eq!(interview.decide(""), Ok(InterviewDecision::Write));
        assert_eq!(interview.decide("NO"), Ok(InterviewDecision::Stop));
    }

    #[test]
    fn missing_directories_are_offered() {
        let directory = |name: &str, group: Option<&str>| NewDirectory {
            path: PathBuf::from(name),
            mode: 0o700,
            owner: None,
            group: group.map(str::to_owned),
        };
        let state = directory("/var/lib/forwarder", Some("forwarder"));
        let secrets = directory("/etc/forwarder/secrets", None);
        let facts = HostFacts {
            missing_directories: vec![
                (QuestionKey::StateDirectory, state.clone()),
                (QuestionKey::SecretsDirectory, secrets.clone()),
            ],
            ..facts()
        };

        for (answers, rejected, created) in [
            (&["app.pem", "/x", ""][..], 0, vec![state.clone()]),
            (&["app.pem", "/x", "no"], 0, vec![]),
            (&["", "s3cret", "/x", "Y", "no", "maybe", "yes"], 2, vec![state, secrets]),
        ] {
            let mut interview = Interview::new(&facts).unwrap();
            give(&mut interview, &[ID, "main", CLIENT]);
            assert_eq!(give(&mut interview, answers), rejected, "{answers:?}");
            assert!(interview.next_question().is_none(), "{answers:?}");
            assert_eq!(interview.files().directories, created, "{answers:?}");
        }

        let mut interview = Interview::new(&facts).unwrap();
        give(&mut interview, &[ID, "main", CLIENT, "app.pem", "/x"]);
        let question = interview.next_question().unwrap();
        assert_eq!(
            interview.prompt(question),
            "Create the state directory `/var/lib/forwarder` (mode 700, group `forwarder`) [yes]"
        );
    }

    /// Regression: the directories of the configuration and of a file receiver were not offered.
    #[test]
    fn directories_of_files_are_offered() {
        let directory = |path: &Path| NewDirectory {
            path: path.to_owned(),
            mode: 0o750,
            owner: None,
            group: None,
        };
        let configuration = directory(Path::new("/etc/forwarder"));
        let facts = HostFacts {
            missing_directories: vec![(QuestionKey::ConfigurationDirectory, configuration.clone())],
            missing_parent: &|file: &Path| {
                let parent = file.parent().filter(|parent| parent.ends_with("new"));
                parent.map(directory)
            },
            ..facts()
        };
        let logs = directory(Path::new("/logs/new"));

        for (answers, rejected, created) in [
            (&["/logs/new/x", "", ""][..], 0, vec![logs, configuration.clone()]),
            (&["/logs/new/x", "no", "no", "yes"], 1, vec![configuration.clone()]),
            (&["/logs/x", ""], 0, vec![configuration.clone()]),
            (&["tls://siem.example.com:6514", "", ""], 0, vec![configuration]),
        ] {
            let mut interview = Interview::new(&facts).unwrap();
            give(&mut interview, &[ID, "main", CLIENT, "app.pem"]);
            assert_eq!(give(&mut interview, answers), rejected, "{answers:?}");
            assert!(interview.next_question().is_none(), "{answers:?}");
            assert_eq!(interview.files().directories, created, "{answers:?}");
        }
    }

    #[test]
    fn existing_secrets_are_used() {
        let facts = HostFacts { existing_secrets: vec!["graph-secret"], ..facts() };
        let mut interview = Interview::new(&facts).unwrap();
        give(&mut interview, &[ID, "main", CLIENT, ""]);
        let question = interview.next_question().unwrap();
        let file = interview.use_existing_secret(question);
        assert_eq!(file, Some(PathBuf::from("/etc/forwarder/secrets/graph-secret")));
        give(&mut interview, &["/x"]);
        assert!(interview.next_question().is_none());
        assert!(interview.files().secrets.is_empty());
        assert!(interview.files().configuration.contains("{ credential = \"graph-secret\" }"));
    }

    /// Invalid arguments are reported before the first question, not as faults of the answers.
    #[test]
    fn invalid_arguments_are_not_faults_of_answers() {
        let mut facts = facts();
        facts.settings.listen = "nowhere".to_owned();
        assert!(Interview::new(&facts).is_err());
    }
}
