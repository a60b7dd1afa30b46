//! What comes back from one call of a policy.

use std::time::Duration;

use muster_core::placement::SettingsError;
use wasmtime::{Trap, WasmBacktrace};

use crate::convert;
use crate::store::{Limits, MAX_ANSWER_BYTES, MAX_TABLE_ELEMENTS, MemoryExceeded, QuestionTooLarge, TableExceeded};

/// How loud a log line of a policy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// For authors.
    Debug,
    /// For whoever reads the operator's log.
    Info,
    /// Something that should be looked at.
    Warn,
}

/// One line that a policy wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How loud.
    pub level: LogLevel,
    /// The text, as the policy wrote it.
    pub message: String,
}

/// One call: what it gave, and what it cost.
#[derive(Debug)]
pub struct CallOutcome<T> {
    /// The answers, or why there are none.
    pub result: Result<T, CallError>,
    /// Wall-clock time of the whole call, without waiting for its turn.
    pub duration: Duration,
    /// The part of it that went into making the instance.
    pub instantiate: Duration,
    /// Most linear memory that the call had, in bytes.
    pub peak_memory: usize,
    /// WebAssembly instructions of a call that came to its end, making the instance included: the same for the same question on
    /// every machine. Bytes that are copied or filled by one instruction count as one each. Only from an engine that [counts](crate::EngineOptions::count_instructions).
    pub instructions: Option<u64>,
    /// What the policy wrote to its log, within the budget.
    pub logs: Vec<LogLine>,
    /// Lines past the budget.
    pub logs_dropped: u32,
}

/// Why a call gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The policy found its settings unusable after all.
    #[error("the policy rejects its settings: {}", convert::list(.0))]
    Settings(Vec<SettingsError>),
    /// The cluster lacks something that the policy needs.
    #[error("the policy can't work in this cluster: {0}")]
    Unsupported(String),
    /// The policy reports a fault of its own.
    #[error("the policy failed: {0}")]
    Internal(String),
    /// The guest trapped.
    #[error("the policy trapped: {kind}{}", convert::frames(frames))]
    Trap {
        /// What kind of trap.
        kind: TrapKind,
        /// Innermost functions first, as far as the component names them.
        frames: Vec<String>,
    },
    /// The call took too long.
    #[error("the policy did not answer within {limit:?}; {}", faster(*limit))]
    Deadline {
        /// The time that it had.
        limit: Duration,
    },
    /// The call wanted too much memory.
    #[error("the policy wanted more than its {limit} bytes of memory; {}", smaller(*limit))]
    Memory {
        /// The memory that it had, in bytes.
        limit: usize,
    },
    /// It wanted too large a table of functions.
    #[error("the policy wanted a table of more than {limit} entries")]
    Table {
        /// Entries that one table may have.
        limit: usize,
    },
    /// An answer, or an argument of a host function, was too large to be copied.
    #[error("the policy's answer is larger than {limit} bytes")]
    AnswerTooLarge {
        /// What may be copied, in bytes.
        limit: usize,
    },
    /// It answered more often than it was asked.
    #[error("the policy gave {answers} answers to {asked} questions; each may be answered once")]
    TooManyAnswers {
        /// How many answers it gave.
        answers: usize,
        /// How many units or groups it was asked about.
        asked: usize,
    },
    /// It asked the host for something that takes too long to find out.
    #[error(
        "the policy asked for domains with room for {pods} pods of other shapes than the most frequent, and at most {limit} are possible"
    )]
    QuestionTooLarge {
        /// Pods that are looked for one by one.
        pods: u32,
        /// How many there may be.
        limit: u32,
    },
    /// It was not asked: it is slow, and enough of its calls run or wait. Asking again later is all there is to do.
    #[error("the policy is slow, and is being asked about other sets")]
    Busy,
    /// The answer breaks the calling convention of components: a bad pointer, text that is not UTF-8.
    #[error("the policy's answer can't be read: {0}")]
    AnswerMalformed(String),
    /// The host could not make an instance. Not the policy's doing.
    #[error("the policy could not be started: {0}")]
    Host(String),
}

/// The remedy for a policy that takes longer than `limit`.
fn faster(limit: Duration) -> String {
    let most = Limits::DEADLINE_RANGE.1;
    if limit < most {
        format!("make it faster, or raise spec.limits.deadline (to at most {most:?})")
    } else {
        "make it faster: no call may take longer".to_owned()
    }
}

/// The remedy for a policy that wants more than `limit` bytes.
fn smaller(limit: usize) -> String {
    let most = Limits::MAX_MEMORY;
    if limit < most {
        format!("make it smaller, or raise spec.limits.memory (to at most {}Mi)", most >> 20)
    } else {
        "make it smaller: no call may have more".to_owned()
    }
}

