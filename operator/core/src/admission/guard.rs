//! Pod (anti-)affinity that a pod gets when it is admitted.
//!
//! Upstream keeps an exclusive domain by terms on the pods that have it to themselves, and because anti-affinity works both ways, those
//! terms keep everybody else out too. Muster finds a place for such groups itself, so their pods need no terms; two kinds remain:
//!
//! - *Keeping out*, always: a pod that does not ask for a domain goes where the scheduler likes, and that may not be the spare room of a
//!   domain that others have for themselves. It keeps away from their pods, by the names of their sets.
//! - *Upstream's own terms* on pods that do ask: where Kueue decides when a set runs and so Muster doesn't place it, and on all of them
//!   with [`Mode::Affinity`], for clusters in which somebody beside Muster binds or makes pods of groups.
//!
//! A term can't be added to a pod that is there already. A pod that was admitted before the first set asked for a domain, and is not
//! bound yet, therefore keeps out only of domains whose pods carry terms themselves.

use std::collections::BTreeMap;

use muster_api::LeaderWorkerSet;
use muster_api::names::{annotation, label};
use serde_json::{Map, Value, json};

use super::pod::{AdmissionError, PodView, child, list};
use crate::cluster::Scope;
use crate::kueue;

/// The label by which every namespace can be selected.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// Whether pods whose groups Muster places carry upstream's terms as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They carry none: Muster alone keeps their domains.
    #[default]
    None,
    /// They do, so that the scheduler keeps their domains too.
    Affinity,
}

/// How the operator was set up to guard domains.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Who carries upstream's terms.
    pub mode: Mode,
    /// Whose groups an exclusive domain keeps out.
    pub scope: Scope,
}

/// The node labels whose domains are wanted for one group, or for one subgroup, alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// For each group.
    pub groups: Option<String>,
    /// For each subgroup.
    pub subgroups: Option<String>,
}

impl Wish {
    /// What a set wants that it has not left to Kueue: where Kueue chooses the nodes, domains may be shared.
    #[must_use]
    pub fn of(set: &LeaderWorkerSet) -> Self {
        let wanted = |key: &str| set.annotation(key).filter(|level| !level.is_empty()).map(str::to_owned);
        let divided = set.sub_group_size().is_some();
        Self {
            groups: wanted(annotation::EXCLUSIVE_TOPOLOGY).filter(|_| !kueue::chooses_for_groups(set)),
            subgroups: wanted(annotation::SUBGROUP_EXCLUSIVE_TOPOLOGY).filter(|_| divided && !kueue::chooses_for_subgroups(set)),
        }
    }

    /// What a pod's annotations, which are its template's, say of it.
    fn of_pod(pod: &Value) -> Self {
        let wanted = |key: &str| annotation_of(pod, key).filter(|level| !level.is_empty()).map(str::to_owned);
        Self { groups: wanted(annotation::EXCLUSIVE_TOPOLOGY), subgroups: wanted(annotation::SUBGROUP_EXCLUSIVE_TOPOLOGY) }
    }

    /// Whether nothing is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn annotation_of<'a>(pod: &'a Value, key: &str) -> Option<&'a str> {
    pod.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

/// All sets that want domains for themselves, by namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keepers(BTreeMap<String, BTreeMap<String, Wish>>);

impl Keepers {
    /// What is known of one set.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Wish> {
        self.0.get(namespace)?.get(name)
    }

    /// Notes what a set wants now; an empty wish makes it forgotten.
    pub fn put(&mut self, namespace: &str, name: &str, wish: Wish) {
        if !wish.is_empty() {
            self.0.entry(namespace.to_owned()).or_default().insert(name.to_owned(), wish);
        } else if let Some(there) = self.0.get_mut(namespace) {
            there.remove(name);
            if there.is_empty() {
                self.0.remove(namespace);
            }
        }
    }

    /// One term for each label and each list of names, against the sets that want domains of it; never against the pod's own set.
    fn terms(&self, scope: Scope, own: (&str, &str), kind: Kind) -> Vec<Value> {
        let (namespace, name) = own;
        let in_scope = self.0.iter().filter(|(there, _)| scope == Scope::Cluster || *there == namespace);
        let mut against: BTreeMap<(&str, Vec<&str>), Vec<&str>> = BTreeMap::new();
        for (there, sets) in in_scope {
            let others = sets.iter().filter(|(other, _)| there != namespace || *other != name);
            let mut named: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for (key, other) in others.filter_map(|(other, wish)| Some((kind.of(wish)?, other))) {
                named.entry(key).or_default().push(other);
            }
            named.into_iter().for_each(|(key, names)| against.entry((key, names)).or_default().push(there));
        }
        let term = |((key, names), namespaces): ((&str, Vec<&str>), Vec<&str>)| {
            let mut term = json!({
                "labelSelector": { "matchExpressions": [
                    { "key": label::SET_NAME, "operator": "In", "values": names },
                    { "key": kind.label(), "operator": "Exists" },
                ] },
                "topologyKey": key,
            });
            // Without a list of namespaces a term speaks of the pod's own.
            if namespaces != [namespace] {
                term["namespaces"] = json!(namespaces);
            }
            term
        };
        against.into_iter().map(term).collect()
    }
}

/// Of whom a domain is to be free.
#[derive(Clone, Copy)]
enum Kind {
    Groups,
    Subgroups,
}

impl Kind {
    fn of(self, wish: &Wish) -> Option<&str> {
        match self {
            Self::Groups => wish.groups.as_deref(),
            Self::Subgroups => wish.subgroups.as_deref(),
        }
    }

    /// The label whose values tell one from another.
    fn label(self) -> &'static str {
        match self {
            Self::Groups => label::GROUP_KEY,
            Self::Subgroups => label::SUBGROUP_KEY,
        }
    }
}

