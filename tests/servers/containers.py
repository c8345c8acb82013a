"""The servers as containers, where a Docker engine runs. Images and tags stand in `versions`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from testcontainers.core.container import DockerContainer
from testcontainers.core.waiting_utils import wait_for

from . import versions
from .packages import ACCESS_KEY, CHANGES_TAKE, SECRET_KEY, Recipe, writable
from .process import Server, answers

__all__ = ["IMAGES"]


def _contained(
    name: str,
    container: DockerContainer,
    port: int,
    ready: Callable[[str], bool] = answers,
) -> Recipe:
    def start(folder: Path) -> Server:
        container.with_exposed_ports(port).start()

        def stop() -> None:
            out, err = container.get_logs()
            (folder / f"{name}.log").write_bytes(out + err)
            container.stop()
            container.get_docker_client().client.close()

        try:
            host = container.get_container_host_ip()
            url = f"http://{host}:{container.get_exposed_port(port)}"
            wait_for(lambda: ready(url) or _not_yet(name))
        except BaseException:
            stop()
            raise
        return Server(name, url, stop)

    return start


def _not_yet(name: str) -> bool:
    raise ConnectionError(f"{name} is not ready")


def _kinesis_mock(folder: Path) -> Server:
    container = DockerContainer(versions.KINESIS_MOCK_IMAGE)
    for setting, value in {"SHARD_LIMIT": "10000", "LOG_LEVEL": "WARN", **CHANGES_TAKE}.items():
        container.with_env(setting, value)
    return _contained("kinesis-mock", container, 4568)(folder)


def _ministack(folder: Path) -> Server:
    container = DockerContainer(versions.MINISTACK_IMAGE).with_env("LOG_LEVEL", "WARNING")
    return _contained("ministack", container, 4566)(folder)


def _dynamodb_local(folder: Path) -> Server:
    container = DockerContainer(versions.DYNAMODB_LOCAL_IMAGE)
    container.with_command("-jar DynamoDBLocal.jar -inMemory -sharedDb -disableTelemetry")
    return _contained("dynamodb-local", container, 8000)(folder)


def _seaweedfs(folder: Path) -> Server:
    container = DockerContainer(versions.SEAWEEDFS_IMAGE)
    container.with_env("AWS_ACCESS_KEY_ID", ACCESS_KEY)  # it makes an administrator of these
    container.with_env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    container.with_env("WEED_S3_SSE_KEY", "tests")
    container.with_command("server -filer -s3 -master.volumeSizeLimitMB=64 -volume.max=1000")
    return _contained("seaweedfs", container, 8333, writable)(folder)


IMAGES: Mapping[str, Recipe] = {
    "kinesis-mock": _kinesis_mock,
    "ministack": _ministack,
    "dynamodb-local": _dynamodb_local,
    "seaweedfs": _seaweedfs,
}
