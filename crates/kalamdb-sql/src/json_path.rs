//! Values in a JSON text by their path, as parts of the text: nothing is parsed that is not on the way.
//!
//! The text must be JSON, or what is found is meaningless (see [`crate::extension_types::check_json`]).

use std::borrow::Cow;

/// One step into a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// A member of an object.
    Key(&'a str),
    /// An element of an array; negative ones count from its end.
    Index(i64),
}

/// The value at a path, as its text; `None` if it is not there. Of members with one name the last counts.
pub(crate) fn find<'a>(json: &'a str, path: &[Step<'_>]) -> Option<&'a str> {
    path.iter().try_fold(json.trim(), |value, step| {
        match step {
            Step::Key(key) => members(value)?.filter(|(name, _)| unescaped(name) == *key).last(),
            Step::Index(index) => {
                let place = match usize::try_from(*index) {
                    Ok(place) => place,
                    Err(_) => {
                        let from_end = usize::try_from(index.unsigned_abs()).ok()?; // An array is never that long.
                        elements(value)?.count().checked_sub(from_end)?
                    }
                };
                elements(value)?.nth(place).map(|element| ("", element))
            }
        }
        .map(|(_, value)| value)
    })
}

/// The elements of an array; `None` for another value.
pub(crate) fn elements(json: &str) -> Option<impl Iterator<Item = &str>> {
    let parts = Parts::of(json, b'[')?;
    Some(parts)
}

/// The members of an object, each name with its quotes; `None` for another value.
pub(crate) fn members(json: &str) -> Option<impl Iterator<Item = (&str, &str)>> {
    let parts = Parts::of(json, b'{')?;
    Some(parts.map(|member| {
        let name_end = value_end(member.as_bytes(), 0);
        let (name, rest) = member.split_at(name_end);
        (name, rest.trim_start().trim_start_matches(':').trim())
    }))
}

/// A text value without its quotes and escapes; any other value as it is.
pub(crate) fn unescaped(value: &str) -> Cow<'_, str> {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Cow::Borrowed(value);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    match serde_json::from_str::<String>(value) {
        Ok(text) => Cow::Owned(text),
        // Half of a surrogate pair is JSON, and no text.
        Err(_) => Cow::Borrowed(inner),
    }
}

/// What commas separate between brackets.
struct Parts<'a> {
    inner: &'a str,
    at: usize,
}

impl<'a> Parts<'a> {
    fn of(json: &'a str, opener: u8) -> Option<Self> {
        let inner = match json.as_bytes() {
            [first, .., _] if *first == opener => &json[1..json.len() - 1],
            _ => return None,
        };
        Some(Parts { inner, at: 0 })
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let bytes = self.inner.as_bytes();
        let start = self.at;
        let mut end = start;
        while end < bytes.len() && bytes[end] != b',' {
            // A name, its colon and its value are one part; so is the white space around them.
            end = value_end(bytes, end);
        }
        self.at = end + 1;
        let part = self.inner.get(start..end)?.trim();
        (!part.is_empty()).then_some(part)
    }
}

/// Where the value, or the one other letter, at this place ends.
fn value_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    let mut depth = 0_usize;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at.min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOC: &str = r#" { "a" : {"b, }": [10, "x]\"", null , {"c":[]}], "e\u00e9": -1.5e3 }, "t":true,"n":[ ], "o":{}, "t": false } "#;

    #[test]
    fn values_are_found_by_their_path() {
        let check = |path: &[Step<'_>], expected: Option<&str>| assert_eq!(find(DOC, path), expected, "{path:?}");
        use Step::{Index, Key};
        check(&[], Some(DOC.trim()));
        check(&[Key("a"), Key("b, }"), Index(0)], Some("10"));
        check(&[Key("a"), Key("b, }"), Index(1)], Some(r#""x]\"""#));
        check(&[Key("a"), Key("b, }"), Index(2)], Some("null"));
        check(&[Key("a"), Key("b, }"), Index(-1)], Some(r#"{"c":[]}"#));
        check(&[Key("a"), Key("b, }"), Index(-1), Key("c")], Some("[]"));
        check(&[Key("a"), Key("b, }"), Index(-4)], Some("10"));
        check(&[Key("a"), Key("b, }"), Index(-5)], None);
        check(&[Key("a"), Key("b, }"), Index(4)], None);
        check(&[Key("a"), Key("eé")], Some("-1.5e3"));
        check(&[Key("t")], Some("false"));
        check(&[Key("n")], Some("[ ]"));
        check(&[Key("n"), Index(0)], None);
        check(&[Key("n"), Index(i64::MIN)], None);
        check(&[Key("o"), Key("a")], None);
        check(&[Key("t"), Key("a")], None);
        check(&[Index(0)], None);
        check(&[Key("nothing")], None);
    }

    #[test]
    fn parts_are_counted() {
        let count = |json: &str| (elements(json).map(Iterator::count), members(json).map(Iterator::count));
        assert_eq!(count("[]"), (Some(0), None));
        assert_eq!(count("[1, [2, 3], \"a,b\"]"), (Some(3), None));
        assert_eq!(count("{}"), (None, Some(0)));
        assert_eq!(count(DOC.trim()), (None, Some(5)));
        assert_eq!(count("\"[1]\""), (None, None));
        assert_eq!(count("1"), (None, None));
        let names: Vec<String> = members(r#"{"a\n":1,"b":2}"#)
            .expect("an object")
            .map(|(name, _)| unescaped(name).into_owned())
            .collect();
        assert_eq!(names, ["a\n", "b"]);
    }

    #[test]
    fn no_text_is_too_broken_to_look_into() {
        let pieces = ["{", "}", "[", "]", ",", ":", "\"", "\\", "a", "1", " ", "é"];
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let piece = usize::try_from(state >> 33).expect("31 bits") % pieces.len();
                text.push_str(pieces[piece]);
            }
            for path in [[Step::Key("a"), Step::Index(0)], [Step::Index(-1), Step::Key("a")]] {
                if let Some(found) = find(&text, &path) {
                    assert!(text.contains(found));
                }
            }
        }
    }
}
