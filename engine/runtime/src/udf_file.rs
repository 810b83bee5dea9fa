//! Loads the files that `udfs:` names: components as they are, `.py` files into the cached Python runner.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use wasmill_host::{Capabilities, Engine, Limits, Resource, UdfModule};
use xxhash_rust::xxh3::xxh3_128;

use crate::error::{Problem, ProblemKind};
use crate::graph::Udf;
use crate::python_files;
use crate::spec::{ON_ERROR, UdfSpec};
use crate::value::{Location, Name, OptionError, Options, ValueKind};

/// What the machine has to offer to every job: set up once in a process.
#[derive(Clone)]
pub struct Environment {
    pub engine: Engine,
    /// The component that runs `.py` files; without it such a UDF is a [`Problem`].
    pub python_runner: Option<PathBuf>,
    /// Where the packages that a `requirements.txt` asks for are kept between runs; without it they are fetched each time.
    pub packages_dir: Option<PathBuf>,
}

/// Interpreters need more than the 64 MiB of a compiled UDF.
const INTERPRETER_MEMORY_BYTES_MAX: usize = 256 << 20;

pub(crate) struct Loader<'a> {
    environment: &'a Environment,
    base: &'a Path,
    /// Every `.py` file shares one compiled runner.
    runner: Option<UdfModule>,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(environment: &'a Environment, base: &'a Path) -> Loader<'a> {
        Loader { environment, base, runner: None }
    }

    pub(crate) fn load(&mut self, spec: &UdfSpec) -> Result<Udf, Vec<Problem>> {
        let mut settings = Settings::read(spec)?;
        let path = self.base.join(&settings.path);
        let at = settings.path_at;
        let fail = |kind| vec![Problem::new(at, kind)];
        let name = &spec.name.text;
        let (module, hash) = match path.extension().and_then(|extension| extension.to_str()) {
            Some("py") => self.python(name, &path, &settings).map_err(fail)?,
            Some("wasm") => {
                if let Some(package) = settings.packages.first() {
                    let message = "packages: goes with a .py file; a component brings its own: build it with `wasmill udf build FILE.py --include PATH`";
                    let kind = ProblemKind::Udf { udf: name.clone(), message: message.into() };
                    return Err(vec![Problem::new(package.at, kind)]);
                }
                let bytes = read(name, &path).map_err(fail)?;
                let module = self.environment.engine.load(name, &bytes);
                (module.map_err(|error| fail(ProblemKind::Host { error }))?, xxh3_128(&bytes))
            }
            _ => {
                let message =
                    format!("{} is neither .wasm nor .py: build it first with `wasmill udf build`", path.display());
                return Err(fail(ProblemKind::Udf { udf: name.clone(), message }));
            }
        };
        if settings.limits.memory_bytes_max == 0 {
            settings.limits.memory_bytes_max =
                if module.has_source() { INTERPRETER_MEMORY_BYTES_MAX } else { Limits::default().memory_bytes_max };
        }
        let functions = module.describe(&settings.limits).map_err(|error| fail(ProblemKind::Host { error }))?;
        Ok(Udf {
            name: name.clone(),
            path,
            hash,
            module,
            functions: functions.into(),
            limits: settings.limits,
            capabilities: settings.capabilities,
            resources: self.resources(name, &settings.resources)?,
            parameters: settings.parameters,
            on_error: settings.on_error,
        })
    }

    fn python(&mut self, udf: &str, path: &Path, settings: &Settings) -> Result<(UdfModule, u128), ProblemKind> {
        let packages: Vec<PathBuf> = settings.packages.iter().map(|package| self.base.join(&package.text)).collect();
        let files = python_files::collect(path, &packages, self.environment.packages_dir.as_deref())
            .map_err(|error| ProblemKind::PythonFiles { udf: udf.to_owned(), error })?;
        let runner = match &self.runner {
            Some(runner) => runner.clone(),
            None => {
                let Some(runner) = &self.environment.python_runner else {
                    let message = format!(
                        "{} needs the Python runner (python-runner.wasm), and there is none: build it with `make python-runner`, or name it in WASMILL_PYTHON_RUNNER",
                        path.display()
                    );
                    return Err(ProblemKind::Udf { udf: udf.to_owned(), message });
                };
                let module = self.environment.engine.load_interpreter("python", runner);
                let module = module.map_err(|error| ProblemKind::Host { error })?;
                self.runner.insert(module).clone()
            }
        };
        // The program is the first of them.
        let hash = files.first().map_or(0, |program| xxh3_128(&program.content));
        Ok((runner.with_name(udf).with_source(files), hash))
    }

    fn resources(&self, udf: &str, names: &[Name]) -> Result<Vec<Resource>, Vec<Problem>> {
        let mut resources: BTreeMap<String, Resource> = BTreeMap::new();
        let mut problems = Vec::new();
        for name in names {
            let path = self.base.join(&name.text);
            let short = file_name(&path);
            match read(udf, &path) {
                Err(kind) => problems.push(Problem::new(name.at, kind)),
                Ok(_) if resources.contains_key(&short) => {
                    let message = format!("two resources are called \"{short}\": a UDF sees them by file name");
                    problems.push(Problem::new(name.at, ProblemKind::Udf { udf: udf.to_owned(), message }));
                }
                Ok(content) => {
                    resources.insert(short.clone(), Resource { name: short, content: content.into() });
                }
            }
        }
        if problems.is_empty() { Ok(resources.into_values().collect()) } else { Err(problems) }
    }
}

