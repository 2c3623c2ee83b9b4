//! Several imgbakes at one cache, and imgbakes that die.

use std::env;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use imgbake::Silent;

use super::server::{Act, Server, file};
use super::*;

const SIZE: usize = 3 << 20;

/// What the child process is told by.
const TASK: &str = "IMGBAKE_TEST_STORE_CHILD";

#[test]
fn many_threads_fetch_one_file_once() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(1 << 20);
    let server = Server::of(data.clone());
    let artifact = pinned(server.url("a"), &data);
    let files = store(cache.path()).get_all(&vec![artifact; 8], &Silent).unwrap();
    assert_eq!(files.len(), 8);
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn many_files_come_in_the_order_they_were_asked_for() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(|request| file(request, request.path.as_bytes()));
    let name = |index| format!("file-{index}");
    let artifacts: Vec<_> =
        (0..20).map(|index| pinned(server.url(&name(index)), format!("/{}", name(index)).as_bytes())).collect();
    let files = store(cache.path()).get_all(&artifacts, &Silent).unwrap();
    for (index, file) in files.iter().enumerate() {
        assert_eq!(bytes(file), format!("/{}", name(index)).into_bytes());
    }
}

/// One process by itself; told where to, it is what the next test runs and kills.
#[test]
fn one_process() {
    let own = (tempfile::tempdir().unwrap(), Server::of(noise(SIZE)));
    let task = env::var(TASK).unwrap_or_else(|_| format!("{}\n{}", own.0.path().display(), own.1.url("a")));
    let (cache, url) = task.split_once('\n').unwrap();
    assert!(get(&store(cache.as_ref()), &pinned(url, &noise(SIZE))) == noise(SIZE));
}

#[test]
fn processes_that_are_killed_leave_a_cache_that_works() {
    let cache = tempfile::tempdir().unwrap();
    let data = noise(SIZE);
    let served = data.clone();
    // Slow enough to be killed in the middle.
    let server = Server::start(move |request| match file(request, &served).remove(0) {
        Act::Send(bytes) => bytes
            .chunks(64 << 10)
            .flat_map(|part| [Act::Send(part.to_vec()), Act::Wait(Duration::from_millis(2))])
            .collect(),
        wait => vec![wait],
    });
    let url = server.url("a");
    let spawn = || {
        Command::new(env::current_exe().unwrap())
            .args(["several::one_process", "--exact", "--nocapture"])
            .env(TASK, format!("{}\n{url}", cache.path().display()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    store(cache.path());
    for round in 0..12 {
        let mut children = [spawn(), spawn()];
        thread::sleep(Duration::from_millis(15 + 17 * round));
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        for entry in fs::read_dir(cache.path().join("blobs")).unwrap() {
            assert_eq!(fs::read(entry.unwrap().path()).unwrap(), data, "round {round}");
        }
    }
    let mut last = [spawn(), spawn()];
    assert!(last.iter_mut().all(|child| child.wait().unwrap().success()));
    assert_eq!(get(&store(cache.path()), &pinned(&url, &data)), data);
    assert_eq!(held(cache.path()), (1, 0));
}
