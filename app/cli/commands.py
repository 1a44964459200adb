"""Every command and its options; the work is done in the other modules of this package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from app.cli import helptext, invocation
from app.errors import WattlineError

app = typer.Typer(
    name="wattline",
    help="Measure where a data centre's electricity goes: energy, PUE and its limits.",
    epilog="Without WATTLINE_DATABASE_URL a database of its own is kept under WATTLINE_DATA_DIR "
    "(default ~/.local/share/wattline). WATTLINE_CONFIG names the site file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_meter = typer.Typer(help="Ledger of a meter: replacements, resets, tests.", no_args_is_help=True)
_db = typer.Typer(help="Database: schema, backups, moves.", no_args_is_help=True)
_keys = typer.Typer(help="Access keys for the HTTP interface.", no_args_is_help=True)
_audit = typer.Typer(help="Audit log.", no_args_is_help=True)
_alarms = typer.Typer(help="Alarms: list, acknowledge, comment, silence, replay.", no_args_is_help=True)
_notify = typer.Typer(help="Notifications of alarms.", no_args_is_help=True)
_findings = typer.Typer(help="Data quality issues.", no_args_is_help=True)
_measures = typer.Typer(
    help="Energy saving measures and their non-routine adjustments.", no_args_is_help=True
)
_hub = typer.Typer(help="Hub between edges and cells.", no_args_is_help=True)
_factors = typer.Typer(
    help="Emission factors of electricity by hour, beside the yearly ones.", no_args_is_help=True
)
_edges = typer.Typer(help="Edges: machines at sites that measure and send.", no_args_is_help=True)
_profiles = typer.Typer(help="Device profiles: list, show, try, test.", no_args_is_help=True)
_cells = typer.Typer(help="Cells of a fleet.", no_args_is_help=True)

_RUN, _DATA, _FIGURES, _OPERATIONS, _SETUP = "Run", "Readings", "Figures", "Operations", "Configuration"

_SiteId = Annotated[str, typer.Argument(metavar="SITE", help="Id of the site.")]
_Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Site file. Default: WATTLINE_CONFIG, else the database."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_Window = Annotated[
    str | None, typer.Option(metavar="W", help="15m, 1h, 24h, 7d, 30d, mtd, ytd or 12mo. (default: 24h)")
]
_Month = Annotated[str | None, typer.Option(metavar="M", help="A month (2026-10) or year (2026).")]
_Start = Annotated[
    str | None, typer.Option(metavar="T", help="2026-10-01 (the site's midnight) or RFC 3339.")
]
_End = Annotated[str | None, typer.Option(metavar="T", help="First instant after the period. (default: now)")]
_Room = Annotated[str, typer.Option(metavar="ROOM", help="Partial PUE of one room.")]


_ModbusPort = Annotated[int | None, typer.Option(metavar="PORT", help="Try Modbus TCP on this port.")]
_SnmpPort = Annotated[int | None, typer.Option(metavar="PORT", help="Try SNMP on this port.")]
_Protocol = Annotated[
    str,
    typer.Option(metavar="NAME", help="Kind of collector, as in the site file. (default: modbus and snmp)"),
]
_Port = Annotated[
    int | None, typer.Option("--port", metavar="PORT", help="Port of --protocol. (default: its usual one)")
]
_Option = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="Further key of the collector; repeatable."),
]
_SnmpUser = Annotated[str | None, typer.Option(metavar="U", help="User of SNMPv3.")]
_SnmpAuth = Annotated[
    str | None, typer.Option(metavar="SHA-256:FILE", help="Digest of SNMPv3, and the file of its password.")
]
_SnmpPrivacy = Annotated[
    str | None, typer.Option(metavar="AES:FILE", help="Cipher of SNMPv3, and the file of its password.")
]
_Timeout = Annotated[
    float | None, typer.Option(min=0.1, max=120, metavar="S", help="Longest wait for one answer.")
]


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(helptext.VERSION)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version and exit."),
    ] = False,
) -> None:
    pass


# -- run ---------------------------------------------------------------------------------------------


@app.command(rich_help_panel=_RUN)
def demo(
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    port: Annotated[int, typer.Option(help="Port of the pages; a free one if it is taken.")] = 8080,
) -> None:
    """Run two simulated data centres over real protocols, with 13 months of history."""
    from app.cli.demo import run

    run(port=port, browser=browser)


@app.command(rich_help_panel=_RUN)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
    role: Annotated[
        Literal["all", "api", "worker", "edge"],
        typer.Option(
            help="api answers requests, worker polls and computes, all does both; edge polls and sends to "
            "WATTLINE_CENTRE_URL, without a database."
        ),
    ] = "all",
    config: _Config = None,
) -> None:
    """Poll meters, compute figures, raise alarms and serve HTTP until stopped."""
    if role == "edge":
        from app.cli.edge import serve as serve_edge

        serve_edge(config, host=host, port=port)
        return
    from app.cli.serving import serve as work

    work(config, host=host, port=port, role=role)


# -- readings in -------------------------------------------------------------------------------------


@app.command(name="import", rich_help_panel=_DATA)
def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Exports: CSV, Excel; .gz and .zip too.")
    ],
    site: Annotated[str, typer.Option(metavar="SITE", help="Site to which the readings belong.")],
    mapping: Annotated[
        Path | None,
        typer.Option("--map", metavar="MAP.yaml", help="Mapping that says how to read the files."),
    ] = None,
    sheet: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Sheet of a workbook; may be repeated, or a pattern such as '*'."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Preview only; store nothing.")] = False,
    rejects: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File for rejected rows, with line and reason.")
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="A corrected export: correct stored readings that differ."),
    ] = False,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; stands in the ledger.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before correcting.")] = False,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """Store the readings of CSV and Excel files; importing a file again changes nothing."""
    from app.cli.imports import Asked, run

    sheets = tuple(sheet or ())
    run(Asked(files, site, mapping, sheets, rejects, config, as_json, replace, reason, yes, dry_run))


@app.command(rich_help_panel=_DATA)
def probe(
    host: Annotated[
        str, typer.Argument(help="Name or address of the device, or a range such as 10.0.4.0/28.")
    ],
    protocol: _Protocol = "",
    port: _Port = None,
    option: _Option = None,
    modbus: _ModbusPort = None,
    snmp: _SnmpPort = None,
    device_id: Annotated[int, typer.Option(help="Modbus unit id.")] = 1,
    community: Annotated[str, typer.Option(help="SNMP community.")] = "public",
    snmp_user: _SnmpUser = None,
    snmp_auth: _SnmpAuth = None,
    snmp_privacy: _SnmpPrivacy = None,
    timeout: _Timeout = None,
    profile: Annotated[
        str, typer.Option(metavar="P", help="Read through this profile, whether it fits or not.")
    ] = "",
    input_registers: Annotated[
        bool, typer.Option("--input-registers", help="Ask a Modbus device for input registers.")
    ] = False,
    register: Annotated[
        int | None,
        typer.Option(metavar="N", help="Modbus register whose data type and byte order to detect."),
    ] = None,
    shown: Annotated[
        float | None, typer.Option(metavar="VALUE", help="Value on the display for that register.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Detect a meter or PDU; print its values and the YAML for the site file."""
    from app.cli.devices import Wanted, collector_options, snmp_access
    from app.cli.devices import probe as work

    access = snmp_access(snmp_user, snmp_auth, snmp_privacy)
    wanted = Wanted(
        host,
        modbus,
        snmp,
        device_id,
        community,
        register,
        shown,
        timeout,
        profile,
        input_registers,
        access,
        protocol,
        port,
        collector_options(option or ()),
    )
    work(wanted, as_json=as_json)