fn read(udf: &str, path: &Path) -> Result<Vec<u8>, ProblemKind> {
    std::fs::read(path).map_err(|error| ProblemKind::UdfFile { udf: udf.to_owned(), path: path.to_owned(), error })
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// A UDF's own keys.
struct Settings {
    path: String,
    path_at: Location,
    resources: Vec<Name>,
    packages: Vec<Name>,
    limits: Limits,
    capabilities: Capabilities,
    parameters: Vec<(String, String)>,
    on_error: crate::spec::OnError,
}

impl Settings {
    /// `memory_bytes_max` stays 0 where the job does not say: its default depends on what the file turns out to be.
    fn read(spec: &UdfSpec) -> Result<Settings, Vec<Problem>> {
        let mut options = spec.options.clone();
        let mut errors = Vec::new();
        let mut settings = Settings {
            path: String::new(),
            path_at: if options.at("path").is_known() { options.at("path") } else { spec.name.at },
            resources: Vec::new(),
            packages: Vec::new(),
            limits: Limits { memory_bytes_max: 0, ..Limits::default() },
            capabilities: Capabilities::default(),
            parameters: Vec::new(),
            on_error: crate::spec::OnError::Fail,
        };
        let mut keep = |result: Result<(), OptionError>| errors.extend(result.err());
        keep(options.required_string("path").map(|path| settings.path = path));
        keep(options.strings("resources").map(|names| settings.resources = names.unwrap_or_default()));
        keep(options.strings("packages").map(|names| settings.packages = names.unwrap_or_default()));
        keep(options.choice("on-error", &ON_ERROR).map(|choice| settings.on_error = choice.unwrap_or_default()));
        keep(memory(&mut options).map(|bytes| settings.limits.memory_bytes_max = bytes));
        keep(time(&mut options, "timeout").map(|time| {
            settings.limits.call_time_max = time.unwrap_or(settings.limits.call_time_max);
        }));
        keep(time(&mut options, "load.timeout").map(|time| {
            settings.limits.load_time_max = time.unwrap_or(settings.limits.load_time_max);
        }));
        keep(options.bytes("output.max").map(|bytes| {
            if let Some(bytes) = bytes.and_then(|bytes| usize::try_from(bytes).ok()) {
                settings.limits.output_bytes_max = bytes;
            }
        }));
        keep(grants(&mut options).map(|capabilities| settings.capabilities = capabilities));
        keep(parameters(&mut options).map(|parameters| settings.parameters = parameters));
        errors.extend(options.finish());
        if errors.is_empty() {
            return Ok(settings);
        }
        let udf = &spec.name;
        let problem = |error: OptionError| {
            let at = if error.at.is_known() { error.at } else { udf.at };
            Problem::new(at, ProblemKind::UdfOption { udf: udf.text.clone(), error })
        };
        Err(errors.into_iter().map(problem).collect())
    }
}

/// A limit of 0 would let nothing run, and whoever writes it means none.
fn time(options: &mut Options, key: &str) -> Result<Option<Duration>, OptionError> {
    let at = options.at(key);
    match options.duration(key)? {
        Some(Duration::ZERO) => {
            let message = "is 0; 1ms or more is possible, and there is no way to have no limit".to_owned();
            Err(OptionError { at, key: key.to_owned(), message })
        }
        time => Ok(time),
    }
}

/// 4 GiB is all that a 32-bit guest can address.
fn memory(options: &mut Options) -> Result<usize, OptionError> {
    const RANGE: std::ops::RangeInclusive<u64> = 1 << 20..=4 << 30;
    let at = options.at("memory.max");
    let Some(bytes) = options.bytes("memory.max")? else { return Ok(0) };
    match usize::try_from(bytes) {
        Ok(size) if RANGE.contains(&bytes) => Ok(size),
        _ => {
            let message = format!("is {bytes} bytes; 1MiB to 4GiB is possible");
            Err(OptionError { at, key: "memory.max".into(), message })
        }
    }
}

fn grants(options: &mut Options) -> Result<Capabilities, OptionError> {
    let mut capabilities = Capabilities::default();
    for grant in options.strings("grants")?.unwrap_or_default() {
        match grant.text.as_str() {
            "clock" => capabilities.real_clock = true,
            "random" => capabilities.real_random = true,
            other => {
                let message = format!("\"{other}\" cannot be granted; there are clock, random");
                return Err(OptionError { at: grant.at, key: "grants".into(), message });
            }
        }
    }
    Ok(capabilities)
}

fn parameters(options: &mut Options) -> Result<Vec<(String, String)>, OptionError> {
    let Some(parameters) = options.options("parameters")? else { return Ok(Vec::new()) };
    parameters
        .into_entries()
        .map(|(name, value)| match (value.scalar_text(), &value.kind) {
            (Some(text), _) => Ok((name.text, text)),
            (None, ValueKind::Null) => Ok((name.text, String::new())),
            _ => {
                let message = format!("is {}; a text or number is wanted", value.describe());
                Err(OptionError { at: value.at, key: format!("parameters.{name}"), message })
            }
        })
        .collect()
}
