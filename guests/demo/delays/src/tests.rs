use wasmill_udf::testing::Harness;

use super::*;

fn flight(dep_delay: Option<i64>, inherited: bool) -> Flight {
    Flight { dep_delay, inherited }
}

#[test]
fn flights_are_counted_and_their_delays_averaged() {
    let mut summary = Harness::<Summary>::keyed::<String>("carrier").open().expect("opens");
    let ua = || "UA".to_owned();
    assert!(
        summary
            .accumulate([(ua(), flight(Some(10), true)), (ua(), flight(None, false)), (ua(), flight(Some(-3), false))])
            .is_empty()
    );
    assert!(summary.accumulate([(ua(), flight(Some(20), true)), ("B6".to_owned(), flight(None, false))]).is_empty());
    let lines = summary.result([ua(), "B6".to_owned(), "AA".to_owned()]).values();
    assert_eq!(
        lines[0],
        Line { flights: 4, cancelled: 1, mean_dep_delay: Some(9.0), max_dep_delay: Some(20), inherited: 2 }
    );
    assert_eq!(lines[1], Line { flights: 1, cancelled: 1, mean_dep_delay: None, max_dep_delay: None, inherited: 0 });
    assert_eq!(lines[2], Line { flights: 0, cancelled: 0, mean_dep_delay: None, max_dep_delay: None, inherited: 0 });
}

#[test]
fn parts_of_a_window_merge() {
    let mut summary = Harness::<Summary>::keyed::<String>("carrier").open().expect("opens");
    let part = |flights, delay_max| Delays { flights, cancelled: 1, delay_sum: 30, delay_max, inherited: 2 };
    let key = || "UA".to_owned();
    let errors = summary.merge([(key(), Some(part(3, None))), (key(), None), (key(), Some(part(4, Some(-2))))]);
    assert!(errors.is_empty());
    assert_eq!(
        summary.state::<Delays>("accumulator", &key()),
        Some(Delays { flights: 7, cancelled: 2, delay_sum: 60, delay_max: Some(-2), inherited: 4 })
    );
}
