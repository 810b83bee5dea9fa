use std::path::Path;
use std::process::Command;

use super::*;
use crate::checkpoint_storage;

fn storage(root: &Path) -> LocalCheckpoints {
    LocalCheckpoints::new(root.to_owned())
}

fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for name in writing_marker::names(root).unwrap() {
        let path = root.join(&name);
        match path.is_dir() {
            true => found.extend(files(&path).iter().map(|below| format!("{name}/{below}"))),
            false => found.push(name),
        }
    }
    found.sort();
    found
}

#[test]
fn what_is_put_is_listed_and_read_until_it_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("new/deep");
    let storage = storage(&root);
    assert_eq!(storage.list("").unwrap(), [] as [&str; 0]);
    assert!(!root.exists(), "nothing is made before it is needed");
    storage.put("chk-1/manifest", b"one").unwrap();
    storage.put("chk-1/state/b", b"").unwrap();
    storage.put("chk-10/manifest", b"ten").unwrap();
    storage.put("latest", &vec![7; 3 << 20]).unwrap();
    assert_eq!(storage.list("").unwrap(), ["chk-1/manifest", "chk-1/state/b", "chk-10/manifest", "latest"]);
    assert_eq!(storage.list("chk-1/").unwrap(), ["chk-1/manifest", "chk-1/state/b"]);
    assert_eq!(storage.list("none/").unwrap(), [] as [&str; 0]);
    assert_eq!(storage.get("chk-1/state/b").unwrap(), b"");
    assert_eq!(storage.get("latest").unwrap().len(), 3 << 20);
    storage.put("latest", b"shorter").unwrap();
    assert_eq!(storage.get("latest").unwrap(), b"shorter");
    for name in ["chk-1/state/b", "chk-1/state/b", "chk-1/manifest", "none", "none/none"] {
        storage.delete(name).unwrap();
    }
    assert_eq!(files(folder.path()), ["new/deep/chk-10/manifest", "new/deep/latest"]);
    assert!(!root.join("chk-1").exists(), "folders go with what was in them");
    storage.put("chk-1/state/b", b"again").unwrap();
    assert_eq!(storage.get("chk-1/state/b").unwrap(), b"again");
    assert_eq!(storage.location(Some("chk-1/x")), root.join("chk-1/x").display().to_string());
    assert_eq!(storage.location(None), root.display().to_string());
}

#[test]
fn what_is_not_there_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    for root in [folder.path().to_owned(), folder.path().join("none")] {
        let error = storage(&root).get("a/b").unwrap_err();
        assert!(matches!(error, StorageError::Missing { .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("there is no {}", root.join("a/b").display()));
        storage(&root).delete("a/b").unwrap();
    }
}

#[test]
fn names_do_not_lead_out_of_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(&folder.path().join("in"));
    for name in ["../x", "/etc/passwd", "a/../../x", ".hidden", ""] {
        for error in
            [storage.put(name, b"").unwrap_err(), storage.get(name).unwrap_err(), storage.delete(name).unwrap_err()]
        {
            assert!(matches!(error, StorageError::Name { .. }), "{name}: {error:?}");
        }
        assert!(matches!(storage.list(&format!("{name}/")), Err(StorageError::Name { .. })), "{name}");
    }
    assert_eq!(files(folder.path()), [] as [&str; 0]);
}

#[test]
fn a_torn_write_is_never_seen_and_removed_by_the_next_claim() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    storage(root).put("chk-1/manifest", b"whole").unwrap();
    let torn = "chk-1/.state.checkpoint.inprogress-0123456789abcdef";
    let others = ["chk-1/.part-0-0.csv.inprogress-0123456789abcdef", "chk-1/.nfs0123", "chk-1/notes ü.txt"];
    for name in others.iter().chain([&torn]) {
        std::fs::write(root.join(name), "x").unwrap();
    }
    let storage = storage(root);
    assert_eq!(storage.list("").unwrap(), ["chk-1/manifest"]);
    assert!(matches!(storage.get("chk-1/state"), Err(StorageError::Missing { .. })));
    let claim = storage.claim().unwrap();
    assert!(!root.join(torn).exists());
    assert!(others.iter().all(|name| root.join(name).exists()), "what others left is theirs");
    drop(claim);
    assert_eq!(storage.get("chk-1/manifest").unwrap(), b"whole");
}

