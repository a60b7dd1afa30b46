//! The topology as a drawing: SVG, and an HTML page that needs nothing from elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::topology::{Domain, Map};

const NODE: usize = 18;
const GAP: usize = 4;
const PER_ROW: usize = 8;
const HEAD: usize = 34;
const COLUMNS: usize = 5;
const DOMAIN_WIDTH: usize = PER_ROW * (NODE + GAP) + 3 * GAP;

/// The drawing.
pub(crate) fn svg(map: &Map) -> String {
    let hues = hues(map);
    let height_of = |domain: &Domain| HEAD + domain.nodes.len().div_ceil(PER_ROW).max(1) * (NODE + GAP) + GAP;
    let mut body = String::new();
    let mut top = HEAD;
    for row in map.domains.chunks(COLUMNS) {
        for (column, domain) in row.iter().enumerate() {
            draw(domain, (GAP + column * (DOMAIN_WIDTH + 2 * GAP), top), height_of(domain), &hues, &mut body);
        }
        top += row.iter().map(height_of).max().unwrap_or(0) + 2 * GAP;
    }
    let width = COLUMNS.min(map.domains.len().max(1)) * (DOMAIN_WIDTH + 2 * GAP) + GAP;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{top}\" font-family=\"system-ui, sans-serif\">\n\
         <text x=\"{GAP}\" y=\"22\" font-size=\"16\" font-weight=\"600\">{}</text>\n{body}</svg>\n",
        escaped(&map.level)
    )
}

fn draw(domain: &Domain, (left, top): (usize, usize), height: usize, hues: &BTreeMap<&str, usize>, body: &mut String) {
    let groups = if domain.groups.is_empty() { "free".to_owned() } else { domain.groups.join(", ") };
    let _ = writeln!(
        body,
        "<g transform=\"translate({left},{top})\"><rect width=\"{DOMAIN_WIDTH}\" height=\"{height}\" rx=\"6\" fill=\"#f4f4f5\" stroke=\"#d4d4d8\"/>\n\
         <text x=\"8\" y=\"15\" font-size=\"12\" font-weight=\"600\">{}</text><text x=\"8\" y=\"28\" font-size=\"10\" fill=\"#52525b\">{}</text>",
        escaped(&domain.name),
        escaped(&shortened(&groups))
    );
    for (position, node) in domain.nodes.iter().enumerate() {
        let x = 2 * GAP + position % PER_ROW * (NODE + GAP);
        let y = HEAD + position / PER_ROW * (NODE + GAP);
        let groups: BTreeSet<&str> = node.pods.iter().map(|guest| guest.group.as_str()).collect();
        let fill = match (groups.first().and_then(|group| hues.get(group)), node.usable) {
            (Some(hue), _) => format!("hsl({hue} 65% 55%)"),
            (None, true) => "#ffffff".to_owned(),
            (None, false) => "#a1a1aa".to_owned(),
        };
        let pods: Vec<&str> = node.pods.iter().map(|guest| guest.pod.as_str()).collect();
        let state = if node.usable { "" } else { " (takes no pods)" };
        let _ = writeln!(
            body,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{NODE}\" height=\"{NODE}\" rx=\"3\" fill=\"{fill}\" stroke=\"#a1a1aa\"><title>{}{state}: {}</title></rect>",
            escaped(&node.name),
            escaped(if pods.is_empty() { "no pod of a set".to_owned() } else { pods.join(", ") }.as_str())
        );
    }
    body.push_str("</g>\n");
}

/// A page with the drawing.
pub(crate) fn html(map: &Map) -> String {
    let title = escaped(&map.level);
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n\
         <body style=\"margin:16px;font-family:system-ui,sans-serif\">\n{}<p style=\"color:#52525b\">A square is a node; its colour is its group. \
         Point at one for its name and pods.</p>\n</body></html>\n",
        svg(map)
    )
}

/// A colour for each group, as far from its neighbours as the golden angle takes it.
fn hues(map: &Map) -> BTreeMap<&str, usize> {
    let groups: BTreeSet<&str> = map.domains.iter().flat_map(|domain| &domain.groups).map(String::as_str).collect();
    groups.into_iter().enumerate().map(|(position, group)| (group, position * 137 % 360)).collect()
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= 34 { text.to_owned() } else { text.chars().take(33).chain(['…']).collect() }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Guest, Host};

    fn map() -> Map {
        let guest = |group: &str| Guest { group: group.to_owned(), pod: format!("{group}-1") };
        let host = |name: &str, usable: bool, pods: Vec<Guest>| Host { name: name.to_owned(), usable, pods };
        let domain = |name: &str, nodes: Vec<Host>, groups: &[&str]| Domain {
            name: name.to_owned(),
            nodes,
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        Map {
            level: "pool<".to_owned(),
            domains: vec![
                domain("a", vec![host("a-0", true, vec![guest("team/serve-0")]), host("a-1", true, vec![])], &["team/serve-0"]),
                domain("b", vec![host("b-0", false, vec![])], &[]),
            ],
            unlabelled: 2,
        }
    }

    #[test]
    fn a_terminal_shows_a_sign_for_each_node() {
        let shown = anstream::adapter::strip_str(&map().render()).to_string();
        assert_eq!(shown, "pool<\na  A·  A team/serve-0\nb  ×  free\n2 nodes have no label pool<\n");
    }

    #[test]
    fn a_drawing_names_nodes_and_pods_and_escapes_them() {
        let drawn = svg(&map());
        assert!(drawn.contains("<title>a-0: team/serve-0-1</title>"), "{drawn}");
        assert!(drawn.contains("<title>b-0 (takes no pods): no pod of a set</title>"), "{drawn}");
        assert!(drawn.contains(">pool&lt;</text>"), "{drawn}");
        assert_eq!(drawn.matches("<rect").count(), 2 + 3);
        assert!(html(&map()).contains(&drawn));
    }
}
