//! Timing, on a machine that other programs use too.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Rounds of one measurement. Half of them may be disturbed and the figures still stand.
const ROUNDS: usize = 5;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Tiny clusters and a handful of calls: shows that everything still runs, and says nothing about speed.
    pub(crate) smoke: bool,
}

impl Effort {
    /// This many, or few in a smoke run.
    pub(crate) fn size(self, full: u32, smoke: u32) -> u32 {
        if self.smoke { smoke } else { full }
    }
}

/// Times in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Half of the runs took less, without what they waited for a processor that others had.
    pub(crate) p50: f64,
    /// All but one in a hundred took less, without what they waited for a processor.
    pub(crate) p99: f64,
    /// All but one in a hundred took less by the clock.
    pub(crate) p99_wall: f64,
}

/// How long this thread has waited for a processor, by the kernel's account.
struct Waited(Option<File>);

impl Waited {
    fn open() -> Self {
        Self(File::open("/proc/thread-self/schedstat").ok())
    }

    /// Nothing where the kernel keeps no account.
    fn so_far(&self) -> Duration {
        let mut text = [0; 96];
        let read = self.0.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        let text = std::str::from_utf8(&text[..read]).unwrap_or_default();
        let nanos = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        Duration::from_nanos(nanos.unwrap_or(0))
    }
}

/// Times `run`, `runs` times a round; what `prepare` does for each run is not counted, nor is dropping the result.
///
/// Each figure is the median of those of the rounds: one round that something else disturbed does not change it.
pub(crate) fn times<S, T, R>(
    runs: u32,
    state: &mut S,
    mut prepare: impl FnMut(&mut S) -> T,
    mut run: impl FnMut(&mut S, T) -> R,
) -> Times {
    let waited = Waited::open();
    let mut rounds: Vec<Times> = Vec::new();
    for round in 0..=ROUNDS {
        let each = (0..runs.max(1)).map(|_| {
            let prepared = prepare(state);
            let before = waited.so_far();
            let started = Instant::now();
            let result = black_box(run(state, black_box(prepared)));
            let wall = started.elapsed();
            let waiting = waited.so_far().saturating_sub(before);
            drop(result);
            (wall.saturating_sub(waiting), wall)
        });
        let (mut own, mut wall): (Vec<Duration>, Vec<Duration>) = each.unzip();
        own.sort_unstable();
        wall.sort_unstable();
        // The first warms up.
        if round > 0 {
            rounds.push(Times { p50: percentile(&own, 50), p99: percentile(&own, 99), p99_wall: percentile(&wall, 99) });
        }
    }
    let median = |figure: fn(&Times) -> f64| median(rounds.iter().map(figure));
    Times { p50: median(|round| round.p50), p99: median(|round| round.p99), p99_wall: median(|round| round.p99_wall) }
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let position = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(position).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Memory that the process has, in bytes; 0 where the kernel does not say.
pub(crate) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}
