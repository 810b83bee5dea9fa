//! What one instance of a guest serves: bindings, opened once, and the bundles that run through them.

use crate::context::OpenContext;
use crate::effects::{Effects, effect_slots};
use crate::frame::{Bundle, FrameError, broken};
use crate::function::{Binding, Bound, Description, Function, Loaded, Problem};

/// A function of the guest, by its name.
#[derive(Clone, Copy)]
pub struct Entry {
    pub describe: fn() -> Description,
    pub bind: fn(&Binding, &OpenContext<'_>) -> Result<Bound, Problem>,
}

impl Entry {
    /// The entry of a function.
    pub const fn of<F: Function>() -> Self {
        Self { describe: F::describe, bind: F::bind }
    }
}

/// All functions of a component, whose names must differ.
pub fn descriptions(entries: &[Entry]) -> Result<Vec<Description>, Problem> {
    let descriptions: Vec<Description> = entries.iter().map(|entry| (entry.describe)()).collect();
    for (at, description) in descriptions.iter().enumerate() {
        if descriptions[..at].iter().any(|before| before.name == description.name) {
            let name = &description.name;
            return Err(Problem::new(format!(
                "two functions are called `{name}`: give one of them another name by #[udf(name = \"…\")]"
            )));
        }
    }
    Ok(descriptions)
}

/// What `load-functions` is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    pub job: String,
    pub operator: String,
    pub subtask: u32,
    pub parallelism: u32,
    pub bindings: Vec<Binding>,
    pub resources: Vec<(String, Vec<u8>)>,
}

struct Slot {
    loaded: Loaded,
    runner: Box<dyn crate::function::Runner>,
    effect_slots: (usize, usize),
}

/// An opened instance.
#[derive(Default)]
pub struct Instance {
    slots: Vec<Slot>,
    effects: Effects,
}

impl Instance {
    /// Binds and opens all functions that the setup names.
    pub fn load(entries: &[Entry], setup: &Setup) -> Result<Self, Problem> {
        let names: Vec<String> = descriptions(entries)?.into_iter().map(|description| description.name).collect();
        let mut instance = Self::default();
        for binding in &setup.bindings {
            let Some(at) = names.iter().position(|name| *name == binding.function) else {
                let message = format!("there is no function `{}`; the UDF has {}", binding.function, names.join(", "));
                return Err(Problem::new(message));
            };
            let entry = &entries[at];
            let context = OpenContext {
                function: &binding.function,
                job: &setup.job,
                operator: &setup.operator,
                subtask: setup.subtask,
                parallelism: setup.parallelism,
                parameters: &binding.parameters,
                resources: &setup.resources,
            };
            let Bound { loaded, runner } = (entry.bind)(binding, &context)?;
            let effect_slots = effect_slots(&loaded);
            instance.slots.push(Slot { loaded, runner, effect_slots });
        }
        Ok(instance)
    }

    /// What the bindings came to, in order.
    pub fn loaded(&self) -> impl Iterator<Item = &Loaded> {
        self.slots.iter().map(|slot| &slot.loaded)
    }

    /// A bundle's first effects.
    pub fn run(&mut self, frame: &[u8]) -> Result<&[u8], FrameError> {
        self.step(frame, |runner, bundle, effects| runner.run(bundle, effects))
    }

    /// The next effects of the bundle in `frame`, which is the one that was run last.
    pub fn resume(&mut self, frame: &[u8], replies: &[u8]) -> Result<&[u8], FrameError> {
        if !replies.is_empty() {
            return broken(format!("{} bytes of replies, but the UDF asked for nothing", replies.len()));
        }
        self.step(frame, |runner, bundle, effects| runner.resume(bundle, effects))
    }

    #[inline(always)]
    fn step(
        &mut self,
        frame: &[u8],
        step: impl FnOnce(&mut dyn crate::function::Runner, Bundle<'_>, &mut Effects) -> Result<(), FrameError>,
    ) -> Result<&[u8], FrameError> {
        let bundle = Bundle::open(frame)?;
        let bound = self.slots.len();
        let Some(slot) = self.slots.get_mut(bundle.function) else {
            return broken(format!("a bundle for binding {} of {bound}", bundle.function));
        };
        self.effects.begin(slot.effect_slots);
        step(slot.runner.as_mut(), bundle, &mut self.effects)?;
        Ok(self.effects.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_type::{DataType, Shape};
    use crate::function::Kind;

    fn describe() -> Description {
        Description {
            name: "f".to_owned(),
            kind: Kind::Scalar,
            arguments: Vec::new(),
            result: DataType::of(Shape::Bool),
            states: Vec::new(),
            deterministic: true,
            documentation: String::new(),
        }
    }

    fn bind(_binding: &Binding, _context: &OpenContext<'_>) -> Result<Bound, Problem> {
        Err(Problem::new("never opens"))
    }

    #[test]
    fn names_are_found_and_differ() {
        let entry = Entry { describe, bind };
        let setup = |function: &str| Setup {
            bindings: vec![Binding { function: function.to_owned(), ..Binding::default() }],
            ..Setup::default()
        };
        let load = |entries: &[Entry], function| {
            Instance::load(entries, &setup(function)).map(|_| ()).expect_err("fails").message
        };
        assert_eq!(load(&[entry], "g"), "there is no function `g`; the UDF has f");
        assert_eq!(load(&[entry], "f"), "never opens");
        assert_eq!(
            load(&[entry, entry], "f"),
            "two functions are called `f`: give one of them another name by #[udf(name = \"…\")]"
        );
    }
}
