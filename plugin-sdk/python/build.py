#!/usr/bin/env python3
"""Builds a plugin's component with componentize-py:

    python3 sdk/python/build.py plugin.py --world pure-skill-plugin -o my-plugin.wasm
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Older ones stop at the first annotation below, with a message that helps nobody.
if sys.version_info < (3, 10):
    sys.exit(f"Python {sys.version.split()[0]} is too old for this kit: install Python 3.10 or later (https://www.python.org).")

KIT = Path(__file__).resolve().parent
TOOL = "componentize-py"
PINNED = "0.25.1"
PACKAGE_LINE = re.compile(r"^package\s+leanclaw:plugin@([0-9][^;\s]*)\s*;", re.MULTILINE)


class BuildError(Exception):
    """A mistake in how the build was called, or in the plugin; shown without a traceback."""


def main(arguments: list[str]) -> None:
    options = parsed(arguments)
    entry = Path(options.entry)
    if not entry.is_file():
        raise BuildError(f"{entry} does not exist.")
    if not entry.stem.isidentifier():
        raise BuildError(f"{entry.name} cannot be imported: use letters, digits and underscores.")
    contract = find_contract(options.wit, Path.cwd())
    with tempfile.TemporaryDirectory(prefix="leanclaw-build-") as work:
        wit = Path(work, "wit")
        assemble_wit(contract, wit, options.world, names(options.imports), names(options.exports))
        made = Path(work, "component.wasm")
        run_tool(wit, entry, made)
        output = Path(options.output)
        write_whole(output, made)
        print(f"{options.output}: {output.stat().st_size / 1e6:.2f} MB")


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="build.py", description="Builds a plugin's component with componentize-py.")
    parser.add_argument("entry", help="the plugin's main module, such as plugin.py")
    parser.add_argument("--world", help="a world of the contract (pure-skill-plugin, ...), or a .wit file with a world of your own")
    parser.add_argument("--import", dest="imports", action="append", default=[], help="interfaces of the contract, such as log,kv")
    parser.add_argument("--export", dest="exports", action="append", default=[], help="interfaces of the contract, such as skill")
    parser.add_argument("-o", "--output", required=True, help="the component")
    parser.add_argument("--wit", help="the contract's folder; default LEANCLAW_WIT, then wit/ in this folder")
    return parser.parse_args(arguments)


def names(values: list[str]) -> list[str]:
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def find_contract(given: str | None, plugin_folder: Path) -> Path:
    """The folder given, LEANCLAW_WIT, wit/ in the plugin's folder, or the one of the repository this kit lies in."""
    usual = [os.environ.get("LEANCLAW_WIT"), plugin_folder / "wit", KIT.parent.parent / "wit"]
    tried = [Path(folder) for folder in ([given] if given else usual) if folder]
    for folder in tried:
        if contract_version(folder):
            return folder.resolve()
    shown = ", ".join(map(str, tried))
    raise BuildError(f"No leanclaw:plugin WIT found in {shown}. Set LEANCLAW_WIT or pass --wit with the folder that holds worlds.wit.")


def contract_version(folder: Path) -> str | None:
    file = folder / "types.wit"
    match = PACKAGE_LINE.search(file.read_text("utf-8")) if file.is_file() else None
    return match.group(1) if match else None


def assemble_wit(contract: Path, target: Path, world: str | None, imports: list[str], exports: list[str]) -> None:
    """Puts the plugin's world on top, and the contract and WASI in deps. The contract itself is only read."""
    dependency = target / "deps" / "leanclaw-plugin"
    dependency.mkdir(parents=True)
    for file in sorted(contract.glob("*.wit")):
        shutil.copyfile(file, dependency / file.name)
    if (contract / "deps").is_dir():
        shutil.copytree(contract / "deps", target / "deps", dirs_exist_ok=True)
    (target / "world.wit").write_text(world_text(contract, world, imports, exports), "utf-8")


def world_text(contract: Path, world: str | None, imports: list[str], exports: list[str]) -> str:
    if world and world.endswith(".wit"):
        if imports or exports:
            raise BuildError("--import and --export do not go with a world file: write them into the file.")
        if not Path(world).is_file():
            raise BuildError(f"The world file {world} does not exist.")
        return Path(world).read_text("utf-8")
    known = sorted(file.stem for file in contract.glob("*.wit"))
    for name in imports + exports:
        if ":" not in name and name not in known:
            raise BuildError(f"The contract has no interface {name}. It has: {', '.join(known)}.")
    worlds = re.findall(r"^world\s+([a-z0-9-]+)", (contract / "worlds.wit").read_text("utf-8"), re.MULTILINE)
    if world and ":" not in world and world not in worlds:
        raise BuildError(f"The contract has no world {world}. It has: {', '.join(worlds)}.")
    version = contract_version(contract)

    def full(name: str) -> str:
        return name if ":" in name else f"leanclaw:plugin/{name}@{version}"

    lines = [f"include {full(world)};"] if world else []
    lines += [f"import {full(name)};" for name in imports] + [f"export {full(name)};" for name in exports]
    if not lines:
        raise BuildError("Name what the plugin is: --world NAME, or --import and --export.")
    body = "".join(f"  {line}\n" for line in lines)
    return f"package local:component;\n\nworld component {{\n{body}}}\n"


def run_tool(wit: Path, entry: Path, output: Path) -> None:
    world = re.search(r"^\s*world\s+([a-z0-9-]+)", (wit / "world.wit").read_text("utf-8"), re.MULTILINE)
    command = [*find_tool(), "-q", "-d", str(wit), "-w", world.group(1) if world else "component"]
    command += ["componentize", entry.stem, "-p", str(entry.parent), "-p", str(KIT), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(explained(done.stderr or done.stdout))


def explained(output: str) -> str:
    """The plugin's traceback without the tool's own."""
    message = re.split(r"^Stack backtrace:", output, maxsplit=1, flags=re.MULTILINE)[0]
    _, found, plugin_part = message.partition("AssertionError: ")
    return (re.split(r"^Caused by:", plugin_part, maxsplit=1, flags=re.MULTILINE)[0] if found else message).strip()


def find_tool() -> list[str]:
    """The pinned tool of the build, one on the path, or the one installed as a package."""
    folders = [os.environ.get("LEANCLAW_TOOLS"), os.environ.get("PATH")]
    found = next((tool for folder in folders if folder and (tool := shutil.which(TOOL, path=folder))), None)
    if found:
        return [found]
    package = subprocess.run([sys.executable, "-c", "import componentize_py"], capture_output=True, check=False)
    if package.returncode == 0:
        return [sys.executable, "-m", "componentize_py"]
    raise BuildError(f"{TOOL} was not found. Install it with `pip install {TOOL}=={PINNED}`, or set LEANCLAW_TOOLS to the folder that holds it.")


def write_whole(output: Path, made: Path) -> None:
    """Writes beside the target and renames, so that a watcher never sees half a file."""
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f"{output.name}.{os.getpid()}.tmp")
    shutil.copyfile(made, temporary)
    temporary.replace(output)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BuildError as error:
        sys.exit(str(error))
