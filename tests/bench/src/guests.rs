//! Policies that read whole columns, and their native twins: the same choice from the same columns, without the sandbox.

use muster_core::cluster::Snapshot;
use muster_core::placement::{Answer, Decision, DomainId, LevelId, Place, Reason, Request, ShapeId};

/// The level at which units are placed, among those of [`crate::fleet::view`].
const RACKS: LevelId = LevelId(1);
/// The workers' shape.
const WORKERS: ShapeId = ShapeId(1);

/// Which columns the choice is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Columns {
    /// Room by domain.
    Domains,
    /// Room by node and the domain of each node, added up by the policy.
    Nodes,
}

const PLACE: &str = include_str!("columns.wat");

const IMPORTS: &str = r#"
  (import "muster:policy/cluster@0.1.0" "[method]snapshot.domain-count" (func $domain-count (param i32 i32) (result i32)))
  (import "muster:policy/cluster@0.1.0" "[method]snapshot.domain-holders" (func $domain-holders (param i32 i32 i32)))"#;

/// Room of each domain, from the column that says so.
const BY_DOMAIN: &str = r#"
  (func $room-of-domains (param $view i32) (param $domains i32) (result i32)
    (call $domain-fit (local.get $view) (i32.const 1) (i32.const 1) (i32.const 1024))
    (i32.load (i32.const 1024)))"#;

const BY_DOMAIN_IMPORTS: &str =
    r#"(import "muster:policy/cluster@0.1.0" "[method]snapshot.domain-fit" (func $domain-fit (param i32 i32 i32 i32)))"#;

/// Room of each domain, added up over its nodes.
const BY_NODE: &str = r#"
  (func $room-of-domains (param $view i32) (param $domains i32) (result i32)
    (local $of i32) (local $fit i32) (local $end i32) (local $sums i32) (local $at i32)
    (call $node-domains (local.get $view) (i32.const 1) (i32.const 1024))
    (local.set $of (i32.load (i32.const 1024)))
    (local.set $end (i32.add (local.get $of) (i32.shl (i32.load (i32.const 1028)) (i32.const 2))))
    (call $node-fit (local.get $view) (i32.const 1) (i32.const 1024))
    (local.set $fit (i32.load (i32.const 1024)))
    (local.set $sums (global.get $free))
    (global.set $free (i32.add (global.get $free) (i32.shl (local.get $domains) (i32.const 2))))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $of) (local.get $end)))
        (if (i32.lt_u (i32.load (local.get $of)) (local.get $domains))
          (then
            (local.set $at (i32.add (local.get $sums) (i32.shl (i32.load (local.get $of)) (i32.const 2))))
            (i32.store (local.get $at) (i32.add (i32.load (local.get $at)) (i32.load (local.get $fit))))))
        (local.set $of (i32.add (local.get $of) (i32.const 4)))
        (local.set $fit (i32.add (local.get $fit) (i32.const 4)))
        (br $next)))
    (local.get $sums))"#;

const BY_NODE_IMPORTS: &str = r#"
  (import "muster:policy/cluster@0.1.0" "[method]snapshot.node-domains" (func $node-domains (param i32 i32 i32)))
  (import "muster:policy/cluster@0.1.0" "[method]snapshot.node-fit" (func $node-fit (param i32 i32 i32)))"#;

/// The component.
pub(crate) fn component(columns: Columns) -> Vec<u8> {
    let (imports, room) = match columns {
        Columns::Domains => (BY_DOMAIN_IMPORTS, BY_DOMAIN),
        Columns::Nodes => (BY_NODE_IMPORTS, BY_NODE),
    };
    muster_guests::placement(&format!("{IMPORTS}{imports}"), &format!("{room}{PLACE}"))
}

/// What the component answers, without it.
pub(crate) fn twin(columns: Columns, view: &Snapshot, request: &Request) -> Vec<Answer> {
    let fit: Vec<u32> = match columns {
        Columns::Domains => view.domain_fit(RACKS, WORKERS).to_vec(),
        Columns::Nodes => {
            let mut sums = vec![0; view.domain_count(RACKS) as usize];
            for (domain, slots) in view.node_domains(RACKS).iter().zip(view.node_fit(WORKERS).iter()) {
                if let Some(sum) = sums.get_mut(*domain as usize) {
                    *sum += slots;
                }
            }
            sums
        }
    };
    let mut held = view.domain_holders(RACKS).to_vec();
    let each = request.units.iter().map(|unit| {
        let free = (0_u32..).zip(&fit).filter(|(domain, room)| held[*domain as usize] == 0 && **room >= unit.size());
        let best = free.min_by_key(|(domain, room)| (**room, *domain)).map(|(domain, _)| domain);
        if let Some(best) = best {
            held[best as usize] = 1;
        }
        let place = Place { level: RACKS, domain: best.map_or(DomainId::NONE, DomainId) };
        let reason = Reason { code: "Bestfit".to_owned(), message: "it fits there".to_owned() };
        Answer::new(unit.id, Decision::within(place), reason)
    });
    each.collect()
}
