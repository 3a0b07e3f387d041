//! The body of `PUT /v1/exec`: what is wanted, as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use lictor_core::exec::initiator::{Canary, DEFAULT_WAIT, DEFAULT_WAIT_REPL, Options};
use lictor_core::exec::layout::{DEFAULT_PREFIX, Order};
use lictor_core::time::Duration;
use serde_json::{Value, json};

use crate::ask::{Form, decoded};
use crate::decode::Fields;
use crate::reply::Refusal;

/// How much of a command, and of each filter, a list of jobs shows.
const SHOWN_BYTES: usize = 1024;

/// The fields of an order, as they were given.
struct Given {
    command: String,
    args: Vec<String>,
    script: String,
    prefix: String,
    filters: [String; 3],
    wait: Duration,
    wait_repl: Duration,
    max_parallel: i64,
    canary: String,
}

/// Reads a body, and the parameters `dc`, `token` and `stale`.
pub(super) fn read(body: &Bytes, form: Form<'_>) -> Result<(Order, Options), Refusal> {
    let given = decoded(body, given)?;
    let order = match (given.script.is_empty(), given.args.is_empty()) {
        (false, _) => {
            let script = STANDARD.decode(&given.script);
            Order::Script(script.map_err(|_| Refusal::bad_request("Script must be in base64"))?.into())
        }
        (true, false) => Order::Program(given.args),
        (true, true) => Order::Command(given.command),
    };
    let canary = match &*given.canary {
        "" => None,
        text => Some(
            Canary::parse(text)
                .ok_or_else(|| Refusal::bad_request("Canary must be a number above 0, or 1% to 100%, as a text"))?,
        ),
    };
    let max_parallel = match given.max_parallel {
        0 => None,
        number => Some(usize::try_from(number).map_err(|_| Refusal::bad_request("MaxParallel must not be below 0"))?),
    };
    let [node, service, tag] = given.filters;
    let options = Options {
        prefix: given.prefix,
        node,
        service,
        tag,
        wait: given.wait,
        wait_repl: given.wait_repl,
        datacenter: form.params.datacenter(),
        token: form.token.map(str::to_owned),
        stale: form.params.has("stale"),
        max_parallel,
        canary,
    };
    Ok((order, options))
}

fn given(fields: &Fields<'_>) -> Given {
    let text_or = |name: &str, default: &str| {
        if fields.has(name) { fields.text(name) } else { default.to_owned() }
    };
    let time_or = |name: &str, default: Duration| match fields.has(name) {
        // What is below zero waits for nothing.
        true => Duration::from_nanos(u64::try_from(fields.nanos(name)).unwrap_or(0)),
        false => default,
    };
    Given {
        command: fields.text("Command"),
        args: fields.texts("Args").unwrap_or_default(),
        script: fields.text("Script"),
        prefix: text_or("Prefix", DEFAULT_PREFIX),
        filters: ["Node", "Service", "Tag"].map(|name| fields.text(name)),
        wait: time_or("Wait", DEFAULT_WAIT),
        wait_repl: time_or("WaitRepl", DEFAULT_WAIT_REPL),
        max_parallel: fields.number("MaxParallel"),
        canary: fields.text("Canary"),
    }
}

/// What was wanted, as a list of jobs shows it. The bytes of a script are counted, not shown.
pub(super) fn shown(order: &Order, options: &Options) -> Value {
    let mut shown = json!({
        "Node": shortened(&options.node),
        "Service": shortened(&options.service),
        "Tag": shortened(&options.tag),
        "Datacenter": options.datacenter.as_deref().map(shortened),
    });
    match order {
        Order::Command(line) => shown["Command"] = shortened(line).into(),
        Order::Program(words) => shown["Command"] = shortened(&words.join(" ")).into(),
        Order::Script(bytes) => shown["ScriptBytes"] = bytes.len().into(),
    }
    shown
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES)]
}

#[cfg(test)]
mod tests {
    use warp::http::Method;

    use super::*;
    use crate::params::Params;

    fn read_with(body: &str, query: &'static str) -> Result<(Order, Options), String> {
        let params = Params::parse(query);
        let form = Form { method: &Method::PUT, params: &params, token: Some("t") };
        read(&Bytes::copy_from_slice(body.as_bytes()), form).map_err(|refusal| refusal.text.into_owned())
    }

    #[test]
    fn orders_are_read() {
        let (order, options) = read_with(r#"{"Command": "uptime"}"#, "").unwrap();
        assert_eq!(order, Order::Command("uptime".into()));
        assert_eq!(options, Options { token: Some("t".into()), ..Options::default() });
        let body = r#"{"script": "ZWNobw==", "node": "^a", "service": "s", "Tag": "t", "Prefix": "p", "Wait": "5s",
            "wait_repl": 1000000, "MaxParallel": 2, "Canary": "10%"}"#;
        let (order, options) = read_with(body, "dc=dc2&stale").unwrap();
        assert_eq!(order, Order::Script("echo".into()));
        assert_eq!((options.wait, options.wait_repl), (Duration::from_secs(5), Duration::from_millis(1)));
        assert_eq!((options.max_parallel, options.canary), (Some(2), Some(Canary::Percent(10))));
        assert_eq!((options.datacenter.as_deref(), options.stale, &*options.prefix), (Some("dc2"), true, "p"));
        let (order, _) = read_with(r#"{"Args": ["ls", "-l"]}"#, "").unwrap();
        assert_eq!(order, Order::Program(vec!["ls".into(), "-l".into()]));
    }

    #[test]
    fn misfits_are_refused() {
        for (body, why) in [
            ("{", "Request decode failed"),
            (r#"{"Command": 5}"#, "expected type 'string'"),
            (r#"{"Script": "&"}"#, "base64"),
            (r#"{"Command": "a", "Canary": "0"}"#, "Canary"),
            (r#"{"Command": "a", "MaxParallel": -1}"#, "MaxParallel"),
        ] {
            let refused = read_with(body, "").unwrap_err();
            assert!(refused.contains(why), "{body}: {refused}");
        }
    }

    #[test]
    fn a_list_shows_the_beginning_of_a_long_command() {
        let long = "\u{e9}".repeat(SHOWN_BYTES);
        let filters = Options { node: long.clone(), service: long.clone(), tag: long.clone(), ..Options::default() };
        let shown = shown(&Order::Command(long), &filters);
        for field in ["Command", "Node", "Service", "Tag"] {
            assert_eq!(shown[field].as_str().unwrap().len(), SHOWN_BYTES, "{field}");
        }
    }
}
