use std::fmt::Write as _;

/// Prometheus text: metrics in the order in which they are told.
#[derive(Default)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    pub fn counter(&mut self, name: &str, help: &str, samples: &[(&[(&str, &str)], f64)]) {
        self.metric("counter", name, help, samples);
    }

    pub fn gauge(&mut self, name: &str, help: &str, samples: &[(&[(&str, &str)], f64)]) {
        self.metric("gauge", name, help, samples);
    }

    fn metric(&mut self, kind: &str, name: &str, help: &str, samples: &[(&[(&str, &str)], f64)]) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let labels: Vec<String> =
                labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(self.text, "{name}{labels} {value}");
        }
    }

    /// Metrics of another process, told as they are.
    pub fn append(&mut self, text: &str) {
        self.text.push_str(text);
        if !text.is_empty() && !text.ends_with('\n') {
            self.text.push('\n');
        }
    }

    pub fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_prometheus_text() {
        let mut metrics = Metrics::default();
        metrics.counter("a_total", "As.", &[(&[("source", "l\"1\n")], 3.0), (&[], 0.5)]);
        metrics.append("b 1");
        assert_eq!(
            metrics.into_text(),
            "# HELP a_total As.\n# TYPE a_total counter\na_total{source=\"l\\\"1\\n\"} 3\na_total 0.5\nb 1\n"
        );
    }
}
