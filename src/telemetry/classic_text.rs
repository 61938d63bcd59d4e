//! The classic text format of Prometheus, made from the OpenMetrics text.

/// Rewrites OpenMetrics text as the Prometheus text format, version 0.0.4: the classic format names a counter with its
/// suffix, and knows neither units nor the type `info` nor an end.
pub(super) fn classic_text(openmetrics: &str) -> String {
    let mut classic = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            classic.push_str(line);
            classic.push('\n');
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("HELP"), Some(_), text) => help = text,
            (Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    other => ("", other),
                };
                if let Some(help) = help.take() {
                    classic.push_str(&format!("# HELP {name}{suffix} {help}\n"));
                }
                classic.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
            }
            _ => {}
        }
    }
    classic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_infos_are_named_with_their_suffix_and_units_and_the_end_are_left_out() {
        let openmetrics = "# HELP pings Pings answered.\n\
             # TYPE pings counter\n\
             pings_total{kind=\"# a\"} 7\n\
             # HELP cpu_seconds CPU time.\n\
             # TYPE cpu_seconds counter\n\
             # UNIT cpu_seconds seconds\n\
             cpu_seconds_total 0.5\n\
             # HELP build Version.\n\
             # TYPE build info\n\
             build_info{version=\"1\"} 1\n\
             # HELP lag_seconds Lag.\n\
             # TYPE lag_seconds histogram\n\
             # UNIT lag_seconds seconds\n\
             lag_seconds_count 0\n\
             # EOF\n";
        let classic = "# HELP pings_total Pings answered.\n\
             # TYPE pings_total counter\n\
             pings_total{kind=\"# a\"} 7\n\
             # HELP cpu_seconds_total CPU time.\n\
             # TYPE cpu_seconds_total counter\n\
             cpu_seconds_total 0.5\n\
             # HELP build_info Version.\n\
             # TYPE build_info gauge\n\
             build_info{version=\"1\"} 1\n\
             # HELP lag_seconds Lag.\n\
             # TYPE lag_seconds histogram\n\
             lag_seconds_count 0\n";
        assert_eq!(classic_text(openmetrics), classic);
    }
}
