//! Two cores against one: the generator in two splits, two subtasks of each node.

use wasmill_runtime::udf_file::Environment;

use crate::figures::{Figure, ROWS_PER_SECOND, WayName};
use crate::pace::{Pace, median};
use crate::work::WORK;
use crate::{BenchError, wasmill};

/// What must scale.
pub const SCALING: [&str; 2] = ["python-keyed-average", "python-json"];

const BUNDLE: usize = 1000;
const ROWS: u64 = 400_000;
const ROWS_QUICK: u64 = 160_000;

/// Runs on one core and on two in turn: a busy machine slows both, and the ratio of each pair holds. None on a machine of one core.
///
/// # Errors
/// [`BenchError`].
pub fn measure(id: &str, pace: &Pace, environment: &Environment) -> Result<Vec<Figure>, BenchError> {
    let two = std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2);
    let Some(work) = WORK.iter().find(|work| work.id == id).filter(|_| two) else { return Ok(Vec::new()) };
    let rows = if pace.quick { ROWS_QUICK } else { ROWS };
    let mut one = wasmill::open(work, BUNDLE, 1, environment);
    let mut two = wasmill::open(work, BUNDLE, 2, environment);
    let (mut paces, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..pace.scaling_pairs {
        let alone = one.run(rows)?.as_secs_f64();
        let both = two.run(rows)?.as_secs_f64();
        paces.push(rows as f64 / both);
        ratios.push(alone / both);
    }
    Ok(vec![
        Figure::new(id, WayName::Wasmill, BUNDLE, "two-cores", median(&mut paces), ROWS_PER_SECOND),
        Figure::new("scaling", WayName::Wasmill, BUNDLE, id, median(&mut ratios), "×"),
    ])
}