@_profiles.command("list")
def profiles_list(as_json: _Json = False) -> None:
    """List the device profiles, shipped and own."""
    from app.cli.profiles import listing

    listing(as_json=as_json)


@_profiles.command("show")
def profiles_show(
    name: Annotated[str, typer.Argument(metavar="PROFILE", help="Name of a profile, or its file.")],
    as_json: _Json = False,
) -> None:
    """Print a device profile."""
    from app.cli.profiles import show_one

    show_one(name, as_json=as_json)


@_profiles.command("try")
def profiles_try(
    name: Annotated[str, typer.Argument(metavar="PROFILE", help="Name of a profile, or its file.")],
    host: Annotated[str, typer.Argument(metavar="HOST", help="Name or address of the device.")],
    port: _Port = None,
    option: _Option = None,
    modbus: _ModbusPort = None,
    snmp: _SnmpPort = None,
    device_id: Annotated[int, typer.Option(help="Modbus unit id.")] = 1,
    community: Annotated[str, typer.Option(help="SNMP community.")] = "public",
    snmp_user: _SnmpUser = None,
    snmp_auth: _SnmpAuth = None,
    snmp_privacy: _SnmpPrivacy = None,
    timeout: _Timeout = None,
    as_json: _Json = False,
) -> None:
    """Read a device through a profile, whether it fits or not."""
    from app.cli.devices import Wanted, collector_options, snmp_access
    from app.cli.profiles import attempt

    access = snmp_access(snmp_user, snmp_auth, snmp_privacy)
    wanted = Wanted(
        host,
        modbus,
        snmp,
        device_id,
        community,
        timeout_s=timeout,
        profile=name,
        access=access,
        port=port,
        options=collector_options(option or ()),
    )
    attempt(wanted, as_json=as_json)


