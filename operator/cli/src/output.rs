//! Printing: colours where a terminal shows them, JSON and YAML where a program reads.

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use serde::Serialize;

use crate::args::Output;

pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const WAITING: Style = AnsiColor::Yellow.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
pub(crate) const FAINT: Style = Style::new().dimmed();
pub(crate) const STRONG: Style = Style::new().bold();

/// Text in a style. What prints it takes the style away where nobody would see it.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// The value in the form that was asked for.
pub(crate) fn text(output: Output, value: &impl Serialize, people: impl FnOnce() -> String) -> Result<String> {
    Ok(match output {
        Output::Text => people(),
        Output::Json => serde_json::to_string_pretty(value)?,
        Output::Yaml => serde_norway::to_string(value)?,
    })
}

pub(crate) fn show(output: Output, value: &impl Serialize, people: impl FnOnce() -> String) -> Result<()> {
    print(&text(output, value, people)?);
    Ok(())
}

pub(crate) fn print(text: &str) {
    anstream::println!("{}", text.trim_end());
}

/// On a terminal in the place of what was there; elsewhere below it.
pub(crate) fn redraw(text: &str) {
    if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        anstream::print!("\x1b[2J\x1b[H");
    }
    print(text);
}
