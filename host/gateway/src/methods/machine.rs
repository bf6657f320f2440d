//! `system.info` and `environments.list`: the machine the gateway runs on, as far as the system tells.

use std::fs;
use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use serde_json::{Value, json};

use crate::connection::{Answer, Call};
use crate::error::unavailable;
use crate::phrase::Shape;
use crate::wire::Payload;

static ENVIRONMENTS: LazyLock<Shape> = LazyLock::new(|| {
    Shape::of_properties(&[("includeDesktopSetup", "boolean", false), ("projection", "string", false)])
});

/// `system.info {}` → `{hostname, platform, cpuCount, memoryTotalBytes, …}`. Sizes the system does not tell are 0, texts
/// are empty.
pub(crate) fn info(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.takes_nothing()?;
    let (boot_id, uptime_ms) = (call.state.boot_id.clone(), call.state.uptime_ms());
    Ok(Answer::Later(Box::pin(async move {
        let described = tokio::task::spawn_blocking(move || described(&boot_id, uptime_ms)).await;
        described
            .map(|info| Payload::json(&info))
            .map_err(|error| unavailable(&format!("the machine cannot be described: {error}")))
    })))
}

/// What of the machine stays as it is while the program runs.
struct Fixed {
    release: String,
    os_label: String,
    cpu_count: usize,
    cpu_model: Option<String>,
}

static FIXED: LazyLock<Fixed> = LazyLock::new(|| Fixed {
    release: one_line("/proc/sys/kernel/osrelease"),
    os_label: os_label(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
    cpu_count: std::thread::available_parallelism().map_or(1, usize::from),
    cpu_model: cpu_model(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default()).map(str::to_owned),
});

/// Reads files, which may take its time.
fn described(boot_id: &str, uptime_ms: u64) -> Value {
    let (host, fixed) = (host_name(), &*FIXED);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mut info = json!({
        "machineName": host,
        "hostname": host,
        "platform": std::env::consts::OS,
        "release": &fixed.release,
        "arch": std::env::consts::ARCH,
        "osLabel": &fixed.os_label,
        // There is no Node.js in this program.
        "nodeVersion": "none",
        "pid": std::process::id(),
        "processInstanceId": boot_id,
        "uptimeMs": uptime_ms,
        "cpuCount": fixed.cpu_count,
        "memoryTotalBytes": bytes_of(&memory, "MemTotal:"),
        "memoryFreeBytes": bytes_of(&memory, "MemAvailable:"),
    });
    if let Some(info) = info.as_object_mut() {
        info.extend(fixed.cpu_model.as_ref().map(|model| ("cpuModel".to_owned(), json!(model))));
        info.extend(load(&one_line("/proc/loadavg")).map(|load| ("loadAverage".to_owned(), json!(load))));
    }
    info
}

/// `environments.list {}` → `{environments, profiles}`: the gateway's own machine, on which sessions live and tools run.
/// None is made on demand, so there are no profiles of such.
pub(crate) fn environments(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.read::<Value>(&ENVIRONMENTS, &[])?;
    Ok(Answer::json(&json!({"environments": [{
        "id": "gateway", "type": "local", "label": host_name(), "status": "available",
        "platform": std::env::consts::OS, "sessionHost": true, "trust": "persistent",
        "capabilities": ["sessions", "tools"],
    }], "profiles": []})))
}

fn one_line(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The machine's name; `gateway` where the system does not tell. Read once: it hardly changes.
pub(crate) fn host_name() -> &'static str {
    static NAME: LazyLock<String> = LazyLock::new(|| {
        let told = ["/proc/sys/kernel/hostname", "/etc/hostname"].map(one_line);
        told.into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| "gateway".to_owned())
    });
    &NAME
}

fn os_label(release: &str) -> String {
    let named = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    named.map_or_else(|| std::env::consts::OS.to_owned(), |name| name.trim_matches('"').to_owned())
}

/// A line such as `MemTotal:  1024 kB`, in bytes.
fn bytes_of(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

fn cpu_model(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim())
}

fn load(text: &str) -> Option<[f64; 3]> {
    let mut numbers = text.split(' ').map(str::parse::<f64>);
    Some([numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_writes_is_read() {
        assert_eq!(bytes_of("MemTotal:        2048 kB\nMemAvailable:  1 kB\n", "MemTotal:"), 2048 * 1024);
        assert_eq!(bytes_of("MemTotal: x", "MemTotal:"), 0);
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: A CPU @ 1 GHz\n"), Some("A CPU @ 1 GHz"));
        assert_eq!(os_label("NAME=x\nPRETTY_NAME=\"An OS 1\"\n"), "An OS 1");
        assert_eq!((load("0.5 1.25 2 3/4 5"), load("")), (Some([0.5, 1.25, 2.0]), None));
    }
}
