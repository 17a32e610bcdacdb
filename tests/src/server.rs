//! The real binary as a child process: started on free ports, watched, stopped.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::http::Http;
use crate::wait::DEADLINE;

/// The password that tests give `root`.
pub const ROOT_PASSWORD: &str = "a root password for tests";

/// How to start a server beyond its data directory.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// More command-line arguments of `kalamdb serve`.
    pub args: Vec<String>,
    /// More environment variables.
    pub env: Vec<(String, String)>,
    /// Where HTTP listens instead of a free port of 127.0.0.1.
    pub http_listen: Option<String>,
    /// Leave `KALAMDB_ROOT_PASSWORD` out, so that the server makes a password of its own.
    pub own_root_password: bool,
}

/// A running server. Dropped, it is killed.
pub struct Server {
    child: Child,
    output: Output,
    /// Where Flight SQL listens.
    pub flight: SocketAddr,
    /// Where HTTP listens.
    pub http: SocketAddr,
}

/// A server that did not start.
#[derive(Debug)]
pub struct Refusal {
    /// How it exited.
    pub status: ExitStatus,
    /// What it said.
    pub stderr: String,
}

/// What the child wrote, collected by threads that end with it.
struct Output {
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl Settings {
    /// With these command-line arguments.
    pub fn with_args(args: &[&str]) -> Self {
        Settings {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..Settings::default()
        }
    }
}

impl Server {
    /// Starts a server and waits for its ready line.
    ///
    /// # Panics
    /// When it does not become ready; the message has its stderr.
    pub fn start(data_dir: &Path) -> Self {
        Server::start_with(data_dir, &Settings::default())
    }

    /// The same with settings.
    ///
    /// # Panics
    /// As [`Server::start`].
    pub fn start_with(data_dir: &Path, settings: &Settings) -> Self {
        Server::try_start(data_dir, settings).unwrap_or_else(|refusal| {
            panic!(
                "the server ended ({}) instead of getting ready:\n{}",
                refusal.status, refusal.stderr
            )
        })
    }

    /// Starts a server that may refuse to.
    ///
    /// # Errors
    /// When it exits before it is ready.
    ///
    /// # Panics
    /// When it neither gets ready nor exits, or its ready line is not as the contract has it.
    pub fn try_start(data_dir: &Path, settings: &Settings) -> Result<Self, Refusal> {
        let mut command = Command::new(binary_path());
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(data_dir)
            .args(["--flight-listen", "127.0.0.1:0", "--http-listen"])
            .arg(settings.http_listen.as_deref().unwrap_or("127.0.0.1:0"))
            .args(&settings.args);
        without_kalamdb_variables(&mut command);
        if !settings.own_root_password {
            command.env("KALAMDB_ROOT_PASSWORD", ROOT_PASSWORD);
        }
        command.envs(settings.env.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());

        let mut child = command.spawn().expect("the binary starts");
        let (output, first_line) = Output::collect(&mut child);
        match first_line.recv_timeout(DEADLINE) {
            Ok(line) => {
                let (flight, http) = parse_ready_line(&line);
                Ok(Server {
                    child,
                    output,
                    flight,
                    http,
                })
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = wait(&mut child, &output);
                Err(Refusal {
                    status,
                    stderr: output.finish(),
                })
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                stop_hard(&mut child);
                panic!("the server was not ready within {DEADLINE:?}:\n{}", output.finish());
            }
        }
    }

    /// A Flight SQL session of `root`.
    ///
    /// # Panics
    /// When the login fails.
    pub async fn root(&self) -> Client {
        self.login("root", ROOT_PASSWORD).await
    }

    /// A Flight SQL session of `root` by the password that the server made for itself.
    ///
    /// # Panics
    /// When the file or the login fails.
    pub async fn root_of(&self, data_dir: &Path) -> Client {
        let password = std::fs::read_to_string(data_dir.join("root-password")).expect("the first start writes it");
        self.login("root", password.trim_end()).await
    }

    /// A Flight SQL session by handshake.
    ///
    /// # Panics
    /// When the login fails.
    pub async fn login(&self, user: &str, password: &str) -> Client {
        match Client::login(self.flight, user, password).await {
            Ok(client) => client,
            Err(error) => panic!(
                "login of {user} failed: {error}\nstderr of the server:\n{}",
                self.stderr()
            ),
        }
    }

    /// The HTTP door, with `root`'s credentials.
    pub fn http_root(&self) -> Http {
        Http::basic(self.http, "root", ROOT_PASSWORD)
    }

