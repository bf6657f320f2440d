//! The one place that prints: data to standard output, everything about it (errors, warnings, questions) to standard
//! error.
//!
//! Text for people passes [`on_terminal`], because names, reasons and log lines come from plugins and servers and must
//! not steer a terminal. JSON is left as it is: its strings are escaped already. A reader that went away (`| head`) is
//! an [`std::io::Error`] of kind `BrokenPipe`, which the program takes as a quiet end.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use anyhow::Result;
use serde::Serialize;

use crate::report::Report;

/// U+200D, of which pictures such as that of a family are made.
const JOINER: &str = "\u{200d}";
/// How long a person waits without wondering.
const MOMENT: std::time::Duration = std::time::Duration::from_secs(2);

/// Writes lines for people.
pub(crate) fn text(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(on_terminal(text).as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Writes a piece of a text for people that goes on. A joiner of signs stays, other than everywhere else: it makes one picture
/// of several, which answers are full of.
pub(crate) fn piece(text: &str) -> Result<()> {
    let shown: Vec<String> = text.split(JOINER).map(on_terminal).collect();
    bytes(shown.join(JOINER).as_bytes())
}

/// Writes what another program generates or reads, byte for byte.
pub(crate) fn bytes(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Writes a value as indented JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec_pretty(value)?;
    line.push(b'\n');
    bytes(&line)
}

/// Writes a value as one line of JSON, for output that goes on.
pub(crate) fn json_line(value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    bytes(&line)
}

/// Writes a table: columns as wide as their widest cell, the last one open.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> Result<()> {
    text(layout(head, rows).trim_end())
}

/// Says something that is not data.
pub(crate) fn note(message: &str) {
    stderr_line(&on_terminal(message));
}

/// Says something that is not data and can be passed over.
pub(crate) fn aside(message: &str) {
    let shown = on_terminal(message);
    stderr_line(&if has_colours() { format!("\u{1b}[2m{shown}\u{1b}[0m") } else { shown });
}

/// Waits for work, and says what is being waited for once that takes longer than a moment.
pub(crate) async fn noted<T>(work: impl Future<Output = T>, message: &str) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = tokio::time::sleep(MOMENT) => note(message),
    }
    work.await
}

/// Warns.
pub(crate) fn warning(message: &str) {
    stderr_line(&format!("{} {}", label("warning:", "33"), on_terminal(message)));
}

/// Says why the program failed: the error, its causes, what to do.
pub(crate) fn error(report: &Report) {
    stderr_line(&format!("{} {}", label("error:", "31"), on_terminal(&report.message)));
    for cause in &report.causes {
        stderr_line(&format!("  {} {}", label("cause:", "31"), on_terminal(cause)));
    }
    for hint in &report.hints {
        stderr_line(&format!("{} {}", label("hint:", "36"), on_terminal(hint)));
    }
}

/// Whether a person can be asked: both the answer and the question would go through a terminal.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Begins a line on which a person is asked for something.
pub(crate) fn prompt(text: &str) -> Result<()> {
    let mut err = io::stderr().lock();
    write!(err, "{}", on_terminal(text))?;
    Ok(err.flush()?)
}

/// Asks a question; only `y` or `yes` is a yes.
pub(crate) fn ask(question: &str) -> Result<bool> {
    prompt(&format!("{question} [y/N] "))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// The text with everything escaped that could move a cursor, change colours or reorder what is shown. Line breaks
/// stay.
pub(crate) fn on_terminal(text: &str) -> String {
    leanclaw_types::text::escape_lines(text).replace('\t', "    ")
}

/// Standard error may be closed; there is nobody left to tell then.
fn stderr_line(line: &str) {
    let mut err = io::stderr().lock();
    let _unreported = writeln!(err, "{line}");
}

/// Whether standard error is coloured. `NO_COLOR` is a convention of all programs at a terminal and holds before any
/// setting is known, so it is no setting.
pub(crate) fn has_colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn label(text: &str, colour: &str) -> String {
    if has_colours() { format!("\u{1b}[1;{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
}

fn layout(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| shown_width(cell)).max();
    let mut shown = String::new();
    for line in &lines {
        let mut row = String::new();
        for (column, cell) in line.iter().enumerate() {
            // One row is one line, whatever a cell holds.
            let cell = on_terminal(cell).replace('\n', " ");
            row.push_str(&cell);
            if column + 1 < line.len() {
                let padding = width(column).unwrap_or(0).saturating_sub(cell.chars().count()) + 2;
                row.extend(std::iter::repeat_n(' ', padding));
            }
        }
        shown.push_str(row.trim_end());
        shown.push('\n');
    }
    shown
}

fn shown_width(cell: &str) -> usize {
    on_terminal(cell).chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_steer_a_terminal() {
        let shown = on_terminal("a\u{1b}[31mb\rc\u{202e}d\u{9b}e\nf");
        assert_eq!(shown, "a\\u{1b}[31mb\\rc\\u{202e}d\\u{9b}e\nf");
        assert_eq!(on_terminal("plain ä 漢"), "plain ä 漢");
    }

    #[test]
    fn a_table_lines_up_and_a_cell_cannot_break_out_of_its_row() {
        let rows = vec![vec!["a".into(), "b\nc".into()], vec!["long".into(), String::new()]];
        assert_eq!(layout(&["ID", "TEXT"], &rows), "ID    TEXT\na     b c\nlong\n");
    }
}
