//! What result codes mean, in plain words.
//!
//! Graph documents about forty of them (`call-delete`, the examples of the operations). The rest are documented for Azure
//! Communication Services, which numbers its subcodes from the same space, or were read off real callbacks. A line
//! says what happened and, where that is evident, what to do. One family a file, sorted by subcode and code.

mod actions;
mod calls;
mod requests;

/// What a code means: the code (`None`: with any code), the subcode, the words.
type Row = (Option<i64>, i64, &'static str);

const FAMILIES: [&[Row]; 3] = [calls::ROWS, requests::ROWS, actions::ROWS];

/// What a code and a subcode mean; `None` if nobody has documented it.
///
/// The code counts only where the subcode alone leaves it open: documentation of different years pairs one subcode with 0 and with
/// 200, both of which are a success. Subcode 0 says nothing without its code.
pub(super) fn meaning(code: Option<i64>, subcode: Option<i64>) -> Option<&'static str> {
    let subcode = subcode?;
    let rows = || FAMILIES.into_iter().flatten().filter(move |row| row.1 == subcode);
    let exact = rows().find(|row| row.0.is_some() && row.0 == code);
    let near = || rows().filter(|_| subcode != 0).min_by_key(|row| (row.0.is_some(), is_failure(row.0) != is_failure(code)));
    exact.or_else(near).map(|row| row.2)
}

fn is_failure(code: Option<i64>) -> bool {
    code.is_some_and(|code| code >= 400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_there_once_and_in_its_order() {
        for family in FAMILIES {
            assert!(family.is_sorted_by(|a, b| (a.1, a.0) < (b.1, b.0)));
        }
        let mut keys: Vec<_> = FAMILIES.into_iter().flatten().map(|row| (row.1, row.0)).collect();
        assert_eq!(keys.len(), 189);
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 189);
    }

    #[test]
    fn every_meaning_is_one_sentence_of_its_own() {
        for (_, subcode, text) in FAMILIES.into_iter().flatten() {
            assert!(text.len() > 20 && text.ends_with('.') && !text.contains('\n'), "{subcode}: {text}");
        }
    }

    #[test]
    fn the_code_decides_where_the_subcode_alone_does_not() {
        let canceled = meaning(Some(400), Some(8508));
        assert!(canceled.is_some_and(|text| text.contains("canceled")));
        assert_eq!(meaning(None, Some(8508)), canceled);
        assert_eq!(meaning(Some(500), Some(8508)), canceled);
        assert!(meaning(Some(500), Some(7000)).is_some_and(|text| text.contains("transfer")));
        assert!(meaning(Some(200), Some(7000)).is_some_and(|text| text.contains("bot")));
        assert!(meaning(Some(403), Some(7000)).is_some_and(|text| text.contains("transfer")));
        assert!(meaning(Some(603), Some(0)).is_some_and(|text| text.contains("declined")));
        assert_eq!(meaning(Some(400), Some(0)), None);
        assert_eq!(meaning(Some(200), None), None);
        assert_eq!(meaning(Some(500), Some(123_456)), None);
    }
}
