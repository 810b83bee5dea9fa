//! A compiled UDF: what it offers, and how instances are made of it.

use std::sync::{Arc, OnceLock};

use wasmtime::Store;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, Func, Instance, InstancePre, Lift, Lower,
};

use crate::CONTRACT_VERSION;
use crate::context::{AnyHost, Context};
use crate::contract::{self, BUNDLE, CONTROL, FunctionRecord, LoadedRecord, Problem};
use crate::declare::{FunctionDeclaration, Kind, Setup, SourceFile};
use crate::engine::{Engine, Inner};
use crate::error::HostError;
use crate::guard::{During, Guard, cut};
use crate::instance::{LogLevel, UdfHost, UdfInstance};
use crate::limits::{Capabilities, Limits};
use crate::plan::BindingPlan;

/// What all instances of a component share.
pub(crate) struct Compiled {
    pre: InstancePre<Context>,
    imports: Vec<String>,
    exports: Exports,
}

struct Exports {
    load_source: ComponentExportIndex,
    describe: ComponentExportIndex,
    load_functions: ComponentExportIndex,
    run_frame: ComponentExportIndex,
    resume_frame: ComponentExportIndex,
}

impl Compiled {
    /// Checks that the component is a UDF of this contract and that it imports only what there is.
    pub(crate) fn new(engine: &Inner, udf: &str, component: &Component) -> Result<Self, HostError> {
        let exports = exports(&engine.wasmtime, udf, component)?;
        let imports = import_names(&engine.wasmtime, component);
        let foreign = imports.iter().find(|name| !name.starts_with("wasi:") && !name.starts_with(PACKAGE_OF_CONTRACT));
        let pre = engine.linker.instantiate_pre(component).map_err(|error| HostError::UnknownImport {
            udf: udf.to_string(),
            import: foreign.map_or_else(|| "an interface that is not provided".to_string(), |name| format!("{name:?}")),
            reason: format!("only wasi:cli 0.2 and wasmill:udf@{CONTRACT_VERSION} are there ({error:#})"),
        })?;
        let imports = imports.into_iter().filter(|name| !name.starts_with(PACKAGE_OF_CONTRACT)).collect();
        Ok(Self { pre, imports, exports })
    }
}

const PACKAGE_OF_CONTRACT: &str = contract::PACKAGE;

fn import_names(engine: &wasmtime::Engine, component: &Component) -> Vec<String> {
    let component_type = component.component_type();
    let mut names: Vec<String> = component_type.imports(engine).map(|(name, _)| name.to_string()).collect();
    names.sort();
    names
}

fn exports(engine: &wasmtime::Engine, udf: &str, component: &Component) -> Result<Exports, HostError> {
    let component_type = component.component_type();
    let names: Vec<String> = component_type
        .exports(engine)
        .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentInstance(_) | ComponentItem::ComponentFunc(_)))
        .map(|(name, _)| name.to_string())
        .collect();
    let missing = |missing: String| HostError::MissingExport {
        udf: udf.to_string(),
        missing,
        exports: if names.is_empty() { "nothing".to_string() } else { names.join(", ") },
    };
    let interface = |name: &str| {
        let full = format!("{name}@{CONTRACT_VERSION}");
        if names.contains(&full) {
            return component.get_export_index(None, full.as_str()).ok_or_else(|| missing(full));
        }
        // The exact version: wasmtime alone would take any later 0.1 for it.
        let other = names.iter().find_map(|export| export.strip_prefix(name)?.strip_prefix('@'));
        Err(match other {
            Some(got) => {
                HostError::ContractVersion { udf: udf.to_string(), got: got.to_string(), want: CONTRACT_VERSION }
            }
            None => missing(full),
        })
    };
    let (control, bundle) = (interface(CONTROL)?, interface(BUNDLE)?);
    let function = |interface: &ComponentExportIndex, name: &str| {
        component.get_export_index(Some(interface), name).ok_or_else(|| missing(format!("function {name}")))
    };
    Ok(Exports {
        load_source: function(&control, "load-source")?,
        describe: function(&control, "describe")?,
        load_functions: function(&control, "load-functions")?,
        run_frame: function(&bundle, "run-frame")?,
        resume_frame: function(&bundle, "resume-frame")?,
    })
}

/// A compiled UDF, from which instances are made. Cheap to clone.
#[derive(Clone)]
pub struct UdfModule {
    engine: Engine,
    name: Arc<str>,
    compiled: Arc<Compiled>,
    source: Arc<[SourceFile]>,
    declarations: Arc<OnceLock<Vec<FunctionDeclaration>>>,
}

impl std::fmt::Debug for UdfModule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UdfModule").field("name", &self.name).finish_non_exhaustive()
    }
}

