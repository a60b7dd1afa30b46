//! Background processes that outlive the program that started them, and that are only ever stopped if they are still ours.
//!
//! Each has a record `<state>/run/<name>.json` with its pid, the moment the kernel started that pid, and a fingerprint of what was
//! started. A pid alone is not an identity: after a reboot or a day it may belong to somebody else's process.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, test_kill_process, waitpid};
use serde::{Deserialize, Serialize};

/// What to run, under which name.
#[derive(Clone, Debug)]
pub struct Program {
    /// Names the record and the log.
    pub name: String,
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment; `None` inherits ours.
    pub env: Option<Vec<(String, String)>>,
    /// Anything else that the process reads only when it starts: it is replaced when this changes.
    pub inputs: String,
}

/// A process under `<state>/run`.
#[derive(Clone, Debug)]
pub struct Process {
    record: PathBuf,
    log: PathBuf,
    name: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct Record {
    pid: i32,
    started: String,
    fingerprint: u64,
}

impl Process {
    /// The process called `name` of the cluster in `state`, running or not.
    #[must_use]
    pub fn of(state: &Path, name: &str) -> Self {
        Self {
            record: state.join("run").join(format!("{name}.json")),
            log: state.join("logs").join(format!("{name}.log")),
            name: name.to_owned(),
        }
    }

    /// Every process that the cluster in `state` ever started.
    #[must_use]
    pub fn all(state: &Path) -> Vec<Self> {
        let entries = fs::read_dir(state.join("run")).into_iter().flatten().flatten();
        entries.filter_map(|entry| Some(Self::of(state, entry.path().file_stem()?.to_str()?))).collect()
    }

    /// Makes sure that exactly `program` runs: keeps it when it already does, replaces it when it is another version or has other
    /// arguments. Returns whether it was started now.
    ///
    /// # Errors
    /// When it can't be started; the message names the path.
    pub fn ensure(state: &Path, program: &Program) -> Result<(Self, bool)> {
        let process = Self::of(state, &program.name);
        if process.running().is_some_and(|record| Some(record.fingerprint) == fingerprint(program)) {
            return Ok((process, false));
        }
        process.kill();
        process.spawn(program)?;
        Ok((process, true))
    }

    fn spawn(&self, program: &Program) -> Result<()> {
        for file in [&self.record, &self.log] {
            let folder = file.parent().unwrap_or(Path::new("."));
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&program.path);
        command.args(&program.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if let Some(env) = &program.env {
            command.env_clear().envs(env.iter().cloned());
        }
        // A group of its own, so that Ctrl-C in the terminal of `cargo xtask up` doesn't end the control plane.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().with_context(|| format!("starting {} ({})", self.name, program.path.display()))?;
        let pid = i32::try_from(child.id()).context("pid out of range")?;
        let record = Record {
            pid,
            started: start_of(pid).unwrap_or_default(),
            fingerprint: fingerprint(program).with_context(|| format!("reading {}", program.path.display()))?,
        };
        fs::write(&self.record, serde_json::to_vec(&record)?).with_context(|| format!("writing {}", self.record.display()))
    }

    /// Whether the process runs, and is the one that was started under this name.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.running().is_some()
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.running().map(|record| record.pid)
    }

    fn running(&self) -> Option<Record> {
        let record: Record = serde_json::from_slice(&fs::read(&self.record).ok()?).ok()?;
        (start_of(record.pid)? == record.started).then_some(record)
    }

    /// Kills the process without giving it a chance to finish anything, as a power cut would.
    pub fn kill(&self) {
        self.end(Signal::KILL, Duration::from_secs(10));
    }

    /// Asks the process to end and kills it if it has not after `patience`.
    pub fn stop(&self, patience: Duration) {
        if !self.end(Signal::TERM, patience) {
            self.kill();
        }
    }

