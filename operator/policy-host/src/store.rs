//! One constructor for stores, and what a store holds: the limits of a call and the host's side of the imports.

use std::time::Duration;

use muster_core::cluster::Snapshot;
use muster_core::placement::{Demand, DomainId, LevelId, NodeId, ShapeId};
use wasmtime::component::{Resource, ResourceTable};
use wasmtime::{ResourceLimiter, Store};

use crate::bindings::placement_policy::muster::policy::{cluster, log, types};
use crate::call::{LogLevel, LogLine};
use crate::convert;
use crate::engine::{Engine, TICK};

/// Most memory that a policy object can ask for.
pub(crate) const MAX_MEMORY_BYTES: usize = 256 << 20;
/// Core instances in one component (adapters and glue count).
pub(crate) const MAX_CORE_INSTANCES: u32 = 200;
/// Linear memories in one component.
pub(crate) const MAX_MEMORIES: u32 = 2;
/// Tables in one component.
pub(crate) const MAX_TABLES: u32 = 8;
/// Entries of one table.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 20_000;
/// Bytes that one answer, or one argument of a host function, may take in the host.
pub(crate) const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Domains that `best-domains` gives at most.
const MAX_DOMAINS: u32 = 1024;
/// Pods of other shapes than the most frequent one that `best-domains` looks for: the leaders of so many groups.
const MAX_ODD_PODS: u32 = 1024;
/// Log lines, and bytes of them, that one call may leave behind.
const MAX_LOG_LINES: usize = 64;
const MAX_LOG_BYTES: usize = 16 << 10;

/// What one call may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    deadline: Duration,
    memory: usize,
}

impl Limits {
    /// Shortest and longest time that a call can be given.
    pub const DEADLINE_RANGE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(500));
    /// Most memory that a call can be given, in bytes.
    pub const MAX_MEMORY: usize = MAX_MEMORY_BYTES;

    /// Limits of `deadline` wall-clock time and `memory` bytes of linear memory, brought into the range that is allowed.
    pub fn new(deadline: Duration, memory: usize) -> Self {
        let (shortest, longest) = Self::DEADLINE_RANGE;
        Self { deadline: deadline.clamp(shortest, longest), memory: memory.min(Self::MAX_MEMORY) }
    }

    /// The same memory and all the time that a call can be given: for what is asked once, when nobody waits.
    pub(crate) fn patient(self) -> Self {
        Self { deadline: Self::DEADLINE_RANGE.1, ..self }
    }

    /// Wall-clock time of a call, without waiting for its turn.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Linear memory of a call in bytes, all memories together.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Epochs until the deadline. One more than it takes, because the first is cut short.
    fn ticks(&self) -> u64 {
        let ticks = self.deadline.as_nanos().div_ceil(TICK.as_nanos());
        u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(1)
    }
}

impl Default for Limits {
    /// 50 ms and 64 MiB.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), 64 << 20)
    }
}

/// More instructions than any call lives to see: the deadline ends calls, fuel is there to be counted.
const FUEL: u64 = u64::MAX;

/// The only place that makes a store: without its limits a call would trap at once, or run for ever.
pub(crate) fn store(engine: &Engine, limits: Limits) -> Store<HostState> {
    let mut store = Store::new(&engine.wasmtime, HostState::new(limits));
    store.limiter(|state| &mut state.limiter);
    store.set_epoch_deadline(limits.ticks());
    store.set_hostcall_fuel(MAX_ANSWER_BYTES);
    if engine.options.count_instructions {
        // Refused only where nothing is counted.
        let _ = store.set_fuel(FUEL);
    }
    store
}

/// Instructions that a store's calls took, if its engine counts them.
pub(crate) fn instructions(store: &Store<HostState>) -> Option<u64> {
    store.get_fuel().ok().map(|left| FUEL - left)
}

/// The host's side of one call.
pub(crate) struct HostState {
    pub(crate) limiter: Limiter,
    pub(crate) table: ResourceTable,
    pub(crate) log: Log,
}

