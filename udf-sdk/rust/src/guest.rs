//! The exports of a component, by hand: the canonical ABI of `control` and `bundle`. Nothing here runs in a native build.
//!
//! Written by hand rather than generated, for two reasons: the answer of `run-frame` stays in a buffer that the next bundle uses again,
//! and so does the memory that the host copies a bundle into.

use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use crate::data_type::{DataType, Field};
use crate::function::{Access, Binding, Description, Loaded, Problem, StateDeclaration};
use crate::instance::{Entry, Instance, Setup};

/// The world as a custom section, which the linker makes the component's type of.
pub const COMPONENT_TYPE: &[u8] = include_bytes!("../wit/component-type.bin");

/// The section as an array, as a `static` in a section must be.
pub const fn component_type<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        bytes[at] = COMPONENT_TYPE[at];
        at += 1;
    }
    bytes
}

/// The memory of bundles is cut to multiples of this, so that bundles of about one size fit the same piece.
const INPUT_BYTES_STEP: usize = 64 << 10;

/// Is guest code running? Then memory that the host asks for is not for a bundle.
static INSIDE: AtomicBool = AtomicBool::new(false);
/// Are functions loaded? Then all that the host brings from outside is bundles.
static LOADED: AtomicBool = AtomicBool::new(false);

/// What a component holds between calls.
struct Guest {
    instance: Option<Instance>,
    /// The bundle that was run last.
    frame: (*const u8, usize),
    /// What an export's answer points to.
    answer: [usize; 5],
}

/// What the host copies a bundle into, once functions are loaded.
struct Input {
    memory: *mut u8,
    capacity: usize,
}

struct Global<T>(UnsafeCell<T>);

// SAFETY: a component has one thread.
unsafe impl<T> Sync for Global<T> {}

static GUEST: Global<Guest> =
    Global(UnsafeCell::new(Guest { instance: None, frame: (std::ptr::null(), 0), answer: [0; 5] }));
static INPUT: Global<Input> = Global(UnsafeCell::new(Input { memory: std::ptr::null_mut(), capacity: 0 }));

/// # Safety
/// No other reference to it is alive: each export takes it once, and no export is called while another runs.
unsafe fn guest() -> &'static mut Guest {
    // SAFETY: the caller's promise.
    unsafe { &mut *GUEST.0.get() }
}

/// `cabi_realloc`: memory for what the host gives to the guest.
///
/// # Safety
/// As `realloc` of the canonical ABI.
pub unsafe fn realloc(old: *mut u8, old_size: usize, align: usize, size: usize) -> *mut u8 {
    if size == 0 {
        return align as *mut u8;
    }
    let for_bundle = old.is_null() && align == 1 && LOADED.load(Relaxed) && !INSIDE.load(Relaxed);
    // SAFETY: sizes and alignments come from the canonical ABI: the alignment is a power of two, and `old` came from here.
    // The memory of bundles is touched here only.
    unsafe {
        let memory = if for_bundle {
            (*INPUT.0.get()).reserve(size)
        } else if old.is_null() || old_size == 0 {
            std::alloc::alloc(layout(size, align))
        } else {
            std::alloc::realloc(old, layout(old_size, align), size)
        };
        if memory.is_null() {
            std::alloc::handle_alloc_error(layout(size, align));
        }
        memory
    }
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("sizes of the canonical ABI are below 2^31")
}

impl Input {
    /// Memory for a bundle of `size` bytes; null = there is none.
    unsafe fn reserve(&mut self, size: usize) -> *mut u8 {
        if self.capacity < size {
            let capacity = size.next_multiple_of(INPUT_BYTES_STEP);
            // SAFETY: the old memory has the layout that is written here; what was in it is not needed any more.
            unsafe {
                if !self.memory.is_null() {
                    std::alloc::dealloc(self.memory, layout(self.capacity, 64));
                }
                self.memory = std::alloc::alloc(layout(capacity, 64));
            }
            self.capacity = if self.memory.is_null() { 0 } else { capacity };
        }
        self.memory
    }
}

/// A list that the host allocated by `realloc`.
///
/// # Safety
/// The list has `length` elements, and is nobody else's.
pub unsafe fn owned<T>(elements: *mut T, length: usize) -> Vec<T> {
    if length == 0 {
        return Vec::new();
    }
    // SAFETY: the canonical ABI allocates a list with the size and alignment of its elements, as `Vec` does.
    unsafe { Vec::from_raw_parts(elements, length, length) }
}

/// A list or text in memory.
#[repr(C)]
#[derive(Clone, Copy)]
struct Raw<T> {
    elements: *mut T,
    length: usize,
}

