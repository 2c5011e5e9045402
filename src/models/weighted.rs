//! `NAME[:WEIGHT]`: how options and experiment files say of an adapter how much it counts.

/// A number behind the last colon is the weight; without one it is 1.
pub fn split_weight(text: &str) -> (&str, f64) {
    let weighted = text.rsplit_once(':').filter(|(name, _)| !name.is_empty());
    weighted.and_then(|(name, weight)| Some((name, weight.trim().parse().ok()?))).unwrap_or((text, 1.0))
}

/// The shortest text that [`split_weight`] reads as these.
pub fn join_weight(name: &str, weight: f64) -> String {
    // Without its weight, a name that ends in a number would be read as a weight.
    if weight == 1.0 && split_weight(name).1 == 1.0 { name.to_string() } else { format!("{name}:{weight}") }
}

/// As it stands in the names of strategies and on the page.
pub fn show_weight(name: &str, weight: f64) -> String {
    if weight == 1.0 { name.to_string() } else { format!("{name}-{weight}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_behind_the_last_colon_is_the_weight() {
        for (text, name, weight) in [
            ("ink.safetensors", "ink.safetensors", 1.0),
            ("a/ink.safetensors:0.8", "a/ink.safetensors", 0.8),
            ("ink.pt:-1", "ink.pt", -1.0),
            ("a:b/ink.pt", "a:b/ink.pt", 1.0),
            ("ink:1.5:2", "ink:1.5", 2.0),
            (":0.5", ":0.5", 1.0),
        ] {
            assert_eq!(split_weight(text), (name, weight), "{text}");
            assert_eq!(split_weight(&join_weight(name, weight)), (name, weight), "{text}");
        }
        assert_eq!(split_weight(&join_weight("ink:2", 1.0)), ("ink:2", 1.0));
        assert_eq!((show_weight("ink", 1.0), show_weight("ink", 0.5)), ("ink".to_string(), "ink-0.5".to_string()));
    }
}