#[test]
fn only_one_claim_is_held_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (storage(folder.path()), storage(folder.path()));
    let claim = first.claim().unwrap();
    for storage in [&second, &first] {
        let error = storage.claim().err().unwrap();
        assert!(matches!(error, StorageError::Taken { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{} is taken: a job that runs now", folder.path().display())), "{text}");
        assert!(text.contains("it holds a lock on .checkpoints.writing-"), "{text}");
    }
    assert_eq!(first.list("").unwrap(), [] as [&str; 0], "the marker is no checkpoint");
    drop(claim);
    assert_eq!(files(folder.path()), [] as [&str; 0]);
    drop(second.claim().unwrap());
    // That of a process that was killed has no lock.
    std::fs::write(folder.path().join(".checkpoints.writing-0123456789abcdef"), "").unwrap();
    let claim = first.claim().unwrap();
    assert_eq!(files(folder.path()).len(), 1);
    drop(claim);
}

#[test]
fn a_file_where_a_directory_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    let wanted = format!("{} is a file, where a directory is wanted", file.display());
    for root in [file.clone(), file.join("below")] {
        let storage = storage(&root);
        for error in [storage.put("a", b"").unwrap_err(), storage.claim().err().unwrap()] {
            let text = error.to_string();
            assert!(text.contains(&format!("cannot make the directory {}: {wanted}", root.display())), "{text}");
        }
        let error = storage.list("").unwrap_err().to_string();
        assert!(error.contains("it is a file, where a directory is wanted"), "{error}");
        assert!(storage.get("a").unwrap_err().to_string().contains(&wanted));
    }
    let storage = storage(folder.path());
    assert!(storage.put("file/below", b"").unwrap_err().to_string().contains(&wanted));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

/// A job must not go on as if its checkpoints were there.
#[test]
fn a_directory_that_vanishes_is_not_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("gone");
    let storage = storage(&root);
    storage.put("chk-1/manifest", b"one").unwrap();
    std::fs::remove_dir_all(&root).unwrap();
    for name in ["chk-1/b", "chk-2/b", "b"] {
        let error = storage.put(name, b"two").unwrap_err().to_string();
        assert!(error.contains(&format!("{} is gone: did someone remove it?", root.display())), "{error}");
    }
    assert!(matches!(storage.get("chk-1/manifest"), Err(StorageError::Missing { .. })));
    assert!(!root.exists());
}

#[test]
fn threads_put_and_delete_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let storage = storage(folder.path());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let storage = &storage;
            scope.spawn(move || {
                for round in 0..20 {
                    let name = format!("same/{round}/{thread}");
                    storage.put(&name, name.as_bytes()).unwrap();
                    storage.list("").unwrap();
                    assert_eq!(storage.get(&name).unwrap(), name.as_bytes());
                    storage.delete(&name).unwrap();
                }
            });
        }
    });
    assert_eq!(files(folder.path()), [] as [&str; 0]);
}

#[test]
fn places_are_paths_and_urls() {
    let base = Path::new("/jobs");
    let place = |location: &str| checkpoint_storage(base, location).map(|storage| storage.location(None));
    assert_eq!(place("kept/x").unwrap(), "/jobs/kept/x");
    assert_eq!(place("/var/kept/").unwrap(), "/var/kept/");
    assert_eq!(place("file:///var/kept%20here").unwrap(), "/var/kept here");
    assert_eq!(place("az://container/kept").map_err(|error| error.to_string()).unwrap_or_default(), "");
    for (location, wanted) in [
        ("", "the place of checkpoints is empty"),
        ("http://host/x", "a web server cannot be written to: give a directory, or an s3://"),
        ("ftp://host/x", "no such scheme"),
        ("s3:///x", "names no bucket or server"),
        ("file://host/x", "is not a file of this machine"),
    ] {
        let error = place(location).unwrap_err().to_string();
        assert!(error.contains(wanted), "{location}: {error}");
    }
}

/// Set where the tests run with a disk of 256 KiB and a disk that is read only.
const SMALL_DISKS: &str = "WASMILL_TEST_SMALL_DISKS";

#[test]
fn a_full_disk_and_one_that_cannot_be_written() {
    let Some(disks) = std::env::var_os(SMALL_DISKS).map(PathBuf::from) else { return with_small_disks() };
    let storage = storage(&disks.join("small/kept"));
    storage.put("chk-1/manifest", b"one").unwrap();
    let error = storage.put("chk-1/state", &vec![0; 1 << 20]).unwrap_err();
    assert!(error.to_string().starts_with("cannot write ") && error.to_string().ends_with("/chk-1/state"), "{error}");
    let StorageError::Io { source: Some(source), .. } = error else { panic!("{error:?}") };
    assert_eq!(source.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::StorageFull);
    assert_eq!(files(&disks.join("small")), ["kept/chk-1/manifest"], "what was begun is taken back");
    assert_eq!(storage.get("chk-1/manifest").unwrap(), b"one");
    storage.put("chk-1/state", &vec![0; 1 << 16]).unwrap();

    let root = disks.join("fixed");
    for storage in [LocalCheckpoints::new(root.clone()), LocalCheckpoints::new(root.join("below"))] {
        for error in [storage.put("a/b", b"").unwrap_err(), storage.claim().err().unwrap()] {
            let StorageError::Io { what, source: Some(source), .. } = error else { panic!("{error:?}") };
            assert!(what.contains(&root.display().to_string()), "{what}");
            assert_eq!(source.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::ReadOnlyFilesystem);
        }
        assert_eq!(storage.list("").unwrap(), [] as [&str; 0]);
    }
}

/// Runs the test again where it may mount file systems that nobody else sees.
fn with_small_disks() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mkdir small fixed && mount -t tmpfs -o size=256k none small && mount -t tmpfs -o ro none fixed || exit 77\n\
                  exec \"$0\" --exact local_checkpoints::tests::a_full_disk_and_one_that_cannot_be_written --nocapture";
    let ran = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .current_dir(folder.path())
        .env(SMALL_DISKS, folder.path())
        .output();
    match ran {
        Ok(output) if output.status.success() => {
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "the test did not run");
        }
        Ok(output) if output.status.code() == Some(101) => {
            panic!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        }
        // Not every machine lets a user mount.
        other => eprintln!("skipped: no file system could be mounted: {other:?}"),
    }
}
