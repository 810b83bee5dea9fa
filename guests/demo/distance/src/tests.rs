use wasmill_udf::testing::Harness;

use super::*;

const AIRPORTS: &str = include_str!("../../data/airports.csv");

#[test]
fn distances_are_those_of_an_atlas() {
    let mut distance = Harness::<Distance>::new().resource("airports.csv", AIRPORTS).open().expect("opens");
    assert_eq!(distance.log.len(), 1, "{:?}", distance.log);
    let km = distance.run([("JFK", "LAX"), ("JFK", "JFK"), ("EWR", "HNL"), ("JFK", "???")]).values();
    let near = |got: Option<f64>, wanted: f64| {
        assert!(got.is_some_and(|got| (got - wanted).abs() < wanted / 200.0), "{got:?} for {wanted}")
    };
    near(km[0], 3974.0);
    assert_eq!(km[1], Some(0.0));
    near(km[2], 7977.0);
    assert_eq!(km[3], None);
}

#[test]
fn what_is_wrong_with_the_file_is_said() {
    let open = |text: &str| {
        Harness::<Distance>::new().resource("airports.csv", text).open().map(|_| ()).expect_err("does not open").message
    };
    assert_eq!(open(""), "`km` failed in open: airports.csv is empty");
    assert_eq!(open("faa,lat\nJFK,1"), "`km` failed in open: airports.csv has no column `lon`: it has faa, lat");
    assert_eq!(open("faa,lat,lon\nJFK,1"), "`km` failed in open: airports.csv: record 1 has 2 fields, 3 wanted");
    assert_eq!(
        open("faa,lat,lon\nJFK,1,x"),
        "`km` failed in open: airports.csv: record 1: `x` is not a number of degrees"
    );
    let none = Harness::<Distance>::new().open().map(|_| ()).expect_err("does not open").message;
    assert_eq!(
        none,
        "`km` failed in open: `km` asks for resource `airports.csv`, but it has none: grant it under the UDF's `resources`"
    );
}
