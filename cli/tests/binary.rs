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
