//! Hugging Face folders: `config.json`, weights as `*.safetensors`, a tokenizer, and folders of sentence-transformers' modules.

use std::path::{Path, PathBuf};

use super::{Sight, cannot_read, is_hidden};

/// What stands for the model file of such a folder.
const CONFIG: &str = "config.json";

/// The file of all weights. Where it is there, other files of weights are other forms of them.
const WEIGHTS: &str = "model.safetensors";

/// Ends of files that hold weights as a pickle, by PyTorch.
const PICKLED: [&str; 5] = [".bin", ".pt", ".pth", ".ckpt", ".pkl"];

/// Whether a model file is that of a Hugging Face folder.
pub(in crate::repository) fn is_folder_model(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == CONFIG)
}

/// Whether the file at `path` within such a folder, one of `all` that are directly in it, is the model's: what it is loaded from,
/// and what its tokenizer is. Repositories hold the same weights for other engines too.
pub(in crate::repository) fn is_of_model<'a>(path: &str, mut all: impl Iterator<Item = &'a str>) -> bool {
    let is_text = |name: &str| [".json", ".txt", ".model"].iter().any(|end| name.ends_with(end));
    let is_weights = |name: &str| name.ends_with(".safetensors");
    match path.split_once('/') {
        None if is_weights(path) => path == WEIGHTS || !all.any(|name| name == WEIGHTS),
        None => is_text(path),
        // Modules are in folders such as 1_Pooling.
        Some((folder, name)) => {
            let is_module = folder.split_once('_').is_some_and(|(number, _)| number.parse::<u16>().is_ok());
            is_module && !name.contains('/') && (is_text(name) || is_weights(name))
        }
    }
}

/// The model file of `directory`, if it is such a folder; the error says what is missing for it to be one. `None` where nothing
/// in it is of such a folder.
pub(super) fn folder_model(sight: &dyn Sight, directory: &Path) -> Option<Result<PathBuf, String>> {
    let entries = match sight.entries(directory) {
        Ok(entries) => entries,
        Err(error) => return Some(Err(cannot_read(directory, &error))),
    };
    let names: Vec<String> = entries
        .into_iter()
        .filter(|entry| !is_hidden(&entry.name))
        .filter_map(|entry| entry.name.into_string().ok())
        .collect();
    let has_config = names.iter().any(|name| name == CONFIG);
    let weights = names.iter().find(|name| name.ends_with(".safetensors") || *name == "model.safetensors.index.json");
    let pickled = names.iter().find(|name| PICKLED.iter().any(|end| name.ends_with(end)));
    let shown = directory.display();
    Some(match (has_config, weights, pickled) {
        (true, Some(_), _) => Ok(directory.join(CONFIG)),
        (true, None, Some(pickled)) => Err(format!(
            "{shown}: its weights are pickled ({pickled}), and reading a pickle runs what is in it: save them as {WEIGHTS} \
             (save_pretrained does), and put that beside {CONFIG}"
        )),
        (true, None, None) => {
            Err(format!("{shown}: {CONFIG} has no weights beside it, expected {WEIGHTS}, or several with an index"))
        }
        (false, Some(weights), _) => {
            Err(format!("{shown}: {weights} has no {CONFIG} beside it, which says what model it is of"))
        }
        (false, None, _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_model_are_its_weights_texts_and_modules() {
        let all = ["config.json", "model.safetensors", "model.fp16.safetensors", "pytorch_model.bin"];
        let is_of = |path: &str, all: &[&str]| is_of_model(path, all.iter().copied());
        for path in [
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "vocab.txt",
            "1_Pooling/config.json",
            "2_Dense/model.safetensors",
        ] {
            assert!(is_of(path, &all), "{path}");
        }
        let others = [
            "model.fp16.safetensors",
            "pytorch_model.bin",
            "README.md",
            "onnx/model.onnx",
            "onnx/config.json",
            "1_Pooling/a/b.json",
        ];
        for path in others {
            assert!(!is_of(path, &all), "{path}");
        }
        let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        assert!(is_of(shards[1], &shards));
    }
}
