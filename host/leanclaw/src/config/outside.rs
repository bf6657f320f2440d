//! Variables that are no settings: conventions of the system, and those of this project's build and tests.

/// A variable that is no setting: it is read from the environment alone, and no file or flag stands in for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Outside {
    /// The name in the environment.
    pub name: &'static str,
    /// What holds without it.
    pub default: &'static str,
    /// Who reads it and what it does.
    pub doc: &'static str,
}

/// Every such variable: conventions of the system first, then those of this project's build and tests, about which the
/// program says nothing when it finds them in its environment.
pub const OUTSIDE: &[Outside] = &[
    Outside {
        name: "NO_COLOR",
        default: "colours where a terminal shows them",
        doc: "leanclaw: with any value but an empty one, nothing is coloured.",
    },
    Outside {
        name: "PATH",
        default: "no program is found",
        doc: "leanclaw plugin build, plugin dev: where the build command and its tools are looked for.",
    },
    Outside {
        name: "LEANCLAW_AGENT",
        default: "`leanclaw-agent.wasm` beside the program, or in `../lib/leanclaw` seen from there",
        doc: "leanclaw start: the agent's component, which runs in the embedded sandbox; `cargo xtask` sets it.",
    },
    Outside {
        name: "LEANCLAW_WASM_STD",
        default: "none",
        doc: "cargo xtask: a packed standard library for wasm32-wasip2, for machines where nothing else provides it.",
    },
    Outside {
        name: "LEANCLAW_BUILD_CACHE",
        default: "~/.cache/leanclaw-ci",
        doc: ".ci/run: the folder of what it builds, kept from one run to the next.",
    },
    Outside {
        name: "LEANCLAW_BLESS",
        default: "files are only compared",
        doc: "cargo test: when set, tests write anew the generated files that they compare with.",
    },
    Outside {
        name: "LEANCLAW_TEST_BINARY",
        default: "it is built",
        doc: "cargo test -p leanclaw-tests: the leanclaw program that is tested; `cargo xtask test` sets it.",
    },
    Outside {
        name: "LEANCLAW_TEST_PLUGINS",
        default: "target/plugins",
        doc: "cargo test -p leanclaw-tests: the built example plugins; `cargo xtask test` sets it.",
    },
    Outside {
        name: "LEANCLAW_TEST_NOT_RUN",
        default: "they only say so",
        doc: "cargo test -p leanclaw-tests: a file that names the tests this machine cannot run; `cargo xtask test` sets it.",
    },
    Outside {
        name: "LEANCLAW_TEST_FRAMES",
        default: "they are not kept",
        doc: "cargo test -p leanclaw-gateway, -p leanclaw-tests: a folder for the frames that their clients hear, which tests/clients \
              checks; `cargo xtask test` sets it.",
    },
    Outside {
        name: "LEANCLAW_TEST_DEV_DATA",
        default: "target/dev-data",
        doc: "cargo xtask start: the development data folder; `cargo xtask test start` sets it.",
    },
    Outside {
        name: "LEANCLAW_TEST_CLIENTS",
        default: "target/clients",
        doc: "tests/clients: the installed OpenClaw programs and the browser; `cargo xtask test` sets it.",
    },
    Outside {
        name: "LEANCLAW_TEST_FAKE_MODEL",
        default: "target/debug/fake-model",
        doc: "tests/clients: the program that stands in for a model; `cargo xtask test` sets it.",
    },
    Outside {
        name: "LEANCLAW_TEST_PICTURE",
        default: "no picture is taken",
        doc: "tests/clients: when set, the test of agents takes the README's picture anew.",
    },
];
