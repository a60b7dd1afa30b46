//! Installs the Helm chart the way its users do.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;

/// The release's name.
pub const RELEASE: &str = "muster";
/// The namespace that the operator is installed into.
pub const NAMESPACE: &str = "muster-system";

/// Installs or upgrades the chart with `values`, over those that every cluster here needs: admission by an address on loopback, because
/// the operator runs as a process and not in a pod, and therefore no pods.
///
/// # Errors
/// When Helm refuses the chart or the API server its objects; the message is theirs.
pub async fn install_chart(plane: &ControlPlane, values: &Value) -> Result<()> {
    let ports = plane.ports();
    let mut merged = json!({
        "replicas": 0,
        "webhook": { "url": format!("https://127.0.0.1:{}", ports.webhook), "port": ports.webhook },
        "health": { "port": ports.health },
    });
    merge(&mut merged, values);
    let file = plane.layout().state.join("values.json");
    fs::write(&file, serde_json::to_string_pretty(&merged)?).with_context(|| format!("writing {}", file.display()))?;

    let chart = plane.layout().root.join("deploy/helm");
    // As the chart's README tells those who upgrade: Helm installs CRDs once and never touches them again.
    let crds = chart.join("crds").canonicalize().with_context(|| format!("{}/crds is missing", chart.display()))?;
    let mut kubectl = Command::new(plane.layout().controlplane());
    kubectl.arg("kubectl").arg("apply").arg("--server-side").arg("--force-conflicts").arg("-f").arg(crds);
    let mut helm = Command::new(plane.layout().helm());
    helm.args(["upgrade", "--install", RELEASE]).arg(&chart).args(["--namespace", NAMESPACE, "--create-namespace"]);
    helm.arg("--values").arg(&file);
    if fs::metadata(plane.layout().state.join("installed")).is_ok() {
        run(plane, kubectl, "applying the CRDs").await?;
    }
    run(plane, helm, "installing the chart").await?;
    fs::write(plane.layout().state.join("installed"), "")?;
    Ok(())
}

async fn run(plane: &ControlPlane, mut command: Command, what: &str) -> Result<()> {
    let helm_home = plane.layout().state.join("helm");
    command.env("KUBECONFIG", plane.layout().kubeconfig());
    for (variable, folder) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")] {
        command.env(variable, helm_home.join(folder));
    }
    let output = tokio::process::Command::from(command).output().await.with_context(|| what.to_owned())?;
    if !output.status.success() {
        bail!("{what} failed:\n{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Lays `over` on `base`, object by object; anything else is replaced.
pub fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_merged_object_by_object() {
        let mut base = json!({ "webhook": { "url": "u", "port": 1 }, "replicas": 0 });
        merge(&mut base, &json!({ "webhook": { "port": 2 }, "log": { "level": "debug" } }));
        assert_eq!(base, json!({ "webhook": { "url": "u", "port": 2 }, "replicas": 0, "log": { "level": "debug" } }));
    }
}
