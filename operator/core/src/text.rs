//! Text for people, within bounds.

/// At most `limit` bytes of `text`, cut at a character, with an ellipsis when something is missing.
pub fn truncated(text: &str, limit: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut end = limit.saturating_sub(ELLIPSIS.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ELLIPSIS}", &text[..end])
}

/// JSON with `<`, `>`, `&` and two line separators spelled as Go's encoder spells them; it means the same.
///
/// The API server keeps the data of a ControllerRevision byte for byte as they came and lets nobody change them. A patch of its labels
/// passes through Go's encoder, and would be refused for data that are not spelled its way already.
pub fn as_go_writes(json: &str) -> String {
    let mut spelled = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => spelled.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => spelled.push(character),
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{as_go_writes, truncated};

    #[test]
    fn json_is_spelled_as_go_spells_it_and_means_the_same() {
        let object = json!({ "args": ["a <b >c 2>&1", "\u{2028}"] });
        let spelled = as_go_writes(&object.to_string());
        assert_eq!(spelled, r#"{"args":["a \u003cb \u003ec 2\u003e\u00261","\u2028"]}"#);
        assert_eq!(serde_json::from_str::<Value>(&spelled).unwrap(), object);
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(truncated("rack", 4), "rack");
        assert_eq!(truncated("größer", 6), "gr…");
        assert_eq!(truncated("größer", 7), "grö…");
    }
}
