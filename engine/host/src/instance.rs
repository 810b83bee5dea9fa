//! A running UDF: bundle in, effects out.

use std::marker::PhantomData;
use std::sync::Arc;

use wasmtime::Store;
use wasmtime::component::{Func, TypedFunc};

use crate::bundle::{Bundle, Effects};
use crate::context::Context;
use crate::declare::Loaded;
use crate::effects::{EffectsReader, Status};
use crate::fault::{Fault, FaultKind};
use crate::frame::FrameWriter;
use crate::guard::{Entered, Guard};
use crate::plan::BindingPlan;

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Finest.
    Trace,
    /// For developers.
    Debug,
    /// Normal; also what the guest prints to stdout.
    Info,
    /// Worth a look; also what the guest prints to stderr.
    Warn,
    /// Failed.
    Error,
}

/// What an instance needs of whoever runs it.
pub trait UdfHost: Send + 'static {
    /// A line of the guest's, at the end of the call that it was written in.
    fn log(&mut self, level: LogLevel, message: &str);

    /// The value of a state with access `call` as it was before this bundle, in the encoding of `wit/README.md` ("Values").
    /// `state` is an index into [`Loaded::states`] of the running function, `key` one below [`Bundle::keys`]. Appended to `value`;
    /// false = there is none.
    ///
    /// # Errors
    /// Any text; the call ends with [`FaultKind::Host`].
    fn state_get(&mut self, state: u32, key: u32, value: &mut Vec<u8>) -> Result<bool, String>;
}

/// A running UDF. It belongs to one thread at a time.
pub struct UdfInstance<H> {
    store: Store<Context>,
    guard: Guard,
    /// Of type `(list<u8>) -> list<u8>`, which was checked.
    run_frame: Func,
    resume_frame: Func,
    loaded: Vec<Loaded>,
    plans: Arc<[BindingPlan]>,
    frame: FrameWriter,
    call_ticks: u64,
    /// The fault that cost this instance.
    poisoned: Option<String>,
    host: PhantomData<H>,
}

/// A buffer that grew beyond this for one bundle is given back.
const FRAME_BYTES_KEPT: usize = 16 << 20;

impl<H: UdfHost> UdfInstance<H> {
    pub(crate) fn new(
        mut store: Store<Context>,
        guard: Guard,
        run_frame: Func,
        resume_frame: Func,
        loaded: Vec<Loaded>,
        plans: Arc<[BindingPlan]>,
    ) -> Self {
        store.data_mut().plans = plans.clone();
        let call_ticks = guard.ticks(store.data().limits.call_time_max);
        Self {
            store,
            guard,
            run_frame,
            resume_frame,
            loaded,
            plans,
            frame: FrameWriter::default(),
            call_ticks,
            poisoned: None,
            host: PhantomData,
        }
    }

    /// One per binding, in order.
    pub fn loaded(&self) -> &[Loaded] {
        &self.loaded
    }

    /// What was given to `instantiate`.
    pub fn host(&self) -> &H {
        self.store.data().host()
    }

    /// What was given to `instantiate`.
    pub fn host_mut(&mut self) -> &mut H {
        self.store.data_mut().host_mut()
    }

