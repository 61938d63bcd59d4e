//! `/docs` on a phone, with a key, and from a link.

use harness::deployment::{Deployment, Store};
use harness::instance::Settings;

use super::Browser;

const KEY: &str = "a-key-of-thirty-two-characters-ok";

/// The operation that the test tries out, and the place where the page shows its status.
const COUNT: &str = "#operations-online-countOnline";
const STATUS: &str = ".live-responses-table .response .response-col_status";

const STREAM: &str = "#operations-events-streamEvents";

/// Types into a field. React reads the value with the `input` event only.
const TYPE_KEY: &str = "
    const field = document.querySelector('#auth-bearer-value');
    if (!field) return false;
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, 'KEY');
    field.dispatchEvent(new Event('input', { bubbles: true }));
    return true;
";

/// The number of operations in the OpenAPI document.
async fn documented_operations(deployment: &Deployment) -> u64 {
    let document: serde_json::Value = deployment.client().get("/openapi.json").await.ok();
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths
        .values()
        .flat_map(|path| path.as_object().expect("a path").values());
    let operations = operations.filter(|each| each["operationId"].is_string());
    operations.count() as u64
}

async fn service() -> Deployment {
    let keys = format!("board:presence.read:{KEY}");
    let settings = Settings::new().with("PRESENCE_API_KEYS", &keys);
    Deployment::with(Store::Embedded, settings).await
}

/// Opens the page with `fragment` and waits for the operations.
async fn open(deployment: &Deployment, fragment: &str) -> Browser {
    let browser = Browser::start().await;
    let page = format!("{}/docs/{fragment}", deployment.client().base());
    browser.be_a_phone().await;
    browser.open(&page).await;
    browser.text(&format!("{COUNT} .opblock-summary")).await;
    browser
}

async fn unfold(browser: &Browser, operation: &str) {
    let summary = format!("{operation} .opblock-summary-control");
    browser.press(&summary).await;
    let body = format!("return !!document.querySelector('{operation} .opblock-body')");
    browser.until(&body).await;
}

/// Requests the count and waits for `status`.
async fn count_with(browser: &Browser, status: &str) {
    browser.press(&format!("{COUNT} .execute")).await;
    let shown = format!(
        "return document.querySelector('{COUNT} {STATUS}')?.innerText.startsWith('{status}')"
    );
    browser.until(&shown).await;
}

#[tokio::test]
async fn the_page_asks_for_a_key_and_keeps_it_over_a_reload() {
    let deployment = service().await;
    let browser = open(&deployment, "").await;
    unfold(&browser, COUNT).await;
    browser.press(&format!("{COUNT} .try-out__btn")).await;
    count_with(&browser, "401").await;

    browser.press(".btn.authorize").await;
    browser.until(&TYPE_KEY.replace("KEY", KEY)).await;
    let first = browser.text(".auth-container").await;
    assert!(
        first.contains("http, Bearer"),
        "the bearer comes first: {first}"
    );
    let second = browser
        .text(".auth-container:not(:has(#auth-bearer-value))")
        .await;
    assert!(second.contains("Only for /v1/events"), "{second}");
    browser
        .press(".auth-container:has(#auth-bearer-value) .authorize")
        .await;
    browser.press(".btn-done").await;
    count_with(&browser, "200").await;

    browser.run("location.reload()").await;
    browser.press(&format!("{COUNT} .try-out__btn")).await;
    count_with(&browser, "200").await;
    browser.quit().await;
}

#[tokio::test]
async fn a_link_opens_its_operation() {
    let deployment = service().await;
    let browser = open(&deployment, "#/online/listOnline").await;
    let list = "#operations-online-listOnline";
    let text = browser.text(&format!("{list} .opblock-body")).await;
    assert!(text.contains("page by page"), "{text}");
    browser.press(&format!("{list} .try-out__btn")).await;
    let cursor = format!("return document.querySelector('{list} [placeholder=cursor]')?.value");
    let value = browser.returned(&cursor).await;
    assert_eq!(value, "", "no made-up cursor is filled in");
    browser.quit().await;
}

#[tokio::test]
async fn the_page_fits_a_phone_and_explains_how_to_watch() {
    let deployment = service().await;
    let browser = open(&deployment, "").await;
    let wide = "return [innerWidth, document.documentElement.scrollWidth]";
    assert_eq!(browser.run(wide).await, serde_json::json!([390, 390]));

    let operations = documented_operations(&deployment).await;
    let complete = format!(
        "return document.querySelectorAll('.opblock-summary-control').length === {operations}"
    );
    browser.until(&complete).await;
    // One at a time: each open operation makes the page slower.
    for operation in 0..operations {
        let press =
            format!("document.querySelectorAll('.opblock-summary-control')[{operation}].click()");
        let open = |count: u32| {
            format!("return document.querySelectorAll('.opblock .opblock-body').length === {count}")
        };
        browser.run(&press).await;
        browser.until(&open(1)).await;
        browser
            .run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            .await;
        assert_eq!(browser.run(wide).await, serde_json::json!([390, 390]));
        browser.run(&press).await;
        browser.until(&open(0)).await;
    }

    unfold(&browser, STREAM).await;
    let text = browser.text(&format!("{STREAM} .opblock-body")).await;
    assert!(
        text.contains("curl -N") && text.contains("new EventSource"),
        "{text}"
    );
    let buttons =
        format!("return document.querySelector('{STREAM} .try-out')?.offsetParent === null");
    assert_eq!(
        browser.run(&buttons).await,
        true,
        "no button waits for the end of a stream"
    );
    browser.quit().await;
}
