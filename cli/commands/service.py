"""`recsys serve | top | snapshots | sales | rules | exposures | doctor`: the commands about the service."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.commands.options import DEMO, Conf, JsonFile, console, instants, pairs
from recsys.config.settings import Settings, load_settings
from recsys.console import progress_bar
from recsys.errors import ConfigurationError, RecsysError, SnapshotError
from recsys.ids import trimmed
from recsys.instants import from_micros, parse_instant
from recsys.wording import nearest, plural

if TYPE_CHECKING:
    from recsys.rules import RuleSet
    from recsys.snapshot.format import Snapshot

Target = Annotated[str, typer.Option("--target", help="Address of the service, HOST:PORT.")]
AdminTarget = Annotated[str, typer.Option("--target", help="Address of the admin service, HOST:PORT.")]
Token = Annotated[
    str | None, typer.Option("--token", envvar="RECSYS_TOKEN", help="Token, if the service requires one.")
]
Authority = Annotated[
    Path | None, typer.Option("--authority", help="PEM file of the authority of the service's certificate; uses TLS.")
]
PlainToken = Annotated[
    bool, typer.Option("--plain-token", help="Send the token to another machine without TLS, where others can read it.")
]
Attributes = Annotated[list[str], typer.Option("--attribute", help="Attribute of the user, NAME=VALUE; repeatable.")]
PUBLIC = "127.0.0.1:50051"
ADMIN = "127.0.0.1:50052"

snapshots = typer.Typer(no_args_is_help=True, help="List the snapshots, roll back to an earlier one, or serve another.")
sales = typer.Typer(no_args_is_help=True, help="Close or hide a sale at once, in every process of a running service.")
rules = typer.Typer(no_args_is_help=True, help="Check the rules of pages, or try them before they take effect.")


def serve(conf: Conf = DEMO) -> None:
    """Run the gRPC service on the published snapshot, in several processes, until it is stopped."""
    from serving.process.workers import serve as run_service

    settings = load_settings(conf)
    pulls = settings.serving.store.has_snapshots_on_disk
    run_service(settings.serving, settings.own_disk, settings.publisher if pulls else None)


def top(
    user: Annotated[str, typer.Argument(help="User whose page is requested; '' for an anonymous user.")],
    n: Annotated[int, typer.Option(help="Number of sales.")] = 10,
    policy: Annotated[str | None, typer.Option(help="Policy that ranks them; the service's default if absent.")] = None,
    session: Annotated[str, typer.Option(help="Sales visited in the running session, SALE,SALE.")] = "",
    attributes: Attributes = [],  # noqa: B006
    explain: Annotated[bool, typer.Option(help="Show what each feature adds to the score of each sale.")] = False,
    at: Annotated[
        str | None, typer.Option(help="Instant that the page is for, such as 2026-03-02T07:00:00Z; now if absent.")
    ] = None,
    only: Annotated[list[str], typer.Option(help="Only sales with ATTRIBUTE=VALUE,VALUE; repeatable.")] = [],  # noqa: B006
    without: Annotated[list[str], typer.Option(help="No sales with ATTRIBUTE=VALUE,VALUE; repeatable.")] = [],  # noqa: B006
    target: Target = PUBLIC,
    token: Token = None,
    authority: Authority = None,
    plain_token: PlainToken = False,
) -> None:
    """Request a user's page from the service and print it."""
    from cli.tables.pages import print_top_sales
    from serving.client import Client, trusting

    with Client(target, deadline=5.0, token=token, credentials=trusting(authority), plain_token=plain_token) as client:
        page = client.top_sales(
            user,
            n,
            policy=policy or "",
            session=[sale for sale in session.split(",") if sale],
            attributes=pairs(attributes, "--attribute"),
            explain=explain or bool(attributes or session),  # then the page names those that have no effect
            answer_time=from_micros(parse_instant(at)) if at else None,
            only={name: values.split(",") for name, values in pairs(only, "--only").items()},
            without={name: values.split(",") for name, values in pairs(without, "--without").items()},
            preview=True,
        )
    print_top_sales(user, page, console, explain)


def similar(
    sale: Annotated[str, typer.Argument(help="Sale that others are to resemble; it may be closed.")],
    user: Annotated[str, typer.Option(help="User for whom the most similar sales are ordered.")] = "",
    n: Annotated[int, typer.Option(help="Number of sales.")] = 10,
    policy: Annotated[
        str | None, typer.Option(help="Policy whose scores are compared; the service's default if absent.")
    ] = None,
    explain: Annotated[bool, typer.Option(help="Show what each feature adds to the score of each sale.")] = False,
    target: Target = PUBLIC,
    token: Token = None,
    authority: Authority = None,
    plain_token: PlainToken = False,
) -> None:
    """Request the open sales that resemble a sale from the service and print them."""
    from cli.tables.pages import print_top_sales
    from serving.client import Client, trusting

    with Client(target, deadline=5.0, token=token, credentials=trusting(authority), plain_token=plain_token) as client:
        page = client.similar_sales(sale, n, user_id=user, policy=policy or "", explain=explain, preview=True)
    print_top_sales(user, page, console, explain)


