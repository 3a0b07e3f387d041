//! Access control: what configuration files say of it, in the keys of Consul 0.7 and in the object of later ones, and what is made of that.

use lictor_core::config::{Acl, DefaultPolicy, DownPolicy};
use serde_json::Value;

use super::values::{duration, secret, text, truth};
use super::words::datacenter;

/// What is said of a datacenter for access control whose name none can have.
const ILL_NAMED: &str = "ACL datacenter must be alpha-numeric with underscores and hypens only";

/// What has been said; an empty text says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) agent_token: Option<String>,
    pub(crate) datacenter: Option<String>,
    pub(crate) default_policy: Option<String>,
    pub(crate) down_policy: Option<String>,
    /// Whether the object says that there is access control.
    pub(crate) enabled: Option<bool>,
    /// Whether rules for nodes, sessions and agents are to be enforced.
    pub(crate) enforce_version_8: Option<bool>,
    pub(crate) master_token: Option<String>,
    /// What later Consuls call the datacenter.
    pub(crate) primary_datacenter: Option<String>,
    pub(crate) token: Option<String>,
}

/// Keys that say something here.
pub(crate) const KEYS: &[&str] = &[
    "acl.default_policy",
    "acl.down_policy",
    "acl.enabled",
    "acl.policy_ttl",
    "acl.role_ttl",
    "acl.token_ttl",
    "acl.tokens.agent",
    "acl.tokens.default",
    "acl.tokens.initial_management",
    "acl.tokens.master",
    "acl_agent_token",
    "acl_datacenter",
    "acl_default_policy",
    "acl_down_policy",
    "acl_enforce_version_8",
    "acl_master_token",
    "acl_token",
    "acl_ttl",
    "primary_datacenter",
];