impl UdfModule {
    pub(crate) fn new(engine: Engine, name: &str, compiled: Arc<Compiled>) -> Self {
        Self { engine, name: name.into(), compiled, source: Arc::new([]), declarations: Arc::default() }
    }

    /// As given to [`Engine::load`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Interfaces that the component imports besides the contract's, such as `wasi:clocks/wall-clock@0.2.6`, sorted. A guest is
    /// given less than it imports: see [`Capabilities`].
    pub fn imports(&self) -> Vec<String> {
        self.compiled.imports.clone()
    }

    /// Was it given files by [`with_source`](Self::with_source)? Then it is an interpreter.
    pub fn has_source(&self) -> bool {
        !self.source.is_empty()
    }

    /// Those files, the program first.
    pub fn source(&self) -> &[SourceFile] {
        &self.source
    }

    /// The same module with files for its interpreter, handed to `load-source` in each new instance before anything else.
    pub fn with_source(&self, files: Vec<SourceFile>) -> UdfModule {
        Self { source: files.into(), declarations: Arc::default(), ..self.clone() }
    }

    /// The same module under another name: one runner serves many UDFs, and messages name the UDF.
    pub fn with_name(&self, name: &str) -> UdfModule {
        Self { name: name.into(), ..self.clone() }
    }

    /// What it offers. Asked once, in a throw-away instance without capabilities; what that logs is dropped.
    ///
    /// # Errors
    /// [`HostError`]: `Problem` (say, a syntax error), `Fault`, `Declaration`, `InstancesExhausted`.
    pub fn describe(&self, limits: &Limits) -> Result<Vec<FunctionDeclaration>, HostError> {
        self.declarations(limits).map(<[_]>::to_vec)
    }

    fn declarations(&self, limits: &Limits) -> Result<&[FunctionDeclaration], HostError> {
        if let Some(declarations) = self.declarations.get() {
            return Ok(declarations);
        }
        let mut opened = self.open(limits, Capabilities::default(), Box::new(Nobody))?;
        type Answer = (Result<Vec<FunctionRecord>, Problem>,);
        let (answer,) = opened.call::<(), Answer>(&self.compiled.exports.describe, (), During::Describe)?;
        let records = answer.map_err(|problem| self.problem(During::Describe, problem))?;
        let declarations = contract::declarations(records).map_err(|problem| self.lie(During::Describe, problem))?;
        Ok(self.declarations.get_or_init(|| declarations))
    }

    /// Makes an instance and opens its functions.
    ///
    /// # Errors
    /// As [`describe`](Self::describe), and `UnknownFunction`, `Column`, `Setting`.
    pub fn instantiate<H: UdfHost>(
        &self,
        setup: Setup,
        limits: Limits,
        capabilities: Capabilities,
        host: H,
    ) -> Result<UdfInstance<H>, HostError> {
        let kinds = self.kinds(&setup, &limits)?;
        let names = || setup.bindings.iter().map(|binding| binding.function.clone()).collect::<Vec<_>>();
        let record = contract::setup_record(&self.name, &setup)?;
        let mut opened = self.open(&limits, capabilities, Box::new(host))?;
        opened.seed = seed_of(&setup);
        type Answer = (Result<Vec<LoadedRecord>, Problem>,);
        let (answer,) = opened
            .call::<_, Answer>(&self.compiled.exports.load_functions, (record,), During::LoadFunctions)
            .map_err(|mut error| {
                if let HostError::Fault { fault, .. } = &mut error {
                    fault.function = names().join(", ");
                }
                error
            })?;
        let records = answer.map_err(|problem| {
            let mut error = self.problem(During::LoadFunctions, problem);
            if let HostError::Problem { functions, .. } = &mut error {
                *functions = names();
            }
            error
        })?;
        let loaded = contract::loaded(records, &setup.bindings, &kinds)
            .map_err(|problem| self.lie(During::LoadFunctions, problem))?;
        let mut plans = Vec::with_capacity(loaded.len());
        for ((binding, kind), loaded) in setup.bindings.iter().zip(&kinds).zip(&loaded) {
            plans.push(BindingPlan::new(binding, *kind, loaded).map_err(|bad| HostError::Column {
                udf: self.name.to_string(),
                function: binding.function.clone(),
                column: bad.column,
                problem: Box::new(bad.source),
            })?);
        }
        let exports = &self.compiled.exports;
        let run = opened.function::<(&[u8],), (Vec<u8>,)>(&exports.run_frame)?;
        let resume = opened.function::<(&[u8],), (Vec<u8>,)>(&exports.resume_frame)?;
        Ok(UdfInstance::new(opened.store, opened.guard, run, resume, loaded, plans.into()))
    }