@snapshots.command("list")
def list_snapshots(conf: Conf = DEMO) -> None:
    """List the snapshots, newest first, and mark the one that is served."""
    from cli.tables.results import print_snapshots

    print_snapshots(load_settings(conf).publisher, console)


@snapshots.command("check")
def check_snapshot(
    conf: Conf = DEMO,
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", help="Earliest instant of the snapshot; by default that of the night, see 'nightly'."),
    ] = None,
) -> None:
    """Exit with status 1 unless the served snapshot is of tonight, or of the given instant, or later.

    For a scheduler, after the night: it tells that nothing was published, whatever the reason.
    """
    asked, midnight = instants(as_of)
    settings = load_settings(conf)
    needed = from_micros(asked) if asked is not None else settings.as_of or from_micros(midnight)
    name, found_as_of = settings.publisher.in_use()
    if found_as_of is None or found_as_of < needed:
        found = f"{name} is served, as of {found_as_of:%Y-%m-%d %H:%M}" if found_as_of else "no snapshot is served"
        raise SnapshotError(
            f"{found}, must be as of {needed:%Y-%m-%d %H:%M} or later: see the night's run.log, then run "
            "'recsys nightly' again"
        )
    console.print(f"{name} is served, as of {found_as_of:%Y-%m-%d %H:%M}.")


@snapshots.command()
def rollback(conf: Conf = DEMO) -> None:
    """Serve the snapshot that was published before the current one."""
    settings = load_settings(conf)
    name = settings.publisher.rollback(datetime.now(UTC))
    push_if_shared(settings)
    console.print(f"Now serving {name}; running services load it by themselves.")


@snapshots.command()
def activate(
    name: Annotated[str, typer.Argument(help="Name of the snapshot, see 'recsys snapshots list'.")], conf: Conf = DEMO
) -> None:
    """Serve a snapshot that was kept without being published, such as that of a night of the past."""
    settings = load_settings(conf)
    settings.publisher.publish(name, datetime.now(UTC))
    push_if_shared(settings)
    console.print(f"Now serving {name}; running services load it by themselves.")


@snapshots.command()
def push(conf: Conf = DEMO) -> None:
    """Copy the current snapshot of this machine again to where several machines take it from, as 'nightly' does.

    To Redis, or to the object store of *folder*, where all of its files are replaced: so one that is damaged there is
    repaired.
    """
    settings = load_settings(conf)
    publisher = settings.publisher
    if settings.serving.store.has_snapshots_on_disk and publisher.shared is None:
        raise ConfigurationError(
            f"serving.store.kind == {settings.serving.store.kind!r}, must be 'redis' to push to, or 'folder' a URL"
        )
    if publisher.shared is not None:
        console.print(f"{publisher.shared} has snapshot {publisher.push_again()} whole")
    push_if_shared(settings)


@snapshots.command()
def pull(conf: Conf = DEMO) -> None:
    """Bring the snapshot that a fleet serves from the object store of *folder* to this machine; a service does so."""
    settings = load_settings(conf)
    if settings.publisher.shared is None:
        raise ConfigurationError(f"folder == {settings.folder!r}, must be a URL to pull from: it is on this machine")
    settings.publisher.pull()
    name = settings.publisher.in_use()[0]
    console.print(f"This machine has snapshot {name}" if name else "No snapshot is published yet: run 'recsys nightly'")


def push_if_shared(settings: Settings) -> None:
    """Copy the current snapshot to Redis, if the service is configured to read it from there."""
    if settings.serving.store.has_snapshots_on_disk:
        return
    from serving.stores.redis_snapshots import push as push_snapshot

    with progress_bar(console) as progress:
        task = progress.add_task("Pushing users to Redis", total=None)
        name = push_snapshot(
            settings.serving.store,
            settings.snapshots_folder,
            lambda done, users: progress.update(task, completed=done, total=users),
        )
    console.print(f"Redis has snapshot {name} as the current one")


@sales.command()
def close(
    sale: Annotated[str, typer.Argument(help="The sale. Closing is final.")],
    comment: Annotated[str, typer.Option(help="Reason, shown in the list.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Close it without asking: this cannot be undone.")] = False,
    target: AdminTarget = ADMIN,
    token: Token = None,
    authority: Authority = None,
    plain_token: PlainToken = False,
) -> None:
    """Close a sale for good, before its closing time."""
    from recommendations.v1 import admin_pb2 as pb

    sale = trimmed(sale)  # as the service does
    if not yes:
        _confirm_closing(
            sale, _admin(target, token, authority, plain_token, "LookUpSale", pb.LookUpSaleRequest(sale_id=sale))
        )
    request = pb.CloseSaleRequest(sale_id=sale, comment=comment)
    closed = _admin(target, token, authority, plain_token, "CloseSale", request)
    console.print(f"Sale {sale} is closed: no page shows it from now on.")
    _print_doubts(sale, closed, "close")


