//! Parts: their names, when they roll, what is in them, and what cannot be written.

use thalweg_engine::sink::{Sink, Start};
use thalweg_engine::{ErrorKind, Result};

use super::*;
use crate::files;
use crate::testing::{at, batch, read_all, write_and_prepare, writer_context};

/// All names in `directory`, sorted.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("is there");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    names
}

/// The lines of all visible files, in the order of their names.
pub(super) fn visible_lines(directory: &Path) -> Vec<String> {
    let visible = names(directory).into_iter().filter(|name| !name.starts_with('.'));
    let text: String = visible
        .map(|name| std::fs::read_to_string(directory.join(name)).expect("readable"))
        .collect();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn what_was_written_is_read_again() -> Result<()> {
    let directory = temporary();
    let out = directory.path().join("deeply/inside");
    let rows = rows(300, &mut Numbers(5));
    let sink = files::csv_out::<Row>(&out).roll_after_bytes(1_000);
    sink.committer()?.recover(&[], Start::Fresh)?;
    let mut writer = sink.writer(&writer_context(3))?;
    for (i, chunk) in rows.chunks(100).enumerate() {
        for piece in chunk.chunks(30) {
            writer.write(&mut batch(piece.to_vec()), at(0))?;
        }
        assert!(names(&out).iter().any(|name| name.starts_with(".part-open-0003-")));
        let committables = write_and_prepare(&mut *writer, [], i as u64 + 9)?;
        assert!(committables.len() > 1, "parts roll");
        sink.committer()?.commit(&committables)?;
        assert!(names(&out).iter().all(|name| name.starts_with("part-")));
    }
    let parts = names(&out);
    assert_eq!(parts[..2], ["part-0000000009-0003-0000.csv", "part-0000000009-0003-0001.csv"]);
    assert!(parts.contains(&"part-0000000011-0003-0000.csv".to_owned()), "{parts:?}");
    assert!(read_all(&files::csv::<Row>(&out))? == rows, "each part has its header");
    Ok(())
}

#[test]
fn fields_are_quoted_where_they_have_to_be() -> Result<()> {
    let directory = temporary();
    let rows = [
        Row { id: 1, name: "plain".into(), delay: Some(-3) },
        Row { id: 2, name: "a,\"b\"\nc".into(), delay: None },
    ];
    let expected = "id,name,delay\n1,plain,-3\n2,\"a,\"\"b\"\"\nc\",\n";
    for (name, with_header) in [("with", true), ("without", false)] {
        let sink = files::csv_out::<Row>(directory.path().join(name));
        let sink = if with_header { sink } else { sink.without_header() };
        let mut writer = sink.writer(&writer_context(0))?;
        sink.committer()?.commit(&write_and_prepare(&mut *writer, rows.clone(), 1)?)?;
        let part = directory.path().join(name).join("part-0000000001-0000-0000.csv");
        let text = std::fs::read_to_string(part).expect("committed");
        assert_eq!(text, if with_header { expected } else { &expected["id,name,delay\n".len()..] });
    }
    Ok(())
}

#[test]
fn nothing_written_is_no_part() -> Result<()> {
    let directory = temporary();
    let sink = files::csv_out::<Row>(directory.path());
    let mut writer = sink.writer(&writer_context(0))?;
    assert!(write_and_prepare(&mut *writer, [], 1)?.is_empty());
    assert!(names(directory.path()).is_empty());
    Ok(())
}

#[test]
fn without_checkpoints_parts_are_ready_when_they_roll() -> Result<()> {
    let directory = temporary();
    let sink = files::json_lines_out::<u64>(directory.path()).roll_after_bytes(6);
    let mut context = writer_context(1);
    context.commits_when_rolled = true;
    let mut writer = sink.writer(&context)?;
    let mut committer = sink.committer()?;
    committer.recover(&[], Start::Fresh)?;
    for records in [vec![10, 11], vec![12, 13], vec![14]] {
        writer.write(&mut batch(records), at(0))?;
        committer.commit(&writer.poll_rolled())?;
    }
    assert_eq!(visible_lines(directory.path()), ["10", "11", "12", "13"]);
    committer.commit(&write_and_prepare(&mut *writer, [], 1)?)?;
    let parts: Vec<String> = (0..3).map(|n| format!("part-0001-000{n}.jsonl")).collect();
    assert_eq!(names(directory.path()), parts);
    assert_eq!(visible_lines(directory.path()), ["10", "11", "12", "13", "14"]);
    Ok(())
}

#[test]
fn a_fresh_start_refuses_earlier_output_and_clears_only_its_own_leftovers() -> Result<()> {
    let directory = temporary();
    for name in [".part-open-0000-0000.csv.pending", ".part-0000000001-0000-0000.jsonl.pending"] {
        write(directory.path(), name, b"left over");
    }
    write(directory.path(), "notes.txt", b"the user's");
    let sink = files::csv_out::<Row>(directory.path());
    sink.committer()?.recover(&[], Start::Fresh)?;
    let left = [".part-0000000001-0000-0000.jsonl.pending", "notes.txt"];
    assert_eq!(names(directory.path()), left);
    write(directory.path(), "part-0000000001-0000-0000.csv", b"output");
    let error = sink.committer()?.recover(&[], Start::Fresh).expect_err("there is output");
    assert_eq!(error.kind(), ErrorKind::Config);
    let expected = "already holds output of an earlier run: part-0000000001-0000-0000.csv; remove";
    assert!(error.to_string().contains(expected), "{error}");
    sink.committer()?.recover(&[], Start::Resumed)?;
    Ok(())
}

#[test]
fn a_path_that_is_a_file_is_refused() -> Result<()> {
    let directory = temporary();
    write(directory.path(), "file", b"");
    for path in ["file", "file/inside"] {
        let sink = files::csv_out::<Row>(directory.path().join(path));
        let error = sink.committer()?.recover(&[], Start::Fresh).expect_err("not a directory");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("a file stands where"), "{error}");
        assert!(sink.writer(&writer_context(0)).is_err());
    }
    Ok(())
}

#[test]
fn a_record_without_a_form_is_an_error_of_the_user() -> Result<()> {
    let directory = temporary();
    let sink = files::csv_out::<(u8, std::collections::BTreeMap<u8, u8>)>(directory.path());
    let mut writer = sink.writer(&writer_context(0))?;
    let mut records = batch([(1, [(2, 3)].into())]);
    let error = writer.write(&mut records, at(0)).expect_err("no map in a field");
    assert_eq!(error.kind(), ErrorKind::User);
    assert!(error.to_string().starts_with("a record cannot be written as csv: "), "{error}");
    Ok(())
}

#[test]
fn a_failed_writer_prepares_nothing_more() -> Result<()> {
    let directory = temporary();
    let out = directory.path().join("out");
    let sink = files::json_lines_out::<u64>(&out).roll_after_bytes(1);
    let mut writer = sink.writer(&writer_context(0))?;
    writer.write(&mut batch([1]), at(0))?;
    std::fs::remove_dir_all(&out).expect("was there");
    let error = writer.write(&mut batch([2]), at(0)).expect_err("no directory");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    std::fs::create_dir(&out).expect("creates");
    let error = write_and_prepare(&mut *writer, [], 1).expect_err("a record is lost");
    assert!(error.is_retryable() && error.to_string().contains("failed before"), "{error}");
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_says_so() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has one");
    let error = (&full).write_all(b"x").expect_err("is always full");
    let error = super::super::part::output_error("write", Path::new("out/part"), &error);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let expected =
        "cannot write output out/part: the disk is full; free some space and start again";
    assert_eq!(error.to_string(), expected);
}
