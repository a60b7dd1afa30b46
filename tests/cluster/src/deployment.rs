//! What a Deployment says about how to run its container, turned into a command line for a process on this machine.
//!
//! Pure. Whatever a kubelet would do and this doesn't know is an error, never ignored: otherwise a chart that needs it would
//! pass the tests and fail in a cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The pod that a process pretends to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pod<'a> {
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
}

/// How to start the container as a process.
#[derive(Debug, PartialEq)]
pub(crate) struct Launch {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) account: String,
    /// Path and port of the readiness probe.
    pub(crate) ready: (String, u16),
    /// What must be written to disk before the start.
    pub(crate) mounts: Vec<Mount>,
}

/// A mounted volume and the folder that stands for its mount path.
#[derive(Debug, PartialEq)]
pub(crate) struct Mount {
    pub(crate) source: Source,
    pub(crate) folder: PathBuf,
}

/// Where the files of a volume come from.
#[derive(Debug, PartialEq)]
pub(crate) enum Source {
    ConfigMap(String),
    Secret { name: String, optional: bool },
    Empty,
}

/// Reads the only container of `deployment`. Volumes go to folders below `volumes`.
pub(crate) fn read(deployment: &Deployment, pod: Pod<'_>, volumes: &Path) -> Result<Launch> {
    let spec = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).context("the Deployment has no pod spec")?;
    let [container] = spec.containers.as_slice() else { bail!("the Deployment has {} containers, not 1", spec.containers.len()) };
    if spec.init_containers.as_ref().is_some_and(|init| !init.is_empty()) || container.env_from.is_some() {
        bail!("the Deployment has initContainers or envFrom, which this harness doesn't run");
    }
    let mounts = mounts(spec, container, volumes)?;
    let env = env(container, pod, spec)?;
    let paths: BTreeMap<&str, &Path> = mounts.iter().map(|(path, mount)| (path.as_str(), mount.folder.as_path())).collect();
    let args = container.args.iter().flatten().map(|arg| relocate(&expand(arg, &env), &paths)).collect();
    let env = env.into_iter().map(|(name, value)| (name, relocate(&value, &paths))).collect();
    Ok(Launch {
        args,
        env,
        account: spec.service_account_name.clone().unwrap_or_else(|| "default".to_owned()),
        ready: readiness(container)?,
        mounts: mounts.into_iter().map(|(_, mount)| mount).collect(),
    })
}

fn mounts(spec: &PodSpec, container: &Container, volumes: &Path) -> Result<Vec<(String, Mount)>> {
    let declared = spec.volumes.iter().flatten();
    let by_name: BTreeMap<&str, &Volume> = declared.map(|volume| (volume.name.as_str(), volume)).collect();
    let mounted = container.volume_mounts.iter().flatten();
    let read = mounted.map(|mount| {
        let volume =
            by_name.get(mount.name.as_str()).with_context(|| format!("volume {} is mounted but not declared", mount.name))?;
        if mount.sub_path.is_some() {
            bail!("volume {} is mounted by subPath, which this harness doesn't do", mount.name);
        }
        let mount_path = mount.mount_path.trim_end_matches('/').to_owned();
        Ok((mount_path, Mount { source: source(volume)?, folder: volumes.join(&volume.name) }))
    });
    read.collect()
}

fn source(volume: &Volume) -> Result<Source> {
    match (&volume.config_map, &volume.secret, &volume.empty_dir) {
        (Some(map), None, None) if map.items.is_none() => Ok(Source::ConfigMap(map.name.clone())),
        (None, Some(secret), None) if secret.items.is_none() => {
            let name = secret.secret_name.clone().with_context(|| format!("volume {} has no secretName", volume.name))?;
            Ok(Source::Secret { name, optional: secret.optional.unwrap_or(false) })
        }
        (None, None, Some(_)) => Ok(Source::Empty),
        _ => bail!("volume {} is not a whole ConfigMap, a whole Secret or an emptyDir", volume.name),
    }
}

fn env(container: &Container, pod: Pod<'_>, spec: &PodSpec) -> Result<Vec<(String, String)>> {
    let mut env: Vec<(String, String)> = Vec::new();
    for EnvVar { name, value, value_from } in container.env.iter().flatten() {
        let field = value_from.as_ref().map(|source| source.field_ref.as_ref().map(|field| field.field_path.as_str()));
        let value = match field {
            None => expand(value.as_deref().unwrap_or_default(), &env),
            Some(Some("metadata.name")) => pod.name.to_owned(),
            Some(Some("metadata.namespace")) => pod.namespace.to_owned(),
            Some(Some("spec.serviceAccountName")) => spec.service_account_name.clone().unwrap_or_default(),
            Some(Some("status.podIP" | "status.hostIP")) => "127.0.0.1".to_owned(),
            Some(other) => bail!(
                "env {name} comes from {}, which this harness doesn't know",
                other.unwrap_or("something other than a field")
            ),
        };
        env.push((name.clone(), value));
    }
    Ok(env)
}

