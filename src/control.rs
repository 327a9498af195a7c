//! The control socket of a running job: savepoints, stops and questions from other processes.
//!
//! # Place
//! A job with a checkpoint directory listens on the Unix socket `control` in it, on one thread;
//! `job savepoint`, `job stop` and `job status` are its clients. The owner's processes alone may
//! use it.
//!
//! # Protocol
//! A connection carries one request, a line of JSON, and one answer, a line of JSON that comes when
//! the request has been met: `{"command":"savepoint","dir":"/path"}`,
//! `{"command":"stop","savepoint":"/path"}` (without `savepoint` if none is wanted),
//! `{"command":"status"}`. The answer has `"ok": true`, or `"ok": false` with an `"error"`.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use thalweg_engine::checkpoint::local_directory;
use thalweg_engine::progress::{Progress, RunOutcome, RunReport};
use thalweg_engine::runtime::StopSignal;
use thalweg_engine::{Error, Result};

/// The longest path that every system takes for a socket, in bytes.
const MAX_PATH_BYTES: usize = 100;
/// The longest request, in bytes.
const MAX_REQUEST_BYTES: u64 = 64 << 10;
/// A client that says nothing for so long is hung up on.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a job listens: where it was told to, or else the socket `control` in its checkpoint
/// directory, if that is a local one. A path that is too long for a socket is replaced by one in
/// the system's place for temporary files, named after the directory.
pub(crate) fn socket_path(directory: Option<&Path>, told: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = told {
        return Some(path.to_owned());
    }
    let directory = local_directory(directory?)?;
    let path = directory.join("control");
    if path.as_os_str().as_bytes().len() <= MAX_PATH_BYTES {
        return Some(path);
    }
    // The job makes the directory if it is not there, so both sides see the same path.
    let absolute = std::path::absolute(&directory).unwrap_or(directory);
    let text = absolute.to_string_lossy();
    let hash = thalweg_engine::state::hash_key(&*text).unwrap_or_default();
    Some(std::env::temp_dir().join(format!("thalweg-{hash:016x}.control")))
}

/// What the job looks like, kept up to date by its observer.
pub(crate) type Shown = Arc<Mutex<Option<Progress>>>;

/// A socket that is listened on until the run has ended.
pub(crate) struct ControlSocket {
    path: PathBuf,
    is_over: Arc<AtomicBool>,
    ended: Sender<Value>,
    thread: Option<JoinHandle<()>>,
}

