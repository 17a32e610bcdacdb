//! Keeps `docs/configuration.md` equal to the table of settings.

use std::fmt::Write as _;
use std::path::Path;

use crate::settings::{OTHER_VARIABLES, settings};

const OPENING: &str = "\
# Configuration

Every setting has a flag of `kalamdb serve`, a variable, and a key of the configuration file, named alike. A flag wins over a
variable, a variable over the file, the file over the default. A name that nothing knows is an error that names the nearest
one, and a value out of its bound is an error that says the bound. `system.settings` shows what is in force and where it comes
from.

- Sizes are bytes, or have a unit: `kB`, `MB`, `GB`, `TB` (powers of 1000) or `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024).
- Times are seconds, or have a unit: `ms`, `s`, `min`, `h`, `d`. Fractions are fine down to a millisecond.
- An empty variable counts as none.
- The file is TOML and is read when `--config kalamdb.toml` or `KALAMDB_CONFIG` names it:

```toml
flight_listen = \"127.0.0.1:50051\"
memory_limit = \"4GiB\"
statement_timeout = \"5min\"
```

| key | flag | variable | unit | default | bound |
|---|---|---|---|---|---|
";

const CLOSING: &str = "
## Memory

What the server holds is about the sum of these:

- `memory_limit`: all running queries, and the rows that small writes gather until their commit. Beyond it queries spill.
- `block_cache`, `segment_cache` and `write_buffers`, each up to its own size, whatever queries do.
- For each bulk load that is under way about 150 MiB: rows that are sorted, and the part of a segment that is being written.
- For each of the 2 × `mover_threads` background threads about 100 MiB while it works. A flush holds up to half of the `hot_limit`
  of its table more, the less the longer the rows are; a compaction four bytes for each row that it merges.
- Rows of `RETURNING` that Flight clients have not fetched, until five minutes are over: 512 MiB at most, 128 MiB of one user.
- Passwords that are being checked: 19 MiB each, one for each core at once and eight at most, so 152 MiB. Logins beyond
  that wait, 1,024 in all and 256 from one address; more answer TOO_MANY_REQUESTS.

With the defaults the first four parts are eleven sixteenths of the machine's memory and 128 MiB on a machine of 1 to 16 GiB, and
less on a larger one. What is left is for the others, and for the operating system's cache of segment files. A server that shares
its machine gets less by `memory_limit` first.

## Who may ask for what

`/health` and `/ready` take no credentials. `/metrics` takes none from a loopback address, so on a machine whose users are not
trusted, or behind a reverse proxy on the same machine, bar it there; from other addresses it needs role `dba`.
";

/// The document.
fn configuration_document() -> String {
    let mut text = String::from(OPENING);
    for (setting, names) in settings() {
        let (name, flag, variable) = (setting.name, &names.flag, &names.variable);
        let (unit, default, bound) = (setting.unit(), setting.default_text(), setting.bound());
        writeln!(
            text,
            "| `{name}` | `--{flag}` | `{variable}` | {unit} | {default} | {bound} |"
        )
        .expect("memory takes text");
    }
    text.push_str("\n## What they do\n\n");
    for (setting, _) in settings() {
        writeln!(text, "- `{}`: {}", setting.name, setting.about).expect("memory takes text");
    }
    text.push_str("\n## Other variables\n\n");
    for variable in OTHER_VARIABLES {
        writeln!(text, "- `{}`: {}", variable.name, variable.about).expect("memory takes text");
    }
    text.push_str(CLOSING);
    text
}

#[test]
fn the_document_is_the_table_of_settings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let expected = configuration_document();
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        std::fs::write(&path, &expected).expect("the document can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let mut differences = String::new();
    let (mut old, mut new) = (found.lines(), expected.lines());
    loop {
        match (old.next(), new.next()) {
            (None, None) => break,
            (old, new) if old == new => {}
            (old, new) => {
                for (sign, line) in [('-', old), ('+', new)] {
                    if let Some(line) = line {
                        writeln!(differences, "{sign}{line}").expect("memory takes text");
                    }
                }
            }
        }
    }
    assert!(
        differences.is_empty(),
        "docs/configuration.md is out of date; run UPDATE_DOCUMENTS=1 cargo test --release -p kalamdb-server\n{differences}"
    );
}
