//! `placement.guard: Affinity`: exclusive groups that Muster places and the scheduler keeps, by upstream's terms.

mod terms;
