//! `init`: asks for the tenant, the application and the receiver, writes a configuration, and tests
//! it. Each answer is checked when it is given, and nothing is written before a summary of all
//! answers is confirmed.
//!
//! The questions are written to standard error and the answers are read from standard input, so
//! that a script can supply them. `questions` and `interview` decide what is asked and what the
//! answers result in; they perform no I/O. Start reading at [`init`].

mod facts;
mod interview;
mod questions;
mod receiver;
mod store;
mod terminal;
mod text;

use std::path::Path;

use rustix::fs::{Access, access};

use self::{
    facts::{HostFacts, NewDirectory, ReferenceKind, SecretStore, Settings},
    interview::{CONFIRMATION, Interview, InterviewDecision},
    questions::{Input, QUESTIONS, Question, QuestionKey},
    terminal::{Echo, InputKind, Lines},
    text::SINK,
};
use super::{
    CommandFailure, ExitCode, args, block_on, check, identity::run_process, print,
    print_explanation, print_message, render, service_user::ServiceUser, test_sink,
};
use crate::{
    config::DEFAULT_PATH,
    error::Explanation,
    files,
    model::SinkName,
    source::{Certificate, CertificateChain, Credential, CredentialError, KeyPairError},
};

/// The mode of new directories, and that of a directory that the group of the service can read.
const PRIVATE_MODE: u32 = 0o700;
const SHARED_MODE: u32 = 0o750;

/// What the end of the input means for a question.
#[derive(Clone, Copy)]
enum AtEnd {
    /// The default is the answer.
    Default,
    Fail,
}

/// Runs the command. Returns `Incomplete` if the written configuration failed a test. Fails, before
/// anything is written, if the file exists, or if the input ends before the last question.
pub(super) fn init(config: &Path, args: &args::Init) -> Result<ExitCode, CommandFailure> {
    if config.exists() {
        let explanation = Explanation::new(format!(
            "`{}` already exists and is not overwritten",
            config.display()
        ));
        return Err(usage(explanation.with_hint("pass --config with the path of a new file")));
    }
    let working_directory = std::env::current_dir()?;
    let file = working_directory.join(config);
    let directory = file.parent().unwrap_or(Path::new("/")).to_owned();
    if let Some(existing) = directory.ancestors().find(|path| path.exists())
        && !existing.is_dir()
    {
        return Err(usage(format!("`{}` is not a directory", existing.display())));
    }

    let service = service_user(config, &args.state_directory)?;
    let examine = |certificate: &Path| examine_certificate(certificate, service.as_ref());
    let missing_parent = |file: &Path| missing_parent(file, service.as_ref());
    let settings = settings(config, args, &directory);
    let facts = HostFacts {
        existing_secrets: existing_secrets(&settings.secrets.directory),
        missing_directories: missing_directories(&directory, &settings, service.as_ref()),
        missing_parent: &missing_parent,
        working_directory,
        settings,
        examine_certificate: &examine,
    };

    let mut interview = Interview::new(&facts)?;
    hold(&mut interview)?;
    store::write(&interview.files(), &facts.settings, service.as_ref())?;
    let next_step = if args.offline { "" } else { "; testing it:\n" };
    print_message(&format!("\nwrote `{}`{next_step}", config.display()));
    test(config, args)
}

/// The parts of the configuration that are not asked for. `directory` is the absolute path of the
/// directory in which the configuration is stored.
fn settings(config: &Path, args: &args::Init, directory: &Path) -> Settings {
    let is_service = is_service(config);
    let reference = if is_service { ReferenceKind::Credential } else { ReferenceKind::File };
    Settings {
        file: config.to_owned(),
        state_directory: args.state_directory.clone(),
        listen: args.listen.clone(),
        cloud: args.cloud.clone(),
        secrets: SecretStore { directory: directory.join("secrets"), reference },
    }
}

/// Asks all questions until the answers are confirmed. SIGINT ends the interview.
fn hold(interview: &mut Interview<'_>) -> Result<(), CommandFailure> {
    let mut lines = Lines::read();
    let result = block_on(converse(interview, &mut lines));
    // Only SIGINT makes the outer result an error with this code.
    result.unwrap_or_else(|failure| match failure.code {
        ExitCode::Interrupted => {
            print_message("");
            Err(CommandFailure::new(ExitCode::Interrupted, "interrupted; nothing was written"))
        }
        _ => Err(failure),
    })
}

/// Repeats the questions whose answers are changed after the summary.
async fn converse(interview: &mut Interview<'_>, lines: &mut Lines) -> Result<(), CommandFailure> {
    loop {
        ask_all(interview, lines).await?;
        print_message(&interview.summary());
        match confirm(interview, lines).await? {
            InterviewDecision::Write => return Ok(()),
            InterviewDecision::Change => {}
            InterviewDecision::Stop => {
                let message = "stopped; nothing was written";
                return Err(CommandFailure::new(ExitCode::Incomplete, message));
            }
        }
    }
}

