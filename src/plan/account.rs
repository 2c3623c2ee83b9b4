//! The account that the caller's SSH keys open, in the image's own user databases.
//!
//! passwd(5), shadow(5), group(5), gshadow(5), subuid(5). Its numbers follow from what the image has already, so the
//! six files are changed together. What these texts hold beyond the account stays as it is, with one exception: an
//! empty password, which would let anybody in, is locked.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::GuestPath;

/// An account without a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Login name, and the name of its own group where it is new.
    pub name: String,
    /// Home directory where it is new.
    pub home: String,
    /// Groups it becomes a member of, those that the image has.
    pub groups: Vec<String>,
}

/// The user databases of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccountFile {
    /// `/etc/passwd`.
    Passwd,
    /// `/etc/shadow`.
    Shadow,
    /// `/etc/group`.
    Group,
    /// `/etc/gshadow`.
    Gshadow,
    /// `/etc/subuid`.
    Subuid,
    /// `/etc/subgid`.
    Subgid,
}

impl AccountFile {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Passwd, Self::Shadow, Self::Group, Self::Gshadow, Self::Subuid, Self::Subgid];

    /// Where it is.
    #[must_use]
    pub fn path(self) -> GuestPath {
        match self {
            Self::Passwd => "/etc/passwd",
            Self::Shadow => "/etc/shadow",
            Self::Group => "/etc/group",
            Self::Gshadow => "/etc/gshadow",
            Self::Subuid => "/etc/subuid",
            Self::Subgid => "/etc/subgid",
        }
        .into()
    }

    /// Numbers of a user and of its login group in a passwd text.
    #[must_use]
    pub fn ids(passwd: &str, name: &str) -> Option<(u32, u32)> {
        let fields = record(passwd, name)?;
        Some((number(&fields, 2)?, number(&fields, 3)?))
    }
}

/// First number given to people; below are the system's own.
const FIRST_ID: u32 = 1000;
/// Subordinate ids per user, as useradd gives them.
const SUBORDINATE_IDS: u32 = 65536;

impl Account {
    /// The six texts with the account in them; files that are missing stay missing. An account of that name keeps its
    /// numbers and home, but gets a shell to log in to and loses its password.
    #[must_use]
    pub fn add_to(&self, mut files: BTreeMap<AccountFile, String>) -> BTreeMap<AccountFile, String> {
        use AccountFile::{Group, Gshadow, Passwd, Shadow, Subgid, Subuid};
        let text = |files: &BTreeMap<_, String>, file| files.get(&file).cloned().unwrap_or_default();
        let (passwd, group) = (text(&files, Passwd), text(&files, Group));
        let (uid, gid) = AccountFile::ids(&passwd, &self.name).unwrap_or_else(|| self.new_ids(&passwd, &group));
        for (file, text) in &mut files {
            let changed = match file {
                Passwd => self.passwd(text, uid, gid),
                Shadow => self.shadow(text),
                Group => self.membership(&with_record(text, &self.name, || format!("x:{gid}:")), 3),
                Gshadow => self.membership(&with_record(text, &self.name, || "!::".to_owned()), 3),
                Subuid | Subgid => {
                    with_record(text, &self.name, || format!("{}:{SUBORDINATE_IDS}", free_subordinate(text)))
                }
            };
            *text = changed;
        }
        files
    }

    /// A group of the account's name keeps its number; otherwise user and group get the first number free in both.
    fn new_ids(&self, passwd: &str, group: &str) -> (u32, u32) {
        let taken: BTreeSet<u32> = ids(passwd).chain(ids(group)).collect();
        // An image cannot hold as many records as there are numbers.
        let free = (FIRST_ID..=u32::MAX).find(|id| !taken.contains(id)).unwrap_or(u32::MAX);
        let gid = record(group, &self.name).and_then(|fields| number(&fields, 2));
        (free, gid.unwrap_or(free))
    }

    fn passwd(&self, text: &str, uid: u32, gid: u32) -> String {
        let new = || format!("x:{uid}:{gid}:{}:{}:/bin/bash", self.name, self.home);
        map_records(&with_record(text, &self.name, new), |fields| {
            let [name, .., shell] = fields else { return };
            if *name == self.name && (shell.ends_with("/nologin") || shell.ends_with("/false")) {
                *shell = "/bin/bash".into();
            }
        })
    }

    fn shadow(&self, text: &str) -> String {
        // `*`, not `!`: no password fits either, but `!` means locked, and sshd without PAM refuses keys then.
        map_records(&with_record(text, &self.name, || "*:19000:0:99999:7:::".to_owned()), |fields| {
            if let [name, password, ..] = fields
                && (*name == self.name || password.is_empty())
            {
                *password = "*".into();
            }
        })
    }

    /// Adds the account to the list of members, field `at`, of its groups.
    fn membership(&self, text: &str, at: usize) -> String {
        map_records(text, |fields| {
            let wanted = fields.first().is_some_and(|group| self.groups.contains(group));
            let Some(members) = fields.get_mut(at).filter(|_| wanted) else { return };
            if members.is_empty() {
                members.clone_from(&self.name);
            } else if !members.split(',').any(|member| member == self.name) {
                *members = format!("{members},{}", self.name);
            }
        })
    }
}

