//! Reading of configuration files: one, or all of a directory in the order of their names.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::draft::Draft;
use super::keys::Reading;
use crate::client::go_file_reason;

/// What all files together say.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) draft: Draft,
    /// Sentences about keys that do nothing.
    pub(crate) warnings: Vec<String>,
}

/// Reads files, and the `.json` files of directories. Later ones go before earlier ones.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Files, String> {
    let mut files = Files::default();
    for path in paths {
        for file in listed(path)? {
            let reading = read_file(&file)?;
            files.draft = files.draft.overlaid(reading.draft);
            let file = file.display();
            if !reading.without_effect.is_empty() {
                let keys = reading.without_effect.join(", ");
                files.warnings.push(format!("{file}: this release does nothing about: {keys}"));
            }
        }
    }
    Ok(files)
}

/// A file itself, or what a directory holds. An empty file there says nothing, as with Consul.
fn listed(path: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error: io::Error| format!("Error reading '{}': {}", path.display(), reason(path, &error));
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    let said = |file: &Path| fs::metadata(file).is_ok_and(|there| there.is_file() && there.len() > 0);
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json") && said(file));
    files.sort();
    Ok(files)
}

fn read_file(file: &Path) -> Result<Reading, String> {
    let name = file.display();
    let text = fs::read(file).map_err(|error| format!("Error reading '{name}': {}", reason(file, &error)))?;
    let value: Value = serde_json::from_slice(&text).map_err(|error| match error.is_eof() {
        true => format!("Error decoding '{name}': unexpected EOF"),
        false => format!("Error decoding '{name}': {error}"),
    })?;
    let Some(object) = value.as_object() else {
        return Err(format!("Error decoding '{name}': the file must hold a JSON object"));
    };
    let reading = Reading::of(object).map_err(|wrong| format!("Error decoding '{name}': {wrong}"))?;
    match reading.unknown.is_empty() {
        true => Ok(reading),
        false => Err(format!("Error decoding '{name}': Config has invalid keys: {}", named(&reading.unknown))),
    }
}

/// Keys that nobody knows, each with what may have been meant.
fn named(unknown: &[(String, Option<&str>)]) -> String {
    let name = |(key, meant): &(String, Option<&str>)| match meant {
        Some(meant) => format!("{key} (did you mean {meant}?)"),
        None => key.clone(),
    };
    unknown.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn reason(path: &Path, error: &io::Error) -> String {
    format!("open {}: {}", path.display(), go_file_reason(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_s_files_are_laid_over_each_other_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("b.json", r#"{"node_name": "b", "ui": true}"#);
        write("a.json", r#"{"node_name": "a", "datacenter": "dc9"}"#);
        write("c.txt", "not read");
        write("d.json", "");
        let files = read(&[directory.path().to_owned()]).unwrap();
        assert_eq!(files.draft.node_name.as_deref(), Some("b"));
        assert_eq!(files.draft.datacenter.as_deref(), Some("dc9"));
        let [idle] = &files.warnings[..] else { panic!("{:?}", files.warnings) };
        assert!(idle.ends_with("b.json: this release does nothing about: ui"), "{idle}");
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let error = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), text).unwrap();
            let error = read(&[file.path().to_owned()]).unwrap_err();
            error.replace(&file.path().display().to_string(), "F")
        };
        assert_eq!(error("{"), "Error decoding 'F': unexpected EOF");
        assert_eq!(error("[]"), "Error decoding 'F': the file must hold a JSON object");
        assert_eq!(
            error(r#"{"server": "yes"}"#),
            "Error decoding 'F': 1 error(s) decoding:\n\n* 'server' expected type 'bool', got unconvertible type 'string'"
        );
        assert_eq!(
            error(r#"{"node_name": 5}"#),
            "Error decoding 'F': 1 error(s) decoding:\n\n* 'node_name' expected type 'string', got unconvertible type \
             'float64'"
        );
        assert!(
            error(r#"{"retry_max": [1]}"#)
                .ends_with("'retry_max' expected type 'int', got unconvertible type '[]interface {}'")
        );
        assert_eq!(
            error(r#"{"servre": true, "nosuch_option": 1}"#),
            "Error decoding 'F': Config has invalid keys: nosuch_option, servre (did you mean server?)"
        );
        assert!(error("{,}").starts_with("Error decoding 'F': key must be a string at line 1"));
        assert_eq!(
            read(&["nosuch.json".into()]).unwrap_err(),
            "Error reading 'nosuch.json': open nosuch.json: no such file or directory"
        );
    }
}
