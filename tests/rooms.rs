//! The map of the source tree, enforced: which room (top-level module of `src/`) may import which.
//!
//! Words decide, bytes obey, and they meet in `bake`: a room may name the rooms that [`ROOMS`] lists for it and no
//! other, whether by `use crate::…`, by a path inside an expression or by climbing out with `super::super::…`.
//! The sources are scanned as text, with comments and literals blanked out; macros are not expanded. Beside that
//! the tree has no `mod.rs`, no file with more than [`LONGEST`] lines of code and no module with a name that says nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// Every room, and the rooms it may import beside itself. A room that is not here may not exist.
const ROOMS: &[(&str, &[&str])] = &[
    // Names that both halves speak.
    ("artifact", &[]),
    ("progress", &[]),
    // Words.
    ("spec", &["artifact"]),
    ("plan", &["spec", "artifact"]),
    // Bytes.
    ("disk", &[]),
    ("image", &["disk", "progress", "sink"]),
    ("partition", &["disk"]),
    ("fat", &["disk"]),
    ("ext4", &["disk"]),
    ("sink", &[]),
    ("store", &["artifact", "disk", "image", "progress"]),
    ("base", &["disk", "ext4", "fat", "image", "partition", "progress", "sink"]),
    ("verify", &["disk", "ext4", "image", "partition", "progress", "store"]),
    // Where they meet.
    (
        "bake",
        &["artifact", "base", "disk", "ext4", "fat", "image", "partition", "plan", "progress", "sink", "spec", "store"],
    ),
    // The binary has a crate root of its own and sees the library from outside.
    ("main", &["cli"]),
    ("cli", &[]),
];

/// The most lines of code a file may have, its tests not counted.
const LONGEST: usize = 500;

/// Names that fit any module and therefore none.
const EMPTY_NAMES: &[&str] =
    &["common", "helper", "helpers", "manager", "managers", "misc", "type", "types", "util", "utils"];

#[test]
fn the_source_tree_keeps_to_the_map() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = sources(&root);
    assert!(files.len() > 5, "{} holds only {} files: is this the source tree?", root.display(), files.len());
    let broken: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            violations(file.strip_prefix(&root).expect("`sources` lists what is below the root"), &text)
        })
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// All Rust files below a folder, in a fixed order.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder has readable entries").path())
        .collect();
    entries.sort();
    entries
        .into_iter()
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// What is wrong with one file; `file` is its path below `src/`.
fn violations(file: &Path, text: &str) -> Vec<String> {
    let module = module_path(file);
    let source = blank(text);
    let tokens = tokens(&source);
    let mut found = Vec::new();
    if file.file_name().is_some_and(|name| name == "mod.rs") {
        found.push(format!("{}: name it after the module and put it beside the folder", file.display()));
    }
    for name in module.iter().map(String::as_str).chain(inline_modules(&tokens)) {
        if EMPTY_NAMES.contains(&name) {
            found.push(format!("{}: `{name}` says nothing, name the noun", file.display()));
        }
    }
    let lines = code_lines(&source);
    if lines > LONGEST && module.last().is_none_or(|name| name != "tests") {
        found.push(format!("{}: {lines} lines of code, {LONGEST} are allowed: it is two nouns", file.display()));
    }
    found.extend(foreign_imports(file, &module, &tokens));
    found
}

/// The imports of one file that [`ROOMS`] does not allow.
fn foreign_imports(file: &Path, module: &[String], tokens: &[Token<'_>]) -> Vec<String> {
    let Some(room) = module.first() else { return Vec::new() }; // lib.rs names every room
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| name == room) else {
        return vec![format!("{}: room `{room}` is not on the map in tests/rooms.rs", file.display())];
    };
    imports(module, tokens)
        .into_iter()
        .filter(|import| import.room != *room && !allowed.contains(&import.room.as_str()))
        .map(|import| format!("{}:{}: `{room}` may not import `{}`", file.display(), import.line, import.room))
        .collect()
}

