//! What Consul 0.7 has: its commands, and the options of each.

/// The commands.
pub(super) const COMMANDS: &[&str] = &[
    "agent",
    "configtest",
    "event",
    "exec",
    "force-leave",
    "info",
    "join",
    "keygen",
    "keyring",
    "kv",
    "leave",
    "lock",
    "maint",
    "members",
    "monitor",
    "operator",
    "reload",
    "rtt",
    "snapshot",
    "version",
    "watch",
];

/// The options of commands, by the command's words.
const OPTIONS: &[(&str, &[&str])] = &[
    ("agent", &["advertise", "advertise-wan", "atlas", "atlas-endpoint", "atlas-join", "atlas-token", "bind", "bootstrap", "bootstrap-expect", "client", "config-dir", "config-file", "data-dir", "datacenter", "dc", "dev", "encrypt", "http-port", "join", "join-wan", "log-level", "node", "pid-file", "protocol", "recursor", "rejoin", "retry-interval", "retry-interval-wan", "retry-join", "retry-join-ec2-region", "retry-join-ec2-tag-key", "retry-join-ec2-tag-value", "retry-join-wan", "retry-max", "retry-max-wan", "server", "syslog", "ui", "ui-dir"]),
    ("configtest", &["config-dir", "config-file"]),
    ("event", &["datacenter", "http-addr", "name", "node", "service", "tag", "token"]),
    ("exec", &["datacenter", "http-addr", "node", "prefix", "service", "tag", "token", "verbose", "wait", "wait-repl"]),
    ("force-leave", &["rpc-addr"]),
    ("info", &["rpc-addr"]),
    ("join", &["rpc-addr", "wan"]),
    ("keyring", &["install", "list", "remove", "rpc-addr", "token", "use"]),
    ("kv delete", &["cas", "datacenter", "http-addr", "modify-index", "recurse", "stale", "token"]),
    ("kv get", &["datacenter", "detailed", "http-addr", "keys", "recurse", "separator", "stale", "token"]),
    ("kv put", &["acquire", "cas", "datacenter", "flags", "http-addr", "modify-index", "release", "session", "stale", "token"]),
    ("leave", &["rpc-addr"]),
    ("lock", &["http-addr", "monitor-retry", "n", "name", "pass-stdin", "token", "try", "verbose"]),
    ("maint", &["disable", "enable", "http-addr", "reason", "service", "token"]),
    ("members", &["detailed", "rpc-addr", "status", "wan"]),
    ("monitor", &["log-level", "rpc-addr"]),
    ("operator raft", &["http-addr", "token"]),
    ("reload", &["rpc-addr"]),
    ("rtt", &["http-addr", "wan"]),
    ("snapshot inspect", &[]),
    ("snapshot restore", &["datacenter", "http-addr", "stale", "token"]),
    ("snapshot save", &["datacenter", "http-addr", "stale", "token"]),
    ("watch", &["datacenter", "http-addr", "key", "name", "passingonly", "prefix", "service", "stale", "state", "tag", "token", "type"]),
];

/// Whether Consul's command of this name has an option. Of a command that it does not have, or that has the same ones there, all
/// count as its own.
pub(super) fn has(command: &str, option: &str) -> bool {
    let options = OPTIONS.iter().find(|(name, _)| *name == command);
    options.is_none_or(|(_, options)| options.contains(&option))
}
