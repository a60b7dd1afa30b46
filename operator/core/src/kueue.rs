//! Sets that Kueue queues: what they want of topology, and who sees to it.
//!
//! Kueue decides when the groups of such a set run, so Muster does not place them. Their pods carry upstream's terms
//! ([`crate::admission::guard`]), and members follow their bound leader, so that the scheduler keeps their domains as it does with upstream.
//!
//! Where Kueue knows the cluster's topology (its queue's flavor names one), it can choose the nodes as well. It reads what it is asked for in
//! the set's templates when the set is created, one request for leaders and one for workers, and never admits a set that asks a queue
//! without a topology: so the set's author asks, in Kueue's own annotations, or has them written by
//! [`annotation::KUEUE_TOPOLOGY`]. An exclusive domain is more than Kueue can be asked for: the domain is required, and others may be in it
//! too. Terms that it does not know of would keep pods off the very nodes it chose, so such pods carry none.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use muster_api::LeaderWorkerSet;
use muster_api::names::{annotation, kueue, label};
use muster_api::template::PodTemplate;
use serde_json::{Map, Value};

/// Annotations of pods that belong to one request.
type Request = BTreeMap<&'static str, String>;

/// What the set wants, for its templates.
#[derive(Debug, Default, PartialEq, Eq)]
struct Translation {
    leader: Request,
    worker: Request,
    /// Why subgroups that want domains for themselves are left out.
    without_subgroups: Option<String>,
}

/// Writes what a set in a queue wants of topology into its templates, if it says that Kueue is to be asked, and says what that means;
/// nothing if its author has asked Kueue for something there, or if it wants nothing.
///
/// Only a new set gets it, and one that has it keeps it when it is written without (`old`): a template never changes because of this.
pub fn translate(set: &mut LeaderWorkerSet, old: Option<&LeaderWorkerSet>) -> Option<String> {
    let to_ask = set.annotation(annotation::KUEUE_TOPOLOGY) == Some("true");
    let translation = Translation::of(set).filter(|_| to_ask && !asks(set))?;
    if old.is_some_and(|old| !carries(old, &translation)) {
        return None;
    }
    let templates = &mut set.spec.leader_worker_template;
    if let Some(leader) = &mut templates.leader_template {
        annotate(leader, &translation.leader);
    }
    annotate(&mut templates.worker_template, &translation.worker);
    let left_out =
        |why: String| format!("Kueue is not asked for the domains of subgroups, which the scheduler keeps apart: {why}");
    lost(set).or_else(|| translation.without_subgroups.map(left_out))
}

/// What a set in a queue does not get of the exclusive placement that it asks for, because Kueue chooses its nodes. None for other sets.
pub fn lost(set: &LeaderWorkerSet) -> Option<String> {
    let translation = Translation::of(set)?;
    let wanted = |key: &str| set.annotation(key).filter(|level| !level.is_empty());
    let asked = set.spec.leader_worker_template.worker_template.annotations();
    let mut parts = Vec::new();
    if let Some(level) = wanted(annotation::EXCLUSIVE_TOPOLOGY).filter(|_| chooses_for_groups(set)) {
        parts.push(match asked.get(kueue::REQUIRED_TOPOLOGY) {
            Some(required) => format!("each goes into one domain of {required}, which other groups may share"),
            None => format!("its templates do not ask for domains of {level}, so that a group may be spread over several"),
        });
    }
    if let Some(level) = wanted(annotation::SUBGROUP_EXCLUSIVE_TOPOLOGY).filter(|_| chooses_for_subgroups(set)) {
        parts.push(match (asked.get(kueue::SLICE_REQUIRED_TOPOLOGY), translation.without_subgroups) {
            (Some(required), _) => format!("each subgroup goes into one domain of {required}, which others may share"),
            (None, Some(why)) => format!("subgroups have no domains of {level} of their own: {why}"),
            (None, None) => format!("its templates do not ask for domains of {level} for subgroups"),
        });
    }
    (!parts.is_empty()).then(|| format!("Kueue chooses the nodes of the set's groups: {}", parts.join("; ")))
}

/// Whether Kueue chooses the nodes of a set's leaders, and so the domains of its groups: the set has a queue, and their template asks.
pub fn chooses_for_groups(set: &LeaderWorkerSet) -> bool {
    set.label(label::KUEUE_QUEUE).is_some() && asks_for_nodes(set.leader_template())
}