@_profiles.command("test")
def profiles_test(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML file of an own profile.")],
    against: Annotated[
        str | None,
        typer.Option(metavar="HOST|RECORDING", help="Device to read, or a recording (.snmprec)."),
    ] = None,
    port: _Port = None,
    option: _Option = None,
    modbus: _ModbusPort = None,
    snmp: _SnmpPort = None,
    device_id: Annotated[int, typer.Option(help="Modbus unit id.")] = 1,
    community: Annotated[str, typer.Option(help="SNMP community.")] = "public",
    snmp_user: _SnmpUser = None,
    snmp_auth: _SnmpAuth = None,
    snmp_privacy: _SnmpPrivacy = None,
    timeout: _Timeout = None,
    as_json: _Json = False,
) -> None:
    """Check an own profile, and read a device or a recording through it."""
    from app.cli.devices import Wanted, collector_options, snmp_access
    from app.cli.profiles import check

    access = snmp_access(snmp_user, snmp_auth, snmp_privacy)
    check(
        file,
        against,
        lambda host, name: Wanted(
            host,
            modbus,
            snmp,
            device_id,
            community,
            timeout_s=timeout,
            profile=name,
            access=access,
            port=port,
            options=collector_options(option or ()),
        ),
        as_json=as_json,
    )


@app.command(rich_help_panel=_DATA)
def poll(
    meter: Annotated[str, typer.Argument(metavar="METER", help="Id of the meter.")],
    once: Annotated[
        bool, typer.Option("--once", help="Read once (the only mode; `serve` polls continuously).")
    ] = False,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """Read one configured meter once and print its values; nothing is stored."""
    from app.cli.devices import poll as work

    if not once:
        raise typer.BadParameter("say --once; `wattline serve` polls for good")
    work(meter, config_path=config, as_json=as_json)


# -- figures out -------------------------------------------------------------------------------------


@app.command(rich_help_panel=_FIGURES)
def pue(
    site: _SiteId,
    window: _Window = None,
    month: _Month = None,
    start: _Start = None,
    end: _End = None,
    room: _Room = "",
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """PUE of a site with coverage, uncertainty and the verdict against its limits."""
    from app.cli.figures import pue as work
    from app.cli.periods import Wanted

    work(site, Wanted(window, month, start, end), room=room, config_path=config, as_json=as_json)


@app.command(rich_help_panel=_FIGURES)
def energy(
    site: _SiteId,
    window: _Window = None,
    month: _Month = None,
    start: _Start = None,
    end: _End = None,
    by: Annotated[Literal["load_class", "point", "room"], typer.Option(help="Breakdown.")] = "load_class",
    step: Annotated[
        Literal["15m", "1h", "1d", "1mo"] | None, typer.Option(help="One row per step. (default: one total)")
    ] = None,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """Energy of a site by load class, point or room."""
    from app.cli.figures import energy as work
    from app.cli.periods import Wanted

    wanted = Wanted(window, month, start, end)
    work(site, wanted, by=by, step=step, config_path=config, as_json=as_json)


@app.command(rich_help_panel=_FIGURES)
def report(
    site: _SiteId,
    period: Annotated[str, typer.Argument(metavar="PERIOD", help="A month (2026-10) or year (2026).")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="File to write.")],
    form: Annotated[
        Literal["pdf", "xlsx", "csv", "json", "html", "eu-csv"],
        typer.Option("--format", help="File format; eu-csv: Annex II of (EU) 2024/1364."),
    ] = "pdf",
    lang: Annotated[str, typer.Option(help="Language: zh or en.")] = "en",
    revision: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Finalised revision; 0: provisional, as of now. (default: latest)"
        ),
    ] = None,
    config: _Config = None,
) -> None:
    """Write the report of a month or year, of a site or of all sites of an institution."""
    from app.cli.reports import write

    write(site, period, output, form=form, lang=lang, revision=revision, config_path=config)


