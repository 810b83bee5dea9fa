//! Commands that reach a running job: `wasmill jobs`, `checkpoint`, `savepoint`, `stop`, `cancel` and `swap`.
//!
//! They speak HTTP as docs/control.md has it, by reqwest, which object_store has brought into the program already.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use reqwest::blocking::{Client, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasmill_runtime::control::{CompletedCheckpoint, JobState, JobStatus, Taken, UdfStatus};
use wasmill_web::discovery::{Announcement, DiscoveryError, Folders};
use wasmill_web::messages::{Nothing, Refusal, SavepointRequest, StopAnswer, StopRequest, SwapRequest};

use crate::args::StopArgs;
use crate::progress::count;
use crate::report::{Failure, plain};

/// How long a job of this machine may take to answer at all.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a job may take to say how it is; what else it is asked takes as long as it takes.
const STATUS_TIME_MAX: Duration = Duration::from_secs(5);

/// How long is waited for a job to end that has been told to.
const END_TIME_MAX: Duration = Duration::from_secs(10);
const END_POLL: Duration = Duration::from_millis(50);

pub(crate) fn jobs() -> Result<String, Failure> {
    let folders = Folders::from_environment();
    let mut rows = Vec::new();
    for job in folders.running().map_err(undiscovered)? {
        let job = Job::new(job, folders.clone())?;
        match job.status() {
            Ok(status) => rows.push(row(&job.found, Some(&status))),
            // What ended meanwhile is none of those that run.
            Err(_) if !job.is_there() => {}
            Err(_) => rows.push(row(&job.found, None)),
        }
    }
    if rows.is_empty() {
        return Ok("no job runs".to_owned());
    }
    let (read, written) = (format!("{:>14}", "READ"), format!("{:>14}", "WRITTEN"));
    let header = ["JOB", "PID", "STATE", "UP", &read, &written, "ERRORS", "RESTARTS", "CHECKPOINT", "FILE", "UDFS"];
    Ok(plain(&crate::table(&header, &rows)).into_owned())
}

fn row(found: &Announcement, status: Option<&JobStatus>) -> Vec<String> {
    let number = |number: u64| format!("{:>14}", count(number));
    let mut cells = vec![found.job.clone(), found.pid.to_string()];
    match status {
        // It runs, or is held by a debugger, and says nothing.
        None => cells.extend(["silent", "", "", "", "", "", ""].map(str::to_owned)),
        Some(status) => {
            let is_read = |name: &str| status.nodes.iter().any(|node| node.inputs.iter().any(|input| input == name));
            let sources = status.nodes.iter().filter(|node| node.inputs.is_empty());
            let sinks = status.nodes.iter().filter(|node| !is_read(&node.name));
            cells.extend([
                state(status.state).to_owned(),
                time(Duration::from_millis(status.uptime_millis)),
                number(sources.map(|node| node.rows_out).sum()),
                number(sinks.map(|node| node.rows_in).sum()),
                count(status.nodes.iter().map(|node| node.row_errors).sum()),
                status.restarts.to_string(),
                status.checkpoint.as_ref().map_or_else(|| "none".to_owned(), checkpoint_text),
            ]);
        }
    }
    cells.push(found.job_file.display().to_string());
    cells.push(status.map_or_else(String::new, |status| udfs(&status.udfs)));
    cells
}

/// `legs: legs.py, km: distance.wasm`
fn udfs(udfs: &[UdfStatus]) -> String {
    let udf = |UdfStatus { name, path }: &UdfStatus| {
        format!("{name}: {}", path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
    };
    udfs.iter().map(udf).collect::<Vec<_>>().join(", ")
}

fn state(state: JobState) -> &'static str {
    match state {
        JobState::Running => "running",
        JobState::Restarting => "restarting",
        JobState::Stopping => "stopping",
        JobState::Finished => "finished",
        JobState::Failed => "failed",
    }
}

/// `7, 12 s ago`
fn checkpoint_text(checkpoint: &CompletedCheckpoint) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let then = Duration::from_millis(u64::try_from(checkpoint.completed_at_millis).unwrap_or_default());
    format!("{}, {} ago", checkpoint.id, time(now.saturating_sub(then)))
}

