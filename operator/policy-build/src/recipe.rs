//! `policy.toml`: what a policy is and how it is built.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use crate::{BuildError, RECIPE};

/// A language that policies are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Rust, for `wasm32-unknown-unknown`.
    Rust,
    /// Go, by its own compiler.
    Go,
    /// JavaScript, on an engine that is part of the component.
    #[serde(alias = "javascript")]
    Js,
    /// Python, with the interpreter in the component.
    Python,
    /// C, by the clang in Zig.
    C,
}

impl Language {
    /// All of them, the smallest components first.
    pub const ALL: [Self; 5] = [Self::Rust, Self::C, Self::Go, Self::Js, Self::Python];

    /// As in `policy.toml` and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Go => "go",
            Self::Js => "js",
            Self::Python => "python",
            Self::C => "c",
        }
    }

    /// The file of a new project that an author goes on with.
    pub fn source(self) -> &'static str {
        match self {
            Self::Rust => "src/lib.rs",
            Self::Go => "policy.go",
            Self::Js => "policy.js",
            Self::Python => "policy.py",
            Self::C => "policy.c",
        }
    }

    /// What must be on the machine, as the end of a sentence: everything else is installed into the cache.
    pub fn needs(self) -> &'static str {
        match self {
            Self::Rust => "needs Rust with its target wasm32-unknown-unknown",
            Self::Go => "needs Go 1.24 or newer",
            Self::Js => "needs Node.js 20 or newer; installs componentize-js the first time",
            Self::Python => "needs Python 3.10 or newer; installs componentize-py the first time",
            Self::C => "needs Python 3.10 or newer; installs Zig's C compiler the first time",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Language {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|language| language.name() == text).ok_or_else(|| format!("{text:?} is none of {}", known()))
    }
}

/// A world of `policy.wit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// Where the units of a set go.
    PlacementPolicy,
    /// Which ranks of a group may exist.
    StartupPolicy,
}

