//! What would lead past the scope if it were there: nobody gets through, `root` included. Each has a control, in which the same is reached
//! by the way that there is.

use std::path::{Path, PathBuf};

use kalamdb_tests::Client;

use super::probes::Control::{self, Everyone, Root, Victim};
use super::{FILLED, MARKER, Scene, VICTIM, text};

/// A statement that nobody may run, with `{segment}` and `{file}` for the paths of files that are there; and statements, of which the last
/// shows that what it is about is there.
struct Door {
    sql: &'static str,
    instead: &'static str,
    control: Control,
}

const fn door(sql: &'static str, instead: &'static str, control: Control) -> Door {
    Door { sql, instead, control }
}

const OWN: &str = "SELECT * FROM filled.mixed";
const OF_COLD: &str = "SELECT * FROM filled.cold";
const OF_ALL: &str = "EXECUTE AS ALL USERS (SELECT * FROM filled.mixed)";
const AS_VICTIM: &str =
    "EXECUTE AS USER 'bob-the-victim' (SELECT CURRENT_USER, max(v) FROM filled.mixed WHERE id < 900)";

const DOORS: &[Door] = &[
    // Columns and catalogs of the planner's own.
    door(
        "SELECT _user FROM filled.mixed",
        "EXECUTE AS ALL USERS (SELECT _user FROM filled.mixed)",
        Root(VICTIM),
    ),
    door("SELECT _scope FROM filled.mixed", OWN, Victim(MARKER)),
    door("SELECT _row_key FROM filled.mixed", OWN, Victim(MARKER)),
    door("SELECT _row_location FROM filled.mixed", OWN, Victim(MARKER)),
    door("SELECT _row_values FROM filled.mixed", OWN, Victim(MARKER)),
    door(
        "UPDATE filled.mixed SET _user = 'x'",
        "UPDATE copied.mixed SET amount = 12 WHERE id = 1 RETURNING v",
        Victim(MARKER),
    ),
    door(
        "INSERT INTO filled.mixed (id, _user) VALUES (77, 'x')",
        "INSERT INTO copied.mixed (id, v) VALUES (77, 'x') RETURNING 'row ' || id",
        Victim("row 77"),
    ),
    door(
        "SELECT * FROM \"\u{1}mutation\".filled.mixed",
        "SELECT * FROM kalam.filled.mixed",
        Victim(MARKER),
    ),
    door(
        "SELECT * FROM \"\u{1}system columns\".filled.mixed",
        "SELECT _seq, * FROM kalam.filled.mixed",
        Victim(MARKER),
    ),
    door(
        "SELECT * FROM other.filled.mixed",
        "SELECT * FROM kalam.filled.mixed",
        Victim(MARKER),
    ),
    // Another's name.
    door("SET ROLE system", AS_VICTIM, Root(VICTIM)),
    door("SET SESSION AUTHORIZATION 'bob-the-victim'", AS_VICTIM, Root(VICTIM)),
    door("SET user = 'bob-the-victim'", AS_VICTIM, Root(VICTIM)),
    door("SET current_user = 'bob-the-victim'", AS_VICTIM, Root(VICTIM)),
    door(
        "SET datafusion.catalog.default_schema = 'filled'",
        "SET schema = 'filled'; SELECT v FROM mixed",
        Victim(MARKER),
    ),
    door("EXECUTE AS USER 'bob-the-victim'", AS_VICTIM, Root(MARKER)),
    door(
        "EXECUTE AS USER 'root' (EXECUTE AS USER 'bob-the-victim' (SELECT * FROM filled.mixed))",
        AS_VICTIM,
        Root(MARKER),
    ),
    door(
        "EXECUTE AS USER 'bob-the-victim' (SELECT 1); SELECT * FROM filled.mixed",
        AS_VICTIM,
        Root(MARKER),
    ),
    door(
        "CREATE VIEW filled.peek AS EXECUTE AS USER 'bob-the-victim' (SELECT * FROM filled.mixed)",
        "EXECUTE AS USER 'bob-the-victim' (SELECT * FROM filled.seen_mixed)",
        Root(MARKER),
    ),
    door(
        "CREATE VIEW filled.peek AS EXECUTE AS ALL USERS (SELECT * FROM filled.mixed)",
        "EXECUTE AS ALL USERS (SELECT * FROM filled.seen_mixed)",
        Root(MARKER),
    ),
    door(
        "CREATE TABLE filled.taken AS EXECUTE AS ALL USERS (SELECT * FROM filled.mixed)",
        OF_ALL,
        Root(MARKER),
    ),
    door(
        "INSERT INTO filled.box EXECUTE AS ALL USERS (SELECT v FROM filled.mixed)",
        OF_ALL,
        Root(MARKER),
    ),
    door(
        "EXECUTE AS ALL USERS (INSERT INTO filled.box SELECT v FROM filled.mixed)",
        OF_ALL,
        Root(MARKER),
    ),
    door(
        "EXECUTE AS ALL USERS (DELETE FROM filled.mixed RETURNING v)",
        OF_ALL,
        Root(MARKER),
    ),
    door(
        "EXPLAIN EXECUTE AS ALL USERS (SELECT * FROM filled.mixed)",
        OF_ALL,
        Root(MARKER),
    ),
    door(
        "SELECT * FROM (EXECUTE AS ALL USERS (SELECT * FROM filled.mixed))",
        OF_ALL,
        Root(MARKER),
    ),
    door(
        "GRANT SELECT ON filled.mixed TO 'mallory_user'",
        "GRANT SELECT ON filled.facts TO 'mallory_user'; SHOW GRANTS FOR 'mallory_user'",
        Root("facts"),
    ),
    // The past.
    door(
        "SELECT * FROM filled.mixed FOR SYSTEM_TIME AS OF '2020-01-01'",
        OWN,
        Victim(MARKER),
    ),
    door("SELECT * FROM filled.mixed VERSION AS OF 1", OWN, Victim(MARKER)),
    // Files: those of the database, and one of the machine's that has the marker, too.
    door("SELECT * FROM '{segment}'", OF_COLD, Victim(MARKER)),
    door("SELECT * FROM \"{segment}\"", OF_COLD, Victim(MARKER)),
    door("SELECT * FROM \"file://{segment}\"", OF_COLD, Victim(MARKER)),
    door("SELECT * FROM read_parquet('{segment}')", OF_COLD, Victim(MARKER)),
    door("SELECT * FROM parquet_metadata('{segment}')", OF_COLD, Victim(MARKER)),
    door(
        "CREATE EXTERNAL TABLE filled.taken STORED AS PARQUET LOCATION '{segment}'",
        OF_COLD,
        Victim(MARKER),
    ),
    door("COPY filled.mixed TO '{segment}.csv'", OWN, Victim(MARKER)),
    door(
        "COPY (SELECT * FROM filled.mixed) TO '{segment}.csv'",
        OWN,
        Victim(MARKER),
    ),
    door("COPY filled.box FROM '{file}'", OWN, Victim(MARKER)),
    door("SELECT * FROM '{file}'", OWN, Victim(MARKER)),
    door("SELECT * FROM \"{file}\"", OWN, Victim(MARKER)),
    door("SELECT * FROM read_csv('{file}')", OWN, Victim(MARKER)),
    door(
        "CREATE EXTERNAL TABLE filled.taken (v TEXT) STORED AS CSV LOCATION '{file}'",
        OWN,
        Victim(MARKER),
    ),
    door("SELECT pg_read_file('{file}')", OWN, Victim(MARKER)),
    door(
        "INSERT OVERWRITE DIRECTORY '{file}.d' SELECT * FROM filled.mixed",
        OWN,
        Victim(MARKER),
    ),
    door("LOAD '{file}'", OWN, Victim(MARKER)),
    door(
        "CREATE FUNCTION reads() RETURNS TEXT LANGUAGE C AS '{file}'",
        OWN,
        Victim(MARKER),
    ),
    // A storage is an empty directory, so that it adopts nothing.
    door("CREATE STORAGE theirs PATH '{directory}'", OF_COLD, Victim(MARKER)),
];