impl HostState {
    fn new(limits: Limits) -> Self {
        let mut table = ResourceTable::new();
        // The snapshot, and room for nothing else: guests can't make host resources.
        table.set_max_capacity(1);
        Self { limiter: Limiter { limit: limits.memory, used: 0, peak: 0 }, table, log: Log::default() }
    }
}

/// Adds up all memories of a call and remembers the most it ever had.
pub(crate) struct Limiter {
    limit: usize,
    used: usize,
    pub(crate) peak: usize,
}

/// A guest wanted more memory than its limit. Typed, so that it is told apart from a trap of the guest's own.
#[derive(Debug, thiserror::Error)]
#[error("{wanted} bytes of memory wanted, {limit} allowed")]
pub(crate) struct MemoryExceeded {
    wanted: usize,
    limit: usize,
}

/// A guest wanted a larger table than there are. Typed for the same reason.
#[derive(Debug, thiserror::Error)]
#[error("more than {MAX_TABLE_ELEMENTS} table entries wanted")]
pub(crate) struct TableExceeded;

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.used.saturating_add(desired.saturating_sub(current));
        if wanted > self.limit {
            // An error ends the call. Telling the guest that memory is short would let it go on differently than elsewhere.
            return Err(MemoryExceeded { wanted, limit: self.limit }.into());
        }
        self.used = wanted;
        self.peak = self.peak.max(wanted);
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > MAX_TABLE_ELEMENTS {
            return Err(TableExceeded.into());
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        MAX_CORE_INSTANCES as usize
    }

    fn tables(&self) -> usize {
        MAX_TABLES as usize
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES as usize
    }
}

/// The lines of one call, within their budget.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) lines: Vec<LogLine>,
    pub(crate) dropped: u32,
    bytes: usize,
}

impl log::Host for HostState {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let log = &mut self.log;
        if log.lines.len() >= MAX_LOG_LINES || log.bytes + message.len() > MAX_LOG_BYTES {
            log.dropped = log.dropped.saturating_add(1);
            return Ok(());
        }
        log.bytes += message.len();
        let level = match level {
            log::Level::Debug => LogLevel::Debug,
            log::Level::Info => LogLevel::Info,
            log::Level::Warn => LogLevel::Warn,
        };
        // One line of text, whatever it was: it goes to terminals and files.
        log.lines.push(LogLine { level, message: convert::one_line(&message) });
        Ok(())
    }
}

/// A question whose answer takes too long to find: no deadline reaches into the host.
#[derive(Debug, thiserror::Error)]
#[error("{pods} pods of other shapes than the most frequent, at most {limit} possible")]
pub(crate) struct QuestionTooLarge {
    pub(crate) pods: u32,
    pub(crate) limit: u32,
}

/// Every shape once, as often as all its demands say; `None` if one of them doesn't exist and so fits nowhere.
///
/// The most frequent shape is packed as a whole and all others pod by pod, so those decide what an answer costs.
fn within_reason(pods: &[types::Demand], shapes: usize) -> wasmtime::Result<Option<Vec<Demand>>> {
    let mut counts = vec![0_u32; shapes];
    for demand in pods.iter().filter(|demand| demand.pods > 0) {
        let Some(count) = counts.get_mut(demand.shape as usize) else { return Ok(None) };
        *count = count.saturating_add(demand.pods);
    }
    let most = counts.iter().copied().max().unwrap_or(0);
    let odd = counts.iter().fold(0_u32, |sum, count| sum.saturating_add(*count)).saturating_sub(most);
    if odd > MAX_ODD_PODS {
        return Err(QuestionTooLarge { pods: odd, limit: MAX_ODD_PODS }.into());
    }
    let demands = (0..).zip(counts).filter(|(_, pods)| *pods > 0);
    Ok(Some(demands.map(|(shape, pods)| Demand { shape: ShapeId(shape), pods }).collect()))
}

impl types::Host for HostState {}
impl cluster::Host for HostState {}

type View = Resource<Snapshot>;

