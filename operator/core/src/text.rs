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

#[cfg(test)]
mod tests {
    use super::truncated;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(truncated("rack", 4), "rack");
        assert_eq!(truncated("größer", 6), "gr…");
        assert_eq!(truncated("größer", 7), "grö…");
    }
}
