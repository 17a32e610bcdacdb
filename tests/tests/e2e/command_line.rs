//! The binary's own words: `serve`, `sql`, `--help`, and what it does not take.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use kalamdb_tests::{ROOT_PASSWORD, Server, Settings, binary_path};

#[test]
fn help_documents_each_flag_with_its_variable_and_default() {
    for command in [&["--help"][..], &["serve", "--help"], &["sql", "--help"]] {
        let output = run(command, &[]);
        assert!(output.status.success(), "{command:?}");
    }
    let help = stdout(&run(&["serve", "--help"], &[]));
    for word in [
        "--data-dir",
        "--flight-listen",
        "--http-listen",
        "--config",
        "KALAMDB_DATA_DIR",
        "127.0.0.1:50051",
    ] {
        assert!(help.contains(word), "{word} is not in:\n{help}");
    }
    // Every flag has its variable.
    for line in help.lines().filter_map(|line| line.strip_prefix("      --")) {
        let flag = line.split([' ', '=', '<', '[', ',']).next().unwrap_or_default();
        let variable = format!("KALAMDB_{}", flag.replace('-', "_").to_uppercase());
        assert!(
            flag == "help" || flag == "version" || help.contains(&variable),
            "{variable} is not in:\n{help}"
        );
    }
}

#[test]
fn unknown_settings_name_the_nearest_one() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let data_dir = directory.path().join("data");
    let config = directory.path().join("kalamdb.toml");
    let check = |args: &[&str], env: &[(&str, &str)], toml: &str, unknown: &str, nearest: &str| {
        std::fs::write(&config, toml).expect("the file can be written");
        let data_dir = data_dir.display().to_string();
        let config = config.display().to_string();
        let mut all = vec!["serve", "--data-dir", &data_dir, "--config", &config];
        all.extend(["--flight-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        all.extend(args);
        let output = run(&all, env);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{unknown} was taken");
        assert!(
            stderr.contains(unknown) && stderr.contains(nearest),
            "{unknown}, {nearest}: {stderr}"
        );
        assert!(!stderr.contains("panicked"), "{stderr}");
    };
    check(&["--flight-listn", "x"], &[], "", "--flight-listn", "--flight-listen");
    check(
        &[],
        &[("KALAMDB_HTTP_LISTN", "127.0.0.1:0")],
        "",
        "KALAMDB_HTTP_LISTN",
        "KALAMDB_HTTP_LISTEN",
    );
    check(&[], &[], "http_listn = \"127.0.0.1:0\"\n", "http_listn", "http_listen");
    assert!(!data_dir.exists(), "a server that does not start makes nothing");
}

#[test]
fn a_word_that_is_no_option_is_not_taken_for_one() {
    let check = |args: &[&str], expected: &str| {
        let output = run(args, &[]);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(stderr, format!("kalamdb: {expected}\n"), "{args:?}");
    };
    check(
        &["serve", "extra"],
        "kalamdb serve takes options only, and 'extra' is none. See kalamdb serve --help",
    );
    check(
        &["serve", "--max-sessions", "7", "data-dir=x"],
        "kalamdb serve takes options only, and 'data-dir=x' is none; did you mean --data-dir=x?",
    );
    check(
        &["sql", "SELECT 1"],
        "kalamdb sql takes options only, and 'SELECT 1' is none; statements stand behind -c, and a file of them behind \
         -f. See kalamdb sql --help",
    );
}

#[test]
fn bad_values_are_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let check = |args: &[&str], word: &str| {
        let refusal = Server::try_start(directory.path(), &Settings::with_args(args)).err();
        let refusal = refusal.unwrap_or_else(|| panic!("{args:?} was taken"));
        assert!(
            refusal.stderr.contains(word),
            "{args:?}: {word} is not in: {}",
            refusal.stderr
        );
    };
    check(&["--config", "/nonexistent/kalamdb.toml"], "/nonexistent/kalamdb.toml");
    check(&["--memory-limit", "lots"], "--memory-limit: ");
    check(&["--memory-limit", "1KiB"], "16 MiB to 16 TiB");
    check(&["--statement-timeout", "-1"], "--statement-timeout: ");
    check(&["--durability", "maybe"], "synced or relaxed");
    check(&["--log", "kalamdb=loud"], "--log: ");
}

