//! These run in this process, through the frames of a job: set a breakpoint where you like.

use wasmill_udf::testing::Harness;

use super::*;

#[test]
fn water_freezes_at_zero() {
    let mut udf = Harness::<celsius>::new().open().unwrap();
    let results = udf.run([(32.0,), (-500.0,)]).results();
    assert_eq!(results[0], Ok(0.0));
    assert_eq!(results[1].as_ref().unwrap_err().message, "-500 °F is below absolute zero");
}

#[test]
fn only_warmer_measurements_are_given_out() {
    let mut udf = Harness::<Warmest>::keyed::<String>("station").open().unwrap();
    let measured = |station: &str, celsius| (station.to_owned(), Measurement { celsius });
    let outcome = udf.process([measured("a", 3.0), measured("b", 5.0), measured("a", 2.0), measured("a", 4.0)]);
    assert_eq!(outcome.given, [(0, 3.0), (1, 5.0), (3, 4.0)]);
    assert_eq!(udf.state::<f64>("so_far", &"a".to_owned()), Some(4.0));
}