    /// Linear memory that the guest has, in bytes. It never shrinks.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().limiter.memory_bytes
    }

    /// Whether a fault has cost this instance: it will run no more bundles.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.is_some()
    }

    /// The frame of the last bundle, if it failed or one of its rows did: what the guest was given, to the byte. After one that went
    /// well it may be that frame or empty.
    pub fn failed_frame(&self) -> &[u8] {
        self.frame.bytes()
    }

    /// Runs one bundle. The same bundle gives the same effects, unless [`Capabilities`](crate::Capabilities) say otherwise.
    ///
    /// # Errors
    /// [`Fault`]. It has had no effect. After all but [`FaultKind::Input`] the instance is lost.
    pub fn run(&mut self, bundle: &Bundle<'_>) -> Result<Effects, Fault> {
        let Some(plan) = self.plans.get(bundle.function as usize) else {
            let message = format!("was given a bundle for function {} of {}", bundle.function, self.plans.len());
            return Err(self.guard.plain(FaultKind::Input, Entered::Load, message));
        };
        let entered = Entered::Bundle { function: &plan.function, rows: bundle.rows };
        if let Some(first) = &self.poisoned {
            let message = format!("is not usable since it {first}");
            return Err(self.guard.plain(FaultKind::Poisoned, entered, message));
        }
        if let Err(bad) = plan.write(bundle, &mut self.frame) {
            return Err(self.guard.plain(
                FaultKind::Input,
                entered,
                format!("was given a bundle that does not fit: {bad}"),
            ));
        }
        let context = self.store.data_mut();
        context.begin(Some(bundle.function as usize), bundle.keys, bundle.processing_time, bundle.seed);
        self.store.set_epoch_deadline(self.call_ticks);
        let entry =
            Entry { guard: &self.guard, run_frame: self.run_frame, resume_frame: self.resume_frame, plan, entered };
        let answer = entry.call(&mut self.store, self.frame.bytes(), bundle);
        // One that failed may be asked for.
        if answer.as_ref().is_ok_and(|effects| effects.errors.is_empty()) {
            self.frame.shrink_to(FRAME_BYTES_KEPT);
        }
        let context = self.store.data_mut();
        let calls = context.overlay.take();
        context.end(answer.is_err());
        match answer {
            Ok(mut effects) => {
                effects.state_calls = calls;
                Ok(effects)
            }
            Err(fault) => {
                self.poisoned = Some(fault.message.clone());
                Err(fault)
            }
        }
    }
}

/// One bundle on its way through the guest.
struct Entry<'a> {
    guard: &'a Guard,
    run_frame: Func,
    resume_frame: Func,
    plan: &'a BindingPlan,
    entered: Entered<'a>,
}

impl Entry<'_> {
    fn call(&self, store: &mut Store<Context>, frame: &[u8], bundle: &Bundle<'_>) -> Result<Effects, Fault> {
        let mut reader = EffectsReader::new(self.plan, bundle);
        let mut bytes = self.enter(self.run_frame, store, frame)?;
        let mut total = 0;
        loop {
            total += bytes.len();
            if total + store.data().overlay.bytes() > store.data().limits.output_bytes_max {
                return Err(self.guard.output_limit(store.data(), self.entered));
            }
            match reader.read(bytes).map_err(|lie| self.guard.lie(self.entered, &lie))? {
                Status::Done => break,
                Status::More => bytes = self.enter(self.resume_frame, store, &[])?,
            }
        }
        let mut effects = reader.finish().map_err(|lie| self.guard.lie(self.entered, &lie))?;
        if !effects.errors.is_empty() && store.data().limiter.refused.is_some() {
            self.explain_refusal(store.data(), &mut effects);
        }
        Ok(effects)
    }

    fn enter(&self, function: Func, store: &mut Store<Context>, frame: &[u8]) -> Result<Vec<u8>, Fault> {
        // SAFETY: `get_typed_func` has checked this very function against this very type when the instance was made.
        let function = unsafe { TypedFunc::<(&[u8],), (Vec<u8>,)>::new_unchecked(function) };
        // As a Vec: a list that is not lifted would be read after the guest has freed it.
        match function.call(&mut *store, (frame,)) {
            Ok((bytes,)) => Ok(bytes),
            Err(error) => Err(self.guard.fault(store.data_mut(), self.entered, error)),
        }
    }

    /// A row that ran out of memory says so in its own language; here it learns the limit and what to do.
    fn explain_refusal(&self, context: &Context, effects: &mut Effects) {
        let Some(note) = self.guard.refusal_note(context) else { return };
        for error in effects.errors.iter_mut().filter(|error| error.kind == "MemoryError") {
            error.message = if error.message.is_empty() { note.clone() } else { format!("{}: {note}", error.message) };
        }
    }
}
