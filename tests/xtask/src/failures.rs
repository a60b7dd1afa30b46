//! What failed, found in the log of `cargo test`: whoever reads only what CI prints must see which test it was and what it said.

/// Most lines of all tests' output together.
const SHOWN_LINES: usize = 150;
/// However many tests failed, each of them shows this much.
const FEWEST_LINES: usize = 8;
/// Lines after a panic that no test's output holds.
const LINES_OF_PANIC: usize = 12;

/// A failed test, or a panic of a program that ended without a summary.
#[derive(Debug)]
struct Failure<'a> {
    /// The test program, as cargo names it.
    program: &'a str,
    name: &'a str,
    output: Vec<&'a str>,
}

/// What failed tests printed, shortened, and then their names; `None` when the log has neither failed tests nor panics.
pub(crate) fn shown(log: &str) -> Option<String> {
    let failures = find(log);
    if failures.is_empty() {
        return None;
    }
    let each = (SHOWN_LINES / failures.len()).max(FEWEST_LINES);
    let mut text = String::new();
    for failure in &failures {
        text.push_str(&format!("── {}: {} ──\n", failure.program, failure.name));
        for line in shorten(&failure.output, each) {
            text.push_str(&format!("  {line}\n"));
        }
    }
    // At the end, where whoever sees only the end of it all finds them.
    text.push_str(&format!("{} failed:\n", failures.len()));
    for failure in &failures {
        text.push_str(&format!("  {}: {}\n", failure.program, failure.name));
    }
    Some(text)
}

/// The first and the last lines: how it began, and the panic, which comes last.
fn shorten(lines: &[&str], most: usize) -> Vec<String> {
    let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    if lines.len() <= most {
        return own(lines);
    }
    let (first, last) = (most / 4, most - most / 4 - 1);
    let left_out = format!("… {} lines left out …", lines.len() - first - last);
    [own(&lines[..first]), vec![left_out], own(&lines[lines.len() - last..])].concat()
}

fn find(log: &str) -> Vec<Failure<'_>> {
    let mut failures: Vec<Failure<'_>> = Vec::new();
    let mut program = "";
    // Between the line that opens a test's output and the list of names that ends the summary.
    let mut in_output = false;
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            in_output = true;
            failures.push(Failure { program, name, output: Vec::new() });
        } else if line == "failures:" || line.starts_with("test result: ") {
            in_output = false;
        } else if let (true, Some(failure)) = (in_output, failures.last_mut()) {
            failure.output.push(line);
        } else if let Some(named) = program_of(line) {
            program = named;
        } else if line.contains(" panicked at ") {
            let mut output = vec![line];
            while output.len() < LINES_OF_PANIC
                && let Some(next) = lines.next_if(|next| program_of(next).is_none() && *next != "failures:")
            {
                output.push(next);
            }
            failures.push(Failure { program, name: "a panic outside of any test's output", output });
        }
    }
    for failure in &mut failures {
        while failure.output.last().is_some_and(|line| line.trim().is_empty()) {
            failure.output.pop();
        }
    }
    failures
}

/// The program that cargo says it runs now.
fn program_of(line: &str) -> Option<&str> {
    let line = line.trim_start();
    line.strip_prefix("Doc-tests ").or_else(|| line.strip_prefix("Running ")?.split_once(" (").map(|(program, _)| program))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "     Running unittests src/lib.rs (/target/debug/deps/api-1)

running 1 test
test names::are_short ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/faults/main.rs (/target/debug/deps/faults-1)

running 3 tests
test chaos::adds_up ... FAILED
test crash::loses_nothing ... ok
test rollouts::keeps_to_its_budget ... FAILED

failures:

---- chaos::adds_up stdout ----
MUSTER_CHAOS_SEED=7

thread 'chaos::adds_up' (12) panicked at tests/e2e/tests/faults/chaos.rs:180:6:
x1 is neither available nor pending

---- rollouts::keeps_to_its_budget stdout ----
no more than two of six groups may be down


failures:
    chaos::adds_up
    rollouts::keeps_to_its_budget

test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9.00s

error: 1 target failed:
    `-p muster-e2e --test faults`
";

    #[test]
    fn failed_tests_are_named_with_what_they_printed() {
        let expected = "── tests/faults/main.rs: chaos::adds_up ──
  MUSTER_CHAOS_SEED=7
  
  thread 'chaos::adds_up' (12) panicked at tests/e2e/tests/faults/chaos.rs:180:6:
  x1 is neither available nor pending
── tests/faults/main.rs: rollouts::keeps_to_its_budget ──
  no more than two of six groups may be down
2 failed:
  tests/faults/main.rs: chaos::adds_up
  tests/faults/main.rs: rollouts::keeps_to_its_budget
";
        assert_eq!(shown(LOG).unwrap(), expected);
    }

    #[test]
    fn a_log_without_failed_tests_shows_none() {
        assert_eq!(shown("error[E0425]: cannot find value `x` in this scope\n"), None);
        assert_eq!(shown(LOG.split_once("     Running tests/faults").unwrap().0), None);
    }

    #[test]
    fn a_program_that_ended_without_a_summary_shows_its_panic() {
        let log = "     Running tests/gang/main.rs (/target/debug/deps/gang-1)\nthread 'main' (3) panicked at src/a.rs:1:1:\nno port\n\
                   error: test failed, to rerun pass `--test gang`\n";
        let said = shown(log).unwrap();
        assert!(said.ends_with("1 failed:\n  tests/gang/main.rs: a panic outside of any test's output\n"), "{said}");
        assert!(said.contains("  no port\n"), "{said}");
    }

    #[test]
    fn much_output_keeps_its_beginning_and_its_end() {
        let lines: Vec<String> = (1..=100).map(|number| number.to_string()).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(shorten(&lines, 8), ["1", "2", "… 93 lines left out …", "96", "97", "98", "99", "100"]);
        assert_eq!(shorten(&lines[..8], 8), ["1", "2", "3", "4", "5", "6", "7", "8"]);
    }

    #[test]
    fn many_failures_share_the_lines() {
        let outputs: String = (0..10).map(|test| format!("---- t{test} stdout ----\n{}", "line\n".repeat(90))).collect();
        let said = shown(&outputs).unwrap();
        assert_eq!(said.lines().filter(|line| line.trim() == "line").count(), 10 * 14);
        assert!(said.contains(": t9\n"), "{said}");
    }
}
