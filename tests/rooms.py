"""The map of rooms (rooms.toml): which room a module belongs to, what it imports, and the map as CONTRIBUTING shows it.

Run as a script, it writes the picture and the tables anew.
"""

import ast
import re
import textwrap
import tomllib
from graphlib import TopologicalSorter
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "skae"
PAGE = ROOT / "CONTRIBUTING.md"
PICTURE = ROOT / "docs/images/rooms.svg"
MAP = tomllib.loads((ROOT / "tests/rooms.toml").read_text())


def read_rooms():
    """Rooms by name, "all above" written out."""
    rooms, above = {}, []
    for room in MAP["rooms"]:
        imports = above if room["imports"] == "all above" else room["imports"]
        rooms[room["name"]] = room | {"imports": set(imports)}
        above = [*above, room["name"]]
    return rooms


ROOMS = read_rooms()


def module_name(path):
    """``data.rows`` for skae/data/rows.py, ``data`` for skae/data/__init__.py, ``__init__`` for that of the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def room_of(module):
    """The room with the longest name that fits, or None."""
    fitting = [name for name in ROOMS if module == name or module.startswith(f"{name}.")]
    return max(fitting, key=len, default=None)


def imported_names(module):
    """Full names that a module imports, wherever the import stands."""
    package = ["skae", *module.split(".")]
    if MODULES[module].name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def libraries(module):
    """First names of what a module imports from elsewhere."""
    return {name.split(".")[0] for name in imported_names(module)} - {"skae"}


def imported_modules(module):
    """Modules of skae that a module imports."""
    found = set()
    for name in imported_names(module):
        first, *parts = name.split(".")
        while parts and ".".join(parts) not in MODULES:
            parts.pop()
        if first == "skae":
            found.add(".".join(parts) or "__init__")
    return found - {module}


def modules_in_circles():
    """Modules that import themselves by way of others; the file of a room runs before those inside it."""
    reached = {}
    for module in MODULES:
        targets = imported_modules(module)
        packages = {target.rsplit(".", i)[0] for target in targets for i in range(1, target.count(".") + 1)}
        reached[module] = targets | {package for package in packages if not f"{module}.".startswith(f"{package}.")}
    for middle in MODULES:
        for targets in reached.values():
            if middle in targets:
                targets |= reached[middle]
    return sorted(module for module in MODULES if module in reached[module])


def arrows_back(module):
    """Imports of a module that lead to rooms where the map has no arrow."""
    here = room_of(module)
    if here is None:
        return []
    allowed = ROOMS[here]["imports"] | {here, None}
    return sorted(target for target in imported_modules(module) if room_of(target) not in allowed)


def floors():
    """Rooms by height, the ground first: each as high as the rooms that need it allow."""
    drawn = {name: room["imports"] for name, room in ROOMS.items() if name != "__init__"}
    needed = {name: {other for other in drawn if name in drawn[other]} for name in drawn}
    depth = {}
    for name in TopologicalSorter(needed).static_order():
        depth[name] = 1 + max((depth[other] for other in needed[name]), default=-1)
    return [[name for name in drawn if depth[name] == d] for d in sorted(set(depth.values()), reverse=True)]


def shown_arrows():
    """Arrows of the map, but for those that a longer way has as well."""
    reached = {}
    for name in TopologicalSorter({name: room["imports"] for name, room in ROOMS.items()}).static_order():
        reached[name] = set().union(ROOMS[name]["imports"], *(reached[other] for other in ROOMS[name]["imports"]))
    return [
        (name, other)
        for name, room in ROOMS.items()
        for other in sorted(room["imports"])
        if name != "__init__" and not any(other in reached[between] for between in room["imports"])
    ]


WIDTH, HEIGHT, GAP = 760, 62, 24  # of a floor, and between two; in pixels


def draw():
    """The map as SVG: rooms as boxes on floors, arrows to what they import."""
    rows, boxes, parts = floors(), {}, []
    for i, row in enumerate(reversed(rows)):
        width = (WIDTH - GAP * (len(row) - 1)) / len(row)
        for j, name in enumerate(row):
            boxes[name] = (10 + j * (width + GAP), 10 + i * (HEIGHT + GAP), width)
    for name, (x, y, width) in boxes.items():
        parts.append(f'<rect x="{x:.0f}" y="{y}" width="{width:.0f}" height="{HEIGHT}" rx="6"/>')
        lines = textwrap.wrap(ROOMS[name]["purpose"], int((width - 20) / 7))
        parts.append(f'<text x="{x + 10:.0f}" y="{y + 20}" class="name">{escape(name)}</text>')
        for k, line in enumerate(lines):
            parts.append(f'<text x="{x + 10:.0f}" y="{y + 38 + 16 * k}">{escape(line)}</text>')
    lanes = 0
    for name, other in shown_arrows():
        (x, y, width), (to_x, to_y, to_width) = upper, lower = boxes[name], boxes[other]
        if to_y == y + HEIGHT + GAP:
            x, _, width = min(upper, lower, key=lambda box: box[2])
            start, end = (min(max(x + width / 2, box[0] + 20), box[0] + box[2] - 20) for box in (upper, lower))
            parts.append(f'<path d="M{start:.0f} {y + HEIGHT} L{end:.0f} {to_y - 2}"/>')
        else:  # past the floors between
            lanes += 1
            lane, below = WIDTH + 14 + 12 * lanes, to_y + HEIGHT / 2
            parts.append(f'<path d="M{x + width:.0f} {y + HEIGHT / 2} H{lane} V{below} H{to_x + to_width + 2:.0f}"/>')
    width, height = WIDTH + 30 + 12 * lanes, 20 + len(rows) * (HEIGHT + GAP) - GAP
    return SVG.format(width=width, height=height, parts="\n".join(parts))


SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">
<title>The rooms of skae, each above what it imports</title>
<style>
text {{ font: 13px sans-serif; fill: #222; }} .name {{ font: bold 14px monospace; }}
rect {{ fill: #eaf2fa; stroke: #2b6a99; }}
path {{ fill: none; stroke: #444; stroke-width: 1.5; marker-end: url(#tip); }}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">
<polygon points="0,0 8,4 0,8" fill="#444"/></marker></defs>
<rect width="{width}" height="{height}" style="fill: #fff; stroke: none"/>
{parts}
</svg>
"""


