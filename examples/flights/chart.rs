//! A bar chart of characters.

/// The width of a bar is drawn in eighths of a column.
const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
/// Columns of a row beside its bar: two spaces, a value and another space.
const VALUE_COLUMNS: usize = 10;

/// One row per entry: a label, a bar, the value; rows are `columns` wide at most, unless that
/// leaves no room for bars. Labels have the same width. Negative values have no bar.
pub(crate) fn bars(rows: &[(String, f64)], columns: usize) -> String {
    let greatest = rows.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let label_columns = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let room = columns.saturating_sub(label_columns + VALUE_COLUMNS).clamp(1, 60);
    let lines: Vec<String> = rows
        .iter()
        .map(|(label, value)| {
            let share = if greatest > 0.0 { (value / greatest).max(0.0) } else { 0.0 };
            let eighths = (share * (room * 8) as f64).round() as usize;
            let (whole, part) = (eighths / 8, eighths % 8);
            let row = format!("  {label} {value:>6.1} {}{}", "█".repeat(whole), EIGHTHS[part]);
            row.trim_end().to_owned()
        })
        .collect();
    lines.join("\n")
}
