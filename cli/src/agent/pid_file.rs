//! The file that tells others the process ID, for as long as the agent runs.

use std::fs;
use std::path::{Path, PathBuf};

use tracing::warn;

/// The file. Removed when dropped.
pub(super) struct PidFile(PathBuf);

impl PidFile {
    pub(super) fn write(path: &Path) -> Result<Self, String> {
        fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|error| format!("cannot write the PID file {}: {error}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            warn!("agent: cannot remove the PID file {}: {error}", self.0.display());
        }
    }
}