/// `disk/overlay.rs` → `disk`, `overlay`; `lib.rs` → nothing; `main.rs` → `main`.
fn module_path(file: &Path) -> Vec<String> {
    let path = file.with_extension("");
    let mut module: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|name| name == "mod") || module == ["lib"] {
        module.pop();
    }
    module
}

/// A name in the crate's root that a file reaches for.
#[derive(Debug, PartialEq)]
struct Import {
    room: String,
    line: usize,
}

/// An identifier or a piece of punctuation, with its line.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// The source with comments and the insides of literals turned into blanks and `"`; line breaks stay.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let before_is_word = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let (length, filler) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), ' ')
        } else if rest.starts_with("/*") {
            (block_comment(rest), ' ')
        } else if let Some(length) = raw_string(rest).filter(|_| !before_is_word) {
            (length, '"')
        } else if first == '"' {
            (quoted(rest, '"'), '"')
        } else if first == '\'' && is_character(rest) {
            (quoted(rest, '\''), '"')
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (skipped, after) = rest.split_at(length);
        out.extend(skipped.chars().map(|c| if c == '\n' { '\n' } else { filler }));
        rest = after;
    }
    out
}

/// The length of the block comment that `text` begins with; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the raw string (`r"…"`, `br#"…"#`, `cr"…"`) that `text` begins with, if it does.
fn raw_string(text: &str) -> Option<usize> {
    let opening = text.strip_prefix(['b', 'c']).unwrap_or(text).strip_prefix('r')?;
    let hashes = opening.len() - opening.trim_start_matches('#').len();
    let body = opening[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - body.len();
    Some(body.find(&end).map_or(text.len(), |at| start + at + end.len()))
}

/// The length of the literal between quotation marks that `text` begins with.
fn quoted(text: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == mark => return at + mark.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Tells `'a'` and `'\n'` from the lifetime `'a`.
fn is_character(text: &str) -> bool {
    let mut after = text.chars().skip(1);
    after.next() == Some('\\') || after.next() == Some('\'')
}

/// Words, `::` and single punctuation marks.
fn tokens(source: &str) -> Vec<Token<'_>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (text, line) in source.lines().zip(1..) {
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match rest.find(|c| !is_word(c)) {
                _ if rest.starts_with("::") => 2,
                Some(0) => first.len_utf8(),
                Some(end) => end,
                None => rest.len(),
            };
            found.push(Token { text: &rest[..length], line });
            rest = rest[length..].trim_start();
        }
    }
    found
}

/// The names of `mod name { … }` blocks and of `mod name;` lines.
fn inline_modules<'a>(tokens: &[Token<'a>]) -> impl Iterator<Item = &'a str> {
    let named = |pair: &[Token<'a>]| (pair[0].text == "mod").then_some(pair[1].text);
    tokens.windows(2).filter_map(named).collect::<Vec<_>>().into_iter()
}

/// Lines that hold code, those of `#[cfg(test)]` modules left out.
fn code_lines(source: &str) -> usize {
    let mut count = 0;
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            skip_item(&mut lines);
        } else if !line.trim().is_empty() {
            count += 1;
        }
    }
    count
}

/// Passes over the item that begins on the next line: to its `;`, or to the brace that closes it.
fn skip_item<'a>(lines: &mut impl Iterator<Item = &'a str>) {
    let mut depth = 0_i64;
    for line in lines {
        for c in line.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ';' if depth == 0 => return,
                _ => continue,
            }
            if depth == 0 {
                return;
            }
        }
    }
}

/// Everything in the crate's root that a file names. `module` is where the file is in the tree.
fn imports(module: &[String], tokens: &[Token<'_>]) -> Vec<Import> {
    let mut found = Vec::new();
    // Modules we are inside of, with the depth of braces at which each ends.
    let mut inside: Vec<(String, usize)> = Vec::new();
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        let text = |offset: usize| tokens.get(at + offset).map_or("", |token| token.text);
        let continues_a_path = at > 0 && tokens[at - 1].text == "::";
        match token.text {
            "mod" if text(2) == "{" => inside.push((text(1).to_owned(), depth)),
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inside.retain(|(_, outside)| *outside < depth);
            }
            "crate" | "super" | "self" if !continues_a_path => {
                let here = module.iter().chain(inside.iter().map(|(name, _)| name));
                let here: Vec<String> = here.cloned().collect();
                walk(&here, tokens, at, &mut found);
            }
            _ => {}
        }
    }
    found
}

