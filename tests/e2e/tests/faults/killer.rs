//! Kills the operator again and again, at moments that a seed decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use fastrand::Rng;
use muster_cluster::Cluster;

/// `MUSTER_CHAOS_SEED`, or a new seed; printed, so that a failure can be repeated as far as its moments are decided here.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("MUSTER_CHAOS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("MUSTER_CHAOS_SEED={seed}");
    seed
}

/// A thread that kills and restarts the operator until it is told to stop.
pub(crate) struct Killer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u32>,
}

impl Killer {
    /// Lets the operator live for 0.2 to 3 seconds at a time, and leaves it dead for up to 0.3.
    pub(crate) fn start(cluster: &'static Cluster, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut random = Rng::with_seed(seed);
            let mut kills = 0;
            while !told.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(random.u64(200..3000)));
                cluster.operator().kill();
                kills += 1;
                std::thread::sleep(Duration::from_millis(random.u64(0..300)));
                cluster.operator().resume().unwrap();
            }
            kills
        });
        Self { stop, thread }
    }

    /// Stops killing, waits until the operator is ready and says how often it was killed.
    pub(crate) async fn stop(self, cluster: &Cluster) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let kills = tokio::task::spawn_blocking(move || self.thread.join().unwrap()).await.unwrap();
        cluster.operator().ready().await.unwrap();
        kills
    }
}
