//! The wasmtime engine: the only place that builds a `Config`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use wasmtime::{Config, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy};

use crate::cache::Cache;
use crate::compile::{CompileError, Compiler};
use crate::complexity;
use crate::folder::CacheOptions;
use crate::slots::Slots;
use crate::store::{MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_MEMORY_BYTES, MAX_TABLES};

/// Length of one epoch: how finely a call's deadline is measured.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// Native stack that a guest may use.
const MAX_STACK_BYTES: usize = 512 << 10;

const TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);

/// What an operator sets once for all policies.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Calls that may run at the same time; further ones wait. Memory is set aside for each.
    pub max_concurrent_calls: NonZeroUsize,
    /// Largest component that is looked at, in bytes.
    pub max_component_bytes: usize,
    /// How long compiling one component may take.
    pub compile_timeout: Duration,
    /// Where compiled code is kept; nowhere when absent.
    pub cache: Option<CacheOptions>,
    /// Whether calls say how many instructions they took. That makes other, slower code: it is for authors, never for the operator.
    pub count_instructions: bool,
}

impl Default for EngineOptions {
    /// As many calls as there are cores, but two at least, so that there is one beside a slow one; components of 32 MiB, one
    /// minute to compile; nothing is counted.
    fn default() -> Self {
        Self {
            max_concurrent_calls: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).max(TWO),
            max_component_bytes: 32 << 20,
            compile_timeout: Duration::from_secs(60),
            cache: None,
            count_instructions: false,
        }
    }
}

/// How memory for guests is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// From a pool that was set aside at the start: microseconds.
    Pooled,
    /// From the system for each call: the pool didn't fit the address space that the process may use.
    OnDemand,
}

/// The engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime does not run here.
    #[error("the WebAssembly engine could not be made: {0}")]
    Wasmtime(String),
    /// No thread for the clock.
    #[error("the thread that measures deadlines could not be started: {0}")]
    Ticker(#[from] std::io::Error),
}

/// Compiles and runs policies. One per process; cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) slots: Arc<Slots>,
    pub(crate) options: EngineOptions,
    allocation: Allocation,
    compiler: Compiler,
    cache: Option<Arc<Cache>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("options", &self.options).field("allocation", &self.allocation).finish_non_exhaustive()
    }
}

impl Engine {
    /// Makes the engine and starts the thread that measures deadlines; the thread ends with the engine's last clone.
    ///
    /// # Errors
    /// When wasmtime doesn't support this machine or no thread can be started.
    pub fn new(options: EngineOptions) -> Result<Self, EngineError> {
        let slots = options.max_concurrent_calls.get();
        let counts = options.count_instructions;
        let (wasmtime, allocation) = match wasmtime::Engine::new(&config(Some(slots), counts)) {
            Ok(engine) => (engine, Allocation::Pooled),
            Err(error) => {
                tracing::warn!(%error, slots, "no pool of memory for policies; each call asks the system for it, which is slower");
                let engine =
                    wasmtime::Engine::new(&config(None, counts)).map_err(|error| EngineError::Wasmtime(format!("{error:#}")))?;
                (engine, Allocation::OnDemand)
            }
        };
        tick(&wasmtime)?;
        let cache = options.cache.clone().and_then(|cache| {
            let folder = cache.folder.clone();
            let opened = Cache::open(cache);
            let failed = |error: &std::io::Error| tracing::warn!(folder = %folder.display(), %error, "compiled code is not kept");
            opened.inspect_err(failed).ok().map(Arc::new)
        });
        Ok(Self { wasmtime, slots: Arc::new(Slots::new(slots)), options, allocation, compiler: Compiler::default(), cache })
    }

    /// How memory for guests is found.
    pub fn allocation(&self) -> Allocation {
        self.allocation
    }

    /// Takes the code of an accepted component from the cache, or compiles it and keeps it there.
    pub(crate) fn compile(&self, bytes: &[u8], digest: &str) -> Result<wasmtime::component::Component, CompileError> {
        if let Some(component) = self.cache.as_ref().and_then(|cache| cache.load(&self.wasmtime, digest)) {
            return Ok(component);
        }
        complexity::check(bytes).map_err(CompileError::Failed)?;
        let component = self.compiler.compile(&self.wasmtime, bytes, digest, self.options.compile_timeout)?;
        if let Some(cache) = &self.cache {
            cache.store(&self.wasmtime, digest, &component);
        }
        Ok(component)
    }
}

/// Engine settings. Whatever policies don't need is off: it is authority, or code that advisories are written about.
pub(crate) fn config(pool: Option<usize>, count_instructions: bool) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .epoch_interruption(true)
        .consume_fuel(count_instructions)
        // The same input gives the same answer on every machine.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_threads(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .gc_support(false)
        .concurrency_support(false)
        .max_wasm_stack(MAX_STACK_BYTES)
        .wasm_backtrace_max_frames(NonZeroUsize::new(8));
    if let Some(slots) = pool {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(slots)));
    }
    config
}

/// Room for `slots` calls. Every memory reserves 4 GiB of address space, so that bounds checks can be left to the hardware.
fn pooling(slots: usize) -> PoolingAllocationConfig {
    let slots = u32::try_from(slots).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(MAX_CORE_INSTANCES))
        .total_memories(slots.saturating_mul(MAX_MEMORIES))
        .total_tables(slots.saturating_mul(MAX_TABLES))
        .max_memory_size(MAX_MEMORY_BYTES)
        .linear_memory_keep_resident(1 << 20)
        .max_core_instances_per_component(MAX_CORE_INSTANCES)
        .max_memories_per_component(MAX_MEMORIES)
        .max_tables_per_component(MAX_TABLES)
        .max_component_instance_size(4 << 20)
        .max_core_instance_size(4 << 20)
        .max_unused_warm_slots(slots / 2);
    pool
}

/// A plain thread that sleeps a fixed time: an async interval catches up in bursts, which would end calls early.
fn tick(engine: &wasmtime::Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    thread::Builder::new().name("policy-epochs".into()).spawn(move || {
        loop {
            thread::sleep(TICK);
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    })?;
    Ok(())
}