/// Every method copies one column or one value out of the snapshot; none blocks, because no deadline reaches into the host.
impl cluster::HostSnapshot for HostState {
    fn generation(&mut self, view: View) -> wasmtime::Result<u64> {
        Ok(self.table.get(&view)?.generation())
    }

    fn levels(&mut self, view: View) -> wasmtime::Result<Vec<String>> {
        Ok(self.table.get(&view)?.levels().to_vec())
    }

    fn node_count(&mut self, view: View) -> wasmtime::Result<u32> {
        Ok(self.table.get(&view)?.node_count())
    }

    fn domain_count(&mut self, view: View, level: u32) -> wasmtime::Result<u32> {
        Ok(self.table.get(&view)?.domain_count(LevelId(level)))
    }

    fn domain_parents(&mut self, view: View, level: u32) -> wasmtime::Result<Vec<u32>> {
        Ok(self.table.get(&view)?.domain_parents(LevelId(level)).to_vec())
    }

    fn domain_fit(&mut self, view: View, level: u32, shape: u32) -> wasmtime::Result<Vec<u32>> {
        Ok(self.table.get(&view)?.domain_fit(LevelId(level), ShapeId(shape)).to_vec())
    }

    fn domain_holders(&mut self, view: View, level: u32) -> wasmtime::Result<Vec<u32>> {
        Ok(self.table.get(&view)?.domain_holders(LevelId(level)).to_vec())
    }

    fn node_domains(&mut self, view: View, level: u32) -> wasmtime::Result<Vec<u32>> {
        Ok(self.table.get(&view)?.node_domains(LevelId(level)).to_vec())
    }

    fn node_fit(&mut self, view: View, shape: u32) -> wasmtime::Result<Vec<u32>> {
        Ok(self.table.get(&view)?.node_fit(ShapeId(shape)).to_vec())
    }

    fn nodes_in(&mut self, view: View, level: u32, domain: u32, shape: u32) -> wasmtime::Result<(Vec<u32>, Vec<u32>)> {
        Ok(self.table.get(&view)?.nodes_in(LevelId(level), DomainId(domain), ShapeId(shape)))
    }

    fn node_usable(&mut self, view: View) -> wasmtime::Result<Vec<bool>> {
        Ok(self.table.get(&view)?.node_usable().collect())
    }

    fn node_capacity(&mut self, view: View, resource: String) -> wasmtime::Result<Vec<u64>> {
        Ok(self.table.get(&view)?.node_capacity(&resource).collect())
    }

    fn describe_shape(&mut self, view: View, shape: u32) -> wasmtime::Result<cluster::PodShape> {
        Ok(convert::shape(self.table.get(&view)?.shape(ShapeId(shape))))
    }

    fn best_domains(
        &mut self,
        view: View,
        level: u32,
        pods: Vec<types::Demand>,
        exclusive: bool,
        limit: u32,
    ) -> wasmtime::Result<Vec<u32>> {
        let snapshot = self.table.get(&view)?;
        let Some(pods) = within_reason(&pods, snapshot.view().shapes.len())? else { return Ok(Vec::new()) };
        Ok(snapshot.best_domains(LevelId(level), &pods, exclusive, limit.min(MAX_DOMAINS)))
    }

    fn domain_name(&mut self, view: View, level: u32, domain: u32) -> wasmtime::Result<String> {
        Ok(self.table.get(&view)?.domain_name(LevelId(level), DomainId(domain)).unwrap_or_default().to_owned())
    }

    fn node_name(&mut self, view: View, node: u32) -> wasmtime::Result<String> {
        Ok(self.table.get(&view)?.node_name(NodeId(node)).unwrap_or_default().to_owned())
    }

    fn node_label(&mut self, view: View, node: u32, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.table.get(&view)?.node_label(NodeId(node), &key).map(str::to_owned))
    }

    fn drop(&mut self, _view: View) -> wasmtime::Result<()> {
        // A guest is lent the snapshot for one call and owns none; the store's end drops it.
        Ok(())
    }
}
