"""Questions to a Prometheus server, and its answers as arrays."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import SecretStr, model_validator

from app.errors import DecodeError, DeviceRefused
from collectors.http import HttpAccess, HttpSession, refuse_status, secret

MOST_SERIES = 5000
"""More series in one answer are not one meter's."""
_SELECTOR = re.compile(
    r"\s*[a-zA-Z_:][a-zA-Z0-9_:]*\s*(\{([^{}\"']|\"([^\"\\]|\\.)*\"|'([^'\\]|\\.)*')*\})?\s*"
)

Labels = Mapping[str, str]


class PrometheusAccess(HttpAccess):
    """Where a server is and how we show who we are; a token in place of user and password."""

    token: SecretStr | None = None
    """Bearer token; better in a file. E.g. ``token-secret``."""
    token_file: Path | None = None
    """File that holds the bearer token. E.g. ``/run/secrets/prometheus_token``."""

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.user and (self.token or self.token_file):
            raise ValueError("token_file: leave it out, or user and password; one way in is enough")
        return self

    def authorization(self) -> str:
        """Value of the header of that name; see `HttpAccess.authorization`."""
        token = secret(self, "token")
        return f"Bearer {token}" if token else super().authorization()


class Series(NamedTuple):
    """One series of a range answer."""

    labels: Labels
    values: dict[int, float]
    """By step, counted from 1970; NaN and infinities as they came."""


def is_selector(query: str) -> bool:
    """Whether a query is one metric with labels, so that the time of its samples can be asked as well."""
    return _SELECTOR.fullmatch(query) is not None


@dataclass
class Server:
    """One server's HTTP interface, version 1."""

    session: HttpSession

    async def now_s(self) -> float:
        """The server's clock, since 1970. [s]

        Raises
        ------
        CollectError
            If it does not answer as Prometheus does.
        """
        data = await self._data("query", query="time()")
        try:
            return float(data["result"][0])
        except (KeyError, IndexError, TypeError, ValueError):
            raise DecodeError(self.session.device, "no time in the answer; is this Prometheus?") from None

    async def range(self, query: str, first: int, last: int, step_s: float) -> list[Series]:
        """A query at every step from `first` to `last`, both counted in steps from 1970.

        Raises
        ------
        CollectError
            If it is refused, or answered in part only.
        """
        start, end = (f"{step * step_s:.3f}" for step in (first, last))
        data = await self._data("query_range", query=query, start=start, end=end, step=f"{step_s:g}")
        return list(_series(self.session.device, data, step_s))

    async def instant(self, query: str) -> list[tuple[Labels, float]]:
        """A query at this moment: labels and value of each series.

        Raises
        ------
        CollectError
            If it is refused.
        """
        data = await self._data("query", query=query)
        try:
            return [(dict(one["metric"]), float(one["value"][1])) for one in data["result"][:MOST_SERIES]]
        except (KeyError, IndexError, TypeError, ValueError):
            raise DecodeError(self.session.device, "no values in the answer") from None

    async def metadata(self) -> dict[str, dict[str, str]]:
        """Type, unit and help of each metric, as exporters describe them."""
        data = await self._data("metadata")
        return {name: entries[0] for name, entries in data.items() if entries}

    async def _data(self, endpoint: str, **parameters: str) -> Any:
        device = self.session.device
        base = self.session.config.parts.path
        answer = await self.session.get(f"{base}/api/v1/{endpoint}", tuple(parameters.items()))
        if answer.status in (400, 422, 503) or 200 <= answer.status < 300:
            document = answer.json(device)
            if not isinstance(document, dict):
                raise DecodeError(device, "the answer is not Prometheus'")
            refuse_status(device, answer, str(document.get("error", "")))
            if document.get("status") != "success":
                raise DeviceRefused(device, str(document.get("error", "no success"))[:300])
            if document.get("warnings"):  # a part of the data is missing; a sum over it would be wrong
                said = "; ".join(map(str, document["warnings"]))[:300]
                raise DecodeError(device, f"answered in part only, so it is not taken: {said}")
            return document.get("data")
        refuse_status(device, answer)
        raise DeviceRefused(device, f"HTTP {answer.status}; url: must be that of the server itself")


def _series(device: str, data: Any, step_s: float) -> Iterator[Series]:
    try:
        if data["resultType"] != "matrix":
            raise DecodeError(device, f"a {data['resultType']} was answered, not a range of values")
        results = data["result"]
        if len(results) > MOST_SERIES:
            raise DecodeError(device, f"{len(results)} series match; narrow the query")
        for one in results:
            values = {round(float(at) / step_s): float(value) for at, value in one["values"]}
            yield Series(dict(one["metric"]), values)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise DecodeError(device, f"the answer is not Prometheus': {error!r}") from None


def without_old(found: list[Series], sampled: list[Series], step_s: float, max_age_s: float) -> list[Series]:
    """The series without values whose newest sample is older than allowed.

    Prometheus answers with the last sample for five minutes after a series fell silent.
    """
    times = {_key(series.labels): series.values for series in sampled}
    kept = []
    for series in found:
        at = times.get(_key(series.labels), {})
        fresh = {
            step: value
            for step, value in series.values.items()
            if step * step_s - at.get(step, -math.inf) <= max_age_s
        }
        kept.append(Series(series.labels, fresh))
    return kept


def _key(labels: Labels) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((k, v) for k, v in labels.items() if k != "__name__"))
