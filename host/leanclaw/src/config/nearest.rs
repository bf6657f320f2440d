//! Which known name a misspelt one was probably meant to be.

/// The candidate closest to `given`, when one is close enough to be worth suggesting: at most a third of the letters
/// wrong. Case does not count.
pub(crate) fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given: Vec<char> = given.chars().take(200).flat_map(char::to_lowercase).collect();
    let allowed = (given.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&given, &candidate.to_lowercase().chars().collect::<Vec<_>>()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance: insertions, deletions, substitutions and swaps of neighbours.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (row, left_char) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, right_char) in right.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let substituted = at(&last, column) + usize::from(left_char != right_char);
            let mut best = substituted.min(at(&last, column + 1) + 1).min(at(&current, column) + 1);
            let swapped = row > 0
                && column > 0
                && left.get(row - 1) == Some(right_char)
                && right.get(column - 1) == Some(left_char);
            if swapped {
                best = best.min(at(&before_last, column - 1) + 1);
            }
            current.push(best);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(left: &str, right: &str) -> usize {
        distance(&left.chars().collect::<Vec<_>>(), &right.chars().collect::<Vec<_>>())
    }

    #[test]
    fn distances() {
        assert_eq!(between("", "abc"), 3);
        assert_eq!(between("port", "port"), 0);
        assert_eq!(between("prot", "port"), 1);
        assert_eq!(between("kitten", "sitting"), 3);
    }

    #[test]
    fn only_a_likely_name_is_suggested() {
        let known = ["LEANCLAW_GATEWAY_PORT", "LEANCLAW_GATEWAY_HOST", "TZ"];
        assert_eq!(nearest("LEANCLAW_GATEWAY_PROT", known), Some("LEANCLAW_GATEWAY_PORT"));
        assert_eq!(nearest("leanclaw_gateway_hst", known), Some("LEANCLAW_GATEWAY_HOST"));
        assert_eq!(nearest("LEANCLAW_COMPLETELY_DIFFERENT_THING", known), None);
        assert_eq!(nearest("XX", known), None);
    }
}
