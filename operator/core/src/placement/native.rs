//! The native placement policy: exclusive, best fit. What the core does when no component is asked.