#[test]
fn a_flag_wins_over_its_variable() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    // The flag is the harness's own.
    let open = Server::try_start(
        directory.path(),
        &Settings {
            env: vec![("KALAMDB_FLIGHT_LISTEN".into(), "0.0.0.0:0".into())],
            ..Settings::default()
        },
    );
    open.unwrap_or_else(|refusal| panic!("a flag wins over its variable: {}", refusal.stderr))
        .terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tls_it_listens_on_loopback_only() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let data_dir = directory.path().display().to_string();
    let output = run(
        &[
            "serve",
            "--data-dir",
            &data_dir,
            "--flight-listen",
            "0.0.0.0:0",
            "--http-listen",
            "127.0.0.1:0",
        ],
        &[("KALAMDB_ROOT_PASSWORD", ROOT_PASSWORD)],
    );
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("loopback"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sql_command_runs_a_statement() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let settings = Settings {
        own_root_password: true,
        ..Settings::default()
    };
    let server = Server::start_with(directory.path(), &settings);
    let (data_dir, http, flight) = (directory.path(), server.http.to_string(), server.flight.to_string());
    server
        .root_of(data_dir)
        .await
        .ok("CREATE USER 'ann' WITH PASSWORD 'ann has a long password' ROLE user")
        .await;

    // On the server's own machine it finds the password by --data-dir.
    let output = sql(
        data_dir,
        &flight,
        &http,
        &["-c", "SELECT 1 + 1 AS two, 'x' AS letter"],
        &[],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = stdout(&output);
    assert!(
        text.contains("two") && text.contains("letter") && text.contains('2') && text.contains('x'),
        "{text}"
    );

    // Another user, by variable.
    let password = [("KALAMDB_PASSWORD", "ann has a long password")];
    let output = sql(
        data_dir,
        &flight,
        &http,
        &["--user", "ann", "-c", "SELECT CURRENT_USER"],
        &password,
    );
    assert!(stdout(&output).contains("ann"), "{output:?}");

    // An error goes to stderr, with its code, and decides the exit status.
    let output = sql(data_dir, &flight, &http, &["-c", "SELECT * FROM nothing"], &[]);
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("TABLE_NOT_FOUND"),
        "{output:?}"
    );
    let output = sql(
        data_dir,
        &flight,
        &http,
        &["--user", "ann", "-c", "SELECT 1"],
        &[("KALAMDB_PASSWORD", "wrong")],
    );
    assert!(!output.status.success());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("UNAUTHENTICATED"),
        "{output:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_prints_rows_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let url = format!("grpc://{}", server.flight);
    let password = [("KALAMDB_PASSWORD", ROOT_PASSWORD)];
    let script = "CREATE TABLE t (id BIGINT PRIMARY KEY, name TEXT);\nINSERT INTO t VALUES (1, 'a;b'), (2, NULL);\n\
                  SELECT * FROM t ORDER BY id; SELECT NULL AS n, '' AS e";
    let csv = "id,name\n1,a;b\n2,\nn,e\n,\"\"\n";

    // From standard input, with nothing of the shell's.
    let piped = run_with_input(&["sql", "--url", &url, "--format", "csv"], &password, script);
    assert!(piped.status.success(), "{piped:?}");
    assert_eq!((stdout(&piped), piped.stderr.len()), (csv.to_owned(), 0), "{piped:?}");

    // From a file, into a file.
    let (given, taken) = (directory.path().join("script.sql"), directory.path().join("rows.csv"));
    std::fs::write(&given, "DROP TABLE t;".to_owned() + script).expect("the file can be written");
    let (given, rows) = (given.display().to_string(), taken.display().to_string());
    let output = run(
        &["sql", "--url", &url, "-f", &given, "--format", "csv", "-o", &rows],
        &password,
    );
    assert!(output.status.success(), "{output:?}");
    assert_eq!((output.stdout.len(), output.stderr.len()), (0, 0), "{output:?}");
    assert_eq!(std::fs::read_to_string(&taken).expect("it is there"), csv);

    // A Parquet file, under a name or through a pipe.
    let parquet = ["sql", "--url", &url, "--format", "parquet", "-c"];
    let output = run(&[&parquet[..], &["SELECT 1 AS one"]].concat(), &password);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.starts_with(b"PAR1") && output.stdout.ends_with(b"PAR1"));
    let output = run(
        &[&parquet[..], &["SELECT 1 AS one", "--output", &rows]].concat(),
        &password,
    );
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(std::fs::read(&taken).expect("it is there").starts_with(b"PAR1"));
    // A second result has no place in it: it is not asked for.
    let output = run(
        &[&parquet[..], &["SELECT 1 AS one; SELECT 2 AS two"]].concat(),
        &password,
    );
    assert!(!output.status.success(), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("one only"),
        "{output:?}"
    );
    server.terminate();
}

/// `kalamdb sql` against that server.
fn sql(data_dir: &Path, flight: &str, _http: &str, args: &[&str], env: &[(&str, &str)]) -> Output {
    let data_dir = data_dir.display().to_string();
    let url = format!("http://{flight}");
    let mut all = vec!["sql", "--data-dir", &data_dir, "--url", &url];
    all.extend(args);
    run(&all, env)
}

pub(crate) fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    run_with_input(args, env, "")
}

pub(crate) fn run_with_input(args: &[&str], env: &[(&str, &str)], input: &str) -> Output {
    let mut command = Command::new(binary_path());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KALAMDB_")) {
        command.env_remove(name);
    }
    command
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // One that reads nothing may have closed it; its output says why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("the binary runs")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_error_that_nobody_reads_still_has_its_exit_code() {
    for (args, code) in [
        (&["sql", "--nosuch"][..], 2),
        (&["sql", "--url", "nonsense", "-c", "SELECT 1"], 1),
    ] {
        let mut child = Command::new(binary_path())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        // Most likely before it writes; if not, it has nothing to complain of.
        drop(child.stderr.take());
        let status = child.wait().expect("the binary runs");
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}
