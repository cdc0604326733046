"""Writes the README's table from what the models say of themselves, so that its numbers cannot go stale."""

import catalog

README = catalog.REPOSITORY / "README.md"
BEGIN, END = "<!-- table: begin, written by _train/table.py -->", "<!-- table: end -->"


def row(version: catalog.Version) -> str:
    graph, about, name = version.model.graph, version.about, version.home.name
    size = version.path.stat().st_size
    cells = [
        f"[{name}]({name}/train.py)",
        str(version.number),
        about["use"],
        "<br>".join(map(catalog.signature, graph.input)),
        "<br>".join(map(catalog.signature, graph.output)),
        about["data"],
        about["metric"],
        f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(size // 1000, 1)} kB",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    head = ["model", "version", "what for", "inputs", "outputs", "data", "on held-out data", "size"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *map(row, catalog.versions())]
    text = README.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    README.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after)


if __name__ == "__main__":
    main()