/// Follows the path at `at`, groups included, from the module `base`; notes what it names in the crate's root.
/// Returns where the path ends.
fn walk(base: &[String], tokens: &[Token<'_>], mut at: usize, found: &mut Vec<Import>) -> usize {
    let mut base = base.to_vec();
    let mut climbing = true;
    let root = |base: &[String]| base.is_empty() || base == ["main"];
    while let Some(token) = tokens.get(at) {
        let goes_on = tokens.get(at + 1).is_some_and(|next| next.text == "::");
        match token.text {
            "crate" if climbing => base.clear(),
            "super" if climbing => drop(base.pop()),
            "self" if climbing => {}
            "{" => return group(&base, tokens, at, found),
            name => {
                if root(&base) {
                    found.push(Import { room: name.to_owned(), line: token.line });
                }
                climbing = false;
                base.push(name.to_owned());
            }
        }
        if !goes_on {
            // The root itself under another name would hide whatever is reached through it.
            let renamed = tokens.get(at + 1).is_some_and(|next| next.text == "as");
            if renamed && climbing && base.is_empty() {
                found.push(Import { room: "the crate's root".to_owned(), line: token.line });
            }
            return at + 1;
        }
        at += 2;
    }
    at
}

/// Follows every path between the braces that open at `at`. Returns where the group ends.
fn group(base: &[String], tokens: &[Token<'_>], mut at: usize, found: &mut Vec<Import>) -> usize {
    at += 1;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "}" => return at + 1,
            "," => at += 1,
            "as" => at += 2, // the alias is no path
            _ => at = walk(base, tokens, at, found).max(at + 1),
        }
    }
    at
}

/// The rules are worth what they catch.
mod the_check_itself {
    use super::*;

    fn check(file: &str, text: &str) -> Vec<String> {
        violations(Path::new(file), text)
    }

    fn rooms(file: &str, text: &str) -> Vec<String> {
        let source = blank(text);
        let imports = imports(&module_path(Path::new(file)), &tokens(&source));
        imports.into_iter().map(|import| import.room).collect()
    }

    #[test]
    fn an_import_that_the_map_allows_passes() {
        assert_eq!(check("ext4/inode.rs", "use crate::disk::{Disk, DiskMut};\nuse super::block::Block;"), [""; 0]);
        assert_eq!(check("plan.rs", "use crate::spec::NodeSpec;"), [""; 0]);
        assert_eq!(check("bake.rs", "use crate::{plan, ext4::Editor};"), [""; 0]);
        assert_eq!(check("lib.rs", "pub use bake::bake;\npub use crate::disk::Disk;"), [""; 0]);
    }

    #[test]
    fn an_import_that_it_does_not_allow_is_named_with_its_line() {
        let text = "//! Words.\n\nuse crate::ext4::Editor;\n";
        assert_eq!(check("plan/boot.rs", text), ["plan/boot.rs:3: `plan` may not import `ext4`"]);
    }

    #[test]
    fn nested_groups_are_followed() {
        let text = "use crate::{disk::{Disk, self}, plan::Plan as Words, fat, ext4::{inode::{Inode}, Editor}};";
        assert_eq!(rooms("fat.rs", text), ["disk", "plan", "fat", "ext4"]);
        assert_eq!(check("fat.rs", text).len(), 2);
    }

    #[test]
    fn paths_inside_expressions_are_followed() {
        let text = "fn f(x: &dyn crate::plan::X) -> u8 { crate::store::get::<crate::spec::Y>(&[crate::bake::Z]) }";
        assert_eq!(rooms("ext4/dir.rs", text), ["plan", "store", "spec", "bake"]);
    }

