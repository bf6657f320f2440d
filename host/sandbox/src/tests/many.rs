//! More runs than there is room for.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_runs_share_four_places() {
    let wasm = engine(4);
    let sandbox = Arc::new(load(&wasm, &echo()).await);
    let folder = tempfile::tempdir().unwrap();
    let runs: Vec<_> = (0..100)
        .map(|number| {
            let (sandbox, spec) = (Arc::clone(&sandbox), spec(folder.path()));
            tokio::spawn(async move {
                let mut run = sandbox.start(spec).await.unwrap();
                let line = format!("number {number}");
                run.input.send(line.as_bytes()).await.unwrap();
                assert_eq!(run.output.next_line().await.unwrap().unwrap(), line.as_bytes());
                drop(run.input);
                run.process.wait().await.cause
            })
        })
        .collect();
    for run in runs {
        let cause = tokio::time::timeout(PLENTY, run).await.expect("nobody waits for ever").unwrap();
        assert_eq!(cause, Cause::Finished(0));
    }
    assert_eq!((wasm.free_instances(), sandbox.describe().await.running), (4, 0));
}

#[tokio::test]
async fn a_start_that_is_given_up_takes_no_place() {
    let wasm = engine(1);
    let sandbox = load(&wasm, &program("(call $sleep)")).await;
    let folder = tempfile::tempdir().unwrap();
    let mut first = sandbox.start(spec(folder.path())).await.unwrap();
    for wait in [Duration::ZERO, Duration::from_millis(50)] {
        let second = tokio::time::timeout(wait, sandbox.start(spec(folder.path()))).await;
        assert!(second.is_err(), "there is no room");
    }
    assert_eq!(sandbox.describe().await.running, 1);
    first.process.kill().await;
    assert_eq!(wasm.free_instances(), 1);
    let mut third = tokio::time::timeout(PLENTY, sandbox.start(spec(folder.path()))).await.unwrap().unwrap();
    third.process.kill().await;
}

#[tokio::test]
async fn waiting_in_vain_is_told() {
    let wasm = engine(1);
    let sandbox = load(&wasm, &program("(call $sleep)")).await;
    let folder = tempfile::tempdir().unwrap();
    let mut first = sandbox.start(spec(folder.path())).await.unwrap();
    assert_eq!(sandbox.describe().await.trouble, None);
    let waited = tokio::time::timeout(Duration::from_millis(1500), async {
        let waiting = sandbox.start(spec(folder.path()));
        let told = async {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if let Some(trouble) = sandbox.describe().await.trouble {
                    break trouble;
                }
            }
        };
        tokio::select! { _ = waiting => panic!("there is no room"), trouble = told => trouble }
    });
    assert!(!waited.await.expect("it is told after a second").hints.is_empty());
    first.process.kill().await;
}
