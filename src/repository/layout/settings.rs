//! The settings file of a model directory, and what it says about the files beside it.

use std::io;
use std::path::Path;

use super::{ModelListing, Sight, cannot_read};
use crate::model::settings::{ModelSettings, Parsed, SETTINGS_BYTES_MAX};
use crate::model::{Version, VersionPolicy};

/// Our own settings file.
pub(in crate::repository) const OWN_SETTINGS: &str = "model.toml";
/// Triton's.
pub(in crate::repository) const TRITON_SETTINGS: &str = "config.pbtxt";

/// Reads the settings file, if there is one, into `listing`. False where it has faults.
pub(super) fn read_settings(sight: &dyn Sight, listing: &mut ModelListing) -> bool {
    let [own, triton] = [OWN_SETTINGS, TRITON_SETTINGS].map(|file| listing.directory.join(file));
    // A broken link is a settings file that cannot be read, not one that is not there.
    let [has_own, has_triton] = [&own, &triton].map(|path| sight.is_there(path));
    if has_own && has_triton {
        listing.warnings.push(format!("{}: not read, because {OWN_SETTINGS} is beside it and wins", triton.display()));
    }
    let (path, parsed) = if has_own {
        let parsed = read_text(sight, &own).map(|text| ModelSettings::from_toml(&text));
        (own, parsed)
    } else if has_triton {
        let parsed = read_text(sight, &triton).map(|text| ModelSettings::from_pbtxt(&text, listing.name.as_str()));
        (triton, parsed)
    } else {
        return true;
    };
    let shown = path.display();
    match parsed {
        Ok(Ok(Parsed { settings, warnings })) => {
            listing.settings = settings;
            listing.warnings.extend(warnings.iter().map(|warning| format!("{shown}: {warning}")));
            return true;
        }
        Ok(Err(faults)) => listing.faults.extend(faults.iter().map(|fault| format!("{shown}: {fault}"))),
        Err(error) => listing.faults.push(cannot_read(&path, &error)),
    }
    false
}

/// The text of a settings file, bounded while it is read: a file may grow, and a device has no size.
fn read_text(sight: &dyn Sight, path: &Path) -> io::Result<String> {
    let bytes = sight.read(path, SETTINGS_BYTES_MAX)?;
    if bytes.len() > SETTINGS_BYTES_MAX {
        let message = format!("larger than the {SETTINGS_BYTES_MAX} bytes that a settings file may have");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text"))
}

/// Versions that share in the traffic and are not served: a warning, since the others are.
pub(super) fn check_traffic(listing: &mut ModelListing) {
    let Some(traffic) = &listing.settings.traffic else { return };
    let there: Vec<Version> = listing.versions.iter().map(|files| files.version).collect();
    let served = listing.settings.version_policy.select(&there);
    let missing: Vec<_> = traffic.named().into_iter().filter(|version| !served.contains(version)).collect();
    if missing.is_empty() {
        return;
    }
    let list = |versions: &[Version]| versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    listing.warnings.push(format!(
        "{}: traffic names version {}, which is not served; version {} is (versions)",
        listing.directory.display(),
        list(&missing),
        list(&served)
    ));
}

/// Versions that the settings name and that are not there: a warning for some, a fault for all.
pub(super) fn check_choice(listing: &mut ModelListing) {
    let VersionPolicy::Specific(wanted) = &listing.settings.version_policy else {
        return;
    };
    let is_there = |version: &Version| listing.versions.iter().any(|files| files.version == *version);
    let missing: Vec<_> = wanted.iter().filter(|version| !is_there(version)).collect();
    if missing.is_empty() || listing.versions.is_empty() {
        return;
    }
    let numbers = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let message =
        format!("{}: version {numbers}: not there, although the settings choose it", listing.directory.display());
    let list = if missing.len() == wanted.len() { &mut listing.faults } else { &mut listing.warnings };
    list.push(message);
}
