"""Amazon's own KCL 2.x as a process: resolved by Maven once, its worker compiled when it is asked for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

from .cache import installed, run, tool
from .versions import KCL2

__all__ = ["JavaKcl", "kcl2_classpath"]

_HERE = Path(__file__).with_name("kcl2")
_LEASH = str(Path(__file__).with_name("leash.py"))


def kcl2_classpath() -> str:
    """Return where Java finds the KCL and our worker. Raises `Missing`."""
    tool("java")
    javac, maven = tool("javac"), tool("mvn")

    def resolve(place: Path) -> None:
        goal = ("dependency:copy-dependencies", f"-DoutputDirectory={place}")
        told = ("-DincludeScope=runtime", f"-Dkcl2={KCL2}")
        run([maven, "-q", "-B", "-ntp", "-f", str(_HERE / "pom.xml"), *told, *goal])

    jars = installed(f"kcl2-{KCL2}", resolve)
    source = _HERE / "KclWorker.java"
    version = blake2b(source.read_bytes(), digest_size=6).hexdigest()

    def compile_it(place: Path) -> None:
        run([javac, "-nowarn", "-cp", f"{jars}/*", "-d", str(place), str(source)])

    classes = installed(f"kcl2-{KCL2}-worker-{version}", compile_it)
    return f"{jars}/*{os.pathsep}{classes}"


class JavaKcl:
    """One Java worker that runs. *heard* is called with the words of each line that it prints, on a
    thread of its own."""

    def __init__(
        self,
        name: str,
        *,
        application: str,
        stream: str,
        kinesis: str,
        dynamodb: str,
        failover: float,
        log: Path,
        heard: Callable[[list[str]], None],
    ) -> None:
        self.name = name
        self._pid = 0
        self._heard = heard
        options = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        # The servers of the tests take JSON; CBOR is another thing that could differ.
        settings = ("-Daws.cborEnabled=false", f"-Dorg.slf4j.simpleLogger.logFile={log}")
        told = (application, stream, kinesis, dynamodb, name, str(round(failover * 1000)))
        java = shutil.which("java") or "java"
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", _LEASH, java, *options, *settings]
            + ["-cp", kcl2_classpath(), "KclWorker", *told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def kill(self) -> None:
        """SIGKILL the worker: what it held stays in its name."""
        os.kill(self._pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """End it, and wait for its end. Ending it twice does no harm."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        self._listener.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            words = line.split()
            if words[:1] == ["PID"]:
                self._pid = int(words[1])
            elif words:
                self._heard(words)