impl<T> Raw<T> {
    /// Gives a list to the host. Only `describe` and `load-functions` do, once each: what they leak is small.
    fn give(list: Vec<T>) -> Self {
        let list = list.leak();
        Self { elements: list.as_mut_ptr(), length: list.len() }
    }

    unsafe fn take(self) -> Vec<T> {
        // SAFETY: the caller's promise.
        unsafe { owned(self.elements, self.length) }
    }
}

impl Raw<u8> {
    fn text(text: impl Into<String>) -> Self {
        Self::give(text.into().into_bytes())
    }

    unsafe fn take_text(self) -> String {
        // SAFETY: the canonical ABI gives UTF-8.
        unsafe { String::from_utf8_unchecked(self.take()) }
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct RawPair {
    first: Raw<u8>,
    second: Raw<u8>,
}

#[repr(C)]
struct RawOption {
    some: u8,
    text: Raw<u8>,
}

#[repr(C)]
struct RawAccess {
    name: Raw<u8>,
    access: u8,
}

#[repr(C)]
struct RawBinding {
    function: Raw<u8>,
    arguments: Raw<RawPair>,
    key: Raw<RawPair>,
    result: RawOption,
    access: Raw<RawAccess>,
    parameters: Raw<RawPair>,
}

#[repr(C)]
struct RawState {
    name: Raw<u8>,
    data_type: Raw<u8>,
    access: u8,
}

#[repr(C)]
struct RawFunction {
    name: Raw<u8>,
    kind: u8,
    arguments: Raw<RawPair>,
    result: RawOption,
    states: Raw<RawState>,
    deterministic: u8,
    documentation: Raw<u8>,
}

#[repr(C)]
struct RawLoaded {
    result: Raw<u8>,
    states: Raw<RawState>,
}

unsafe fn take_fields(raw: Raw<RawPair>) -> Result<Vec<Field>, Problem> {
    // SAFETY: the caller's promise.
    let pairs = unsafe { take_pairs(raw) };
    pairs.into_iter().map(|(name, text)| Ok(Field { name, data_type: parse(&text)? })).collect()
}

unsafe fn take_pairs(raw: Raw<RawPair>) -> Vec<(String, String)> {
    // SAFETY: the caller's promise.
    unsafe { raw.take().into_iter().map(|pair| (pair.first.take_text(), pair.second.take_text())).collect() }
}

fn parse(text: &str) -> Result<DataType, Problem> {
    DataType::parse(text).map_err(|error| Problem::new(error.to_string()))
}

unsafe fn take_binding(raw: RawBinding) -> Result<Binding, Problem> {
    // SAFETY: the caller's promise.
    unsafe {
        let access =
            |raw: RawAccess| (raw.name.take_text(), if raw.access == 0 { Access::Column } else { Access::Call });
        Ok(Binding {
            function: raw.function.take_text(),
            arguments: take_fields(raw.arguments)?,
            key: take_fields(raw.key)?,
            result: if raw.result.some == 0 { None } else { Some(parse(&raw.result.text.take_text())?) },
            access: raw.access.take().into_iter().map(access).collect(),
            parameters: take_pairs(raw.parameters),
        })
    }
}

fn give_fields(fields: Vec<Field>) -> Raw<RawPair> {
    let pair = |field: Field| RawPair { first: Raw::text(field.name), second: Raw::text(field.data_type.to_string()) };
    Raw::give(fields.into_iter().map(pair).collect())
}

fn give_states(states: Vec<StateDeclaration>) -> Raw<RawState> {
    let state = |state: StateDeclaration| RawState {
        name: Raw::text(state.name),
        data_type: Raw::text(state.data_type.to_string()),
        access: state.access as u8,
    };
    Raw::give(states.into_iter().map(state).collect())
}

fn give_function(description: Description) -> RawFunction {
    RawFunction {
        name: Raw::text(description.name),
        kind: description.kind as u8,
        arguments: give_fields(description.arguments),
        result: RawOption { some: 1, text: Raw::text(description.result.to_string()) },
        states: give_states(description.states),
        deterministic: u8::from(description.deterministic),
        documentation: Raw::text(description.documentation),
    }
}

fn give_loaded(loaded: &Loaded) -> RawLoaded {
    RawLoaded { result: Raw::text(loaded.result.to_string()), states: give_states(loaded.states.clone()) }
}

/// An answer of type `result<list<T>, problem>`.
fn answer<T>(guest: &mut Guest, answer: Result<Vec<T>, Problem>) -> *const u8 {
    guest.answer = match answer {
        Ok(list) => {
            let list = Raw::give(list);
            [0, list.elements as usize, list.length, 0, 0]
        }
        Err(problem) => {
            let message = Raw::text(problem.message);
            [1, message.elements as usize, message.length, 1, 0]
        }
    };
    INSIDE.store(false, Relaxed);
    guest.answer.as_ptr().cast()
}

/// Enters the guest for something that happens rarely.
unsafe fn enter() -> &'static mut Guest {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(|at| format!("{}:{}:{}", at.file(), at.line(), at.column()));
        crate::host::panicked(
            panic.payload_as_str().unwrap_or("a panic without a text"),
            &location.unwrap_or_default(),
        );
    }));
    INSIDE.store(true, Relaxed);
    // SAFETY: the caller's promise.
    unsafe { guest() }
}