/// The terms that one pod gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Whether upstream's terms see other namespaces.
    everywhere: bool,
    /// Upstream's terms are for these.
    own: Wish,
    /// Terms that keep the pod out of domains of groups.
    groups: Vec<Value>,
    /// Terms that keep it, if it is in a subgroup, out of domains of subgroups.
    subgroups: Vec<Value>,
}

impl Guard {
    /// What a pod of the set called `name` gets. `set` is that set; `None` when it is gone, and its pods will be soon.
    ///
    /// The pods of a set that Muster keeps apart itself get nothing but upstream's terms, if those are wanted. Which domains they are for
    /// stands on the pod, as with upstream, so that members of one group agree even when the set's annotation changes.
    #[must_use]
    pub fn of(pod: &Value, own: (&str, &str), set: Option<&LeaderWorkerSet>, keepers: &Keepers, rules: Rules) -> Self {
        let wish = set.map(Wish::of).unwrap_or_default();
        let queued = match set {
            Some(set) => set.label(label::KUEUE_QUEUE).is_some(),
            None => pod.pointer("/metadata/labels").is_some_and(|labels| labels.get(label::KUEUE_QUEUE).is_some()),
        };
        let said = Wish::of_pod(pod);
        let carried = Wish {
            groups: said.groups.filter(|_| !set.is_some_and(kueue::chooses_for_groups)),
            subgroups: said.subgroups.filter(|_| !set.is_some_and(kueue::chooses_for_subgroups)),
        };
        let wishes = [&wish, &carried].into_iter().any(|wish| !wish.is_empty());
        let placed = wishes && !queued;
        let against = |kind: Kind| {
            let apart = placed || kind.of(&wish).is_some() || kind.of(&carried).is_some();
            if apart { Vec::new() } else { keepers.terms(rules.scope, own, kind) }
        };
        let (groups, subgroups) = (against(Kind::Groups), against(Kind::Subgroups));
        let everywhere = rules.scope == Scope::Cluster;
        let own = if queued || rules.mode == Mode::Affinity { carried } else { Wish::default() };
        Self { everywhere, own, groups, subgroups }
    }
}

/// Gives a pod its terms, behind those of its author. Nothing that is there is changed.
pub(super) fn protect(pod: &mut PodView<'_>, namespace: &str, leader: bool, guard: &Guard) -> Result<(), AdmissionError> {
    let value = |pod: &PodView<'_>, kind: Kind| pod.label(kind.label()).map(str::to_owned);
    let (group, subgroup) = (value(pod, Kind::Groups), value(pod, Kind::Subgroups));
    let elsewhere = guard.everywhere.then_some(namespace);
    if let Some((level, group)) = guard.own.groups.as_deref().zip(group).filter(|_| leader) {
        alone(pod, level, Kind::Groups, &group, elsewhere)?;
    }
    if let Some((level, subgroup)) = guard.own.subgroups.as_deref().zip(subgroup.as_deref()) {
        alone(pod, level, Kind::Subgroups, subgroup, elsewhere)?;
    }
    let subgroups = guard.subgroups.iter().filter(|_| subgroup.is_some());
    for term in guard.groups.iter().chain(subgroups) {
        let terms = required(pod, "podAntiAffinity")?;
        if !terms.contains(term) {
            terms.push(term.clone());
        }
    }
    Ok(())
}

/// Upstream's two terms: with the pods that have the same key, and away from those that have another. As upstream, nothing for a label
/// that the pod has terms of both kinds for. With `elsewhere`, the pod's own namespace, a third one is against all of other namespaces:
/// keys of subgroups are the same for sets of the same name, so a key alone doesn't tell them apart.
fn alone(pod: &mut PodView<'_>, level: &str, kind: Kind, value: &str, elsewhere: Option<&str>) -> Result<(), AdmissionError> {
    if has_term(pod, "podAffinity", level) && has_term(pod, "podAntiAffinity", level) {
        return Ok(());
    }
    let key = kind.label();
    let exists = json!({ "key": key, "operator": "Exists" });
    let term = |expressions: &[Value]| json!({ "labelSelector": { "matchExpressions": expressions }, "topologyKey": level });
    required(pod, "podAffinity")?.push(term(&[json!({ "key": key, "operator": "In", "values": [value] })]));
    let others = json!({ "key": key, "operator": "NotIn", "values": [value] });
    let away = required(pod, "podAntiAffinity")?;
    away.push(term(&[exists.clone(), others]));
    if let Some(own) = elsewhere {
        let mut term = term(&[exists]);
        term["namespaceSelector"] =
            json!({ "matchExpressions": [{ "key": NAMESPACE_NAME, "operator": "NotIn", "values": [own] }] });
        away.push(term);
    }
    Ok(())
}

fn has_term(pod: &mut PodView<'_>, kind: &str, level: &str) -> bool {
    let terms = pod.spec().ok().and_then(|spec| spec.get("affinity")?.get(kind)?.get(REQUIRED)?.as_array());
    terms.is_some_and(|terms| terms.iter().any(|term| term.get("topologyKey").and_then(Value::as_str) == Some(level)))
}

/// The pod's required terms of one kind, made if there are none.
fn required<'a>(pod: &'a mut PodView<'_>, kind: &str) -> Result<&'a mut Vec<Value>, AdmissionError> {
    fn terms<'a>(spec: &'a mut Map<String, Value>, kind: &str) -> Option<&'a mut Vec<Value>> {
        list(child(child(spec, "affinity")?, kind)?, REQUIRED)
    }
    terms(pod.spec()?, kind).ok_or(AdmissionError::Malformed { field: "spec.affinity", expected: "an object of lists" })
}
