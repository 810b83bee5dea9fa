//! What the SDK carries of the contract is the contract. `BLESS=1 cargo test -p wasmill-udf --test wit` writes it anew.

use std::path::Path;

use wit_component::StringEncoding;
use wit_parser::Resolve;

fn agree(path: &str, wanted: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, wanted).expect("the SDK's folder can be written");
    }
    let got = std::fs::read(&path).unwrap_or_default();
    assert!(got == wanted, "{} is out of date: BLESS=1 cargo test -p wasmill-udf --test wit", path.display());
}

#[test]
fn the_copy_of_the_contract_is_the_contract() {
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/udf.wit");
    agree("wit/udf.wit", &std::fs::read(contract).expect("wit/udf.wit"));
}

#[test]
fn the_component_type_is_that_of_the_contract() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/udf.wit")).expect("wit/udf.wit");
    let mut resolve = Resolve::default();
    let package = resolve.push_str("udf.wit", &text).expect("wit/udf.wit");
    let world = resolve.select_world(&[package], Some("udf")).expect("the world `udf`");
    let encoded =
        wit_component::metadata::encode(&resolve, world, StringEncoding::UTF8, None).expect("the world is encoded");
    agree("wit/component-type.bin", &encoded);
}
