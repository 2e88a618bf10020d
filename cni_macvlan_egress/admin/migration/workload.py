"""What a router's pod stands in: a bare Pod, or an object that makes pods; and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence

from ...protocol.errors import UNSUPPORTED_FIELD, CniError
from . import asking, router_object, router_pod, service
from .environment import ConfigMaps
from .manifest import Object, section, sections, strings, title, without, word, words
from .report import Report
from .router_pod import Options, Template

_ROUTER_OBJECT = "EgressRouter"
_DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment"}
# Kinds with one template of pods and a number of replicas.
_REPLICATED = ("Deployment", "DeploymentConfig", "ReplicaSet", "ReplicationController", "StatefulSet")
_OTHERS = ("CronJob", "DaemonSet", "Job")
_WRITTEN_BY_CLUSTERS = (
    "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generateName", "generation",
    "managedFields", "ownerReferences", "resourceVersion", "selfLink", "uid",
)  # fmt: skip
# Labels that a controller gives each generation of its pods.
_GENERATIONS = ("controller-revision-hash", "deployment", "deploymentconfig", "pod-template-hash")
_OF_ANY_DEPLOYMENT = ("minReadySeconds", "paused", "progressDeadlineSeconds", "revisionHistoryLimit")


class Migration:
    """One run over the objects of some manifests."""

    def __init__(self, documents: Sequence[Object], options: Options) -> None:
        self._documents = documents
        self._options = options
        self._config_maps = ConfigMaps(documents)

    def concerns(self, document: Object) -> bool:
        """Whether an object is an egress router, or makes one.

        Raises:
            CniError: DECODING_FAILURE for an object without its form; UNSUPPORTED_FIELD for a template of objects.
        """
        kind = document["kind"]
        if kind == "Template":
            if not any(self.concerns({"kind": "", **one}) for one in sections(document, "objects")):
                return False
            raise CniError(
                UNSUPPORTED_FIELD,
                "a template has to be processed first: oc process -f FILE | macvlan-egress migrate -f -",
            )
        if kind == _ROUTER_OBJECT:
            return word(document, "apiVersion").startswith(router_object.API)
        template = _template(document)
        namespace = word(section(document, "metadata"), "namespace")
        return template is not None and router_pod.is_router(
            section(template, "spec"), self._config_maps, namespace
        )

    def migrate(self, document: Object, report: Report) -> list[Object]:
        """What stands in an object's place.

        Raises:
            CniError: it cannot be carried over; says why and what to do.
        """
        metadata = section(document, "metadata")
        if owners := metadata.get("ownerReferences"):
            owner = owners[0] if isinstance(owners, list) and isinstance(owners[0], dict) else {}
            report.warning(
                f"{owner.get('kind')} {owner.get('name')} made it, and makes another when it is gone: migrate that"
            )
        if document["kind"] == _ROUTER_OBJECT:
            return self._placed(document, router_object.migrate(document, self._options, report), report)
        template = _template(document)
        if template is None or document["kind"] in _OTHERS:
            raise CniError(
                UNSUPPORTED_FIELD,
                f"a {document['kind']} cannot hold an address of its own for good; make a Pod or a Deployment of it",
            )
        migrated = router_pod.migrate(
            section(template, "metadata"),
            section(template, "spec"),
            word(metadata, "namespace"),
            self._config_maps,
            self._options,
            report,
        )
        return self._placed(document, migrated, report)

    def _placed(self, document: Object, template: Template, report: Report) -> list[Object]:
        kind = document["kind"]
        if not self._options.deployment:
            if kind in _REPLICATED:
                return [_replicated(document, template, report)]
            return [_pod(document, template)]
        workload = (
            _replicated(document, template, report)
            if kind == "Deployment"
            else _deployment(document, template, report)
        )
        labels = strings(section(section(section(workload, "spec"), "template"), "metadata"), "labels")
        metadata = section(workload, "metadata")
        name, namespace = word(metadata, "name"), word(metadata, "namespace")
        if present := service.leading_to(labels, namespace, self._documents):
            report.note(f"{present} leads to it; no other is made")
            return [workload]
        selector = strings(section(section(workload, "spec"), "selector"), "matchLabels")
        return [workload, service.of(name, namespace, selector, template, report)]


def _template(document: Object) -> Object | None:
    if document["kind"] == "Pod":
        return document
    if document["kind"] in _REPLICATED + _OTHERS:
        spec = section(document, "spec")
        if document["kind"] == "CronJob":
            spec = section(section(spec, "jobTemplate"), "spec")
        return section(spec, "template")
    return None


def _pod(document: Object, template: Template) -> Object:
    metadata = _own(template.metadata)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": _named(document, metadata), "spec": template.spec}


def _replicated(document: Object, template: Template, report: Report) -> Object:
    """The same object with the new template, one replica, and no two pods at a time."""
    spec = dict(section(document, "spec"))
    if spec.get("replicas", 1) not in (0, 1):
        report.warning(f"replicas: {spec['replicas']} becomes 1: an address has one holder")
    spec["replicas"] = 0 if spec.get("replicas") == 0 else 1
    if document["kind"] in ("Deployment", "DeploymentConfig"):
        if (kind := word(section(spec, "strategy"), "type")) != "Recreate":
            report.note(
                f"strategy: {kind or 'the default'} becomes Recreate: the old pod ends before the new one starts"
            )
            spec["strategy"] = {"type": "Recreate"}
        spec = _without_image_triggers(spec, template, report)
    spec["template"] = {"metadata": _own(template.metadata), "spec": _restarting(template.spec, report)}
    found = {**without(document, "status"), "metadata": _own(section(document, "metadata")), "spec": spec}
    if document["kind"] in ("ReplicaSet", "ReplicationController"):
        report.note(
            f"a {document['kind']} leaves the pod that it has: delete that for the new one to be made"
        )
    return found


def _without_image_triggers(spec: Object, template: Template, report: Report) -> Object:
    """A DeploymentConfig's trigger would put the router's image back."""
    before, after = (_images(one) for one in (section(section(spec, "template"), "spec"), template.spec))
    changed = {name for name, image in before.items() if after.get(name) != image}
    left = [
        one
        for one in sections(spec, "triggers")
        if changed.isdisjoint(words(section(one, "imageChangeParams"), "containerNames"))
    ]
    if len(left) < len(sections(spec, "triggers")):
        report.warning(f"triggers of type ImageChange for {', '.join(sorted(changed))} are left out")
        return {**spec, "triggers": left}
    return spec


def _images(spec: Object) -> dict[str, str]:
    return {word(one, "name"): word(one, "image") for one in sections(spec, "containers")}


def _deployment(document: Object, template: Template, report: Report) -> Object:
    old = section(document, "spec") if document["kind"] in _REPLICATED else {}
    metadata = _named(document, _own(section(document, "metadata")))
    inner = _own(template.metadata)
    labels = {k: v for k, v in strings(inner, "labels").items() if k not in _GENERATIONS} or {
        "app": metadata["name"]
    }
    if lost := [
        key for key in old if key not in (*_OF_ANY_DEPLOYMENT, "replicas", "selector", "template", "strategy")
    ]:
        report.warning(f"{', '.join(lost)}: not carried over: a Deployment has no such field")
    if section(inner, "labels").items() != labels.items():
        report.note(f"the Deployment's pods are labelled {', '.join(f'{k}={v}' for k, v in labels.items())}")
    spec = {
        "replicas": 1,
        **{key: old[key] for key in _OF_ANY_DEPLOYMENT if key in old},
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels, **without(inner, "name", "namespace", "labels")},
            "spec": _restarting(template.spec, report),
        },
    }
    # The pod's own annotations are the template's.
    outer = metadata if document["kind"] in _REPLICATED else without(metadata, "annotations")
    return {**_DEPLOYMENT, "metadata": outer, "spec": spec}


def _restarting(spec: Object, report: Report) -> Object:
    if (policy := word(spec, "restartPolicy")) in ("", "Always"):
        return spec
    report.warning(f"restartPolicy: {policy} becomes Always: what is replicated knows no other")
    return {**spec, "restartPolicy": "Always"}


def _own(metadata: Object) -> Object:
    """Metadata without what the cluster writes."""
    found = without(metadata, *_WRITTEN_BY_CLUSTERS)
    if "annotations" in found:
        found["annotations"] = asking.kept(strings(found, "annotations"))
        if not found["annotations"]:
            del found["annotations"]
    return found


def _named(document: Object, metadata: Object) -> Object:
    name = word(metadata, "name") or word(section(document, "metadata"), "generateName").rstrip("-")
    if not name:
        raise CniError(UNSUPPORTED_FIELD, f"{title(document)}: metadata.name: it has no name")
    return {"name": name, **without(metadata, "name")}
