//! Results: equal to a plain loop's, for every parallelism, backend and cut of the input.

use std::fs;
use std::path::Path;

use crate::process::{Flights, RECORDS, parts};
use crate::reference::{expected, parse, rows};

/// Writes one file per origin into `directory`, each in the order of the whole.
fn cut_by_origin(directory: &Path) {
    let (header, rows) = rows();
    for origin in ["EWR", "JFK", "LGA"] {
        let mine = rows.iter().filter(|row| row.split(',').nth(7) == Some(origin));
        let mut text = format!("{header}\n");
        mine.for_each(|row| {
            text.push_str(row);
            text.push('\n');
        });
        fs::write(directory.join(format!("{origin}.csv")), text).expect("can be written");
    }
}

#[test]
fn the_result_is_that_of_a_plain_loop_whatever_the_parallelism_and_the_backend() {
    let (header, rows) = rows();
    let departures = parse(&header, &rows);
    assert_eq!(departures.len(), RECORDS);
    let (hourly, late) = expected(&departures);
    assert!(!late.is_empty(), "the data has late records");
    for arguments in [
        &["--parallelism", "1"][..],
        &["--parallelism", "2"],
        &["--parallelism", "4"],
        &["--parallelism", "4", "--workers", "1"],
        &["--parallelism", "2", "--state", "rocksdb", "--memory", "1MiB"],
    ] {
        for flights in [Flights::new(arguments), Flights::with_checkpoints(arguments)] {
            let ended = flights.run().expect_success();
            assert!(ended.stdout.contains("none is missing"), "{ended:?}");
            assert!(flights.hourly() == hourly, "other results with {arguments:?}");
            assert!(flights.late() == late, "other late records with {arguments:?}");
        }
    }
}

#[test]
fn late_records_are_written_byte_for_byte_as_they_were_read() {
    let flights = Flights::new(&["--parallelism", "2"]);
    flights.run().expect_success();
    let (header, rows) = rows();
    let mut late = 0;
    for part in parts(&flights.out().join("late")) {
        let text = fs::read_to_string(part).expect("a part");
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(&*header));
        for line in lines {
            let seq: usize = line.split(',').next().expect("a field").parse().expect("a number");
            assert_eq!(line, rows[seq]);
            late += 1;
        }
    }
    assert_eq!(late, flights.late().len());
    // The other rows too would be, empty fields included.
    let mut writer = csv::Writer::from_writer(Vec::new());
    for departure in parse(&header, &rows) {
        writer.serialize(departure).expect("has a CSV form");
    }
    let written = String::from_utf8(writer.into_inner().expect("into memory")).expect("UTF-8");
    assert!(written == format!("{header}\n{}\n", rows.join("\n")), "a row is written otherwise");
}

#[test]
fn three_splits_give_one_result_whatever_the_parallelism() {
    let input = tempfile::tempdir().expect("a temporary directory");
    cut_by_origin(input.path());
    let path = input.path().display().to_string();
    let mut first: Option<Flights> = None;
    for parallelism in ["1", "2", "4"] {
        for _ in 0..2 {
            let arguments = ["--input", &path, "--splits-by-file", "--parallelism", parallelism];
            let flights = Flights::with_checkpoints(&arguments);
            flights.run().expect_success();
            flights.check_conservation();
            match &first {
                None => first = Some(flights),
                Some(first) => {
                    assert!(flights.hourly() == first.hourly(), "parallelism {parallelism}");
                    assert!(flights.late() == first.late(), "parallelism {parallelism}");
                }
            }
        }
    }
    // Each split is judged by its own watermark: as if it were alone.
    let (header, rows) = rows();
    let first = first.expect("has run");
    for origin in ["EWR", "JFK", "LGA"] {
        let mut mine = parse(&header, &rows);
        mine.retain(|departure| departure.origin == origin);
        let (hourly, late) = expected(&mine);
        assert!(first.hourly().iter().filter(|h| h.origin == origin).eq(&hourly), "{origin}");
        assert!(first.late().iter().filter(|d| d.origin == origin).eq(&late), "{origin}");
    }
}

#[test]
fn a_directory_is_one_split_in_the_order_of_names() {
    let (header, rows) = rows();
    let input = tempfile::tempdir().expect("a temporary directory");
    let (early, later) = rows.split_at(RECORDS / 3);
    for (name, rows) in [("2.csv", later), ("1.csv", early)] {
        let text = format!("{header}\n{}\n", rows.join("\n"));
        fs::write(input.path().join(name), text).expect("can be written");
    }
    let flights = Flights::new(&["--input", &input.path().display().to_string()]);
    flights.run().expect_success();
    let (hourly, late) = expected(&parse(&header, &rows));
    assert!(flights.hourly() == hourly && flights.late() == late, "other results");
}

#[test]
fn the_plan_shows_chains_parallelism_exchanges_and_levels() {
    let flights = Flights::new(&[]);
    let mut command = std::process::Command::new(crate::process::example("flights"));
    command.args(["plan", "--parallelism", "3"]).env("THALWEG_WORKERS", "2");
    let plan = crate::process::Ended::of(&mut command).expect_success().stdout;
    for text in ["2 tasks, 6 subtasks, level D4", "by hash", "* departures", "+ late", "state]"] {
        assert!(plan.contains(text), "`{text}` is not in {plan}");
    }
    for (format, text) in [("dot", "digraph"), ("mermaid", "flowchart")] {
        let mut command = std::process::Command::new(crate::process::example("flights"));
        command.args(["plan", "--format", format]);
        let plan = crate::process::Ended::of(&mut command).expect_success().stdout;
        assert!(plan.contains(text), "{plan}");
    }
    assert!(!flights.out().exists(), "a plan writes nothing");
}