/// Replaces `$(NAME)` as a kubelet does: unknown names stay, `$$` is an escaped `$`.
fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        rest = match (after.strip_prefix('$'), reference) {
            (Some(escaped), _) => {
                expanded.push('$');
                escaped
            }
            (None, Some((name, tail))) => {
                let known = env.iter().rev().find(|(known, _)| known == name);
                expanded.push_str(&known.map_or_else(|| format!("$({name})"), |(_, value)| value.clone()));
                tail
            }
            (None, None) => {
                expanded.push('$');
                after
            }
        };
    }
    expanded + rest
}

/// Points paths below a mount path at the folder that stands for it.
fn relocate(text: &str, paths: &BTreeMap<&str, &Path>) -> String {
    // From the longest path to the shortest, so that a mount inside another wins.
    let mut by_length: Vec<_> = paths.iter().collect();
    by_length.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
    let inside = |path: &str| text == path || text.ends_with(&format!("={path}")) || text.contains(&format!("{path}/"));
    match by_length.into_iter().find(|(path, _)| inside(path)) {
        Some((path, folder)) => text.replacen(*path, &folder.display().to_string(), 1),
        None => text.to_owned(),
    }
}

fn readiness(container: &Container) -> Result<(String, u16)> {
    let probe = container.readiness_probe.as_ref().and_then(|probe| probe.http_get.as_ref());
    let probe = probe.context("the container has no HTTP readinessProbe")?;
    let port = match &probe.port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let port = container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            port.with_context(|| format!("the readinessProbe's port {name} is not among the container's ports"))?.container_port
        }
    };
    Ok((probe.path.clone().unwrap_or_else(|| "/".to_owned()), u16::try_from(port)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const POD: Pod<'_> = Pod { name: "muster-0", namespace: "muster-system" };

    fn launch(container: &Value, volumes: &Value) -> Result<Launch> {
        let deployment = json!({ "metadata": {}, "spec": { "selector": {}, "template": { "spec": {
            "serviceAccountName": "muster", "containers": [container], "volumes": volumes } } } });
        read(&serde_json::from_value(deployment).unwrap(), POD, Path::new("/state"))
    }

    #[test]
    fn args_env_mounts_and_probe_become_a_command_line() {
        let container = json!({
            "name": "operator",
            "args": ["--config=/etc/muster/config.yaml", "--name=$(POD_NAME)", "--literal=$$(POD_NAME)", "--unknown=$(NO)"],
            "env": [
                { "name": "POD_NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                { "name": "BOTH", "value": "$(POD_NAME).x" },
            ],
            "ports": [{ "name": "health", "containerPort": 8081 }],
            "readinessProbe": { "httpGet": { "path": "/readyz", "port": "health" } },
            "volumeMounts": [{ "name": "config", "mountPath": "/etc/muster" }],
        });
        let launch = launch(&container, &json!([{ "name": "config", "configMap": { "name": "muster-config" } }])).unwrap();
        let args = ["--config=/state/config/config.yaml", "--name=muster-0", "--literal=$(POD_NAME)", "--unknown=$(NO)"];
        assert_eq!(launch.args, args);
        assert_eq!(launch.env, [("POD_NAME".into(), "muster-0".into()), ("BOTH".into(), "muster-0.x".into())]);
        assert_eq!(launch.ready, ("/readyz".into(), 8081));
        assert_eq!(launch.account, "muster");
        let mount = Mount { source: Source::ConfigMap("muster-config".into()), folder: "/state/config".into() };
        assert_eq!(launch.mounts, [mount]);
    }

    #[test]
    fn a_volume_that_only_a_kubelet_can_provide_is_refused() {
        let container = json!({
            "name": "operator",
            "readinessProbe": { "httpGet": { "port": 1 } },
            "volumeMounts": [{ "name": "disk", "mountPath": "/data" }],
        });
        let error = launch(&container, &json!([{ "name": "disk", "hostPath": { "path": "/data" } }])).unwrap_err();
        assert!(error.to_string().contains("volume disk"), "{error}");
    }
}
