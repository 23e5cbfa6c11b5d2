"""`python -m benchmarks [NAME ...]`: measure, and print a Markdown table."""

import importlib
import pkgutil
import sys

import benchmarks


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all of them."""
    known = [module.name for module in pkgutil.iter_modules(benchmarks.__path__)]
    known = [name for name in known if not name.startswith("_")]
    unknown = sorted(set(names) - set(known))
    if unknown:
        sys.exit(f"There is no benchmark {unknown[0]!r}; there are: {', '.join(known)}.")
    print("| benchmark | what | measured | target |\n|---|---|---|---|")
    for name in names or known:
        for figure in importlib.import_module(f"benchmarks.{name}").measure():
            shown = f"{figure.value:.3g} {figure.unit}"
            print(f"| {name} | {figure.what} | {shown} | {figure.target} |", flush=True)


main(sys.argv[1:])
