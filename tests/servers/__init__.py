"""Servers for tests, started without Docker (or with it, where an engine runs), and faults before them.

kinesis-mock and ministack stand for Kinesis, DynamoDB Local for DynamoDB, SeaweedFS for S3. None of
them is the service: `tests.servers.faults` names what each does otherwise. `tests.servers.proxy`
stands before any of them and does what none of them does: throttle, fail, cut, answer in part.

    python -m tests.servers      install all of them now (a test that asks for one does it too)
"""
