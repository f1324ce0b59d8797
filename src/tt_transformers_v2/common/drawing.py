# SPDX-License-Identifier: Apache-2.0
"""A small drawing: lines, boxes, markers and words, written as SVG or, with matplotlib, as PNG.

Lengths are pixels from the upper left corner. Colours are names of PALETTE, so that SVG can follow a dark reader.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from .errors import ConfigError

# Name -> colour on a light and on a dark page.
PALETTE = {
    "paper": ("#ffffff", "#16181d"),
    "ink": ("#1b1b1b", "#ececec"),
    "faint": ("#5f6368", "#a6abb3"),
    "grid": ("#e3e5e8", "#34383f"),
    "decode": ("#4338ca", "#a5b4fc"),
    "prefill": ("#b45309", "#fbbf24"),
    "weights": ("#0072b2", "#3d9bd6"),
    "kv": ("#009e73", "#2fbf94"),
    "collectives": ("#cc79a7", "#d993b8"),
    "overhead": ("#8a8f98", "#7d828b"),
    "flops": ("#e69f00", "#eab12f"),
    "on_color": ("#101010", "#101010"),
}
_FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"
_PNG_DPI = 200  # a picture of 1000 pixels comes out 2000 wide, which prints well


@dataclass(frozen=True)
class Line:
    """A straight line; `dash` in pixels, 0 for a solid one."""

    start: tuple[float, float]
    end: tuple[float, float]
    color: str
    width: float = 1.0
    dash: float = 0.0


@dataclass(frozen=True)
class Box:
    """A filled rectangle with its upper left corner at (x, y); `about` is shown where a pointer rests on it."""

    x: float
    y: float
    width: float
    height: float
    color: str
    opacity: float = 1.0
    about: str = ""


@dataclass(frozen=True)
class Disc:
    """A filled circle around (x, y) with a rim of the page's colour."""

    x: float
    y: float
    radius: float
    color: str


@dataclass(frozen=True)
class Words:
    """Text with its baseline at (x, y). `anchor` is start, middle or end; `turn` in degrees, counter-clockwise."""

    x: float
    y: float
    text: str
    color: str = "ink"
    size: float = 13.0
    anchor: str = "start"
    bold: bool = False
    turn: float = 0.0


@dataclass
class Drawing:
    """Items in the order they are drawn on a page of `width` x `height`; `title` is for who cannot see it."""

    width: float
    height: float
    title: str
    items: list[Line | Box | Disc | Words] = field(default_factory=list)

    def add(self, *items: Line | Box | Disc | Words) -> None:
        """Puts items on the page, over those that are there."""
        self.items += items

    def svg(self) -> str:
        """The drawing as SVG text: no scripts, no fonts to fetch; dark where the reader's page is."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" '
            f'width="{self.width:g}" height="{self.height:g}" role="img" font-family="{_FONT}">'
        )
        page = f'<rect class="f-paper" width="{self.width:g}" height="{self.height:g}"/>'
        title = f"<title>{escape(self.title)}</title>"
        body = [_svg(item) for item in self.items]
        return "\n".join([head, title, f"<style>{_styles()}</style>", page, *body, "</svg>", ""])

    def png(self) -> bytes:
        """The drawing as PNG, on a light page. Raises ConfigError where matplotlib is not installed."""
        require_matplotlib()
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(self.width / 100, self.height / 100), facecolor=PALETTE["paper"][0])
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, self.width)
        axes.set_ylim(self.height, 0)
        for layer, item in enumerate(self.items):
            _draw(axes, item, layer)
        target = io.BytesIO()
        figure.savefig(target, format="png", dpi=_PNG_DPI, metadata={"Title": self.title})
        return target.getvalue()


def require_matplotlib() -> None:
    """Raises ConfigError, with the way to get it, where matplotlib is not installed."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise ConfigError(
            "PNG pictures need matplotlib, which is not installed.",
            "Install it with pip install 'tt-transformers-v2[plot]', or write .svg, which needs no package.",
        )


def _styles() -> str:
    def rules(shade: int) -> Iterator[str]:
        for name, colors in PALETTE.items():
            yield f".f-{name}{{fill:{colors[shade]}}}.s-{name}{{stroke:{colors[shade]}}}"

    # Print keeps the light colours whatever the screen has.
    dark = f"@media screen and (prefers-color-scheme:dark){{{''.join(rules(1))}}}"
    return "".join(rules(0)) + dark


def _svg(item: Line | Box | Disc | Words) -> str:
    if isinstance(item, Line):
        (x1, y1), (x2, y2) = item.start, item.end
        dash = f' stroke-dasharray="{item.dash:g}"' if item.dash else ""
        ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
        return f'<line class="s-{item.color}" {ends} stroke-width="{item.width:g}"{dash}/>'
    if isinstance(item, Box):
        size = f'width="{item.width:.1f}" height="{item.height:.1f}"'
        opacity = f' fill-opacity="{item.opacity:.3f}"' if item.opacity < 1 else ""
        shape = f'<rect class="f-{item.color}" x="{item.x:.1f}" y="{item.y:.1f}" {size}{opacity}'
        return f"{shape}><title>{escape(item.about)}</title></rect>" if item.about else f"{shape}/>"
    if isinstance(item, Disc):
        place = f'cx="{item.x:.1f}" cy="{item.y:.1f}" r="{item.radius:g}"'
        return f'<circle class="f-{item.color} s-paper" {place} stroke-width="1.5"/>'
    turned = f' transform="rotate({-item.turn:.1f} {item.x:.1f} {item.y:.1f})"' if item.turn else ""
    weight = ' font-weight="bold"' if item.bold else ""
    anchor = f' text-anchor="{item.anchor}"' if item.anchor != "start" else ""
    place = f'x="{item.x:.1f}" y="{item.y:.1f}" font-size="{item.size:g}"'
    return f'<text class="f-{item.color}" {place}{anchor}{weight}{turned}>{escape(item.text)}</text>'


def _draw(axes: Any, item: Line | Box | Disc | Words, layer: int) -> None:
    """One item on matplotlib axes whose units are pixels at 100 per inch."""
    from matplotlib.patches import Circle, Rectangle

    color = PALETTE[item.color][0]
    if isinstance(item, Line):
        (x1, y1), (x2, y2) = item.start, item.end
        style = (0, (item.dash * 0.72, item.dash * 0.72)) if item.dash else "solid"
        axes.plot((x1, x2), (y1, y2), color=color, linewidth=item.width * 0.72, linestyle=style, zorder=layer)
    elif isinstance(item, Box):
        corner, alpha = (item.x, item.y), item.opacity
        axes.add_patch(Rectangle(corner, item.width, item.height, color=color, linewidth=0, alpha=alpha, zorder=layer))
    elif isinstance(item, Disc):
        rim = PALETTE["paper"][0]
        axes.add_patch(Circle((item.x, item.y), item.radius, facecolor=color, edgecolor=rim, zorder=layer))
    else:
        side = {"start": "left", "middle": "center", "end": "right"}[item.anchor]
        axes.text(
            item.x,
            item.y,
            item.text.replace("$", r"\$"),
            color=color,
            fontsize=item.size * 0.72,
            horizontalalignment=side,
            verticalalignment="baseline",
            fontweight="bold" if item.bold else "normal",
            rotation=item.turn,
            rotation_mode="anchor",
            zorder=layer,
        )
