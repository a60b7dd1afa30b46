use super::*;

fn two_parts() -> Instructions {
    let part = |pods, value: &str| PartDomain { pods, key: "rack".to_owned(), value: value.to_owned() };
    Instructions { parts: vec![part(2, "r1"), part(3, "r2")], ..Instructions::default() }
}

#[test]
fn every_rank_selects_the_domain_of_its_part() {
    let domains: Vec<_> = (0..6).map(|rank| two_parts().part_of(rank).map(|(_, domain)| domain.to_owned())).collect();
    let expected = [Some("r1"), Some("r1"), Some("r2"), Some("r2"), Some("r2"), None].map(|domain| domain.map(str::to_owned));
    assert_eq!(domains, expected);
}

#[test]
fn what_is_rendered_is_read_again_and_nothing_is_empty() {
    let text = two_parts().render();
    assert_eq!(text, r#"{"parts":[{"pods":2,"key":"rack","value":"r1"},{"pods":3,"key":"rack","value":"r2"}]}"#);
    assert_eq!(serde_json::from_str::<Instructions>(&text).unwrap(), two_parts());
    assert_eq!(Instructions::default().render(), "{}");
}

#[test]
fn a_pin_and_avoided_nodes_are_required_of_every_term_that_the_author_wrote() {
    let (pins, avoid) = (vec!["n1".to_owned(), "n2".to_owned()], vec!["bad".to_owned()]);
    let instructions = Instructions { pins, avoid, ..Instructions::default() };
    let zone = |zone: &str| json!({ "key": "zone", "operator": "In", "values": [zone] });
    let authors = json!({
        REQUIRED: { "nodeSelectorTerms": [{ "matchExpressions": [zone("a")] }, { "matchExpressions": [zone("b")] }] }
    });
    let fields = json!([
        { "key": "metadata.name", "operator": "In", "values": ["n2"] },
        { "key": "metadata.name", "operator": "NotIn", "values": ["bad"] },
    ]);
    let expected = json!({
        REQUIRED: { "nodeSelectorTerms": [
            { "matchExpressions": [zone("a")], "matchFields": fields },
            { "matchExpressions": [zone("b")], "matchFields": fields },
        ] }
    });
    assert_eq!(instructions.node_affinity(Some(&authors), 1), Some(expected));
}

#[test]
fn preferred_domains_weigh_less_the_later_they_come() {
    let preferred = ["r1", "r2"].map(|rack| ("rack".to_owned(), rack.to_owned())).to_vec();
    let instructions = Instructions { preferred, ..Instructions::default() };
    let term = |weight: u32, rack: &str| {
        let expression = json!({ "key": "rack", "operator": "In", "values": [rack] });
        json!({ "weight": weight, "preference": { "matchExpressions": [expression] } })
    };
    assert_eq!(instructions.node_affinity(None, 0), Some(json!({ PREFERRED: [term(100, "r1"), term(90, "r2")] })));
}

#[test]
fn nothing_to_do_leaves_the_authors_affinity_alone() {
    assert_eq!(two_parts().node_affinity(Some(&json!({ REQUIRED: {} })), 0), None);
}