    fn kinds(&self, setup: &Setup, limits: &Limits) -> Result<Vec<Kind>, HostError> {
        let declarations = self.declarations(limits)?;
        let kind = |function: &String| {
            let declared = declarations.iter().find(|declared| declared.name == *function);
            declared.map(|declared| declared.kind).ok_or_else(|| {
                let has: Vec<_> = declarations.iter().map(|declared| declared.name.as_str()).collect();
                HostError::UnknownFunction {
                    udf: self.name.to_string(),
                    function: function.clone(),
                    has: if has.is_empty() { "none".to_string() } else { cut(has.join(", ")) },
                }
            })
        };
        setup.bindings.iter().map(|binding| kind(&binding.function)).collect()
    }

    /// Makes an instance up to where its functions are described or loaded.
    fn open(&self, limits: &Limits, capabilities: Capabilities, host: Box<dyn AnyHost>) -> Result<Opened, HostError> {
        check_limits(limits)?;
        let guard = Guard::new(&self.engine, self.name.clone());
        let context = Context::new(host, limits.clone(), capabilities);
        let mut store = Store::new(&self.engine.inner.wasmtime, context);
        store.limiter(|context| &mut context.limiter);
        store.set_hostcall_fuel(limits.memory_bytes_max.saturating_add(1 << 20));
        guard.begin(&mut store, During::Instantiate, 0);
        let made = self.compiled.pre.instantiate(&mut store);
        let instance = guard.end(&mut store, During::Instantiate, made)?;
        let mut opened = Opened { store, instance, guard, seed: 0 };
        if !self.source.is_empty() {
            let files = contract::source_records(&self.source);
            type Answer = (Result<(), Problem>,);
            let (answer,) =
                opened.call::<_, Answer>(&self.compiled.exports.load_source, (files,), During::LoadSource)?;
            answer.map_err(|problem| self.problem(During::LoadSource, problem))?;
        }
        Ok(opened)
    }

    fn problem(&self, during: During, problem: Problem) -> HostError {
        HostError::Problem {
            udf: self.name.to_string(),
            functions: Vec::new(),
            during: during.as_str(),
            message: cut(problem.message),
            traceback: cut(problem.traceback),
        }
    }

    fn lie(&self, during: During, problem: String) -> HostError {
        HostError::Declaration { udf: self.name.to_string(), during: during.as_str(), problem: cut(problem) }
    }
}

/// An instance on its way to run bundles.
struct Opened {
    store: Store<Context>,
    instance: Instance,
    guard: Guard,
    seed: u64,
}

impl Opened {
    fn call<P, R>(&mut self, export: &ComponentExportIndex, parameters: P, during: During) -> Result<R, HostError>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift + 'static,
    {
        self.guard.begin(&mut self.store, during, self.seed);
        let function = self.instance.get_typed_func::<P, R>(&mut self.store, export);
        let answer = function.and_then(|function| function.call(&mut self.store, parameters));
        self.guard.end(&mut self.store, during, answer)
    }

    /// Looks up a function and checks its type.
    fn function<P, R>(&mut self, export: &ComponentExportIndex) -> Result<Func, HostError>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let function = self.instance.get_typed_func::<P, R>(&mut self.store, export).map(|function| *function.func());
        self.guard.end(&mut self.store, During::LoadFunctions, function)
    }
}

fn check_limits(limits: &Limits) -> Result<(), HostError> {
    let refuse =
        |setting, got: String, advice: &str| Err(HostError::Setting { setting, got, advice: advice.to_string() });
    if limits.memory_bytes_max > 4 << 30 {
        return refuse(
            "memory_bytes_max",
            limits.memory_bytes_max.to_string(),
            "choose at most 4 GiB: that is what a guest can address",
        );
    }
    if limits.table_elements_max > 200_000 {
        return refuse("table_elements_max", limits.table_elements_max.to_string(), "choose at most 200000");
    }
    Ok(())
}

/// Randomness while functions are opened: the same for the same place in the same job (FNV-1a, 64 bits).
fn seed_of(setup: &Setup) -> u64 {
    let subtask = setup.subtask.to_le_bytes();
    let bytes = setup.job.bytes().chain([0]).chain(setup.operator.bytes()).chain([0]).chain(subtask);
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// The host of a throw-away instance.
struct Nobody;

impl UdfHost for Nobody {
    fn log(&mut self, _level: LogLevel, _message: &str) {}

    fn state_get(&mut self, _state: u32, _key: u32, _value: &mut Vec<u8>) -> Result<bool, String> {
        Ok(false)
    }
}
