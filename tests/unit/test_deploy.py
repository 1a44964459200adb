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
UNITS = sorted(DEPLOY.glob("*/*.service"))
COMPOSE = {
    path.parent.name: yaml.safe_load(path.read_text("utf-8")) for path in DEPLOY.glob("*/compose.yaml")
}
PROGRAMS = ("/opt/wattline/bin/wattline", "/usr/local/bin/nats-server")
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
    for services in (document["services"] for document in COMPOSE.values()):
        for service in services.values():
            given = {name for name in service.get("environment", ()) if name.startswith("WATTLINE_")}
            assert given <= known
            if service["image"].startswith("wattline"):
                assert service["image"] == f"wattline:{__version__}"
    text = "".join(path.read_text("utf-8") for path in UNITS)
    text += "".join(path.read_text("utf-8") for path in DEPLOY.glob("*/*.env"))
    assert set(re.findall(r"(WATTLINE_\w+)=", text)) <= known


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    program = need_program("systemd-analyze", "systemd")
    here = tmp_path / unit.name
    text = unit.read_text("utf-8")
    ours = str(Path(sys.executable).with_name("wattline"))
    for there, here_ in zip(PROGRAMS, (ours, sys.executable), strict=True):
        text = text.replace(there, here_)
    here.write_text(re.sub(r"^(User|Group)=nats\n", "", text, flags=re.MULTILINE))
    done = subprocess.run([program, "verify", here], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    here.write_text(here.read_text() + "\nNoSuchKey=1\n")
    done = subprocess.run([program, "verify", here], capture_output=True, text=True, timeout=60, check=False)
    assert "NoSuchKey" in done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_have_no_rights_beyond_what_they_need(unit: Path) -> None:
    """By what ``systemd-analyze security`` looks at; 1.5 or less of 10 is what these leave."""
    program = need_program("systemd-analyze", "systemd")
    said = subprocess.run(
        [program, "security", "--offline=true", "--threshold=20", "--no-pager", unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 0, said.stdout[-500:] + said.stderr


@pytest.mark.parametrize("part", COMPOSE)
def test_the_compose_files_are_hardened_and_know_whether_they_are_well(part: str) -> None:
    document = COMPOSE[part]
    for name, service in document["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["user"].split(":")[0] not in ("", "0", "root"), name
        assert service["restart"] in ("unless-stopped", "on-failure:5"), name
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}, name
        assert not service["image"].endswith(":latest"), name
        assert ":" in service["image"], name
        if not service["image"].startswith("wattline"):  # that one has its own
            assert isinstance(service["healthcheck"]["test"], str), "podman-compose splits lists of words"
        for file in service.get("env_file", ()):
            assert (DEPLOY / part / file).read_text("utf-8")
        for mount in service["volumes"]:
            source = mount.split(":")[0]
            assert source.startswith(".") or source in document["volumes"], mount


def test_files_of_settings_hold_comments_and_settings_alone() -> None:
    for file in DEPLOY.glob("*/*.env"):
        for line in file.read_text("utf-8").splitlines():
            assert re.fullmatch(r"|# .*|#?[A-Z_]+=\S.*", line), f"{file}: {line}"
