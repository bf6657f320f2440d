use std::sync::{Arc, Mutex};

use rusqlite::Connection;

use super::key;
use crate::StoreError;
use crate::queue::{Lane, MAX_LANE_BYTES, MAX_LANE_WRITES, Queue, Write};

/// Writes its name down when it runs or fails.
struct Named(String, Arc<Mutex<Vec<String>>>);

impl Write for Named {
    fn run(&mut self, _: &Connection) -> Result<(), Option<StoreError>> {
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) {
        self.1.lock().unwrap().push(format!("{} {}", self.0, outcome.is_ok()));
    }
}

#[derive(Default)]
struct Line {
    queue: Queue,
    finished: Arc<Mutex<Vec<String>>>,
}

impl Line {
    fn push(&self, plugin: &str, name: &str, bytes: usize) -> Result<(), StoreError> {
        let write = Named(name.to_owned(), Arc::clone(&self.finished));
        self.queue.push(Lane::Plugin(key(plugin)), bytes, Box::new(write))
    }

    fn take(&self) -> Vec<String> {
        for write in self.queue.take_batch(None).unwrap() {
            write.finish(Ok(()));
        }
        std::mem::take(&mut self.finished.lock().unwrap())
    }
}

#[test]
fn lanes_take_turns_and_keep_their_order() {
    let line = Line::default();
    for number in 0..500 {
        line.push("noisy", &format!("n{number}"), 10).unwrap();
    }
    line.push("quiet", "q0", 10).unwrap();
    line.push("quiet", "q1", 10).unwrap();
    let first = line.take();
    assert_eq!(first[..5], ["n0 true", "q0 true", "n1 true", "q1 true", "n2 true"]);
    let rest: Vec<String> = first[5..].iter().cloned().chain(line.take()).collect();
    let expected: Vec<String> = (3..500).map(|number| format!("n{number} true")).collect();
    assert_eq!(rest, expected);
}

#[test]
fn a_batch_is_bounded_in_bytes() {
    let line = Line::default();
    for number in 0..12 {
        line.push("a", &format!("{number}"), 1024 * 1024).unwrap();
    }
    assert_eq!((line.take().len(), line.take().len()), (8, 4));
}

#[test]
fn a_flooded_lane_is_refused_and_the_others_are_not() {
    let line = Line::default();
    for _ in 0..MAX_LANE_WRITES {
        line.push("noisy", "n", 1).unwrap();
    }
    assert!(matches!(line.push("noisy", "n", 1), Err(StoreError::Overloaded)));
    line.push("quiet", "q", 1).unwrap();
    line.take();
    line.push("noisy", "n", 1).unwrap();

    // One write is accepted whatever its size; the next has to wait for it.
    line.push("large", "l", MAX_LANE_BYTES * 2).unwrap();
    assert!(matches!(line.push("large", "l", 1), Err(StoreError::Overloaded)));
}

#[test]
fn what_was_accepted_is_handed_out_after_closing() {
    let line = Line::default();
    line.push("a", "1", 1).unwrap();
    line.queue.close();
    assert!(matches!(line.push("a", "2", 1), Err(StoreError::Closed)));
    assert_eq!(line.take(), ["1 true"]);
    assert!(line.queue.take_batch(None).is_none());
}

#[test]
fn nobody_waits_for_a_writer_that_is_gone() {
    let line = Line::default();
    line.push("a", "1", 1).unwrap();
    line.queue.abandon();
    assert_eq!(*line.finished.lock().unwrap(), ["1 false"]);
    assert!(matches!(line.push("a", "2", 1), Err(StoreError::Closed)));
}
