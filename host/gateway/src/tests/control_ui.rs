//! The Control UI: an installed page is served whole, safely, and nothing else of the disk.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::web::{Answer, bearer, request};
use super::{Server, start, with_token};
use crate::{Auth, GatewayConfig};

const PAGE: &str = "<!doctype html>\n<html data-openclaw-control-ui-build-id=\"b\" lang=\"en\"><head>\
<script>start()</script><script type=\"module\" src=\"./assets/index-DsEuFQRE.js\"></script></head></html>";

/// A folder with a page in it; gone with the test.
struct Build {
    folder: PathBuf,
}

impl Build {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("leanclaw-page-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(folder.join("page/assets")).unwrap();
        let build = Self { folder };
        build.write("page/index.html", PAGE);
        build.write("page/assets/index-DsEuFQRE.js", "start()");
        build.write("page/assets/plain.js", "plain()");
        build.write("page/assets/plain.js.br", "compressed");
        build.write("page/favicon.svg", "<svg/>");
        build.write("page/.env", "hidden");
        build.write("secret.txt", "secret");
        build
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.folder.join(path), text).unwrap();
    }

    async fn server(&self, config: GatewayConfig) -> Server {
        let mut config = config;
        config.live.control_ui.root = Some(self.folder.join("page"));
        start(config).await
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

async fn get(server: &Server, path: &str) -> Answer {
    request(server, &format!("GET {path}"), &[], "").await
}

#[tokio::test]
async fn the_page_is_served_at_every_place_of_its_own() {
    let build = Build::new();
    let server = build.server(with_token()).await;
    for path in ["/", "/index.html", "/chat", "/settings/logs/", "/plugins", "/agent%3Amain", "/?session=main"] {
        let page = get(&server, path).await;
        assert_eq!((page.status, page.headers["content-type"].as_str()), (200, "text/html; charset=utf-8"), "{path}");
        assert_eq!(page.headers["cache-control"], "no-cache");
        assert!(page.body.contains("<html data-openclaw-control-ui-base-path=\"\" lang=\"en\">"), "{}", page.body);
        assert!(page.body.contains("src=\"/assets/index-DsEuFQRE.js\""), "{}", page.body);
    }
    let script = get(&server, "/assets/index-DsEuFQRE.js").await;
    assert_eq!((script.status, script.body.as_str()), (200, "start()"));
    assert_eq!(script.headers["content-type"], "text/javascript; charset=utf-8");
    assert_eq!(script.headers["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(get(&server, "/favicon.svg").await.headers["cache-control"], "no-cache");
    let head = request(&server, "HEAD /favicon.svg", &[], "").await;
    assert_eq!((head.status, head.body.as_str(), head.headers["content-length"].as_str()), (200, "", "6"));
    // What the gateway answered before, it answers still.
    assert_eq!(get(&server, "/healthz").await.json()["status"], "live");
    assert_eq!(get(&server, "/plugins/notes/http/x").await.status, 401);
    assert!(server.dial("/chat", &[]).await.is_ok(), "a socket may be opened at any path");
}

#[tokio::test]
async fn what_is_not_there_is_not_the_page() {
    let build = Build::new();
    let server = build.server(with_token()).await;
    for path in [
        "/old.js",
        "/assets/gone-12345678.css",
        "/data.json",
        "/api",
        "/api/users/1/avatar",
        "/v1/models",
        "/__openclaw__/canvas/",
        "/hooks/wake",
        "/plugins/notes/other",
    ] {
        let answer = get(&server, path).await;
        assert_eq!((answer.status, answer.json()["error"]["type"].clone()), (404, json!("not_found")), "{path}");
    }
    // A folder is no file: it is a place in the page, and nothing lists it.
    assert!(!get(&server, "/assets/").await.body.contains("plain.js"));
    for (line, status) in [("POST /", 405), ("PUT /chat", 404), ("POST /control-ui-config.json", 405)] {
        assert_eq!(request(&server, line, &[], "").await.status, status, "{line}");
    }
}

#[tokio::test]
async fn nothing_outside_of_its_folder_is_served() {
    let build = Build::new();
    let server = build.server(with_token()).await;
    std::os::unix::fs::symlink(build.folder.join("secret.txt"), build.folder.join("page/link.txt")).unwrap();
    std::os::unix::fs::symlink(&build.folder, build.folder.join("page/up")).unwrap();
    std::os::unix::fs::symlink(build.folder.join("page/favicon.svg"), build.folder.join("page/inside.svg")).unwrap();
    for path in [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/..%5csecret.txt",
        "//etc/passwd.txt",
        "/link.txt",
        "/up/secret.txt",
        "/.env",
        "/assets/%00.js",
    ] {
        let answer = get(&server, path).await;
        assert!(!answer.body.contains("secret\n") && !answer.body.contains("hidden"), "{path}: {}", answer.body);
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
    }
    assert_eq!(get(&server, "/inside.svg").await.body, "<svg/>");
}

#[tokio::test]
async fn what_belongs_to_another_user_is_not_served() {
    const STRANGER: u32 = 54_321;
    let build = Build::new();
    let server = build.server(with_token()).await;
    let give = |path: &str, owner: Option<u32>| std::os::unix::fs::chown(build.folder.join(path), owner, None);
    if give("page/favicon.svg", Some(STRANGER)).is_err() {
        // Only root can give files away.
        return;
    }
    assert_eq!(get(&server, "/favicon.svg").await.status, 503);
    assert_eq!(get(&server, "/").await.status, 200);
    give("page/assets", Some(STRANGER)).unwrap();
    assert_eq!(get(&server, "/assets/plain.js").await.status, 503, "its owner may put another file there");
    give("page", Some(STRANGER)).unwrap();
    let refused = get(&server, "/").await;
    assert_eq!(refused.status, 503);
    assert!(!refused.body.contains("54321"), "why is in the log: {}", refused.body);
    for path in ["page", "page/assets", "page/favicon.svg"] {
        give(path, Some(0)).unwrap();
    }
    assert_eq!(get(&server, "/").await.status, 200, "root may do as it likes anyway");
}

#[tokio::test]
async fn what_every_user_may_write_to_is_not_served() {
    use std::os::unix::fs::PermissionsExt as _;
    let build = Build::new();
    let server = build.server(with_token()).await;
    let allow = |path: &str, mode: u32| {
        fs::set_permissions(build.folder.join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    allow("page/favicon.svg", 0o666);
    assert_eq!(get(&server, "/favicon.svg").await.status, 503);
    assert_eq!(get(&server, "/").await.status, 200);
    allow("page", 0o777);
    assert_eq!(get(&server, "/").await.status, 503);
    allow("page", 0o755);
    allow("page/assets", 0o777);
    assert_eq!(get(&server, "/assets/plain.js").await.status, 503);
    allow("page/assets", 0o755);
    assert_eq!(get(&server, "/assets/plain.js").await.status, 200);
    assert_eq!(get(&server, "/chat").await.status, 200);
}

#[tokio::test]
async fn every_answer_says_what_may_run() {
    let build = Build::new();
    let server = build.server(with_token()).await;
    for path in ["/", "/favicon.svg", "/gone.js", "/__openclaw/control-ui-config.json", "/control-ui-config.json"] {
        let answer = get(&server, path).await;
        let policy = &answer.headers["content-security-policy"];
        assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(!policy.contains("'unsafe-eval'") && !policy.contains("script-src 'self' 'unsafe-inline'"), "{policy}");
        assert_eq!(answer.headers["x-frame-options"], "DENY", "{path}");
        assert_eq!(answer.headers["cross-origin-resource-policy"], "same-origin", "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        // Only the page has scripts inside.
        assert_eq!(policy.contains("'sha256-"), path == "/", "{path}: {policy}");
    }
}

#[tokio::test]
async fn what_a_browser_has_is_not_sent_again() {
    let build = Build::new();
    let server = build.server(with_token()).await;
    for path in ["/", "/favicon.svg"] {
        let tag = get(&server, path).await.headers["etag"].clone();
        let again = request(&server, &format!("GET {path}"), &[("if-none-match", &tag)], "").await;
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{path}");
    }
    let tag = get(&server, "/").await.headers["etag"].clone();
    build.write("page/index.html", &PAGE.replace("start()", "other()"));
    let changed = request(&server, "GET /", &[("if-none-match", &tag)], "").await;
    assert_eq!(changed.status, 200);
    let compressed = request(&server, "GET /assets/plain.js", &[("accept-encoding", "gzip, br")], "").await;
    assert_eq!((compressed.headers["content-encoding"].as_str(), compressed.body.as_str()), ("br", "compressed"));
    assert_eq!(compressed.headers["content-type"], "text/javascript; charset=utf-8");
    let plain = request(&server, "GET /assets/plain.js", &[("accept-encoding", "gzip")], "").await;
    assert_eq!((plain.headers.contains_key("content-encoding"), plain.body.as_str()), (false, "plain()"));
    assert_eq!(plain.headers["vary"], "accept-encoding");
}

#[tokio::test]
async fn a_large_file_is_sent_whole() {
    let build = Build::new();
    let text: String = (0..400_000).map(|number| char::from(b'a' + u8::try_from(number % 23).unwrap())).collect();
    build.write("page/big.txt", &text);
    let server = build.server(with_token()).await;
    let big = get(&server, "/big.txt").await;
    assert_eq!(big.headers["content-length"], "400000");
    assert!(big.body == text);
}

#[tokio::test]
async fn the_page_learns_how_it_is_to_be_shown() {
    let build = Build::new();
    let mut config = with_token();
    config.live.control_ui.base_path = "/claw".into();
    let server = build.server(config).await;
    let local = get(&server, "/claw/control-ui-config.json").await;
    let settings = local.json();
    assert_eq!(
        (local.status, &settings["basePath"], &settings["serverVersion"]),
        (200, &json!("/claw"), &json!("1.2.3"))
    );
    assert_eq!((&settings["terminalEnabled"], settings.get("serverBuildId")), (&json!(false), None));
    // From elsewhere: version 3 is told what it cannot do without, version 4 shows the credential.
    let far = ("host", "gateway.example");
    let open = request(&server, "GET /claw/__openclaw/control-ui-config.json", &[far], "").await;
    let basics =
        json!({"basePath": "/claw", "assistantName": "Assistant", "assistantAvatar": "A", "assistantAgentId": "main"});
    assert_eq!((open.status, open.json()), (200, basics));
    assert_eq!(request(&server, "GET /claw/control-ui-config.json", &[far], "").await.status, 401);
    let shown = [far, ("authorization", &bearer())];
    assert_eq!(request(&server, "GET /claw/control-ui-config.json", &shown, "").await.status, 200);
    let wrong = [far, ("authorization", "Bearer wrong")];
    assert_eq!(request(&server, "GET /claw/control-ui-config.json", &wrong, "").await.status, 401);
    assert_eq!(get(&server, "/claw/avatar/main?meta=1").await.json()["avatarUrl"], json!(null));
    assert_eq!(get(&server, "/claw/avatar/main").await.status, 404);
    assert_eq!(get(&server, "/claw/avatar/..?meta=1").await.status, 404);
    assert_eq!(get(&server, "/claw/avatar/nobody?meta=1").await.status, 404);
    for agent in ["main", "nobody"] {
        let line = format!("GET /claw/avatar/{agent}?meta=1");
        assert_eq!(request(&server, &line, &[far], "").await.status, 401, "a stranger learns nothing about {agent}");
    }
    let mut admin = server.admin().await;
    let picture = "data:image/png;base64,AAAA";
    let update = json!({"agentId": "main", "name": "Ada", "avatar": picture});
    assert_eq!(admin.call("agents.update", update).await["ok"], true);
    assert_eq!(get(&server, "/claw/control-ui-config.json").await.json()["assistantName"], "Ada");
    assert_eq!(get(&server, "/claw/avatar/main?meta=1").await.json()["avatarUrl"], picture);
}

#[tokio::test]
async fn below_another_path_the_top_stays_free() {
    let build = Build::new();
    let mut config = with_token();
    config.live.control_ui.base_path = "/claw".into();
    let server = build.server(config).await;
    let moved = get(&server, "/claw?a=b").await;
    assert_eq!((moved.status, moved.headers["location"].as_str()), (302, "/claw/?a=b"));
    let page = get(&server, "/claw/chat").await;
    assert!(page.body.contains("base-path=\"/claw\"") && page.body.contains("src=\"/claw/assets/"), "{}", page.body);
    assert_eq!(get(&server, "/claw/favicon.svg").await.body, "<svg/>");
    for path in ["/", "/chat", "/clawed", "/favicon.svg"] {
        assert_eq!(get(&server, path).await.status, 404, "{path}");
    }
    assert_eq!(get(&server, "/healthz").await.status, 200);
}

#[tokio::test]
async fn without_a_page_a_browser_is_told_how_to_get_one() {
    let server = start(with_token()).await;
    let told = request(&server, "GET /", &[("accept", "text/html,*/*")], "").await;
    assert_eq!((told.status, told.headers["content-type"].as_str()), (404, "text/html; charset=utf-8"));
    assert!(told.body.contains("gateway.controlUi.root"), "{}", told.body);
    assert!(told.headers["content-security-policy"].contains("default-src 'none'"));
    assert_eq!(get(&server, "/").await.json()["error"]["type"], "not_found");

    let build = Build::new();
    fs::remove_file(build.folder.join("page/index.html")).unwrap();
    let server = build.server(GatewayConfig { auth: Auth::default(), ..with_token() }).await;
    let broken = get(&server, "/").await;
    assert_eq!((broken.status, broken.json()["error"]["type"].clone()), (503, json!("unavailable")));
    let folder = build.folder.display().to_string();
    assert!(broken.body.contains("LEANCLAW_CONTROL_UI_ROOT") && !broken.body.contains(&folder), "{}", broken.body);
}
