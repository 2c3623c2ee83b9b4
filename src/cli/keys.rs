//! `imgbake keys`: whose signatures are believed.

use imgbake::{KeySummary, Keys};

use super::places::Places;
use super::{Failure, now, print};

/// Lists all keys, by publisher.
pub fn list(places: &Places) -> Result<(), Failure> {
    let keys = Keys::new(Some(places.keys()));
    let all = keys.list().map_err(|error| Failure::failed(error.hint(), error))?;
    let mut text = String::new();
    let mut last = None;
    for key in &all {
        if last.replace(&key.publisher) != Some(&key.publisher) {
            text.push_str(&heading(key));
        }
        text.push_str(&entry(key, now()));
    }
    print(&text)
}

fn heading(key: &KeySummary) -> String {
    let purpose = key.purpose.unwrap_or("what your base images say that it signs");
    let origin = key.file.as_ref().map_or_else(|| "built in".to_owned(), |path| path.display().to_string());
    format!("{}: {purpose} ({origin})\n", key.publisher)
}

fn entry(key: &KeySummary, now: i64) -> String {
    let state = match (key.revoked, key.expiry_date()) {
        (true, _) => "revoked".to_owned(),
        (false, Some(day)) if key.expires.is_some_and(|end| end <= now) => format!("expired {day}"),
        (false, Some(day)) => format!("expires {day}"),
        (false, None) => "does not expire".to_owned(),
    };
    let users: String = key.users.iter().map(|user| format!("    {user}\n")).collect();
    format!("  {}  {state}\n{users}", key.fingerprint)
}