    #[test]
    fn climbing_out_of_the_room_is_caught() {
        assert_eq!(rooms("ext4.rs", "use super::plan::Plan;"), ["plan"]);
        assert_eq!(rooms("ext4/dir.rs", "use super::super::{plan, disk::Disk};"), ["plan", "disk"]);
        assert_eq!(rooms("ext4/dir.rs", "use super::plan::Plan;"), [""; 0]);
        let inside = "mod tests { use super::super::super::plan; fn f() { { super::super::x() } } }\nuse super::y;";
        assert_eq!(rooms("ext4/dir.rs", inside), ["plan"]);
    }

    #[test]
    fn a_module_that_ended_no_longer_counts() {
        assert_eq!(rooms("ext4.rs", "mod a { mod b { } fn f() {} } mod c {} fn g() { super::plan::h() }"), ["plan"]);
    }

    #[test]
    fn the_root_cannot_be_renamed_or_globbed() {
        assert_eq!(rooms("ext4.rs", "use crate as all;"), ["the crate's root"]);
        assert_eq!(rooms("ext4.rs", "use crate::{self as all};"), ["the crate's root"]);
        assert_eq!(rooms("ext4.rs", "use crate::*;"), ["*"]);
        assert_eq!(check("ext4.rs", "use crate::Plan;"), ["ext4.rs:1: `ext4` may not import `Plan`"]);
    }

    #[test]
    fn comments_and_literals_import_nothing() {
        let text = r####"
            // use crate::plan::Plan;
            /* crate::spec::X /* nested */ crate::spec::Y */
            /// See [`crate::bake`].
            const A: &str = "crate::plan \" crate::plan";
            const B: &str = r##"crate::plan "# crate::plan"##;
            const C: (char, char, u8) = ('"', '\'', b'"');
            fn f<'a>(x: &'a str) -> &'a str { x }
            use crate::disk;
        "####;
        assert_eq!(rooms("ext4.rs", text), ["disk"]);
    }

    #[test]
    fn visibility_is_no_import() {
        assert_eq!(rooms("ext4/dir.rs", "pub(crate) struct A; pub(super) struct B; fn f(&self) { self.x }"), [""; 0]);
    }

    #[test]
    fn a_room_that_is_not_on_the_map_is_named() {
        assert_eq!(check("cellar.rs", ""), ["cellar.rs: room `cellar` is not on the map in tests/rooms.rs"]);
    }

    #[test]
    fn the_binary_sees_the_library_from_outside_only() {
        assert_eq!(check("main.rs", "mod cli;\nuse crate::cli::run;\nuse imgbake::bake;"), [""; 0]);
        assert_eq!(check("main.rs", "use crate::plan::Plan;"), ["main.rs:1: `main` may not import `plan`"]);
    }

    #[test]
    fn mod_rs_and_empty_names_are_refused() {
        assert_eq!(check("disk/mod.rs", ""), ["disk/mod.rs: name it after the module and put it beside the folder"]);
        assert_eq!(check("disk/util.rs", ""), ["disk/util.rs: `util` says nothing, name the noun"]);
        assert_eq!(check("disk/helpers/x.rs", ""), ["disk/helpers/x.rs: `helpers` says nothing, name the noun"]);
        assert_eq!(check("disk.rs", "mod types { }"), ["disk.rs: `types` says nothing, name the noun"]);
    }

    #[test]
    fn a_long_file_is_refused_and_tests_comments_and_blank_lines_do_not_count() {
        let code = "fn f() {}\n".repeat(LONGEST);
        let rest = "// why\n\n#[cfg(test)]\nmod tests {\n    fn g() { let x = [1; 2]; }\n}\n";
        assert_eq!(check("disk.rs", &format!("{code}{rest}")), [""; 0]);
        let message = "disk.rs: 501 lines of code, 500 are allowed: it is two nouns";
        assert_eq!(check("disk.rs", &format!("{code}{rest}fn h() {{}}\n")), [message]);
        assert_eq!(check("disk/tests.rs", &code.repeat(2)), [""; 0]);
    }

    #[test]
    fn every_room_on_the_map_imports_rooms_on_the_map() {
        for (room, allowed) in ROOMS {
            for other in *allowed {
                assert!(ROOMS.iter().any(|(name, _)| name == other), "`{room}` may import `{other}`, which is no room");
            }
        }
    }
}
