"""Configuration files, checked by the programs that read them and against each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
import yaml

from app.cli.commands import app as cli
from app.config import Settings
from grafana.demo import RUNBOOK_URL, free_port, program, scraping, wait
from tests.programs import need_program

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana"
ALERTING = GRAFANA / "alerting"
RULES = sorted((GRAFANA / "prometheus" / "rules").glob("*.yml"))
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?")
"""A whole version, never a moving tag; a digest may follow."""


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


def run(*command: Path | str) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> dict[str, dict[str, Any]]:
    groups = [group for path in RULES for group in read(path)["groups"]]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def test_promtool_takes_the_rules_and_their_unit_tests() -> None:
    promtool = need_program("promtool", "prometheus")
    run(promtool, "check", "rules", *RULES)
    run(promtool, "test", "rules", GRAFANA / "prometheus" / "tests" / "alerts.yml")


def test_promtool_takes_the_configuration() -> None:
    run(need_program("promtool", "prometheus"), "check", "config", "--syntax-only", _prometheus())


def _prometheus() -> Path:
    return GRAFANA / "prometheus" / "prometheus.yml"


def test_an_alert_leads_to_its_entry_of_the_runbook(tmp_path: Path) -> None:
    with scraping(need_program("prometheus"), tmp_path, f"127.0.0.1:{free_port()}") as address:
        alerts = wait(lambda: httpx.get(f"{address}/api/v1/alerts").json()["data"]["alerts"], "an alert")
    found = {alert["labels"]["alertname"]: alert["annotations"]["runbook_url"] for alert in alerts}
    assert found == {"WattlineDown": f"{RUNBOOK_URL}#wattlinedown"}


def test_every_alert_has_a_unit_test_and_a_runbook_entry() -> None:
    tested = (GRAFANA / "prometheus" / "tests" / "alerts.yml").read_text("utf-8")
    headings = re.findall(r"^## (\w+)$", (GRAFANA / "RUNBOOK.md").read_text("utf-8"), re.MULTILINE)
    assert set(headings) == set(alerts())
    for name, rule in alerts().items():
        assert f"alertname: {name}" in tested
        assert rule["annotations"]["runbook_url"] == f"{{{{ $externalLabels.runbook }}}}#{name.lower()}"
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert re.search(r"[\u4e00-\u9fff]", rule["annotations"]["summary_zh"])


def test_grafana_has_the_same_alerts_with_no_data_and_errors_decided() -> None:
    groups = read(ALERTING / "provisioning" / "rules.yaml")["groups"]
    rules = {rule["title"]: rule for group in groups for rule in group["rules"]}
    assert set(rules) == set(alerts())
    assert len({rule["uid"] for rule in rules.values()}) == len(rules)
    for name, rule in rules.items():
        assert rule["noDataState"] == "OK"
        assert rule["execErrState"] == "Error"
        assert rule["for"] == alerts()[name].get("for", "0s")
        assert rule["condition"] in {step["refId"] for step in rule["data"]}
        assert "$" not in str(rule["data"]), "a dollar sign would be taken for a variable of the environment"
        assert not re.search(r"site\w*:wattline", rule["data"][0]["model"]["expr"]), "needs a recording rule"
        assert rule["labels"]["runbook"] == "$WATTLINE_RUNBOOK_URL", "Grafana fills it into labels alone"
        assert rule["annotations"]["runbook_url"] == f"{{{{ $labels.runbook }}}}#{name.lower()}"


def test_alerts_have_a_folder_of_their_own_and_boards_have_theirs_by_identifier() -> None:
    """Grafana finds the folder of alerts by title, and makes it first: with a board's title there are two."""
    providers = read(GRAFANA / "provisioning" / "dashboards" / "wattline.yaml")["providers"]
    identifiers = [provider["folderUid"] for provider in providers]
    assert len(set(identifiers)) == len(providers)
    alerting = {g["folder"] for g in read(ALERTING / "provisioning" / "rules.yaml")["groups"]}
    assert alerting == {"Wattline alerts"}
    assert not alerting & {provider["folder"] for provider in providers}