def _confirm_closing(sale: str, lookup: Any) -> None:
    """Ask on a terminal whether to close a sale; elsewhere the option --yes says so.

    Raises:
        ConfigurationError: If it is not confirmed.
    """
    what = _about(sale, lookup) or f"sale {sale!r} is {lookup.title!r}"
    final = "closing is final, the sale can never be shown again"
    if not (sys.stdin.isatty() and console.is_terminal):
        raise ConfigurationError(f"{what}; {final}: check the id, then repeat the command with --yes")
    console.print(f"{what[0].upper()}{what[1:]}; {final}.")
    if not typer.confirm("Close it?"):
        raise ConfigurationError(f"sale {sale!r} was not closed, as it was not confirmed")


def _about(sale: str, lookup: Any) -> str:
    """Return what is odd about a sale's id; empty for one that the snapshot in force has."""
    if lookup.in_snapshot:
        return ""
    if not lookup.snapshot:
        return f"the service has no snapshot in which to look for sale {sale!r}"
    nearest = f"; the nearest id is {lookup.nearest_sale_id!r}" if lookup.nearest_sale_id else ""
    return f"snapshot {lookup.snapshot} has no sale {sale!r}{nearest}"


def _print_doubts(sale: str, withdrawn: Any, command: str) -> None:
    """Print what a user must know before they rely on a sale being off all pages; exit with 1 if it may not be.

    Raises:
        RecsysError: If processes that serve have not acknowledged it.
    """
    if about := _about(sale, withdrawn.lookup):
        console.print(f"Note: {about}. Only later snapshots may have it.")
    if stopped := withdrawn.stopped_processes:
        console.print(
            f"Note: {', '.join(stopped)} stopped or cannot reach the store, and may not know of it. Health checks say "
            "NOT_SERVING: make sure that no request is sent there."
        )
    if serving := withdrawn.unacknowledged_processes:
        raise RecsysError(
            f"sale {sale!r} may still be on pages of {', '.join(serving)}, which serve and have not acknowledged it: "
            f"repeat 'recsys sales {command}' until none is named, or stop these processes"
        )


@sales.command()
def hide(
    sale: Annotated[str, typer.Argument(help="The sale.")],
    comment: Annotated[str, typer.Option(help="Reason, shown in the list.")] = "",
    until: Annotated[
        str | None, typer.Option(help="Show it again from this instant, such as 2026-03-01T12:00:00Z.")
    ] = None,
    target: AdminTarget = ADMIN,
    token: Token = None,
    authority: Authority = None,
    plain_token: PlainToken = False,
) -> None:
    """Hide a sale from all pages, until an instant or until 'recsys sales show'."""
    from recommendations.v1 import admin_pb2 as pb

    sale = trimmed(sale)
    request = pb.HideSaleRequest(sale_id=sale, comment=comment)
    if until:
        request.until_time.FromMicroseconds(parse_instant(until))
    hidden = _admin(target, token, authority, plain_token, "HideSale", request)
    console.print(f"Sale {sale} is hidden. Next: recsys sales show {quote(sale)}")
    _print_doubts(sale, hidden, "hide")


@sales.command()
def show(
    sale: Annotated[str, typer.Argument(help="A hidden sale.")],
    target: AdminTarget = ADMIN,
    token: Token = None,
    authority: Authority = None,
    plain_token: PlainToken = False,
) -> None:
    """Show a hidden sale again."""
    from recommendations.v1 import admin_pb2 as pb

    sale = trimmed(sale)
    _admin(target, token, authority, plain_token, "ShowSale", pb.ShowSaleRequest(sale_id=sale))
    console.print(f"Sale {sale} is shown again while it is open.")


@sales.command("list")
def list_sales(
    target: AdminTarget = ADMIN, token: Token = None, authority: Authority = None, plain_token: PlainToken = False
) -> None:
    """List the sales that are closed or hidden."""
    from recommendations.v1 import admin_pb2 as pb

    from cli.tables.pages import print_withdrawn_sales

    print_withdrawn_sales(
        _admin(target, token, authority, plain_token, "ListWithdrawnSales", pb.ListWithdrawnSalesRequest()).sales,
        console,
    )


def _admin(
    target: str, token: str | None, authority: Path | None, plain_token: bool, method: str, request: object
) -> Any:
    from serving.client import Client, trusting

    with Client(
        target,
        deadline=10.0,
        token=token,
        credentials=trusting(authority),
        admin_target=target,
        plain_token=plain_token,
    ) as client:
        return client.admin(method, request)


