//! Waiting for conditions. A test never sleeps: it says what must become true and for how long it is worth waiting.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::time::sleep;

/// How long anything may take. Far more than it does: a machine that builds at the same time is slow, waiting ends with success, and what
/// hangs still ends within minutes, with the last thing that was wrong.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// First pause between two attempts.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Tries until `condition` returns `Ok`, for at most `patience`, and returns its value.
///
/// Say in the condition's error what is still wrong: the last one is what a failing test shows.
///
/// ```no_run
/// # async fn example(pods: kube::Api<k8s_openapi::api::core::v1::Pod>) -> anyhow::Result<()> {
/// use std::time::Duration;
/// muster_cluster::eventually(Duration::from_secs(30), || async {
///     let count = pods.list(&Default::default()).await?.items.len();
///     anyhow::ensure!(count == 4, "there are {count} pods, not 4");
///     Ok(())
/// })
/// .await
/// # }
/// ```
///
/// # Errors
/// The last error of `condition`, with how long it was waited for.
pub async fn eventually<T, F, Fut>(patience: Duration, mut condition: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let started = Instant::now();
    let mut pause = PAUSE;
    loop {
        // An attempt that hangs (an API server that is gone) must not outlive the patience by much.
        let left = patience.saturating_sub(started.elapsed()).max(Duration::from_secs(1));
        let error = match tokio::time::timeout(left, condition()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("the last attempt took longer than {} s", left.as_secs()),
        };
        if started.elapsed() >= patience {
            return Err(error).with_context(|| format!("still not so after {} s", patience.as_secs()));
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_error_is_reported() {
        let mut attempts = 0;
        let result: Result<()> = eventually(Duration::from_millis(30), || {
            attempts += 1;
            let attempt = attempts;
            async move { anyhow::bail!("attempt {attempt} of many") }
        })
        .await;
        let shown = format!("{:#}", result.unwrap_err());
        assert!(shown.ends_with(&format!("attempt {attempts} of many")), "{shown}");
    }

    #[tokio::test]
    async fn a_condition_that_becomes_true_ends_the_wait() {
        let mut attempts = 0;
        let value = eventually(Duration::from_secs(5), || {
            attempts += 1;
            let attempt = attempts;
            async move { if attempt < 3 { anyhow::bail!("not yet") } else { Ok(attempt) } }
        })
        .await;
        assert_eq!(value.unwrap(), 3);
    }
}
