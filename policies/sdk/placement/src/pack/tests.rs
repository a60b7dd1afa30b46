//! Rules that hold for every packing, over generated clusters, and the room that leaders take.

use std::collections::BTreeMap;

use super::room::{Left, Room, Shapes};
use super::{Chain, Fit, Found, Pack, Step, WHOLE, Want};
use crate::testing::{SLOT, Table, unit, unit_of};
use crate::{Cluster, Demand, Unit};

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.0 >> 33) % u64::from(bound.max(1))).unwrap()
    }
}

fn steps(keys: &[&str]) -> Vec<Step> {
    keys.iter().map(|key| Step { key: (*key).to_owned(), optional: true }).collect()
}

/// Zones of blocks of racks of hosts with one to four slots, some without a rack.
fn generated(numbers: &mut Numbers) -> Table {
    let mut table = Table::new(["zone", "block", "rack", "host"]);
    for block in 0..1 + numbers.below(4) {
        for rack in 0..1 + numbers.below(4) {
            for host in 0..numbers.below(6) {
                let (zone, block) = (format!("z{}", block / 2), format!("b{block}"));
                let rack_name = if numbers.below(9) == 0 { String::new() } else { format!("{block}r{rack}") };
                let host = format!("{block}r{rack}h{host}");
                let slots = u64::from(numbers.below(5));
                table = table.nodes_with(1, [zone.as_str(), &block, &rack_name, &host], &[(SLOT, slots)]);
            }
        }
    }
    table.nodes(1, ["z0", "b0", "b0r0", "spare"])
}

/// Every node's slots are enough for what was put into the domains around it.
fn assert_no_overcommit(table: &Table, pack: &Pack<'_, Table>, found: &[Found]) {
    for rung in 0..pack.chain.rungs.len() {
        let mut taken: BTreeMap<u32, u32> = BTreeMap::new();
        for place in found.iter().flat_map(|found| &found.places).filter(|place| place.rung >= rung) {
            *taken.entry(pack.chain.around(place.rung, place.domain, rung).unwrap()).or_default() += place.pods;
        }
        let room = table.domain_fit(pack.chain.rungs[rung].level.unwrap(), 0);
        for (domain, taken) in taken {
            assert!(
                taken <= room[domain as usize],
                "{taken} pods in {}, which has room for {}",
                pack.named(rung, domain),
                room[domain as usize]
            );
        }
    }
}

/// Blocks of `size` pods with consecutive ranks are inside one domain of the rung.
fn assert_blocks(pack: &Pack<'_, Table>, found: &Found, rung: usize, size: u32) {
    let mut rank = 0;
    let mut homes: BTreeMap<u32, u32> = BTreeMap::new();
    for place in &found.places {
        let home = pack.chain.around(place.rung, place.domain, rung).unwrap();
        for _ in 0..place.pods {
            assert_eq!(
                *homes.entry(rank / size).or_insert(home),
                home,
                "rank {rank} is not with its block: {}",
                pack.in_words(found)
            );
            rank += 1;
        }
    }
}

#[test]
fn no_packing_overcommits_a_domain_or_breaks_a_block_or_loses_a_pod() {
    let mut numbers = Numbers(7);
    let mut packed = 0;
    for round in 0..160 {
        let table = generated(&mut numbers);
        let fit = [Fit::Best, Fit::Least, Fit::Balanced, Fit::PackBusy][round % 4];
        let keys: &[&str] = [&["zone", "block", "rack", "host"][..], &["block", "rack"], &["zone", "rack", "host"]][round % 3];
        let mut pack = Pack::new(&table, &steps(keys), None).unwrap();
        let rungs = pack.chain.rungs.len();
        let mut all = Vec::new();
        for id in 0..6 {
            let block = 1 + numbers.below(4);
            let pods = block * (1 + numbers.below(4));
            let at = numbers.below(u32::try_from(rungs).unwrap()) as usize;
            let mut blocks = vec![0; rungs];
            blocks[at] = if numbers.below(2) == 0 { WHOLE } else { block };
            let unit = unit(id, pods);
            let want = Want { block, ..Want::new(&unit, blocks.clone(), fit) };
            let Some(found) = pack.place(&want, false) else { continue };
            assert_eq!(found.places.iter().map(|place| place.pods).sum::<u32>(), pods, "round {round}");
            assert_blocks(&pack, &found, at, blocks[at].min(pods));
            assert!(pack.decision(&found).is_some());
            all.push(found);
            packed += 1;
        }
        assert_no_overcommit(&table, &pack, &all);
    }
    assert!(packed > 480, "only {packed} units found a place, so the rules were hardly tried");
}