@rules.command("validate")
def validate_rules(
    file: Annotated[Path | None, typer.Argument(help="File of rules; the configured one by default.")] = None,
    conf: Conf = DEMO,
) -> None:
    """Check a file of rules, list all problems, and name attributes that the published sales do not have."""
    from recsys.rules import load_rules
    from recsys.snapshot import store as snapshot_store
    from recsys.snapshot.format import Snapshot

    settings = load_settings(conf)
    path = _rules_file(file, settings)
    found = load_rules(path)
    console.print(f"{path}: {plural(len(found.rules), 'rule')}, fingerprint {found.fingerprint}")
    name = snapshot_store.current(settings.snapshots_folder)
    if name is None:
        console.print("No snapshot is published yet: the names of attributes are not checked.")
        return
    for note in rule_notes(found, Snapshot.open(settings.snapshots_folder / name)):
        console.print(f"Note: {note}", style="yellow")


def rule_notes(rules: "RuleSet", snapshot: "Snapshot") -> Iterator[str]:
    """Yield a sentence for each rule that matches no sale, and each attribute that is probably mistyped."""
    from recsys.rules import PageRules

    yield from PageRules(rules, snapshot.sales).notes
    for rule in rules.rules:  # a request may have attributes that the snapshot does not know
        for name in sorted(rule.targeting.names.difference(snapshot.segments) if rule.targeting else ()):
            if meant := nearest(name, snapshot.segments):
                yield f"Rule {rule.name!r} is for requests with {name!r}; users have {meant!r}: is that meant?"


@rules.command("try")
def try_rules(
    file: Annotated[Path | None, typer.Argument(help="File of rules; the configured one by default.")] = None,
    conf: Conf = DEMO,
    user: Annotated[list[str], typer.Option("--user", help="User, repeatable; a sample by default.")] = [],  # noqa: B006
    users: Annotated[int, typer.Option(min=1, help="Number of users to sample.")] = 1000,
    n: Annotated[int, typer.Option(min=1, max=100, help="Number of sales on a page.")] = 10,
    policy: Annotated[str | None, typer.Option(help="Policy that ranks; the service's default if absent.")] = None,
    surface: Annotated[str, typer.Option(help="Surface of the pages.")] = "home",
    attributes: Attributes = [],  # noqa: B006
    at: Annotated[
        str | None, typer.Option(help="Instant of the pages; 10 hours after the snapshot's by default.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Show what rules would change on users' pages of the current snapshot, without putting them into effect."""
    from cli.tables.rules import print_trial
    from recsys.rules import load_rules
    from recsys.snapshot import store as snapshot_store
    from recsys.snapshot.format import Snapshot
    from serving.answers.rules_trial import PageKind, rules_trial

    settings = load_settings(conf)
    name = snapshot_store.current(settings.snapshots_folder)
    if name is None:
        raise ConfigurationError(f"{settings.snapshots_folder} has no snapshot: publish one with 'recsys nightly'")
    kind = PageKind(policy or settings.serving.default_policy, n, surface, pairs(attributes, "--attribute"))
    snapshot = Snapshot.open(settings.snapshots_folder / name)
    trial = rules_trial(
        snapshot,
        load_rules(_rules_file(file, settings)),
        user or snapshot.users.sample(users),
        kind,
        parse_instant(at) if at else None,
        settings.serving.pages,
    )
    print_trial(trial, console)
    if json_file:
        json_file.write_text(json.dumps(asdict(trial), indent=2, ensure_ascii=False) + "\n")


def _rules_file(file: Path | None, settings: Settings) -> Path:
    if file is not None:
        return file
    if settings.serving.rules is None:
        raise ConfigurationError(
            "serving.rules == None, must be a file of rules: set it, or give the file as an argument"
        )
    return Path(settings.serving.rules)


def exposures(conf: Conf = DEMO) -> None:
    """Compact the logs of the service into tables by day, without duplicates; idempotent."""
    from jobs.night.compact_exposures import compact_exposures

    for name, compacted in compact_exposures(load_settings(conf)).items():
        console.print(f"{name}: {compacted}")


def doctor(
    conf: Conf = DEMO,
    target: Annotated[str | None, typer.Option("--target", help="HOST:PORT; the configured one by default.")] = None,
    token: Token = None,
    json_file: JsonFile = None,
) -> None:
    """Check a running installation, from its disk to its answers, and say how to fix each problem."""
    from serving.diagnosis.doctor import diagnose, print_findings

    findings = diagnose(load_settings(conf), target, token)
    print_findings(findings, console)
    if json_file:
        json_file.write_text(json.dumps([each._asdict() for each in findings], indent=2) + "\n")
    if any(each.status == "FAIL" for each in findings):
        raise typer.Exit(1)
