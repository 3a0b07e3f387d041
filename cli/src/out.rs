//! What commands print.
//!
//! Whoever reads it may have gone away: that is no failure, and nothing is left to be said. To lose it in any other way is one,
//! which is told on standard error and by the exit status.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something could not be printed.
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints a line on standard output.
macro_rules! say {
    ($($words:tt)*) => { $crate::out::print(format_args!("{}\n", format_args!($($words)*))) };
}

/// Prints on standard output what ends its lines itself.
macro_rules! show {
    ($($words:tt)*) => { $crate::out::print(format_args!($($words)*)) };
}

/// Prints a line on standard error.
macro_rules! complain {
    ($($words:tt)*) => { $crate::out::print_error(format_args!("{}\n", format_args!($($words)*))) };
}

pub(crate) fn print(text: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_fmt(text).and_then(|()| out.flush())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        LOST.store(true, Ordering::Relaxed);
        print_error(format_args!("cannot print: {error}\n"));
    }
}

pub(crate) fn print_error(text: fmt::Arguments<'_>) {
    // There is nowhere else to tell that it failed.
    let _ = io::stderr().lock().write_fmt(text);
}

/// The status to exit with: a failure if something could not be printed.
pub(crate) fn status(code: ExitCode) -> ExitCode {
    if LOST.load(Ordering::Relaxed) { ExitCode::FAILURE } else { code }
}
