//! The binary itself: that it starts, and what it says to those who mistype.

use std::process::{Command, Output};

fn lictor(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lictor")).args(args).output().expect("the binary runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn version_names_program_and_release() {
    let output = lictor(&["version"]);
    assert!(output.status.success());
    assert!(said(&output).contains(concat!("v", env!("CARGO_PKG_VERSION"))), "{}", said(&output));
}

#[test]
fn an_unknown_option_is_named_and_nothing_is_started() {
    for args in [["agent", "-no-such-option"], ["agent", "--no-such-option"]] {
        let output = lictor(&args);
        assert!(!output.status.success(), "{args:?}");
        assert!(said(&output).contains("no-such-option"), "{}", said(&output));
    }
}

#[test]
fn configuration_files_are_tested_without_an_agent() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("agent.json");
    let option = format!("-config-file={}", file.display());
    let tested = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = lictor(&["configtest", &option]);
        (output.status.code(), said(&output).replace(&file.display().to_string(), "F"))
    };
    assert_eq!(tested(r#"{"datacenter": "dc1", "data_dir": "/x"}"#), (Some(0), String::new()));
    let refused = |text: &str| (Some(1), format!("Config validation failed: Error decoding 'F': {text}\n"));
    assert_eq!(tested("{"), refused("unexpected EOF"));
    assert_eq!(tested(r#"{"nosuch_option": 1}"#), refused("Config has invalid keys: nosuch_option"));
    assert!(!lictor(&["configtest"]).status.success());
}

#[test]
fn commands_say_that_nobody_is_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for command in ["members", "leave", "reload", "info", "monitor"] {
        let output = lictor(&[command, &format!("-http-addr={address}")]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let expected = format!("Error connecting to Consul agent: dial tcp {address}: connect: connection refused");
        assert!(said(&output).contains(&expected), "{command}: {}", said(&output));
    }
}