/// Whether Kueue chooses the nodes of any of a set's pods, so that nobody else can tell its subgroups where to go.
pub fn chooses_for_subgroups(set: &LeaderWorkerSet) -> bool {
    chooses_for_groups(set)
        || set.label(label::KUEUE_QUEUE).is_some() && asks_for_nodes(&set.spec.leader_worker_template.worker_template)
}

fn asks_for_nodes(template: &PodTemplate) -> bool {
    template.annotations().keys().any(|key| kueue::TOPOLOGY.contains(&key.as_str()))
}

/// Whether a leader's template asks Kueue for a topology: then its group is Kueue's, and no member follows the leader's node.
pub fn decides_for(leader: &Pod) -> bool {
    let annotations = leader.metadata.annotations.iter().flatten();
    annotations.into_iter().any(|(key, _)| kueue::TOPOLOGY.contains(&key.as_str()))
}

impl Translation {
    /// None for a set that has no queue or wants no exclusive placement.
    fn of(set: &LeaderWorkerSet) -> Option<Self> {
        set.label(label::KUEUE_QUEUE)?;
        let wanted = |key: &str| set.annotation(key).filter(|level| !level.is_empty()).map(str::to_owned);
        let (whole, apart) = (wanted(annotation::EXCLUSIVE_TOPOLOGY), wanted(annotation::SUBGROUP_EXCLUSIVE_TOPOLOGY));
        let two = set.spec.leader_worker_template.leader_template.is_some();
        let mut translation = Self::default();
        if let Some(level) = &whole {
            translation.worker.insert(kueue::REQUIRED_TOPOLOGY, level.clone());
            if two {
                // Leader and workers are two requests, and only one group of requests goes into one domain.
                translation.worker.insert(kueue::GROUP_NAME, "group".to_owned());
                translation.leader = translation.worker.clone();
            }
        }
        if let Some(level) = &apart {
            let workers = if two { set.size() - 1 } else { set.size() };
            match set.sub_group_size() {
                Some(size) if two && whole.is_some() && size > 0 => {
                    let why = "with a leaderTemplate, Kueue takes a domain for the whole group or for subgroups, not both";
                    translation.without_subgroups = Some(why.to_owned());
                }
                Some(size) if size > 0 && workers % size == 0 => {
                    translation.worker.insert(kueue::SLICE_REQUIRED_TOPOLOGY, level.clone());
                    translation.worker.insert(kueue::SLICE_SIZE, size.to_string());
                }
                size => {
                    let of = size.unwrap_or_default();
                    let why = format!("Kueue divides its {workers} pods of one template evenly, and not by subgroups of {of}");
                    translation.without_subgroups = Some(why);
                }
            }
        }
        (whole.is_some() || apart.is_some()).then_some(translation)
    }
}

/// Whether a template of the set asks Kueue for anything about topology.
fn asks(set: &LeaderWorkerSet) -> bool {
    let templates = &set.spec.leader_worker_template;
    let all = templates.leader_template.iter().chain([&templates.worker_template]);
    all.flat_map(PodTemplate::annotations).any(|(key, _)| key.starts_with(kueue::PREFIX))
}

/// Whether the set has the translation in its templates.
fn carries(set: &LeaderWorkerSet, translation: &Translation) -> bool {
    let templates = &set.spec.leader_worker_template;
    let has = |template: &PodTemplate, request: &Request| {
        let annotations = template.annotations();
        request.iter().all(|(key, value)| annotations.get(*key) == Some(value))
    };
    has(&templates.worker_template, &translation.worker)
        && templates.leader_template.as_ref().is_none_or(|leader| has(leader, &translation.leader))
}

