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
        object.stream(0).read_to_string(&mut streamed).unwrap();
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
    let mut stream = object.stream(0);
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

#[test]
fn a_folder_of_a_web_server_is_refused() {
    for url in ["http://127.0.0.1:1/data/", "https://127.0.0.1:1/"] {
        let error = list(&Url::parse(url).unwrap()).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{url} ends in /, as a folder: a web server does not list its files: give the URL of one file")
        );
    }
}

#[test]
fn errors_do_not_show_settings_of_the_library() {
    let text = "Error performing GET http://x/y in 15s, after 18 retries, max_retries: 18446744073709551615, retry_timeout: 15s  - \
                HTTP error: error sending request";
    let plain = "Error performing GET http://x/y in 15s, after 18 retries - HTTP error: error sending request";
    assert_eq!(without_settings(text), plain);
    assert_eq!(without_settings("plain"), "plain");
}

#[test]
fn advice_is_of_the_place_that_was_asked() {
    let failed = |url: &str, text: &str, missing| {
        let (mut store, _) = open(&Url::parse(url).unwrap()).unwrap();
        store.missing = missing;
        let error = object_store::Error::Generic { store: "S3", source: text.into() };
        store.failed("cannot read x", error).to_string()
    };
    let role = "Error performing PUT http://169.254.169.254/latest/api/token in 15s - 403";
    let told = failed("s3://bucket/x", role, Some("set AWS_ACCESS_KEY_ID"));
    assert_eq!(told, "cannot read x: no credentials: set AWS_ACCESS_KEY_ID");
    assert_eq!(failed("s3://bucket/x", role, None), "cannot read x");
    assert_eq!(failed("s3://bucket/x", "a 500", Some("set AWS_ACCESS_KEY_ID")), "cannot read x");
}

/// A server that answers everything with one page of the type `kind`, until the tests end.
fn web_server(kind: &'static str, body: &'static str) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = io::BufRead::lines(io::BufReader::new(stream.try_clone().unwrap())).map_while(Result::ok);
            let is_head = lines.next().is_some_and(|line| line.starts_with("HEAD"));
            lines.find(String::is_empty);
            let (length, body) = (body.len(), if is_head { "" } else { body });
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    port
}

/// As a server lists a folder, or asks for a login: rows could be made of it.
#[test]
fn a_web_page_is_no_data() {
    let fetch = |kind: &'static str| {
        let url = format!("http://127.0.0.1:{}/data", web_server(kind, "<li>a.csv</li>"));
        let object = list(&Url::parse(&url).unwrap()).unwrap().remove(0);
        let mut file = tempfile::tempfile().unwrap();
        object.fetch_to(&mut file).map(|()| io::read_to_string(file).unwrap())
    };
    let error = fetch("Text/HTML; charset=utf-8").unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        cause,
        "the server answers with a web page (text/html), not with a file of data: give the URL of the file itself, as a download"
    );
    assert_eq!(fetch("text/csv").unwrap(), "<li>a.csv</li>");
}
