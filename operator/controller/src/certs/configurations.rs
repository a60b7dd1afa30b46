//! The authorities in the webhook configurations: without them the API server trusts nobody who answers for us.

use std::fmt::Debug;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::CertsError;

/// One webhook of a configuration: its name, and the authorities by which the API server judges who answers for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Webhook {
    name: String,
    bundle: Option<ByteString>,
}

/// A configuration of either kind.
pub(crate) trait Configuration {
    /// What the API server calls it, for messages.
    const KIND: &str;
    /// Its webhooks, in order.
    fn webhooks(&self) -> Vec<Webhook>;
}

impl Configuration for MutatingWebhookConfiguration {
    const KIND: &str = "MutatingWebhookConfiguration";

    fn webhooks(&self) -> Vec<Webhook> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks.map(|w| Webhook { name: w.name.clone(), bundle: w.client_config.ca_bundle.clone() }).collect()
    }
}

impl Configuration for ValidatingWebhookConfiguration {
    const KIND: &str = "ValidatingWebhookConfiguration";

    fn webhooks(&self) -> Vec<Webhook> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks.map(|w| Webhook { name: w.name.clone(), bundle: w.client_config.ca_bundle.clone() }).collect()
    }
}

/// Sees to it that every webhook of the configuration has exactly this bundle.
///
/// # Errors
/// When there is no such configuration, or the API server refuses to read or change it.
pub(crate) async fn publish<K>(client: &Client, name: &str, bundle: &str) -> Result<(), CertsError>
where
    K: Configuration + kube::Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope>,
    K: Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(client.clone());
    let found = api.get_opt(name).await.map_err(CertsError::api("reading the webhook configuration", name))?;
    let Some(configuration) = found else {
        return Err(CertsError::NoConfiguration { kind: K::KIND, name: name.to_owned() });
    };
    let operations = repairs(&configuration.webhooks(), bundle);
    if operations.is_empty() {
        return Ok(());
    }
    let patch = serde_json::from_value(Value::Array(operations)).map_err(CertsError::Patch)?;
    let patched = api.patch(name, &PatchParams::default(), &Patch::<()>::Json(patch)).await;
    patched.map_err(CertsError::api("writing the authorities into the webhook configuration", name))?;
    tracing::info!(kind = K::KIND, name, "authorities written into the webhook configuration");
    Ok(())
}

/// A JSON patch that gives every webhook the bundle. It names each webhook that it changes, so that it fails as a whole
/// rather than hits another one when somebody edits the list meanwhile.
fn repairs(webhooks: &[Webhook], bundle: &str) -> Vec<Value> {
    let bundle = ByteString(bundle.as_bytes().to_vec());
    let outdated = webhooks.iter().enumerate().filter(|(_, webhook)| webhook.bundle.as_ref() != Some(&bundle));
    let operations = outdated.flat_map(|(index, webhook)| {
        [
            json!({"op": "test", "path": format!("/webhooks/{index}/name"), "value": webhook.name}),
            json!({"op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": bundle}),
        ]
    });
    operations.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(name: &str, bundle: Option<&str>) -> Webhook {
        Webhook { name: name.into(), bundle: bundle.map(|text| ByteString(text.into())) }
    }

    #[test]
    fn webhooks_with_the_bundle_are_left_alone_and_others_repaired_by_name() {
        let webhooks = [webhook("good", Some("ca")), webhook("blank", None), webhook("stale", Some("old"))];
        let expected = json!([
            {"op": "test", "path": "/webhooks/1/name", "value": "blank"},
            {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": "Y2E="},
            {"op": "test", "path": "/webhooks/2/name", "value": "stale"},
            {"op": "add", "path": "/webhooks/2/clientConfig/caBundle", "value": "Y2E="},
        ]);
        assert_eq!(Value::Array(repairs(&webhooks, "ca")), expected);
    }

    #[test]
    fn nothing_is_written_when_nothing_is_wrong() {
        assert_eq!(repairs(&[webhook("a", Some("ca")), webhook("b", Some("ca"))], "ca"), Vec::<Value>::new());
    }
}