async fn ask_all(interview: &mut Interview<'_>, lines: &mut Lines) -> Result<(), CommandFailure> {
    while let Some(question) = interview.next_question() {
        if let Some(file) = interview.use_existing_secret(question) {
            let file = file.display();
            print_message(&format!("{}: using the existing file `{file}`", question.prompt));
        } else {
            ask(interview, question, lines).await?;
        }
    }
    Ok(())
}

/// Asks one question until its answer is valid.
async fn ask(
    interview: &mut Interview<'_>,
    question: &'static Question,
    lines: &mut Lines,
) -> Result<(), CommandFailure> {
    let prompt = interview.prompt(question);
    let echo = match question.input {
        Input::Secret(_) => Echo::Hidden,
        Input::Text | Input::File | Input::YesOrNo => Echo::Shown,
    };

    // A script ends after the last answer, and does not know whether a directory exists.
    let is_script = lines.kind() == InputKind::Script;
    let mut at_end = if is_script && interview.offers_directory(question) {
        AtEnd::Default
    } else {
        AtEnd::Fail
    };
    loop {
        let line = at_end.line(lines.ask(&prompt, echo).await?)?;
        match interview.answer(question, &line) {
            Ok(()) => return Ok(()),
            Err(explanation) => print_explanation(&explanation),
        }
        at_end = AtEnd::Fail;
    }
}

/// Asks what to do with the answers. The end of a script confirms them.
async fn confirm(
    interview: &mut Interview<'_>,
    lines: &mut Lines,
) -> Result<InterviewDecision, CommandFailure> {
    let mut at_end = match lines.kind() {
        InputKind::Script => AtEnd::Default,
        InputKind::Terminal => AtEnd::Fail,
    };
    loop {
        let line = at_end.line(lines.ask(CONFIRMATION, Echo::Shown).await?)?;
        match interview.decide(&line) {
            Ok(decision) => return Ok(decision),
            Err(explanation) => print_explanation(&explanation),
        }
        at_end = AtEnd::Fail;
    }
}

impl AtEnd {
    fn line(self, line: Option<String>) -> Result<String, CommandFailure> {
        match (line, self) {
            (Some(line), _) => Ok(line),
            (None, Self::Default) => Ok(String::new()),
            (None, Self::Fail) => {
                Err(usage("the input ended before the last question; nothing was written"))
            }
        }
    }
}

/// Whether the configuration is that of the service of the packages.
fn is_service(config: &Path) -> bool {
    config == Path::new(DEFAULT_PATH)
}

/// The user of the service, if it differs from the user of this process. Fails if the state
/// directory is behind a link of another user.
fn service_user(
    config: &Path,
    state_directory: &Path,
) -> Result<Option<ServiceUser>, CommandFailure> {
    let packaged = || is_service(config).then(ServiceUser::of_package).flatten();
    Ok(ServiceUser::of_service(state_directory)?.or_else(packaged))
}

/// The names of the secrets whose files exist.
fn existing_secrets(directory: &Path) -> Vec<&'static str> {
    let names = QUESTIONS.iter().filter_map(|question| match question.input {
        Input::Secret(name) => Some(name),
        _ => None,
    });
    names.filter(|name| directory.join(name).exists()).collect()
}

/// The directories that `init` offers to create. The state directory belongs to the service; the
/// configuration and the secrets belong to the user who runs this command, and the group of the
/// service can read them.
fn missing_directories(
    configuration: &Path,
    settings: &Settings,
    service: Option<&ServiceUser>,
) -> Vec<(QuestionKey, NewDirectory)> {
    let group = || service.map(|service| service.group.clone());
    let state = NewDirectory {
        path: settings.state_directory.clone(),
        mode: PRIVATE_MODE,
        owner: service.map(|service| service.name.clone()),
        group: group(),
    };
    let readable = |path: &Path| NewDirectory {
        path: path.to_owned(),
        mode: if service.is_some() { SHARED_MODE } else { PRIVATE_MODE },
        owner: None,
        group: group(),
    };

    let all = [
        (QuestionKey::StateDirectory, state),
        (QuestionKey::ConfigurationDirectory, readable(configuration)),
        (QuestionKey::SecretsDirectory, readable(&settings.secrets.directory)),
    ];
    all.into_iter().filter(|(_, directory)| !directory.path.exists()).collect()
}

