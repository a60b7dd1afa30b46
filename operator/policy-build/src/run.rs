//! Running the commands of a recipe, with their output passed on line by line.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, iter};

use crate::error::At;
use crate::recipe::Variables;
use crate::rust::Cargo;
use crate::{BuildError, Language, Options, Progress, Recipe};

/// Lines that an error shows.
const TAIL: usize = 40;

/// Runs one command of the recipe.
pub(crate) fn step(
    argv: &[String],
    recipe: &Recipe,
    variables: &Variables,
    tools: &[PathBuf],
    project: &Path,
    options: &Options<'_>,
) -> Result<(), BuildError> {
    let [program, arguments @ ..] = argv else { return Ok(()) };
    let mut command = match program.as_str() {
        "${CARGO}" => Cargo::find(options.system_packages, options.progress)?.command(),
        program => Command::new(variables.fill(program)),
    };
    command.current_dir(project).args(arguments.iter().map(|argument| variables.fill(argument)));
    command.env("PATH", path(tools)?);
    for (name, value) in &recipe.build.env {
        command.env(name, variables.fill(value));
    }
    let program = variables.fill(program.trim_start_matches("${CARGO}"));
    let shown = iter::once(if program.is_empty() { "cargo".to_owned() } else { program });
    let shown: Vec<String> = shown.chain(arguments.iter().map(|argument| variables.fill(argument))).collect();
    run(&format!("compiling {}", recipe.policy.name), &shown.join(" "), command, remedy(recipe.policy.language), options.progress)
}

/// The machine's path with the tools' folders in front.
fn path(tools: &[PathBuf]) -> Result<OsString, BuildError> {
    let machine = env::var_os("PATH").unwrap_or_default();
    let all = tools.iter().cloned().chain(env::split_paths(&machine));
    env::join_paths(all).map_err(io::Error::other).at("adding to the path", Path::new("PATH"))
}

/// How to get what a recipe of this language needs and can't install.
fn remedy(language: Language) -> &'static str {
    match language {
        Language::Rust => "install Rust with rustup",
        Language::Go => "install Go 1.24 or newer",
        Language::Js => "install Node.js 20 or newer, with npm",
        Language::Python | Language::C => "install Python 3.10 or newer, with the module venv",
    }
}

/// Runs a command, passes on what it prints, and keeps the end of it for the error.
pub(crate) fn run(
    what: &str,
    shown: &str,
    mut command: Command,
    remedy: &str,
    progress: &dyn Fn(Progress<'_>),
) -> Result<(), BuildError> {
    progress(Progress::Step(what));
    let program = command.get_program().to_string_lossy().into_owned();
    let missing = |source| BuildError::Missing { program: program.clone(), source, remedy: remedy.to_owned() };
    let (reader, writer) = io::pipe().map_err(missing)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(missing)?).stderr(writer);
    let mut child = command.spawn().map_err(missing)?;
    // The command holds the pipe's other end; while it does, reading never ends.
    drop(command);
    let mut lines: Vec<String> = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line.map_err(missing)?).into_owned();
        progress(Progress::Line(&line));
        lines.push(line);
    }
    let status = child.wait().map_err(missing)?;
    if status.success() {
        return Ok(());
    }
    let tail = lines[lines.len().saturating_sub(TAIL)..].iter().map(|line| format!("  {line}\n")).collect();
    Err(BuildError::Failed { command: shown.to_owned(), status: status.to_string(), tail })
}
