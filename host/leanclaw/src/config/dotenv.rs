//! Reads a `.env` text.
//!
//! The format is the original LeanClaw's: `KEY=value` lines; blank lines and lines that start with `#` are skipped; the
//! value is trimmed and loses one pair of matching quotes; an empty value counts as not set. There is no `export`, no
//! interpolation and no value over several lines. Nothing is copied into the process's environment.

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) line: usize,
    pub(crate) name: String,
    pub(crate) value: String,
}

/// What a text holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DotEnv {
    /// Assignments with a value, in the order of the file.
    pub(crate) assignments: Vec<Assignment>,
    /// Lines that are no assignment: the number (from 1) and what is wrong.
    pub(crate) bad_lines: Vec<(usize, &'static str)>,
}

/// Reads the text of a `.env` file.
pub(crate) fn parse(text: &str) -> DotEnv {
    let mut found = DotEnv::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let (number, line) = (index + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            found.bad_lines.push((number, "it has no `=`; write KEY=value"));
            continue;
        };
        let name = name.trim();
        if name.starts_with("export ") {
            found.bad_lines.push((number, "`export` is not understood here; write KEY=value"));
            continue;
        }
        if name.is_empty() || name.contains(char::is_whitespace) {
            found.bad_lines.push((number, "the name before `=` is not a variable name"));
            continue;
        }
        let value = unquoted(value.trim());
        if !value.is_empty() {
            found.assignments.push(Assignment { line: number, name: name.to_owned(), value: value.to_owned() });
        }
    }
    found
}

/// The value without one pair of matching quotes.
fn unquoted(value: &str) -> &str {
    ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        parse(text).assignments.into_iter().map(|found| (found.line, found.name, found.value)).collect()
    }

    #[test]
    fn the_documented_format() {
        let text =
            "\n# comment\nA=1\n  B =  two words  \nC=\"quoted # not a comment\"\nD='x'\nE=\nF=''\nG=a=b\nH=\"open\n";
        let expected = [
            (3, "A", "1"),
            (4, "B", "two words"),
            (5, "C", "quoted # not a comment"),
            (6, "D", "x"),
            (9, "G", "a=b"),
            (10, "H", "\"open"),
        ];
        let expected: Vec<_> = expected.map(|(line, name, value)| (line, name.to_owned(), value.to_owned())).into();
        assert_eq!(pairs(text), expected);
    }

    #[test]
    fn only_one_pair_of_quotes_goes_and_a_lone_quote_stays() {
        assert_eq!(unquoted("\"'a'\""), "'a'");
        assert_eq!(unquoted("\""), "\"");
        assert_eq!(unquoted("'a\""), "'a\"");
    }

    #[test]
    fn what_is_no_assignment_is_reported_with_its_line() {
        let found = parse("\u{feff}A=1\r\nnonsense\nexport B=2\n=3\nC D=4\n");
        assert_eq!(found.assignments.len(), 1);
        assert_eq!(found.bad_lines.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3, 4, 5]);
    }
}
