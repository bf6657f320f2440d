//! `cargo xtask fuzz`: the fuzz targets of `tests/fuzz`, each for a while, two at a time.
//!
//! Owns how they are built and run, and what is said of an input that breaks one; what a target promises belongs to the
//! target. They are built with the coverage flags that `cargo fuzz` uses, so that it need not be installed, in a target
//! folder of their own, so that nothing else is built again. What is fuzzed is safe Rust: a panic, a hang and a flood of
//! memory show without a sanitizer. None goes on running once this program has ended.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::arguments::Arguments;
use crate::repository::Repository;
use crate::tether::Tethered;
use crate::ui;

/// How long each target runs unless told otherwise.
const SECONDS: u32 = 60;
/// The longest a target may be told to run: what libFuzzer counts to.
const MOST_SECONDS: u32 = i32::MAX.cast_unsigned();
/// Targets that run at the same time.
const AT_ONCE: usize = 2;
/// What one input may take.
const INPUT_SECONDS: u64 = 10;
const MEMORY_MIB: u64 = 1024;
const INPUT_BYTES: u64 = 8192;
/// What is asked for is given this long to end by itself.
const GRACE: Duration = Duration::from_secs(120);
/// Inputs kept from earlier runs; reading them takes of the time to find new ones.
const MOST_KEPT: usize = 5000;

/// What makes the compiler count which branches an input takes, and tell what values are compared with each other.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
];

/// Runs the command.
pub(crate) fn run(repository: &Repository, mut arguments: Arguments) -> Result<ExitCode> {
    let seconds = match arguments.value("--seconds")? {
        None => SECONDS,
        Some(text) => seconds_of(&text)?,
    };
    let input = arguments.value("--input")?.map(PathBuf::from);
    let named = arguments.rest();
    let fuzz = Fuzz::new(repository)?;
    let all = fuzz.targets()?;
    if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
        bail!("there is no fuzz target `{unknown}`; there are {}", all.join(", "));
    }
    let _lock = repository.lock("fuzz")?;
    if let Some(input) = input {
        let [name] = named.as_slice() else { bail!("name the one fuzz target that `--input` is for") };
        return fuzz.rerun(name, &input);
    }
    let chosen = if named.is_empty() { all } else { named };
    fuzz.build(&chosen)?;
    let failed = fuzz.run_all(&chosen, seconds)?;
    ui::print(&format!("{} passed, {} failed", chosen.len() - failed.len(), failed.len()));
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How long each target runs. libFuzzer takes none for no end at all.
fn seconds_of(text: &str) -> Result<u32> {
    let seconds = text.parse().ok().filter(|seconds| (1..=MOST_SECONDS).contains(seconds));
    seconds.with_context(|| {
        format!("`--seconds {text}`: name how many seconds each target runs, from 1 to {MOST_SECONDS}; without it: {SECONDS}")
    })
}

struct Fuzz<'a> {
    repository: &'a Repository,
    /// The workspace.
    folder: PathBuf,
    /// Builds, inputs that were found, and inputs that broke something.
    target: PathBuf,
    /// The machine's own triple: with it named, build scripts and macros are not instrumented.
    triple: String,
}

/// A target that runs.
struct Running {
    name: String,
    program: Tethered,
    log: PathBuf,
    started: Instant,
}

impl<'a> Fuzz<'a> {
    fn new(repository: &'a Repository) -> Result<Self> {
        let described = ui::capture(repository.command("rustc").arg("-vV"))?;
        let triple = described.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
        Ok(Self {
            repository,
            folder: repository.root().join("tests/fuzz"),
            target: repository.target().join("fuzz"),
            triple: triple.to_owned(),
        })
    }

