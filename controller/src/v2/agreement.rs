//! When two answers are the same, as annotations and files of routes say it: in the words of the servers' `[traffic.compare]`.

use serde::{Deserialize, Serialize};
use tensorgate_contract::compare::{By, Tolerance};

/// How answers are compared; what is left out is the servers' default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Agreement {
    /// What has to agree. Default values.
    pub by: Word,
    /// How far apart elements may be. Default 1e-5.
    pub absolute: f64,
    /// And how far for each unit of the larger. Default 1e-3.
    pub relative: f64,
}

/// The word for [`By`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// Every element, within the tolerances.
    #[default]
    Values,
    /// The place of the largest element of each row.
    Argmax,
}

impl Default for Agreement {
    fn default() -> Self {
        let Tolerance { absolute, relative, .. } = Tolerance::default();
        Self { by: Word::Values, absolute, relative }
    }
}

impl Agreement {
    /// Checks the numbers.
    ///
    /// # Errors
    /// Which one is wrong, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        for (name, tolerance) in [("absolute", self.absolute), ("relative", self.relative)] {
            if !(tolerance.is_finite() && tolerance >= 0.0) {
                return Err(format!("{name} is {tolerance}; a number from 0 is possible"));
            }
        }
        Ok(())
    }

    /// As it is compared by.
    pub fn tolerance(&self) -> Tolerance {
        let by = match self.by {
            Word::Values => By::Values,
            Word::Argmax => By::Argmax,
        };
        Tolerance { by, absolute: self.absolute, relative: self.relative }
    }
}
