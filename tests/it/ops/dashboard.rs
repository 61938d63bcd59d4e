//! `/dashboard` in a real browser, and `/`.

use harness::client::{Client, crowd, send};
use harness::instance::{Instance, Settings};
use harness::wait::eventually_true;
use reqwest::Method;
use serde_json::{Value, json};

use super::webhooks::receiver::SECRET;
use crate::clients::browser::Browser;

const KEY: &str = "a-key-of-thirty-two-characters-ok";

/// Keeps each violation of the policy of the page. The browser runs it before the page.
const VIOLATIONS: &str = "
    window.violations = [];
    document.addEventListener('securitypolicyviolation', event =>
        violations.push(event.violatedDirective + ' ' + event.blockedURI));
    window.addEventListener('error', event => violations.push(event.message));
    window.addEventListener('unhandledrejection', event => violations.push(String(event.reason)));
";

/// The rows of the feed, as `online alice`, the newest first.
const FEED: &str = "return [...document.querySelectorAll('#feed li')]
    .map(row => [...row.children].slice(1).map(each => each.textContent).join(' '))";

/// Colours of the page and whether its line chart has a line.
const LOOK: &str = "
    const chart = document.querySelector('#chart');
    const pixels = chart.getContext('2d').getImageData(0, 0, chart.width, chart.height).data;
    return [getComputedStyle(document.body).backgroundColor, pixels.some(value => value > 0)]";

async fn open(client: &Client) -> Browser {
    let browser = Browser::start().await;
    let script = json!({ "source": VIOLATIONS });
    browser
        .command("Page.addScriptToEvaluateOnNewDocument", &script)
        .await;
    browser.open(&format!("{}/dashboard", client.base())).await;
    browser
}

async fn shows(browser: &Browser, selector: &str, text: &str) {
    eventually_true(&format!("{selector} shows {text}"), async || {
        browser.text(selector).await.contains(text)
    })
    .await;
}

async fn feed(browser: &Browser) -> Vec<String> {
    serde_json::from_value(browser.run(FEED).await).expect("rows")
}

async fn feed_has(browser: &Browser, row: &str) {
    eventually_true(row, async || {
        feed(browser).await.iter().any(|each| each == row)
    })
    .await;
}

/// Types into the field and lets the page react.
async fn fill(browser: &Browser, field: &str, text: &str) {
    let script = format!(
        "const field = document.querySelector('{field}'); field.value = '{text}';
         field.dispatchEvent(new Event('input', {{ bubbles: true }}))"
    );
    browser.run(&script).await;
}

async fn assert_no_violations(browser: &Browser) {
    assert_eq!(browser.run("return window.violations").await, json!([]));
}

#[tokio::test]
async fn an_operator_sees_the_count_the_events_and_why_a_user_is_online() {
    let instance = Instance::start(&Settings::new()).await;
    let client = instance.client();
    client.connect("before").await;
    let browser = open(&client).await;
    shows(&browser, "#state", "Live").await;
    shows(&browser, "#count", "1").await;
    let is_hidden = "return document.querySelector('#login').hidden";
    assert_eq!(browser.run(is_hidden).await, true);

    client.connect_as("alice", "phone-1").await;
    client.connect("bob").await;
    feed_has(&browser, "online alice").await;
    shows(&browser, "#count", "3").await;
    client.disconnect("bob").await;
    feed_has(&browser, "offline bob").await;
    let brief = client.of_user("brief", "connect");
    send(brief.json(&json!({ "ttlMs": 1_000 }))).await;
    feed_has(&browser, "expired brief").await;

    fill(&browser, "#needle", "bo").await;
    eventually_true("only bob is shown", async || {
        feed(&browser).await == ["offline bob", "online bob"]
    })
    .await;
    browser.press("#k-offline").await;
    eventually_true("only the arrival is shown", async || {
        feed(&browser).await == ["online bob"]
    })
    .await;
    browser.press("#k-offline").await;
    fill(&browser, "#needle", "").await;
    feed_has(&browser, "online alice").await;

    browser.press("#feed button[title=\"Explain alice\"]").await;
    shows(&browser, "#explained", "alice is online").await;
    let connections = browser.text("#explained table").await;
    assert!(
        connections.contains("phone-1") && connections.contains("in "),
        "{connections}"
    );
    // The page follows the user.
    client.disconnect_as("alice", "phone-1").await;
    shows(&browser, "#explained", "alice is offline").await;
    shows(&browser, "#said", "alice is offline").await;
    assert_no_violations(&browser).await;
    browser.quit().await;
}