impl World {
    /// Its name in `policy.wit`.
    pub fn name(self) -> &'static str {
        match self {
            Self::PlacementPolicy => "placement-policy",
            Self::StartupPolicy => "startup-policy",
        }
    }

    /// The kind of object in the Kubernetes API that takes policies of this world.
    pub fn object(self) -> &'static str {
        match self {
            Self::PlacementPolicy => "PlacementPolicy",
            Self::StartupPolicy => "StartupPolicy",
        }
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The content of a `policy.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What the policy is.
    pub policy: Policy,
    /// Tools that come from the language's own package registry.
    #[serde(default)]
    pub tools: Tools,
    /// How it is built.
    pub build: Build,
    /// What a call of it needs, where that is more than operators give unless told otherwise.
    #[serde(default)]
    pub limits: Limits,
}

/// What a call of the policy needs, as policy objects say it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Time, such as `200ms`.
    pub deadline: Option<String>,
    /// Memory, such as `128Mi`.
    pub memory: Option<String>,
}

/// What the policy is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name: lower-case letters, digits and hyphens, as names of objects.
    pub name: String,
    /// Its world.
    pub world: World,
    /// Its language.
    pub language: Language,
    /// The folder of `policy.wit`, from the project's; `wit` if not given.
    #[serde(default = "wit")]
    pub wit: PathBuf,
}

fn wit() -> PathBuf {
    PathBuf::from("wit")
}

/// Tools that come from the language's own package registry. They are installed once for all projects that ask for the same.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tools {
    /// A `package.json` with a `package-lock.json` beside it: what `npm ci` installs.
    pub npm: Option<PathBuf>,
    /// A `requirements.txt`: what `pip install` installs, into an environment of its own.
    pub pip: Option<PathBuf>,
}

/// How the policy is built. Texts may contain `${OUT}` (the component to write), `${MODULE}` (the core module to write), `${WIT}`
/// (the folder of policy.wit), `${WORLD}`, `${NAME}` and `${TARGET}` (a folder that compilers keep their work in).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Bindings to write to `bindings/` before the commands run.
    pub bindings: Option<Bindings>,
    /// Command lines, run in the project's folder with the tools in the path. `${CARGO}` as a program is a cargo that compiles to
    /// WebAssembly.
    pub commands: Vec<Vec<String>>,
    /// Variables of the commands' environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The core module that the commands write, if they don't write a component.
    pub module: Option<String>,
}

/// Languages that bindings are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bindings {
    /// A header and its source.
    C,
    /// Packages below the project's module.
    Go,
}

impl Recipe {
    /// Reads the recipe of the project in `folder`.
    ///
    /// # Errors
    /// When there is none, or it is faulty.
    pub fn read(folder: &Path) -> Result<Self, BuildError> {
        let path = folder.join(RECIPE);
        let text = fs::read_to_string(&path).map_err(|_| BuildError::NoRecipe(folder.to_owned()))?;
        Self::parse(&text).map_err(|message| BuildError::Recipe { path, message })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let recipe: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let name = &recipe.policy.name;
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(is_plain) || name.starts_with('-') || name.ends_with('-') {
            return Err(format!(
                "policy.name is {name:?}; it must be lower-case letters, digits and hyphens between them, as in \"node-pool\""
            ));
        }
        if recipe.build.commands.iter().any(Vec::is_empty) {
            return Err("build.commands has an empty command; each must begin with a program".to_owned());
        }
        Ok(recipe)
    }
}

/// What `${…}` stands for.
#[derive(Debug)]
pub(crate) struct Variables {
    wit: PathBuf,
    values: Vec<(&'static str, String)>,
}

impl Variables {
    pub(crate) fn new(recipe: &Recipe, project: &Path, cache: &Path, out: &Path) -> Self {
        let wit = project.join(&recipe.policy.wit);
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let values = vec![
            ("OUT", text(out)),
            ("WIT", text(&wit)),
            ("WORLD", recipe.policy.world.name().to_owned()),
            ("NAME", recipe.policy.name.clone()),
            ("TARGET", text(&cache.join("rust-target"))),
        ];
        Self { wit, values }
    }

    pub(crate) fn set_module(&mut self, module: &Path) {
        self.values.push(("MODULE", module.to_string_lossy().into_owned()));
    }

    /// The folder of `policy.wit`.
    pub(crate) fn wit(&self) -> &Path {
        &self.wit
    }

    /// The text with every known variable replaced. Unknown ones stay: a program may know them.
    pub(crate) fn fill(&self, text: &str) -> String {
        self.values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const GOOD: &str = r#"
        [policy]
        name = "local-ssd"
        world = "placement-policy"
        language = "go"
        [build]
        bindings = "go"
        commands = [["go", "build", "-o", "${MODULE}", "./bindings/component"]]
        env = { GOOS = "wasip1" }
        module = "target/policy.wasm"
    "#;

    #[test]
    fn a_recipe_says_what_the_policy_is_and_how_it_is_built() {
        let recipe = Recipe::parse(GOOD).unwrap();
        assert_eq!(recipe.policy.world, World::PlacementPolicy);
        assert_eq!(recipe.policy.language, Language::Go);
        assert_eq!(recipe.policy.wit, PathBuf::from("wit"));
        assert_eq!(recipe.build.bindings, Some(Bindings::Go));
        assert_eq!(recipe.build.env["GOOS"], "wasip1");
    }

    #[rstest]
    #[case::misspelt("bindings =", "binding =", "unknown field `binding`")]
    #[case::other_world("placement-policy", "scheduling-policy", "unknown variant `scheduling-policy`")]
    #[case::other_language("\"go\"\n        [build]", "\"cobol\"\n        [build]", "unknown variant `cobol`")]
    #[case::name("local-ssd", "Local SSD", "policy.name is \"Local SSD\"")]
    #[case::empty_command("[[\"go\", \"build\", \"-o\", \"${MODULE}\", \"./bindings/component\"]]", "[[]]", "an empty command")]
    fn a_faulty_recipe_names_the_fault(#[case] from: &str, #[case] to: &str, #[case] says: &str) {
        let error = Recipe::parse(&GOOD.replace(from, to)).unwrap_err();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn variables_are_replaced_and_unknown_ones_kept() {
        let recipe = Recipe::parse(GOOD).unwrap();
        let variables = Variables::new(&recipe, Path::new("/project"), Path::new("/cache"), Path::new("/project/target/x.wasm"));
        assert_eq!(
            variables.fill("-w ${WIT} ${WORLD} -o ${OUT} ${HOME}"),
            "-w /project/wit placement-policy -o /project/target/x.wasm ${HOME}"
        );
    }
}
