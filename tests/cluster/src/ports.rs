//! Free ports on loopback, and a plain word when a wanted one is taken.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result};

/// Below what kernels hand out to outgoing connections (32768 on Linux): a port chosen here is still free when its server is
/// stopped and started again.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// `count` free ports, all different.
///
/// # Errors
/// When the whole range is taken.
pub(crate) fn free(count: usize) -> Result<Vec<u16>> {
    // Where to begin differs between processes, so that two clusters that start together rarely want the same ports.
    let width = u32::from(RANGE.end - RANGE.start);
    let offset = u16::try_from(std::process::id().wrapping_mul(37) % width).unwrap_or(0);
    let candidates = (RANGE.start + offset..RANGE.end).chain(RANGE.start..RANGE.start + offset);
    let held: Vec<(u16, TcpListener)> =
        candidates.filter_map(|port| Some((port, TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?))).take(count).collect();
    anyhow::ensure!(held.len() == count, "no free port on 127.0.0.1 between {} and {}", RANGE.start, RANGE.end);
    Ok(held.into_iter().map(|(port, _listener)| port).collect())
}

/// Checks that nothing listens on `port`, which was asked for by `flag`.
///
/// # Errors
/// When it is taken; the message names the port and the flag.
pub(crate) fn require(port: u16, flag: &str) -> Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop).with_context(|| {
        format!("port {port} on 127.0.0.1 is in use; choose another with {flag}, or leave {flag} out to get a free one")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_different_and_outside_the_ephemeral_range() {
        let ports = free(4).unwrap();
        let mut unique = ports.clone();
        unique.dedup();
        assert_eq!(unique.len(), 4);
        assert!(ports.iter().all(|port| *port < 32_768));
    }

    #[test]
    fn a_taken_port_is_named_with_its_flag() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = require(port, "--api-port").unwrap_err().to_string();
        assert!(error.contains(&format!("port {port} ")) && error.contains("--api-port"), "{error}");
    }
}