    /// What the server wrote to stderr so far.
    ///
    /// # Panics
    /// When a reader thread panicked.
    pub fn stderr(&self) -> String {
        self.output.stderr.lock().expect("the reader does not panic").clone()
    }

    /// Its process id.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// The largest resident size that the process ever had, bytes (`VmHWM`).
    ///
    /// # Panics
    /// When `/proc` does not tell.
    pub fn peak_resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the process runs");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .expect("Linux tells VmHWM");
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .and_then(|text| text.parse().ok())
            .expect("VmHWM is a number of kB");
        kib * 1024
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub fn kill(mut self) {
        stop_hard(&mut self.child);
    }

    /// SIGTERM; waits for the exit and returns everything that was written to stderr.
    ///
    /// # Panics
    /// When it does not exit with status 0 before the deadline.
    pub fn terminate(mut self) -> String {
        let id = self.child.id().to_string();
        let sent = Command::new("sh")
            .args(["-c", "kill -TERM \"$0\"", &id])
            .status()
            .expect("sh runs");
        assert!(sent.success(), "SIGTERM could not be sent");
        let status = wait(&mut self.child, &self.output);
        let stderr = self.output.finish();
        assert!(
            status.success(),
            "after SIGTERM the server ended with {status}:\n{stderr}"
        );
        stderr
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        stop_hard(&mut self.child);
        if std::thread::panicking() {
            eprintln!("--- stderr of the server ---\n{}---", self.output.finish());
        }
    }
}

/// Where the binary under test is: beside the test executable, which `make test` and `make -s binary-path` share.
///
/// # Panics
/// When it is not built.
pub fn binary_path() -> PathBuf {
    let test = std::env::current_exe().expect("the running executable has a path");
    let deps = test.parent().expect("an executable is in a directory");
    let profile = if deps.ends_with("deps") {
        deps.parent().expect("deps is in a directory")
    } else {
        deps
    };
    let binary = profile.join("kalamdb");
    assert!(
        binary.is_file(),
        "{} does not exist; build it first: cargo build --release -p kalamdb-server (make test does)",
        binary.display()
    );
    binary
}

/// Removes what would configure a server started by hand on this machine.
fn without_kalamdb_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KALAMDB_") {
            command.env_remove(name);
        }
    }
}

fn parse_ready_line(line: &str) -> (SocketAddr, SocketAddr) {
    let parse = || {
        let rest = line.strip_prefix("ready flight=")?;
        let (flight, http) = rest.split_once(" http=")?;
        Some((flight.parse().ok()?, http.trim_end().parse().ok()?))
    };
    parse().unwrap_or_else(|| panic!("the first line on stdout is not the ready line: {line:?}"))
}

/// Waits for the exit, at most until the deadline.
fn wait(child: &mut Child, output: &Output) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status;
        }
        if started.elapsed() > DEADLINE {
            stop_hard(child);
            let stderr = output.stderr.lock().map(|text| text.clone()).unwrap_or_default();
            panic!("the server did not exit within {DEADLINE:?}:\n{stderr}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn stop_hard(child: &mut Child) {
    // Both fail only when the process is gone already, which is what is wanted.
    let _ = child.kill();
    let _ = child.wait();
}

impl Output {
    /// Reads both pipes to their ends; the receiver gets stdout's first line, or hangs up if there is none.
    fn collect(child: &mut Child) -> (Self, mpsc::Receiver<String>) {
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut stderr_pipe = child.stderr.take().expect("stderr is piped");
        let stderr = Arc::new(Mutex::new(String::new()));
        let collected = Arc::clone(&stderr);
        let (sender, first_line) = mpsc::channel();
        let read_stdout = std::thread::spawn(move || {
            let mut sender = Some(sender);
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(sender) = sender.take() {
                    // The receiver is gone only if the test gave up waiting.
                    let _ = sender.send(line);
                }
            }
        });
        let read_stderr = std::thread::spawn(move || {
            let mut chunk = [0u8; 4096];
            while let Ok(length) = stderr_pipe.read(&mut chunk) {
                if length == 0 {
                    break;
                }
                let text = String::from_utf8_lossy(&chunk[..length]);
                collected.lock().expect("no holder panics").push_str(&text);
            }
        });
        (
            Output {
                stderr,
                readers: vec![read_stdout, read_stderr],
            },
            first_line,
        )
    }

    /// Waits for the pipes to close and returns all of stderr.
    fn finish(&self) -> String {
        let started = Instant::now();
        while self.readers.iter().any(|reader| !reader.is_finished()) && started.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.stderr.lock().map(|text| text.clone()).unwrap_or_default()
    }
}
