"""Makes the environment of one peer.

    python -m benchmarks.peers.install FOLDER REQUIREMENT...

KCLPY's package fetches some sixty jars while it is built, from Maven Central only. Where Maven is
there, it fetches them, from wherever it was told to, and KCLPY is pointed at what it has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET

KCLPY = "amazon_kclpy"
CLASSES_IN = "classes"
"""Where in KCLPY's environment the class is that we compile for it."""
POM = "http://maven.apache.org/POM/4.0.0"


def main(place: Path, wanted: list[str]) -> None:
    """Install *wanted* into an environment at *place*; leave nothing there if that fails."""
    venv.create(place, with_pip=True, clear=True)
    pip = [str(place / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    try:
        with TemporaryDirectory() as folder:
            environment = dict(os.environ)
            kclpy = next((each for each in wanted if each.startswith(KCLPY)), None)
            if kclpy and shutil.which("mvn"):
                repository = Path(folder, "repository")
                fetch_jars(pip, kclpy, Path(folder), repository)
                environment["KCL_MVN_REPO_SEARCH_URL"] = f"{repository.as_uri()}/"
            subprocess.run([*pip, "install", *wanted], check=True, env=environment)
        if kclpy:
            compile_client(place)
    except BaseException:
        shutil.rmtree(place)
        raise


def compile_client(place: Path) -> None:
    """Compile what takes the place of the KCL's own client of Kinesis."""
    (jars,) = place.glob(f"lib/*/site-packages/{KCLPY}/jars")
    source = Path(__file__).with_name("kclpy") / "KinesisClientUtil.java"
    told = ["-nowarn", "-cp", f"{jars}/*", "-d", str(place / CLASSES_IN)]
    subprocess.run(["javac", *told, str(source)], check=True)


def fetch_jars(pip: list[str], kclpy: str, folder: Path, repository: Path) -> None:
    """Let Maven put the jars that KCLPY's own list names into *repository*."""
    source = ["download", "--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
    subprocess.run([*pip, *source, kclpy], check=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        member = next(each for each in archive.getmembers() if each.name.endswith("/pom.xml"))
        listed = archive.extractfile(member)
        assert listed is not None
        project = ET.fromstring(listed.read())
    if project.find(f"{{{POM}}}packaging") is None:  # it is a list, and no project yet
        for name, text in (("groupId", KCLPY), ("artifactId", "jars"), ("version", "1")):
            ET.SubElement(project, f"{{{POM}}}{name}").text = text
        ET.SubElement(project, f"{{{POM}}}packaging").text = "pom"
    ET.register_namespace("", POM)
    pom = folder / "pom.xml"
    ET.ElementTree(project).write(pom, encoding="utf-8")
    maven = ["mvn", "-q", "-B", "-ntp", f"-Dmaven.repo.local={repository}", "-f", str(pom)]
    subprocess.run([*maven, "dependency:resolve"], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
