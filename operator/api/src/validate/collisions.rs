//! Two sets of one namespace that want objects of the same name: group 1 of `a` and the set `a-1` both want StatefulSet `a-1`.

use crate::field::FieldError;
use crate::leader_worker_set::{LeaderWorkerSet, SubdomainPolicy};
use crate::names;

/// An object that two sets want.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collision {
    /// Kind and name of the object.
    pub object: String,
    /// The set that has a group whose object it would be.
    pub parent: String,
    /// That group.
    pub group: i32,
    /// The set that is called so.
    pub child: String,
}

/// The object that both sets want, if there is one. Sets of different namespaces never do.
pub fn between(one: &LeaderWorkerSet, other: &LeaderWorkerSet) -> Option<Collision> {
    below(one, other).or_else(|| below(other, one))
}

/// The name of the set that could have a group called as this set.
pub fn parent_of(set: &str) -> Option<&str> {
    names::parent_and_ordinal(set).map(|(parent, _)| parent)
}

fn below(parent: &LeaderWorkerSet, child: &LeaderWorkerSet) -> Option<Collision> {
    let name = child.set_name();
    let (owner, group) = names::parent_and_ordinal(name)?;
    // A name with leading zeros is no group's.
    if owner != parent.set_name() || names::leader_pod(owner, group) != name || group >= parent.most_groups() {
        return None;
    }
    let of_its_own = |set: &LeaderWorkerSet| set.subdomain_policy() == SubdomainPolicy::UniquePerReplica;
    // A leader StatefulSet exists whatever the child is like; a worker StatefulSet only where there are workers.
    let object = if parent.size() > 1 {
        "StatefulSet"
    } else if of_its_own(parent) && !of_its_own(child) {
        "Service"
    } else {
        return None;
    };
    Some(Collision { object: format!("{object} {name}"), parent: owner.to_owned(), group, child: name.to_owned() })
}

impl Collision {
    /// Why `set` can't be as it is to be.
    pub fn error(&self, set: &LeaderWorkerSet, is_new: bool) -> FieldError {
        let Self { object, parent, group, child } = self;
        let detail = format!("{object} would belong to group {group} of set {parent} (surge included) and to set {child}");
        if is_new {
            let name = set.set_name();
            return FieldError::invalid("metadata.name", name, format!("{detail}: choose another name"));
        }
        FieldError::invalid(
            "spec.replicas",
            set.replicas(),
            format!("{detail}: keep to {group} groups at most, or delete set {child}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn set(name: &str, replicas: i32, size: i32, policy: &str, surge: i32) -> LeaderWorkerSet {
        let raw = json!({
            "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "metadata": { "name": name },
            "spec": {
                "replicas": replicas,
                "leaderWorkerTemplate": { "size": size, "workerTemplate": {} },
                "networkConfig": { "subdomainPolicy": policy },
                "rolloutStrategy": { "type": "RollingUpdate", "rollingUpdateConfiguration": { "maxSurge": surge } },
            },
        });
        serde_json::from_value(raw).unwrap()
    }

    const SHARED: &str = "Shared";
    const UNIQUE: &str = "UniquePerReplica";

    #[rstest]
    #[case::its_last_group(set("a", 2, 2, SHARED, 0), set("a-1", 1, 1, SHARED, 0), Some("StatefulSet a-1"))]
    #[case::a_surge_group(set("a", 2, 2, SHARED, 1), set("a-2", 1, 1, SHARED, 0), Some("StatefulSet a-2"))]
    #[case::beyond_its_groups(set("a", 2, 2, SHARED, 0), set("a-2", 1, 1, SHARED, 0), None)]
    #[case::without_workers(set("a", 2, 1, SHARED, 0), set("a-1", 1, 2, SHARED, 0), None)]
    #[case::without_workers_but_services(set("a", 2, 1, UNIQUE, 0), set("a-1", 1, 2, SHARED, 0), Some("Service a-1"))]
    #[case::two_levels_apart(set("a", 2, 2, SHARED, 0), set("a-1-1", 1, 2, SHARED, 0), None)]
    #[case::leading_zeros(set("a", 2, 2, SHARED, 0), set("a-01", 1, 2, SHARED, 0), None)]
    #[case::others(set("a", 2, 2, SHARED, 0), set("b", 1, 2, SHARED, 0), None)]
    fn two_sets_collide_where_one_is_called_as_a_group_of_the_other(
        #[case] one: LeaderWorkerSet,
        #[case] other: LeaderWorkerSet,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(between(&one, &other).map(|found| found.object).as_deref(), expected);
        assert_eq!(between(&other, &one).map(|found| found.object).as_deref(), expected);
    }

    #[test]
    fn the_remedy_depends_on_who_comes_later() {
        let (parent, child) = (set("a", 2, 2, SHARED, 0), set("a-1", 1, 1, SHARED, 0));
        let collision = between(&parent, &child).unwrap();
        assert_eq!(
            collision.error(&child, true).to_string(),
            "metadata.name: Invalid value: \"a-1\": StatefulSet a-1 would belong to group 1 of set a (surge included) and to set a-1: \
             choose another name"
        );
        assert_eq!(
            collision.error(&parent, false).to_string(),
            "spec.replicas: Invalid value: 2: StatefulSet a-1 would belong to group 1 of set a (surge included) and to set a-1: \
             keep to 1 groups at most, or delete set a-1"
        );
    }
}
