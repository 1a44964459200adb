"""For operators: ``deploy``: Kubernetes manifests against its schemas, units as systemd reads them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app import __version__
from app.config import Settings
from tests.programs import need_program

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
KUSTOMIZATION = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text("utf-8"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
VERSIONS = ("1.30", "1.33")


def manifests() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{name}: {document['kind']}", document)
        for name in KUSTOMIZATION["resources"]
        for document in yaml.safe_load_all((KUBERNETES / name).read_text("utf-8"))
    ]


MANIFESTS = dict(manifests())
WORKLOADS = [m for _, m in manifests() if m["kind"] in ("Deployment", "StatefulSet")]


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_what_kubernetes_declares(version: str) -> None:
    for _, document in manifests():
        kubernetes_validate.validate(document, version, strict=True)


def test_a_key_that_kubernetes_does_not_know_is_found() -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**WORKLOADS[0], "spce": {}}, VERSIONS[0], strict=True)


def test_every_manifest_is_named() -> None:
    assert {*KUSTOMIZATION["resources"], "kustomization.yaml"} == {p.name for p in KUBERNETES.glob("*.yaml")}
    assert [image["newTag"] for image in KUSTOMIZATION["images"]] == [__version__]


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w["metadata"]["name"])
def test_pods_have_no_rights_and_are_looked_after(workload: dict[str, Any]) -> None:
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {f"{kind}Probe" for kind in ("startup", "liveness", "readiness")} <= container.keys()
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    claims = {c["metadata"]["name"] for c in workload["spec"].get("volumeClaimTemplates", ())}
    assert mounted == {volume["name"] for volume in pod["volumes"]} | claims
    assert (
        workload["spec"]["selector"]["matchLabels"].items()
        <= workload["spec"]["template"]["metadata"]["labels"].items()
    )


def test_a_budget_and_a_service_select_each_workload() -> None:
    labels = [w["spec"]["template"]["metadata"]["labels"] for w in WORKLOADS]
    for kind in ("Service", "PodDisruptionBudget"):
        chosen = [
            selector.get("matchLabels", selector)
            for _, m in manifests()
            if m["kind"] == kind
            for selector in [m["spec"]["selector"]]
        ]
        assert sorted(map(str, chosen)) == sorted(map(str, labels))


def test_settings_and_volumes_are_ones_that_exist() -> None:
    known = {f"WATTLINE_{name}".upper() for name in Settings.model_fields}
    for workload in WORKLOADS:
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        assert {variable["name"] for variable in container["env"]} <= known
    compose = (DEPLOY / "edge" / "compose.yaml").read_text("utf-8")
    edge = yaml.safe_load(compose)["services"]["edge"]
    assert edge["environment"].keys() <= known
    assert edge["image"] == f"wattline:{__version__}"
    text = "".join(path.read_text("utf-8") for path in UNITS)
    assert set(re.findall(r"(WATTLINE_\w+)=", text)) <= known


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    program = need_program("systemd-analyze", "systemd")
    here = tmp_path / unit.name
    text = unit.read_text("utf-8")
    assert "ExecStart=/opt/wattline/bin/wattline serve" in text
    here.write_text(
        text.replace("/opt/wattline/bin/wattline", str(Path(sys.executable).with_name("wattline")))
    )
    done = subprocess.run([program, "verify", here], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    here.write_text(here.read_text() + "\nNoSuchKey=1\n")
    done = subprocess.run([program, "verify", here], capture_output=True, text=True, timeout=60, check=False)
    assert "NoSuchKey" in done.stderr


def test_systemd_takes_the_unit_of_the_hub(tmp_path: Path) -> None:
    program = need_program("systemd-analyze", "systemd")
    here = tmp_path / "wattline-hub.service"
    text = (DEPLOY / "hub" / here.name).read_text("utf-8")
    here.write_text(
        text.replace("/usr/local/bin/nats-server", sys.executable).replace("User=nats\nGroup=nats\n", "")
    )
    done = subprocess.run([program, "verify", here], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_compose_file_of_the_hub_is_as_hardened_as_the_others() -> None:
    (hub,) = yaml.safe_load((DEPLOY / "hub" / "compose.yaml").read_text("utf-8"))["services"].values()
    assert hub["read_only"] is True
    assert hub["cap_drop"] == ["ALL"]
    assert hub["security_opt"] == ["no-new-privileges:true"]
    mounted = {volume.split(":")[0] for volume in hub["volumes"]}
    assert {"./nats.conf", "./users.conf", "./certs"} <= mounted
