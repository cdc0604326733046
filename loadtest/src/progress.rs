//! One line on a terminal that tells how a measurement stands; nothing where nobody sees it.

use std::io::{IsTerminal, Write};

use crate::engine::Look;

const WIDTH: usize = 24;

/// The line, on standard error.
pub(crate) struct Progress {
    shown: bool,
    label: String,
}

impl Progress {
    /// Shown only if standard error is a terminal.
    pub(crate) fn new() -> Self {
        Self { shown: std::io::stderr().is_terminal(), label: String::new() }
    }

    /// What is measured from now on.
    pub(crate) fn label(&mut self, label: impl Into<String>) {
        self.label = label.into();
    }

    /// Draws the line anew.
    pub(crate) fn draw(&mut self, look: Look) {
        if self.shown {
            // A terminal that is gone is no reason to stop.
            let _ = write!(std::io::stderr(), "\r\x1b[2K{}", line(&self.label, look));
        }
    }

    /// Takes the line away, so that something else can be printed.
    pub(crate) fn clear(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

fn line(label: &str, look: Look) -> String {
    let full = ((look.share * WIDTH as f64) as usize).min(WIDTH);
    let bar = format!("{}{}", "#".repeat(full), "-".repeat(WIDTH - full));
    let of = look.outcomes;
    format!(
        "[{bar}] {:>3.0} %  {label}  good {} late {} refused {} failed {}  in flight {}",
        look.share * 100.0,
        of.good,
        of.late,
        of.refused,
        of.failed,
        look.in_flight
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::outcome::Outcomes;

    #[test]
    fn a_line_tells_how_far_it_is_and_how_it_goes() {
        let outcomes = Outcomes { good: 7, late: 1, refused: 2, failed: 0 };
        let text = line("2000/s", Look { share: 0.5, outcomes, in_flight: 3 });
        assert_eq!(text, "[############------------]  50 %  2000/s  good 7 late 1 refused 2 failed 0  in flight 3");
        assert!(line("", Look { share: 1.0, outcomes, in_flight: 0 }).contains("[########################] 100 %"));
    }
}
