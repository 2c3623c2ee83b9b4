//! Pure changes of texts that the image brings along.

use std::fmt;

use serde::Serialize;

/// A pure change of a text that the image brings along. Applying it twice changes nothing more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transform {
    /// Append kernel arguments to the one line of `cmdline.txt`, those that are not there yet.
    AddKernelArguments(Vec<String>),
    /// Let 127.0.1.1 in `/etc/hosts` be this host, as Debian does.
    SetOwnHost(String),
    /// Turn swap off in `/etc/fstab` by commenting its lines.
    CommentSwap,
}

impl Transform {
    /// Whether a missing file counts as an empty text. Otherwise it stays missing.
    #[must_use]
    pub fn makes_file(&self) -> bool {
        match self {
            Self::AddKernelArguments(_) | Self::SetOwnHost(_) => true,
            Self::CommentSwap => false,
        }
    }

    /// The changed text.
    #[must_use]
    pub fn apply(&self, text: &str) -> String {
        match self {
            Self::AddKernelArguments(arguments) => add_kernel_arguments(text, arguments),
            Self::SetOwnHost(name) => set_own_host(text, name),
            Self::CommentSwap => comment_swap(text),
        }
    }
}

impl fmt::Display for Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddKernelArguments(arguments) => write!(f, "add kernel arguments `{}`", arguments.join(" ")),
            Self::SetOwnHost(name) => write!(f, "127.0.1.1 is `{name}`"),
            Self::CommentSwap => f.write_str("comment out swap"),
        }
    }
}

/// The firmware reads the first line only, so the arguments go there and whatever follows it stays.
fn add_kernel_arguments(text: &str, arguments: &[String]) -> String {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    let mut words: Vec<&str> = line.split_ascii_whitespace().collect();
    let missing: Vec<&str> = arguments.iter().map(String::as_str).filter(|new| !words.contains(new)).collect();
    if missing.is_empty() {
        return text.to_owned();
    }
    words.extend(missing);
    format!("{}\n{rest}", words.join(" "))
}

fn set_own_host(text: &str, name: &str) -> String {
    let own = format!("127.0.1.1 {name}");
    let is_own = |line: &&str| line.split_ascii_whitespace().next() == Some("127.0.1.1");
    let mut lines: Vec<&str> = text.lines().filter(|line| !is_own(line)).collect();
    if !lines.iter().any(|line| line.split_ascii_whitespace().next() == Some("127.0.0.1")) {
        lines.insert(0, "127.0.0.1 localhost");
    }
    let after_localhost = lines.iter().position(|line| line.starts_with("127.0.0.1")).map_or(0, |at| at + 1);
    lines.insert(after_localhost, &own);
    lines.join("\n") + "\n"
}

fn comment_swap(text: &str) -> String {
    let is_swap = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let device = fields.next().unwrap_or("#");
        !device.starts_with('#') && fields.nth(1) == Some("swap")
    };
    text.split_inclusive('\n').map(|line| if is_swap(line) { format!("#{line}") } else { line.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twice(transform: &Transform, text: &str) -> String {
        let once = transform.apply(text);
        assert_eq!(transform.apply(&once), once, "not idempotent");
        once
    }

    #[test]
    fn kernel_arguments_are_appended_to_the_one_line() {
        let add = Transform::AddKernelArguments(vec!["cgroup_enable=memory".into(), "rootwait".into()]);
        assert_eq!(twice(&add, " root=LABEL=x rootwait \n"), "root=LABEL=x rootwait cgroup_enable=memory\n");
        assert_eq!(twice(&add, "root=LABEL=x"), "root=LABEL=x cgroup_enable=memory rootwait\n");
        assert_eq!(twice(&add, "rootwait cgroup_enable=memory"), "rootwait cgroup_enable=memory");
        assert_eq!(twice(&add, ""), "cgroup_enable=memory rootwait\n");
        assert_eq!(twice(&add, "a\n# b\n"), "a cgroup_enable=memory rootwait\n# b\n");
    }

    #[test]
    fn an_argument_that_only_looks_alike_does_not_count() {
        let add = Transform::AddKernelArguments(vec!["cgroup_enable=memory".into()]);
        assert_eq!(twice(&add, "xcgroup_enable=memory\n"), "xcgroup_enable=memory cgroup_enable=memory\n");
    }

    #[test]
    fn the_own_host_replaces_another_and_follows_localhost() {
        let set = Transform::SetOwnHost("node-2".into());
        assert_eq!(
            twice(&set, "127.0.0.1 localhost\n127.0.1.1\tubuntu\n::1 ip6-localhost\n127.0.1.10 other\n"),
            "127.0.0.1 localhost\n127.0.1.1 node-2\n::1 ip6-localhost\n127.0.1.10 other\n"
        );
        assert_eq!(twice(&set, ""), "127.0.0.1 localhost\n127.0.1.1 node-2\n");
    }

    #[test]
    fn only_swap_lines_are_commented() {
        let text =
            "# swap was on /dev/sda2 during installation\nUUID=1 / ext4 rw 0 1\n/swap.img\tnone\tswap\tsw\t0\t0\n";
        assert_eq!(
            twice(&Transform::CommentSwap, text),
            "# swap was on /dev/sda2 during installation\nUUID=1 / ext4 rw 0 1\n#/swap.img\tnone\tswap\tsw\t0\t0\n"
        );
        assert_eq!(twice(&Transform::CommentSwap, "/dev/swap / ext4 swap 0 0"), "/dev/swap / ext4 swap 0 0");
    }
}