fn record(text: &str, name: &str) -> Option<Vec<String>> {
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    text.lines().map(fields).find(|fields| fields.first().is_some_and(|first| first == name))
}

fn number(fields: &[String], at: usize) -> Option<u32> {
    fields.get(at)?.parse().ok()
}

fn ids(text: &str) -> impl Iterator<Item = u32> {
    text.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok())
}

/// The text with a record `name:…`, appended if there is none.
fn with_record(text: &str, name: &str, rest: impl FnOnce() -> String) -> String {
    if record(text, name).is_some() {
        return text.to_owned();
    }
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}{name}:{}\n", rest())
}

fn map_records(text: &str, change: impl Fn(&mut [String])) -> String {
    text.lines()
        .map(|line| {
            let mut fields: Vec<String> = line.split(':').map(str::to_owned).collect();
            change(&mut fields);
            fields.join(":") + "\n"
        })
        .collect()
}

/// The first subordinate id after all that are given, as useradd counts them.
fn free_subordinate(text: &str) -> u32 {
    let end = |line: &str| {
        let mut fields = line.split(':').skip(1).map(|field| field.parse::<u32>().ok());
        fields.next()??.checked_add(fields.next()??)
    };
    text.lines().filter_map(end).max().unwrap_or(0).max(100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account { name: "ada".into(), home: "/home/ada".into(), groups: vec!["adm".into(), "sudo".into()] }
    }

    fn files(texts: [&str; 6]) -> BTreeMap<AccountFile, String> {
        AccountFile::ALL.into_iter().zip(texts.map(str::to_owned)).collect()
    }

    #[test]
    fn a_new_account_takes_the_first_number_free_in_users_and_groups() {
        let before = files([
            "root:x:0:0:root:/root:/bin/bash\npi:x:1000:1000::/home/pi:/bin/bash\n",
            "root:*:19000:0:99999:7:::\npi:!:19000:0:99999:7:::\n",
            "root:x:0:\nadm:x:4:syslog\nsudo:x:27:\npi:x:1000:\nspi:x:1001:\n",
            "root:*::\nadm:*::syslog\nsudo:*::\n",
            "pi:100000:65536\n",
            "pi:100000:65536\n",
        ]);
        let after = account().add_to(before);
        let expected = files([
            "root:x:0:0:root:/root:/bin/bash\npi:x:1000:1000::/home/pi:/bin/bash\nada:x:1002:1002:ada:/home/ada:/bin/bash\n",
            "root:*:19000:0:99999:7:::\npi:!:19000:0:99999:7:::\nada:*:19000:0:99999:7:::\n",
            "root:x:0:\nadm:x:4:syslog,ada\nsudo:x:27:ada\npi:x:1000:\nspi:x:1001:\nada:x:1002:\n",
            "root:*::\nadm:*::syslog,ada\nsudo:*::ada\nada:!::\n",
            "pi:100000:65536\nada:165536:65536\n",
            "pi:100000:65536\nada:165536:65536\n",
        ]);
        assert_eq!(after, expected);
        assert_eq!(account().add_to(after.clone()), after);
        assert_eq!(AccountFile::ids(&after[&AccountFile::Passwd], "ada"), Some((1002, 1002)));
    }

    #[test]
    fn an_account_that_is_there_keeps_its_numbers_and_loses_its_password() {
        let before = files([
            "ada:x:1234:50:,,,:/srv/ada:/usr/sbin/nologin",
            "ada:$y$j9T$x:19000:0:99999:7:::\n",
            "staff:x:50:\nada:x:77:\n",
            "",
            "",
            "",
        ]);
        let after = account().add_to(before);
        assert_eq!(after[&AccountFile::Passwd], "ada:x:1234:50:,,,:/srv/ada:/bin/bash\n");
        assert_eq!(after[&AccountFile::Shadow], "ada:*:19000:0:99999:7:::\n");
        assert_eq!(after[&AccountFile::Group], "staff:x:50:\nada:x:77:\n");
        assert_eq!(after[&AccountFile::Subuid], "ada:100000:65536\n");
    }

    #[test]
    fn an_empty_password_of_anybody_is_locked() {
        let before = BTreeMap::from([(AccountFile::Shadow, "root::19000:0:99999:7:::\nd:!:1::::::\n".to_owned())]);
        let after = account().add_to(before);
        assert_eq!(after[&AccountFile::Shadow], "root:*:19000:0:99999:7:::\nd:!:1::::::\nada:*:19000:0:99999:7:::\n");
        assert_eq!(after.len(), 1, "missing files stay missing");
    }

    #[test]
    fn lines_that_are_no_records_survive() {
        let before = BTreeMap::from([(AccountFile::Passwd, "+::::::\n\nx\nada:y\n".to_owned())]);
        assert_eq!(account().add_to(before)[&AccountFile::Passwd], "+::::::\n\nx\nada:y\n");
    }
}