def table_of_rooms():
    rows = ["| room | what it is for | may import |", "|---|---|---|"]
    above = []
    for name, room in ROOMS.items():
        allowed = [f"`{other}`" for other in above if other in room["imports"]]
        others = [f"`{other}`" for other in above if other not in room["imports"]]
        if len(others) < min(3, len(allowed)):
            text = " but ".join(["all above", *([", ".join(others)] if others else [])])
        else:
            text = ", ".join(allowed) or "nothing of skae"
        rows.append(f"| `{name}` | {room['purpose']} | {text} |")
        above.append(name)
    return "\n".join(rows)


def table_of_additions():
    rows = ["| to add | write it in | the line that makes it known |", "|---|---|---|"]
    rows += [f"| {add['what']} | `{add['file']}` | {add['line']} |" for add in MAP["additions"]]
    return "\n".join(rows)


def page():
    """CONTRIBUTING with its two tables as the map has them, each between comments."""
    text = PAGE.read_text()
    for name, table in (("rooms", table_of_rooms()), ("additions", table_of_additions())):
        pattern = rf"(?s)(?<=<!-- {name} -->)\n.*?(?=<!-- end -->)"
        text, found = re.subn(pattern, lambda match, table=table: f"\n\n{table}\n\n", text)
        assert found == 1, f"CONTRIBUTING.md has no place for the table of {name}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page())
    PICTURE.write_text(draw())