#[test]
fn a_unit_that_fits_an_untouched_domain_is_never_turned_away() {
    let mut numbers = Numbers(11);
    for _ in 0..80 {
        let table = generated(&mut numbers);
        let mut pack = Pack::new(&table, &steps(&["zone", "block", "rack"]), None).unwrap();
        let Some(rack) = pack.chain.rung_of[2] else { continue };
        let most = table.domain_fit(pack.chain.rungs[rack].level.unwrap(), 0).into_iter().max().unwrap();
        if most == 0 {
            continue;
        }
        let unit = unit(0, most);
        let mut blocks = vec![0; pack.chain.rungs.len()];
        blocks[rack] = WHOLE;
        assert!(pack.place(&Want::new(&unit, blocks, Fit::Best), false).is_some());
    }
}

#[test]
fn exclusive_units_never_share_a_domain() {
    let mut numbers = Numbers(13);
    for _ in 0..60 {
        let table = generated(&mut numbers);
        let mut pack = Pack::new(&table, &steps(&["zone", "host"]), Some(1)).unwrap();
        let block = *pack.alone().first().unwrap();
        let mut taken = Vec::new();
        for id in 0..4 {
            let unit = unit(id, 1 + numbers.below(6));
            let blocks = vec![0; pack.chain.rungs.len()];
            let Some(found) = pack.place(&Want::new(&unit, blocks, Fit::Best), false) else { continue };
            let homes: Vec<_> =
                found.places.iter().filter_map(|place| pack.chain.around(place.rung, place.domain, block)).collect();
            assert!(homes.iter().all(|home| *home == homes[0] && !taken.contains(home)), "{}", pack.in_words(&found));
            taken.push(homes[0]);
        }
    }
}

fn left(table: &Table, unit: &Unit, given: &[Demand]) -> Left {
    let mut shapes = Shapes::default();
    let crew = shapes.crew(table, unit);
    let mut room = Room::new(0);
    if !given.is_empty() {
        room.give(&shapes, 0, given);
    }
    room.left(table, &shapes, &crew)[0]
}

/// A rack of four nodes with 8 GPUs and so many processors; leaders need 16 processors and workers 32 and 8 GPUs.
fn rack(cpus: u64) -> Table {
    let table = Table::new(["rack"]).without_shapes().shape(&[("cpu", 16)], &[]).shape(&[("cpu", 32), ("gpu", 8)], &[]);
    table.nodes_with(4, ["a"], &[("cpu", cpus), ("gpu", 8)])
}

#[test]
fn a_leader_beside_workers_takes_none_of_their_room() {
    assert_eq!(left(&rack(48), &unit(0, 3), &[]), Left { workers: 4, with_leader: 5 });
    // One leader per node is what there is room for; the fifth takes a worker's.
    let leaders = |pods| [Demand { shape: 0, pods }];
    assert_eq!(left(&rack(48), &unit(0, 3), &leaders(3)), Left { workers: 4, with_leader: 5 });
    assert_eq!(left(&rack(48), &unit(0, 3), &leaders(4)), Left { workers: 4, with_leader: 4 });
}

#[test]
fn a_leader_that_fits_only_in_a_workers_place_takes_it() {
    assert_eq!(left(&rack(40), &unit(0, 3), &[]), Left { workers: 4, with_leader: 4 });
    assert_eq!(left(&rack(40), &unit(0, 3), &[Demand { shape: 0, pods: 1 }, Demand { shape: 1, pods: 2 }]).workers, 1);
}