impl CallError {
    /// A stable label for metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Settings(_) => "settings",
            Self::Unsupported(_) => "unsupported",
            Self::Internal(_) => "internal",
            Self::Trap { .. } => "trap",
            Self::Deadline { .. } => "deadline",
            Self::Memory { .. } => "memory",
            Self::Table { .. } => "table",
            Self::AnswerTooLarge { .. } => "answer-too-large",
            Self::TooManyAnswers { .. } => "too-many-answers",
            Self::QuestionTooLarge { .. } => "question-too-large",
            Self::Busy => "busy",
            Self::AnswerMalformed(_) => "answer-malformed",
            Self::Host(_) => "host",
        }
    }

    /// Whether it is the policy's fault and counts for its [`Breaker`](crate::Breaker). Settings and clusters that don't suit
    /// a policy are said in conditions, and the host's trouble is the host's.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Settings(_) | Self::Unsupported(_) | Self::Host(_) | Self::Busy => false,
            Self::Internal(_)
            | Self::Trap { .. }
            | Self::Deadline { .. }
            | Self::Memory { .. }
            | Self::Table { .. }
            | Self::AnswerTooLarge { .. }
            | Self::TooManyAnswers { .. }
            | Self::QuestionTooLarge { .. }
            | Self::AnswerMalformed(_) => true,
        }
    }

    /// Sorts an error of the engine by its type; texts of the engine are never looked into.
    pub(crate) fn from_engine(error: &wasmtime::Error, limits: Limits, phase: Phase) -> Self {
        if error.is::<MemoryExceeded>() {
            return Self::Memory { limit: limits.memory() };
        }
        if error.is::<TableExceeded>() {
            return Self::Table { limit: MAX_TABLE_ELEMENTS };
        }
        if let Some(QuestionTooLarge { pods, limit }) = error.downcast_ref() {
            return Self::QuestionTooLarge { pods: *pods, limit: *limit };
        }
        match (error.downcast_ref::<Trap>(), phase) {
            (Some(Trap::Interrupt), _) => Self::Deadline { limit: limits.deadline() },
            (Some(trap), _) => Self::Trap { kind: TrapKind::from(*trap), frames: frames(error) },
            (None, Phase::Instantiate) => Self::Host(convert::message(&format!("{error:#}"))),
            (None, Phase::Call) if is_malformed(error) => {
                Self::AnswerMalformed(convert::message(&error.root_cause().to_string()))
            }
            // The engine's error for too much data has a private type. It is the only one that is not a trap, not plain text
            // and not about UTF-8, and `answers.rs` in the tests would notice a change.
            (None, Phase::Call) => Self::AnswerTooLarge { limit: MAX_ANSWER_BYTES },
        }
    }
}

/// Where an error of the engine came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Instantiate,
    Call,
}

/// Errors about the calling convention are plain texts in the engine, except those about UTF-8.
fn is_malformed(error: &wasmtime::Error) -> bool {
    error.is::<&'static str>() || error.is::<String>() || error.is::<std::str::Utf8Error>()
}

fn frames(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let names: Vec<String> = backtrace.frames().iter().filter_map(|frame| frame.func_name().map(convert::demangled)).collect();
    let own = names.iter().position(|name| !convert::is_machinery(name)).unwrap_or(0);
    names.into_iter().skip(own).take(4).collect()
}

/// What kind of trap ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrapKind {
    /// `unreachable`: panics and aborts of most languages end in it.
    Unreachable,
    /// The guest's call stack is used up.
    StackOverflow,
    /// An access outside a memory or a table.
    OutOfBounds,
    /// Division by zero, integer overflow, a number that doesn't convert.
    Arithmetic,
    /// A call through a function table that doesn't fit.
    IndirectCall,
    /// Anything else.
    Other,
}

impl TrapKind {
    /// A stable label for metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::StackOverflow => "stack-overflow",
            Self::OutOfBounds => "out-of-bounds",
            Self::Arithmetic => "arithmetic",
            Self::IndirectCall => "indirect-call",
            Self::Other => "other",
        }
    }
}

impl std::fmt::Display for TrapKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "it panicked or aborted (unreachable)",
            Self::StackOverflow => "its stack overflowed",
            Self::OutOfBounds => "it accessed memory that it does not have",
            Self::Arithmetic => "it divided by zero or overflowed",
            Self::IndirectCall => "it called a function that does not exist",
            Self::Other => "it broke a rule of WebAssembly",
        })
    }
}

impl From<Trap> for TrapKind {
    fn from(trap: Trap) -> Self {
        match trap {
            Trap::UnreachableCodeReached => Self::Unreachable,
            Trap::StackOverflow => Self::StackOverflow,
            Trap::MemoryOutOfBounds | Trap::TableOutOfBounds | Trap::StringOutOfBounds | Trap::ListOutOfBounds => {
                Self::OutOfBounds
            }
            Trap::IntegerOverflow | Trap::IntegerDivisionByZero | Trap::BadConversionToInteger => Self::Arithmetic,
            Trap::IndirectCallToNull | Trap::BadSignature => Self::IndirectCall,
            _ => Self::Other,
        }
    }
}
