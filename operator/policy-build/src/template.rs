//! New projects.

use std::path::PathBuf;

use crate::{Language, World};

const WIT: &str = include_str!("../../../wit/policy.wit");
/// The exact versions of what `package.json` asks for, and of what that asks for: one file for every project.
const NPM_LOCK: &str = include_str!("../../../examples/policies/js/package-lock.json");

/// The files of a new project, by their paths in its folder. It builds as it is. `name` must be what `policy.name` may be.
pub fn template(language: Language, name: &str, world: World) -> Vec<(PathBuf, String)> {
    let fill = |text: &str| fill(text, language, name, world);
    let mut files: Vec<(&str, String)> = sources(language, world).into_iter().map(|(path, text)| (path, fill(text))).collect();
    let load = if fits_config_map(language) {
        include_str!("../templates/load-configmap")
    } else {
        include_str!("../templates/load-oci")
    };
    files.push(("README.md", fill(&include_str!("../templates/README.md").replace("{{load}}", load.trim_end()))));
    files.push((".gitignore", include_str!("../templates/gitignore").to_owned()));
    let scenario = match world {
        World::PlacementPolicy => include_str!("../templates/scenarios/placement.yaml"),
        World::StartupPolicy => include_str!("../templates/scenarios/startup.yaml"),
    };
    files.push(("scenarios/first.yaml", scenario.to_owned()));
    files.push(("wit/policy.wit", WIT.to_owned()));
    if language == Language::Js {
        files.push(("package-lock.json", NPM_LOCK.to_owned()));
    }
    files.into_iter().map(|(path, text)| (PathBuf::from(path), text)).collect()
}

/// The files that differ from language to language.
fn sources(language: Language, world: World) -> Vec<(&'static str, &'static str)> {
    macro_rules! either {
        ($placement:literal, $startup:literal) => {
            match world {
                World::PlacementPolicy => include_str!(concat!("../templates/", $placement)),
                World::StartupPolicy => include_str!(concat!("../templates/", $startup)),
            }
        };
    }
    match language {
        Language::Rust => vec![
            ("policy.toml", include_str!("../templates/rust/policy.toml")),
            ("Cargo.toml", include_str!("../templates/rust/Cargo.toml")),
            ("src/lib.rs", either!("rust/placement.rs", "rust/startup.rs")),
        ],
        Language::Go => vec![
            ("policy.toml", include_str!("../templates/go/policy.toml")),
            ("go.mod", include_str!("../templates/go/go.mod")),
            ("policy.go", either!("go/placement.go", "go/startup.go")),
        ],
        Language::Js => vec![
            ("policy.toml", include_str!("../templates/js/policy.toml")),
            ("package.json", include_str!("../templates/js/package.json")),
            ("policy.js", either!("js/placement.js", "js/startup.js")),
        ],
        Language::Python => vec![
            ("policy.toml", include_str!("../templates/python/policy.toml")),
            ("requirements.txt", include_str!("../templates/python/requirements.txt")),
            ("policy.py", either!("python/placement.py", "python/startup.py")),
        ],
        Language::C => vec![
            ("policy.toml", include_str!("../templates/c/policy.toml")),
            ("requirements.txt", include_str!("../templates/c/requirements.txt")),
            ("policy.c", either!("c/placement.c", "c/startup.c")),
        ],
    }
}

fn fits_config_map(language: Language) -> bool {
    matches!(language, Language::Rust | Language::C)
}

fn fill(text: &str, language: Language, name: &str, world: World) -> String {
    let (kind, annotation) = match world {
        World::PlacementPolicy => ("placement", "muster.dev/placement-policy"),
        World::StartupPolicy => ("startup", "muster.dev/startup-policy"),
    };
    let (full_name, size) = match language {
        Language::Rust => ("Rust", "100 KB"),
        Language::Go => ("Go", "3 MB"),
        Language::Js => ("JavaScript", "12 MB"),
        Language::Python => ("Python", "18 MB"),
        Language::C => ("C", "50 KB"),
    };
    let ident = name.replace('-', "_");
    let values = [
        ("{{name}}", name),
        ("{{ident}}", ident.as_str()),
        ("{{world}}", world.name()),
        ("{{world_}}", &world.name().replace('-', "_")),
        ("{{kind}}", kind),
        ("{{object}}", world.object()),
        ("{{resource}}", &world.object().to_lowercase()),
        ("{{annotation}}", annotation),
        ("{{language}}", full_name),
        ("{{source}}", language.source()),
        ("{{needs}}", language.needs()),
        ("{{size}}", size),
    ];
    values.iter().fold(text.to_owned(), |text, (variable, value)| text.replace(variable, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;

    /// Braces that Go writes itself are followed by capital letters or none.
    fn has_blank(text: &str) -> bool {
        text.match_indices("{{").any(|(at, _)| text[at + 2..].starts_with(|next: char| next.is_ascii_lowercase()))
    }

    #[test]
    fn every_new_project_has_a_recipe_that_is_read_and_no_blank_left_to_fill() {
        for language in Language::ALL {
            for world in [World::PlacementPolicy, World::StartupPolicy] {
                let folder = tempfile::tempdir().unwrap();
                for (path, text) in template(language, "my-policy", world) {
                    assert!(!has_blank(&text), "{language} {}: {text}", path.display());
                    let path = folder.path().join(path);
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, text).unwrap();
                }
                let recipe = Recipe::read(folder.path()).unwrap();
                assert_eq!((recipe.policy.language, recipe.policy.world), (language, world));
                assert_eq!(recipe.policy.name, "my-policy");
            }
        }
    }
}