/// Export `describe`.
pub fn describe(entries: &[Entry]) -> *const u8 {
    // SAFETY: an export takes it once.
    let guest = unsafe { enter() };
    let functions = crate::instance::descriptions(entries);
    answer(guest, functions.map(|functions| functions.into_iter().map(give_function).collect()))
}

/// Export `load-source`.
pub fn load_source(_files: *mut u8, _count: usize) -> *const u8 {
    // SAFETY: an export takes it once.
    let guest = unsafe { enter() };
    let message = "this UDF is a compiled component and takes no source: load it without source files, or use the runner of the source's language";
    answer::<u8>(guest, Err(Problem::new(message)))
}

/// Export `load-functions`.
///
/// # Safety
/// The addresses and lengths are those of the canonical ABI.
pub unsafe fn load_functions(
    entries: &[Entry],
    job: (*mut u8, usize),
    operator: (*mut u8, usize),
    (subtask, parallelism): (u32, u32),
    bindings: (*mut u8, usize),
    resources: (*mut u8, usize),
) -> *const u8 {
    // SAFETY: an export takes it once; the lists are as the caller promises.
    unsafe {
        let guest = enter();
        let text = |(elements, length)| Raw { elements, length }.take_text();
        let resource = |pair: RawPair| (pair.first.take_text(), pair.second.take());
        let bindings = owned(bindings.0.cast::<RawBinding>(), bindings.1).into_iter().map(|raw| take_binding(raw));
        let setup = bindings.collect::<Result<Vec<_>, _>>().map(|bindings| Setup {
            job: text(job),
            operator: text(operator),
            subtask,
            parallelism,
            bindings,
            resources: owned(resources.0.cast::<RawPair>(), resources.1).into_iter().map(resource).collect(),
        });
        let instance = setup.and_then(|setup| Instance::load(entries, &setup));
        match instance {
            Ok(instance) => {
                let loaded = instance.loaded().map(give_loaded).collect();
                guest.instance = Some(instance);
                LOADED.store(true, Relaxed);
                answer(guest, Ok(loaded))
            }
            Err(problem) => answer::<RawLoaded>(guest, Err(problem)),
        }
    }
}

/// Export `run-frame`.
///
/// # Safety
/// The address and length are those of the canonical ABI.
pub unsafe fn run_frame(bundle: *mut u8, length: usize) -> *const u8 {
    // SAFETY: an export takes it once.
    let guest = unsafe { guest() };
    guest.frame = (bundle, length);
    effects(guest, |instance, frame| instance.run(frame))
}

/// Export `resume-frame`.
///
/// # Safety
/// The address and length are those of the canonical ABI.
pub unsafe fn resume_frame(_replies: *mut u8, length: usize) -> *const u8 {
    // SAFETY: an export takes it once.
    let guest = unsafe { guest() };
    // Replies would lie where the bundle lies: nothing in this version asks for any.
    assert!(length == 0, "{length} bytes of replies, but the UDF asked for nothing");
    effects(guest, |instance, frame| instance.resume(frame, &[]))
}

#[inline(always)]
fn effects(
    guest: &mut Guest,
    step: impl for<'i> FnOnce(&'i mut Instance, &[u8]) -> Result<&'i [u8], crate::frame::FrameError>,
) -> *const u8 {
    let instance = guest.instance.as_mut().expect("the host calls load-functions before run-frame");
    // SAFETY: the bundle lies where the host was told to put it, and stays until the next.
    let frame = unsafe { std::slice::from_raw_parts(guest.frame.0, guest.frame.1) };
    INSIDE.store(true, Relaxed);
    let bytes = step(instance, frame).unwrap_or_else(|error| panic!("{error}"));
    (guest.answer[0], guest.answer[1]) = (bytes.as_ptr() as usize, bytes.len());
    INSIDE.store(false, Relaxed);
    guest.answer.as_ptr().cast()
}
