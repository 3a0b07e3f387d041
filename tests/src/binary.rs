//! The binary under test: the one that belongs to this build, built if it is missing or old.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;
use std::{env, fs, io};

/// The path of `lictor`.
///
/// Cargo tells a package's tests where its own binaries are, but not those of others, so it is looked for
/// beside the test's own directory, which has the same profile.
///
/// # Panics
/// If it cannot be built.
pub fn lictor() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // target/<profile>/deps/<test>
        let test = env::current_exe().expect("a test knows its own path");
        let profile = test.ancestors().nth(2).expect("tests lie two levels below their profile");
        let binary = profile.join(format!("lictor{}", env::consts::EXE_SUFFIX));
        if is_old(&binary) {
            build(profile);
        }
        binary
    })
}

/// Whether the binary is missing, or some source is younger.
fn is_old(binary: &Path) -> bool {
    let Ok(built) = fs::metadata(binary).and_then(|data| data.modified()) else { return true };
    let workspace = workspace();
    let sources = ["Cargo.toml", "Cargo.lock", "core", "runtime", "http", "cli"];
    let youngest = sources.iter().filter_map(|source| youngest(&workspace.join(source)).ok()).max();
    youngest.is_none_or(|youngest| youngest > built)
}

/// When something in `path` was changed last.
fn youngest(path: &Path) -> io::Result<SystemTime> {
    let data = fs::metadata(path)?;
    if !data.is_dir() {
        return data.modified();
    }
    let mut youngest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(path)? {
        youngest = youngest.max(self::youngest(&entry?.path())?);
    }
    Ok(youngest)
}

fn build(profile: &Path) {
    let name = profile.file_name().and_then(|name| name.to_str()).expect("a profile's directory has its name");
    let name = if name == "debug" { "dev" } else { name };
    let target = profile.parent().expect("a profile's directory lies in the target directory");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "lictor", "--profile", name]).arg("--target-dir").arg(target);
    let built = build.current_dir(workspace()).status().expect("cargo can be run");
    assert!(built.success(), "the binary under test could not be built");
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
