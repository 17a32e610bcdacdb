//! A table with a damaged segment: every statement about it is refused once one has met the damage, until a check finds it mended.

use std::path::PathBuf;

use kalamdb_core::ErrorCode;

use crate::parameters::Parameters;
use crate::testing::Fixture;

/// Table `hurt` with two segments and a hot row, table `sound` with a segment and a hot row; and the first file of `hurt`.
fn fixture() -> (Fixture, PathBuf) {
    let fixture = Fixture::new();
    fixture.run(&[
        "CREATE TABLE hurt (id BIGINT PRIMARY KEY, body TEXT)",
        "CREATE TABLE sound (id BIGINT PRIMARY KEY, body TEXT)",
        "INSERT INTO hurt SELECT value, 'row' FROM generate_series(1, 100)",
        "FLUSH TABLE hurt",
        "INSERT INTO hurt SELECT value, 'row' FROM generate_series(101, 200)",
        "INSERT INTO sound VALUES (1, 'a')",
        "STORAGE FLUSH ALL",
        "INSERT INTO hurt VALUES (201, 'hot')",
        "INSERT INTO sound VALUES (2, 'b')",
    ]);
    let of_hurt = "SELECT s.path FROM system.segments s JOIN system.tables t USING (table_id) WHERE table_name = 'hurt' \
                   ORDER BY s.max_seq";
    let path = fixture.rows(of_hurt).remove(0);
    let file = fixture.data_dir().join("segments").join(path);
    (fixture, file)
}

fn check_refused(fixture: &Fixture, sql: &str, parts: &[&str]) {
    let Err(error) = fixture.execute_as(&fixture.root, sql, Parameters::none()) else {
        panic!("{sql}: no error")
    };
    assert_eq!(error.code, ErrorCode::DataCorrupted, "{sql}: {error}");
    for part in parts {
        assert!(error.message.contains(part), "{sql}: {part} is not in {error}");
    }
}

#[test]
fn a_table_is_refused_for_damage_that_a_statement_met() {
    let (fixture, file) = fixture();
    let name = file.display().to_string();
    let sound = std::fs::read(&file).expect("reads");
    let mut damaged = sound.clone();
    damaged[8] ^= 1;
    std::fs::write(&file, &damaged).expect("written");

    check_refused(&fixture, "SELECT * FROM hurt WHERE id = 7", &[&name]);
    for sql in [
        "SELECT * FROM hurt WHERE id = 201",
        "SELECT count(*) FROM hurt",
        "SELECT min(id), max(id) FROM hurt",
        "SELECT * FROM hurt ORDER BY id LIMIT 1",
        "INSERT INTO hurt VALUES (300, 'new')",
        "INSERT INTO hurt SELECT value, 'new' FROM generate_series(1000, 80000)",
        "UPDATE hurt SET body = 'new' WHERE id = 201",
        "DELETE FROM hurt WHERE id = 201",
        "DELETE FROM hurt WHERE id = 301",
        "FLUSH TABLE hurt",
        "STORAGE COMPACT TABLE hurt",
    ] {
        check_refused(&fixture, sql, &["public.hurt", &name, "STORAGE CHECK TABLE"]);
    }
    for sql in ["STORAGE FLUSH ALL", "STORAGE COMPACT ALL"] {
        check_refused(
            &fixture,
            sql,
            &[
                "1 of 2 tables failed (public.hurt), 1 are done",
                &name,
                "STORAGE CHECK TABLE",
            ],
        );
    }
    fixture.check("SELECT count(*) FROM sound", &["2"]);
    fixture.check(
        "SELECT count(*) FROM system.segments s JOIN system.tables t USING (table_id) WHERE table_name = 'sound'",
        &["1"],
    );
    let jobs = "SELECT job_type, status, error IS NOT NULL FROM system.jobs ORDER BY job_id DESC LIMIT 6";
    fixture.check(
        jobs,
        &[
            "compact|finished|false",
            "compact|failed|true",
            "flush|finished|false",
            "flush|failed|true",
            "compact|failed|true",
            "flush|failed|true",
        ],
    );

    let checked =
        "SELECT status, error LIKE '%1 of 2 segments%' FROM system.jobs WHERE job_type = 'check' ORDER BY job_id DESC";
    let rows = fixture.rows("STORAGE CHECK ALL");
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert!(
        rows[0].contains("|public|hurt|damaged|") && rows[0].contains(&name),
        "{rows:?}"
    );
    assert!(rows[1].contains("|public|sound|ok|NULL|"), "{rows:?}");
    fixture.check(checked, &["finished|NULL", "finished|true"]);
    check_refused(&fixture, "SELECT count(*) FROM hurt", &["public.hurt"]);

    std::fs::write(&file, &sound).expect("written");
    check_refused(&fixture, "SELECT count(*) FROM hurt", &["public.hurt"]);
    let rows = fixture.rows("STORAGE CHECK TABLE hurt");
    assert!(rows.len() == 1 && rows[0].contains("|public|hurt|ok|"), "{rows:?}");
    fixture.check("SELECT count(*), max(id) FROM hurt", &["201|201"]);
    fixture.run(&[
        "DELETE FROM hurt WHERE id = 7",
        "INSERT INTO hurt VALUES (300, 'new')",
        "STORAGE FLUSH ALL",
        "STORAGE COMPACT ALL",
    ]);
    fixture.check("SELECT count(*), max(id) FROM hurt", &["201|300"]);
}

#[test]
fn a_check_refuses_a_table_that_nobody_has_read_and_its_rows_can_be_given_up() {
    let (fixture, file) = fixture();
    std::fs::remove_file(&file).expect("removed");
    let rows = fixture.rows("STORAGE CHECK TABLE hurt");
    assert!(rows[0].contains("|damaged|") && rows[0].contains("missing"), "{rows:?}");
    check_refused(&fixture, "SELECT count(*) FROM hurt", &["public.hurt", "missing"]);
    fixture.run(&["TRUNCATE TABLE hurt", "INSERT INTO hurt VALUES (1, 'new')"]);
    fixture.check("SELECT count(*) FROM hurt", &["1"]);
    fixture.run(&["DROP TABLE hurt"]);
}
