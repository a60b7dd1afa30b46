//! Running long commands: their output goes to a log, a spinner shows the last line and the time, a failure shows what the
//! failed tests said or else the end of the log.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::failures;

/// Without a terminal, a sign of life this often.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);
/// Lines of the log that a failure shows.
const SHOWN_LINES: usize = 40;

/// Runs `command` as `what`, with its output in `log`.
pub(crate) fn run(what: &str, mut command: Command, log: &Path) -> Result<()> {
    let folder = log.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let mut file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("{what}: starting {}", command.get_program().display()))?;
    // The command holds the pipe's other end; while it does, reading never ends.
    drop(command);
    let mut progress = Progress::new(what);
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(file, "{line}")?;
        progress.line(&line);
    }
    let status = child.wait()?;
    progress.done(status.success());
    if !status.success() {
        let text = fs::read_to_string(log).unwrap_or_default();
        match failures::shown(&text) {
            Some(shown) => bail!("{what} failed ({status}). From {}:\n{shown}", log.display()),
            None => bail!("{what} failed ({status}). The end of {}:\n{}", log.display(), tail(&text)),
        }
    }
    Ok(())
}

/// Says the steps of a build of a policy, and nothing of what its programs print: an error shows the end of that.
pub(crate) fn say(progress: muster_policy_build::Progress<'_>) {
    if let muster_policy_build::Progress::Step(step) = progress {
        println!("· {step}");
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].iter().map(|line| format!("  {line}\n")).collect()
}

struct Progress {
    what: String,
    bar: Option<ProgressBar>,
    started: Instant,
    last_sign: Instant,
    lines: usize,
}

impl Progress {
    fn new(what: &str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} · {wide_msg}") {
                bar.set_style(style);
            }
            bar.set_prefix(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            println!("· {what}");
        }
        Self { what: what.to_owned(), bar, started: Instant::now(), last_sign: Instant::now(), lines: 0 }
    }

    fn line(&mut self, line: &str) {
        self.lines += 1;
        match &self.bar {
            Some(bar) => bar.set_message(format!("{} steps · {}", self.lines, line.trim())),
            None if self.last_sign.elapsed() >= SIGN_OF_LIFE => {
                self.last_sign = Instant::now();
                println!("  {} · {} s, {} steps: {}", self.what, self.started.elapsed().as_secs(), self.lines, line.trim());
            }
            None => {}
        }
    }

    fn done(&self, success: bool) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let sign = if success { "✓" } else { "✗" };
        println!("{sign} {} ({:.1} s)", self.what, self.started.elapsed().as_secs_f32());
    }
}
