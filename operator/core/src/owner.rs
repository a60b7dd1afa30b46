//! Whose an object is: its controller, the one owner that answers for it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// The object's controller. The API server lets no object have two.
pub fn controller(object: &ObjectMeta) -> Option<&OwnerReference> {
    object.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// UID of the object's controller.
pub fn controller_uid(object: &ObjectMeta) -> Option<&str> {
    controller(object).map(|owner| owner.uid.as_str())
}

/// Whether the object's controller is the owner with this UID.
pub fn is_controlled_by(object: &ObjectMeta, uid: Option<&str>) -> bool {
    controller_uid(object).is_some_and(|controller| Some(controller) == uid)
}

/// The UID of the object's controller, if that is a pod of this name: of the present one, or of one before it.
pub fn pod_of_name<'a>(object: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    controller(object).filter(|owner| owner.kind == "Pod" && owner.name == name).map(|owner| owner.uid.as_str())
}
