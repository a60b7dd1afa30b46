//! What the Kubernetes API says about its types and our bindings don't: how lists and maps merge under server-side apply, and
//! defaults.
//!
//! Both were read from the Go types of v1.36 (`+listType`, `+listMapKey`, `+structType`, `+mapType`, `+default`). Without the first,
//! two owners of one list would overwrite each other; without the second, an entry couldn't be told by a key that was left out.
//! Upstream's definitions have the same defaults, so a set reads the same under either.

use serde_json::{Map, Value, json};

/// Name of the type of all metadata.
pub(super) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// Name of the type of amounts: `8`, `"500m"`, `"2Gi"`.
pub(super) const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
/// What an amount that is written as a string looks like.
pub(super) const QUANTITY_PATTERN: &str =
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// How several owners share a list or a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merge {
    /// A list that is replaced as a whole.
    Atomic,
    /// A list of distinct values.
    Set,
    /// A list of entries that are told apart by these fields.
    Keyed(&'static [&'static str]),
    /// An object that is replaced as a whole.
    AtomicMap,
    /// An object whose fields merge one by one.
    GranularMap,
}

impl Merge {
    /// Adds the keywords to a schema.
    pub(super) fn write_to(self, node: &mut Map<String, Value>) {
        let (keyword, value) = match self {
            Self::Atomic => ("x-kubernetes-list-type", "atomic"),
            Self::Set => ("x-kubernetes-list-type", "set"),
            Self::Keyed(keys) => {
                node.insert("x-kubernetes-list-map-keys".into(), json!(keys));
                ("x-kubernetes-list-type", "map")
            }
            Self::AtomicMap => ("x-kubernetes-map-type", "atomic"),
            Self::GranularMap => ("x-kubernetes-map-type", "granular"),
        };
        node.insert(keyword.into(), value.into());
    }
}

/// How a field merges, by the full name of its type and its own.
pub(super) fn merge_of(owner: &str, field: &str) -> Option<Merge> {
    let owner = short(owner);
    FIELDS.iter().find(|(of, fields, _)| *of == owner && fields.contains(&field)).map(|(_, _, merge)| *merge)
}

/// How a type merges wherever it stands, by its full name.
pub(super) fn merge_of_type(name: &str) -> Option<Merge> {
    ATOMIC_TYPES.contains(&short(name)).then_some(Merge::AtomicMap)
}

/// Default of a field, by the full name of its type and its own.
pub(super) fn default_of(owner: &str, field: &str) -> Option<Value> {
    let default = match (short(owner), field) {
        ("ContainerPort", "protocol") => json!("TCP"),
        ("FileKeySelector", "optional") | ("AzureDiskVolumeSource", "readOnly") => json!(false),
        ("GRPCAction", "service") => json!(""),
        ("ISCSIVolumeSource", "iscsiInterface") => json!("default"),
        ("AzureDiskVolumeSource", "fsType") => json!("ext4"),
        ("RBDVolumeSource", "keyring") => json!("/etc/ceph/keyring"),
        ("RBDVolumeSource", "pool") => json!("rbd"),
        ("RBDVolumeSource", "user") => json!("admin"),
        ("ScaleIOVolumeSource", "fsType") => json!("xfs"),
        ("ScaleIOVolumeSource", "storageMode") => json!("ThinProvisioned"),
        (owner, "name") if LOCAL_REFERENCES.contains(&owner) => json!(""),
        _ => return None,
    };
    Some(default)
}

/// `PodSpec` of `io.k8s.api.core.v1.PodSpec`. No two types of the ones embedded share a short name.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Types that refer to an object of the same namespace by an optional name.
const LOCAL_REFERENCES: &[&str] = &[
    "ConfigMapEnvSource",
    "ConfigMapKeySelector",
    "ConfigMapProjection",
    "ConfigMapVolumeSource",
    "LocalObjectReference",
    "SecretEnvSource",
    "SecretKeySelector",
    "SecretProjection",
];

/// Types that are replaced as a whole wherever they stand.
const ATOMIC_TYPES: &[&str] = &[
    "ConfigMapKeySelector",
    "FileKeySelector",
    "LabelSelector",
    "LocalObjectReference",
    "NodeSelector",
    "NodeSelectorTerm",
    "ObjectFieldSelector",
    "ResourceFieldSelector",
    "SecretKeySelector",
    "TypedLocalObjectReference",
];