impl ControlSocket {
    /// Listens; none if another process does, whose job it is then.
    pub(crate) fn listen(
        path: PathBuf,
        job: &str,
        stop: &StopSignal,
        shown: &Shown,
    ) -> Result<Option<Self>> {
        let failed = |error: io::Error| {
            Error::unavailable(format!("cannot listen on {}", path.display())).with_source(error)
        };
        // What is wrong with the directory is told by the run.
        if path.parent().is_some_and(|directory| fs::create_dir_all(directory).is_err()) {
            return Ok(None);
        }
        let listener = match UnixListener::bind(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if UnixStream::connect(&path).is_ok() {
                    return Ok(None);
                }
                // The process that listened there was killed.
                fs::remove_file(&path).map_err(failed)?;
                UnixListener::bind(&path).map_err(failed)?
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
            bound => bound.map_err(failed)?,
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (ended, end) = channel();
        let server = Server {
            job: job.to_owned(),
            stop: stop.clone(),
            shown: shown.clone(),
            is_over: is_over.clone(),
            end,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "requests arrive outside of the job's threads"
        )]
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || server.serve(&listener))
            .map_err(failed)?;
        Ok(Some(ControlSocket { path, is_over, ended, thread: Some(thread) }))
    }

    /// Answers whoever waits for the end of the run, and stops to listen.
    pub(crate) fn finish(self, ended: &Result<RunReport>) {
        let answer = match ended {
            Err(error) => json!({ "ok": false, "error": error.to_string() }),
            Ok(report) => {
                let outcome = match report.outcome {
                    RunOutcome::Finished => "finished",
                    RunOutcome::Stopped => "stopped",
                    RunOutcome::AlreadyFinished => "already finished",
                };
                json!({ "ok": true, "outcome": outcome, "checkpoint": report.last_checkpoint })
            }
        };
        // Whoever waits, waits; the thread ends after that.
        let _ = self.ended.send(answer);
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // The connection wakes the thread.
        let _ = UnixStream::connect(&self.path);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

/// The other side of the socket.
struct Server {
    job: String,
    stop: StopSignal,
    shown: Shown,
    is_over: Arc<AtomicBool>,
    /// How the run ended.
    end: Receiver<Value>,
}

impl Server {
    fn serve(&self, listener: &UnixListener) {
        for connection in listener.incoming() {
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            // A client that has gone does not want its answer.
            let _ = connection.and_then(|connection| self.answer(connection));
        }
    }

    fn answer(&self, mut connection: UnixStream) -> io::Result<()> {
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        let mut line = String::new();
        BufReader::new((&connection).take(MAX_REQUEST_BYTES)).read_line(&mut line)?;
        let answer = match serde_json::from_str(&line) {
            Ok(request) => self.meet(&request).unwrap_or_else(|error| refusal(&error.to_string())),
            Err(error) => refusal(&format!("the request is no JSON: {error}")),
        };
        writeln!(connection, "{answer}")
    }

    fn meet(&self, request: &Value) -> Result<Value> {
        let path = |name: &str| request[name].as_str().map(PathBuf::from);
        match request["command"].as_str() {
            Some("savepoint") => {
                let dir = path("dir").ok_or_else(|| Error::config("`dir` is missing"))?;
                let path = self.stop.savepoint(&dir).wait()?;
                Ok(json!({ "ok": true, "savepoint": path }))
            }
            Some("stop") => {
                let Some(dir) = path("savepoint") else {
                    self.stop.stop();
                    return Ok(self.wait_for_end());
                };
                let path = self.stop.stop_with_savepoint(&dir).wait();
                let mut answer = self.wait_for_end();
                answer["savepoint"] = json!(path?);
                Ok(answer)
            }
            Some("status") => Ok(self.status()),
            _ => Err(Error::config("the commands are `savepoint`, `stop` and `status`")),
        }
    }

    fn wait_for_end(&self) -> Value {
        self.end.recv().unwrap_or_else(|_| refusal("the job has ended"))
    }

    fn status(&self) -> Value {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answer = json!({ "ok": true, "job": self.job, "pid": std::process::id() });
        if let Some(progress) = &*shown {
            answer["running_ms"] = json!(progress.elapsed.as_millis() as u64);
            answer["records_read"] = json!(progress.metrics.records_read());
            answer["checkpoints"] = json!(progress.checkpoints);
            answer["last_checkpoint"] = json!(progress.last_checkpoint.map(|(id, _)| id));
            answer["watermark_ms"] = json!(progress.metrics.watermark().map(|time| time.millis()));
            answer["is_stopping"] = json!(progress.is_stopping);
        }
        answer
    }
}

fn refusal(error: &str) -> Value {
    json!({ "ok": false, "error": error })
}

/// Asks the job that listens at a path, and waits for the answer; none if no job does.
pub(crate) fn ask(path: &Path, request: &Value) -> Result<Option<Value>> {
    let failed = |what: &str| {
        let message = format!("the job at {} {what}", path.display());
        move |error: io::Error| Error::unavailable(message).with_source(error)
    };
    let mut connection = match UnixStream::connect(path) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        connected => connected.map_err(failed("cannot be reached"))?,
    };
    writeln!(connection, "{request}").map_err(failed("does not listen"))?;
    let mut line = String::new();
    BufReader::new(connection).read_line(&mut line).map_err(failed("does not answer"))?;
    let answer: Value = serde_json::from_str(&line)
        .map_err(|_| Error::unavailable(format!("the job at {} has gone", path.display())))?;
    match answer["ok"].as_bool() {
        Some(true) => Ok(Some(answer)),
        _ => Err(Error::unavailable(answer["error"].as_str().unwrap_or("refused").to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(directory: &Path) -> PathBuf {
        socket_path(Some(directory), None).expect("is local")
    }

    fn listen(directory: &Path) -> ControlSocket {
        let (stop, shown) = (StopSignal::default(), Shown::default());
        let listening = ControlSocket::listen(socket(directory), "job", &stop, &shown);
        listening.expect("can listen").expect("nobody else does")
    }

    #[test]
    fn who_is_asked_answers_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = socket(directory.path());
        let status = json!({ "command": "status" });
        assert_eq!(ask(&path, &status).expect("can be asked"), None);
        let listening = listen(directory.path());
        let mode = fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let answer = ask(&path, &status).expect("answers").expect("is there");
        assert_eq!(answer["job"], "job");
        for (request, why) in [
            (json!({ "command": "dance" }), "the commands are"),
            (json!({ "command": "savepoint" }), "`dir` is missing"),
            (json!({ "command": "savepoint", "dir": "/x" }), "the job ended"),
            (json!("nonsense"), "the commands are"),
        ] {
            let error = ask(&path, &request).expect_err("is refused").to_string();
            assert!(error.contains(why), "{error}");
        }
        let (stop, shown) = (StopSignal::default(), Shown::default());
        let other = ControlSocket::listen(path.clone(), "job", &stop, &shown);
        assert!(other.expect("can be tried").is_none(), "two listen");
        drop(listening);
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0);
        assert_eq!(ask(&path, &status).expect("can be asked"), None);
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        drop(UnixListener::bind(socket(directory.path())).expect("can listen"));
        assert!(socket(directory.path()).exists());
        drop(listen(directory.path()));
    }

    #[test]
    fn a_long_path_has_a_short_socket_and_an_object_store_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let deep = directory.path().join("x".repeat(120)).join("y".repeat(120));
        let listening = listen(&deep);
        assert!(!listening.path.starts_with(&deep));
        let answer = ask(&socket(&deep), &json!({ "command": "status" })).expect("answers");
        assert!(answer.is_some());
        assert_eq!(socket_path(Some(Path::new("s3://bucket/job")), None), None);
        let told = Path::new("/run/job");
        assert_eq!(socket_path(None, Some(told)), Some(told.to_owned()));
    }
}
