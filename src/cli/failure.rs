//! What the user reads when something failed, and the exit code.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// An error on its way to the user.
pub struct Failure {
    error: Box<dyn Error>,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// The command was understood and failed: exit code 1.
    pub fn failed(hint: Option<String>, error: impl Error + 'static) -> Self {
        Self { error: Box::new(error), hint, code: 1 }
    }

    /// An image was found damaged, in so many ways: exit code 1.
    pub fn damaged(image: &Path, findings: u64) -> Self {
        let ways = if findings == 1 { "1 thing is".to_owned() } else { format!("{findings} things are") };
        Self {
            error: format!("{ways} wrong in `{}`", image.display()).into(),
            hint: Some("get the image again; if it is your own, repair a copy with `e2fsck -fy`".into()),
            code: 1,
        }
    }

    /// The command line itself is wrong: exit code 2.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { error: message.into().into(), hint: Some(hint.into()), code: 2 }
    }

    /// Prints `error: …`, its causes and the hint; answers the exit code.
    pub fn report(&self) -> ExitCode {
        let mut text = format!("error: {}\n", self.error);
        let mut cause = self.error.source();
        while let Some(error) = cause {
            text.push_str(&format!("  caused by: {error}\n"));
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\nhint: {hint}\n"));
        }
        // Standard error that is closed leaves the exit code to tell.
        let _ = std::io::stderr().write_all(text.as_bytes());
        ExitCode::from(self.code)
    }
}
