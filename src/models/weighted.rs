//! `NAME[:WEIGHT]`: how options and experiment files say of an adapter how much it counts, and of several, joined by ` + `.

use std::path::Path;

use super::files::LORA_FILES;

/// What stands between several of them.
pub const AND: &str = " + ";

/// What a text joins by [`AND`].
pub fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(AND).map(str::trim).filter(|part| !part.is_empty())
}

/// In few words: without folder and ending; a file that is called as all others of its kind are has its folder's name.
pub fn file_name(path: &Path) -> String {
    let folder = path.parent().filter(|_| LORA_FILES.iter().any(|usual| path.ends_with(usual)));
    let folder = folder.and_then(Path::file_name);
    folder.or_else(|| path.file_stem()).unwrap_or_default().to_string_lossy().into_owned()
}

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
    fn a_file_is_called_by_what_tells_it_from_others() {
        for (path, name) in [
            ("ink.safetensors", "ink"),
            ("a/ink.safetensors", "ink"),
            ("a/ink/pytorch_lora_weights.safetensors", "ink"),
            ("owner/ink", "ink"),
            ("owner/ink.v2/pytorch_lora_weights.bin", "ink.v2"),
            ("pytorch_lora_weights.safetensors", "pytorch_lora_weights"),
        ] {
            assert_eq!(file_name(Path::new(path)), name, "{path}");
        }
        assert_eq!(parts(" a + b:2 +  + c ").collect::<Vec<_>>(), ["a", "b:2", "c"]);
    }

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
