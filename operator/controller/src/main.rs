//! The Muster operator.
//!
//! ```text
//!  caches ──► webhook (every replica)          certs: CA, serving certificate, caBundle
//!     │
//!     └─────► sets, policies (lease holder)    observe ─► validate ─► advise ─► decide ─► apply
//! ```
#![forbid(unsafe_code)]

mod args;
mod caches;
mod certs;
mod context;
mod events;
mod lookup;
mod memory;
mod metrics;
mod operator;
mod policies;
mod sets;
mod webhook;

use std::io::IsTerminal as _;

use clap::Parser as _;

use args::{Args, LogFormat};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    match args.log_format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.init(),
    }
    operator::run(args).await
}