/// The two largest units of a time, `3 h 20 min`.
fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds} s"),
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, ..) => format!("{days} d {hours} h"),
    }
}

pub(crate) fn checkpoint(name: &str) -> Result<(), Failure> {
    let job = find(name)?;
    let taken: Taken = job.ask("checkpoint", &Nothing {})?;
    told_taken(&job, "checkpoint", &taken)
}

pub(crate) fn savepoint(name: &str, to: Option<&str>) -> Result<(), Failure> {
    let job = find(name)?;
    let taken: Taken = job.ask("savepoint", &SavepointRequest { to: place(to)? })?;
    told_taken(&job, "savepoint", &taken)
}

pub(crate) fn stop(args: &StopArgs) -> Result<(), Failure> {
    let job = find(&args.job.name)?;
    let savepoint = if args.no_savepoint { None } else { Some(place(args.to.as_deref())?) };
    let answer: StopAnswer = job.ask("stop", &StopRequest { drain: args.drain, savepoint })?;
    answer.savepoint.as_ref().map_or(Ok(()), |taken| told_taken(&job, "savepoint", taken))?;
    job.told_end();
    Ok(())
}

pub(crate) fn cancel(name: &str) -> Result<(), Failure> {
    let job = find(name)?;
    let Nothing {} = job.ask("cancel", &Nothing {})?;
    job.told_end();
    Ok(())
}

pub(crate) fn swap(name: &str, udf: String, path: &Path) -> Result<(), Failure> {
    let job = find(name)?;
    let there = path.canonicalize().map_err(Failure::file("read", path))?;
    let there = there.into_os_string().into_string().map_err(|_| {
        Failure::Usage(format!("{} is no text in UTF-8, as which paths are sent: rename it", path.display()))
    })?;
    let taken: Taken = job.ask("swap", &SwapRequest { udf: udf.clone(), path: there.clone() })?;
    let (id, path, Taken { id: checkpoint, millis, .. }) = (job.found.id(), path.display(), taken);
    let told = format!(
        "{id}: udf \"{udf}\" is {path} since checkpoint {checkpoint}; no row was read for {millis} ms\n\
         wasmill run --resume takes the file that the job names: change it there, or add --set udfs.{udf}.path={there}"
    );
    eprintln!("{}", plain(&told));
    Ok(())
}

/// Where it is for programs, the rest for a person.
fn told_taken(job: &Job, what: &str, taken: &Taken) -> Result<(), Failure> {
    let Taken { id, location, bytes, millis } = taken;
    eprintln!("{}", plain(&format!("{}: {what} {id}, {} bytes in {millis} ms", job.found.id(), count(*bytes))));
    crate::print(&plain(location))
}

/// As the job will understand it, which may run in another folder; empty: its own.
fn place(to: Option<&str>) -> Result<String, Failure> {
    match to {
        None => Ok(String::new()),
        Some("") => Err(Failure::Usage("--to is empty: give a directory or URL, or leave it out".to_owned())),
        Some(url) if url.contains("://") => Ok(url.to_owned()),
        Some(path) => {
            let path = std::path::absolute(path).map_err(Failure::file("find", Path::new(path)))?;
            Ok(path.to_string_lossy().into_owned())
        }
    }
}

/// A job that runs, and how it is asked.
struct Job {
    found: Announcement,
    folders: Folders,
    client: Client,
}

/// The one job that is called `name`, alone or with its process number.
fn find(name: &str) -> Result<Job, Failure> {
    let folders = Folders::from_environment();
    let running = folders.running().map_err(undiscovered)?;
    let ids = |jobs: &[&Announcement]| jobs.iter().map(|job| job.id()).collect::<Vec<_>>().join(", ");
    let wanted: Vec<&Announcement> = running.iter().filter(|job| job.job == name || job.id() == name).collect();
    match wanted[..] {
        [job] => Job::new(job.clone(), folders),
        [] if running.is_empty() => {
            Err(Failure::Usage(format!("no job called \"{name}\" runs, and no other does that this user can reach")))
        }
        [] => {
            let there = ids(&running.iter().collect::<Vec<_>>());
            Err(Failure::Usage(format!("no job called \"{name}\" runs; there are {there}")))
        }
        _ => Err(Failure::Usage(format!("several jobs called \"{name}\" run: say which of {}", ids(&wanted)))),
    }
}

