//! The house inspects itself: what the compiler cannot check about its structure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").to_owned()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// What this is built for.
fn platform() -> String {
    let output = Command::new(env!("CARGO")).arg("-vV").output().expect("cargo runs");
    let version = String::from_utf8(output.stdout).expect("cargo prints text");
    version.lines().find_map(|line| line.strip_prefix("host: ")).expect("cargo knows its host").to_owned()
}

/// All packages that a package is built from, tests and benches apart.
fn built_from(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        // Only for this platform: what others need besides is not there after a build, and would have to be fetched.
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &platform()])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let names: BTreeMap<String, String> =
        list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
    let nodes: BTreeMap<String, Value> =
        list(&metadata["resolve"]["nodes"]).into_iter().map(|node| (text(&node["id"]), node)).collect();
    let start = names.iter().find(|(_, name)| *name == package).expect("a package of the workspace").0.clone();
    let (mut found, mut todo) = (BTreeSet::new(), vec![start]);
    while let Some(id) = todo.pop() {
        for dependency in list(&nodes[&id]["deps"]) {
            let normal = list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
            let id = text(&dependency["pkg"]);
            if normal && found.insert(names[&id].clone()) {
                todo.push(id);
            }
        }
    }
    found
}

#[test]
fn the_core_is_built_from_nothing_that_touches_the_machine() {
    let core = built_from("lictor-core");
    for banned in ["tokio", "madsim", "mio", "rustix", "nix", "getrandom", "rand", "fastrand", "socket2", "ahash"] {
        assert!(!core.contains(banned), "lictor-core is built from {banned}: {core:?}");
    }
    assert!(!core.iter().any(|name| name.starts_with("lictor")), "the core depends on nothing of ours: {core:?}");
}

#[test]
fn the_agent_is_built_without_the_simulator() {
    let agent = built_from("lictor");
    assert!(agent.contains("tokio") && agent.contains("lictor-core"), "{agent:?}");
    for banned in ["madsim", "lictor-sim"] {
        assert!(!agent.contains(banned), "the binary is built from {banned}, which overrides libc's clock and dice");
    }
}

/// Which modules of the core each of them may use. `agent` alone knows all.
const ARROWS: &[(&str, &[&str])] = &[
    ("acl", &[]),
    ("id", &[]),
    ("time", &[]),
    ("rng", &["time"]),
    ("duration", &[]),
    ("error", &["duration", "time"]),
    ("file", &["id"]),
    ("coordinate", &["time"]),
    ("probe", &["id", "time"]),
    ("keep", &["wire"]),
    ("api", &["coordinate", "error", "id", "time"]),
    ("raft", &["id", "rng", "time"]),
    ("gossip", &["coordinate", "id", "rng", "time"]),
    ("event", &["api", "gossip", "id", "wire"]),
    ("store", &["acl", "api", "coordinate", "id", "time"]),
    ("snapshot", &["api", "file", "id", "raft", "store", "wire"]),
    ("prepared", &["api", "coordinate", "duration", "event", "id", "rng", "store", "time"]),
    ("watch", &["api", "id", "store"]),
    ("sight", &["api", "coordinate", "id"]),
    ("server", &["gossip", "id"]),
    ("leader", &["api", "config", "coordinate", "gossip", "id", "raft", "server", "sight", "store", "time"]),
    ("local", &["api", "config", "error", "file", "id", "keep", "probe", "rng", "time", "wire"]),
    ("exec", &["api", "config", "coordinate", "error", "event", "id", "peer", "time"]),
    ("peer", &["api", "id", "raft"]),
    ("wire", &["peer"]),
    ("wal", &["file", "id", "raft", "time", "wire"]),
    ("recovery", &["file", "id", "keep", "raft", "snapshot", "store", "wal", "wire"]),
    ("config", &["api", "gossip", "id", "raft", "time", "wal"]),
    ("authorize", &["acl", "api", "config", "id", "prepared", "store"]),
    ("view", &["api", "authorize", "config", "id", "local", "raft", "sight", "snapshot", "store", "time"]),
    ("io", &["api", "exec", "file", "id", "local", "peer", "probe", "raft", "store", "time", "view", "wire"]),
    (
        "agent",
        &[
            "acl",
            "api",
            "authorize",
            "config",
            "error",
            "event",
            "exec",
            "file",
            "gossip",
            "id",
            "io",
            "keep",
            "leader",
            "local",
            "peer",
            "prepared",
            "raft",
            "recovery",
            "rng",
            "server",
            "sight",
            "snapshot",
            "store",
            "time",
            "view",
            "wal",
            "watch",
            "wire",
        ],
    ),
];

#[test]
fn the_cores_modules_use_each_other_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let source = root().join("core/src");
    let mut used: BTreeSet<(String, String)> = BTreeSet::new();
    // Tests may use what they like.
    let is_test = |file: &PathBuf| file.file_stem().is_some_and(|name| name.to_string_lossy().ends_with("tests"));
    for file in rust_files(&source).into_iter().filter(|file| !is_test(file)) {
        let place = file.strip_prefix(&source).expect("below core/src").with_extension("");
        let module = place.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).expect("a source file");
        let code = text.lines().take_while(|line| *line != "#[cfg(test)]");
        for line in code.filter(|line| !line.trim_start().starts_with("//")) {
            for (at, _) in line.match_indices("crate::") {
                let rest = &line[at + "crate::".len()..];
                let target: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if allowed.contains_key(target.as_str()) && target != module {
                    used.insert((module.clone(), target));
                }
            }
        }
    }
    for (module, target) in &used {
        if module == "lib" {
            continue;
        }
        let may = allowed.get(module.as_str()).unwrap_or_else(|| panic!("where does core/src/{module} stand?"));
        assert!(may.contains(&target.as_str()), "core/src/{module} must not use {target}");
    }
    assert!(used.contains(&("agent".to_owned(), "raft".to_owned())), "the check sees nothing: {used:?}");
}

#[test]
fn no_source_file_has_outgrown_its_subject() {
    for crate_folder in ["core", "sim", "runtime", "http", "cli", "tests"] {
        for file in rust_files(&root().join(crate_folder)) {
            let lines = fs::read_to_string(&file).expect("a source file").lines().count();
            assert!(lines <= 700, "{} has {lines} lines: split it by subject", file.display());
        }
    }
}

#[test]
fn the_script_that_guards_the_house_runs_what_the_readme_says() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let script = fs::read_to_string(root().join(".ci/run")).expect(".ci/run");
    assert!(readme.contains("\ncargo test --workspace\n"), "README's test command has changed");
    assert!(script.contains("cargo test --workspace"), ".ci/run does not run README's test command");
    assert!(script.contains(".ci/readme"), ".ci/run does not run README's first command");
}
