use super::*;
use crate::remote::testing::{content, store};

fn storage(store: &Arc<Store>) -> RemoteCheckpoints {
    RemoteCheckpoints::new(Arc::clone(store), Path::from("jobs/x")).unwrap()
}

fn names(store: &Store) -> Vec<String> {
    content(store).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn what_is_put_is_listed_and_read_until_it_is_deleted() {
    let store = store(&[("jobs/xy/other", "other"), ("jobs/x/notes ü", "foreign"), ("jobs/x/.hidden", "hidden")]);
    let storage = storage(&store);
    assert_eq!(storage.list("").unwrap(), [] as [&str; 0]);
    let large: Vec<u8> = (0..u32::try_from(PART_BYTES).unwrap()).flat_map(u32::to_le_bytes).collect();
    storage.put("chk-1/manifest", b"one").unwrap();
    storage.put("chk-1/state/b", b"").unwrap();
    storage.put("chk-10/manifest", &large).unwrap();
    assert_eq!(storage.list("").unwrap(), ["chk-1/manifest", "chk-1/state/b", "chk-10/manifest"]);
    assert_eq!(storage.list("chk-1/").unwrap(), ["chk-1/manifest", "chk-1/state/b"]);
    assert_eq!(storage.list("none/").unwrap(), [] as [&str; 0]);
    assert_eq!(storage.get("chk-1/state/b").unwrap(), b"");
    assert!(storage.get("chk-10/manifest").unwrap() == large);
    storage.put("chk-10/manifest", b"shorter").unwrap();
    assert_eq!(storage.get("chk-10/manifest").unwrap(), b"shorter");
    storage.delete("chk-1/manifest").unwrap();
    storage.delete("chk-1/manifest").unwrap();
    let error = storage.get("chk-1/manifest").unwrap_err();
    assert!(matches!(error, StorageError::Missing { .. }), "{error:?}");
    assert_eq!(error.to_string(), "there is no mem://jobs/x/chk-1/manifest");
    assert_eq!(storage.location(Some("a/b")), "mem://jobs/x/a/b");
    for name in ["../x", "", "a//b", ".claim"] {
        assert!(matches!(storage.put(name, b""), Err(StorageError::Name { .. })), "{name}");
    }
    assert!(names(&store).contains(&"jobs/xy/other".to_owned()));
}

#[test]
fn only_one_claim_is_held_at_a_time() {
    let store = store(&[]);
    let (first, second) = (storage(&store), storage(&store));
    let claim = first.claim().unwrap();
    assert_eq!(names(&store), ["jobs/x/.claim"]);
    assert_eq!(first.list("").unwrap(), [] as [&str; 0], "the claim is no checkpoint");
    for storage in [&first, &second] {
        let error = storage.claim().err().unwrap();
        assert!(matches!(error, StorageError::Taken { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("mem://jobs/x is taken: process {}", std::process::id())), "{text}");
        assert!(text.ends_with("if it is dead, remove mem://jobs/x/.claim"), "{text}");
    }
    drop(claim);
    assert_eq!(names(&store), [] as [&str; 0]);
    drop(second.claim().unwrap());
}

/// As after a kill: a person removed the claim, and another job runs now.
#[test]
fn a_claim_that_was_replaced_is_not_removed_by_its_first_holder() {
    let store = store(&[]);
    let first = storage(&store).claim().unwrap();
    block_on(store.objects.delete(&"jobs/x/.claim".into())).unwrap().unwrap();
    let second = storage(&store).claim().unwrap();
    drop(first);
    assert_eq!(names(&store), ["jobs/x/.claim"]);
    drop(second);
    assert_eq!(names(&store), [] as [&str; 0]);
}

#[test]
fn what_is_no_claim_is_not_overwritten() {
    let store = store(&[("jobs/x/.claim", "keep out")]);
    let error = storage(&store).claim().err().unwrap().to_string();
    assert!(error.starts_with("mem://jobs/x/.claim is no claim of a job: remove it"), "{error}");
    assert_eq!(content(&store)[0].1, b"keep out");
}