    fn targets(&self) -> Result<Vec<String>> {
        let files = fs::read_dir(self.folder.join("fuzz_targets")).context("there are no fuzz targets")?;
        let mut names: Vec<String> = files
            .filter_map(|file| file.ok()?.path().file_stem().map(|name| name.to_string_lossy().into_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn build(&self, targets: &[String]) -> Result<()> {
        ui::say("building the fuzz targets");
        let started = Instant::now();
        let mut cargo = self.repository.cargo();
        cargo.current_dir(&self.folder).args(["build", "--locked", "--release", "--target", &self.triple]);
        for name in targets {
            cargo.args(["--bin", name]);
        }
        cargo.env("CARGO_TARGET_DIR", &self.target).env("RUSTFLAGS", FLAGS.join(" "));
        // Takes precedence over what is set here.
        cargo.env_remove("CARGO_ENCODED_RUSTFLAGS");
        ui::run_visibly(&mut cargo, "building the fuzz targets").map_err(|error| {
            anyhow!(
                "{error}; the fuzz targets have a lock file of their own: if that is what needs to be updated, `cargo update \
                 --workspace --manifest-path tests/fuzz/Cargo.toml` adds to it what a crate of the host began to use"
            )
        })?;
        ui::say(&format!("the fuzz targets are built after {}", ui::seconds(started.elapsed())));
        Ok(())
    }

    /// Runs the targets; gives those that failed.
    fn run_all(&self, targets: &[String], seconds: u32) -> Result<Vec<String>> {
        let mut waiting: VecDeque<&String> = targets.iter().collect();
        let (mut running, mut failed) = (Vec::<Running>::new(), Vec::new());
        loop {
            while running.len() < AT_ONCE
                && let Some(name) = waiting.pop_front()
            {
                running.push(self.start(name, seconds)?);
            }
            if running.is_empty() {
                return Ok(failed);
            }
            thread::sleep(Duration::from_millis(200));
            let mut still = Vec::new();
            for mut one in running {
                if one.started.elapsed() > Duration::from_secs(seconds.into()) + GRACE {
                    one.program.let_go();
                }
                match one.program.ended().context("a fuzz target cannot be waited for")? {
                    None => still.push(one),
                    Some(status) if self.judge(&one, status) => {}
                    Some(_) => failed.push(one.name),
                }
            }
            running = still;
        }
    }

    /// Says how a target ended; true when it found nothing.
    fn judge(&self, ended: &Running, status: ExitStatus) -> bool {
        let name = &ended.name;
        let took = ui::seconds(ended.started.elapsed());
        let said = fs::read(&ended.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        if status.success() {
            ui::say(&format!("fuzz {name}: nothing found in {took}; {}", counts(&said)));
            return true;
        }
        ui::error(&format!("fuzz {name} failed after {took} ({status}); {}\n{}", counts(&said), what_broke(&said)));
        match artifact(&said) {
            Some(input) => ui::error(&format!(
                "the input: {input}\n    run it again:  cargo xtask fuzz {name} --input {input}\n    \
                 once it is fixed, keep it: copy it to tests/fuzz/corpus/{name}/ under a name that says what it is"
            )),
            None => ui::error(&format!("it left no input behind; all it said: {}", ended.log.display())),
        }
        false
    }

    /// Runs one input on this terminal.
    fn rerun(&self, name: &str, input: &Path) -> Result<ExitCode> {
        let input = input.canonicalize().with_context(|| format!("cannot read {}", input.display()))?;
        self.build(&[name.to_owned()])?;
        let mut command = self.repository.command(self.program(name));
        command.args(bounds()).arg(&input);
        let status = command.status().with_context(|| format!("cannot run the fuzz target {name}"))?;
        ui::print(&format!("{}: {}", input.display(), if status.success() { "breaks nothing" } else { "broke it" }));
        Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn program(&self, name: &str) -> PathBuf {
        self.target.join(&self.triple).join("release").join(name)
    }

    fn start(&self, name: &str, seconds: u32) -> Result<Running> {
        let (found, artifacts) = (self.target.join("found").join(name), self.target.join("artifacts").join(name));
        if fs::read_dir(&found).is_ok_and(|files| files.count() > MOST_KEPT) {
            fs::remove_dir_all(&found).with_context(|| format!("cannot empty {}", found.display()))?;
        }
        for folder in [&found, &artifacts] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let log = self.target.join(format!("{name}.log"));
        let file = fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let program = Tethered::start(self.repository, self.program(name).as_os_str(), |command| {
            // What it finds goes to the first folder; the corpus in the repository is only read.
            command.args(bounds()).arg(&found).arg(self.folder.join("corpus").join(name));
            command.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={INPUT_BYTES}"));
            command.arg(format!("-artifact_prefix={}/", artifacts.display()));
            command.stdout(Stdio::null()).stderr(file);
        })?;
        Ok(Running { name: name.to_owned(), program, log, started: Instant::now() })
    }
}

/// What one input may take, as libFuzzer is told.
fn bounds() -> [String; 2] {
    [format!("-timeout={INPUT_SECONDS}"), format!("-rss_limit_mb={MEMORY_MIB}")]
}

/// How many inputs were tried and how much of the program they reached, as libFuzzer says it last.
fn counts(log: &str) -> String {
    let line = log.lines().rev().find(|line| line.starts_with('#') && line.contains("cov: ")).unwrap_or_default();
    let word = |before: &str| line.split_whitespace().skip_while(|word| *word != before).nth(1);
    let done = log.lines().rev().find_map(|line| line.strip_prefix("Done ")?.split_whitespace().next());
    let tried = done.or_else(|| line.split_whitespace().next()?.strip_prefix('#')).unwrap_or("0");
    format!("{tried} inputs, {} branches, {} kept", word("cov:").unwrap_or("0"), word("corp:").unwrap_or("none"))
}

/// Where libFuzzer wrote the input that broke the target.
fn artifact(log: &str) -> Option<&str> {
    log.lines().rev().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path.trim())
}

/// The end of a log without the lines that only count.
fn what_broke(log: &str) -> String {
    let told: Vec<&str> = log.lines().filter(|line| !line.starts_with('#') && !line.starts_with("INFO")).collect();
    ui::excerpt(&told.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "INFO: Seed: 1\n#2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0\n\
        #4096\tpulse  cov: 812 ft: 900 corp: 3/4Kb lim: 4 exec/s: 2048 rss: 60Mb\n";

    #[test]
    fn a_run_has_an_end() {
        assert_eq!(seconds_of("5").unwrap(), 5);
        for endless in ["0", "-1", "", "1.5", "2147483648", "99999999999999999999"] {
            let error = seconds_of(endless).unwrap_err().to_string();
            assert!(error.contains(&format!("`--seconds {endless}`")) && error.contains("from 1"), "{error}");
        }
    }

    #[test]
    fn what_a_fuzzer_did_is_read_from_its_last_lines() {
        assert_eq!(counts(LOG), "4096 inputs, 812 branches, 3/4Kb kept");
        assert_eq!(counts(&format!("{LOG}Done 5000 runs in 61 second(s)\n")), "5000 inputs, 812 branches, 3/4Kb kept");
        assert_eq!(counts(""), "0 inputs, 0 branches, none kept");
    }

    #[test]
    fn the_input_that_broke_it_is_named() {
        let log = format!(
            "{LOG}thread '<unnamed>' panicked at x.rs:1:1:\nno\n==1== ERROR: libFuzzer: deadly signal\n\
             artifact_prefix='/t/artifacts/frame/'; Test unit written to /t/artifacts/frame/crash-da39\n"
        );
        assert_eq!(artifact(&log), Some("/t/artifacts/frame/crash-da39"));
        assert_eq!(artifact(LOG), None);
        let shown = what_broke(&log);
        assert!(shown.contains("panicked at x.rs") && !shown.contains("pulse"), "{shown}");
    }
}