fn undiscovered(error: DiscoveryError) -> Failure {
    Failure::Control(Box::new(error))
}

impl Job {
    fn new(found: Announcement, folders: Folders) -> Result<Job, Failure> {
        // A proxy would not find this machine's loopback.
        let client = Client::builder().no_proxy().connect_timeout(CONNECT_TIME_MAX).timeout(None).build();
        let client = client.map_err(|error| Failure::because("cannot speak HTTP", error))?;
        Ok(Job { found, folders, client })
    }

    fn status(&self) -> Result<JobStatus, Failure> {
        let request = self.client.get(self.url("")).timeout(STATUS_TIME_MAX);
        self.answer(request.bearer_auth(self.found.token.secret()).send())
    }

    fn ask<T: DeserializeOwned>(&self, what: &str, body: &impl Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::because("cannot write JSON", error))?;
        let request = self.client.request(Method::POST, self.url(&format!("/{what}"))).body(body);
        self.answer(request.bearer_auth(self.found.token.secret()).send())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v1/job{path}", self.found.address)
    }

    fn answer<T: DeserializeOwned>(&self, sent: reqwest::Result<Response>) -> Result<T, Failure> {
        let Announcement { job, pid, address, .. } = &self.found;
        let answer = sent.map_err(|error| {
            if error.is_connect() {
                self.folders.forget(&self.found);
                return Failure::because(
                    format!("job \"{job}\" (process {pid}) has ended: nobody listens on {address}"),
                    Last::of(&error),
                );
            }
            self.lost(&error)
        })?;
        let is_good = answer.status().is_success();
        let body = answer.bytes().map_err(|error| self.lost(&error))?;
        let strange = |error| {
            let message =
                format!("job \"{job}\" (process {pid}) gave an answer that is none: is {address} still its own?");
            Failure::because(message, error)
        };
        if is_good {
            return serde_json::from_slice(&body).map_err(strange);
        }
        let refusal: Refusal = serde_json::from_slice(&body).map_err(strange)?;
        Err(Failure::Other { message: format!("job \"{job}\": {}", refusal.error.message), source: None })
    }

    /// No answer came to what had been sent.
    fn lost(&self, error: &reqwest::Error) -> Failure {
        let Announcement { job, pid, .. } = &self.found;
        let message = match self.is_there() {
            true => format!("job \"{job}\" (process {pid}) did not answer"),
            false => format!("job \"{job}\" (process {pid}) went away before it answered: its own output says why"),
        };
        Failure::because(message, Last::of(error))
    }

    fn is_there(&self) -> bool {
        let is_it = |job: &Announcement| job.pid == self.found.pid && job.address == self.found.address;
        self.folders.running().is_ok_and(|running| running.iter().any(is_it))
    }

    /// Waits a while for the end, and says whether it has come.
    fn told_end(&self) {
        let started = Instant::now();
        while self.is_there() && started.elapsed() < END_TIME_MAX {
            std::thread::sleep(END_POLL);
        }
        let id = self.found.id();
        match self.is_there() {
            true => eprintln!("{}", plain(&format!("{id} is stopping: rows on their way are being finished"))),
            false => eprintln!("{}", plain(&format!("{id} has ended"))),
        }
    }
}

/// The last cause of an error of reqwest, such as `connection refused`: those before it only say where that was.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Last(String);

impl Last {
    fn of(error: &reqwest::Error) -> Last {
        let mut last: &dyn Error = error;
        while let Some(cause) = last.source() {
            last = cause;
        }
        Last(last.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units() {
        for (seconds, text) in
            [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (12_000, "3 h 20 min"), (200_000, "2 d 7 h")]
        {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn places_are_absolute_urls_or_the_jobs_own() {
        assert_eq!(place(None).unwrap(), "");
        assert_eq!(place(Some("s3://b/x")).unwrap(), "s3://b/x");
        assert_eq!(place(Some("/a/b")).unwrap(), "/a/b");
        assert!(Path::new(&place(Some("b")).unwrap()).is_absolute());
        assert!(place(Some("")).is_err());
    }
}