/// Type, fields, and how these merge.
const FIELDS: &[(&str, &[&str], Merge)] = &[
    ("Capabilities", &["add", "drop"], Merge::Atomic),
    ("CephFSVolumeSource", &["monitors"], Merge::Atomic),
    ("ConfigMapProjection", &["items"], Merge::Atomic),
    ("ConfigMapVolumeSource", &["items"], Merge::Atomic),
    ("Container", CONTAINER_ATOMIC, Merge::Atomic),
    ("Container", &["env"], Merge::Keyed(&["name"])),
    ("Container", &["ports"], Merge::Keyed(&["containerPort", "protocol"])),
    ("Container", &["volumeDevices"], Merge::Keyed(&["devicePath"])),
    ("Container", &["volumeMounts"], Merge::Keyed(&["mountPath"])),
    ("ContainerRestartRuleOnExitCodes", &["values"], Merge::Set),
    ("DownwardAPIProjection", &["items"], Merge::Atomic),
    ("DownwardAPIVolumeSource", &["items"], Merge::Atomic),
    ("EphemeralContainer", CONTAINER_ATOMIC, Merge::Atomic),
    ("EphemeralContainer", &["env"], Merge::Keyed(&["name"])),
    ("EphemeralContainer", &["ports"], Merge::Keyed(&["containerPort", "protocol"])),
    ("EphemeralContainer", &["volumeDevices"], Merge::Keyed(&["devicePath"])),
    ("EphemeralContainer", &["volumeMounts"], Merge::Keyed(&["mountPath"])),
    ("ExecAction", &["command"], Merge::Atomic),
    ("FCVolumeSource", &["targetWWNs", "wwids"], Merge::Atomic),
    ("HTTPGetAction", &["httpHeaders"], Merge::Atomic),
    ("HostAlias", &["hostnames"], Merge::Atomic),
    ("ISCSIVolumeSource", &["portals"], Merge::Atomic),
    ("LabelSelector", &["matchExpressions"], Merge::Atomic),
    ("LabelSelectorRequirement", &["values"], Merge::Atomic),
    ("NodeAffinity", &["preferredDuringSchedulingIgnoredDuringExecution"], Merge::Atomic),
    ("NodeSelector", &["nodeSelectorTerms"], Merge::Atomic),
    ("NodeSelectorRequirement", &["values"], Merge::Atomic),
    ("NodeSelectorTerm", &["matchExpressions", "matchFields"], Merge::Atomic),
    ("PersistentVolumeClaimSpec", &["accessModes"], Merge::Atomic),
    ("PersistentVolumeClaimStatus", &["accessModes"], Merge::Atomic),
    ("PersistentVolumeClaimStatus", &["allocatedResourceStatuses"], Merge::GranularMap),
    ("PersistentVolumeClaimStatus", &["conditions"], Merge::Keyed(&["type"])),
    ("PodAffinity", POD_AFFINITY, Merge::Atomic),
    ("PodAffinityTerm", &["matchLabelKeys", "mismatchLabelKeys", "namespaces"], Merge::Atomic),
    ("PodAntiAffinity", POD_AFFINITY, Merge::Atomic),
    ("PodDNSConfig", &["nameservers", "options", "searches"], Merge::Atomic),
    ("PodSecurityContext", &["supplementalGroups", "sysctls"], Merge::Atomic),
    ("PodSpec", &["containers", "ephemeralContainers", "initContainers", "volumes"], Merge::Keyed(&["name"])),
    ("PodSpec", &["imagePullSecrets", "resourceClaims", "schedulingGates"], Merge::Keyed(&["name"])),
    ("PodSpec", &["hostAliases"], Merge::Keyed(&["ip"])),
    ("PodSpec", &["topologySpreadConstraints"], Merge::Keyed(&["topologyKey", "whenUnsatisfiable"])),
    ("PodSpec", &["readinessGates", "tolerations"], Merge::Atomic),
    ("PodSpec", &["nodeSelector"], Merge::AtomicMap),
    ("ProjectedVolumeSource", &["sources"], Merge::Atomic),
    ("RBDVolumeSource", &["monitors"], Merge::Atomic),
    ("ResourceRequirements", &["claims"], Merge::Keyed(&["name"])),
    ("SecretProjection", &["items"], Merge::Atomic),
    ("SecretVolumeSource", &["items"], Merge::Atomic),
    ("TopologySpreadConstraint", &["matchLabelKeys"], Merge::Atomic),
];

const CONTAINER_ATOMIC: &[&str] = &["args", "command", "envFrom", "resizePolicy", "restartPolicyRules"];

const POD_AFFINITY: &[&str] =
    &["preferredDuringSchedulingIgnoredDuringExecution", "requiredDuringSchedulingIgnoredDuringExecution"];

/// Every type and field that the tables speak of.
#[cfg(test)]
pub(super) fn described() -> impl Iterator<Item = (&'static str, &'static str)> {
    let fields = FIELDS.iter().flat_map(|(owner, fields, _)| fields.iter().map(move |field| (*owner, *field)));
    let references = LOCAL_REFERENCES.iter().map(|owner| (*owner, "name"));
    fields.chain(references).chain(ATOMIC_TYPES.iter().map(|owner| (*owner, "")))
}
