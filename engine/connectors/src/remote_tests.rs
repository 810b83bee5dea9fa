use super::testing::store;
use super::*;

fn urls(store: &Arc<Store>, key: &str) -> Vec<String> {
    list_store(store, &Path::from(key), key).unwrap().iter().map(Object::url).collect()
}

#[test]
fn objects_are_listed_as_files_are() {
    let store = store(&[
        ("in/b.csv", "b"),
        ("in/a.csv", "a"),
        ("in/_SUCCESS", ""),
        ("in/_tmp/c.csv", "c"),
        ("in/sub/d.csv", "d"),
        ("in/sub", ""),
        ("other/x.csv", "x"),
    ]);
    assert_eq!(urls(&store, "in"), ["mem://in/a.csv", "mem://in/b.csv", "mem://in/sub/d.csv"]);
    assert_eq!(urls(&store, "in/b.csv"), ["mem://in/b.csv"]);
    assert_eq!(urls(&store, "*/*.csv"), ["mem://in/a.csv", "mem://in/b.csv", "mem://other/x.csv"]);
    assert_eq!(urls(&store, "none"), [] as [&str; 0]);
    assert_eq!(list_store(&store, &Path::from("[x"), "mem://[x").unwrap_err().to_string(), "mem://[x is not a glob");
}

#[test]
fn an_object_is_read_part_by_part() {
    let text = "0123456789abcdef".repeat(1 << 17);
    let store = store(&[("x", &text), ("empty", "")]);
    let read = |key: &str| {
        let object = &list_store(&store, &Path::from(key), key).unwrap()[0];
        let (mut streamed, mut fetched) = (String::new(), String::new());
        object.stream().read_to_string(&mut streamed).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        object.fetch_to(&mut file).unwrap();
        file.read_to_string(&mut fetched).unwrap();
        assert_eq!(streamed, fetched);
        streamed
    };
    assert_eq!(read("x"), text);
    assert_eq!(read("empty"), "");
}

#[test]
fn an_object_that_is_replaced_while_it_is_read_is_an_error() {
    let store = store(&[("x", &"a".repeat(3 << 20))]);
    let object = list_store(&store, &Path::from("x"), "x").unwrap().remove(0);
    let mut stream = object.stream();
    stream.read_exact(&mut [0; 10]).unwrap();
    block_on(store.objects.put(&"x".into(), "b".repeat(3 << 20).into())).unwrap().unwrap();
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "mem://x: it was replaced while it was read");
}

#[test]
fn urls_are_told_apart() {
    let open = |url: &str| open(&Url::parse(url).unwrap()).map(|(store, key)| (store.root, key.to_string()));
    let opened = |url: &str| open(url).unwrap();
    assert_eq!(opened("s3://bucket/a/b.csv"), ("s3://bucket/".into(), "a/b.csv".into()));
    assert_eq!(opened("s3://bucket"), ("s3://bucket/".into(), String::new()));
    assert_eq!(opened("s3://bucket/a%20b/c/"), ("s3://bucket/".into(), "a b/c".into()));
    assert_eq!(opened("http://host:81/a/b.csv"), ("http://host:81/".into(), "a/b.csv".into()));
    let message = |url: &str| open(url).err().unwrap().to_string();
    assert!(message("ftp://x/y").contains("ftp://x/y: no such scheme; a path, file://, s3://"));
    assert_eq!(message("s3:///key"), "s3:///key names no bucket or server: write s3://name/key");
    assert!(message("https://host/x.csv?token=1").contains("what follows ? or # in a URL is not sent"));
}