#[tokio::test]
async fn an_operator_sees_the_past_and_the_state_of_a_user_a_group_and_the_instances() {
    let instance = Instance::start(&Settings::new()).await;
    let client = instance.client();
    client.connect("alice").await;
    client.disconnect("alice").await;
    client.connect("alice").await;
    let members = json!({ "members": ["alice", "bob"] });
    let stored = client.request(Method::PUT, "/v1/groups/team-7");
    assert_eq!(send(stored.json(&members)).await.status, 200);
    let browser = open(&client).await;
    shows(&browser, "#state", "Live").await;
    shows(&browser, "#instance-table", env!("CARGO_PKG_VERSION")).await;
    shows(&browser, "#sweep-table", "Partitions").await;

    fill(&browser, "#group", "team-7").await;
    browser.press("#ask-group button").await;
    shows(&browser, "#said-group", "team-7 has 2 members, 1 online").await;
    browser.press("#members button").await;
    shows(&browser, "#explained", "alice is online").await;
    // These events are older than the page.
    let past = "return [...document.querySelectorAll('#explained tr')].slice(-3)
        .map(row => row.children[1].textContent)";
    eventually_true("the past of alice", async || {
        browser.run(past).await == json!(["online", "offline", "online"])
    })
    .await;
    let status = client.request(Method::PUT, "/v1/users/alice/status");
    send(status.json(&json!({ "status": "dnd" }))).await;
    feed_has(&browser, "updated alice dnd").await;
    shows(&browser, "#explained", "dnd").await;
    browser.press("#k-updated").await;
    eventually_true("no event is shown", async || {
        feed(&browser).await.is_empty()
    })
    .await;
    assert_no_violations(&browser).await;
    browser.quit().await;
}

#[tokio::test]
async fn the_page_stays_small_in_a_crowd_and_fits_phones_light_and_dark() {
    let instance = Instance::start(&Settings::new()).await;
    let client = instance.client();
    let browser = open(&client).await;
    shows(&browser, "#state", "Live").await;
    client.connect_each(&crowd("user", 1_000)).await;
    client.connect("last").await;
    feed_has(&browser, "online last").await;
    assert_eq!(feed(&browser).await.len(), 100, "the feed is capped");
    shows(&browser, "#count", "1,001").await;
    shows(&browser, "#kept", "newest 1,001 events").await;

    browser.be_a_phone().await;
    let wide = "return [innerWidth, document.documentElement.scrollWidth]";
    assert_eq!(browser.run(wide).await, json!([390, 390]));
    let unnamed = "return [...document.querySelectorAll('button, input, canvas, section, form')].filter(each =>
        !(each.labels?.length || each.textContent.trim() || each.getAttribute('aria-label'))).length";
    assert_eq!(browser.run(unnamed).await, 0, "every control has a name");

    let mut looks = Vec::new();
    for scheme in ["light", "dark"] {
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        browser.command("Emulation.setEmulatedMedia", &media).await;
        eventually_true("a line is drawn", async || {
            browser.run(LOOK).await[1] == true
        })
        .await;
        looks.push(browser.run(LOOK).await[0].clone());
    }
    assert_ne!(looks[0], looks[1]);
    assert_no_violations(&browser).await;
    browser.quit().await;
}