/// The directory of a file that the service writes, if it does not exist. Other programs of its
/// group can read the files, as in the directory that the packages create.
fn missing_parent(file: &Path, service: Option<&ServiceUser>) -> Option<NewDirectory> {
    let path = file.parent().filter(|parent| !parent.exists())?.to_owned();
    let owner = service.map(|service| service.name.clone());
    let group = service.map(|service| service.group.clone());
    Some(NewDirectory { path, mode: SHARED_MODE, owner, group })
}

/// Why the file of a certificate cannot be used: it does not exist, the service cannot read it, or
/// it does not contain a certificate with its key. Root can read every file, but the service runs
/// as a different user.
fn examine_certificate(
    certificate: &Path,
    service: Option<&ServiceUser>,
) -> Result<(), Explanation> {
    let file = certificate.display();
    if !certificate.is_file() {
        return Err(Explanation::new(format!("the file `{file}` does not exist"))
            .with_hint("correct the path, or leave it empty to use a client secret"));
    }

    let is_readable = || access(certificate, Access::READ_OK).is_ok();
    match service {
        None if !is_readable() => {
            Err(Explanation::new(format!("the file `{file}` cannot be read"))
                .with_hint("correct its permissions, or run this command as another user"))
        }
        Some(service) if !service.run(is_readable).unwrap_or(true) => {
            let (name, group) = (&service.name, &service.group);
            let folder = Path::new(DEFAULT_PATH).parent().unwrap_or(Path::new("/etc"));
            let message =
                format!("the service, which runs as the user `{name}`, cannot read `{file}`");
            let hint = format!(
                "move the file to `{}`, run `chgrp {group}` and `chmod 640` for it, and enter its path again",
                folder.display()
            );
            Err(Explanation::new(message).with_hint(hint))
        }
        _ => check_key_pair(certificate),
    }
}

/// Reads the certificate and its key from a file, as the configuration will name it: without
/// another file for the key, and without a password.
fn check_key_pair(file: &Path) -> Result<(), Explanation> {
    let chain = CertificateChain::Omit;
    let credential = Certificate::new(String::new(), file.to_owned(), None, None, chain);
    credential.check().map_err(|error| {
        let explanation = Explanation::of(&error);
        match error {
            CredentialError::Certificate(_, KeyPairError::UnknownFormat) => explanation.with_hint(
                "enter a PEM file, or a PFX file without a password; set `password` in the configuration later",
            ),
            CredentialError::Certificate(_, KeyPairError::NoPrivateKey) => {
                explanation.with_hint("enter a file that also contains the private key")
            }
            _ => explanation,
        }
    })
}

/// Tests the configuration, unless that was declined, and prints what to do next. The configuration
/// is kept if a test fails, so that the operator can correct it.
fn test(config: &Path, args: &args::Init) -> Result<ExitCode, CommandFailure> {
    let has_passed = args.offline || passes_tests(config)?;

    let config_file = config.display();
    if !has_passed {
        let explanation = Explanation::new(format!("the test of `{config_file}` failed"));
        let hint = format!(
            "correct the errors above in this file or in the secret files that it refers to, and run `check --online` again, and then `test-sink {SINK}`"
        );
        print_message(&format!("\nerror: {}", render(&explanation.with_hint(hint))));
        return Ok(ExitCode::Incomplete);
    }

    let explanation = if is_service(config) {
        Explanation::new("the service is ready to start")
            .with_hint("run `systemctl enable --now secure-score-forwarder`")
    } else {
        Explanation::new("the daemon is ready to start")
            .with_hint(format!("run `secure-score-forwarder run --config {config_file}`"))
    };
    print(&format!("\n{}\n", render(&explanation)))?;
    Ok(ExitCode::Done)
}

/// Signs in, reads one snapshot and contacts the receiver, and then sends one test record. Each
/// step reports its faults. After a fault, no record is sent, because `test-sink` would report a
/// fault of the sink again. Returns whether all steps succeeded.
fn passes_tests(config: &Path) -> Result<bool, CommandFailure> {
    if files::is_root() {
        // The service may run as another user: each command determines as whom it runs.
        let checked = run_process(config, &["check", "--online"])?;
        return Ok(checked == ExitCode::Done
            && run_process(config, &["test-sink", SINK])? == ExitCode::Done);
    }

    let online = args::Check { online: true, ..args::Check::default() };
    if check::check(config, &online)? != ExitCode::Done {
        return Ok(false);
    }
    let sink = args::TestSink { name: SinkName::new(SINK), json: false };
    let tested = test_sink::test_sink(config, &sink);
    if let Err(failure) = &tested {
        print_message(&format!("error: {failure}"));
    }
    Ok(tested.is_ok_and(|exit| exit == ExitCode::Done))
}

fn usage(explanation: impl Into<Explanation>) -> CommandFailure {
    CommandFailure::new(ExitCode::Usage, explanation)
}
