//! Kills the operator again and again, at moments that a seed decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use fastrand::Rng;
use muster_cluster::{Cluster, Operator, PATIENCE};

/// How often the operator is killed at least, however slow the machine is.
const FEWEST_KILLS: u32 = 3;

/// `MUSTER_CHAOS_SEED`, or a new seed; printed, so that a failure can be repeated as far as its moments are decided here.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("MUSTER_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("MUSTER_CHAOS_SEED={seed}");
    seed
}

/// How many reconciles an operator has counted since it started.
///
/// # Errors
/// When it doesn't answer.
pub(crate) async fn reconciles(operator: &Operator) -> anyhow::Result<f64> {
    let metrics = operator.metrics().await?;
    let counts = metrics.lines().filter(|line| line.starts_with("muster_reconciles_total"));
    Ok(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

/// A thread that kills and restarts the operator until it is told to stop, or its test is over.
pub(crate) struct Killer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u32>>,
}

impl Killer {
    /// Lets the operator live for 0.2 to 3 seconds at a time, and leaves it dead for up to 0.3, or 8 once in a while. Half of the lives are counted from their
    /// first reconcile on: on a machine where starting takes longer than that, it would else never come to do anything.
    pub(crate) fn start(cluster: &'static Cluster, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut random = Rng::with_seed(seed);
            let mut kills = 0;
            while kills < FEWEST_KILLS || !told.load(Ordering::Relaxed) {
                if random.bool() {
                    wait_for_work(cluster.operator(), &told);
                }
                sleep(Duration::from_millis(random.u64(200..3000)));
                cluster.operator().kill();
                kills += 1;
                let dead = if random.u32(0..8) == 0 { 8000 } else { 300 };
                sleep(Duration::from_millis(random.u64(0..dead)));
                cluster.operator().resume().unwrap();
            }
            kills
        });
        Self { stop, thread: Some(thread) }
    }

    /// Stops killing, waits until the operator is ready and says how often it was killed.
    pub(crate) async fn stop(mut self, cluster: &Cluster) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().unwrap();
        let kills = tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
        cluster.operator().ready().await.unwrap();
        kills
    }
}

impl Drop for Killer {
    /// A test that fails must not leave a killer to the next one.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Waits until the operator has reconciled something since it started; not for ever, and not when it is `told` to stop.
fn wait_for_work(operator: &Operator, told: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let began = Instant::now();
    while !told.load(Ordering::Relaxed) && began.elapsed() < PATIENCE {
        let asked = async { tokio::time::timeout(Duration::from_secs(1), reconciles(operator)).await };
        if matches!(runtime.block_on(asked), Ok(Ok(count)) if count > 0.0) {
            return;
        }
        sleep(Duration::from_millis(50));
    }
}
