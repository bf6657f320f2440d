//! The stand-in for a model as a program: `fake-model --while PROCESS` prints where it listens and answers until that process is
//! gone.

use std::io::{self, Write as _};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use leanclaw_test_fakes::{FakeServer, stand_in};
use tokio::process::Command;

/// Before each piece of an answer, so that it can be seen coming.
const PACE: Duration = Duration::from_millis(20);
/// Between two looks at the process.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

async fn is_running(process: u32) -> bool {
    let mut look = Command::new("kill");
    look.args(["-0", &process.to_string()]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    look.status().await.is_ok_and(|status| status.success())
}

async fn run(process: u32) -> io::Result<()> {
    let server = FakeServer::start_forgetful().await?;
    stand_in::serve(&server, PACE);
    writeln!(io::stdout(), "{}", server.url())?;
    while is_running(process).await {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let process = match words.as_slice() {
        [flag, process] if flag == "--while" => process.parse().ok(),
        _ => None,
    };
    let Some(process) = process else {
        let _unread = writeln!(io::stderr(), "usage: fake-model --while PROCESS");
        return ExitCode::from(2);
    };
    match run(process).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _unread = writeln!(io::stderr(), "fake-model: {error}");
            ExitCode::FAILURE
        }
    }
}