def test_alerts_are_raised_once(compose: dict[str, Any]) -> None:
    """By Prometheus; with the second file by Grafana, and then not by Prometheus."""

    def mounted(document: dict[str, Any], service: str) -> dict[str, str]:
        found = (mount.split(":") for mount in document["services"][service]["volumes"])
        return {parts[1]: parts[0] for parts in found}

    assert not any("alerting" in f"{a}{b}" for a, b in mounted(compose, "grafana").items())
    other = read(ROOT / "compose.grafana-alerts.yaml")
    assert mounted(other, "grafana") == {
        "/etc/grafana/provisioning/alerting": "./grafana/alerting/provisioning"
    }
    (instead,) = mounted(other, "prometheus").items()
    assert read(ROOT / instead[1]) == {"groups": []}
    rules = mounted(compose, "prometheus")["/etc/prometheus/rules"]
    assert (ROOT / rules / instead[0].removeprefix("/etc/prometheus/rules/")).is_file()
    assert other["services"]["alertmanager"]["profiles"]


def test_data_sources_are_those_that_rules_and_boards_use() -> None:
    sources = read(GRAFANA / "provisioning" / "datasources" / "wattline.yaml")["datasources"]
    by_type = {source["type"]: source for source in sources}
    assert by_type["grafana-postgresql-datasource"]["jsonData"]["timescaledb"] is True
    assert by_type["grafana-postgresql-datasource"]["user"] == "wattline_reader"
    assert by_type["prometheus"]["uid"] == "wattline-prometheus"


def test_amtool_takes_the_configuration_and_alertmanager_runs_with_it(tmp_path: Path) -> None:
    config = GRAFANA / "alertmanager" / "alertmanager.yml"
    run(need_program("amtool", "prometheus-alertmanager"), "check-config", config)
    port = free_port()
    command = [
        str(need_program("prometheus-alertmanager")),
        f"--config.file={config}",
        f"--storage.path={tmp_path}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    log = tmp_path / "alertmanager.log"
    amtool = need_program("amtool", "prometheus-alertmanager")
    here = f"--alertmanager.url=http://127.0.0.1:{port}"
    with program(command, log):
        wait(lambda: "Listening on" in log.read_text() or "address=127" in log.read_text(), "Alertmanager")
        status = run(amtool, here, "config", "show")
        for labels in (
            "WattlinePueBreach site=sh1 window=24h",
            "WattlinePueWarning site=sh1 window=24h",
            "WattlinePueWarning site=sh1 window=ytd",
            "WattlinePueWarning site=nb1 window=24h",
        ):
            run(amtool, here, "alert", "add", *labels.split())
        told = wait(lambda: _told(amtool, here), "inhibition")
    assert "receiver: operators" in status
    assert told == {
        ("WattlinePueBreach", "sh1", "24h"),
        ("WattlinePueWarning", "sh1", "ytd"),
        ("WattlinePueWarning", "nb1", "24h"),
    }, "a breach of a window covers the warning of that window and site, and no other"


def _told(amtool: Path, here: str) -> set[tuple[str, ...]]:
    """Alerts that go out, once the covered one is known as such."""
    shown = json.loads(run(amtool, here, "-o", "json", "alert", "query", "--active", "--inhibited"))
    states = {tuple(a["labels"][n] for n in ("alertname", "site", "window")): a["status"] for a in shown}
    out = {labels for labels, status in states.items() if not status["inhibitedBy"]}
    return out if len(states) == 4 and len(out) < 4 else set()


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = read(ROOT / "compose.yaml")
    return found


def test_images_are_pinned_and_containers_are_hardened(compose: dict[str, Any]) -> None:
    assert {"timescaledb", "wattline-api", "wattline-worker", "prometheus", "alertmanager", "grafana"} <= set(
        compose["services"]
    )
    for name, service in compose["services"].items():
        assert PINNED.fullmatch(service["image"]), name
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service["user"].startswith("0"), name
        assert "/tmp" in service["tmpfs"], name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), "published to the machine only"


def test_secrets_come_from_files_and_every_service_says_whether_it_is_well(compose: dict[str, Any]) -> None:
    assert all(set(secret) == {"file"} for secret in compose["secrets"].values())
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            is_secret = re.search("PASSWORD|TOKEN|URL", variable) and variable not in ADDRESSES
            assert not is_secret or value.startswith("/run/secrets/"), variable
        assert set(service.get("secrets", ())) <= set(compose["secrets"]), name
        checked = service.get("healthcheck") or service["image"].startswith("wattline")
        assert checked, name
        for condition in service.get("depends_on", {}):
            assert condition in compose["services"]