impl Draft {
    /// Takes what a key says, if it is one of these.
    pub(crate) fn take(&mut self, key: &str, value: &Value) -> Result<bool, String> {
        match key {
            "acl.default_policy" | "acl_default_policy" => self.default_policy = text(key, value)?,
            "acl.down_policy" | "acl_down_policy" => self.down_policy = text(key, value)?,
            "acl.enabled" => self.enabled = truth(key, value)?,
            "acl.tokens.agent" | "acl_agent_token" => self.agent_token = secret(key, value)?,
            "acl.tokens.default" | "acl_token" => self.token = secret(key, value)?,
            "acl.tokens.initial_management" | "acl.tokens.master" | "acl_master_token" => {
                self.master_token = secret(key, value)?;
            }
            "acl_datacenter" => self.datacenter = text(key, value)?,
            "acl_enforce_version_8" => self.enforce_version_8 = truth(key, value)?,
            "primary_datacenter" => self.primary_datacenter = text(key, value)?,
            // Nothing is remembered of tokens: what was changed holds at once, and so within whatever time was said.
            "acl.policy_ttl" | "acl.role_ttl" | "acl.token_ttl" | "acl_ttl" => drop(duration(key, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// This, with what `over` says going first.
    pub(crate) fn overlaid(self, over: Self) -> Self {
        Self {
            agent_token: over.agent_token.or(self.agent_token),
            datacenter: over.datacenter.or(self.datacenter),
            default_policy: over.default_policy.or(self.default_policy),
            down_policy: over.down_policy.or(self.down_policy),
            enabled: over.enabled.or(self.enabled),
            enforce_version_8: over.enforce_version_8.or(self.enforce_version_8),
            master_token: over.master_token.or(self.master_token),
            primary_datacenter: over.primary_datacenter.or(self.primary_datacenter),
            token: over.token.or(self.token),
        }
    }

    /// What the core is told, in an agent of the datacenter `own`.
    pub(crate) fn plan(self, own: &str, warnings: &mut Vec<String>) -> Result<Acl, String> {
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let named = match (said(self.datacenter), self.enabled) {
            (Some(name), _) => Some(name),
            (None, Some(true)) => Some(said(self.primary_datacenter).unwrap_or_else(|| own.to_owned())),
            (None, _) => None,
        };
        let acl = Acl {
            datacenter: named.map(|name| datacenter(Some(&name))).transpose().map_err(|_| ILL_NAMED.to_owned())?,
            by_default: by_default(said(self.default_policy).as_deref())?,
            when_down: when_down(said(self.down_policy).as_deref())?,
            master_token: said(self.master_token),
            token: said(self.token),
            agent_token: said(self.agent_token),
        };
        let wants = acl.by_default == DefaultPolicy::Deny || acl.master_token.is_some();
        match &acl.datacenter {
            None if wants => warnings.push("there is no access control: acl_datacenter does not say who keeps the tokens".to_owned()),
            Some(name) if name != own => warnings.push(format!(
                "the datacenter {name}, which is to keep the tokens, cannot be asked by this release: every token is judged by \
                 acl_down_policy"
            )),
            _ => {}
        }
        if acl.is_on() && self.enforce_version_8 == Some(true) {
            let open = "this release does nothing about acl_enforce_version_8: whatever rules say of nodes, sessions and agents, they are \
                        open to everybody, as with Consul 0.7";
            warnings.push(open.to_owned());
        }
        Ok(acl)
    }
}

fn by_default(policy: Option<&str>) -> Result<DefaultPolicy, String> {
    match policy {
        None => Ok(DefaultPolicy::default()),
        Some("allow") => Ok(DefaultPolicy::Allow),
        Some("deny") => Ok(DefaultPolicy::Deny),
        Some(other) => Err(format!("Unsupported default ACL policy: {other}")),
    }
}

fn when_down(policy: Option<&str>) -> Result<DownPolicy, String> {
    match policy {
        None => Ok(DownPolicy::default()),
        Some("allow") => Ok(DownPolicy::Allow),
        Some("deny") => Ok(DownPolicy::Deny),
        // The latter differs in when it asks again, which where nothing is remembered it always does.
        Some("extend-cache" | "async-cache") => Ok(DownPolicy::ExtendCache),
        Some(other) => Err(format!("Unsupported down ACL policy: {other}")),
    }
}

/// How `/v1/agent/self` shows it: the datacenter, and both policies. Tokens are not shown.
pub(crate) fn shown(acl: &Acl) -> [String; 3] {
    let by_default = match acl.by_default {
        DefaultPolicy::Allow => "allow",
        DefaultPolicy::Deny => "deny",
    };
    let when_down = match acl.when_down {
        DownPolicy::Allow => "allow",
        DownPolicy::Deny => "deny",
        DownPolicy::ExtendCache => "extend-cache",
    };
    [acl.datacenter.clone().unwrap_or_default(), by_default.to_owned(), when_down.to_owned()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::keys::Reading;
    use super::*;

    /// What is made of a file, and what is said about it, in the datacenter dc1.
    fn planned(object: &Value) -> Result<(Acl, String), String> {
        let reading = Reading::of(object.as_object().unwrap())?;
        assert_eq!(reading.unknown, []);
        let mut warnings = Vec::new();
        let acl = reading.draft.acl.plan("dc1", &mut warnings)?;
        Ok((acl, warnings.join("; ")))
    }

    #[test]
    fn both_forms_mean_the_same() {
        let older = json!({
            "acl_datacenter": "DC1", "acl_default_policy": "deny", "acl_down_policy": "allow", "acl_master_token": "m",
            "acl_token": "t", "acl_agent_token": "a", "acl_ttl": "30s", "acl_enforce_version_8": false
        });
        let newer = |management: &str| {
            json!({ "acl": {
                "enabled": true, "default_policy": "deny", "down_policy": "allow", "policy_ttl": "1m",
                "tokens": { management: "m", "default": "t", "agent": "a" }
            } })
        };
        let expected = Acl {
            datacenter: Some("dc1".into()),
            by_default: DefaultPolicy::Deny,
            when_down: DownPolicy::Allow,
            master_token: Some("m".into()),
            token: Some("t".into()),
            agent_token: Some("a".into()),
        };
        for form in [older, newer("master"), newer("initial_management")] {
            assert_eq!(planned(&form), Ok((expected.clone(), String::new())), "{form}");
        }
    }

    #[test]
    fn it_is_off_unless_somebody_keeps_the_tokens() {
        let datacenter = |object: Value| planned(&object).unwrap().0.datacenter;
        for off in [json!({}), json!({ "acl_datacenter": "" }), json!({ "acl": { "enabled": false } })] {
            assert_eq!(datacenter(off.clone()), None, "{off}");
        }
        assert_eq!(datacenter(json!({ "acl": { "enabled": true }, "primary_datacenter": "DC2" })), Some("dc2".into()));
        assert_eq!(datacenter(json!({ "primary_datacenter": "dc2" })), None);
        // What would be left open by mistake is not.
        assert_eq!(datacenter(json!({ "acl": { "enabled": false }, "acl_datacenter": "dc1" })), Some("dc1".into()));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (object, why) in [
            (json!({ "acl_default_policy": "maybe" }), "Unsupported default ACL policy: maybe"),
            (json!({ "acl_default_policy": "extend-cache" }), "Unsupported default ACL policy"),
            (json!({ "acl_down_policy": "maybe" }), "Unsupported down ACL policy: maybe"),
            (json!({ "acl_datacenter": "a b" }), "ACL datacenter must be alpha-numeric"),
            (json!({ "acl_ttl": "soon" }), "'acl_ttl' must be a duration"),
            (json!({ "acl": true }), "'acl' must be an object"),
            (json!({ "acl": { "tokens": "t" } }), "'acl.tokens' must be an object"),
        ] {
            let error = planned(&object).unwrap_err();
            assert!(error.contains(why), "{object}: {error}");
        }
    }

    #[test]
    fn a_token_of_the_wrong_form_is_not_shown() {
        for key in ["acl_master_token", "acl_token", "acl_agent_token", "encrypt"] {
            let error = planned(&json!({ key: 271_828 })).unwrap_err();
            assert!(!error.contains("271828") && error.contains(&format!("'{key}'")), "{error}");
        }
    }

    #[test]
    fn what_would_weaken_the_wish_is_said() {
        let warning = |object: Value| planned(&object).unwrap().1;
        assert!(warning(json!({ "acl_default_policy": "deny" })).contains("there is no access control"));
        assert!(warning(json!({ "acl_master_token": "m" })).contains("there is no access control"));
        assert!(
            warning(json!({ "acl_datacenter": "dc2" })).contains("dc2, which is to keep the tokens, cannot be asked")
        );
        let eight = warning(json!({ "acl_datacenter": "dc1", "acl_enforce_version_8": true }));
        assert!(eight.contains("acl_enforce_version_8"), "{eight}");
        assert_eq!(warning(json!({ "acl_datacenter": "dc1", "acl_default_policy": "deny" })), "");
    }
}
