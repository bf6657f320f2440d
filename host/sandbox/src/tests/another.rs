//! A run of another backend: a program behind ordinary streams that has to be cleared away, as a container has.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};

use super::*;
use crate::{Body, Wire};

/// What the program does once it has answered one line.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Ends,
    Waits,
    Panics,
}

struct Container {
    streams: Option<(DuplexStream, DuplexStream)>,
    then: Then,
    cleared: Arc<AtomicU32>,
}

#[async_trait::async_trait]
impl Body for Container {
    async fn run(&mut self) -> Cause {
        let (stdin, mut stdout) = self.streams.take().unwrap();
        let mut line = String::new();
        BufReader::new(stdin).read_line(&mut line).await.unwrap();
        stdout.write_all(line.to_uppercase().as_bytes()).await.unwrap();
        match self.then {
            Then::Ends => Cause::Finished(3),
            Then::Waits => std::future::pending().await,
            Then::Panics => panic!("a fault of the backend"),
        }
    }

    async fn end(&mut self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.cleared.fetch_add(1, Ordering::SeqCst);
    }
}

/// A run that has answered a line, and how often it was cleared away.
async fn answered(then: Then) -> (Run, Arc<AtomicU32>) {
    let (stdin, inner_stdin) = tokio::io::duplex(16);
    let (inner_stdout, stdout) = tokio::io::duplex(16);
    let cleared = Arc::new(AtomicU32::new(0));
    let body = Container { streams: Some((inner_stdin, inner_stdout)), then, cleared: Arc::clone(&cleared) };
    let spec = spec(Path::new("/nowhere"));
    let wire = Wire { stdin: Box::new(stdin), stdout: Box::new(stdout) };
    let mut run = Run::spawn("container", &spec, Run::log(&spec), wire, Box::new(body));
    run.input.send(b"longer than the stream holds").await.unwrap();
    assert_eq!(run.output.next_line().await.unwrap().unwrap(), b"LONGER THAN THE STREAM HOLDS");
    (run, cleared)
}

#[tokio::test]
async fn whatever_ends_it_a_program_is_cleared_away_once_before_anybody_learns_of_it() {
    let (mut run, cleared) = answered(Then::Ends).await;
    assert_eq!((ended(&mut run).await.cause, cleared.load(Ordering::SeqCst)), (Cause::Finished(3), 1));

    let (mut run, cleared) = answered(Then::Waits).await;
    assert_eq!((run.process.kill().await.cause, cleared.load(Ordering::SeqCst)), (Cause::Killed, 1));

    let (run, cleared) = answered(Then::Waits).await;
    drop(run);
    let done = async {
        while cleared.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PLENTY, done).await.expect("it is cleared away although nobody waits");
}

#[tokio::test]
async fn a_fault_of_the_backend_is_an_end_as_well() {
    let (mut run, cleared) = answered(Then::Panics).await;
    let Cause::Failed(report) = ended(&mut run).await.cause else { panic!("it did not end by itself") };
    assert!(report.message.contains("panicked"), "{report:?}");
    assert_eq!(cleared.load(Ordering::SeqCst), 1, "also then");
}
