//! One bad row costs one row. A call that ends the instance (a trap, a deadline, too much memory) has changed nothing, so its
//! rows are given to a fresh instance in halves, until the row is found on which the guest fails; that row meets the UDF's
//! `on-error` policy and the others go on. Order, state and output are as if it had not been there.

use std::ops::Range;

use wasmill_host::{Fault, FaultKind};

use crate::error::JobError;

/// Bad rows in a row, with no good one between, after which the UDF is held to fail on everything: each has cost an instance,
/// and perhaps the whole deadline.
const BAD_ROWS_MAX: u32 = 16;

/// What is known of a UDF from the calls so far.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// Since the last call that ended well.
    bad_rows: u32,
}

/// What a search does with the operator.
pub(crate) trait Isolate {
    /// Calls the guest for a part of the rows; all of its effects are applied, or none.
    fn part(&mut self, rows: Range<usize>) -> Result<(), JobError>;
    /// A fresh instance in the place of the one that these rows have cost; an error if there is no use in going on.
    fn lost(&mut self, rows: Range<usize>, fault: &Fault) -> Result<(), JobError>;
    /// The row on which the guest fails meets the UDF's policy.
    fn bad_row(&mut self, row: usize, fault: &Fault) -> Result<(), JobError>;
    /// The job ends with `error`, the last such row having met `fault`.
    fn given_up(&mut self, fault: &Fault, error: JobError) -> JobError;
}

impl Search {
    /// Does all of `rows`, without those on which the guest fails.
    pub(crate) fn run(&mut self, rows: Range<usize>, operator: &mut impl Isolate) -> Result<(), JobError> {
        let (node, fault) = match operator.part(rows.clone()) {
            Ok(()) => {
                self.bad_rows = 0;
                return Ok(());
            }
            Err(JobError::Fault { node, fault, .. }) if is_the_guests(fault.kind) => (node, fault),
            Err(other) => return Err(other),
        };
        operator.lost(rows.clone(), &fault)?;
        if rows.len() > 1 {
            let half = rows.start + rows.len() / 2;
            self.run(rows.start..half, operator)?;
            return self.run(half..rows.end, operator);
        }
        operator.bad_row(rows.start, &fault)?;
        self.bad_rows += 1;
        if self.bad_rows >= BAD_ROWS_MAX {
            let error = JobError::Hopeless { node, rows: self.bad_rows, fault: fault.clone() };
            return Err(operator.given_up(&fault, error));
        }
        Ok(())
    }
}

/// Not those of the engine itself, which another row would meet too.
fn is_the_guests(kind: FaultKind) -> bool {
    !matches!(kind, FaultKind::Input | FaultKind::Host | FaultKind::Poisoned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A guest that fails on every call with one of `bad` in it.
    struct Model {
        bad: Vec<usize>,
        done: Vec<usize>,
        met: Vec<usize>,
        calls: usize,
        lost: bool,
    }

    fn fault(kind: FaultKind) -> Box<Fault> {
        Box::new(Fault {
            kind,
            udf: "u".into(),
            function: "f".into(),
            message: "trapped".into(),
            location: String::new(),
            backtrace: String::new(),
        })
    }

    impl Isolate for Model {
        fn part(&mut self, rows: Range<usize>) -> Result<(), JobError> {
            assert!(!self.lost, "a lost instance is not called again");
            self.calls += 1;
            if self.bad.iter().any(|bad| rows.contains(bad)) {
                self.lost = true;
                let fault = fault(FaultKind::Trap);
                return Err(JobError::Fault { node: "n".into(), fault, position: None });
            }
            self.done.extend(rows);
            Ok(())
        }

        fn lost(&mut self, _: Range<usize>, _: &Fault) -> Result<(), JobError> {
            assert!(std::mem::take(&mut self.lost));
            Ok(())
        }

        fn bad_row(&mut self, row: usize, _: &Fault) -> Result<(), JobError> {
            self.met.push(row);
            Ok(())
        }

        fn given_up(&mut self, _: &Fault, error: JobError) -> JobError {
            error
        }
    }

    fn model(bad: Vec<usize>) -> Model {
        Model { bad, done: Vec::new(), met: Vec::new(), calls: 0, lost: false }
    }

    proptest! {
        #[test]
        fn every_good_row_is_done_once_and_in_order(
            rows in 1usize..400,
            bad in prop::collection::btree_set(0usize..400, 0..6),
        ) {
            let bad: Vec<usize> = bad.into_iter().filter(|bad| *bad < rows).collect();
            let mut guest = model(bad.clone());
            Search::default().run(0..rows, &mut guest).unwrap();
            let good: Vec<usize> = (0..rows).filter(|row| !bad.contains(row)).collect();
            prop_assert_eq!(&guest.done, &good);
            prop_assert_eq!(&guest.met, &bad);
            // Each bad row costs a failed and a good call for each halving.
            prop_assert!(guest.calls <= 1 + bad.len() * 2 * (rows.ilog2() as usize + 1), "{} calls", guest.calls);
        }
    }

    #[test]
    fn a_guest_that_fails_on_everything_is_given_up() {
        let mut guest = model((0..10_000).collect());
        let error = Search::default().run(0..10_000, &mut guest).unwrap_err();
        assert!(matches!(error, JobError::Hopeless { rows: BAD_ROWS_MAX, .. }), "{error}");
        assert!(guest.calls < 64, "{} calls", guest.calls);
        // Also where each bundle is a single row.
        let (mut guest, mut search) = (model(vec![0]), Search::default());
        let tries = (0..100).take_while(|_| search.run(0..1, &mut guest).is_ok()).count();
        assert_eq!(tries, BAD_ROWS_MAX as usize - 1);
    }

    #[test]
    fn the_engines_own_faults_are_not_searched() {
        struct Broken;
        impl Isolate for Broken {
            fn part(&mut self, _: Range<usize>) -> Result<(), JobError> {
                Err(JobError::Fault { node: "n".into(), fault: fault(FaultKind::Host), position: None })
            }
            fn lost(&mut self, _: Range<usize>, _: &Fault) -> Result<(), JobError> {
                panic!("nothing was lost")
            }
            fn bad_row(&mut self, _: usize, _: &Fault) -> Result<(), JobError> {
                panic!("no row is bad")
            }
            fn given_up(&mut self, _: &Fault, _: JobError) -> JobError {
                panic!("no row is bad")
            }
        }
        assert!(matches!(Search::default().run(0..10, &mut Broken), Err(JobError::Fault { .. })));
    }
}