#[test]
fn a_leader_that_fits_no_node_is_no_pod_of_the_unit() {
    assert_eq!(left(&rack(12), &unit(0, 3), &[]), Left { workers: 0, with_leader: 0 });
    let table = Table::new(["rack"]).without_shapes().shape(&[("cpu", 64)], &[]).shape(&[("gpu", 8)], &[]);
    assert_eq!(
        left(&table.nodes_with(4, ["a"], &[("cpu", 8), ("gpu", 8)]), &unit(0, 3), &[]),
        Left { workers: 4, with_leader: 0 }
    );
}

#[test]
fn pods_of_another_revision_count_as_much_as_they_ask_for() {
    let table = Table::new(["rack"]).without_shapes().shape(&[("gpu", 1)], &[]).shape(&[("gpu", 4)], &[]);
    let table = table.nodes_with(2, ["a"], &[("gpu", 8)]);
    let small = unit_of(0, vec![Demand { shape: 0, pods: 2 }]);
    let mut shapes = Shapes::default();
    let crew = shapes.crew(&table, &small);
    shapes.crew(&table, &unit_of(1, vec![Demand { shape: 1, pods: 1 }]));
    let mut room = Room::new(0);
    room.give(&shapes, 0, &[Demand { shape: 1, pods: 2 }]);
    assert_eq!(room.left(&table, &shapes, &crew)[0].workers, 8);
}

#[test]
fn a_leader_that_only_the_index_finds_room_for_is_placed_all_the_same() {
    // 104 processors: seven leaders make 98 of them, which says nothing of the other 6, and leave a worker 84 of its 90.
    let table = Table::new(["rack"]).without_shapes().shape(&[("cpu", 14)], &[]).shape(&[("cpu", 90)], &[]);
    let table = table.nodes_with(2, ["a"], &[("cpu", 104)]);
    let unit = unit(0, 3);
    let mut pack = Pack::new(&table, &steps(&["rack"]), None).unwrap();
    assert_eq!(pack.left(0, &unit), [Left { workers: 2, with_leader: 2 }]);
    assert!(pack.place(&Want::new(&unit, vec![WHOLE], Fit::Best), false).is_some());
    assert!(pack.place(&Want::new(&unit, vec![WHOLE], Fit::Best), false).is_none());
}

#[test]
fn the_chain_leaves_out_what_no_node_carries_and_says_what_does_not_nest() {
    let table = Table::new(["a", "b", "c"]).nodes(1, ["x", "", "1"]).nodes(1, ["y", "", "1"]);
    let chain = Chain::new(&table, &steps(&["a", "b", "c"])).unwrap();
    assert_eq!(chain.rung_of, [Some(0), None, None]);
    assert_eq!(chain.notes, ["level c is left out: no c lies inside one a"]);
    let wrong = [Step { key: "a".to_owned(), optional: true }, Step { key: "c".to_owned(), optional: false }];
    let chain = Chain::new(&table, &wrong).unwrap();
    assert_eq!(chain.rung_of, [None, Some(0)]);
    assert_eq!(chain.notes, ["level a is left out: no c lies inside one a"]);
}

#[test]
fn what_a_domain_took_as_a_whole_may_be_in_any_domain_inside_it() {
    // n0 is in rack b, n1 in no rack, so that three pods get block a as a whole, and may leave rack b nothing.
    let table = Table::new(["block", "rack"]).nodes_with(1, ["a", "b"], &[(SLOT, 2)]).nodes_with(1, ["a", ""], &[(SLOT, 4)]);
    let mut pack = Pack::new(&table, &steps(&["block", "rack"]), None).unwrap();
    let (three, one) = (unit(0, 3), unit(1, 1));
    let found = pack.place(&Want::new(&three, vec![WHOLE], Fit::Best), false).unwrap();
    assert_eq!((found.places[0].rung, found.places[0].pods), (0, 3));
    assert_eq!(pack.place(&Want::new(&one, vec![0, WHOLE], Fit::Best), false), None);
    let found = pack.place(&Want::new(&one, vec![WHOLE], Fit::Best), false).unwrap();
    assert_eq!((found.places[0].rung, found.places[0].domain), (0, table.domain("block", "a")));
}