    /// Sends `signal` and waits until the process is gone; says whether it is.
    fn end(&self, signal: Signal, patience: Duration) -> bool {
        let Some(pid) = self.pid().and_then(Pid::from_raw) else { return true };
        let deadline = Instant::now() + patience;
        // A failure means that it went between the check and the signal.
        let _ = kill_process(pid, signal);
        while self.alive() && Instant::now() < deadline {
            sleep(Duration::from_millis(10));
        }
        // Dead is not gone: threads of a large process are torn down for a moment, and until then hold its ports and files.
        let deadline = Instant::now() + Duration::from_secs(2);
        while !self.alive() && test_kill_process(pid).is_ok() && Instant::now() < deadline {
            // Only a parent can reap; when another program was the parent, this fails and init does it.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            sleep(Duration::from_millis(10));
        }
        !self.alive()
    }

    /// The log file.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// An error when the process has ended, with the end of its log.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn check(&self) -> Result<()> {
        if self.alive() { Ok(()) } else { Err(self.obituary()) }
    }

    /// Waits until the process ends and says so, with the end of its log.
    pub async fn ended(&self) -> anyhow::Error {
        while self.alive() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.obituary()
    }

    fn obituary(&self) -> anyhow::Error {
        anyhow!("{} ended. The end of {}:\n{}", self.name, self.log.display(), tail(&self.log, 15))
    }
}

/// The last `count` lines of a file, indented.
#[must_use]
pub fn tail(file: &Path, count: usize) -> String {
    let text = fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| format!("  {line}\n")).collect()
}

/// Changes when the executable, its arguments or its environment do.
fn fingerprint(program: &Program) -> Option<u64> {
    let file = fs::metadata(&program.path).ok()?;
    let mut hasher = DefaultHasher::new();
    (&program.args, &program.env, &program.inputs, file.len(), file.modified().ok()).hash(&mut hasher);
    Some(hasher.finish())
}

/// When the kernel started `pid`; `None` when there is no such process or it is a zombie.
fn start_of(pid: i32) -> Option<String> {
    if Path::new("/proc/self/stat").exists() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name, in parentheses, may contain anything; the fields after it may not.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        return (fields.first() != Some(&"Z")).then(|| fields.get(19).map(ToString::to_string))?;
    }
    let listed = Command::new("ps").args(["-o", "stat=,lstart=", "-p", &pid.to_string()]).output().ok()?;
    let line = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
    let (state, started) = line.split_once(' ')?;
    (!state.starts_with('Z')).then(|| started.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(seconds: &str) -> Program {
        Program {
            name: "sleeper".into(),
            path: "/bin/sleep".into(),
            args: vec![seconds.into()],
            env: None,
            inputs: String::new(),
        }
    }

    #[test]
    fn the_same_program_is_kept_and_another_replaces_it() {
        let state = tempfile::tempdir().unwrap();
        let (first, started) = Process::ensure(state.path(), &sleeper("60")).unwrap();
        assert!(started && first.alive());
        let pid = first.pid();
        let (same, started) = Process::ensure(state.path(), &sleeper("60")).unwrap();
        assert!(!started);
        assert_eq!(same.pid(), pid);
        let (other, started) = Process::ensure(state.path(), &sleeper("61")).unwrap();
        assert!(started);
        assert_ne!(other.pid(), pid);
        other.kill();
        assert!(!other.alive());
        assert_eq!(start_of(pid.unwrap()), None);
    }

    #[test]
    fn a_pid_that_now_belongs_to_another_process_is_left_alone() {
        let state = tempfile::tempdir().unwrap();
        let mut foreign = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let stale = Process::of(state.path(), "sleeper");
        fs::create_dir_all(state.path().join("run")).unwrap();
        fs::write(&stale.record, format!(r#"{{"pid":{},"started":"1","fingerprint":1}}"#, foreign.id())).unwrap();
        assert!(!stale.alive());
        stale.kill();
        assert!(foreign.try_wait().unwrap().is_none(), "the foreign process was killed");
        foreign.kill().unwrap();
        foreign.wait().unwrap();
    }
}