def test_the_readme_makes_the_secrets_that_compose_names(compose: dict[str, Any], tmp_path: Path) -> None:
    """Its commands word by word, as far as they need no containers; ``tests/containers`` runs the others."""
    (block,) = re.findall(r"```sh\n(install -d .*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    lines = [line for line in block.splitlines() if not line.startswith("docker ")]
    assert len(lines) < len(block.splitlines())
    (tmp_path / "site.yaml").write_text("")
    (tmp_path / "site.yaml").chmod(0o600)
    shutil.copytree(GRAFANA, tmp_path / "grafana")
    script = ["set -e", "umask 077", *lines]
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    secrets = tmp_path / "secrets"
    assert secrets.stat().st_mode & 0o777 == 0o700, "the folder keeps others out"
    files = {path.name: path.stat().st_mode & 0o777 for path in secrets.iterdir()}
    assert files == dict.fromkeys(compose["secrets"], 0o644) | {"first_key": 0o666}
    assert (tmp_path / "site.yaml").stat().st_mode & 0o004
    assert len((secrets / "audit_key").read_text().strip()) >= 32
    for name in ("database_url", "database_owner_url"):
        assert re.fullmatch(
            r"postgresql://\w+:[0-9a-f]{48}@timescaledb:5432/wattline\n", (secrets / name).read_text()
        )


ADDRESSES = ("WATTLINE_PUBLIC_URL", "WATTLINE_RUNBOOK_URL")
"""No secrets."""


def test_what_the_containers_mount_is_there(compose: dict[str, Any]) -> None:
    yours = {"./site.yaml", "./secrets/first_key"}
    for service in compose["services"].values():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert source in yours or source in compose["volumes"] or (ROOT / source).exists(), mount


def test_secrets_that_files_name_are_given_to_their_service(compose: dict[str, Any]) -> None:
    for service, paths in {
        "prometheus": [_prometheus()],
        "alertmanager": [GRAFANA / "alertmanager" / "alertmanager.yml"],
        "grafana": sorted(GRAFANA.glob("*/**/*.yaml")),
    }.items():
        for path in paths:
            used = set(re.findall(r"/run/secrets/(\w+)", path.read_text("utf-8")))
            assert used <= set(compose["services"][service]["secrets"]), path.name


PORTS = {
    "timescaledb": 5432,
    "wattline-api": 8080,
    "wattline-worker": 8080,
    "prometheus": 9090,
    "alertmanager": 9093,
    "grafana": 3000,
}
"""Where each service listens: by its image's default, or by its command."""


def test_addresses_name_a_service_and_the_port_it_listens_on(compose: dict[str, Any]) -> None:
    texts = [_prometheus().read_text("utf-8")]
    texts += [path.read_text("utf-8") for path in (GRAFANA / "provisioning" / "datasources").glob("*.yaml")]
    found = re.findall(r"\b([a-z][\w-]+):(\d{4})\b", "\n".join(texts))
    assert {"timescaledb", "prometheus", "alertmanager", "wattline-worker"} <= {name for name, _ in found}
    assert {(name, int(port)) for name, port in found if name != "localhost"} <= set(PORTS.items())
    for name, service in compose["services"].items():
        for port in service.get("ports", ()):
            assert port.split(":")[-1] == str(PORTS[name]), name
        command = [str(word) for word in service.get("command", ())]
        if "--port" in command:
            assert command[command.index("--port") + 1] == str(PORTS[name])
        for port in re.findall(r"127\.0\.0\.1:(\d+)", str(service.get("healthcheck", ""))):
            assert int(port) == PORTS[name], name
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert re.findall(r"127\.0\.0\.1:(\d+)|EXPOSE (\d+)", dockerfile) == [("", "8080"), ("8080", "")]


HELD = {
    "timescaledb": "pg_isready",
    "prometheus": "wget",
    "alertmanager": "wget",
    "grafana": "wget",
}
"""A program that the image has: PostgreSQL's own; BusyBox's in the Prometheus and Grafana images."""


def test_health_checks_run_programs_that_their_image_has(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        check = service.get("healthcheck", {"disable": True})
        if not check.get("disable"):
            assert check["test"].split()[0] == HELD[name], name
    assert 'CMD ["python", "-c"' in (ROOT / "Dockerfile").read_text("utf-8")


def test_variables_of_wattline_are_settings_and_its_commands_are_understood(compose: dict[str, Any]) -> None:
    known = {f"WATTLINE_{name.upper()}" for name in Settings.model_fields}
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    assert set(re.findall(r"\b(WATTLINE_\w+)=", dockerfile)) <= known
    for name, service in compose["services"].items():
        if not service["image"].startswith("wattline"):
            continue
        assert set(service["environment"]) <= known, name
        words, command = [str(word) for word in service["command"]], typer.main.get_command(cli)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options, name
