use std::fs;

use super::*;

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_appears_when_it_is_complete_and_not_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.img");
    let mut sink = Sink::file(&path).unwrap();
    sink.write(b"half").unwrap();
    sink.flush().unwrap();
    assert!(!path.exists());
    drop(sink);
    assert_eq!(names(dir.path()), Vec::<String>::new());

    let mut sink = Sink::file(&path).unwrap();
    sink.write(b"whole").unwrap();
    sink.zeros(100_000).unwrap();
    sink.commit().unwrap();
    assert_eq!(names(dir.path()), ["node.img"]);
    assert_eq!(fs::read(&path).unwrap(), [&b"whole"[..], &[0; 100_000]].concat());
}

#[test]
fn a_present_file_is_replaced_only_by_a_complete_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.img");
    fs::write(&path, "old").unwrap();
    let mut sink = Sink::file(&path).unwrap();
    sink.write(b"new").unwrap();
    drop(sink);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    let mut sink = Sink::file(&path).unwrap();
    sink.write(b"new").unwrap();
    sink.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(dir.path()), ["node.img"]);
}

#[test]
fn a_hidden_name_is_as_good_where_there_are_no_nameless_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.img");
    let hidden = |content: &[u8]| {
        let named = tempfile::Builder::new().prefix(&target::prefix(&path)).tempfile_in(dir.path()).unwrap();
        let (file, hidden) = named.into_parts();
        let out = Out::File { target: Target::Hidden(file, hidden, path.clone()), base: 0, at: 0 };
        let mut sink = Sink::new("x".into(), out);
        sink.write(content).unwrap();
        sink
    };
    let sink = hidden(b"lost");
    assert!(names(dir.path())[0].starts_with(".node.img."));
    drop(sink);
    assert_eq!(names(dir.path()), Vec::<String>::new());
    hidden(b"kept").commit().unwrap();
    assert_eq!((names(dir.path()), fs::read(&path).unwrap()), (vec!["node.img".to_owned()], b"kept".to_vec()));
}

#[cfg(unix)]
#[test]
fn a_new_image_is_its_owners_and_a_replaced_one_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.img");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    Sink::file(&path).unwrap().commit().unwrap();
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    Sink::file(&path).unwrap().commit().unwrap();
    assert_eq!(mode(), 0o640);
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let message = |path: &Path| Sink::file(path).err().unwrap();
    let missing = dir.path().join("missing/node.img");
    let error = message(&missing);
    assert_eq!(error.to_string(), format!("cannot write to `{}`", missing.display()));
    assert_eq!(error.hint().unwrap(), "make the folder first, or choose another");
    let error = message(dir.path());
    assert_eq!(error.to_string(), format!("cannot write an image to `{}`: it is a folder", dir.path().display()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_target_says_how_much_is_needed() {
    let mut sink = Sink::file(Path::new("/dev/full")).unwrap();
    sink.begin(5_000_000).unwrap();
    let error = sink.write(&[1; 3_000_000]).unwrap_err();
    let message = "no space left for `/dev/full`: the image has 5000000 bytes, 0 of them were reached";
    assert_eq!(error.to_string(), message);
    assert_eq!(error.hint().unwrap(), "choose a place with 5 MiB free");
}

#[cfg(target_os = "linux")]
#[test]
fn the_null_device_takes_everything() {
    let mut sink = Sink::file(Path::new("/dev/null")).unwrap();
    assert!(!sink.is_terminal());
    sink.write(&[1; 3_000_000]).unwrap();
    sink.zeros(3_000_000).unwrap();
    sink.commit().unwrap();
    assert!(fs::metadata("/dev/null").unwrap().len() == 0);
}

#[test]
fn a_reader_that_leaves_is_told_from_other_failures() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut sink = Sink::stream("a pipe", writer);
    let error = sink.write(&[1; 3_000_000]).unwrap_err();
    assert!(matches!(error, SinkError::BrokenPipe { .. }), "{error:?}");
}