/// The file of that name below a directory.
fn below(directory: &Path, name: &str) -> Option<PathBuf> {
    for entry in std::fs::read_dir(directory).ok()? {
        let path = entry.ok()?.path();
        if path.is_dir() {
            if let Some(found) = below(&path, name) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|found| found == name) {
            return Some(path);
        }
    }
    None
}

async fn last_of(client: &mut Client, statements: &str) -> String {
    let mut told = String::new();
    for sql in statements.split("; ") {
        told = text(client.rows(sql).await);
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_leads_past_the_scope_is_closed_to_all() {
    let mut scene = Scene::new().await;
    let before = scene.rows_of_victim().await;
    // Where the rows are is no secret from these two; it is of no use.
    let path = "SELECT max(path) FROM system.segments WHERE table_id = \
                (SELECT table_id FROM system.tables WHERE namespace_id = 'filled' AND table_name = 'cold')";
    let path = scene.root.value(path).await;
    let name = path.rsplit('/').next().expect("a text has a last part");
    let segment = below(scene.directory.path(), name).expect("there is the segment");
    let around = segment.parent().expect("it is in a directory").to_path_buf();
    let elsewhere = tempfile::tempdir().expect("a temporary directory can be made");
    let file = elsewhere.path().join("file.csv");
    std::fs::write(&file, format!("v\n{MARKER}\n")).expect("written");
    let mut wrong = Vec::new();
    for door in DOORS {
        let sql = door
            .sql
            .replace("{segment}", &segment.display().to_string())
            .replace("{directory}", &around.display().to_string())
            .replace("{file}", &file.display().to_string());
        let mut everyone = vec![("the victim", &mut scene.victim), ("root", &mut scene.root)];
        everyone.extend(scene.attackers.iter_mut().map(|one| (one.role, &mut one.client)));
        for (name, client) in everyone {
            match client.rows(&sql).await {
                Ok(rows) => wrong.push(format!("{name}: {sql}\n   opens: {rows:?}")),
                Err(error) if error.message.contains(MARKER) || error.code() == "INTERNAL" => {
                    wrong.push(format!("{name}: {sql}\n   tells: {error}"));
                }
                Err(_) => {}
            }
        }
        let (told, shows) = match door.control {
            Victim(shows) => (last_of(&mut scene.victim, door.instead).await, shows),
            Root(shows) => (last_of(&mut scene.root, door.instead).await, shows),
            Everyone(_) => panic!("its controls say it themselves"),
        };
        if !told.contains(shows) {
            wrong.push(format!(
                "the control of {sql}\n   {} shows no {shows}: {told}",
                door.instead
            ));
        }
    }
    let beside: Vec<_> = [&around, &elsewhere.path().to_path_buf()]
        .into_iter()
        .flat_map(|directory| std::fs::read_dir(directory).expect("it is there"))
        .map(|entry| entry.expect("it is there").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "csv" || extension == "d")
        })
        .collect();
    assert_eq!(beside, [file], "nothing was written");
    // Of one's own name there is no other way than the statement that is recorded, and no right to it but by role.
    let as_victim = format!("EXECUTE AS USER '{VICTIM}' (SELECT max(v) FROM {FILLED}.mixed)");
    for attacker in &mut scene.attackers {
        let told = text(attacker.client.rows(&as_victim).await);
        let expected = if attacker.role == "user" {
            "PERMISSION_DENIED"
        } else {
            MARKER
        };
        assert!(told.contains(expected), "{}: {told}", attacker.role);
    }
    assert!(wrong.is_empty(), "{} findings:\n{}", wrong.len(), wrong.join("\n"));
    scene.check_undisturbed(&before).await;
}
