//! The alphabets of Kubernetes names, and the words that Kubernetes uses when a text is outside them.

/// Why a text is no DNS-1035 label (such as the name of a service); `None` when it is one. The words are apimachinery's.
pub(crate) fn dns1035_label_error(text: &str) -> Option<String> {
    if text.len() > 63 {
        return Some("must be no more than 63 characters".into());
    }
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = text.bytes().all(inner)
        && text.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && text.bytes().last().is_some_and(|last| last != b'-');
    (!fits).then(|| {
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, \
         and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
         regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            .into()
    })
}

/// Words for a string that should be a percentage and isn't. The words are apimachinery's.
pub(crate) const NOT_A_PERCENT: &str = "a valid percent string must be a numeric string followed by an ending '%' \
    (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

/// Whether the text can be the name of most objects: dot-separated labels of lower case letters, digits and dashes.
pub fn is_dns1123_subdomain(text: &str) -> bool {
    let label = |label: &str| {
        let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        label.bytes().all(|byte| alphanumeric(byte) || byte == b'-')
            && label.bytes().next().is_some_and(alphanumeric)
            && label.bytes().last().is_some_and(alphanumeric)
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Whether the text can be the key of a label: `name` or `domain/name`.
pub fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        None => is_label_name(text),
        Some((domain, name)) => is_dns1123_subdomain(domain) && is_label_name(name),
    }
}

/// Whether the text can be the value of a label; it may be empty.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_name(text)
}

fn is_label_name(name: &str) -> bool {
    name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.bytes().last().is_some_and(|last| last.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("topology.kubernetes.io/zone", true)]
    #[case("rack", true)]
    #[case("Rack_1.a", true)]
    #[case("", false)]
    #[case("/zone", false)]
    #[case("a/b/c", false)]
    #[case("Upper.Case/zone", false)]
    #[case("rack-", false)]
    #[case("a b", false)]
    fn a_label_key_is_a_name_with_an_optional_domain(#[case] text: &str, #[case] is: bool) {
        assert_eq!(is_label_key(text), is);
    }

    #[rstest]
    #[case("kube-system", true)]
    #[case("a.b-c.d", true)]
    #[case("a..b", false)]
    #[case("-a", false)]
    #[case("A", false)]
    #[case("", false)]
    fn an_object_name_is_a_lower_case_subdomain(#[case] text: &str, #[case] is: bool) {
        assert_eq!(is_dns1123_subdomain(text), is);
    }
}
