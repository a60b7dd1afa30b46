use rstest::rstest;

use super::{admit, annotate, label, leader, worker};

// printf set-1/0 | sha1sum, and so on
const KEYS: [&str; 5] = [
    "acf996d9c0af2aa5c33219fab69d4cbdaecc06e1",
    "9ba22ca4db1a3f3759e1ce41da7bd0c7175a7c3b",
    "888f83f1f93d994f0adc2a6b8b43ed3faec93306",
    "9e4d2bd0ae433791cb04dca24fe7041e94e82619",
    "9ccf0d0e04a4c70616a18e6aa2815c1881baaef9",
];

#[rstest]
#[case::even("4", "2", "LeaderWorker", &[Some("0"), Some("0"), Some("1"), Some("1")])]
#[case::leader_is_one_member_more("5", "2", "LeaderWorker", &[Some("0"), Some("0"), Some("0"), Some("1"), Some("1")])]
#[case::one_each("3", "1", "LeaderWorker", &[Some("0"), Some("1"), Some("2")])]
#[case::the_whole_group("4", "4", "LeaderWorker", &[Some("0"), Some("0"), Some("0"), Some("0")])]
#[case::all_workers("4", "3", "LeaderWorker", &[Some("0"), Some("0"), Some("0"), Some("0")])]
#[case::a_leader_alone("1", "1", "LeaderWorker", &[Some("0")])]
#[case::leader_excluded("5", "2", "LeaderExcluded", &[None, Some("0"), Some("0"), Some("1"), Some("1")])]
#[case::leader_excluded_one_each("3", "1", "LeaderExcluded", &[None, Some("1"), Some("2")])]
#[case::leader_excluded_all_workers("5", "4", "LeaderExcluded", &[None, Some("0"), Some("0"), Some("0"), Some("0")])]
fn ranks_fall_into_subgroups(#[case] size: &str, #[case] subgroup: &str, #[case] kind: &str, #[case] expected: &[Option<&str>]) {
    for (rank, index) in expected.iter().enumerate() {
        let mut pod = if rank == 0 { leader("set-1") } else { worker(&format!("set-1-{rank}")) };
        annotate(&mut pod, "size", size);
        annotate(&mut pod, "subgroup-size", subgroup);
        annotate(&mut pod, "subgroup-policy-type", kind);
        admit(&mut pod).unwrap();
        assert_eq!(label(&pod, "subgroup-index"), *index, "rank {rank}");
        let key = index.map(|index| KEYS[index.parse::<usize>().unwrap()]);
        assert_eq!(label(&pod, "subgroup-key"), key, "rank {rank}");
    }
}

#[test]
fn a_subgroup_that_a_label_already_names_stays() {
    for mut pod in [leader("set-1"), worker("set-1-2")] {
        annotate(&mut pod, "subgroup-size", "2");
        pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/subgroup-index"] = "9".into();
        admit(&mut pod).unwrap();
        assert_eq!((label(&pod, "subgroup-index"), label(&pod, "subgroup-key")), (Some("9"), None));
    }
}

#[test]
fn the_smallest_number_that_a_size_can_say_divides_like_any_other() {
    let mut pod = worker("set-1-3");
    annotate(&mut pod, "size", "-2147483648");
    annotate(&mut pod, "subgroup-size", "2");
    admit(&mut pod).unwrap();
    assert_eq!(label(&pod, "subgroup-index"), Some("1"));
}
