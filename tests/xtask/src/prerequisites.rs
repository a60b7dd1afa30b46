//! What must be on the machine. Installs what can be installed without asking; names the rest with the command that installs it.

use std::env;
use std::process::Command;

use anyhow::{Result, bail};

/// Oldest Go that builds the control plane.
const GO: (u32, u32) = (1, 26);
/// A release to download where there is none, or an older one.
const GO_RELEASE: &str = "1.26.8";

/// Checks everything at once, so that nobody installs one thing only to learn about the next.
pub(crate) fn check() -> Result<()> {
    let missing: Vec<String> = [go(), program("git", "git"), program("cc", "gcc")].into_iter().flatten().collect();
    if !missing.is_empty() {
        bail!("something is missing on this machine:\n\n{}", missing.join("\n\n"));
    }
    Ok(())
}

fn go() -> Option<String> {
    let found = said("go", &["version"]);
    let version = found.as_deref().and_then(parse);
    match version {
        Some(version) if version >= GO => None,
        // Since 1.21 Go fetches the toolchain that a go.mod asks for, unless it was told not to.
        Some(version) if version >= (1, 21) && said("go", &["env", "GOTOOLCHAIN"]).is_some_and(|mode| mode.trim() == "auto") => {
            println!("Go {}.{} will fetch Go {}.{} for itself.", version.0, version.1, GO.0, GO.1);
            None
        }
        _ => Some(format!(
            "Go {}.{} or newer ({}). Install it with\n  {}",
            GO.0,
            GO.1,
            found.map_or_else(|| "there is none".to_owned(), |text| format!("found: {}", text.trim())),
            go_download()
        )),
    }
}

fn go_download() -> String {
    let system = if env::consts::OS == "macos" { "darwin" } else { env::consts::OS };
    let machine = if env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let archive = format!("https://go.dev/dl/go{GO_RELEASE}.{system}-{machine}.tar.gz");
    format!("curl -fsSL {archive} | sudo tar -C /usr/local -xz && export PATH=/usr/local/go/bin:$PATH")
}

fn program(name: &str, package: &str) -> Option<String> {
    if said(name, &["--version"]).is_some() {
        return None;
    }
    let install = if env::consts::OS == "macos" {
        "xcode-select --install".to_owned()
    } else {
        format!("sudo apt-get install -y {package}")
    };
    Some(format!("{name}. Install it with\n  {install}\n(or your system's way of installing {package})"))
}

/// Standard output of a program; `None` when there is no such program or it fails.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Major and minor of `go version go1.26.8 linux/amd64`.
fn parse(text: &str) -> Option<(u32, u32)> {
    let version = text.split_whitespace().nth(2)?.strip_prefix("go")?;
    let mut numbers = version.split(['.', '-', 'r', 'b']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_are_read() {
        assert_eq!(parse("go version go1.26.8 linux/amd64"), Some((1, 26)));
        assert_eq!(parse("go version go1.27rc1 darwin/arm64"), Some((1, 27)));
        assert_eq!(parse("bash: go: command not found"), None);
    }
}
