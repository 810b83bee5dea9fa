use super::*;

fn announcement(job: &str, pid: u32) -> Announcement {
    Announcement {
        job: job.into(),
        pid,
        address: "127.0.0.1:4711".parse().unwrap(),
        token: Token::random().unwrap(),
        started_at_millis: 1_700_000_000_000,
        job_file: "/jobs/x.yaml".into(),
    }
}

/// A process that has just ended.
fn gone() -> u32 {
    let mut process = std::process::Command::new("true").spawn().unwrap();
    process.wait().unwrap();
    process.id()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_job_is_found_while_it_is_announced() {
    let temporary = tempfile::tempdir().unwrap();
    let folders = Folders::of(None, temporary.path());
    assert!(folders.running().unwrap().is_empty());
    let own = std::process::id();
    let job = announcement("päys/../x", own);
    let announced = folders.announce(&job).unwrap();
    let other = folders.announce(&announcement("a", own)).unwrap();
    let found = folders.running().unwrap();
    assert_eq!(
        found.iter().map(Announcement::id).collect::<Vec<_>>(),
        [format!("a-{own}"), format!("päys/../x-{own}")]
    );
    assert!(found[1].token.is(job.token.secret().as_bytes()));
    assert_eq!((found[1].address, &found[1].job_file), (job.address, &job.job_file));
    assert!(!format!("{found:?}").contains(job.token.secret()));
    let folder = temporary.path().join(format!("wasmill-{}", user()));
    assert_eq!(names(&folder), [format!("a-{own}.json"), format!("p_ys____x-{own}.json")]);
    drop((announced, other));
    assert_eq!(names(&folder), [] as [&str; 0]);
}

#[test]
fn what_is_stale_is_removed_and_what_is_foreign_is_not() {
    let temporary = tempfile::tempdir().unwrap();
    let folders = Folders::of(None, temporary.path());
    let folder = temporary.path().join(format!("wasmill-{}", user()));
    let job = announcement("dead", gone());
    std::mem::forget(folders.announce(&job).unwrap());
    std::fs::write(folder.join("x.json"), "{\"job\":\"x\",\"future\":1}").unwrap();
    std::fs::write(folder.join("x.txt"), "mine").unwrap();
    assert!(folders.running().unwrap().is_empty());
    assert_eq!(names(&folder), ["x.json", "x.txt"]);

    let job = announcement("silent", std::process::id());
    std::mem::forget(folders.announce(&job).unwrap());
    folders.forget(&announcement("silent", std::process::id()));
    assert_eq!(folders.running().unwrap().len(), 1, "another job has the name and the process number");
    folders.forget(&job);
    assert!(folders.running().unwrap().is_empty());
}

#[test]
fn the_runtime_folder_comes_first_and_both_are_looked_in() {
    let (runtime, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let own = std::process::id();
    let without = Folders::of(Some("".into()), temporary.path());
    let with = Folders::of(Some(runtime.path().into()), temporary.path());
    let _first = without.announce(&announcement("service", own)).unwrap();
    let _second = with.announce(&announcement("shell", own)).unwrap();
    assert_eq!(names(&runtime.path().join("wasmill")), [format!("shell-{own}.json")]);
    assert_eq!(with.running().unwrap().len(), 2);
    assert_eq!(without.running().unwrap().len(), 1);
    let nowhere = Folders::of(Some(runtime.path().join("none").into()), temporary.path());
    assert_eq!(nowhere.running().unwrap().len(), 1, "a folder that is not there is passed over");
}

#[cfg(unix)]
#[test]
fn only_the_user_can_read_it() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let temporary = tempfile::tempdir().unwrap();
    let folders = Folders::of(None, temporary.path());
    let _announced = folders.announce(&announcement("x", std::process::id())).unwrap();
    let folder = temporary.path().join(format!("wasmill-{}", user()));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join(&names(&folder)[0])), 0o600);

    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o750)).unwrap();
    for error in [folders.running().unwrap_err(), folders.announce(&announcement("x", 1)).unwrap_err()] {
        assert!(
            error.to_string().contains("can be entered by other users: remove it, or set XDG_RUNTIME_DIR"),
            "{error}"
        );
    }
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(temporary.path(), elsewhere.path().join(format!("wasmill-{}", user()))).unwrap();
    let error = Folders::of(None, elsewhere.path()).announce(&announcement("x", 1)).unwrap_err();
    assert!(error.to_string().contains("is no folder"), "{error}");
}
