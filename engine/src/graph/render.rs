//! How a plan is shown: text, DOT, Mermaid.

use std::fmt::Write;

use super::chain::{ExecutionPlan, Target, Task};
use super::logical::{JobGraph, Level, NodeKind, Partition};

/// A format for plans.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlanFormat {
    /// For a terminal.
    Text,
    /// For Graphviz.
    Dot,
    /// For Markdown.
    Mermaid,
}

impl ExecutionPlan {
    /// The plan of `graph` in `format`.
    pub fn render(&self, graph: &JobGraph, job: &str, format: PlanFormat) -> String {
        match format {
            PlanFormat::Text => self.text(graph, job),
            PlanFormat::Dot => self.dot(graph, job),
            PlanFormat::Mermaid => self.mermaid(graph),
        }
    }

    fn text(&self, graph: &JobGraph, job: &str) -> String {
        let regions = self.regions();
        let count = regions.iter().max().map_or(0, |last| last + 1);
        let in_regions = if count > 1 { format!(", {count} regions") } else { String::new() };
        let mut out = format!(
            "job {job}: {} tasks, {} subtasks{in_regions}, level {}\n",
            self.tasks.len(),
            self.subtask_count(),
            level(graph.level())
        );
        for (t, task) in self.tasks.iter().enumerate() {
            let region = match count > 1 {
                true => format!(", region {}", regions[t] + 1),
                false => String::new(),
            };
            let _ = writeln!(out, "\ntask {t}, parallelism {}{region}", task.parallelism);
            for input in &task.inputs {
                let _ = writeln!(
                    out,
                    "  <- task {} by {}{}",
                    input.task,
                    input.partition,
                    port_suffix(input.port as usize)
                );
            }
            for (n, &node) in task.nodes.iter().enumerate() {
                let info = graph.info(node);
                let state = if info.is_stateful && info.kind == NodeKind::Operator {
                    ", state"
                } else {
                    ""
                };
                let _ = writeln!(
                    out,
                    "  {} {}  {} [{}{state}]{}{}",
                    if n == 0 { "*" } else { "+" },
                    info.name,
                    if info.what == info.name { "" } else { &info.what },
                    level(info.level),
                    branch_suffix(graph, task, n),
                    targets_suffix(&task.targets[n]),
                );
                if let Some(note) = &info.note {
                    let _ = writeln!(out, "      note: {note}");
                }
            }
        }
        out
    }

    fn dot(&self, graph: &JobGraph, job: &str) -> String {
        let mut out = format!("digraph \"{}\" {{\n  rankdir=LR; node [shape=box];\n", escape(job));
        for (t, task) in self.tasks.iter().enumerate() {
            let _ = writeln!(
                out,
                "  subgraph cluster_{t} {{ label=\"task {t} x{}\";",
                task.parallelism
            );
            for &node in &task.nodes {
                let info = graph.info(node);
                let _ = writeln!(
                    out,
                    "    n{} [label=\"{}\\n{} [{}]\"];",
                    node.index(),
                    escape(&info.name),
                    escape(&info.what),
                    level(info.level)
                );
            }
            out.push_str("  }\n");
        }
        self.each_edge(|from, to, label| {
            let _ = writeln!(out, "  n{from} -> n{to} [label=\"{label}\"];");
        });
        out.push_str("}\n");
        out
    }

    fn mermaid(&self, graph: &JobGraph) -> String {
        let mut out = String::from("flowchart LR\n");
        for (t, task) in self.tasks.iter().enumerate() {
            let _ = writeln!(out, "  subgraph t{t}[\"task {t} x{}\"]", task.parallelism);
            for &node in &task.nodes {
                let info = graph.info(node);
                let _ = writeln!(
                    out,
                    "    n{}[\"{}<br/>{} ({})\"]",
                    node.index(),
                    escape(&info.name),
                    escape(&info.what),
                    level(info.level)
                );
            }
            out.push_str("  end\n");
        }
        self.each_edge(|from, to, label| {
            let _ = match label {
                "" => writeln!(out, "  n{from} --> n{to}"),
                _ => writeln!(out, "  n{from} -->|{label}| n{to}"),
            };
        });
        out
    }

    /// Calls `each` with the indices of both nodes and a label for every edge of the graph.
    fn each_edge(&self, mut each: impl FnMut(usize, usize, &str)) {
        for task in &self.tasks {
            for (n, &node) in task.nodes.iter().enumerate() {
                for (port, targets) in task.targets[n].iter().enumerate() {
                    let side = port_suffix(port).trim_start();
                    for target in targets {
                        match *target {
                            Target::Node(to) => {
                                each(node.index(), task.nodes[to].index(), side);
                            }
                            Target::Task { task: to, input } => {
                                let head = self.tasks[to].nodes[0];
                                let partition = self.tasks[to].inputs[input].partition;
                                let label = format!("{partition}{}", port_suffix(port));
                                each(node.index(), head.index(), &label);
                            }
                        }
                    }
                }
            }
        }
    }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::D2 => "D2",
        Level::D4 => "D4",
    }
}

fn port_suffix(port: usize) -> &'static str {
    if port == 0 { "" } else { " (side)" }
}

/// Where a chained operator gets its records from, if not from the one above it.
fn branch_suffix(graph: &JobGraph, task: &Task, node: usize) -> String {
    for (from, ports) in task.targets.iter().enumerate() {
        for (port, targets) in ports.iter().enumerate() {
            if targets.contains(&Target::Node(node)) && (from + 1 != node || port > 0) {
                let name = &graph.info(task.nodes[from]).name;
                return format!(" <- {name}{}", port_suffix(port));
            }
        }
    }
    String::new()
}

fn targets_suffix(targets: &[Vec<Target>; 2]) -> String {
    let mut out = String::new();
    for (port, targets) in targets.iter().enumerate() {
        for target in targets {
            if let Target::Task { task, .. } = target {
                let _ = write!(out, " -> task {task}{}", port_suffix(port));
            }
        }
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "'")
}

impl Partition {
    /// True if every sender sends to every receiver.
    pub(crate) fn is_all_to_all(self) -> bool {
        matches!(self, Partition::Hash | Partition::Rebalance | Partition::Broadcast)
    }
}