#[tokio::test]
async fn the_page_asks_for_a_key_and_keeps_it_in_memory_only() {
    let settings = Settings::new()
        .with("PRESENCE_API_KEYS", &format!("board:presence.read:{KEY}"))
        .with("PRESENCE_WEBHOOKS", "crm:http://127.0.0.1:9/hook")
        .with("PRESENCE_WEBHOOK_SECRETS", &format!("crm:{SECRET}"));
    let instance = Instance::start(&settings).await;
    let browser = open(&instance.client()).await;
    for (key, expected) in [("a-wrong-key", "A key is needed"), (KEY, "Live")] {
        shows(&browser, "#state", "A key is needed").await;
        fill(&browser, "#key", key).await;
        browser.press("#login button").await;
        shows(&browser, "#state", expected).await;
    }
    shows(&browser, "#count", "0").await;
    shows(&browser, "#webhook-table", "crm").await;
    shows(&browser, "#call-table", "GET /v1/online/count").await;
    let kept = "return [localStorage.length, sessionStorage.length, document.cookie,
        document.documentElement.outerHTML.includes('a-key-of'), location.href.includes('a-key')]";
    let kept = browser.run(kept).await;
    assert_eq!(kept, json!([0, 0, "", false, false]));
    assert_no_violations(&browser).await;

    browser.press("#forget").await;
    shows(&browser, "#state", "A key is needed").await;
    browser.quit().await;
}

/// The status of the page.
async fn status_with(settings: Settings) -> u16 {
    let instance = Instance::start(&settings).await;
    instance.client().get("/dashboard").await.status.as_u16()
}

#[tokio::test]
async fn the_page_is_served_on_loopback_unless_the_setting_says_otherwise() {
    let elsewhere = Settings::new()
        .with("PRESENCE_LISTEN", "0.0.0.0:0")
        .with("PRESENCE_ALLOW_ANONYMOUS", "true");
    for (settings, switch, expected) in [
        (Settings::new(), None, 200),
        (Settings::new(), Some("off"), 404),
        (elsewhere.clone(), None, 404),
        (elsewhere, Some("on"), 200),
    ] {
        let settings = match switch {
            Some(switch) => settings.with("PRESENCE_DASHBOARD", switch),
            None => settings,
        };
        assert_eq!(status_with(settings).await, expected, "{switch:?}");
    }
}

#[tokio::test]
async fn the_page_runs_only_its_own_script_and_loads_nothing() {
    let instance = Instance::start(&Settings::new()).await;
    let answer = instance.client().get("/dashboard").await;
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(answer.header("x-frame-options"), "DENY");
    assert!(answer.body.len() < 40_000, "{} bytes", answer.body.len());
    let policy = answer.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "script-src 'sha256-",
        "style-src 'sha256-",
        "connect-src 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[tokio::test]
async fn the_root_states_the_service_as_a_page_or_as_json() {
    let version = env!("CARGO_PKG_VERSION");
    let instance = Instance::start(&Settings::new()).await;
    let client = instance.client();
    let browsers = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let page = send(client.request(Method::GET, "/").header("Accept", browsers)).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(page.header("vary"), "accept");
    for part in [
        version,
        "href=\"docs\"",
        "href=\"dashboard\"",
        "href=\"openapi.json\"",
    ] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    for accept in ["*/*", "application/json", "text/html;q=0, */*"] {
        let request = client.request(Method::GET, "/").header("Accept", accept);
        let home: Value = send(request).await.ok();
        let expected = json!({
            "name": "presence", "version": version, "openapi": "/openapi.json", "docs": "/docs",
            "dashboard": "/dashboard",
        });
        assert_eq!(home, expected, "{accept}");
    }
    // In open mode too, the path is answered for every host.
    let request = client
        .request(Method::GET, "/")
        .header("Host", "presence.example.com");
    assert_eq!(send(request).await.status, 200);

    let settings = Settings::new()
        .with("PRESENCE_DOCS", "off")
        .with("PRESENCE_DASHBOARD", "off");
    let instance = Instance::start(&settings).await;
    let home: Value = instance.client().get("/").await.ok();
    assert_eq!(
        home,
        json!({ "name": "presence", "version": version, "openapi": "/openapi.json" })
    );
}
