"""`python -m benchmarks [NAME ...]`: measure, and print a Markdown table."""

import argparse
import importlib
import pkgutil

import benchmarks


def main() -> None:
    """Run the named benchmarks, or all of them."""
    known = [module.name for module in pkgutil.iter_modules(benchmarks.__path__)]
    known = [name for name in known if not name.startswith("_")]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(known)}")
    names = parser.parse_args().names
    if unknown := sorted({*names} - {*known}):
        parser.error(f"There is no benchmark {unknown[0]!r}; there are: {', '.join(known)}.")
    print("| benchmark | what | measured | target |\n|---|---|---|---|")
    for name in names or known:
        for figure in importlib.import_module(f"benchmarks.{name}").measure():
            shown = f"{figure.value:.3g} {figure.unit}"
            print(f"| {name} | {figure.what} | {shown} | {figure.target} |", flush=True)


main()
