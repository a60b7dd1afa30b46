//! The policies of a scenario: what no type says about its chain, and the settings of the one under test.

use serde_json::Value;

use super::{Fault, Link, Scenario};

impl Scenario {
    /// Settings that the policy under test takes: the scenario's, else those of its first place in the chain.
    pub fn own_settings(&self) -> &Value {
        let under_test = || self.chain.iter().map(|link| &link.0).find(|link| link.under_test);
        if self.settings.is_null() { under_test().map_or(&self.settings, |link| &link.settings) } else { &self.settings }
    }
}

/// Each link names one policy, the one under test is among them, and only placement policies are chained.
pub(super) fn check(scenario: &Scenario) -> Result<(), Fault> {
    if scenario.chain.is_empty() {
        return Ok(());
    }
    if scenario.startup.is_some() {
        return Err(Fault::new("chain", "only placement policies are chained; leave it out of a scenario with `startup`"));
    }
    for (position, link) in scenario.chain.iter().enumerate() {
        let Link { built_in, component, under_test, .. } = &link.0;
        let named = usize::from(built_in.is_some()) + usize::from(component.is_some()) + usize::from(*under_test);
        if named != 1 {
            let wrong = if named == 0 { "it names no policy" } else { "it names more than one policy" };
            let remedy = "write one of `builtIn: NAME`, `component: FILE` and `underTest: true`";
            return Err(Fault::new(format!("chain[{position}]"), format!("{wrong}; {remedy}")));
        }
    }
    if !scenario.chain.iter().any(|link| link.0.under_test) {
        return Err(Fault::new("chain", "the policy under test is not in it; add `underTest` where it is asked"));
    }
    Ok(())
}
