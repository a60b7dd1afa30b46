//! Compiling, so that nobody notices: on threads that make way for all others, few at a time, and not for ever.
//!
//! A component that takes very long to compile is no rarity for somebody who wants it so. A thread can't be ended from outside;
//! what is given up on goes on until it is done, with what is left of the machine, and counts as one of the few.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
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
}

#[derive(Debug, Default)]
struct Running {
    count: Mutex<usize>,
    ended: Condvar,
}

impl Compiler {
    /// Compiles on threads of its own, and gives up after `limit`: waiting for them, and waiting for their turn.
    pub(crate) fn compile(&self, engine: &wasmtime::Engine, bytes: &[u8], limit: Duration) -> Result<Component, CompileError> {
        let turn = Turn::take(&self.running, limit).ok_or(CompileError::Busy)?;
        let (sender, receiver) = sync_channel(1);
        let (engine, bytes) = (engine.clone(), bytes.to_vec());
        thread::Builder::new()
            .name("policy-compile".into())
            .spawn(move || {
                let compiled = in_the_background(|| Component::from_binary(&engine, &bytes));
                drop(turn);
                // Nobody listens any more if the time limit has passed.
                let _ = sender.send(compiled);
            })
            .map_err(|error| CompileError::Failed(error.to_string()))?;
        match receiver.recv_timeout(limit) {
            Ok(Ok(compiled)) => compiled.map_err(|error| CompileError::Failed(format!("{error:#}"))),
            Ok(Err(error)) => Err(CompileError::Failed(error)),
            Err(RecvTimeoutError::Timeout) => Err(CompileError::Timeout(limit)),
            Err(RecvTimeoutError::Disconnected) => Err(CompileError::Failed("the compiler panicked".into())),
        }
    }
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
        let count = running.count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = running.ended.wait_timeout_while(count, patience, |count| *count >= MOST);
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
        *self.0.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
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
        assert!(compiler.compile(&engine, &component, Duration::from_secs(60)).is_ok());
        let given_up: Vec<_> = (0..MOST).map(|_| Turn::take(&compiler.running, Duration::ZERO).unwrap()).collect();
        let busy = compiler.compile(&engine, &component, Duration::from_millis(1));
        assert!(matches!(busy, Err(CompileError::Busy)), "{busy:?}");
        drop(given_up);
        assert!(compiler.compile(&engine, &component, Duration::from_secs(60)).is_ok());
    }

    #[test]
    fn compiling_makes_way_for_everything_else() {
        let here = rustix::process::getpriority_process(None).unwrap();
        let there = in_the_background(|| rustix::process::getpriority_process(None).unwrap()).unwrap();
        assert_eq!(there, (here + POLITENESS).min(19));
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), here);
    }
}
