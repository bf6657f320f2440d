//! A command at a terminal, with somebody who answers its question.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, ExitStatus};

use super::within;

/// Runs a command to its end; once it has said `question`, it is told `answer`. What the terminal showed comes along.
pub(crate) async fn run_at_terminal(
    mut command: Command,
    question: &'static str,
    answer: &'static str,
) -> (ExitStatus, String) {
    let (ours, theirs) = pair();
    let copy = || theirs.try_clone().expect("a file can be shared");
    command.stdin(copy()).stdout(copy()).stderr(copy());
    drop(theirs);
    let shown = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    let mut child = command.kill_on_drop(true).spawn().expect("the program runs");
    // With it go our copies of the program's side, so that the terminal ends when the program does.
    drop(command);
    let talk = std::thread::spawn(move || talk(ours, question, answer));
    let status = within(&shown, child.wait()).await.expect("the program can be waited for");
    (status, talk.join().expect("the terminal can be read"))
}

fn talk(mut terminal: File, question: &str, answer: &str) -> String {
    let mut seen = String::new();
    let mut is_answered = false;
    let mut buffer = [0_u8; 4096];
    // The end of the last program on it is an error here.
    while let Ok(count) = terminal.read(&mut buffer) {
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        if !is_answered && seen.contains(question) {
            terminal.write_all(answer.as_bytes()).expect("somebody listens");
            is_answered = true;
        }
    }
    seen
}

/// Our side and the program's side of a new terminal. Neither is passed on to programs that other tests start.
fn pair() -> (File, File) {
    let ours = OpenOptions::new().read(true).write(true).open("/dev/ptmx").expect("there are terminals");
    let mut name = [0 as libc::c_char; 64];
    #[expect(unsafe_code, reason = "the standard library makes no terminals")]
    // SAFETY: the descriptor is open, and the buffer is as long as is said.
    let made =
        unsafe { [libc::unlockpt(ours.as_raw_fd()), libc::ptsname_r(ours.as_raw_fd(), name.as_mut_ptr(), name.len())] };
    assert_eq!(made, [0, 0], "a terminal can be made");
    let bytes = name.iter().take_while(|byte| **byte != 0).flat_map(|byte| byte.to_ne_bytes());
    let path = String::from_utf8(bytes.collect()).expect("its name is plain");
    let theirs = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(path);
    (ours, theirs.expect("the terminal can be opened"))
}
