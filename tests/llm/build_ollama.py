"""Builds a fixed Ollama from its public Go module, for tests: `make ollama` (some 5 minutes on two cores).

Needs go, gcc and g++. The module lacks two folders of other people's headers, since Go leaves out what is called
`vendor`: the JSON one comes through pip, held to its hash; the image and sound ones are done without, by a stand-in for
the one function that needs them. It runs on processors only.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs

VERSION = "v0.17.4"
FLAGS = "-O3 -march=native"  # for this very machine: several times the speed of what runs on any
BINARY = Path(platformdirs.user_cache_dir("victoria")) / "ollama" / VERSION / "ollama"

HEADERS = "nlohmann-json==3.12.0 --hash=sha256:5f6132720fb25d0d70bf0742f8397b49a540dcc193e7312a914f6aa49f054810"
NO_IMAGES = """\
#include "mtmd.h"
#include "mtmd-helper.h"
mtmd_bitmap * mtmd_helper_bitmap_init_from_buf(mtmd_context *, const unsigned char *, size_t) { return nullptr; }
"""


def build() -> None:
    """Make BINARY; it appears by one rename."""
    with tempfile.TemporaryDirectory(prefix="victoria-ollama-") as folder:
        work = Path(folder)
        module = ["go", "mod", "download", "-json", f"github.com/ollama/ollama@{VERSION}"]
        found = json.loads(subprocess.run(module, cwd=work, check=True, stdout=subprocess.PIPE).stdout)
        source = work / "source"
        shutil.copytree(found["Dir"], source, copy_function=shutil.copyfile)
        for path in (source, *source.rglob("*/")):
            path.chmod(0o755)  # the module's are read-only
        (work / "headers.txt").write_text(HEADERS)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", folder]
        subprocess.run([*pip, "-r", str(work / "headers.txt")], check=True)
        for wheel in work.glob("*.whl"):
            shutil.unpack_archive(wheel, work / "wheel", "zip")
        engine = source / "llama" / "llama.cpp"
        shutil.copytree(work / "wheel" / "nlohmann_json" / "include" / "nlohmann", engine / "vendor" / "nlohmann")
        (engine / "tools" / "mtmd" / "mtmd-helper.cpp").write_text(NO_IMAGES)
        fresh = work / "ollama"
        go = ["go", "build", "-trimpath", "-ldflags", "-s -w", "-o", str(fresh), "."]
        subprocess.run(go, cwd=source, check=True, env=os.environ | {"CGO_CFLAGS": FLAGS, "CGO_CXXFLAGS": FLAGS})
        BINARY.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(fresh, BINARY.with_suffix(".new"))
        BINARY.with_suffix(".new").replace(BINARY)


if __name__ == "__main__":
    if not BINARY.exists():
        build()
    print(BINARY)
