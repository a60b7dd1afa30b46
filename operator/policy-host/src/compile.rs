//! Compiling, so that nobody notices: on threads that make way for all others, few at a time, and not for ever.
//!
//! A component that takes very long to compile is no rarity for somebody who wants it so. A thread can't be ended from outside;
//! what is given up on goes on until it is done, with what is left of the machine, and counts as one of the few. On a busy machine
//! that may be a good component that was merely late, so what comes of it is kept for whoever asks again.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use wasmtime::component::Component;

/// How many components are compiled at the same time, those that were given up on included.
const MOST: usize = 4;
/// How much less time compiling gets than everything else: the steps of `nice`.
const POLITENESS: i32 = 5;

/// Why a component was not compiled.
#[derive(Debug)]
pub(crate) enum CompileError {
    Timeout(Duration),
    Busy,
    Failed(String),
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Compiler {
    running: Arc<Running>,
    /// By digest: what is being compiled, or was done after everybody had given up.
    work: Arc<Mutex<HashMap<String, Arc<Work>>>>,
}

#[derive(Debug, Default)]
struct Running {
    count: Mutex<usize>,
    ended: Condvar,
}

/// One component on its way.
#[derive(Debug, Default)]
struct Work {
    result: Mutex<Option<Result<Component, String>>>,
    done: Condvar,
}

impl Work {
    fn finish(&self, result: Result<Component, String>) {
        *lock(&self.result) = Some(result);
        self.done.notify_all();
    }

    fn is_done(&self) -> bool {
        lock(&self.result).is_some()
    }

    fn await_for(&self, limit: Duration) -> Option<Result<Component, String>> {
        let waited = self.done.wait_timeout_while(lock(&self.result), limit, |result| result.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

impl Compiler {
    /// Compiles on threads of its own, and gives up after `limit`: waiting for them, and waiting for their turn. Whoever asks again
    /// for what was given up on goes on waiting for the same work, or gets what has become of it.
    pub(crate) fn compile(
        &self,
        engine: &wasmtime::Engine,
        bytes: &[u8],
        digest: &str,
        limit: Duration,
    ) -> Result<Component, CompileError> {
        let known = lock(&self.work).get(digest).cloned();
        let work = match known {
            Some(work) => work,
            None => self.begin(engine, bytes, digest, limit)?,
        };
        let result = work.await_for(limit).ok_or(CompileError::Timeout(limit))?;
        lock(&self.work).remove(digest);
        result.map_err(CompileError::Failed)
    }

    /// Begins to compile, once there is a turn for it.
    fn begin(&self, engine: &wasmtime::Engine, bytes: &[u8], digest: &str, limit: Duration) -> Result<Arc<Work>, CompileError> {
        let turn = Turn::take(&self.running, limit).ok_or(CompileError::Busy)?;
        let work = Arc::new(Work::default());
        {
            let mut all = lock(&self.work);
            if let Some(begun) = all.get(digest) {
                return Ok(begun.clone());
            }
            if all.len() > MOST {
                // Nobody has come back for these.
                all.retain(|_, work| !work.is_done());
            }
            all.insert(digest.to_owned(), work.clone());
        }
        let (engine, bytes, going) = (engine.clone(), bytes.to_vec(), Finishes(work.clone()));
        let spawned = thread::Builder::new().name("policy-compile".into()).spawn(move || {
            let compiled = in_the_background(|| Component::from_binary(&engine, &bytes));
            drop(turn);
            going.0.finish(compiled.and_then(|compiled| compiled.map_err(|error| format!("{error:#}"))));
        });
        if let Err(error) = spawned {
            lock(&self.work).remove(digest);
            return Err(CompileError::Failed(error.to_string()));
        }
        Ok(work)
    }
}

/// Finishes the work also when the compiler panics.
struct Finishes(Arc<Work>);

impl Drop for Finishes {
    fn drop(&mut self) {
        if !self.0.is_done() {
            self.0.finish(Err("the compiler panicked".into()));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the compiler, which spreads its work over the threads of the pool that it is in.
///
/// A pool for each: in one for all, work that never ends would leave no thread to the next component.
fn in_the_background<T: Send>(compile: impl FnOnce() -> T + Send) -> Result<T, String> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let polite = |_| {
        // On Linux this is about the thread, not the process. Where it is not possible compiling is merely as fast as the rest.
        let _ = rustix::process::nice(POLITENESS);
    };
    let name = |position| format!("policy-compile-{position}");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(name).start_handler(polite).build();
    Ok(pool.map_err(|error| error.to_string())?.install(compile))
}

/// One of the few that compile. It counts for as long as its thread lives.
struct Turn(Arc<Running>);

impl Turn {
    fn take(running: &Arc<Running>, patience: Duration) -> Option<Self> {
        let waited = running.ended.wait_timeout_while(lock(&running.count), patience, |count| *count >= MOST);
        let (mut count, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            return None;
        }
        *count += 1;
        Some(Self(running.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *lock(&self.0.count) -= 1;
        self.0.ended.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_a_few_compile_at_a_time_and_the_next_waits_for_its_turn() {
        let running = Arc::new(Running::default());
        let mut turns: Vec<_> = (0..MOST).map(|_| Turn::take(&running, Duration::ZERO).unwrap()).collect();
        assert!(Turn::take(&running, Duration::from_millis(1)).is_none());
        thread::scope(|scope| {
            let next = scope.spawn(|| Turn::take(&running, Duration::from_secs(60)).is_some());
            turns.pop();
            assert!(next.join().unwrap());
        });
    }

    #[test]
    fn what_is_given_up_on_still_counts() {
        let compiler = Compiler::default();
        let engine = wasmtime::Engine::default();
        let component = wat::parse_str("(component)").unwrap();
        assert!(compiler.compile(&engine, &component, "one", Duration::from_secs(60)).is_ok());
        let given_up: Vec<_> = (0..MOST).map(|_| Turn::take(&compiler.running, Duration::ZERO).unwrap()).collect();
        let busy = compiler.compile(&engine, &component, "two", Duration::from_millis(1));
        assert!(matches!(busy, Err(CompileError::Busy)), "{busy:?}");
        drop(given_up);
        assert!(compiler.compile(&engine, &component, "two", Duration::from_secs(60)).is_ok());
    }

    #[test]
    fn what_was_given_up_on_is_not_compiled_twice_and_comes_late() {
        let compiler = Compiler::default();
        let engine = wasmtime::Engine::default();
        let component = wat::parse_str("(component)").unwrap();
        let late = compiler.compile(&engine, &component, "slow", Duration::ZERO);
        assert!(matches!(late, Err(CompileError::Timeout(_))), "{late:?}");
        // These bytes are never looked at: the work that was begun is for the same digest.
        assert!(compiler.compile(&engine, b"nonsense", "slow", Duration::from_secs(60)).is_ok());
        // And it is not kept for ever.
        assert!(compiler.compile(&engine, b"nonsense", "slow", Duration::from_secs(60)).is_err());
    }

    #[test]
    fn compiling_makes_way_for_everything_else() {
        let here = rustix::process::getpriority_process(None).unwrap();
        let there = in_the_background(|| rustix::process::getpriority_process(None).unwrap()).unwrap();
        assert_eq!(there, (here + POLITENESS).min(19));
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), here);
    }
}