@app.command(rich_help_panel=_FIGURES)
def reports(
    of: Annotated[str, typer.Argument(metavar="SITE", help="Id of the site, or of an institution.")],
    period: Annotated[
        str | None, typer.Option(metavar="M", help="Only this month or year, with its changes.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """List finalised reports with their hashes, and changes by late or corrected data."""
    from app.cli.reports import listing

    listing(of, period, as_json=as_json)


# -- care --------------------------------------------------------------------------------------------


@app.command(rich_help_panel=_OPERATIONS)
def verify(
    site: Annotated[str | None, typer.Option(metavar="SITE", help="Only this site.")] = None,
    as_json: _Json = False,
) -> None:
    """Check that every stored figure follows from the readings; exit 1 with the list of breaches."""
    from app.cli.verify import verify as work

    work(site, as_json=as_json)


@_findings.command("list")
def findings_list(
    site: _SiteId,
    cleared: Annotated[bool, typer.Option("--cleared", help="Include resolved issues.")] = False,
    as_json: _Json = False,
) -> None:
    """List data quality issues of a site, newest first."""
    from app.cli.findings import listing as work

    work(site, with_cleared=cleared, as_json=as_json)


@_findings.command("acknowledge")
def findings_acknowledge(
    site: _SiteId,
    finding: Annotated[int, typer.Argument(metavar="ID", min=1, help="Number of the finding, as listed.")],
) -> None:
    """Acknowledge an open data quality issue."""
    from app.cli.findings import acknowledge

    acknowledge(site, finding)


@_meter.command("event")
def meter_event(
    meter: Annotated[str, typer.Argument(metavar="METER", help="Id of the meter.")],
    at: Annotated[str, typer.Option(metavar="T", help="Time of the event; RFC 3339.")],
    kind: Annotated[
        Literal["replaced", "reset", "test", "maintenance", "estimate", "correction", "confirmed"],
        typer.Option(help="Kind of event."),
    ],
    note: Annotated[str, typer.Option(metavar="TEXT", help="Reason and source.")],
    end: Annotated[
        str | None, typer.Option(metavar="T", help="End of the event. (default: same as --at)")
    ] = None,
    point: Annotated[str | None, typer.Option(metavar="POINT", help="Only this point of the meter.")] = None,
    old: Annotated[
        float | None, typer.Option(metavar="VALUE", help="Last value of the old register.")
    ] = None,
    new: Annotated[
        float | None, typer.Option(metavar="VALUE", help="First value of the new register.")
    ] = None,
    energy_kwh: Annotated[
        float | None, typer.Option(metavar="KWH", help="Estimated energy during the event.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Declare an event of a meter, so that its energy is correct across it."""
    from app.cli.ledger import Entry, declare

    entry = Entry(meter, kind, at, end, point, old, new, energy_kwh, note)
    declare(entry, as_json=as_json)


@_meter.command("events")
def meter_events(site: _SiteId, as_json: _Json = False) -> None:
    """List the declared events of a site."""
    from app.cli.ledger import listing

    listing(site, as_json=as_json)


@_meter.command("withdraw")
def meter_withdraw(
    site: _SiteId,
    entry: Annotated[int, typer.Argument(metavar="ENTRY", help="Number of the entry in the ledger.")],
    as_json: _Json = False,
) -> None:
    """Withdraw an entry: figures are recomputed without it; it stays in the ledger, marked."""
    from app.cli.ledger import withdraw

    withdraw(site, entry, as_json=as_json)


@_factors.command("import")
def factors_import(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV with the columns start (RFC 3339) and kg_per_kwh.")
    ],
    region: Annotated[str, typer.Option(metavar="R", help="As emissions: region of the sites names it.")],
    source: Annotated[str, typer.Option(metavar="TEXT", help="Where the factors come from.")],
    basis: Annotated[
        str, typer.Option(metavar="B", help="As emissions: basis of the sites names it.")
    ] = "grid_average",
    verified: Annotated[
        bool, typer.Option("--verified", help="Somebody compared the file with its source.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Import emission factors by hour; emissions by them are shown beside those of the year."""
    from app.cli.hourly_factors import add

    add(file, region=region, basis=basis, source=source, verified=verified, as_json=as_json)


@_factors.command("list")
def factors_list(as_json: _Json = False) -> None:
    """List the imports of hourly factors, withdrawn ones too."""
    from app.cli.hourly_factors import listing

    listing(as_json=as_json)


@_factors.command("withdraw")
def factors_withdraw(
    number: Annotated[int, typer.Argument(metavar="IMPORT", help="Number of the import.")],
) -> None:
    """Withdraw an import of hourly factors; it stays in the list, marked."""
    from app.cli.hourly_factors import withdraw

    withdraw(number)


_MeasureKey = Annotated[str, typer.Argument(metavar="MEASURE", help="Key of the measure.")]


@_measures.command("add")
def measures_add(
    site: _SiteId,
    key: Annotated[str, typer.Argument(metavar="MEASURE", help="Short name, such as fans-2026.")],
    what: Annotated[str, typer.Option(metavar="TEXT", help="What is done.")],
    start: Annotated[str, typer.Option(metavar="DAY", help="First day of the work.")],
    evidence: Annotated[str, typer.Option(metavar="TEXT", help="Order, acceptance record, protocol.")],
    where: Annotated[
        str, typer.Option(metavar="W", help="Measurement boundary: facility, class:CLASS or meter:ID.")
    ] = "facility",
    done: Annotated[
        str | None, typer.Option(metavar="DAY", help="First day on which it is done. (default: the next day)")
    ] = None,
    baseline_start: Annotated[
        str | None, typer.Option(metavar="DAY", help="(default: 365 days before its end)")
    ] = None,
    baseline_end: Annotated[
        str | None, typer.Option(metavar="DAY", help="First day after the baseline. (default: --start)")
    ] = None,
    reporting_start: Annotated[str | None, typer.Option(metavar="DAY", help="(default: --done)")] = None,
    reporting_end: Annotated[
        str | None, typer.Option(metavar="DAY", help="First day after. (default: until further notice)")
    ] = None,
    cost: Annotated[float | None, typer.Option(metavar="MONEY", help="In the currency of the site.")] = None,
    expected_kwh_per_year: Annotated[
        float | None, typer.Option(metavar="KWH", help="Expected saving a year.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Declare an energy saving measure, so that its saving is verified."""
    from app.cli.measures import add

    typed = {
        "key": key,
        "what": what,
        "where": where,
        "implementation_start": start,
        "implementation_end": done,
        "baseline_start": baseline_start,
        "baseline_end": baseline_end,
        "reporting_start": reporting_start,
        "reporting_end": reporting_end,
        "cost": cost,
        "expected_kwh_per_year": expected_kwh_per_year,
        "evidence": evidence,
    }
    add(site, typed, as_json=as_json)


@_measures.command("list")
def measures_list(site: _SiteId, as_json: _Json = False) -> None:
    """List the measures of a site, withdrawn ones too."""
    from app.cli.measures import listing

    listing(site, as_json=as_json)


@_measures.command("adjust")
def measures_adjust(
    site: _SiteId,
    measure: _MeasureKey,
    start: Annotated[str, typer.Option(metavar="DAY", help="First day.")],
    end: Annotated[str, typer.Option(metavar="DAY", help="First day after.")],
    energy_kwh: Annotated[
        float,
        typer.Option(metavar="KWH", help="Over the whole span; above zero: used for another reason."),
    ],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="What changed, and on whose word.")],
    as_json: _Json = False,
) -> None:
    """Note a non-routine adjustment: energy that changed for another reason than measure, weather or load."""
    from app.cli.measures import adjust

    adjust(site, measure, start, end, energy_kwh, reason, as_json=as_json)


@_measures.command("withdraw")
def measures_withdraw(
    site: _SiteId,
    measure: _MeasureKey,
    adjustment: Annotated[
        int | None, typer.Option(metavar="ID", help="Only this adjustment of the measure.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Withdraw a measure or an adjustment; it stays in the ledger, marked."""
    from app.cli.measures import withdraw

    withdraw(site, measure, adjustment, as_json=as_json)


@app.command(rich_help_panel=_FIGURES)
def savings(
    site: _SiteId,
    measure: Annotated[
        str | None, typer.Option(metavar="M", help="Only statements that hold this measure.")
    ] = None,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """Verified savings of the measures, and the weather- and load-normalised PUE."""
    from app.cli.savings import show_savings as work

    work(site, measure, config_path=config, as_json=as_json)


@app.command(rich_help_panel=_FIGURES)
def budget(
    site: _SiteId,
    year: Annotated[int | None, typer.Option(metavar="Y", help="Calendar year. (default: this one)")] = None,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """Projected year-end PUE, and the overhead energy budget of each limit."""
    from app.cli.analysis import budget as work

    work(site, year=year, config_path=config, as_json=as_json)


@app.command(rich_help_panel=_FIGURES)
def indicators(
    site: _SiteId,
    window: _Window = None,
    month: _Month = None,
    start: _Start = None,
    end: _End = None,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """WUE, CUE, REF, ERF, CER, ITEUsv, cost, savings potential, targets and scores."""
    from app.cli.analysis import indicators as work
    from app.cli.periods import Wanted

    work(site, Wanted(window, month, start, end), config_path=config, as_json=as_json)


@app.command(name="plant-indicators", rich_help_panel=_FIGURES)
def plant_indicators(
    site: _SiteId,
    window: _Window = None,
    month: _Month = None,
    start: _Start = None,
    end: _End = None,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """Load factors, chillers, UPS, water, air, free cooling: values, or the missing meter (default: 30d)."""
    from app.cli.periods import Wanted
    from app.cli.plant import plant_indicators as work

    work(site, Wanted(window, month, start, end), config_path=config, as_json=as_json)


@app.command(rich_help_panel=_FIGURES)
def baseline(
    site: _SiteId,
    window: _Window = None,
    month: _Month = None,
    start: _Start = None,
    end: _End = None,
    resolution: Annotated[
        str, typer.Option(metavar="day|hour", help="What one row of the model stands for.")
    ] = "day",
    freeze: Annotated[bool, typer.Option("--freeze", help="Freeze it: it is never changed again.")] = False,
    version: Annotated[
        int | None, typer.Option(metavar="N", help="Show a frozen baseline instead of fitting one.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """What the plant uses by IT load and weather, with its uncertainty (default: 12mo)."""
    from app.cli.baseline import baseline as work
    from app.cli.periods import Wanted

    wanted = Wanted(window, month, start, end)
    work(site, wanted, resolution, version=version, freeze=freeze, as_json=as_json)


@app.command(rich_help_panel=_FIGURES)
def opportunities(
    site: _SiteId,
    window: _Window = None,
    month: _Month = None,
    start: _Start = None,
    end: _End = None,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """What to do next: savings a year in energy and money, or which meter would tell (default: 12mo)."""
    from app.cli.periods import Wanted
    from app.cli.plant import opportunities as work

    work(site, Wanted(window, month, start, end), config_path=config, as_json=as_json)


@app.command(rich_help_panel=_FIGURES)
def fleet(
    window: Annotated[str, typer.Option(metavar="W", help="Time window, the same for every site.")] = "24h",
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """PUE of every site and of the fleet: ratio of sums, and weighted by facility energy."""
    from app.cli.analysis import fleet as work

    work(window, config_path=config, as_json=as_json)


@app.command(rich_help_panel=_FIGURES)
def capacity(
    site: _SiteId,
    window: _Window = None,
    month: _Month = None,
    start: _Start = None,
    end: _End = None,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """Load and usable capacity of the site and of every UPS, PDU and rack, with forecast."""
    from app.cli.analysis import capacity as work
    from app.cli.periods import Wanted

    work(site, Wanted(window, month, start, end), config_path=config, as_json=as_json)


@app.command(rich_help_panel=_FIGURES)
def attribution(
    site: _SiteId,
    month: Annotated[str | None, typer.Option(metavar="M", help="Month or year to explain.")] = None,
    against: Annotated[
        str | None, typer.Option(metavar="M", help="Month or year to compare it with.")
    ] = None,
    start: _Start = None,
    end: _End = None,
    baseline_start: _Start = None,
    baseline_end: _End = None,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """Attribute the change in PUE between two periods to load classes."""
    from app.cli.analysis import attribution as work
    from app.cli.periods import Wanted

    baseline = Wanted(None, against, baseline_start, baseline_end)
    work(site, Wanted(None, month, start, end), baseline, config_path=config, as_json=as_json)


@app.command(rich_help_panel=_OPERATIONS)
def balance(
    site: _SiteId,
    window: _Window = None,
    month: _Month = None,
    start: _Start = None,
    end: _End = None,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """Check the metering tree: incoming and outgoing energy of every node."""
    from app.cli.analysis import balance as work
    from app.cli.periods import Wanted

    work(site, Wanted(window, month, start, end), config_path=config, as_json=as_json)


@_cells.command("list")
def list_cells(as_json: _Json = False) -> None:
    """List the cells of the fleet: whether each answers, its version, its sites. Exit 1: one is missing."""
    from app.cli.cells import listing

    if not listing(as_json=as_json):
        raise typer.Exit(1)


@_cells.command("move")
def move_site(
    site: _SiteId,
    to: Annotated[
        str, typer.Option("--to", metavar="CELL", help="Cell that gets it, as the file of cells says.")
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Print what would be moved and what stands in the way.")
    ] = False,
    edges_url: Annotated[
        str,
        typer.Option(metavar="URL", help="Where edges reach that cell. Default: url of the file of cells."),
    ] = "",
    cancel: Annotated[bool, typer.Option("--cancel", help="End a move; the site stays here.")] = False,
    drop_source: Annotated[
        bool, typer.Option("--drop-source", help="Remove what this cell keeps of a site that moved.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Move a site to another cell with its history. Interrupted, the same command goes on where it was."""
    from app.cli import cell_moves
    from app.errors import SeriesError

    if check + cancel + drop_source > 1 or (edges_url and (check or cancel or drop_source)):
        raise SeriesError("--check, --cancel and --drop-source stand alone")
    if check:
        cell_moves.check(site, to, as_json=as_json)
    elif cancel:
        cell_moves.cancel(site, to, as_json=as_json)
    elif drop_source:
        cell_moves.drop_source(site, to, as_json=as_json)
    else:
        cell_moves.move(site, to, edges_url=edges_url, as_json=as_json)


@app.command(rich_help_panel=_OPERATIONS)
def doctor(as_json: _Json = False) -> None:
    """Check the deployment: versions, clocks, lags, certificates, disk, workers, cells. Exit 1: a fault."""
    from app.cli.doctor import doctor as work

    if not work(as_json=as_json):
        raise typer.Exit(1)


@app.command("workers", rich_help_panel=_OPERATIONS)
def list_workers(as_json: _Json = False) -> None:
    """List the workers that share the database, with the sites that each measures."""
    from app.cli.workers import listing

    listing(as_json=as_json)


# -- set up ------------------------------------------------------------------------------------------


@app.command(rich_help_panel=_SETUP)
def check_config(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Site file.")], as_json: _Json = False
) -> None:
    """Check a site file; print every problem with line, key and allowed values."""
    from app.cli.site_file import check

    check(file, as_json=as_json)


@app.command(rich_help_panel=_SETUP)
def config_schema() -> None:
    """Print the JSON schema of the site file, for editors."""
    from app.cli.site_file import print_schema

    print_schema()


@_db.command("upgrade")
def db_upgrade(
    check: Annotated[
        bool, typer.Option("--check", help="Only say what would be done, and how long it may take.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Upgrade the database schema to this version (`serve` does so at start)."""
    from app.cli.db import check_upgrade, upgrade

    if check:
        check_upgrade(as_json=as_json)
    else:
        upgrade(as_json=as_json)


@_db.command("status")
def db_status(as_json: _Json = False) -> None:
    """Show location and schema version of the database."""
    from app.cli.db import status

    status(as_json=as_json)


@_db.command("reader")
def db_reader(
    password_file: Annotated[
        Path, typer.Option(help="File that holds its password, which the role then has.", exists=True)
    ],
) -> None:
    """Create or refresh the role `wattline_reader` for Grafana and BI, limited to the views."""
    from app.cli.db import make_reader

    make_reader(password_file)


@_db.command("backup")
def db_backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to write; appears when complete.")],
    as_json: _Json = False,
) -> None:
    """Write the whole database to a file, while the service runs."""
    from app.cli.db import backup

    backup(file, as_json=as_json)


@_db.command("restore")
def db_restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Backup to restore from.")],
    check: Annotated[
        bool,
        typer.Option("--check", help="Only verify the backup, in a database made for it and dropped."),
    ] = False,
    key: Annotated[
        list[Path] | None,
        typer.Option(help="With --check: file of a key that signed its audit log.", exists=True),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Restore a backup into an empty database, completely or not at all."""
    from app.cli.db import check_restore, restore

    if check:
        check_restore(file, key or (), as_json=as_json)
    else:
        restore(file, as_json=as_json)


@_db.command("move")
def db_move(
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="URL", help="The new, empty database; its password from PGPASSWORD or ~/.pgpass."
        ),
    ],
    as_json: _Json = False,
) -> None:
    """Copy everything to another database, with the service stopped."""
    from app.cli.db import move

    move(to, as_json=as_json)


_Public = Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as `keys list` shows it.")]


@_keys.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Person or system that uses it.")],
    grant: Annotated[
        list[str],
        typer.Option(
            help="viewer, operator, admin, or one duty: system, security, audit; operator:site/ID or "
            "viewer:institution/ID for a part."
        ),
    ],
    days: Annotated[
        int | None, typer.Option(min=1, help="Days after which it expires. (default: never)")
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Client certificate (PEM) that the key is bound to. (default: none)"
        ),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Create an access key; it is shown only once."""
    from app.cli.keys import create

    create(name, grant, days, certificate, as_json=as_json)


@_keys.command("list")
def keys_list(as_json: _Json = False) -> None:
    """List all access keys, without their secrets."""
    from app.cli.keys import listing

    listing(as_json=as_json)


@_keys.command("revoke")
def keys_revoke(key: _Public, as_json: _Json = False) -> None:
    """Revoke an access key."""
    from app.cli.keys import revoke

    revoke(key, as_json=as_json)


@_edges.command("create")
def edges_create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the edge.")],
    site: Annotated[
        list[str], typer.Option("--site", metavar="SITE", help="Site that it measures; repeatable.")
    ],
    days: Annotated[int | None, typer.Option(min=1, metavar="N", help="Days until its key expires.")] = None,
    as_json: _Json = False,
) -> None:
    """Make an edge with its key, and print the key."""
    from app.cli.edges import create

    create(name, site, days, as_json=as_json)


@_edges.command("list")
def edges_list(as_json: _Json = False) -> None:
    """List the edges: last seen, what waits, clock, definitions."""
    from app.cli.edges import listing

    listing(as_json=as_json)


@_edges.command("revoke")
def edges_revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the edge.")], as_json: _Json = False
) -> None:
    """Take an edge out of service: its key opens nothing, and a worker measures its sites."""
    from app.cli.edges import revoke

    revoke(name, as_json=as_json)


@_keys.command("separate")
def keys_separate() -> None:
    """Separate system, security and audit administration; refuses while a key has more than one."""
    from app.cli.keys import separate

    separate()


@_keys.command("combine")
def keys_combine() -> None:
    """Allow one administrator for everything again."""
    from app.cli.keys import combine

    combine()


@_audit.command("verify")
def audit_verify(
    expect: Annotated[
        list[str] | None, typer.Option(metavar="HASH", help="Hash that an entry must have; several allowed.")
    ] = None,
    anchors: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="File with anchors: log, syslog, metrics; several allowed."),
    ] = None,
    key: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="An earlier signing key; several allowed.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Verify the chain of the audit log and its anchors; exit 1 if an entry was changed or removed."""
    from app.cli.keys import verify_audit

    verify_audit(expect or (), anchors or (), key or (), as_json=as_json)


@_audit.command("export")
def audit_export(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="File to write. (default: print)")
    ] = None,
    after: Annotated[
        int, typer.Option(min=0, metavar="SEQ", help="Only entries after this number, to continue.")
    ] = 0,
) -> None:
    """Export the audit log, oldest entry first, one JSON document per line."""
    from app.cli.keys import export_audit

    export_audit(output, after)


# -- alarms ------------------------------------------------------------------------------------------

_AlarmId = Annotated[int, typer.Argument(metavar="ID", min=1, help="Number of the alarm, as listed.")]


@_alarms.command("list")
def alarms_list(
    site: Annotated[str | None, typer.Option(metavar="SITE", help="Only of this site.")] = None,
    state: Annotated[
        Literal["active", "firing", "recovering", "acknowledged", "resolved", "all"], typer.Option()
    ] = "active",
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """List alarms, newest first, with their main driver."""
    from app.cli.alarms import listing

    listing(site, state=state, config_path=config, as_json=as_json)


@_alarms.command("acknowledge")
def alarms_acknowledge(
    alarm: _AlarmId, comment: Annotated[str, typer.Option(metavar="TEXT", help="Action taken.")] = ""
) -> None:
    """Acknowledge an alarm; its notification is not repeated any more."""
    from app.cli.alarms import acknowledge

    acknowledge(alarm, comment)


@_alarms.command("comment")
def alarms_comment(
    alarm: _AlarmId, text: Annotated[str, typer.Argument(metavar="TEXT", help="Text of the comment.")]
) -> None:
    """Comment on an alarm."""
    from app.cli.alarms import comment

    comment(alarm, text)


@_alarms.command("silence")
def alarms_silence(
    comment: Annotated[str, typer.Argument(metavar="TEXT", help="Reason.")],
    hours: Annotated[float, typer.Option(min=0.01, max=8760, help="Duration in hours.")] = 2.0,
    site: Annotated[str | None, typer.Option(metavar="SITE", help="Only of this site.")] = None,
    rule: Annotated[str, typer.Option(metavar="RULE", help="Only of this rule.")] = "",
    subject: Annotated[str, typer.Option(metavar="WHAT", help="Only of this meter, point or feed.")] = "",
) -> None:
    """Silence alarms: no notifications are sent; alarms are still evaluated and recorded."""
    from app.cli.alarms import silence

    silence(site, rule, subject, hours, comment)


@_alarms.command("silences")
def alarms_silences(as_json: _Json = False) -> None:
    """List active silences."""
    from app.cli.alarms import silences

    silences(as_json=as_json)


@_alarms.command("end-silence")
def alarms_end_silence(
    silence: Annotated[int, typer.Argument(metavar="ID", min=1, help="Number of the silence, as listed.")],
) -> None:
    """End a silence early."""
    from app.cli.alarms import end_silence

    end_silence(silence)


@_alarms.command("replay")
def alarms_replay(
    site: _SiteId,
    window: _Window = None,
    month: _Month = None,
    start: _Start = None,
    end: _End = None,
    record: Annotated[
        bool, typer.Option("--record", help="Record new alarms; no notifications are sent.")
    ] = False,
    config: _Config = None,
    as_json: _Json = False,
) -> None:
    """Replay the alarm rules over past data: PUE, IT load, coverage, feeds, rooms, projection.

    After an import of past years, --record completes the breach periods.
    """
    from app.cli.alarms import replay
    from app.cli.periods import Wanted

    wanted = Wanted(window, month, start, end)
    replay(site, wanted, is_kept=record, config_path=config, as_json=as_json)


@_notify.command("test")
def notify_test(
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help="Id of the channel in the site file.")],
    config: _Config = None,
) -> None:
    """Send a test message over a channel; exit 1 with the reason if it fails."""
    from app.cli.alarms import test

    test(channel, config)


@_notify.command("log")
def notify_log(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number.")] = 50,
    as_json: _Json = False,
) -> None:
    """List the latest delivery attempts and their results."""
    from app.cli.alarms import log

    log(limit=limit, as_json=as_json)


app.add_typer(_alarms, name="alarms", rich_help_panel=_OPERATIONS)
app.add_typer(_notify, name="notify", rich_help_panel=_OPERATIONS)
app.add_typer(_findings, name="findings", rich_help_panel=_OPERATIONS)
app.add_typer(_cells, name="cells", rich_help_panel=_OPERATIONS)
app.add_typer(_profiles, name="profiles", rich_help_panel=_DATA)
app.add_typer(_measures, name="measures", rich_help_panel=_FIGURES)
app.add_typer(_factors, name="factors", rich_help_panel=_FIGURES)
app.add_typer(_meter, name="meter", rich_help_panel=_OPERATIONS)
app.add_typer(_audit, name="audit", rich_help_panel=_OPERATIONS)
app.add_typer(_db, name="db", rich_help_panel=_SETUP)
app.add_typer(_keys, name="keys", rich_help_panel=_SETUP)


@_hub.command("key")
def hub_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="New file for the seed.")],
    as_json: _Json = False,
) -> None:
    """Make the key by which the hub knows an edge or a cell; print its public part."""
    from app.cli.hub import make_key

    make_key(file, as_json=as_json)


app.add_typer(_hub, name="hub", rich_help_panel=_SETUP)
app.add_typer(_edges, name="edges", rich_help_panel=_SETUP)


invocation.GROUPS.update(group.name for group in app.registered_groups if group.name)


def run() -> None:
    """Run a command; exits 0 (ok), 1 (ran and failed) or 2 (wrong use)."""
    try:
        app(prog_name="wattline")
    except WattlineError as error:
        from app.cli.console import failed

        sys.exit(failed(error, as_json="--json" in sys.argv))
