//! As what an agent takes part.

use super::Draft;

/// As what the agent takes part.
pub(super) struct Role {
    pub(super) server: bool,
    /// What `/v1/agent/self` shows.
    pub(super) bootstrap: bool,
    /// How many servers found the cluster together; 0 unless there are several.
    pub(super) expect: u32,
    pub(super) founds: bool,
}

/// Whether it is said where to keep things, if they are to be kept.
pub(super) fn has_directory(draft: &Draft) -> Result<(), String> {
    let dev = draft.dev.unwrap_or(false);
    match dev || draft.data_dir.as_ref().is_some_and(|directory| !directory.is_empty()) {
        true => Ok(()),
        false => Err("Must specify data directory using -data-dir".to_owned()),
    }
}

impl Role {
    pub(super) fn of(draft: &Draft, warnings: &mut Vec<String>) -> Result<Self, String> {
        let dev = draft.dev.unwrap_or(false);
        let expect = draft.bootstrap_expect.unwrap_or(0);
        let bootstrap = draft.bootstrap.unwrap_or(false);
        let server = draft.server.unwrap_or(false) || dev;
        if bootstrap && !server {
            return Err("Bootstrap mode cannot be enabled when server mode is not enabled".to_owned());
        }
        if expect > 0 && !server {
            return Err("Expect mode cannot be enabled when server mode is not enabled".to_owned());
        }
        if expect > 0 && dev {
            return Err("Expect mode cannot be enabled in development mode".to_owned());
        }
        if expect > 0 && bootstrap {
            return Err("Bootstrap cannot be provided with an expected server count".to_owned());
        }
        match expect {
            0 => {}
            1 => {
                warnings.push("BootstrapExpect Mode is specified as 1; this is the same as Bootstrap mode.".to_owned());
            }
            2 => warnings.push("with two servers the loss of either stops the cluster".to_owned()),
            even if even % 2 == 0 => {
                let odd = even - 1;
                warnings.push(format!("{even} servers survive the loss of no more servers than {odd} do"));
            }
            _ => {}
        }
        if expect > 1 {
            warnings.push(format!("Expect Mode enabled, expecting {expect} servers"));
        }
        let bootstrap = bootstrap || expect == 1;
        if bootstrap {
            warnings.push("Bootstrap mode enabled! Do not enable unless necessary".to_owned());
        }
        Ok(Self { server, bootstrap, expect: if expect > 1 { expect } else { 0 }, founds: bootstrap || dev })
    }
}