/// Adds annotations to a template that has room for them; one that is no object is for the API server to refuse.
fn annotate(template: &mut PodTemplate, request: &Request) {
    if request.is_empty() {
        return;
    }
    let object = |value: &mut Value| value.is_null().then(|| *value = Value::Object(Map::new()));
    let Some(template) = template.0.as_object_mut() else { return };
    let metadata = template.entry("metadata").or_insert(Value::Null);
    object(metadata);
    let Some(metadata) = metadata.as_object_mut() else { return };
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    object(annotations);
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.extend(request.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    const RACK: &str = "example.com/rack";
    const BLOCK: &str = "example.com/block";

    /// A set in a queue that wants Kueue to be asked, with these annotations, of groups of `size` in subgroups of `part` (0: none).
    fn queued(annotations: &[(&str, &str)], size: i32, part: i32, leader_template: bool) -> LeaderWorkerSet {
        let mut set = testing::set(|set| {
            set["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "team".into();
            set["metadata"]["annotations"]["muster.dev/kueue-topology"] = "true".into();
            for (key, level) in annotations {
                set["metadata"]["annotations"][format!("leaderworkerset.sigs.k8s.io/{key}")] = (*level).into();
            }
            let template = &mut set["spec"]["leaderWorkerTemplate"];
            template["size"] = size.into();
            if part > 0 {
                template["subGroupPolicy"] = json!({ "subGroupSize": part });
            }
        });
        let templates = &mut set.spec.leader_worker_template;
        templates.leader_template = leader_template.then(|| templates.worker_template.clone());
        set
    }

    /// Kueue's annotations of the leader's and the workers' template, without the prefix.
    fn asked(set: &LeaderWorkerSet) -> (Vec<String>, Vec<String>) {
        let of = |template: &PodTemplate| {
            let annotations = template.annotations().into_iter();
            let kueues = annotations.filter_map(|(key, value)| Some(format!("{}={value}", key.strip_prefix(kueue::PREFIX)?)));
            kueues.collect()
        };
        let templates = &set.spec.leader_worker_template;
        (templates.leader_template.as_ref().map(of).unwrap_or_default(), of(&templates.worker_template))
    }

    fn translated(annotations: &[(&str, &str)], size: i32, part: i32, leader_template: bool) -> (Vec<String>, Vec<String>) {
        let mut set = queued(annotations, size, part, leader_template);
        translate(&mut set, None);
        asked(&set)
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn one_template_is_one_request_for_a_domain() {
        let expected = (words(&[]), words(&["required-topology=example.com/rack"]));
        assert_eq!(translated(&[("exclusive-topology", RACK)], 4, 0, false), expected);
    }

    #[test]
    fn leader_and_workers_are_two_requests_of_one_group() {
        let each = words(&["group-name=group", "required-topology=example.com/rack"]);
        assert_eq!(translated(&[("exclusive-topology", RACK)], 4, 0, true), (each.clone(), each));
    }

    #[test]
    fn subgroups_are_slices() {
        let slices = ["slice-required-topology=example.com/rack", "slice-size=4"];
        let apart = [("subgroup-exclusive-topology", RACK)];
        assert_eq!(translated(&apart, 8, 4, false), (words(&[]), words(&slices)));
        assert_eq!(translated(&apart, 9, 4, true), (words(&[]), words(&slices)));
        let both = [("exclusive-topology", BLOCK), ("subgroup-exclusive-topology", RACK)];
        let nested = ["required-topology=example.com/block", slices[0], slices[1]];
        assert_eq!(translated(&both, 8, 4, false), (words(&[]), words(&nested)));
    }

    #[test]
    fn subgroups_that_kueue_can_not_divide_are_left_out_and_told() {
        let apart = [("subgroup-exclusive-topology", RACK)];
        for (size, leader_template, pods) in [(9, false, 9), (8, true, 7)] {
            let mut set = queued(&apart, size, 4, leader_template);
            let message = translate(&mut set, None).unwrap();
            assert_eq!((asked(&set), lost(&set)), ((words(&[]), words(&[])), None));
            assert_eq!(
                message,
                format!(
                    "Kueue is not asked for the domains of subgroups, which the scheduler keeps apart: Kueue divides its {pods} pods of \
                     one template evenly, and not by subgroups of 4"
                )
            );
        }
    }

    #[test]
    fn a_group_of_two_requests_has_no_slices_inside() {
        let both = [("exclusive-topology", BLOCK), ("subgroup-exclusive-topology", RACK)];
        let mut set = queued(&both, 9, 4, true);
        let message = translate(&mut set, None).unwrap();
        let each = words(&["group-name=group", "required-topology=example.com/block"]);
        assert_eq!(asked(&set), (each.clone(), each));
        assert_eq!(
            message,
            "Kueue chooses the nodes of the set's groups: each goes into one domain of example.com/block, which other groups may \
             share; subgroups have no domains of example.com/rack of their own: with a leaderTemplate, Kueue takes a domain for the \
             whole group or for subgroups, not both"
        );
    }

    #[test]
    fn what_the_author_asks_of_kueue_stays_as_it_is() {
        let mut set = queued(&[("exclusive-topology", RACK)], 4, 0, false);
        let own = json!({ "kueue.x-k8s.io/podset-preferred-topology": BLOCK });
        set.spec.leader_worker_template.worker_template.0["metadata"]["annotations"] = own;
        let before = set.clone();
        assert_eq!(translate(&mut set, None), None);
        assert_eq!(set, before);
        assert_eq!(
            lost(&set).unwrap(),
            "Kueue chooses the nodes of the set's groups: its templates do not ask for domains of example.com/rack, so that a \
             group may be spread over several"
        );
    }

    #[test]
    fn a_set_without_a_queue_or_without_a_wish_is_not_touched() {
        let mut without_queue = queued(&[("exclusive-topology", RACK)], 4, 0, false);
        without_queue.metadata.labels = None;
        for mut set in [without_queue, queued(&[], 4, 0, true)] {
            let before = set.clone();
            assert_eq!((translate(&mut set, None), lost(&set)), (None, None));
            assert_eq!(set, before);
        }
    }

    #[test]
    fn kueue_is_not_asked_unless_the_set_says_so() {
        for answer in [None, Some("false")] {
            let mut set = queued(&[("exclusive-topology", RACK)], 4, 0, true);
            let annotations = set.metadata.annotations.as_mut().unwrap();
            annotations.remove("muster.dev/kueue-topology");
            annotations.extend(answer.map(|answer| ("muster.dev/kueue-topology".to_owned(), answer.to_owned())));
            let before = set.clone();
            assert_eq!((translate(&mut set, None), lost(&set)), (None, None));
            assert_eq!(set, before);
        }
    }

    #[test]
    fn kueue_chooses_for_groups_by_the_leaders_template_and_for_subgroups_by_any() {
        let asked = |leader: bool, workers: bool| {
            let mut set = queued(&[], 4, 2, true);
            let request = BTreeMap::from([(kueue::SLICE_REQUIRED_TOPOLOGY, RACK.to_owned())]);
            let templates = &mut set.spec.leader_worker_template;
            if let Some(template) = templates.leader_template.as_mut().filter(|_| leader) {
                annotate(template, &request);
            }
            if workers {
                annotate(&mut templates.worker_template, &request);
            }
            (chooses_for_groups(&set), chooses_for_subgroups(&set))
        };
        assert_eq!([asked(false, false), asked(true, false), asked(false, true)], [(false, false), (true, true), (false, true)]);
        // Outside a queue nobody reads that.
        let mut free = queued(&[("exclusive-topology", RACK)], 4, 0, false);
        translate(&mut free, None);
        free.metadata.labels = None;
        assert!(!chooses_for_subgroups(&free));
    }

    #[test]
    fn a_set_that_was_there_before_keeps_its_templates() {
        let old = queued(&[("exclusive-topology", RACK)], 4, 0, false);
        let mut new = old.clone();
        assert_eq!(translate(&mut new, Some(&old)), None);
        assert_eq!(new, old);
    }

    #[test]
    fn a_set_that_is_written_again_without_the_translation_keeps_it() {
        let manifest = queued(&[("exclusive-topology", RACK)], 4, 0, true);
        let mut live = manifest.clone();
        translate(&mut live, None);
        let mut again = manifest.clone();
        assert!(translate(&mut again, Some(&live)).is_some());
        assert_eq!(again, live);
        // Whoever gives up the wish gives up its translation with it.
        let mut given_up = queued(&[], 4, 0, true);
        translate(&mut given_up, Some(&live));
        assert_eq!(asked(&given_up), (words(&[]), words(&[])));
    }

    #[test]
    fn translating_twice_changes_nothing() {
        let mut set = queued(&[("exclusive-topology", RACK)], 4, 0, true);
        translate(&mut set, None);
        let once = set.clone();
        translate(&mut set, None);
        assert_eq!(set, once);
    }
}
