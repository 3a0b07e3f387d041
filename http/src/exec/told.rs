//! What an initiator tells, as JSON: one object for each event, and one for each line of output.

use lictor_core::exec::initiator::{Lines, News, Outcome, Summary};
use serde_json::{Value, json};

/// Turns news into objects. Each has an `Event`; the others of its fields depend on that.
#[derive(Debug, Default)]
pub struct Narrator {
    lines: Lines,
}

impl Narrator {
    /// The objects for a piece of news, in their order; none if it has brought no line to its end.
    pub fn tell(&mut self, news: &News) -> Vec<Value> {
        match news {
            News::Expected { nodes, certain } => {
                vec![json!({ "Event": "expected", "Nodes": nodes, "Certain": certain })]
            }
            News::Bound { node, datacenter } => {
                vec![json!({ "Event": "bound", "Node": node, "Datacenter": datacenter })]
            }
            News::Session(id) => vec![json!({ "Event": "session", "ID": id.to_string() })],
            News::JobWritten => vec![json!({ "Event": "job" })],
            News::Fired { event, nodes } => {
                vec![json!({ "Event": "fired", "ID": event.to_string(), "Nodes": nodes })]
            }
            News::Acknowledged(node) => vec![json!({ "Event": "acknowledged", "Node": node })],
            News::Heartbeat(node) => {
                let heartbeat = json!({ "Event": "heartbeat", "Node": node });
                self.rest(node).into_iter().chain([heartbeat]).collect()
            }
            News::Wrote { node, output } => {
                let mut told = Vec::new();
                self.lines.push(node, output, |text| told.push(line(node, text)));
                told
            }
            News::Ended { node, code } => {
                let ended = json!({ "Event": "ended", "Node": node, "Code": code });
                self.rest(node).into_iter().chain([ended]).collect()
            }
            News::Stopped { node } => vec![json!({ "Event": "stopped", "Node": node })],
            News::Finished(summary) => {
                let rest = summary.unfinished.iter().filter_map(|node| self.rest(node));
                rest.collect::<Vec<_>>().into_iter().chain([finished(summary)]).collect()
            }
            News::Failed(why) => vec![json!({ "Event": "failed", "Error": why })],
            News::LeftBehind(why) => vec![json!({ "Event": "left behind", "Error": why })],
        }
    }

    /// What a node has begun to write and not brought to the end of a line.
    fn rest(&mut self, node: &str) -> Option<Value> {
        self.lines.finish(node).map(|text| line(node, &text))
    }
}

/// The last object: how it ended.
#[must_use]
pub fn over(outcome: Outcome) -> Value {
    json!({ "Event": "over", "Outcome": name(outcome) })
}

/// An outcome's name.
pub(super) const fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Unsuccessful => "unsuccessful",
        Outcome::Failed => "failed",
        Outcome::Interrupted => "interrupted",
    }
}

fn line(node: &str, text: &[u8]) -> Value {
    json!({ "Event": "line", "Node": node, "Text": String::from_utf8_lossy(text) })
}

fn finished(summary: &Summary) -> Value {
    let mut value = numbers(summary);
    value["Event"] = "finished".into();
    value
}

/// How a job went.
pub(super) fn numbers(summary: &Summary) -> Value {
    json!({
        "Completed": summary.completed,
        "Acknowledged": summary.acknowledged,
        "Failed": summary.failed,
        "Unfinished": summary.unfinished,
        "Silent": summary.silent,
        "NotStarted": summary.not_started,
        "Seconds": (summary.took.as_millis() as f64) / 1000.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_told_by_lines() {
        let mut narrator = Narrator::default();
        let wrote = |output: &'static str| News::Wrote { node: "a".into(), output: output.into() };
        assert_eq!(narrator.tell(&wrote("on")), Vec::<Value>::new());
        assert_eq!(
            narrator.tell(&wrote("e\ntwo\nth")),
            [
                json!({ "Event": "line", "Node": "a", "Text": "one" }),
                json!({ "Event": "line", "Node": "a", "Text": "two" }),
            ]
        );
        let ended = narrator.tell(&News::Ended { node: "a".into(), code: 3 });
        assert_eq!(
            ended,
            [
                json!({ "Event": "line", "Node": "a", "Text": "th" }),
                json!({ "Event": "ended", "Node": "a", "Code": 3 }),
            ]
        );
        narrator.tell(&wrote("unfinished"));
        let summary = Summary { unfinished: vec!["a".into()], ..Summary::default() };
        let finished = narrator.tell(&News::Finished(summary));
        assert_eq!((finished.len(), finished[0]["Text"].as_str()), (2, Some("unfinished")));
        assert_eq!(finished[1]["Unfinished"], json!(["a"]));
    }
}
