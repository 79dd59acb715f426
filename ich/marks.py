"""Where numbers lie on the scales that a page draws without a picture: limits as caliper jaws, intervals as bars."""

import math

from ich.print_tables import interval
from ich.wording import number


def calipers(rows: list[dict], margin_ml: float | None = None) -> dict | None:
    """The limits of agreement as jaws on a scale of ml: positions in percent of the scale's width.

    Parameters
    ----------
    rows : name, bias, bias_ci_low, bias_ci_high, loa_lower, loa_upper as texts; a row without limits is left out.
    """
    rows = [row for row in rows if row.get("loa_lower")]
    if not rows:
        return None
    ends = [float(row[key]) for row in rows for key in ("loa_lower", "loa_upper")]
    reach = [0.0, *ends, *([margin_ml, -margin_ml] if margin_ml else [])]
    low, high = min(reach), max(reach)
    step = _step(high - low)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step

    def at(value) -> float:
        return round(100 * (float(value) - low) / (high - low), 2)

    def span(row: dict, first: str, last: str) -> tuple[float, float]:
        return at(row[first]), round(at(row[last]) - at(row[first]), 2)

    drawn = []
    for row in rows:
        left, width = span(row, "loa_lower", "loa_upper")
        bias_low, bias_width = span(row, "bias_ci_low", "bias_ci_high") if row["bias_ci_low"] else (at(row["bias"]), 0)
        drawn.append(
            {"name": row["name"], "left": left, "width": width, "at": at(row["bias"])}
            | {"bias_low": bias_low, "bias_width": bias_width}
        )
    margin = {"left": at(-margin_ml), "width": round(at(margin_ml) - at(-margin_ml), 2)} if margin_ml else None
    texts = [
        f"{row['name']} {number(row['loa_lower'], 1)} to {number(row['loa_upper'], 1)}, "
        f"bias {interval(row, 'bias', 'bias_ci_low', 'bias_ci_high', 1)}"
        for row in rows
    ]
    shaded = f" Shaded: ±{margin_ml:g} ml, the margin." if margin_ml else ""
    return {
        "rows": drawn,
        "zero": at(0),
        "margin": margin,
        "ticks": [
            {"at": at(low + step * i), "text": number(low + step * i, 0 if step >= 1 else 1)}
            for i in range(round((high - low) / step) + 1)
        ],
        "label": f"Limits of agreement in ml: {'; '.join(texts)}.",
        "caption": f"Difference from the reference, ml. Jaws: 95 % limits of agreement; dot: bias with its 95 % "
        f"interval.{shaded}",
    }


def _step(width: float) -> float:
    """A round step that makes four to nine ticks."""
    size = 10.0 ** math.floor(math.log10(width / 4))
    return next(size * factor for factor in (1, 2, 5, 10) if width / (size * factor) <= 8)


def mark(value: str, low: str | None, high: str | None, published: str, top: float) -> dict:
    """Places of a value, its interval and the published value on a scale from 0 to `top`, in percent."""

    def at(text) -> float:
        return round(100 * min(max(float(text) / top, 0.0), 1.0), 1)

    known = bool(low) and bool(high)
    return {
        "at": at(value),
        "low": at(low) if known else None,
        "width": round(at(high) - at(low), 1) if known else None,
        "published": at(published) if published else None,
    }


def signed_mark(value: float, low: float, high: float, top: float) -> dict:
    """Places of a difference and its interval on a scale from -`top` to `top`, in percent, zero in the middle."""

    def at(number_: float) -> float:
        return round(50 + 50 * min(max(number_ / top, -1.0), 1.0), 1)

    known = math.isfinite(low) and math.isfinite(high)
    return {
        "at": at(value),
        "low": at(low) if known else None,
        "width": round(at(high) - at(low), 1) if known else None,
        "published": None,
        "zero": 50,
    }
